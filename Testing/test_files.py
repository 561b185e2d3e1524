"""Files that belong together: all of the new ones, or the folder as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from AmbiguousSegLib import files
from AmbiguousSegLib.files import remove_unfinished, replacing, write_together

NEW, SURPLUS = ("a.csv", "b.csv", "c.csv"), ("old_1", "old_2")  # b.csv and old_2 are not there before
RENAMES = 2 + 1 + 3  # aside: a.csv, c.csv, old_1; then the new ones take their places


@pytest.fixture
def folder(tmp_path):
    for name in ("a.csv", "c.csv", "old_1", "somebody's"):
        (tmp_path / name).write_text(f"earlier {name}", encoding="utf-8")
    return tmp_path


def content(folder):
    """Text of every file and None for every folder, hidden ones too."""
    return {
        str(p.relative_to(folder)): p.read_text(encoding="utf-8") if p.is_file() else None for p in folder.rglob("*")
    }


def write(place):
    for name in NEW:
        (place / name).write_text(f"new {name}", encoding="utf-8")
    return NEW


def failing(monkeypatch, failures):
    """Renaming fails for those of the calls, counted from 0."""
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) - 1 in failures:
            raise PermissionError(13, "in use")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    return calls


def test_new_files_replace_earlier_ones_and_surplus_ones_go(folder, monkeypatch):
    calls = failing(monkeypatch, ())
    assert write_together(folder, write, SURPLUS) == [folder / name for name in NEW]
    assert content(folder) == {"somebody's": "earlier somebody's", **{name: f"new {name}" for name in NEW}}
    assert len(calls) == RENAMES


@pytest.mark.parametrize("number", range(RENAMES))
def test_a_file_that_cannot_take_its_place_leaves_the_folder_as_it_was(folder, monkeypatch, number):
    before = content(folder)
    failing(monkeypatch, (number,))
    name = ("a.csv", "c.csv", "old_1", *NEW)[number]
    with pytest.raises(OSError, match=rf"{name} cannot be replaced \(in use\)"):
        write_together(folder, write, SURPLUS)
    assert content(folder) == before


def test_a_folder_in_the_place_of_a_file_is_kept(folder):
    (folder / "b.csv").mkdir()
    (folder / "b.csv/mine").write_text("mine", encoding="utf-8")
    before = content(folder)
    with pytest.raises(OSError, match="b.csv cannot be replaced"):
        write_together(folder, write, SURPLUS)
    assert content(folder) == before


def test_what_cannot_be_moved_back_is_kept_and_named(folder, monkeypatch):
    failing(monkeypatch, range(2, 100))  # a.csv and c.csv are aside when nothing can be moved any more
    with pytest.raises(OSError, match="incomplete") as error:
        write_together(folder, write, SURPLUS)
    kept = Path(str(error.value).split("are in ")[1].rstrip("."))
    assert content(kept) == {"a.csv": "earlier a.csv", "c.csv": "earlier c.csv"}


def test_a_folder_made_for_nothing_is_removed(tmp_path, monkeypatch):
    failing(monkeypatch, (1,))
    with pytest.raises(OSError):
        write_together(tmp_path / "new/out", write)
    assert not content(tmp_path)


# The end of the process


def test_the_end_while_files_are_written(folder):
    before = content(folder)

    def write_and_end(place):
        with replacing(place / "a.csv") as temporary:
            temporary.write_text("new", encoding="utf-8")
        remove_unfinished()
        assert content(folder) == before
        with replacing(place / "b.csv"):  # as a thread that does not know yet: must not make the folder again
            pytest.fail("went on writing")

    with pytest.raises(OSError, match="about to end"):
        write_together(folder, write_and_end)
    assert content(folder) == before


@pytest.mark.parametrize("number", range(RENAMES))
def test_the_end_while_files_take_their_places(folder, monkeypatch, number):
    before, real, calls = content(folder), os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == number + 1:
            remove_unfinished()
            assert content(folder) == before
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(OSError):
        write_together(folder, write, SURPLUS)
    assert content(folder) == before


def test_the_end_while_one_file_is_written(folder):
    before = content(folder)
    with pytest.raises(FileNotFoundError), replacing(folder / "a.csv") as temporary:
        temporary.write_text("half", encoding="utf-8")
        remove_unfinished()
        assert content(folder) == before
    assert content(folder) == before


def test_the_end_removes_folders_made_for_the_files_and_later_writing_works(tmp_path):
    def write_and_end(place):
        remove_unfinished()
        assert not content(tmp_path)
        raise OSError("ended")

    with pytest.raises(OSError, match="ended"):
        write_together(tmp_path / "new/out", write_and_end)
    assert len(write_together(tmp_path / "new/out", write)) == len(NEW)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                "to "
                "allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "there is not enough memory (8.59 GB were asked for); sample fewer, or a region or fewer slices.",
        ),
        (MemoryError("Unable to allocate 9 GiB for an array"), "there is not enough memory (9 GiB were asked for); "),
        (MemoryError(), "there is not enough memory; sample fewer"),
        (FileNotFoundError(2, "No such file or directory", "a.nrrd"), "a.nrrd: no such file or directory; check path"),
        (OSError(28, "No space left on device"), "no space left on device; check permission and space."),
        (ValueError("two\n  lines"), "two lines"),
    ],
)
def test_what_an_exception_says(error, words):
    assert files.said(error).startswith(words) and "\n" not in files.said(error)

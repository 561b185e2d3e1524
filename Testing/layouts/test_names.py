"""Names in data folders: their order, what is left out of them, and what they tell."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.layouts import names

NOT_UTF_8 = os.fsdecode(b"n\xe9")


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_numbers_are_ordered_by_value():
    mixed = ["b10", "b9", "a", "10", "9", "b09", "b", "9a"]
    assert sorted(mixed, key=names.by_number) == ["9", "9a", "10", "a", "b", "b09", "b9", "b10"]


@pytest.mark.parametrize(
    ("name", "stem", "ending"),
    [
        ("A.seg.nrrd", "A", ".seg.nrrd"),
        ("A.NII.GZ", "A", ".nii.gz"),
        ("v1.2.png", "v1.2", ".png"),
        ("1.2.840.113", "1.2.840.113", ""),
        ("x.dcm", "x", ".dcm"),
        ("x.hdr.gz", "x", ".hdr.gz"),
        ("notes.txt", "notes.txt", ""),
    ],
)
def test_stems_and_endings(name, stem, ending):
    assert (names.stem_of(name), names.ending_of(name)) == (stem, ending)


def test_files_of_voxels_belong_to_their_headers():
    found = ["a.mhd", "a.raw", "b.raw", "c.nhdr", "c.raw.gz", "d.hdr", "d.img", "e.img", "f.mhd", "f.zraw"]
    assert names.without_data_files(found) == ["a.mhd", "b.raw", "c.nhdr", "d.hdr", "e.img", "f.mhd"]


def test_hidden_names_are_left_out(tmp_path):
    touch(tmp_path, "b2/x", "b10/x", ".ipynb_checkpoints/x", "__MACOSX/x", "._a.png", ".DS_Store", "a.png", "Thumbs.db")
    assert names.listed(tmp_path) == names.glimpse(tmp_path) == (["b2", "b10"], ["a.png"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf_8_are_told_and_the_rest_goes_on(tmp_path, caplog):
    touch(tmp_path, "a/x", f"{NOT_UTF_8}.png", f"{NOT_UTF_8}d/y")
    assert names.listed(tmp_path) == (["a"], [])
    assert [record.getMessage().partition(" is left out")[0] for record in caplog.records].count(
        f"{tmp_path}/n\\xe9.png"
    ) == 1
    assert "n\\xe9d is left out, as its name is not UTF-8; rename it." in caplog.text
    assert [place for place, *_ in names.walk(tmp_path)] == [tmp_path, tmp_path / "a"]


def test_links_are_followed_once_and_never_in_circles(tmp_path, caplog):
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "z/case/x")
    touch(outside, "deep/y")
    (outside / "back").symlink_to(outside)
    for name, target in (("a", root / "z"), ("m", outside), ("n", outside / "deep"), ("up", tmp_path), ("self", root)):
        (root / name).symlink_to(target)
    (root / "z" / "loop").symlink_to(root / "z" / "loop")
    (root / "nowhere").symlink_to(tmp_path / "missing")
    places = [place.relative_to(root).as_posix() for place, *_ in names.walk(root)]
    assert places == [".", "z", "z/case", "m", "m/deep"]  # a real folder goes by its own name
    assert caplog.text.count("is a link to a folder that it lies in") == 3  # up, self, outside/back


def test_a_folder_that_is_none_cannot_be_listed(tmp_path):
    with pytest.raises(ValueError, match=r"\A[^\n]*nowhere: cannot be listed: No such file"):
        list(names.walk(tmp_path / "nowhere"))
    assert names.glimpse(tmp_path / "nowhere") == ([], [])


def test_subjects():
    assert names.subject_finder(None)("a/b") == "a/b"
    assert names.subject_finder(r"(p\d+)_")("s/p7_slice3") == "p7"
    for pattern, words in (("(", "'\\(' is not a regular"), ("(a)(b)", "has 2 groups"), ("a", "has 0 groups")):
        with pytest.raises(ValueError, match=words):
            names.subject_finder(pattern)
    with pytest.raises(ValueError, match=r"subject_pattern '\(x\)' is not found in 'c': correct it"):
        names.subject_finder("(x)")("c")
    with pytest.raises(ValueError, match="not found"):
        names.subject_finder("(x)?c")("c")


def test_parts_and_sets_by_names_of_folders():
    assert [names.part_in([name]) for name in ("Training", "val", "valid", "TEST", "tests", "trained")] == [
        "train", "validation", "validation", "test", "", "",
    ]  # fmt: skip
    assert (names.part_in(["aorta", "train"]), names.set_in(["train", "aorta"])) == ("train", "aorta")
    assert (names.part_in([]), names.set_in(["test"])) == ("", "")


# One page with the tags 256 (width) and 34412, which only microscopes of Zeiss write.
LSM = b"II*\0" + struct.pack("<IHHHIIHHIII", 8, 2, 256, 4, 1, 1, 34412, 4, 1, 0, 0)


def test_pictures_are_told_their_field():
    config = DataConfig(size=(64, 32), spacing_mm=0.5)
    assert names.field_mm(config, Path("a.PNG")) == (32, 16)
    assert names.field_mm(config, Path("a.nii.gz")) is None
    assert names.field_mm(DataConfig(), Path("a.png")) is None


def test_a_picture_is_told_by_how_it_begins(tmp_path):
    """A stack of a Zeiss microscope, whatever its ending, knows the size of its pixels."""
    config = DataConfig(size=(64, 32), spacing_mm=0.5)
    (tmp_path / "lsm.tif").write_bytes(LSM)
    (tmp_path / "picture").write_bytes(LSM.replace(b"\x6c\x86", b"\x69\x87"))
    assert names.field_mm(config, tmp_path / "lsm.tif") is None
    assert names.field_mm(config, tmp_path / "picture") == (32, 16)


def test_many_names_are_told_by_three():
    assert names.some(["a", "b", "c"]) == "a, b, c"
    assert names.some(list("abcdefgh")) == "a, b, c and 5 more"

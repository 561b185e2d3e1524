"""What readers of challenge data share."""

from __future__ import annotations

import logging

import pytest

from AmbiguousSegLib.layouts.challenges import put, seen_below, sequences_asked
from AmbiguousSegLib.layouts.names import tell_left_out

KNOWN = {"T1": ("t1w",), "FLAIR": ("t2flair",), "T2": ()}


def first_txt(files):
    return next((file for file in files if file.endswith(".txt")), None)


def test_the_nearest_folder_is_seen_first(tmp_path):
    for place, name in (("a/b", "far.txt"), ("z", "near.txt"), (".hidden", "never.txt")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / name).touch()
    assert seen_below(tmp_path, first_txt) == "near.txt"
    assert seen_below(tmp_path / "a", first_txt) == "far.txt"
    assert seen_below(tmp_path / "a" / "b" / "far.txt", first_txt) is None
    assert seen_below(tmp_path / "absent", first_txt) is None


def test_a_look_ends_early(tmp_path):
    """At the fifth level, and after 60 folders."""
    (tmp_path / "deep/2/3/4/5").mkdir(parents=True)
    (tmp_path / "deep/2/3/4/5/a.txt").touch()
    assert seen_below(tmp_path, first_txt) is None and seen_below(tmp_path / "deep", first_txt) == "a.txt"
    for number in range(1000):
        (tmp_path / "wide" / str(number)).mkdir(parents=True)
    looked = []
    assert seen_below(tmp_path / "wide", lambda files: looked.append(files)) is None
    assert len(looked) == 60


def test_sequences_by_any_of_their_names(tmp_path):
    assert sequences_asked(("t2 FLAIR", "T1-w"), KNOWN, tmp_path) == ["FLAIR", "T1"]
    assert sequences_asked(("image",), KNOWN, tmp_path) == ["T1", "FLAIR", "T2"]
    for channels in (("T1", "CT"), ("T1", "t1w")):
        with pytest.raises(ValueError, match=r"expected names of sequences, each once: T1, FLAIR, T2"):
            sequences_asked(channels, KNOWN, tmp_path)


def test_left_out_cases_and_second_files(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        tell_left_out(tmp_path, [], "as")
        assert not caplog.messages
        tell_left_out(tmp_path, [f"c{n}" for n in range(5)], "as they are odd")
    assert caplog.messages == [f"{tmp_path}: 5 case(s) left out, as they are odd: c0, c1, c2 and 2 more."]
    files = {}
    put(files, "a", tmp_path / "1")
    with pytest.raises(ValueError, match="are both there"):
        put(files, "a", tmp_path / "2")
    assert files == {"a": tmp_path / "1"}

"""Splits go by subject, stay the same, and refuse lists that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.data.split import PARTS, split_by_file, split_by_fraction, split_cases


def case(identity: str, subject: str, part: str = "") -> FileCase:
    group = identity.split("/")[0] if "/" in identity else ""
    return FileCase(identity, subject, (Path("i.png"),), (RaterFile("l", Path("l.png")),), group=group, part=part)


def make(group: str, subjects: int, slices: int = 3) -> list[FileCase]:
    return [case(f"{group}/{group}{s}_{z}", f"{group}{s}") for s in range(subjects) for z in range(slices)]


CASES = make("a", 20) + make("b", 7) + make("c", 3) + make("d", 2)


def assert_no_subject_twice(split) -> None:
    parts = [set(subjects) for subjects in split.subjects().values()]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


@pytest.mark.parametrize("seed", range(20))
def test_no_subject_is_ever_in_two_parts_and_no_case_is_lost(seed):
    split = split_by_fraction(CASES, 0.2, 0.3, seed)
    assert_no_subject_twice(split)
    assert sorted(c.identity for p in PARTS for c in getattr(split, p)) == sorted(c.identity for c in CASES)


def test_every_group_is_in_every_part_where_it_has_enough_subjects():
    split = split_by_fraction(CASES, 0.15, 0.15)
    found = {p: {g: sum(s.startswith(g) for s in split.subjects()[p]) for g in "abcd"} for p in PARTS}
    assert found == {
        "train": {"a": 14, "b": 5, "c": 1, "d": 2},
        "validation": {"a": 3, "b": 1, "c": 1, "d": 0},
        "test": {"a": 3, "b": 1, "c": 1, "d": 0},
    }


def test_a_split_does_not_depend_on_order_and_does_on_the_seed():
    shuffled = [CASES[i] for i in np.random.default_rng(0).permutation(len(CASES))]
    assert split_by_fraction(shuffled).subjects() == split_by_fraction(CASES).subjects()
    assert split_by_fraction(CASES, seed=1).subjects() != split_by_fraction(CASES).subjects()
    tests = [s for s in split_by_fraction(CASES).subjects()["test"] if s.startswith("a")]
    assert tests == ["a1", "a10", "a8"]  # the smallest three of SHA-256("0/a0") to ("0/a19"), computed apart


def test_folders_of_one_subject_each_are_split_together():
    """patient_7/slice_031: as if the patients' folders were no sets, which subjects in no set are."""
    apart, together = (
        [case(f"patient_{k}{mark}slice_{z}", f"patient_{k}") for k in range(10) for z in range(3)] for mark in "/_"
    )
    assert len({one.group for one in apart}) == 10 and {one.group for one in together} == {""}
    split = split_by_fraction(apart, 0.2, 0.3)
    assert {name: len(subjects) for name, subjects in split.subjects().items()} == {
        "train": 5,
        "validation": 2,
        "test": 3,
    }
    assert split.subjects() == split_by_fraction(together, 0.2, 0.3).subjects()


def test_a_subject_in_two_groups_stays_in_one_part():
    shared = [case(f"{g}/x", "x") for g in "ab"]
    for seed in range(10):
        assert_no_subject_twice(split_by_fraction(CASES + shared, seed=seed))


def test_fractions_without_sense_are_refused():
    for validation, test in ((-0.1, 0.1), (0.5, 0.5), (float("nan"), 0.1)):
        with pytest.raises(ValueError, match="sum to less than 1"):
            split_by_fraction(CASES, validation, test)
    with pytest.raises(ValueError, match="'b' of 7 subjects has none left"):
        split_by_fraction(CASES, 0.05, 0.9)
    assert not split_by_fraction(CASES, 0.0, 0.0).test


def test_a_split_written_is_the_split_read(tmp_path):
    split = split_by_fraction(CASES)
    file = tmp_path / "split.json"
    file.write_text(json.dumps(split.subjects()), encoding="utf-8")
    assert split_by_file(CASES, file) == split


def test_unused_subjects_are_left_out(tmp_path):
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": ["c0"], "test": ["c1"], "unused": ["c2"]}), encoding="utf-8")
    split = split_by_file(make("c", 3), file)
    assert split.subjects() == {"train": ["c0"], "validation": [], "test": ["c1"]}
    assert len(split.train) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": ["c0", "c1"], "test": ["c2", "c0"]}, "'c0' is listed under train and again under test"),
        ({"train": ["c0", "c0", "c1", "c2"]}, "'c0' is listed under train and again under train"),
        ({"train": ["c0", "c1", "c2", "c9"]}, "not among the cases: subjects c9"),
        ({"train": ["c0"]}, "not listed: subjects c1, c2"),
        ({"training": ["c0"]}, "expected lists of subjects under train, validation, test or unused"),
        ({"train": "c0"}, "expected lists"),
        (["c0"], "expected lists"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, content, words):
    file = tmp_path / "split.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        split_by_file(make("c", 3), file)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"file of the split cannot be read: .*none.json does not exist; check the"):
        split_by_file(CASES, tmp_path / "none.json")


def test_parts_that_the_data_states_are_kept():
    stated = [case(f"{part}{k}", f"{part}{k}", part) for part in PARTS for k in range(4)]
    split = split_cases(DataConfig(), stated)
    assert [[one.identity for one in getattr(split, part)] for part in PARTS] == [
        [f"{part}{k}" for k in range(4)] for part in PARTS
    ]


def test_where_the_data_states_no_validation_a_fraction_of_its_training_is_taken():
    stated = [case(f"{part}{k}", f"{part}{k}", part) for part in ("train", "test") for k in range(10)]
    split = split_cases(DataConfig(validation_fraction=0.2, test_fraction=0.5), stated)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [8, 2, 10]
    assert {one.part for one in split.test} == {"test"} and {one.part for one in split.validation} == {"train"}


def test_data_for_the_test_alone_has_nothing_to_split():
    split = split_cases(DataConfig(), [case("a", "a", "test"), case("b", "b", "test")])
    assert [len(part) for part in (split.train, split.validation, split.test)] == [0, 0, 2]


def test_parts_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="b states the part '', others one of train"):
        split_cases(DataConfig(), [case("a", "a", "train"), case("b", "b")])
    with pytest.raises(ValueError, match="b is in the part test, another case of its subject x in train"):
        split_cases(DataConfig(), [case("a", "x", "train"), case("b", "x", "test")])

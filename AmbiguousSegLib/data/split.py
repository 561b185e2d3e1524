"""Division of cases into train, validation and test, by subject and never by slice."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import Case
from AmbiguousSegLib.files import said
from AmbiguousSegLib.resources import find_split
from AmbiguousSegLib.text_files import read_json

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Cases of each part, in the order they were given. No subject is in two parts."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]

    def subjects(self) -> dict[str, list[str]]:
        """Sorted subjects of each part: what a split file holds, see :func:`split_by_file`."""
        return {part: sorted({case.subject for case in getattr(self, part)}) for part in PARTS}


def split_cases(config: DataConfig, cases: Sequence[Case]) -> Split:
    """Split by the file that the configuration names, else by the parts that the cases state, else by its fractions.

    Where cases state parts but none is for validation, that is a fraction of those for training.

    Raises:
        ValueError: as ``split_by_file`` and ``split_by_fraction``; some cases state a part and others none; two
            cases of one subject state different parts.
    """
    if config.split_file:
        return split_by_file(cases, config.split_file)
    if any(case.part for case in cases):
        return _split_by_parts(config, cases)
    return split_by_fraction(cases, config.validation_fraction, config.test_fraction, config.split_seed)


def split_by_fraction(cases: Sequence[Case], validation: float = 0.15, test: float = 0.15, seed: int = 0) -> Split:
    """Split by the order of SHA-256(seed, subject), in each group on its own.

    Of a group's n subjects, ⌊n · test⌋ go to test and ⌊n · validation⌋ to validation, at least one each where n ≥ 3
    and the fraction is not 0; the rest trains. The same subjects always split alike, in whatever order they come. A
    subject with cases in several groups counts in the first of them. Where every group is one subject, as in
    ``patient_7/slice_031``, all are split together.

    Raises:
        ValueError: fractions outside [0, 1), or so large that some group has nothing left to train on.
    """
    if not (0 <= validation and 0 <= test and validation + test < 1):
        raise ValueError(f"Fractions must be 0 or more and sum to less than 1, got {validation=}, {test=}.")
    group: dict[str, str] = {}
    for case in cases:
        group[case.subject] = min(group.get(case.subject, case.group), case.group)
    members: dict[str, list[str]] = defaultdict(list)
    for subject in sorted(group, key=lambda subject: hashlib.sha256(f"{seed}/{subject}".encode()).digest()):
        members[group[subject]].append(subject)
    if all(len(subjects) == 1 for subjects in members.values()):
        members = {"": [subject for (subject,) in members.values()]}  # still in the order of their hashes
    part = {}
    for name, subjects in members.items():
        tests, validations = (_count(len(subjects), fraction) for fraction in (test, validation))
        if tests + validations >= len(subjects):
            raise ValueError(
                f"Group {name!r} of {len(subjects)} subjects has none left to train on: lower {validation=} or {test=}."
            )
        for rank, subject in enumerate(subjects):
            part[subject] = "test" if rank < tests else "validation" if rank < tests + validations else "train"
    return _split(cases, part)


def split_by_file(cases: Sequence[Case], file: Path | str) -> Split:
    """Split by a JSON file: ``{"train": [subjects], "validation": […], "test": […], "unused": […]}``.

    Parts may be missing; every subject of the cases must be listed once. A file that comes with the
    software is found by its name, see ``resources.find_split``.

    Raises:
        ValueError: not such a file; a subject listed twice, unknown to the cases, or missing in the file.
    """
    try:
        listed = read_json(find_split(file))
    except OSError as error:
        raise ValueError(f"The file of the split cannot be read: {said(error)}") from error
    if not _is_split(listed):
        raise ValueError(f"{file}: expected lists of subjects under {', '.join(PARTS)} or unused, and nothing else.")
    part: dict[str, str] = {}
    for name, subjects in listed.items():
        for subject in subjects:
            if subject in part:
                raise ValueError(f"{file}: subject {subject!r} is listed under {part[subject]} and again under {name}.")
            part[subject] = name
    known = {case.subject for case in cases}
    _refuse(part.keys() - known, f"{file}: not among the cases: subjects", "remove them, or check the data folder.")
    _refuse(known - part.keys(), f"{file}: not listed: subjects", "list them under a part, or under unused.")
    return _split(cases, part)


def _split_by_parts(config: DataConfig, cases: Sequence[Case]) -> Split:
    part: dict[str, str] = {}
    for case in cases:
        if case.part not in PARTS:
            raise ValueError(
                f"{case.identity} states the part {case.part!r}, others one of {', '.join(PARTS)}; state all."
            )
        if part.setdefault(case.subject, case.part) != case.part:
            raise ValueError(
                f"{case.identity} is in the part {case.part}, another case of its subject {case.subject} in "
                f"{part[case.subject]}; put all cases of a subject into one part."
            )
    split = _split(cases, part)
    if split.validation or not split.train:
        return split
    inner = split_by_fraction(split.train, config.validation_fraction, 0, config.split_seed)
    return Split(inner.train, inner.validation, split.test)


def _count(n: int, fraction: float) -> int:
    return max(int(n * fraction + 1e-9), 1) if fraction > 0 and n >= 3 else 0


def _split(cases: Sequence[Case], part: Mapping[str, str]) -> Split:
    return Split(*(tuple(case for case in cases if part[case.subject] == name) for name in PARTS))


def _is_split(listed: object) -> bool:
    return isinstance(listed, dict) and all(
        name in (*PARTS, "unused") and isinstance(subjects, list) and all(isinstance(s, str) for s in subjects)
        for name, subjects in listed.items()
    )


def _refuse(subjects: Iterable[str], what: str, remedy: str) -> None:
    names = sorted(subjects)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(f"{what} {', '.join(names[:3])}{more}: {remedy}")

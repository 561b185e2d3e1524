"""What all lists of cases have in common: names that follow from paths, subjects, parts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

PARTS = ("train", "validation", "test")


def identity_of(path: Path, folder: Path) -> str:
    """Name of a case by the place of its file below ``folder``, without the endings: ``p7/ct.nii.gz`` is ``p7/ct``.

    Of a file elsewhere it is the way there, without the steps up: ``../scans/p7.nrrd`` is ``scans/p7``.
    """
    try:
        steps = PurePath(os.path.relpath(path, folder)).parts
    except ValueError:  # another drive of Windows
        steps = path.parts[1:]
    steps = tuple(step for step in steps if step != os.pardir)
    *places, name = steps
    return "/".join([*places, _stem(name)])


def _stem(name: str) -> str:
    shorter = re.sub(r"\.(?:nii\.gz|seg\.nrrd|[A-Za-z][A-Za-z0-9]{1,4})$", "", name, flags=re.IGNORECASE)
    return shorter or name


def subject_by(pattern: str | None, identity: str) -> str:
    """Subject of a case that states none: what the pattern's group finds in its identity; without one, the identity.

    Raises:
        ValueError: a pattern without exactly one group, or that does not find one in the identity.
    """
    if pattern is None:
        return identity
    compiled = re.compile(pattern)
    if compiled.groups != 1:
        raise ValueError(f"subject_pattern {pattern!r} has {compiled.groups} groups, expected exactly one.")
    found = compiled.search(identity)
    if found is None or not found[1]:
        raise ValueError(f"subject_pattern {pattern!r} finds no subject in {identity!r}; correct it.")
    return found[1]


def check_part(part: str) -> None:
    """ValueError for another part than train, validation, test, or none."""
    if part and part not in PARTS:
        raise ValueError(f"unknown part {part!r}; the parts are {', '.join(PARTS)}, or nothing")


def few(names: Sequence[object]) -> str:
    """The first three of some names, and how many more there are."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{', '.join(str(name) for name in names[:3])}{more}"

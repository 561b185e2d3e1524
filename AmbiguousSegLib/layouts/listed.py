"""What data that describes itself has in common: names that follow from paths, channels, labels, parts of a split."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from AmbiguousSegLib.data.split import PARTS
from AmbiguousSegLib.layouts.names import stem_of


def identity_of(path: Path, folder: Path) -> str:
    """Name of a case by the place of its file below ``folder``, without the ending: ``p7/ct.nii.gz`` is ``p7/ct``.

    Of a file elsewhere it is the way there, without the steps up: ``../scans/p7.nrrd`` is ``scans/p7``.
    """
    try:
        steps = PurePath(os.path.relpath(path, folder)).parts
    except ValueError:  # another drive of Windows
        steps = path.parts[1:]
    *places, name = (step for step in steps if step != os.pardir)
    return "/".join([*places, stem_of(name)])


def check_part(part: str) -> None:
    """ValueError for another part than train, validation, test, or none."""
    if part and part not in PARTS:
        raise ValueError(f"unknown part {part!r}; the parts are {', '.join(PARTS)}, or nothing.")

"""What lists of cases have in common: names that follow from paths, and parts of a split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath

from AmbiguousSegLib.data.split import PARTS
from AmbiguousSegLib.layouts.names import stem_of


def common_folder(files: Sequence[Path], folder: Path) -> Path:
    """``folder`` if all files lie below it, else the folder that they have in common; links are not followed."""
    places = {os.path.abspath(file.parent) for file in files}  # noqa: PTH100 - resolve() would follow links
    own = os.path.abspath(folder)  # noqa: PTH100
    try:
        common = os.path.commonpath(places)
        return folder if os.path.commonpath([own, common]) == own else Path(common)
    except ValueError:  # several drives of Windows
        return folder


def identity_of(path: Path, folder: Path) -> str:
    """Name of a case by the place of its file below ``folder``, without the ending: ``p7/ct.nii.gz`` is ``p7/ct``."""
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

"""Cases whose images and masks are files that a list names: what its columns mean, checked by what is on the disk."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.case_files import choose_channels, one_rater
from AmbiguousSegLib.layouts.listed import check_part, common_folder, identity_of
from AmbiguousSegLib.layouts.names import field_mm, some, subject_finder
from AmbiguousSegLib.layouts.nnunet_labels import labels_beside
from AmbiguousSegLib.volume.file_checks import check_name, shown
from AmbiguousSegLib.volume.scan_kind import is_picture, modality_of

COLUMNS = ("identity", "subject", "group", "part", "modality", "spacing", "series")
EMPTY = "empty"
_KNOWN = f"image, image_NAME, rater_NAME, mask_NAME, label_NAME, {', '.join(COLUMNS)}"
_IMAGE = re.compile(r"image(?:[_\-. ]+(.+)|(\d*))", re.IGNORECASE)
_RATER = re.compile(r"(?:rater|mask|label)(?:[_\-. ]+(.+)|.*)", re.IGNORECASE)

Row = tuple[str, Mapping[str, Any]]
"""Where a case is listed, for messages ("line 7"), and its cells by their columns; an empty one is ""."""


@dataclass(frozen=True)
class Columns:
    """What the columns of a list are.

    Attributes:
        images, raters: key of the cell, and name of the channel ("" if it has none) or rater.
        others: key of the cell by what it is, one of ``COLUMNS``.
    """

    images: tuple[tuple[str, str], ...]
    raters: tuple[tuple[str, str], ...]
    others: Mapping[str, str]

    @classmethod
    def of(cls, keys: Sequence[str]) -> Columns:
        """Columns by their keys; ValueError for one that is not known, two that mean the same, or none of a kind."""
        images, raters, others = [], [], {}
        for key in keys:
            if key.casefold() in COLUMNS:
                others[key.casefold()] = key
            elif image := _IMAGE.fullmatch(key):
                images.append((key, image[1] or image[2]))
            elif rater := _RATER.fullmatch(key):
                raters.append((key, rater[1] or key))
            else:
                raise ValueError(f"the column {key!r} is not known; the columns are {_KNOWN}. Rename or remove it.")
        for kind, found in (("image", images), ("rater", raters)):
            if not found:
                raise ValueError(f"there is no column of {kind}s, such as {kind} or {kind}_NAME; add one.")
        meant = [*(("image", name.casefold()) for _, name in images), *(("rater", name) for _, name in raters)]
        if len(set(meant)) < len(meant) or len(others) + len(meant) < len(keys):
            raise ValueError(f"two of the columns {', '.join(keys)} mean the same; rename or remove one.")
        return cls(tuple(images), tuple(raters), others)


def read_files(
    keys: Sequence[str], rows: Sequence[Row], file: Path, config: DataConfig, labels: Sequence[Label]
) -> list[FileCase]:
    """Cases of the rows of a list, in its order. That their files are there is checked; no pixel is read.

    Args:
        keys: of all columns.
        file: the list; paths are relative to its folder.

    Raises:
        ValueError: as ``Columns.of``, ``choose_channels``, ``one_rater`` and ``subject_finder``; a case without image
            or rater; files that are not there (the first three are named); a case, its images or a mask that is
            listed twice; an unknown part; a spacing that is not positive, or of an image that knows its own.
    """
    try:
        columns = Columns.of(keys)
    except ValueError as error:
        raise ValueError(f"{shown(file)}: {error}") from error
    listed = []
    for where, cells in rows:
        with _told_of(file, where):
            first = _path(cells, columns.images[0][0], file.parent)
            listed.append((where, first, _case(cells, columns, file.parent, config, labels)))
    _check_there(file, [(where, case) for where, _, case in listed])
    base = common_folder([first for _, first, _ in listed], file.parent)
    subject_of = subject_finder(config.subject_pattern)
    places: dict[str, str] = {}
    cases: list[FileCase] = []
    for where, first, case in listed:
        with _told_of(file, where):
            identity = case.identity or identity_of(first, base)
            case = replace(
                case,
                identity=identity,
                subject=case.subject or subject_of(identity),
                raters=tuple(_known(rater, labels) for rater in case.raters),
                modality=case.modality or modality_of(case.images, case.series),
            )
            for what in _named_once(case):
                if what in places:
                    raise ValueError(f"{what} is listed before, in {places[what]}; list it once.")
                places[what] = where
            cases.append(case)
    return cases


def _check_there(file: Path, cases: Sequence[tuple[str, FileCase]]) -> None:
    """ValueError for files that are not there."""
    missing = []
    for where, case in cases:
        masks = [rater.path for rater in case.raters if rater.path is not None]
        missing += [f"{shown(path)} ({where})" for path in (*case.images, *masks) if not path.exists()]
    if missing:
        raise ValueError(
            f"{shown(file)}: {len(missing)} of the files are not there: {some(missing)}; correct the paths."
        )


@contextmanager
def _told_of(file: Path, where: str) -> Iterator[None]:
    """Names the place in the list before what is wrong there."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{shown(file)}, {where}: {error}") from error


def _case(
    cells: Mapping[str, Any], columns: Columns, folder: Path, config: DataConfig, labels: Sequence[Label]
) -> FileCase:
    """What a row says; "" where it tells no identity, subject or modality."""
    told = {name: _text(cells, key) for name, key in columns.others.items() if name != "spacing"}
    paths = [_path(cells, key, folder) for key, _ in columns.images]
    images = tuple(choose_channels(folder, paths, [name for _, name in columns.images], config.channels))
    named = dict(zip(paths, (name for _, name in columns.images)))
    spacing = _spacing(cells.get(columns.others.get("spacing", ""), ""), images)
    check_part(told.get("part", ""))
    return FileCase(
        identity=told.get("identity", ""),
        subject=told.get("subject", ""),
        images=images,
        raters=tuple(_raters(cells, columns.raters, folder)),
        label_names=tuple(label.name for label in labels),
        group=told.get("group", ""),
        part=told.get("part", ""),
        modality=told.get("modality", ""),
        series=told.get("series") or None,
        spacing_mm=spacing,
        field_mm=field_mm(config, images[0]) if spacing is None else None,
        channel_names=tuple((named[path],) for path in images) if all(named.values()) else (),
    )


def _known(rater: RaterFile, labels: Sequence[Label]) -> RaterFile:
    """A rater's file with what it or a description beside it says of its values or segments."""
    if rater.path is None or rater.segment is not None:
        return rater
    known = one_rater(rater.name, rater.path, [label.name for label in labels])
    if known.segment is not None or rater.path.name.lower().endswith(".seg.nrrd"):
        return known
    return replace(known, labels=labels_beside(rater.path, labels))


def _text(cells: Mapping[str, Any], key: str) -> str:
    """A text or number."""
    cell = cells.get(key, "")
    if isinstance(cell, bool) or not isinstance(cell, (str, int, float)):
        raise ValueError(f"{key} is {cell!r}, expected one text or number.")
    return str(cell).strip()


def _path(cells: Mapping[str, Any], key: str, folder: Path) -> Path:
    """The file or DICOM folder that a cell names."""
    text = cells.get(key, "")
    if not isinstance(text, str) or not text.strip():
        found = f"holds {text!r}" if text else "is empty"
        raise ValueError(f"the column {key} {found}, expected the path of a file.")
    path = folder / text.strip()
    check_name(path)
    if "\\" in text and not path.exists():
        path = folder / text.strip().replace("\\", "/")  # written on Windows
    return path


def _raters(cells: Mapping[str, Any], columns: Sequence[tuple[str, str]], folder: Path) -> Iterator[RaterFile]:
    """Who read a case: those whose cell is not empty."""
    read = [(key, name) for key, name in columns if cells.get(key, "") != ""]
    if not read:
        raise ValueError(
            f"nobody has read it, {some([key for key, _ in columns])} being empty; write {EMPTY} for who marked "
            "nothing, or leave the case out."
        )
    for key, name in read:
        if str(cells[key]).strip().casefold() == EMPTY:
            yield RaterFile(name, None)
            continue
        path, segment = _path(cells, key, folder), None
        if "#" in path.name and not path.exists():
            stem, _, segment = path.name.rpartition("#")
            path = path.with_name(stem) if stem else path
        yield RaterFile(name, path, segment)


def _named_once(case: FileCase) -> Iterator[str]:
    """What no two rows may name."""
    yield f"the case {case.identity!r}"
    series = f" (series {case.series})" if case.series else ""
    yield f"the image {', '.join(shown(os.path.normpath(path)) for path in case.images)}{series}"
    for rater in case.raters:
        if rater.path is not None:
            yield f"the mask {shown(os.path.normpath(rater.path))}{'#' if rater.segment else ''}{rater.segment or ''}"


def _spacing(cell: Any, images: Sequence[Path]) -> tuple[float, float] | None:
    """Edges of a pixel in mm along rows and columns that a cell tells: "0.7", "0.7 x 0.8", or a list of JSON."""
    if cell == "":
        return None
    parts = [str(part) for part in cell] if isinstance(cell, list) else re.split(r"\s*[x×;\s]\s*", str(cell).strip())
    try:
        numbers = [float(part.replace(",", ".")) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"the spacing is {cell!r}, expected positive mm, one number, or two for rows and columns.")
    for path in images:
        if not is_picture(path):
            raise ValueError(f"a spacing is told, but {shown(path)} is no picture and knows its own; leave it empty.")
    return numbers[0], numbers[-1]

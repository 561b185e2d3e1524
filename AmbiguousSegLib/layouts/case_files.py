"""What layouts of image and mask files share: what is read, whose masks a file holds, whether grids agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.labels import segments_are_classes
from AmbiguousSegLib.layouts.names import by_number, ending_of, glimpse, some, without_data_files
from AmbiguousSegLib.volume.dicom_files import is_dicom
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.headers import ImageHeader, read_header
from AmbiguousSegLib.volume.segments import segment_names

TEXTS = (".txt", ".json", ".csv", ".tsv", ".md", ".xml", ".yaml", ".yml", ".html", ".pdf", ".log")
FORMATS = "PNG, JPEG, TIFF, BMP, NRRD, NIfTI, MetaImage or DICOM"
_IMAGE, _MASK = re.compile("image", re.IGNORECASE), re.compile("label|rater|mask|seg", re.IGNORECASE)
_PEEK = 20  # files of a folder in which one of DICOM is looked for


def is_read(path: Path) -> bool:
    """True for a file of a format that images and masks are read from, by its ending, else by its first bytes."""
    return bool(ending_of(path.name)) or is_dicom(path)


def dicom_in(folder: Path) -> Path | None:
    """A DICOM file that lies directly in a folder, by a look at a few; None if there is none."""
    _, files = glimpse(folder)
    return next((folder / name for name in files[:_PEEK] if is_dicom(folder / name)), None)


class CaseFiles(NamedTuple):
    """What lies in a folder and is named like files of a case: images and masks, texts, and files of other formats."""

    images: list[Path]
    masks: list[Path]
    texts: list[Path]
    unread: list[Path]


def files_in(place: Path, folders: Sequence[str], files: Sequence[str]) -> CaseFiles:
    """Sort files ``image*`` and ``label*``, ``rater*``, ``mask*`` or ``seg*``, numbers by value.

    A folder ``image*`` with a DICOM file is an image, too.
    """
    found = CaseFiles([], [], [], [])
    for name in without_data_files(files):
        role = found.images if _IMAGE.match(name) else found.masks if _MASK.match(name) else None
        if role is None:
            continue
        path = place / name
        (role if is_read(path) else found.texts if path.suffix.lower() in TEXTS else found.unread).append(path)
    found.images.extend(place / name for name in folders if _IMAGE.match(name) and dicom_in(place / name))
    found.images.sort(key=lambda path: by_number(path.name))
    return found


def is_case(folder: Path) -> bool:
    """Whether a folder is itself a case of the layout "folder", by a look at its names and a few files."""
    found = files_in(folder, *glimpse(folder))
    return bool(found.images and found.masks)


def segments_as_raters(path: Path, labels: Sequence[str]) -> list[str] | None:
    """Names of the segments of a file where each is a rater; None where the file is one rater, or has no segments.

    Raises:
        ValueError: what ``labels.segments_are_classes`` refuses, no segment, or a file that cannot be read.
    """
    if path.is_dir() or not (is_dicom(path) or path.name.lower().endswith((".nrrd", ".nhdr"))):
        return None
    names = segment_names(path)
    if names is None:
        return None
    if not names:
        raise ValueError(f"{shown(path)} holds no segment, expected some; add one, even if it stays empty.")
    try:
        return None if segments_are_classes(names, labels) else names
    except ValueError as error:
        raise ValueError(f"{shown(path)}: {error}") from error


def one_rater(name: str, path: Path, labels: Sequence[str]) -> RaterFile:
    """The file of one rater; if it has a segment, this is the rater's whatever its name.

    Raises:
        ValueError: several segments that are no classes; as ``segments_as_raters``.
    """
    segments = segments_as_raters(path, labels)
    if segments is not None and len(segments) > 1:
        raise ValueError(
            f"{shown(path)} is one rater's, but holds the segments {some(segments)}: merge them into one, or name them "
            f"by the labels ({', '.join(labels)})."
        )
    return RaterFile(name, path, segments[0] if segments else None)


def check_raters(place: str, raters: Sequence[RaterFile]) -> None:
    """ValueError where two masks of a case would be of one rater."""
    names = [rater.name for rater in raters]
    for name in names:
        if names.count(name) > 1:
            files = [shown(rater.path) for rater in raters if rater.name == name and rater.path is not None]
            raise ValueError(
                f"{place}: {names.count(name)} masks of rater {name!r}, expected one: rename or remove one of "
                f"{', '.join(dict.fromkeys(files))}."
            )


def check_cases(cases: Sequence[FileCase]) -> int:
    """Check every case by the headers of its files, without reading pixels: about a millisecond a file.

    DICOM is not looked at, nor the grid of a segmentation, which may be a part of its image's.

    Returns:
        Number of channels, the same for all cases; 0 if all are DICOM.

    Raises:
        ValueError: a file that is no image, an image or mask on another grid than the first image of its case, or a
            case with another number of channels than the first.
    """
    first: tuple[int, str] | None = None
    for case in cases:
        headers = {path: _header(path) for path in case.images}
        known = [(path, header) for path, header in headers.items() if header is not None]
        if not known:
            continue
        reference = known[0]
        masks = dict.fromkeys(rater.path for rater in case.raters if rater.path is not None)
        for path in masks:
            header = _header(path)
            if header is not None and header.segments is None:
                _check_grid(reference, path, header)
        for path, header in known[1:]:
            _check_grid(reference, path, header)
        channels = sum(1 if header is None else header.channels for header in headers.values())
        if first is None:
            first = channels, case.identity
        elif channels != first[0]:
            raise ValueError(
                f"{shown(reference[0].parent)}: {channels} channels, but {first[0]} in {first[1]}: give all cases the "
                "same channels."
            )
    return 0 if first is None else first[0]


def _header(path: Path) -> ImageHeader | None:
    return None if path.is_dir() or is_dicom(path) else read_header(path)


def _check_grid(reference: tuple[Path, ImageHeader], path: Path, header: ImageHeader) -> None:
    grid = reference[1].geometry
    if not grid.same_in_files(header.geometry):
        raise ValueError(
            f"{shown(path)} is not on the grid of {reference[0].name}: {grid.difference(header.geometry)}; they must "
            "be drawn on the same grid."
        )


def choose_channels(place: Path, images: Sequence[Path], names: Sequence[str], channels: Sequence[str]) -> list[Path]:
    """Images in the order of the channels that the configuration names, where they bear these names; else as they are.

    Args:
        names: of the images, such as "t1" of ``image_t1.nii.gz``; empty for those that have none.
        channels: of the configuration; upper and lower case are one.

    Raises:
        ValueError: two images of one name; some of the channels are there and others not.
    """
    by_name: dict[str, Path] = {}
    for path, name in zip(images, (name.lower() for name in names)):
        if name in by_name:
            raise ValueError(
                f"{shown(place)}: {by_name[name].name} and {path.name} are the same channel; keep one of them."
            )
        by_name[name] = path
    wanted = [channel.lower() for channel in channels]
    missing = [channel for channel in wanted if not channel or channel not in by_name]
    if len(missing) == len(wanted):
        return list(images)
    if missing:
        raise ValueError(
            f"{shown(place)}: no image of the channel {some(missing)}, expected one beside those of "
            f"{', '.join(name for name in wanted if name not in missing)}; add it, or leave it out of dataset.channels."
        )
    return [by_name[channel] for channel in wanted]


def name_behind(words: str, stem: str) -> str:
    """What stands behind a word of ``words`` (a pattern) and separators in a name; the whole name if nothing does."""
    rest = re.sub(rf"^(?:{words})[ _-]+", "", stem, flags=re.IGNORECASE).strip(" _-")
    return rest or stem.rstrip("_-")

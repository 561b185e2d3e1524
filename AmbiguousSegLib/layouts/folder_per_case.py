"""The layout "folder": a folder for each case, with its image and the masks of its raters.

A case is a folder with files ``image*`` and ``label*``, ``rater*``, ``mask*`` or ``seg*`` of any format that is read,
2-D or 3-D; in place of an image file, a folder ``image*`` with a DICOM series. That covers the layout of the official
CIMD code (``<case>/image_<n>.jpg, label0_.jpg, …``), ``<set>/<case>/image.png, rater_<name>.png``, and
``<case>/image_t1.nii.gz, image_flair.nii.gz, rater_anna.seg.nrrd, rater_ben.nii.gz``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.case_files import (
    FORMATS,
    CaseFiles,
    check_cases,
    check_raters,
    choose_channels,
    files_in,
    name_behind,
    one_rater,
    segments_as_raters,
)
from AmbiguousSegLib.layouts.folder_per_rater import rater_folders
from AmbiguousSegLib.layouts.names import (
    by_number,
    field_mm,
    glimpse,
    look_below,
    part_in,
    set_in,
    some,
    stem_of,
    subject_finder,
    tell_left_out,
    walk,
)
from AmbiguousSegLib.volume.dicom_files import is_dicom
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.scan_kind import modality_of

log = logging.getLogger(__name__)

_BEFORE_NAMES = "raters?|masks?|segs?|segmentations?"  # label0 is the rater label0, rater_anna is anna
_NOBODYS = re.compile(rf"(?:{_BEFORE_NAMES}|labels?)[_-]*", re.IGNORECASE)  # a file that names no rater
_LOOKED_AT, _DEEPEST = 200, 5  # folders, until a first case is found, and levels


@LAYOUTS.register("folder")
def recognise(folder: Path) -> Layout | None:
    """A folder that is a case or has one somewhere below it, and none for each rater."""
    found = files_in(folder, *glimpse(folder))
    if not (found.images and found.masks):
        if rater_folders(folder):
            return None
        found = next((files for files in _glimpses(folder) if files.images and files.masks), found)
    if not (found.images and found.masks):
        return None
    place = found.masks[0].parent
    name = "itself" if place == folder else place.relative_to(folder).as_posix()
    return Layout(
        f"a folder for each case: {name} with {some([path.name for path in found.images])} and "
        f"{some([path.name for path in found.masks])}",
        specific=False,
    )


@READERS.register("folder")
def read_folder(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[FileCase]:
    """Cases anywhere below ``folder``, sorted by identity (numbers by value): the path of the case's folder in it.

    Several images of a case are its channels, by their names: in the order of ``config.channels`` where these are
    names of theirs. ``train``, ``validation`` and ``test`` among the folders above a case are parts of the split; the
    first other one is its group. A case's raters are its mask files; a file with several segments that are no classes
    holds a rater each. Only names and headers are read.

    Raises:
        ValueError: a folder that cannot be listed; no case found; a case without image or rater; a file named like
            one but of no format that is read; two masks of one rater; ``subject_pattern``; channels that differ from
            those of the other cases; what ``check_cases`` refuses. One line.
    """
    subject = subject_finder(config.subject_pattern)
    label_names = tuple(label.name for label in labels)
    cases, texts, names = [], [], {}
    for place, folders, files in walk(folder):
        found = files_in(place, folders, files)
        for image in found.images:
            if image.name in folders:
                folders.remove(image.name)
        texts += found.texts
        if found.images or found.masks or found.unread:
            identity = place.relative_to(folder).as_posix()
            identity = folder.resolve().name if identity == "." else identity
            cases.append(_case(place, identity, found, subject, config, label_names))
            names[identity] = [_channel(path) for path in found.images]
    if not cases:
        raise ValueError(
            f"{shown(folder)}: no cases found; expected folders with files image* and label*, rater*, mask* or seg*."
        )
    tell_left_out(folder, texts, "as they are no images", "file")
    cases.sort(key=lambda case: by_number(case.identity))
    _check_channels(cases, names)
    check_cases(cases)
    parts = dict.fromkeys(case.part for case in cases if case.part)
    if parts:
        log.info("%s: its folders name parts of the split: %s.", folder, ", ".join(parts))
    return cases


def _glimpses(folder: Path) -> Iterator[CaseFiles]:
    """What lies in a folder and in those below it."""
    for place, folders, files in look_below(folder, _LOOKED_AT, _DEEPEST, nearest_first=False):
        found = files_in(place, folders, files)
        folders[:] = [name for name in folders if place / name not in found.images]
        yield found


def _case(
    place: Path,
    identity: str,
    found: CaseFiles,
    subject: Callable[..., str],
    config: DataConfig,
    labels: tuple[str, ...],
) -> FileCase:
    for path in found.unread:
        raise ValueError(f"{shown(path)}: not of a format that is read ({FORMATS}): convert it, or rename it.")
    if not found.images or not found.masks:
        missing = (
            "no raters (files label*, rater*, mask* or seg*)"
            if found.images
            else "no image (file image*, or a folder image* with a DICOM series)"
        )
        raise ValueError(f"{shown(place)}: {missing}: a case needs at least one image and one rater.")
    slices = [path for path in found.images if not path.is_dir() and is_dicom(path)]
    if len(slices) > 1:
        raise ValueError(
            f"{shown(place)}: {len(slices)} DICOM files {some([p.name for p in slices])}; put the files of a series "
            "into a folder image."
        )
    images = choose_channels(place, found.images, [_channel(path) for path in found.images], config.channels)
    raters = _raters(found.masks, labels)
    check_raters(shown(place), raters)
    above = identity.split("/")[:-1]
    return FileCase(
        identity=identity,
        subject=subject(identity, place),
        images=tuple(images),
        raters=tuple(raters),
        label_names=labels,
        group=set_in(above),
        part=part_in(above),
        modality=modality_of(images[0]),
        field_mm=field_mm(config, images[0]),
        channel_names=tuple((_channel(path),) for path in images),
    )


def _channel(image: Path) -> str:
    """Name of an image's channel: t1 of ``image_t1.nii.gz``; empty if it has none."""
    return stem_of(image.name)[len("image") :].strip(" _-")


def _raters(masks: Sequence[Path], labels: Sequence[str]) -> list[RaterFile]:
    """A rater for each file or, in the only file of a case, for each of its segments."""
    raters = []
    for path in masks:
        stem = stem_of(path.name)
        name, segments = name_behind(_BEFORE_NAMES, stem), segments_as_raters(path, labels) or []
        if len(masks) == 1 and len(segments) > 1 and not stem.lower().startswith("rater_"):
            raters += [RaterFile(segment, path, segment) for segment in segments]
        else:
            nobodys = len(segments) == 1 and _NOBODYS.fullmatch(stem)
            raters.append(one_rater(segments[0] if nobodys else name, path, labels))
    return raters


def _check_channels(cases: Sequence[FileCase], names: dict[str, list[str]]) -> None:
    """ValueError where the images of two cases are named differently; log channels that are left out."""
    first: tuple[str, set[str]] | None = None
    for case in cases:
        own = {name.lower() for name in names[case.identity]}
        if len(own) < 2 or all(name.isdecimal() for name in own):
            continue
        if len(own) > len(case.images):
            if first is None:
                log.warning("Of the images %s only those of dataset.channels are read.", some(sorted(own), 9))
        elif first is not None and own != first[1]:
            raise ValueError(
                f"{shown(case.images[0].parent)}: images {some(sorted(own), 9)}, but {some(sorted(first[1]), 9)} in "
                f"{first[0]}: name the channels alike."
            )
        first = first or (case.identity, own)
    return

"""Names of files and folders as readers of data need them: which there are, in which order, and what they tell."""

from __future__ import annotations

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.pictures import SUFFIXES as PICTURES
from AmbiguousSegLib.volume.scan_kind import is_picture

log = logging.getLogger(__name__)

VOLUMES = (".seg.nrrd", ".nrrd", ".nhdr", ".nii.gz", ".nii", ".mha", ".mhd", ".hdr", ".img", ".hdr.gz", ".img.gz")
DICOM = (".dcm", ".dicom", ".ima")
_ENDINGS = sorted((*PICTURES, *VOLUMES, *DICOM), key=len, reverse=True)  # .nii.gz before .gz
_DATA = {  # endings of files that only hold voxels, and of the headers that they belong to
    **{".raw": (".mhd", ".nhdr"), ".zraw": (".mhd",), ".raw.gz": (".nhdr",)},
    **{".img": (".hdr",), ".img.gz": (".hdr.gz",)},
}
_LITTER = ("__macosx", "thumbs.db", "desktop.ini")
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def by_number(text: str) -> tuple[list[int | str], str]:
    """Sorting key by which label2 comes before label10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)], text


def is_hidden(name: str) -> bool:
    """True for what systems and programs leave in folders: ``.DS_Store``, ``._x``, ``.ipynb_checkpoints``."""
    return name.startswith(".") or name.lower() in _LITTER


def ending_of(name: str) -> str:
    """The ending that tells a format that is read, in lower case: ".nii.gz", ".png"; empty if it has none."""
    return next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")


def stem_of(name: str) -> str:
    """A file's name without that ending: ``A.seg.nrrd`` and ``A.nii.gz`` are ``A``, ``1.2.840`` stays."""
    return name[: len(name) - len(ending_of(name))]


def field_mm(config: DataConfig, image: Path) -> tuple[float, float] | None:
    """Height and width in mm that a picture is told to have; None for other files, or where nothing is told."""
    return config.field_mm if config.field_mm is not None and is_picture(image) else None


def without_data_files(names: Collection[str]) -> list[str]:
    """Names without those of files that only hold the voxels of a header beside them, as ``a.raw`` of ``a.mhd``."""
    there = {name.lower() for name in names}

    def is_data(name: str) -> bool:
        low = name.lower()
        return any(low.endswith(own) and low[: -len(own)] + h in there for own, heads in _DATA.items() for h in heads)

    return [name for name in names if not is_data(name)]


def some(names: Collection[str], most: int = 3) -> str:
    """For messages, the first of many: "a, b, c and 7 more"."""
    told = ", ".join(islice(names, most))
    return told if len(names) <= most else f"{told} and {len(names) - most} more"


def tell_left_out(place: Path, names: Collection[Path] | Collection[str], why: str, what: str = "case") -> None:
    """Warn of what is left out, if there is anything: how much of what, why, and the first three.

    Args:
        place: where it was looked for.
        why: "as they have no mask".
        what: one of them.
    """
    if names:
        told = some([shown(name) for name in names])
        log.warning("%s: %d %s(s) left out, %s: %s.", shown(place), len(names), what, why, told)


def listed(folder: Path) -> tuple[list[str], list[str]]:
    """Names of folders (links to some among them) and of files, numbers by value, hidden ones left out.

    What has a name that is not UTF-8 is left out with a warning.

    Raises:
        ValueError: the folder cannot be listed.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if not is_text(entry.name):
                    log.warning("%s is left out, as its name is not UTF-8; rename it.", shown(Path(entry.path)))
                    continue
                (folders if _is_folder(entry) else files).append(entry.name)
    except OSError as error:
        raise ValueError(f"{shown(folder)}: cannot be listed: {error.strerror}.") from error
    return sorted(folders, key=by_number), sorted(files, key=by_number)


def glimpse(folder: Path, most: int = 2000) -> tuple[list[str], list[str]]:
    """As ``listed``, of the first ``most`` entries, for recognisers: silent, and empty where nothing can be listed."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, most):
                if is_text(entry.name) and not is_hidden(entry.name):
                    (folders if _is_folder(entry) else files).append(entry.name)
    except OSError:
        pass
    return sorted(folders, key=by_number), sorted(files, key=by_number)


def look_below(
    root: Path, folders: int, deepest: int, entries: int = 2000, nearest_first: bool = True
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """For recognisers, ``root`` and some folders below it, with what ``glimpse`` gives of each.

    Names taken out of the list of folders before the next step are not entered.

    Args:
        folders: how many are looked at, at most.
        deepest: how many levels below ``root``.
        entries: of a folder that are looked at.
        nearest_first: level by level; else the first folder with all that is below it, then the next.
    """
    waiting = deque([(root, 0)])
    for _ in range(folders):
        if not waiting:
            return
        place, level = waiting.popleft() if nearest_first else waiting.pop()
        inside, files = glimpse(place, entries)
        yield place, inside, files
        if level < deepest:
            waiting.extend((place / name, level + 1) for name in (inside if nearest_first else reversed(inside)))


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """``root`` and every folder below it, each once, with what ``listed`` gives of it.

    Names taken out of the list of folders before the next step are not entered. Links to folders are followed, after
    all folders that are none; those that lead upwards, or to where the walk has been, are left out, which is logged.

    Raises:
        ValueError: a folder cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    links = deque([root])
    while links:
        start = links.popleft()
        if start != root and start.resolve() in (start.parent.resolve(), *start.parent.resolve().parents):
            log.warning("%s is a link to a folder that it lies in; it is left out.", start)
            continue
        stack = [start]
        while stack:
            place = stack.pop()
            try:
                status = place.stat()
            except OSError as error:
                raise ValueError(f"{shown(place)}: cannot be listed: {error.strerror}.") from error
            if (status.st_dev, status.st_ino) in seen:
                log.info("%s is a link to a folder that is read already; it is left out.", place)
                continue
            seen.add((status.st_dev, status.st_ino))
            folders, files = listed(place)
            yield place, folders, files
            here = [place / name for name in folders]
            links += [path for path in here if path.is_symlink()]
            stack += [path for path in reversed(here) if not path.is_symlink()]


def subject_finder(pattern: str | None) -> Callable[..., str]:
    """What gives the subject of an identity: the group of the pattern; without one each case is its own subject.

    Where the case lies may be given as a second argument, for the message.

    Raises:
        ValueError: no regular expression, or not one group; the function: the pattern is not found in the identity.
    """
    try:
        found_by = re.compile(pattern or "(.*)")
    except re.error as error:
        raise ValueError(f"subject_pattern {pattern!r} is not a regular expression: {error}.") from error
    if found_by.groups != 1:
        raise ValueError(f"subject_pattern {pattern!r} has {found_by.groups} groups, expected exactly one.")

    def subject(identity: str, place: Path | None = None) -> str:
        found = found_by.search(identity)
        if found is None or found[1] is None:
            where = "" if place is None else f"{shown(place)}: "
            raise ValueError(f"{where}subject_pattern {pattern!r} is not found in {identity!r}: correct it.")
        return found[1]

    return subject


def part_in(folders: Collection[str]) -> str:
    """Part of a split that names of folders tell: ``train`` or ``training``, ``val`` …, ``test`` …; else empty."""
    return next((part for name in folders if (part := _PARTS.get(name.lower()))), "")


def set_in(folders: Collection[str]) -> str:
    """First of the folders that is no part of a split: the set that a case belongs to; empty if there is none."""
    return next((name for name in folders if name.lower() not in _PARTS), "")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_text(name: str) -> bool:
    """Whether a name is UTF-8, as it must be for reading."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

"""The layout "raters": a folder for the images, and a folder for each rater's masks.

``images/`` (or ``image``, ``imgs``, ``img``) lies beside ``rater_1/``, ``rater_anna/``, ``masks_anna/``, ``labels_2/``,
``masks/`` …, or beside ``masks/anna/``, ``masks/ben/``. An image and its masks have one name, whatever their formats:
``images/p7.png``, ``rater_anna/p7.nii.gz``; behind or before it may stand a word such as ``mask``, or the rater:
``p7_mask.png``, ``p7_anna.png``. Below ``images`` there may be folders, which are then the same below each rater's.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.case_files import (
    FORMATS,
    check_cases,
    check_raters,
    dicom_in,
    is_case,
    is_read,
    name_behind,
    one_rater,
)
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
    without_data_files,
)
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.scan_kind import modality_of

log = logging.getLogger(__name__)

_WORDS = (
    "raters?|readers?|annotators?|experts?|observers?|annotations?|masks?|labels?|segs?|segmentations?|gts?|"
    "ground[ _-]?truths?"
)
_IMAGES = re.compile("images?|imgs?", re.IGNORECASE)
_RATERS = re.compile(rf"(?i:{_WORDS})(?=$|[ _\-\d]|[A-Z])")
_PEEK = 10  # files or folders, of many
_LOOKED_AT, _DEPTH = 100, 2  # folders, and how far below the first, that are looked into


@dataclass(frozen=True)
class RaterFolders:
    """A folder of images and folders of masks, by the names of their raters."""

    place: Path
    images: Path
    raters: dict[str, Path]


def rater_folders(folder: Path) -> RaterFolders | None:
    """The first such folders in ``folder`` or a little below it, by a look at a few; what is a case itself is none."""
    for place, folders, _ in look_below(folder, _LOOKED_AT, _DEPTH):
        found = _beside_each_other(place, folders)
        if found is not None and _holds_images(found.images) and any(map(_holds_images, found.raters.values())):
            return found
        if is_case(place):
            folders.clear()
    return None


def _holds_images(folder: Path, depth: int = 1) -> bool:
    """Whether a file that is read is among the first of a folder, or of the first folders in it."""
    folders, files = glimpse(folder)
    if any(is_read(folder / name) for name in files[:_PEEK]):
        return True
    return depth > 0 and any(_holds_images(folder / name, depth - 1) for name in folders[:_PEEK])


def _beside_each_other(place: Path, folders: Sequence[str]) -> RaterFolders | None:
    images = [name for name in folders if _IMAGES.fullmatch(name)]
    masks = [name for name in folders if _RATERS.match(name)]
    if len(images) != 1 or not masks or is_case(place):
        return None
    raters: dict[str, Path] = {}
    inner = set(glimpse(place / images[0])[0])
    for name in masks:
        own, files = glimpse(place / name)
        nested = own if len(masks) == 1 and not files and not inner & set(own) else []
        for rater, path in [(r, place / name / r) for r in nested] or [(name, place / name)]:
            called = name_behind(_WORDS, rater)
            raters[rater if called in raters else called] = path  # two of one name keep those of their folders
    return RaterFolders(place, place / images[0], raters)


@LAYOUTS.register("raters")
def recognise(folder: Path) -> Layout | None:
    """A folder of images beside those of raters, here or a little below."""
    found = rater_folders(folder)
    if found is None:
        return None
    where = "" if found.place == folder else f" in {found.place.relative_to(folder).as_posix()}"
    return Layout(
        f"a folder for each rater{where}: {found.images.name} with {some(list(found.raters))}", specific=False
    )


@READERS.register("raters")
def read_rater_folders(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[FileCase]:
    """Cases of all folders of images that have folders of raters beside them, anywhere below ``folder``.

    The identity is the path of these folders in ``folder``, if it has some, and of the image among the images, without
    its ending. ``train``, ``validation`` and ``test`` in it are parts of the split; the first other folder above
    ``images`` is the group. A rater without a file for an image did not read it, and is left out of that case: an empty
    mask is a file that marks nothing. Images without any mask are left out. Both are logged, and so are masks without
    an image. Only names and headers are read.

    Raises:
        ValueError: a folder that cannot be listed; no case found; two masks of one rater for an image, two images of
            one name; segments of several raters in one file; ``subject_pattern``; what ``check_cases`` refuses.
    """
    subject = subject_finder(config.subject_pattern)
    label_names = tuple(label.name for label in labels)
    cases: list[FileCase] = []
    for place, folders, _ in walk(folder):
        found = _beside_each_other(place, folders)
        if found is None:
            continue
        beside = {path.relative_to(place).parts[0] for path in (found.images, *found.raters.values())}
        folders[:] = [name for name in folders if name not in beside]
        above = [] if place == folder else place.relative_to(folder).parts
        for name, (image, masks) in _matched(found, label_names).items():
            identity = "/".join([*above, name])
            cases.append(
                FileCase(
                    identity=identity,
                    subject=subject(identity, image),
                    images=(image,),
                    raters=tuple(masks),
                    label_names=label_names,
                    group=set_in(above),
                    part=part_in(identity.split("/")[:-1]),
                    modality=modality_of(image),
                    field_mm=field_mm(config, image),
                )
            )
    if not cases:
        raise ValueError(
            f"{shown(folder)}: no cases found; expected a folder images beside a folder for each rater (rater_anna, "
            "masks_1, labels …), with files of the same names."
        )
    cases.sort(key=lambda case: by_number(case.identity))
    check_cases(cases)
    if config.subject_pattern is None and any("/" in case.identity for case in cases):
        log.warning(
            "%s: images lie in several folders, and each is taken for a subject of its own; where several show one "
            "patient, as %s may, say by dataset.subject_pattern which.",
            shown(folder),
            next(case.identity for case in cases if "/" in case.identity),
        )
    return cases


def _matched(found: RaterFolders, labels: Sequence[str]) -> dict[str, tuple[Path, list[RaterFile]]]:
    """Image and masks of each case that has some, by the image's name."""
    masks = {rater: _files(path) for rater, path in found.raters.items()}
    bare = {rater: _stripper([_WORDS, *_named(rater, found, labels)]) for rater in masks}
    images = _files(found.images, {name for rater, own in masks.items() for n in own for name in (n, bare[rater](n))})
    strip, by_bare = _stripper([_IMAGES.pattern]), dict[str, list[str]]()
    for name in images:
        by_bare.setdefault(strip(name), []).append(name)
    cases: dict[str, list[RaterFile]] = {name: [] for name in images}
    strange = []
    for rater, own in masks.items():
        for name, path in own.items():
            fitting = [name] if name in images else by_bare.get(bare[rater](name), [])
            if len(fitting) > 1:
                raise ValueError(f"{shown(path)} fits the images {some(fitting)}; give one of them another name.")
            if fitting:
                cases[fitting[0]].append(one_rater(rater, path, labels))
            else:
                strange.append(path)
    unread = [images[name] for name, own in cases.items() if not own]
    tell_left_out(found.place, strange, f"as no image in {shown(found.images)} has their name", "mask")
    tell_left_out(found.place, unread, "as no rater has a mask of their name", "image")
    read = {name: (images[name], raters) for name, raters in cases.items() if raters}
    for image, raters in read.values():
        check_raters(shown(image), raters)
    _tell_unread(found, {name: {rater.name for rater in raters} for name, (_, raters) in read.items()})
    return read


def _named(rater: str, found: RaterFolders, labels: Sequence[str]) -> list[str]:
    """Patterns of what a mask of this rater may be named beside its image: the rater, or the only class."""
    return [re.escape(name) for name in (rater, found.raters[rater].name, *(labels if len(labels) == 1 else ()))]


def _stripper(patterns: Sequence[str]) -> Callable[[str], str]:
    """What takes words of these patterns away, at both ends of a name, with the separators behind or before them."""
    word = f"(?:{'|'.join(patterns)})"
    ends = re.compile(rf"^(?:{word}[ _.-]+)+|(?:[ _.-]+{word})+$", re.IGNORECASE)

    def stripped(name: str) -> str:
        folder, slash, stem = name.rpartition("/")
        return folder + slash + ends.sub("", stem)

    return stripped


def _files(folder: Path, series: Collection[str] = ()) -> dict[str, Path]:
    """Files that are read, in a folder and below it, by their paths in it without endings; so are folders of a DICOM
    series, where one is asked for by its path.

    Raises:
        ValueError: two have one name.
    """
    found: dict[str, Path] = {}
    unread = []

    def add(name: str, path: Path) -> None:
        name = unicodedata.normalize("NFC", name)  # names are decomposed where they come from a Mac
        if name in found:
            raise ValueError(f"{shown(found[name])} and {shown(path)} have one name; remove or rename one of them.")
        found[name] = path

    for place, folders, files in walk(folder):
        above = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        for name in [name for name in folders if above + name in series and dicom_in(place / name)]:
            folders.remove(name)
            add(above + name, place / name)
        for name in without_data_files(files):
            if is_read(place / name):
                add(above + stem_of(name), place / name)
            else:
                unread.append(place / name)
    tell_left_out(folder, unread, f"as they are not {FORMATS}", "file")
    return found


def _tell_unread(found: RaterFolders, read: dict[str, set[str]]) -> None:
    """Log who has no mask for some of the images."""
    told = []
    for rater in found.raters:
        missing = [name for name, raters in read.items() if rater not in raters]
        if missing:
            told.append(f"{rater} of {len(missing)} of {len(read)} ({some(missing)})")
    if told:
        log.warning(
            "%s: raters without a mask of some images, which they are taken not to have read: %s.",
            shown(found.place),
            "; ".join(told),
        )

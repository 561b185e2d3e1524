"""The reader "nnunet": raw datasets of nnU-Net, version 2 or 1, with one rater as it has them, or several.

``imagesTr/NAME_0000.nii.gz`` (``_0001`` …, one for each channel), ``labelsTr/NAME.nii.gz`` and ``dataset.json``.
Several raters are folders beside ``labelsTr``, such as ``labelsTr_anna``, or files ``NAME__anna.nii.gz``; who did not
read a case has no file of it. ``imagesTs`` with ``labelsTs`` is the part "test"; ``splits_final.json``, if it is there,
divides the rest by its first fold.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.case_files import choose_channels
from AmbiguousSegLib.layouts.case_list import NAMES as LISTS
from AmbiguousSegLib.layouts.names import field_mm, glimpse, listed, some, subject_finder, tell_left_out
from AmbiguousSegLib.layouts.nnunet_labels import (
    DESCRIPTION,
    describes_nnunet,
    labels_beside,
    named_labels,
    stored_labels,
)
from AmbiguousSegLib.text_files import read_json
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.scan_kind import is_picture

_log = logging.getLogger(__name__)

SPLITS = "splits_final.json"
OWN = "labels"  # the rater whose masks are in labelsTr itself
_ENDING = ".nii.gz"  # of version 1, which has no other
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_MODALITIES = {
    "CT": {"ct"},
    "MR": {"mr", "mri", "t1", "t1w", "t2", "t2w", "t1ce", "t1c", "t1gd", "flair", "adc", "dwi", "pd", "swi"},
    "PT": {"pet", "pt"},
}
_MOST_SEEN = 5000

Images = dict[str, tuple[Path, ...]]  # by the name of the case: a file for each channel, or one for all
Masks = dict[str, dict[str, Path]]  # by the name of the case, then by rater


@LAYOUTS.register("nnunet")
def recognise(folder: Path) -> Layout | None:
    """A folder with ``dataset.json`` and images of numbered channels, and no list of cases, which goes first."""
    try:
        described = read_json(folder / DESCRIPTION)
    except (OSError, ValueError):
        return None
    if not describes_nnunet(described) or any((folder / name).is_file() for name in LISTS):
        return None
    if isinstance(described.get("dataset"), dict):
        return _layout(folder, described, f"{len(described['dataset']):,}")
    ending = str(described.get("file_ending", _ENDING))
    _, names = glimpse(folder / "imagesTr", _MOST_SEEN)
    first = [name for name in names if name.endswith(f"_0000{ending}")]
    if not first or (folder / "labelsTr" / first[0]).is_file():  # names that happen to end in four digits
        return None
    return _layout(folder, described, f"{'at least ' if len(names) == _MOST_SEEN else ''}{len(first):,}")


def _layout(folder: Path, described: Mapping[str, Any], count: str) -> Layout:
    file, words = folder / DESCRIPTION, f"nnU-Net dataset {shown(folder.resolve().name)}: {count} training images"
    try:
        return Layout(words, channels=tuple(_channels(described, file)), labels=named_labels(described, file))
    except ValueError:  # its reader will say so
        return Layout(words)


@READERS.register("nnunet")
def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[FileCase]:
    """All cases that have an image and a mask, by name; what lacks one of them is logged.

    Raises:
        FileNotFoundError: no ``dataset.json``, or a file that it names.
        ValueError: one that cannot be read, or not by nnU-Net; images that lack a channel; two masks of one rater; a
            fold that lists other cases than there are; as ``stored_labels`` and ``subject_finder``.
    """
    file = folder / DESCRIPTION
    described = read_json(file)
    if not describes_nnunet(described):
        raise ValueError(f"{shown(file)} has no labels and channel_names (or modality), as nnU-Net writes them.")
    channels, pairs = _channels(described, file), stored_labels(described, labels, file)
    subject_of = subject_finder(config.subject_pattern)
    modality = next((key for key, names in _MODALITIES.items() if {*map(str.lower, channels)} <= names), "")
    halves = _halves(folder, described, channels)
    cases = []
    for suffix, images, masks in halves:
        parts = _parts(folder, images, masks, tested=len(halves) > 1 and bool(halves[1][2])) if suffix == "Tr" else {}
        for name, by_rater in masks.items():
            files, named = images[name], dict(zip(images[name], channels))
            if len(files) == len(channels) == len({*map(str.lower, channels)}):
                files = tuple(choose_channels(file, files, channels, config.channels))
            case = FileCase(
                identity=name,
                subject=subject_of(name),
                images=files,
                raters=tuple(RaterFile(r, path, labels=_own(path, labels) or pairs) for r, path in by_rater.items()),
                label_names=tuple(label.name for label in labels),
                part=parts.get(name, "test"),
                modality=modality,
                field_mm=field_mm(config, files[0]),
                channel_names=tuple((named[path],) for path in files) if len(named) == len(channels) else (),
            )
            cases.append(case)
    return cases


def _own(mask: Path, labels: Sequence[Label]) -> tuple[tuple[int, int], ...]:
    """What the values of predictions mean, which lie in a folder with a description of their own."""
    return labels_beside(mask, labels) if (mask.parent / DESCRIPTION).is_file() else ()


def _channels(described: Mapping[str, Any], file: Path) -> list[str]:
    """Names of the channels by their number."""
    named = described.get("channel_names", described.get("modality"))
    names = [named.get(str(k)) for k in range(len(named))]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{shown(file)} must name the channels 0 to {len(named) - 1}, got {named!r}; correct it.")
    return names


def _halves(folder: Path, described: Mapping[str, Any], channels: Sequence[str]) -> list[tuple[str, Images, Masks]]:
    """Images and masks of "Tr" and of "Ts"; only what has both."""
    ending = str(described.get("file_ending", _ENDING))
    halves: list[tuple[str, Images, Masks]] = []
    if isinstance(described.get("dataset"), dict):
        halves.append(("Tr", *_named(folder, described["dataset"], channels)))
    else:
        halves.append(("Tr", _images(folder / "imagesTr", ending, channels), {}))
    if (folder / "imagesTs").is_dir():
        halves.append(("Ts", _images(folder / "imagesTs", ending, channels), {}))
    for suffix, images, masks in halves:
        for name, by_rater in _masks(folder, suffix, ending, images).items():
            masks[name] = {**masks.get(name, {}), **by_rater}
        unread = [name for name in images if name not in masks]
        tell_left_out(folder / f"images{suffix}", unread, "as they have no mask", "image")
    return halves


def _named(folder: Path, listed_cases: Mapping[str, Any], channels: Sequence[str]) -> tuple[Images, Masks]:
    """Images and masks that ``dataset.json`` itself names by their paths."""
    images: Images = {}
    masks: Masks = {}
    for name, entry in listed_cases.items():
        files = entry.get("images") if isinstance(entry, dict) else None
        stored = [*files, entry.get("label")] if isinstance(files, list) and files else []
        if not stored or not all(isinstance(path, str) for path in stored):
            raise ValueError(f"{shown(folder / DESCRIPTION)}: {name!r} must name its images and its label.")
        paths = [folder / os.path.expandvars(path) for path in stored]
        for path in paths:
            if not path.exists():
                raise FileNotFoundError(f"{shown(path)}, which {DESCRIPTION} names for {name!r}, does not exist.")
        images[name], masks[name] = _in_order(name, dict(enumerate(paths[:-1])), channels), {OWN: paths[-1]}
    return images, masks


def _images(place: Path, ending: str, channels: Sequence[str]) -> Images:
    """Images of a folder, complete."""
    found: dict[str, dict[int, Path]] = {}
    others = []
    for file in listed(place)[1]:
        numbered = _CHANNEL.fullmatch(file.removesuffix(ending)) if file.endswith(ending) else None
        if numbered:
            found.setdefault(numbered[1], {})[int(numbered[2])] = place / file
        else:
            others.append(file)
    if ending.lower() in (".tif", ".tiff") and any(f"{name}.json" in others for name in found):
        raise ValueError(f"{shown(place)}: TIFF whose spacing is in JSON files is not read; convert it to NIfTI.")
    tell_left_out(place, others, f"as they are not named NAME_0000{ending}", "file")
    return {name: _in_order(name, files, channels) for name, files in found.items()}


def _in_order(name: str, files: Mapping[int, Path], channels: Sequence[str]) -> tuple[Path, ...]:
    """Files by the number of their channel; a picture may be one file of several colours."""
    if sorted(files) == list(range(len(channels))) or (list(files) == [0] and is_picture(files[0])):
        return tuple(files[k] for k in sorted(files))
    where = shown(next(iter(files.values())).parent)
    raise ValueError(
        f"{where}: {name} has the channels {', '.join(f'{k:04}' for k in sorted(files))}, expected {len(channels)} "
        "from 0000; complete it, or remove it."
    )


def _masks(folder: Path, suffix: str, ending: str, images: Images) -> Masks:
    """Masks of those images in all folders of raters."""
    own = f"labels{suffix}"
    places = [place for place in listed(folder)[0] if place == own or re.match(rf"{own}[_\-. ]+[^_\-. ]", place)]
    found: Masks = {}
    strangers = []
    for place in places:
        reader = re.sub(r"^[_\-. ]+", "", place.removeprefix(own)) or OWN
        for file in listed(folder / place)[1]:
            if not file.endswith(ending):
                continue  # what nnU-Net writes beside its predictions: plans, probabilities
            name, rater = file.removesuffix(ending), reader
            if name not in images and "__" in name:
                name, _, rater = name.rpartition("__")
                rater = rater if reader == OWN else f"{reader}_{rater}"
            if name not in images:
                strangers.append(f"{place}/{file}")
            elif rater in found.setdefault(name, {}):
                raise ValueError(f"{shown(folder / place / file)}: there is another mask of {rater!r} for {name}.")
            else:
                found[name][rater] = folder / place / file
    tell_left_out(folder, strangers, f"as they belong to no image in images{suffix}", "mask")
    if len(places) > 1 and own in places:
        _log.info(
            "%s: %s is one rater, %r, beside %s; move it away if it was made from the others'.",
            *(shown(folder), own, OWN, some([place for place in places if place != own])),
        )
    return {name: found[name] for name in images if name in found}


def _parts(folder: Path, images: Images, masks: Masks, tested: bool) -> dict[str, str]:
    """Part of each case of "Tr" with a mask, where there are test cases with masks (``tested``), or not."""
    file = folder / SPLITS
    if not file.is_file():
        return dict.fromkeys(masks, "train" if tested else "")
    folds = read_json(file)
    fold = folds[0] if isinstance(folds, list) and folds else None
    if not isinstance(fold, dict) or not all(isinstance(fold.get(part), list) for part in ("train", "val")):
        raise ValueError(f"{shown(file)}: expected a list of folds with train and val, as nnU-Net writes it.")
    parts = {str(name): part for key, part in (("train", "train"), ("val", "validation")) for name in fold[key]}
    for what, names in (
        ("lists cases that are not there", [name for name in parts if name not in images]),
        ("does not list the cases", [name for name in masks if name not in parts]),
        ("has in both parts the cases", sorted({*map(str, fold["train"])} & {*map(str, fold["val"])})),
    ):
        if names:
            raise ValueError(f"{shown(file)}: fold 0 {what}: {some(names)}; correct it, or move it away.")
    _log.info("%s: training and validation are those of fold 0.", shown(file))
    return parts

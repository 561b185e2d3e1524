"""The reader "isic": dermoscopic pictures and outlines of the ISIC challenges and of IMA++, as they are downloaded.

Files are found anywhere below the folder by their names: pictures ``ISIC_0000000.jpg``, masks
``ISIC_0000000_segmentation.png`` (2016: ``_Segmentation``), masks of several raters as
``ISIC_0000000_segmentation_anna.png`` or, in IMA++, ``ISIC_0000000_A04_T1_S2_545d….png``. Channels are red, green and
blue. CSV files with diagnoses, patients or lesions are used where they are there.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.challenges import put, seen_below
from AmbiguousSegLib.layouts.isic_tables import Tables, diagnosis_of, identity_of
from AmbiguousSegLib.layouts.names import by_number, field_mm, part_in, some, subject_finder, tell_left_out, walk

log = logging.getLogger(__name__)

REFERENCE = "reference"  # name of the rater of ISIC_0000000_segmentation.png
_IMAGE = re.compile(r"(ISIC_\d+(?:_downsampled)?)\.(?:jpe?g|png)", re.IGNORECASE)
_MASK = re.compile(r"(ISIC_\d+(?:_downsampled)?)_segmentation(?:[_-](.+))?\.png", re.IGNORECASE)
_ANNOTATED = re.compile(r"(ISIC_\d+)_(A\d+)_T\d+_S\d+_[0-9a-f]+\.png", re.IGNORECASE)  # annotator, tool, skill, number
_CONSENSUS = re.compile(r"ISIC_\d+_(MV|ST)(?:_\1){3}\.png", re.IGNORECASE)  # of the annotators, by IMA++


@LAYOUTS.register("isic")
def recognise(folder: Path) -> Layout | None:
    """A folder that holds a mask of these names, at most four levels below this one."""
    mask = seen_below(folder, lambda files: next((file for file in files if _rater(file) is not None), None))
    return (
        None
        if mask is None
        else Layout(f"pictures of skin lesions from ISIC, with masks such as {mask}", channels=("red", "green", "blue"))
    )


@READERS.register("isic")
def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[FileCase]:
    """Every picture with a mask.

    Group: the diagnosis, where a CSV file gives it. Subject: the patient, else the lesion, that a CSV file gives, else
    the picture; or by ``subject_pattern``. Part: as the folders of the masks, else of the pictures, are named, if that
    is a split. With one label a mask marks it; with several it marks the one that is the diagnosis, and pictures with
    other diagnoses are left out with a warning, as are those without a mask, and consensus masks.

    Raises:
        ValueError: no picture has a mask; two masks of one rater; two pictures that a mask may belong to; several
            labels without a CSV file of diagnoses, or one that no picture has; by ``subject_pattern``.
    """
    images, masks, tables, consensus = _files(folder)
    classes = _classes(folder, labels, tables)
    named_subject = subject_finder(config.subject_pattern)
    both = sorted(masks.keys() & images.keys(), key=by_number)
    image_of = {identity: _nearest(folder, images[identity], masks[identity][0][1]) for identity in both}
    if config.subject_pattern is None:
        subjects = {identity: tables.subject(identity) for identity in both}
    else:
        subjects = {identity: named_subject(identity) for identity in both}
    parts = {identity: _part(folder, masks[identity][0][1], image_of[identity]) for identity in both}
    tells = _are_parts(folder, parts, subjects)
    cases, others = [], Counter[str]()
    for identity, image in image_of.items():
        diagnosis = tables.diagnosis.get(identity, "")
        if len(labels) > 1 and diagnosis not in classes:
            others[diagnosis or "unknown"] += 1
            continue
        values = tuple((value, classes[diagnosis]) for value in (1, 255)) if len(labels) > 1 else ()
        cases.append(
            FileCase(
                identity=identity,
                subject=subjects[identity],
                images=(image,),
                raters=tuple(RaterFile(name, file, labels=values) for name, file in masks[identity]),
                label_names=tuple(label.name for label in labels),
                group=diagnosis,
                part=parts[identity] if tells else "",
                field_mm=field_mm(config, image),
            )
        )
    tell_left_out(folder, sorted(images.keys() - masks.keys(), key=by_number), "as they have no mask")
    tell_left_out(folder, sorted(masks.keys() - images.keys(), key=by_number), "as their picture is not there")
    if others:
        told = ", ".join(f"{count} {diagnosis}" for diagnosis, count in sorted(others.items()))
        log.warning("%s: cases whose diagnosis is no label are left out: %s.", folder, told)
    tell_left_out(folder, consensus, "as they are nobody's", "consensus mask")
    if not cases:
        raise ValueError(
            f"{folder}: {len(images)} ISIC picture(s) and masks of {len(masks)}, but no picture with a mask"
            f"{' and a diagnosis that is a label' if others else ''}; put both below this folder, under the names they "
            "are downloaded with."
        )
    return cases


def _files(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[tuple[str, Path]]], Tables, list[str]]:
    """Pictures, and masks with the raters' names, by the picture's identity; what CSV files say; consensus masks."""
    images: dict[str, list[Path]] = defaultdict(list)
    masks: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    tables, consensus = Tables(), []
    for place, _, names in walk(folder):
        for name in names:
            file = place / name
            if (image := _IMAGE.fullmatch(name)) is not None:
                images[identity_of(image[1])].append(file)
            elif (rater := _rater(name)) is not None:
                masks[rater[0]].append((rater[1], file))
            elif _CONSENSUS.fullmatch(name):
                consensus.append(name)
            elif name.lower().endswith(".csv"):
                tables.read(file)
    return dict(images), {identity: _distinct(raters) for identity, raters in masks.items()}, tables, consensus


def _rater(name: str) -> tuple[str, str] | None:
    """Identity and rater of a mask of this name."""
    if (mask := _MASK.fullmatch(name)) is not None:
        return identity_of(mask[1]), mask[2] or REFERENCE
    annotated = _ANNOTATED.fullmatch(name)
    return annotated and (identity_of(annotated[1]), annotated[2].upper())


def _distinct(raters: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Raters in the order of their names; who of IMA++ outlined a lesion again is A06_2, and so on.

    Raises:
        ValueError: two masks of another rater, as of a picture that is in two challenges.
    """
    distinct: dict[str, Path] = {}
    times = Counter[str]()
    for name, file in sorted(raters, key=lambda rater: (by_number(rater[0]), rater[1].name)):
        times[name] += 1
        again = times[name] > 1 and _ANNOTATED.fullmatch(file.name)
        put(distinct, f"{name}_{times[name]}" if again else name, file)
    return list(distinct.items())


def _classes(folder: Path, labels: Sequence[Label], tables: Tables) -> dict[str, int]:
    """Label of each diagnosis, where there are several."""
    if len(labels) == 1:
        return {}
    classes = {diagnosis_of(label.name): number for number, label in enumerate(labels, start=1)}
    known = sorted(set(tables.diagnosis.values()) - {""})
    missing = [label.name for label in labels if diagnosis_of(label.name) not in known]
    if missing or len(classes) < len(labels):
        raise ValueError(
            f"{folder}: several labels are the diagnoses of ISIC, but {', '.join(missing) or 'two'} "
            f"{'are' if len(missing) != 1 else 'is'} not among those that CSV files give, each once "
            f"({', '.join(known) or 'none'}); add the CSV file of the challenge, or name one label."
        )
    return classes


def _part(folder: Path, mask: Path, image: Path) -> str:
    """Part that the folders of the mask tell, the nearest first; else that of the picture."""
    for file in (mask, image):
        for name in reversed(file.parent.relative_to(folder).parts):
            if part := part_in(re.split(r"[^A-Za-z]+", name)):
                return part
    return ""


def _are_parts(folder: Path, parts: Mapping[str, str], subjects: Mapping[str, str]) -> bool:
    """True if what folders tell is a split: several parts, one for each picture, no subject in two of them."""
    if len(set(parts.values()) - {""}) < 2:
        return False
    untold = [identity for identity, part in parts.items() if not part]
    parts_of: dict[str, set[str]] = defaultdict(set)
    for identity, subject in subjects.items():
        parts_of[subject].add(parts[identity])
    divided = [subject for subject, its in parts_of.items() if len(its) > 1]
    if untold or divided:
        why = f"none is told for {some(untold)}" if untold else f"pictures of {some(divided)} are in two"
        log.warning("%s: training, validation and test are not taken from the folders' names: %s.", folder, why)
    return not untold and not divided


def _nearest(folder: Path, images: Sequence[Path], mask: Path) -> Path:
    """Of several copies of a picture (2016 has one for each task), the one in the folder named most like the mask's."""

    def likeness(image: Path) -> int:
        places = [file.parent.relative_to(folder).as_posix() for file in (image, mask)]
        return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(*places))))

    *_, second, best = [None, *sorted(images, key=likeness)]
    if second is not None and likeness(second) == likeness(best):
        raise ValueError(f"{second} and {best} may both be the picture of {mask}; give the folder of one challenge.")
    return best

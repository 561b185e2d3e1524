"""The reader "brats": folders of the brain tumour challenges BraTS, as they are downloaded.

Cases are found anywhere below the folder by the names of their files, ``.nii`` or ``.nii.gz``: until 2021
``<case>_t1``, ``_t1ce``, ``_t2``, ``_flair`` and ``_seg``, since 2023 ``<case>-t1n``, ``-t1c``, ``-t2w``, ``-t2f`` and
``-seg``. Channels are T1, T1ce, T2, FLAIR, in this order, unless the configuration names sequences in another one.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.file_case import FileCase, RaterFile
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.challenges import plain, put, seen_below, sequences_asked
from AmbiguousSegLib.layouts.names import by_number, subject_finder, tell_left_out, walk

log = logging.getLogger(__name__)

_SEQUENCES = {
    "T1": ("t1n", "t1w", "t1native"),
    "T1ce": ("t1c", "t1gd", "t1contrast", "t1post", "t1wce"),
    "T2": ("t2w",),
    "FLAIR": ("t2f", "t2flair", "flairw"),
}
_IN_NAMES = {"t1": "T1", "t1ce": "T1ce", "t2": "T2", "flair": "FLAIR"}
_IN_NAMES |= {"t1n": "T1", "t1c": "T1ce", "t2w": "T2", "t2f": "FLAIR", "seg": "seg"}
# Files image_t1.nii.gz and so on are those of a folder for each case, whose reader knows its raters.
_FILE = re.compile(r"(?!images?_)(.+)(?:_(flair|t1|t1ce|t2|seg)|-(t2f|t1n|t1c|t2w|seg))\.nii(?:\.gz)?", re.IGNORECASE)
_MISNAMED = re.compile(r".+_segm\.nii(?:\.gz)?", re.IGNORECASE)  # W39_1998.09.19_Segm.nii of BraTS20_Training_355
_SINCE_2023 = re.compile(r"(BraTS-[A-Z]+(?:-[A-Z]+)*-\d+)-\d+", re.IGNORECASE)  # patient, and number of the scan
_CHILDREN = re.compile(r"BraTS-PEDs?-", re.IGNORECASE)
_GRADES = ("HGG", "LGG")

_CORE, _EDEMA, _ENHANCING, _CAVITY = "necrotic and non-enhancing core", "edema", "enhancing tumor", "resection cavity"
_WHOLE = (_CORE, _EDEMA, _ENHANCING)
_MEANT = {
    (_CORE,): (
        *("necroticcore", "necrotictumorcore", "necrosis", "necrotic", "nonenhancing", "nonenhancingcore"),
        *("nonenhancingtumor", "nonenhancingtumorcore", "ncr", "net", "ncrnet", "netc", "necroticandnonenhancingcore"),
        *("necroticandnonenhancingtumorcore", "necroticandnonenhancingtumor", "nonenhancingandnecroticcore"),
        *("nonenhancingnecroticcore", "necroticnonenhancingcore", "necroticnonenhancingtumorcore"),
    ),
    (_EDEMA,): (
        *("edema", "peritumoraledema", "ed", "snfh", "flairhyperintensity", "nonenhancingflairhyperintensity"),
        *("surroundingnonenhancingflairhyperintensity", "peritumoraledematousinvadedtissue"),
    ),
    (_ENHANCING,): ("enhancing", "enhancingtumor", "gdenhancingtumor", "enhancingcore", "enhancingtissue", "et"),
    (_CORE, _ENHANCING): ("tumorcore", "tc"),
    (_CAVITY,): ("resectioncavity", "cavity", "rc"),
    _WHOLE: ("tumor", "wholetumor", "wt", "braintumor", "glioma", "lesion"),
}
_BY_NAME = {name: parts for parts, names in _MEANT.items() for name in names}


@LAYOUTS.register("brats")
def recognise(folder: Path) -> Layout | None:
    """A folder that holds a case with its four sequences, at most four levels below this one."""
    case = seen_below(folder, _complete_case)
    return None if case is None else Layout(f"data of a BraTS challenge, such as {case}", channels=tuple(_SEQUENCES))


@READERS.register("brats")
def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[FileCase]:
    """All cases with a mask.

    Group: HGG or LGG, where folders are named so. Subject: the case; since 2023, when patients have several scans, its
    name without the number of the scan; or by ``subject_pattern``. A label means the part of the tumour that it names,
    see ``parts_of_labels``; all other parts are background. Cases without a mask (validation data of the challenge) or
    without a sequence are left out with a warning.

    Raises:
        ValueError: no case has a mask; two files are the same sequence of a case; labels or channels that are not
            understood; by ``subject_pattern``.
    """
    sequences = sequences_asked(config.channels, _SEQUENCES, folder)
    parts = parts_of_labels([label.name for label in labels])
    subject = subject_finder(config.subject_pattern)
    found = _files(folder)
    cases, unmarked, incomplete = [], [], []
    for (place, name), files in found.items():
        missing = [sequence for sequence in sequences if sequence not in files]
        if "seg" not in files:
            unmarked.append(name)
        elif missing:
            incomplete.append(f"{name} ({', '.join(missing)})")
        else:
            scan = _SINCE_2023.fullmatch(name)
            grades = [part.upper() for part in place.relative_to(folder).parts if part.upper() in _GRADES]
            cases.append(
                FileCase(
                    identity=name,
                    subject=scan[1] if scan and config.subject_pattern is None else subject(name),
                    images=tuple(files[sequence] for sequence in sequences),
                    raters=(RaterFile("reference", files["seg"], labels=_numbers(parts, files["seg"])),),
                    label_names=tuple(label.name for label in labels),
                    group=grades[0] if grades else "",
                    modality="MR",
                    channel_names=tuple((name, plain(name), *_SEQUENCES[name]) for name in sequences),
                )
            )
    tell_left_out(folder, unmarked, "as they have no mask (seg)")
    tell_left_out(folder, incomplete, "as a sequence is missing")
    if not cases:
        raise ValueError(
            f"{folder}: none of {len(found)} BraTS case(s) has a mask (<case>_seg.nii.gz or <case>-seg.nii.gz) and "
            f"{', '.join(sequences)}; give the training data of the challenge."
        )
    for label, own in zip(labels, parts):
        log.info("%s: the label %s marks: %s.", folder, label.name, ", ".join(own))
    return sorted(cases, key=lambda case: by_number(case.identity))


def parts_of_labels(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Parts of the tumour that each label of these names marks.

    Names are compared by letters and digits alone, "tumour" and "oedema" as "tumor" and "edema". A single label of any
    other name marks the whole tumour, which a resection cavity is no part of.

    Raises:
        ValueError: one of several labels has another name; two labels mark the same part.
    """
    plainly = [plain(name).replace("tumour", "tumor").replace("oedema", "edema") for name in names]
    parts = [_BY_NAME.get(name, _WHOLE if len(names) == 1 else ()) for name in plainly]
    marked = [part for own in parts for part in own]
    if () in parts or len(set(marked)) < len(marked):
        raise ValueError(
            f"The labels {', '.join(names)} do not say which parts of a BraTS mask they are; name one label, "
            "which is the whole tumor, or different ones of necrotic core, edema, enhancing tumor, tumor core (the "
            "necrotic core and the enhancing tumor), tumor (all of it), resection cavity."
        )
    return parts


def _numbers(parts: Sequence[tuple[str, ...]], mask: Path) -> tuple[tuple[int, int], ...]:
    """Pairs of a value in this mask and the label that it means, as ``RaterFile.labels``.

    1 is the core, 2 the edema. Until 2021 4 is the enhancing tumour, which copies renumber as 3; since 2023
    (``-seg``) 3 is the enhancing tumour and 4 the resection cavity. Masks of children number the parts in either of
    two ways, which cannot be told apart, so that there all of them are one label.
    """
    if _CHILDREN.match(mask.name):
        if list(parts) != [_WHOLE]:
            raise ValueError(
                f"{mask}: masks of BraTS-PEDs number the parts of a tumor differently in 2023 and 2024; name one "
                "label, such as tumor, which is all of it."
            )
        return tuple((value, 1) for value in range(1, 5))
    values = {1: _CORE, 2: _EDEMA, 3: _ENHANCING, 4: _CAVITY if "-seg." in mask.name.lower() else _ENHANCING}
    number = {part: label for label, own in enumerate(parts, start=1) for part in own}
    return tuple((value, number.get(part, 0)) for value, part in values.items())


def _named(name: str) -> tuple[str, str] | None:
    """Case and sequence (or "seg") of a file of this name."""
    match = _FILE.fullmatch(name)
    return match and (match[1], _IN_NAMES[(match[2] or match[3]).lower()])


def _complete_case(files: Sequence[str]) -> str | None:
    sequences: dict[str, set[str]] = defaultdict(set)
    for case, sequence in filter(None, map(_named, files)):
        sequences[case].add(sequence)
    return next((case for case, there in sequences.items() if there >= set(_SEQUENCES)), None)


def _files(folder: Path) -> dict[tuple[Path, str], dict[str, Path]]:
    """Files by sequence (and "seg") of each case, which is a folder and a name."""
    found: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
    for place, _, names in walk(folder):
        here = []
        for name in names:
            if (named := _named(name)) is not None:
                put(found[place, named[0]], named[1], place / name)
                here.append(named[0])
        others = [name for name in names if _MISNAMED.fullmatch(name)]
        if len(set(here)) == len(others) == 1 and "seg" not in found[place, here[0]]:
            found[place, here[0]]["seg"] = place / others[0]
            log.info("%s is taken for the mask of %s.", place / others[0], here[0])
    return dict(found)

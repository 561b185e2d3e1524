"""The reader "ms_challenge": the longitudinal multiple sclerosis lesion challenge of ISBI 2015, as it is downloaded.

Scans are found anywhere below the folder by the names of their files, ``.nii`` or ``.nii.gz``: the preprocessed
``training01_01_pd_pp``, ``_flair_pp``, ``_mprage_pp`` and ``_t2_pp`` (patient, time point), and a mask by each of two
raters, ``training01_01_mask1`` and ``_mask2``. Channels are PD, FLAIR, MPRAGE, T2, in this order, unless the
configuration names sequences in another one.
"""

from __future__ import annotations

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

_SEQUENCES = {"PD": ("pdw", "protondensity"), "FLAIR": ("t2flair",), "MPRAGE": ("t1", "t1w"), "T2": ("t2w",)}
_IMAGE = re.compile(r"((?:training|test)\d+_\d+)_(pd|flair|mprage|t2)_pp\.nii(?:\.gz)?", re.IGNORECASE)
_MASK = re.compile(r"((?:training|test)\d+_\d+)_mask(\d+)\.nii(?:\.gz)?", re.IGNORECASE)


@LAYOUTS.register("ms_challenge")
def recognise(folder: Path) -> Layout | None:
    """A folder that holds a preprocessed scan, at most four levels below this one."""
    scan = seen_below(folder, lambda files: next((m[1] for m in map(_IMAGE.fullmatch, files) if m), None))
    return (
        None
        if scan is None
        else Layout(f"the MS lesion challenge of ISBI 2015, such as {scan}", channels=("PD", "FLAIR", "MPRAGE", "T2"))
    )


@READERS.register("ms_challenge")
def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[FileCase]:
    """Every time point with a mask, by ``rater1`` and ``rater2``; the subject is the patient, ``training01``.

    Scans without masks (those of ``test01`` and on) or without a preprocessed sequence are left out with a warning.

    Raises:
        ValueError: several labels; no scan has masks; two files are the same sequence of a scan; channels that are not
            understood; by ``subject_pattern``.
    """
    if len(labels) > 1:
        raise ValueError(
            f"{folder}: the masks of the MS challenge show lesions and nothing else, but there are the labels "
            f"{', '.join(label.name for label in labels)}; name one."
        )
    sequences = sequences_asked(config.channels, _SEQUENCES, folder)
    subject = subject_finder(config.subject_pattern or r"^([A-Za-z]+\d+)")
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    masks: dict[str, dict[int, Path]] = defaultdict(dict)
    for place, _, names in walk(folder):
        for name in names:
            if (image := _IMAGE.fullmatch(name)) is not None:
                put(images[image[1]], image[2].upper(), place / name)
            elif (mask := _MASK.fullmatch(name)) is not None:
                put(masks[mask[1]], int(mask[2]), place / name)
    cases, incomplete = [], []
    for scan, raters in masks.items():
        missing = [sequence for sequence in sequences if sequence not in images.get(scan, {})]
        if missing:
            incomplete.append(f"{scan} ({', '.join(missing)})")
            continue
        cases.append(
            FileCase(
                identity=scan,
                subject=subject(scan),
                images=tuple(images[scan][sequence] for sequence in sequences),
                raters=tuple(RaterFile(f"rater{number}", file) for number, file in sorted(raters.items())),
                label_names=tuple(label.name for label in labels),
                modality="MR",
                channel_names=tuple((name, plain(name), *_SEQUENCES[name]) for name in sequences),
            )
        )
    tell_left_out(folder, sorted(images.keys() - masks.keys(), key=by_number), "as they have no mask")
    tell_left_out(folder, incomplete, "as a preprocessed sequence (such as _flair_pp.nii) is missing")
    if not cases:
        raise ValueError(
            f"{folder}: none of {len(images)} scan(s) has a mask (such as training01_01_mask1.nii) and, "
            f"preprocessed, {', '.join(sequences)}; give the training data of the challenge, preprocessed and masks."
        )
    return sorted(cases, key=lambda case: by_number(case.identity))

"""What a study's table says of one case: from its samples, in memory or as they lie on disk, and from its raters."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.evaluation.table import plain
from AmbiguousSegLib.files import said
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.metrics.figures import FIGURES
from AmbiguousSegLib.metrics.mask_sets import MaskSets
from AmbiguousSegLib.metrics.overlap import pairwise_label_iou
from AmbiguousSegLib.studies.rater_files import distinct_names, read_rater_masks
from AmbiguousSegLib.studies.requests import state_of
from AmbiguousSegLib.volume.crops import Crop, joint_box, stack
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes

CASE, FORMAT = "case.json", 1
RATER_FIGURES = ("ged_u", "ged_v", "ci_harmonic", "hm_iou", "mean_dice", "hd95_mm")
NOTHING, SOME_NOTHING = "nothing is marked in any sample", "some samples mark nothing"
AT_VOLUME, AT_REGION = "marked at the border of the volume", "marked at the border of what was sampled"
INPUT, FEW_SLICES = "unlike what the model was trained on", "too few slices"
FEWEST_SLICES = 4  # of a volume: fewer are a part of one, or a localiser


def sample_figures(
    samples: Sequence[Crop], geometry: Geometry, summary: Mapping[str, Any], picture: bool = False
) -> dict[str, Any]:
    """Disagreement and flags of a case, in plain JSON types.

    "disagreement" is the mean of 1 − IoU over the pairs of different samples, None with one; "empty_samples" how many
    mark nothing; "flags" a list of the constants of this module.

    Args:
        samples: all of one grid.
        summary: content of ``samples.json``.
        picture: whether the input is one, which has one slice.
    """
    n, box = len(samples), joint_box(samples)
    empty = sum(crop.empty for crop in samples)
    flags = [NOTHING] if empty == n else [SOME_NOTHING] if empty else []
    disagreement = math.nan
    if n > 1:
        inside = stack(samples, box or (slice(0, 1),) * 3)
        iou = pairwise_label_iou(inside, inside, max(1, len(summary.get("labels", ()))))
        disagreement = float(1 - (iou.sum() - n) / (n * (n - 1)))
    if box is not None:
        flags += [AT_VOLUME] if _at_border(box, [(0, length - 1) for length in geometry.shape], geometry) else []
        window, sampled = summary.get("window"), _sampled_box(geometry, summary)
        if window is not None:  # which says itself where it cut something off
            cut = bool(window.get("touches_border"))
        else:
            cut = sampled is not None and _at_border(box, sampled, geometry, inner=True)
        flags += [AT_REGION] if cut else []
    flags += [INPUT] if summary.get("input_warnings") else []
    flags += [FEW_SLICES] if not picture and geometry.size[2] < FEWEST_SLICES else []
    return {"disagreement": plain(disagreement), "empty_samples": empty, "flags": flags}


def _at_border(
    box: Sequence[slice], limits: Sequence[tuple[int, int]], geometry: Geometry, inner: bool = False
) -> bool:
    """Whether what is marked reaches the first or last index of an axis that has more than one.

    Args:
        inner: only where the limit is not the volume's own.
    """
    for span, (first, last), length in zip(box, limits, geometry.shape):
        own = length > 1
        low = span.start <= first and not (inner and first <= 0)
        high = span.stop - 1 >= last and not (inner and last >= length - 1)
        if own and (low or high):
            return True
    return False


def _sampled_box(geometry: Geometry, summary: Mapping[str, Any]) -> list[tuple[int, int]] | None:
    """First and last index along Z, Y and X of the region that was sampled; None if there was none.

    A range of slices alone is told by ``slice_range``, which counts along the model's slices: of these the axis is
    known where it is the file's own third.
    """
    region, slices = summary.get("region_lps_mm"), summary.get("slice_range")
    stored = SliceAxes.of(geometry, "stored")
    if region is not None:
        return list(stored.box(geometry, (tuple(region[0]), tuple(region[1]))))
    axial = SliceAxes.of(geometry, "axial")
    if slices is None or axial.index_axes[0] != 2:
        return None
    first, last = slices
    if axial.backwards[0]:
        first, last = geometry.size[2] - 1 - last, geometry.size[2] - 1 - first
    return [(first, last), (0, geometry.shape[1] - 1), (0, geometry.shape[2] - 1)]


def rater_state(raters: Sequence[tuple[str, Path]]) -> str:
    """Text that changes when a rater's file does, or another one is given; OSError if one is not there."""
    state = [[name, state_of(file)] for name, file in raters]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest() if raters else ""


def rater_figures(
    samples: Sequence[Crop], geometry: Geometry, labels: Sequence[Label], raters: Sequence[tuple[str, Path]]
) -> dict[str, Any]:
    """Samples against a case's raters, and raters against each other, in plain JSON types.

    "figures" by the keys ``RATER_FIGURES``, of all classes together; "raters" with name and volume in mL; "pairs" with
    the Dice of each two of them. What cannot be read or compared leaves these empty, and "problem" says why.

    Args:
        raters: name and file of each; of a file without a name, the names that stand in it count.
    """
    try:
        names, drawn = _read(raters, geometry, labels)
    except (OSError, ValueError, ImportError, MemoryError) as error:
        return {"figures": {}, "raters": [], "pairs": [], "problem": f"Raters were not compared: {said(error)}"}
    box = joint_box([*samples, *drawn]) or (slice(0, 1),) * 3
    of_samples, of_raters = stack(samples, box), stack(drawn, box)
    spacing: tuple[float, ...] = geometry.spacing_mm[::-1]
    if geometry.size[2] == 1:  # a picture is judged in its plane
        of_samples, of_raters, spacing = of_samples[:, 0], of_raters[:, 0], spacing[1:]
    voxel_ml = geometry.voxel_volume_ml
    sets = MaskSets(of_samples, of_raters, len(labels), spacing_mm=spacing, voxel_volume_ml=voxel_ml)
    dice = sets.among_raters.dice
    return {
        "figures": {key: plain(float(FIGURES[key].compute(sets))) for key in RATER_FIGURES},
        "raters": [
            {"name": name, "volume_ml": float(np.count_nonzero(mask) * voxel_ml)}
            for name, mask in zip(names, of_raters)
        ],
        "pairs": [
            {"raters": [names[a], names[b]], "dice": float(dice[a, b])}
            for a in range(len(names))
            for b in range(a + 1, len(names))
        ],
        "problem": "",
    }


def _read(
    raters: Sequence[tuple[str, Path]], geometry: Geometry, labels: Sequence[Label]
) -> tuple[list[str], list[Crop]]:
    found = []
    named: list[str | None] = []
    for name, file in raters:
        own = read_rater_masks(file, geometry, labels)
        if name and len(own) > 1:
            raise ValueError(f"{file} holds {len(own)} raters, but is given as that of {name}; list it under 'raters'.")
        found += own
        named += [name] if name else [None] * len(own)
    names = [given or own for given, own in zip(named, distinct_names(found))]
    if len(set(names)) < len(names):
        raise ValueError(f"Two raters are named {max(names, key=names.count)}; rename one.")
    return names, [rater.crop for rater in found]

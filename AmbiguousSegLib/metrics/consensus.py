"""Two consensuses: what most samples mark, against what most raters mark."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from AmbiguousSegLib.label_maps import class_mask, label_map_of
from AmbiguousSegLib.metrics.figures import MaskSets, figure
from AmbiguousSegLib.metrics.overlap import Counts, pairwise_counts

_ROUNDING = 1e-9  # sums of shares of one pixel; different shares of N masks differ by 1/N
_BOTH = "what more than half of the samples mark with what more than half of the raters mark"
_FOUND = "what more than half of the samples mark that more than half of the raters mark too"
_KNOWN = "what more than half of the raters mark that more than half of the samples mark too"


@figure("dice_consensus", "Dice cons.", f"Dice of {_BOTH}", "higher", tables=[])
def consensus_dice(sets: MaskSets) -> float:
    """In [0, 1]; both empty: 1, one empty: 0. Several classes: mean over those present in either consensus, or 1."""
    return _of_consensuses(sets, Counts.dice)


@figure("precision_consensus", "precision cons.", f"share of {_FOUND}", "higher", tables=[])
def consensus_precision(sets: MaskSets) -> float:
    """TP / (TP + FP) with the raters' consensus as the truth (DiffSeg Eq. 13c); empty and several: as Dice."""
    return _of_consensuses(sets, Counts.precision)


@figure("recall_consensus", "recall cons.", f"share of {_KNOWN}", "higher", tables=[])
def consensus_recall(sets: MaskSets) -> float:
    """TP / (TP + FN) with the raters' consensus as the truth (DiffSeg Eq. 13d); empty and several: as Dice."""
    return _of_consensuses(sets, Counts.recall)


def _of_consensuses(sets: MaskSets, overlap: Callable[[Counts], np.ndarray]) -> float:
    """A figure of the counts of the samples' consensus with the raters', averaged over classes present in either."""
    if len(sets.labels) == 1:
        ours, theirs = (masks.mean(axis=0) > 0.5 for masks in sets.masks(sets.labels[0]))
        return float(overlap(pairwise_counts(ours[None], theirs[None]))[0, 0])
    maps = [
        label_map_of(np.stack([pair[side].mean(axis=0) for pair in map(sets.masks, sets.labels)]), _ROUNDING)
        for side in (0, 1)
    ]
    present = [label for label in sets.labels if any((m == label).any() for m in maps)]
    found = []
    for label in present:
        ours, theirs = (class_mask(m, label, sets.classes)[None] for m in maps)
        found.append(overlap(pairwise_counts(ours, theirs))[0, 0])
    return float(np.mean(found)) if found else 1.0

"""The Dice of two consensuses: what most samples mark, against what most raters mark."""

from __future__ import annotations

import numpy as np

from AmbiguousSegLib.label_maps import class_mask, label_map_of
from AmbiguousSegLib.metrics.figures import MaskSets, figure
from AmbiguousSegLib.metrics.overlap import pairwise_counts

_ROUNDING = 1e-9  # sums of shares of one pixel; different shares of N masks differ by 1/N


@figure(
    "dice_consensus",
    "Dice cons.",
    "Dice of what more than half of the samples mark with what more than half of the raters mark",
    "higher",
    tables=[],
)
def consensus_dice(sets: MaskSets) -> float:
    """In [0, 1]; both empty: 1, one empty: 0. Several classes: mean over those present in either consensus, or 1."""
    if len(sets.labels) == 1:
        ours, theirs = (masks.mean(axis=0) > 0.5 for masks in sets.masks(sets.labels[0]))
        return float(pairwise_counts(ours[None], theirs[None]).dice()[0, 0])
    maps = [
        label_map_of(np.stack([pair[side].mean(axis=0) for pair in map(sets.masks, sets.labels)]), _ROUNDING)
        for side in (0, 1)
    ]
    present = [label for label in sets.labels if any((m == label).any() for m in maps)]
    found = []
    for label in present:
        ours, theirs = (class_mask(m, label, sets.classes)[None] for m in maps)
        found.append(pairwise_counts(ours, theirs).dice()[0, 0])
    return float(np.mean(found)) if found else 1.0

"""Samples of neighbouring slices paired anew, so that each sample is a coherent shape where its noise left it ragged.

In every slice the samples are put into another order; the set of masks of a slice stays what it was, and with it all
that follows from slices alone: mean, variance, each slice's distribution. Which mask belongs to which sample then
depends on how many samples there are.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from AmbiguousSegLib.boxes import bounding_box
from AmbiguousSegLib.label_maps import class_mask
from AmbiguousSegLib.metrics.overlap import Counts, pairwise_counts


def order_of(slices: np.ndarray, classes: int = 1, start: int | None = None) -> np.ndarray:
    """Which mask of each slice every sample takes: int ``(Z, N)``, a permutation of 0 to N − 1 in each row.

    From the slice ``start`` outwards, in both directions: the masks of the next slice are given to the samples so that
    the sum over the samples of the Dice of a sample's two neighbouring masks is largest (the assignment problem; Kuhn
    1955). Two empty masks agree, Dice 1; a mask and an empty one do not, Dice 0. Dice of several classes is the mean
    over those that either mask has.

    Args:
        slices: label maps, uint8 ``(N, Z, rows, columns)``, slices along the second axis.
        classes: K.
        start: number of the slice in which the samples keep their masks; None: that in which they mark most.

    Raises:
        ValueError: a slice that there is not.
    """
    n, count = slices.shape[:2]
    if start is None:
        start = int(np.count_nonzero(slices, axis=(0, 2, 3)).argmax())
    if not 0 <= start < count:
        raise ValueError(f"start must be one of {count} slices, counted from 0, got {start}.")
    order = np.empty((count, n), np.intp)
    order[start] = np.arange(n)
    for step in (1, -1):
        for z in range(start + step, count if step > 0 else -1, step):
            inner, outer = slices[order[z - step], z - step], slices[:, z]
            order[z] = linear_sum_assignment(_dice(inner, outer, classes), maximize=True)[1]
    return order


def link(slices: np.ndarray, classes: int = 1, start: int | None = None) -> None:
    """Put the masks of every slice into the order that ``order_of`` finds; arguments as there, changed in place."""
    for z, own in enumerate(order_of(slices, classes, start)):
        slices[:, z] = slices[own, z]


def _dice(a: np.ndarray, b: np.ndarray, classes: int) -> np.ndarray:
    """Dice of all pairs of label maps ``(N, rows, columns)``: float64 ``(N, N)``."""
    box = bounding_box(np.concatenate([a, b]).max(axis=0))
    if box is None:
        return np.ones((len(a), len(b)))
    a, b = (np.ascontiguousarray(masks[(slice(None), *box)]) for masks in (a, b))
    labels = range(1, classes + 1)
    counts = Counts.of_classes([pairwise_counts(class_mask(a, k, classes), class_mask(b, k, classes)) for k in labels])
    return counts.mean_over_present(counts.dice(), none=1.0)

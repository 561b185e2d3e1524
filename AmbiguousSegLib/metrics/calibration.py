"""Calibration: whether what the samples say in p of the cases is what the raters say in p of the cases."""

from __future__ import annotations

import numpy as np

from AmbiguousSegLib.metrics.figures import MaskSets, figure
from AmbiguousSegLib.metrics.surface import box_of_both

BINS = 10
_EDGE = 1e-9  # a share k/n at the edge of a bin belongs to the upper one, however it was rounded


@figure(
    "calibration_error",
    "ECE",
    "calibration error of the mean map: |share of samples − share of raters| that mark a pixel, over ten bins of the "
    "former, weighted by the pixels of the box that holds all marks",
    "lower",
)
def expected_calibration_error(sets: MaskSets) -> float:
    """ECE of the mean maps of samples against the frequency among raters, in [0, 1]; nothing marked: 0.

    Bins are of equal width, the last with its upper end. Several classes: one box, and the pixels of all classes that
    any sample or rater marks are pooled.
    """
    n, m = len(sets.samples), len(sets.raters)
    says, is_so = counts_in_box(sets)
    return float(error_of(bin_sums(says / n, is_so / m)))


def counts_in_box(sets: MaskSets) -> tuple[np.ndarray, np.ndarray]:
    """How many samples, and how many raters, mark each pixel of the smallest box that holds all marks: int64 ``(n,)``.

    Several classes: one box, and one after the other the classes that any sample or rater marks. Nothing marked: none.
    """
    marked = sets.marked()
    box = box_of_both(marked[0].any(axis=0), marked[1].any(axis=0))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for label in sets.labels:
        says, is_so = (masks[(slice(None), *box)].sum(axis=0, dtype=np.int64).ravel() for masks in sets.masks(label))
        if says.any() or is_so.any():
            found.append((says, is_so))
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *(says for says, _ in found)]), np.concatenate([none, *(so for _, so in found)])


def bin_sums(predicted: np.ndarray, observed: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """Sums of the weights, of what is predicted and of what is observed, weighted, over the bins: float64 (3, BINS).

    Args:
        predicted, observed: float ``(n,)`` in [0, 1]; a bin is chosen by what is predicted.
        weights: ``(n,)``, or one for all.
    """
    bins = np.minimum((BINS * predicted + _EDGE).astype(int), BINS - 1)
    weights = np.broadcast_to(weights, predicted.shape)
    parts = weights, weights * predicted, weights * observed
    return np.stack([np.bincount(bins, part, BINS) for part in parts])


def error_of(sums: np.ndarray) -> np.ndarray:
    """ECE of sums ``(3, BINS, …)`` as ``bin_sums`` gives them, added up over cases: float64 ``(…)``; no weight: 0."""
    weights, predicted, observed = sums
    total = weights.sum(axis=0)
    return np.abs(predicted - observed).sum(axis=0) / np.where(total > 0, total, 1.0)

"""Calibration: whether what the samples say in p of the cases is what the raters say in p of the cases."""

from __future__ import annotations

import numpy as np

from AmbiguousSegLib.metrics.figures import MaskSets, figure
from AmbiguousSegLib.metrics.surface import box_of_both

BINS = 10


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
    marked = sets.marked()
    box = box_of_both(marked[0].any(axis=0), marked[1].any(axis=0))
    n, m = len(sets.samples), len(sets.raters)
    pixels, predicted, observed = np.zeros((3, BINS))
    for label in sets.labels:
        says, is_so = (masks[(slice(None), *box)].sum(axis=0, dtype=np.int64).ravel() for masks in sets.masks(label))
        if not (says.any() or is_so.any()):
            continue
        bins = np.minimum(BINS * says // n, BINS - 1)  # whole numbers: no rounding at the edge of a bin
        pixels += np.bincount(bins, minlength=BINS)
        predicted += np.bincount(bins, says, BINS) / n
        observed += np.bincount(bins, is_so, BINS) / m
    total = pixels.sum()
    return float(np.abs(predicted - observed).sum() / total) if total else 0.0

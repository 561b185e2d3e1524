"""How well the distribution of the samples' volumes tells the raters' volumes."""

from __future__ import annotations

import math

import numpy as np

from AmbiguousSegLib.metrics.figures import MaskSets, figure
from AmbiguousSegLib.metrics.mask_sets import VOLUME


def crps(values: np.ndarray, observed: np.ndarray) -> float:
    """Continuous ranked probability score of an ensemble, mean over observations; one member: nan.

    Mean |V − v| less half the mean |V − V'| over the pairs of different members: the fair estimator, whose expectation
    does not depend on the number of members; it may be negative (Gneiting and Raftery 2007, Eq. 21; Ferro 2014).

    Args:
        values: float ``(N,)``, the ensemble.
        observed: float ``(M,)``.
    """
    n = len(values)
    if n == 1:
        return math.nan
    spread = np.abs(values[:, None] - values).sum() / (n * (n - 1))
    return float(np.abs(values[:, None] - observed).mean() - spread / 2)


@figure(
    "volume_crps_ml",
    "CRPS mL",
    "how far the distribution of the samples' volumes is from a rater's volume: E|V − v| − ½ E|V − V′| in mL, over the "
    "pairs of different samples, mean over raters",
    "lower",
    "mL",
    needs=[VOLUME],
)
def _(sets: MaskSets) -> float:
    volumes = (np.array([np.count_nonzero(mask) for mask in masks]) * sets.voxel_volume_ml for masks in sets.marked())
    return crps(*volumes)

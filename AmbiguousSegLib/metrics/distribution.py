"""How well a set of sampled masks agrees with the set of masks that several raters drew.

Throughout, ``samples`` is bool ``(N, *spatial)`` and ``raters`` bool ``(M, *spatial)``, whatever ``np.asarray`` takes,
on one grid, N and M ≥ 1; empty masks are valid. Results are Python floats, nan where a figure is undefined (missing).
``ValueError`` is raised for masks that are not bool, an empty set, or grids that differ.

Each figure is also a function of the IoU or Dice of all pairs (``…_of``), from which `figures` makes those of several
classes. CIMD is Rahman et al., CVPR 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from AmbiguousSegLib.metrics.overlap import Counts, as_mask_set, matched_mean, pairwise_counts, recall

ESTIMATORS = ("v", "u")
READINGS = ("dice", "pixel_variance")
_CHUNK_ELEMENTS = 2**22


@dataclass(frozen=True)
class GED:
    """Squared generalized energy distance and its parts, with d = 1 − IoU (CIMD Eq. 24).

    Attributes:
        cross: E d(S, Y) over all pairs of a sample and a rater, in [0, 1].
        within_samples: E d(S, S'), the spread of the samples, in [0, 1]; shown wherever ``value`` is shown.
        within_raters: E d(Y, Y') over all M² ordered pairs of raters, in [0, 1].
        estimator: how E d(S, S') is estimated. ``"v"``: over all N² ordered pairs, as papers do, which adds
            E d(S, S')/N to ``value``. ``"u"``: over the N(N − 1) pairs of different samples, unbiased against the
            observed raters; it may be negative, and with one sample it is undefined.
    """

    cross: float
    within_samples: float
    within_raters: float
    estimator: str

    @property
    def value(self) -> float:
        """GED² = 2 E d(S, Y) − E d(S, S') − E d(Y, Y'); nan where E d(S, S') is undefined."""
        return 2 * self.cross - self.within_samples - self.within_raters


def ged(samples: ArrayLike, raters: ArrayLike, estimator: str = "v") -> GED:
    """Squared generalized energy distance (CIMD Eq. 24). Never compare values at different N or of two estimators."""
    cross, within_samples, within_raters = _pairs(samples, raters)
    return ged_of(cross.iou(), within_samples.iou(), within_raters.iou(), estimator)


def ged_of(cross_iou: np.ndarray, samples_iou: np.ndarray, raters_iou: np.ndarray, estimator: str) -> GED:
    """GED² from the IoU of all pairs: float ``(N, M)``, ``(N, N)`` and ``(M, M)``."""
    if estimator not in ESTIMATORS:
        raise ValueError(f"The estimator of GED must be one of {ESTIMATORS}, got {estimator!r}.")
    n = len(samples_iou)
    pairs = n * n if estimator == "v" else n * (n - 1)
    spread = float((1 - samples_iou).sum()) / pairs if pairs else math.nan  # d(S, S) = 0: the diagonal adds nothing
    return GED(float(1 - cross_iou.mean()), spread, float(1 - raters_iou.mean()), estimator)


def combined_sensitivity(samples: ArrayLike, raters: ArrayLike) -> float:
    """S_c: recall of the union of the samples against the union of the raters, in [0, 1] (CIMD Eq. 18–19).

    1 where all raters are empty, whatever the samples mark, by the text before Eq. 19 (which prints 0/0 there).
    """
    union = as_mask_set(raters, "raters").any(0)
    return float(recall(as_mask_set(samples, "samples").any(0), union)) if union.any() else 1.0


def dice_max(samples: ArrayLike, raters: ArrayLike) -> float:
    """D_max: mean over raters of the best Dice that any sample reaches, in [0, 1] (CIMD Eq. 20–22)."""
    return dice_max_of(pairwise_counts(samples, raters).dice())


def dice_max_of(cross_dice: np.ndarray) -> float:
    """D_max from the Dice of all pairs of a sample and a rater, float ``(N, M)``."""
    return float(cross_dice.max(axis=0).mean())


def diversity_agreement(samples: ArrayLike, raters: ArrayLike, reading: str = "dice") -> float:
    """D_a = 1 − (ΔV_max + ΔV_min)/2 in [0, 1] (CIMD Eq. 23); one rater or one sample: nan.

    ΔV_max and ΔV_min are the absolute differences between raters and samples in the largest and smallest V of two
    different masks of the set. The paper calls V the variance between two raters and does not define it:

    Args:
        reading: ``"dice"``: V = 1 − Dice. ``"pixel_variance"``: the variance of a pixel's two values, averaged over
            the pixels, |A △ B|/(4 · pixels); near 0 for small lesions, so that D_a is near 1 whatever is sampled.
    """
    if reading not in READINGS:
        raise ValueError(f"The reading of D_a must be one of {READINGS}, got {reading!r}.")
    _, *sets = _pairs(samples, raters)  # both sets' grids are checked
    if reading == "dice":
        return diversity_agreement_of(*(1 - pairs.dice() for pairs in sets))
    return diversity_agreement_of(*(pairs.difference() / (4 * pairs.pixels) for pairs in sets))


def diversity_agreement_of(samples_v: np.ndarray, raters_v: np.ndarray) -> float:
    """D_a from V of all pairs of samples, float ``(N, N)``, and of raters, ``(M, M)``; one of either: nan."""
    if len(samples_v) == 1 or len(raters_v) == 1:
        return math.nan
    different = [v[np.triu_indices(len(v), k=1)] for v in (samples_v, raters_v)]
    (max_s, min_s), (max_y, min_y) = ((float(v.max()), float(v.min())) for v in different)
    return 1 - (abs(max_y - max_s) + abs(min_y - min_s)) / 2


def ci_printed(s_c: float, d_max: float, d_a: float) -> float:
    """CI as CIMD Eq. 17 prints it, 3abc/(a + b + c) in [0, 1]: not a harmonic mean. All parts 0: 0; any nan: nan."""
    a, b, c = _unit_parts(s_c, d_max, d_a)
    return 3 * a * b * c / (a + b + c) if a + b + c != 0 else 0.0


def ci_harmonic(s_c: float, d_max: float, d_a: float) -> float:
    """CI as the text of CIMD Eq. 17 says, 3/(1/a + 1/b + 1/c) in [0, 1]. Any part 0: 0, its limit; any nan: nan."""
    parts = _unit_parts(s_c, d_max, d_a)
    if any(math.isnan(part) for part in parts):
        return math.nan
    return 3 / sum(1 / part for part in parts) if min(parts) > 0 else 0.0


def hm_iou(samples: ArrayLike, raters: ArrayLike) -> float:
    """Hungarian-matched IoU in [0, 1]: both sets repeated to lcm(N, M) and assigned to maximise the mean IoU."""
    return matched_mean(pairwise_counts(samples, raters).iou())


def sample_spread(maps: ArrayLike) -> float:
    """Mean over all N² ordered pairs of the root mean squared difference of two maps (DiffSeg Eq. 5–7).

    DiffSeg calls it GED; it has no reference term. Pairs of a map with itself count as 0, as in Eq. 5. Its range, given
    there as [0, √2/2]: of N masks k mark a pixel, and k(N − k) ≤ ⌊N²/4⌋ of the pairs differ in it; the mean of roots is
    at most the root of the mean. So (N − 1)/N · √(2⌊N²/4⌋ / (N(N − 1))) bounds the figure, √((N − 1)/(2N)) for even N;
    reached where every half of the masks marks as many pixels. √2/2 is the limit, which no N reaches.

    Args:
        maps: ``(N, *spatial)``, bool, or float and finite, such as probabilities in [0, 1].

    Returns:
        a value in [0, bound · range of the maps].

    Raises:
        ValueError: maps that are neither bool nor float, not finite, or no map.
    """
    values = np.asarray(maps)
    if values.dtype == bool:
        pairs = pairwise_counts(values, values)
        return sample_spread_of(pairs.difference() / pairs.pixels)
    if values.dtype.kind != "f" or values.ndim < 2 or values.size == 0 or not np.isfinite(values).all():
        odd = values.dtype.kind == "f" and not np.isfinite(values).all()
        raise ValueError(
            f"maps must be (N, *spatial), bool or finite float, N ≥ 1, got {values.dtype} {values.shape}"
            f"{' with nan or inf' if odd else ''}. Scale label values to [0, 1] first."
        )
    flat = values.reshape(len(values), -1)
    squared = np.zeros((len(flat), len(flat)))
    step = max(1, _CHUNK_ELEMENTS // len(flat))
    for start in range(0, flat.shape[1], step):
        part = flat[:, start : start + step].astype(np.float64)
        squared += cdist(part, part, "sqeuclidean")  # differences first: |p|² + |q|² − 2pq would lose small ones
    return sample_spread_of(squared / flat.shape[1])


def sample_spread_of(mean_squared: np.ndarray) -> float:
    """Spread from the mean squared difference of all pairs of samples, float ``(N, N)``."""
    return float(np.sqrt(mean_squared).mean())


def _pairs(samples: ArrayLike, raters: ArrayLike) -> tuple[Counts, Counts, Counts]:
    """Counts of samples with raters, of samples with samples, of raters with raters."""
    samples, raters = as_mask_set(samples, "samples"), as_mask_set(raters, "raters")
    return pairwise_counts(samples, raters), pairwise_counts(samples, samples), pairwise_counts(raters, raters)


def _unit_parts(*parts: float) -> tuple[float, ...]:
    if any(part < 0 or part > 1 for part in parts):
        raise ValueError(f"S_c, D_max and D_a must lie in [0, 1] or be nan, got {parts}. Divide percentages by 100.")
    return parts

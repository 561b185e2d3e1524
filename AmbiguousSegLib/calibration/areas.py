"""From the areas of samples to where the area of a reader who outlines something lies, and by how much it misses.

Conformalized quantile regression (Romano, Patterson & Candès 2019, Eq. 6) with the samples as the regression: the score
of an outline is how far its log area lies beyond two percentiles of the samples' log areas, here in units of a scale
of the case, so that a case on which samples agree gets a narrow interval (as CQR-r of Sesia & Candès 2020). Any choice
of percentiles and scale covers alike; how wide the intervals are is what they decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.metrics.order_statistics import least_draws

QUARTILES = (25, 75)
LEAST = least_draws(0.5)
"""Samples that outline something, below which there is no interval: 3, whose range holds one more in half of the cases;
that of two does in a third. The quartiles, half the distance of which is the scale, hold one more in
(n − 1)/(2·(n + 1)): .25 with 3, .44 with 16, half only with many. The factor, of the same n, makes up for it."""
TAILS = 1.25
"""Share beyond each end, of what an interval leaves out: 25 % for 80 %, 6.25 % for 95 %. More than the half that the
interval itself leaves there, because the factor widens it anyway, and far percentiles of few samples are noise."""
READERS_SCALE = 0.2
"""Added to the scale. Readers differ where all samples agree: without it such a case has an interval of no width, and
the factor that makes up for it would widen those of all others."""
VOLUME = 1.5
"""Power of an area that a volume of the same shape goes by."""


@dataclass(frozen=True)
class LogArea:
    """Where log areas of readers lie: between ``low`` and ``high``, or some multiple of ``scale`` beyond."""

    low: float
    high: float
    scale: float

    def score(self, sizes: np.ndarray) -> np.ndarray:
        """How many scales the logs of these sizes, float ``(n,)`` above 0, lie beyond; below 0 inside: float64 (n,)."""
        logs = np.log(sizes)
        return np.maximum(self.low - logs, logs - self.high) / self.scale

    def interval(self, factor: float) -> tuple[float, float]:
        """The sizes whose score is at most ``factor``, 0 or more: least and greatest."""
        reach = factor * self.scale
        return math.exp(self.low - reach), math.exp(self.high + reach)


def log_area(sizes: np.ndarray, level: float, power: float = 1.0) -> LogArea | None:
    """Percentiles and scale of the logs of the sizes above 0; None: fewer than ``LEAST`` are.

    Percentiles, by linear interpolation, leave ``TAILS``·(1 − level) beyond each end. The scale is √(h² + r²), h half
    the distance of the quartiles, r = ``READERS_SCALE``.

    Args:
        sizes: of the samples, 0 for an empty one: float ``(N,)``.
        level: of the interval, in (0, 1); below .6 both ends are the median.
        power: of an area that the sizes go by: 1, or ``VOLUME``; r is multiplied by it.
    """
    marked = sizes[sizes > 0]
    if len(marked) < LEAST:
        return None
    tail = 100 * min(TAILS * (1 - level), 0.5)
    low, first, third, high = np.percentile(np.log(marked), (tail, *QUARTILES, 100 - tail))
    return LogArea(float(low), float(high), math.hypot((third - first) / 2, power * READERS_SCALE))


def plain_ends(sizes: np.ndarray, level: float) -> tuple[float, float, float] | None:
    """Ends and, between them, median of the samples' own interval: percentiles of the sizes above 0; None: too few.

    What an interval of readers is held against is this one, widened about its median by one factor for all cases.
    """
    marked = sizes[sizes > 0]
    if len(marked) < LEAST:
        return None
    low, middle, high = np.percentile(marked, (50 * (1 - level), 50, 50 * (1 + level)))
    return float(low), float(middle), float(high)


def plain_scores(ends: tuple[float, float, float], sizes: np.ndarray) -> np.ndarray:
    """By what factor the interval must be widened to reach each of these sizes: float64 (n,); inf: no factor does."""
    low, middle, high = ends
    beyond = np.abs(sizes - middle)
    reach = np.where(sizes < middle, middle - low, high - middle)
    return np.where(beyond > 0, np.divide(beyond, reach, out=np.full(len(beyond), math.inf), where=reach > 0), 0.0)


def plain_interval(sizes: np.ndarray, level: float, factor: float | None) -> tuple[float, float] | None:
    """The samples' own interval, widened: least and greatest size; None without an interval or a factor."""
    ends = plain_ends(sizes, level)
    if ends is None or factor is None:
        return None
    low, middle, high = ends
    return max(0.0, middle - factor * (middle - low)), middle + factor * (high - middle)

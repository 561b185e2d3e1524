"""Intervals of figures of a benchmark by the bootstrap over patients and over trainings.

Both are drawn with replacement (crossed: every training judged the same patients): a patient brings all its cases, a
training all its figures. Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

REPLICATES = 10_000
LEVELS = (2.5, 97.5)  # percentiles: an interval of 95 %
_SEEDS = 1  # stream of random numbers, beside that of the patients


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval of 95 %; nan where it is undefined."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Sums:
    """What is summed over cases, and the figure of the sums.

    Attributes:
        parts: float64 ``(parts, seeds, cases)`` without nan: what each case adds.
        combine: from sums ``(parts, …)`` to the figure ``(…)``; nan where it is undefined.
    """

    parts: np.ndarray
    combine: Callable[[np.ndarray], np.ndarray]


def mean_of(values: np.ndarray) -> Sums:
    """The mean over the cases where it is defined: float ``(seeds, cases)``, nan where it is not."""
    defined = ~np.isnan(values)
    return Sums(np.stack([np.where(defined, values, 0.0), defined.astype(float)]), _quotient)


def ratio_of(numerator: np.ndarray, denominator: np.ndarray) -> Sums:
    """The ratio of the means over the cases where both are defined; both float ``(seeds, cases)``."""
    defined = ~(np.isnan(numerator) | np.isnan(denominator))
    return Sums(np.stack([np.where(defined, side, 0.0) for side in (numerator, denominator)]), _quotient)


def correlation_of(pairs: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> Sums:
    """Pearson's correlation over all pairs of numbers of all cases.

    Args:
        pairs: for each seed and case two arrays of one length, which may be 0 and differ between cases.
    """
    parts = [[_moments(np.asarray(x, float), np.asarray(y, float)) for x, y in cases] for cases in pairs]
    return Sums(np.moveaxis(np.array(parts), -1, 0), _pearson)


class Bootstrap:
    """Draws of patients that all figures of a table share, so that differences are paired by patient.

    Args:
        subjects: of each case, in their order.
        replicates: how many draws.
        seed: of the draws.

    Raises:
        ValueError: no case.
    """

    def __init__(self, subjects: Sequence[str], replicates: int = REPLICATES, seed: int = 0) -> None:
        if not subjects:
            raise ValueError("A bootstrap needs one case or more, got none; choose another part or subset.")
        names, self._place = np.unique(list(subjects), return_inverse=True)
        self.patients, self.replicates, self._seed = len(names), replicates, seed
        rng = np.random.default_rng([seed, 0])
        self.weights = rng.multinomial(self.patients, np.full(self.patients, 1 / self.patients), replicates).astype(
            float
        )

    def seed_weights(self, seeds: int, stream: int) -> np.ndarray:
        """How often each of the trainings of a system is drawn: float64 ``(replicates, seeds)``.

        Args:
            stream: of random numbers; two systems of different streams are drawn independently of each other.
        """
        rng = np.random.default_rng([self._seed, _SEEDS, stream])
        return rng.multinomial(seeds, np.full(seeds, 1 / seeds), self.replicates).astype(float)

    def draws(self, sums: Sums, stream: int = 0) -> np.ndarray:
        """The figure in every draw: float64 ``(replicates,)``, the mean over the trainings drawn."""
        of_patients = self._by_patient(sums.parts)
        drawn = sums.combine(np.einsum("rp,ksp->krs", self.weights, of_patients, optimize=True))
        return _weighted_mean(drawn, self.seed_weights(drawn.shape[1], stream))

    def estimate(self, sums: Sums, stream: int = 0) -> Estimate:
        """The figure, a mean over the trainings, and its interval."""
        return _estimate(value_of(sums), self.draws(sums, stream))

    def difference(self, sums: Sums, other: Sums, streams: tuple[int, int] = (0, 1)) -> Estimate:
        """The figure of ``sums`` less that of ``other``, patient by patient; trainings are drawn independently."""
        drawn = self.draws(sums, streams[0]) - self.draws(other, streams[1])
        return _estimate(value_of(sums) - value_of(other), drawn)

    def _by_patient(self, parts: np.ndarray) -> np.ndarray:
        if parts.shape[-1] != len(self._place):
            raise ValueError(
                f"Figures of {parts.shape[-1]} cases do not fit the {len(self._place)} cases of this bootstrap; give "
                "those of the same cases."
            )
        summed = np.zeros((*parts.shape[:-1], self.patients))
        for case, place in enumerate(self._place):
            summed[..., place] += parts[..., case]
        return summed


def value_of(sums: Sums) -> float:
    """The figure of all cases, a mean over the trainings where it is defined; nan: of none."""
    each = sums.combine(sums.parts.sum(axis=-1))
    return float(np.nanmean(each)) if not np.isnan(each).all() else math.nan


def _estimate(value: float, draws: np.ndarray) -> Estimate:
    known = draws[~np.isnan(draws)]
    if math.isnan(value) or not len(known):
        return Estimate(math.nan, math.nan, math.nan)
    low, high = np.percentile(known, LEVELS)
    return Estimate(value, float(low), float(high))


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the last axis where a value is defined; nan where none of weight is."""
    defined = ~np.isnan(values)
    return _quotient(np.stack([(np.where(defined, values, 0) * weights).sum(-1), (defined * weights).sum(-1)]))


def _quotient(sums: np.ndarray) -> np.ndarray:
    top, bottom = sums
    return np.divide(top, bottom, out=np.full(np.shape(top), math.nan), where=bottom != 0)


def _moments(x: np.ndarray, y: np.ndarray) -> list[float]:
    return [len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]


def _pearson(sums: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = sums
    spread_x, spread_y = n * xx - x * x, n * yy - y * y
    tiny = 1e-12  # of the second moments: what rounding leaves of no variation
    varied = (spread_x > tiny * n * xx) & (spread_y > tiny * n * yy)
    norm = np.sqrt(np.where(varied, spread_x * spread_y, 1.0))
    return np.where(varied, (n * xy - x * y) / norm, math.nan)

"""A calibration from samples of cases that several readers outlined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from AmbiguousSegLib.calibration.areas import log_area, plain_ends, plain_scores
from AmbiguousSegLib.calibration.conformal import conformal_quantile
from AmbiguousSegLib.calibration.logistic import Logistic, fit_logistic
from AmbiguousSegLib.calibration.parts import LEVELS, AreaFactor, Calibration, OfSamples
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.metrics.calibration import counts_in_box
from AmbiguousSegLib.metrics.mask_sets import MaskSets


@dataclass(frozen=True)
class Drawn:
    """Samples of one case and its readers' masks.

    Attributes:
        subject: whom it shows.
        samples, readers: masks of one class, uint8 or bool ``(N, H, W)`` and ``(M, H, W)``, N and M ≥ 1.
    """

    subject: str
    samples: np.ndarray
    readers: np.ndarray

    def first(self, samples: int) -> Drawn:
        """The same with its first samples alone."""
        return Drawn(self.subject, self.samples[:samples], self.readers)

    @cached_property
    def areas(self) -> np.ndarray:
        """Of the samples, in pixels: float64 ``(N,)``; 0 for an empty one."""
        return np.count_nonzero(self.samples, axis=(1, 2)).astype(float)

    @cached_property
    def readers_areas(self) -> np.ndarray:
        """Of the readers, in pixels: float64 ``(M,)``; 0 for one who outlined nothing."""
        return np.count_nonzero(self.readers, axis=(1, 2)).astype(float)

    @property
    def outlines(self) -> np.ndarray:
        """Areas of the readers who outlined something: float64 ``(outlines,)``."""
        return self.readers_areas[self.readers_areas > 0]


def fit(
    cases: Sequence[Drawn],
    numbers: Sequence[int],
    sampling: SamplerSettings | None,
    data: str,
    levels: Sequence[float] = LEVELS,
) -> Calibration:
    """Calibration for each of some numbers of samples, from cases that the model was not trained on.

    Args:
        cases: each with as many samples as the greatest of ``numbers``; the first so many are used for a smaller one.
        numbers: of samples, rising.
        sampling, data: as ``Calibration`` keeps them.
        levels: of the intervals of the area, rising.

    Raises:
        ValueError: no case, or one with fewer samples.
    """
    most = max(numbers)
    short = next((case for case in cases if len(case.samples) < most), None)
    if not cases or short is not None:
        told = "no case" if short is None else f"a case of {short.subject} with {len(short.samples)}"
        raise ValueError(f"A calibration for {most} samples needs cases with as many, got {told}; draw more.")
    fitted = [_fit_number([case.first(n) for case in cases], n, levels) for n in numbers]
    readers, outlines = sum(len(case.readers) for case in cases), sum(len(case.outlines) for case in cases)
    patients = len({case.subject for case in cases})
    return Calibration(sampling, data, len(cases), patients, readers, outlines, tuple(fitted))


def _fit_number(cases: Sequence[Drawn], samples: int, levels: Sequence[float]) -> OfSamples:
    empty = np.array([np.count_nonzero(case.areas == 0) for case in cases])
    silent = [np.count_nonzero(case.readers_areas == 0) for case in cases]
    no_outline = fit_logistic(empty, samples, silent, [len(case.readers) for case in cases])
    factors = []
    for level in levels:
        own = [None if (at := log_area(case.areas, level)) is None else at.score(case.outlines) for case in cases]
        ends = [plain_ends(case.areas, level) for case in cases]
        plain = [None if e is None else plain_scores(e, case.outlines) for e, case in zip(ends, cases)]
        factor, widened = (conformal_quantile(_by_patient(cases, scores), level) for scores in (own, plain))
        factors.append(AreaFactor(level, _finite(max(0.0, factor)), _finite(widened)))
    return OfSamples(samples, _fit_mean_map(cases, samples), no_outline, tuple(factors))


def _by_patient(cases: Sequence[Drawn], scores: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Scores of all outlines of each patient; cases without an interval have none."""
    found: dict[str, list[np.ndarray]] = {}
    for case, own in zip(cases, scores):
        if own is not None:
            found.setdefault(case.subject, []).append(own)
    return [np.concatenate(own) for own in found.values()]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _fit_mean_map(cases: Sequence[Drawn], samples: int) -> Logistic:
    """Of the pixels in the box that holds all marks of a case; it has the weight of the case's readers, so that large
    lesions do not rule."""
    said, asked = np.zeros((2, samples + 1))
    for case in cases:
        says, is_so = counts_in_box(MaskSets(case.samples, case.readers))
        if len(says):
            said += np.bincount(says, is_so, samples + 1) / len(says)
            asked += np.bincount(says, minlength=samples + 1) * len(case.readers) / len(says)
    return fit_logistic(np.arange(samples + 1), samples, np.minimum(said, asked), asked)

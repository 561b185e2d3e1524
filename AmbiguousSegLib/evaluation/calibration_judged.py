"""What of a calibration holds on cases that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from AmbiguousSegLib.calibration.areas import plain_interval
from AmbiguousSegLib.calibration.figures import intervals_of, mean_map_frequencies
from AmbiguousSegLib.calibration.fit import Drawn
from AmbiguousSegLib.calibration.parts import OfSamples
from AmbiguousSegLib.evaluation.bootstrap import Bootstrap, Estimate, Sums
from AmbiguousSegLib.metrics.calibration import BINS, bin_sums, counts_in_box, error_of
from AmbiguousSegLib.metrics.mask_sets import MaskSets

Interval = tuple[float, float]


@dataclass(frozen=True)
class Reliability:
    """What is said and what is so, over the bins of what is said: float64 ``(BINS,)``, nan where a bin is empty.

    Attributes:
        predicted, observed: means in the bin.
        weights: share of all that is in the bin.
        error: ECE, with the interval over patients.
    """

    predicted: np.ndarray
    observed: np.ndarray
    weights: np.ndarray
    error: Estimate


@dataclass(frozen=True)
class Coverage:
    """Of one level, over the outlines of a class of sizes.

    Attributes:
        level: promised.
        title: of the class of sizes.
        outlines: of readers in it that have an interval; those without one are in ``without``.
        without: outlines of cases where too few samples are not empty.
        share: of the outlines whose area lies in their interval, with the interval over patients.
        width: median width of the intervals over the median area of the outlines.
        plain_share, plain_width: the same of the samples' own interval, widened by one factor.
    """

    level: float
    title: str
    outlines: int
    without: int
    share: Estimate
    width: float
    plain_share: Estimate
    plain_width: float


@dataclass(frozen=True)
class Judged:
    """What holds of a calibration: before (shares as they are) and after for the curves; intervals by level and size.

    Attributes:
        mean_map, no_outline: before and after. Pixels are those of the box that holds all marks of a case, which share
            the weight of the case.
        brier: of "no outline" against each reader, before and after.
        coverage: of all outlines, then of each class of sizes, for each level.
    """

    mean_map: tuple[Reliability, Reliability]
    no_outline: tuple[Reliability, Reliability]
    brier: tuple[Estimate, Estimate]
    coverage: tuple[Coverage, ...]


def judge(
    entry: OfSamples, cases: Sequence[Drawn], sizes_mm: Sequence[float] = (), spacing_mm: float | None = None
) -> Judged:
    """Figures of a calibration on cases that it was not fitted on.

    Args:
        entry: for the number of samples N; the first N of each case are judged.
        cases: with N samples or more.
        sizes_mm: limits of classes of sizes, rising: diameters of the disc of the readers' mean area; they need
            ``spacing_mm``, the edge of a pixel.

    Raises:
        ValueError: no case; limits without a spacing.
    """
    if len(sizes_mm) and spacing_mm is None:
        raise ValueError(f"Classes of sizes by {list(sizes_mm)} mm need the edge of a pixel; give spacing_mm.")
    cases = [case.first(entry.samples) for case in cases]
    bootstrap, n = Bootstrap([case.subject for case in cases]), entry.samples
    pixels = [counts_in_box(MaskSets(case.samples, case.readers)) for case in cases]
    shares, silent = np.arange(n + 1) / n, entry.no_outline.frequency(np.arange(n + 1), n)

    def map_sums(curve: np.ndarray) -> list[np.ndarray]:
        return [
            bin_sums(curve[says], is_so / len(case.readers), 1 / max(1, len(says)))
            for case, (says, is_so) in zip(cases, pixels)
        ]

    empty = [int(np.count_nonzero(case.areas == 0)) for case in cases]
    nobody = [case.readers_areas == 0 for case in cases]

    def no_outline_sums(curve: np.ndarray) -> list[np.ndarray]:
        return [bin_sums(np.full(len(so), curve[k]), so.astype(float)) for k, so in zip(empty, nobody)]

    def brier(curve: np.ndarray) -> Estimate:
        parts = [[np.square(curve[k] - so).sum(), len(so)] for k, so in zip(empty, nobody)]
        return bootstrap.estimate(_ratio(parts))

    curves = mean_map_frequencies(entry)
    return Judged(
        (_reliability(bootstrap, map_sums(shares)), _reliability(bootstrap, map_sums(curves))),
        (_reliability(bootstrap, no_outline_sums(shares)), _reliability(bootstrap, no_outline_sums(silent))),
        (brier(shares), brier(silent)),
        tuple(_coverages(entry, cases, bootstrap, _classes(cases, sizes_mm, spacing_mm))),
    )


def _reliability(bootstrap: Bootstrap, sums: Sequence[np.ndarray]) -> Reliability:
    parts = np.stack(sums, axis=-1).reshape(3 * BINS, 1, len(sums))
    total = parts.sum(axis=(1, 2)).reshape(3, BINS)
    weights = total[0]
    means = np.divide(total[1:], weights, out=np.full((2, BINS), math.nan), where=weights > 0)
    error = bootstrap.estimate(Sums(parts, lambda s: error_of(s.reshape(3, BINS, *s.shape[1:]))))
    return Reliability(means[0], means[1], weights / max(weights.sum(), 1e-300), error)


def _ratio(parts: Sequence[Sequence[float]]) -> Sums:
    """Ratio of two sums, from both of each case."""
    return Sums(np.array(parts, float).T[:, None, :], _quotient)


def _quotient(sums: np.ndarray) -> np.ndarray:
    return np.divide(sums[0], sums[1], out=np.full(np.shape(sums[0]), math.nan), where=sums[1] > 0)


def _classes(
    cases: Sequence[Drawn], sizes_mm: Sequence[float], spacing_mm: float | None
) -> list[tuple[str, np.ndarray]]:
    """Title and members, bool ``(cases,)``, of each class of sizes; all of them come first."""
    outlined = np.array([len(case.outlines) > 0 for case in cases])
    found = [("all", outlined)]
    if not sizes_mm or spacing_mm is None:
        return found
    areas_px = np.array([case.outlines.mean() if len(case.outlines) else 0.0 for case in cases])
    diameters = 2 * spacing_mm * np.sqrt(areas_px / math.pi)
    edges = [0.0, *sizes_mm, math.inf]
    for low, high in pairwise(edges):
        title = f"{low:g} to {high:g} mm" if math.isfinite(high) else f"{low:g} mm and more"
        found.append((title if low else f"below {high:g} mm", outlined & (low <= diameters) & (diameters < high)))
    return found


def _coverages(
    entry: OfSamples, cases: Sequence[Drawn], bootstrap: Bootstrap, classes: Sequence[tuple[str, np.ndarray]]
) -> list[Coverage]:
    found = []
    for factor in entry.areas:
        if factor.factor is None:
            continue
        own = [_of_level(intervals_of(entry, case.areas), factor.level) for case in cases]
        plain = [plain_interval(case.areas, factor.level, factor.plain) for case in cases]
        for title, members in classes:
            outlines = [case.outlines if member else np.zeros(0) for case, member in zip(cases, members)]
            share, plain_share = (bootstrap.estimate(_ratio(_covered(outlines, ends))) for ends in (own, plain))
            given = sum(len(areas) for areas, ends in zip(outlines, own) if ends is not None)
            without = sum(map(len, outlines)) - given
            widths = _width(outlines, own), _width(outlines, plain)
            found.append(Coverage(factor.level, title, given, without, share, widths[0], plain_share, widths[1]))
    return found


def _of_level(intervals: Sequence[tuple[float, float, float]] | None, level: float) -> Interval | None:
    return next(((low, high) for own, low, high in intervals or () if own == level), None)


def _covered(outlines: Sequence[np.ndarray], ends: Sequence[Interval | None]) -> list[list[float]]:
    """Of each case how many outlines lie in its interval, of how many; 0 of 0 where there is no interval."""
    return [
        [0, 0] if one is None else [int(np.count_nonzero((one[0] <= areas) & (areas <= one[1]))), len(areas)]
        for areas, one in zip(outlines, ends)
    ]


def _width(outlines: Sequence[np.ndarray], ends: Sequence[Interval | None]) -> float:
    """Median width of the intervals of outlines by the median area of these; nan: there are none."""
    pairs = [(one[1] - one[0], area) for areas, one in zip(outlines, ends) if one is not None for area in areas]
    return float(np.divide(*np.median(pairs, axis=0))) if pairs else math.nan

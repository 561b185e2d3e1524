"""Samples against raters over a data set: the figures of each case, their averages, and the tables of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from AmbiguousSegLib.evaluation.mode_frequencies import FrequencyAgreement, frequency_agreement
from AmbiguousSegLib.evaluation.table import Column, Table, plain
from AmbiguousSegLib.metrics.distribution import DistributionAverages, DistributionMetrics, average, compare
from AmbiguousSegLib.metrics.surface import pairwise_surface_metrics

DEFINITIONS = (
    "GED² = 2 E d(S,Y) − E d(S,S') − E d(Y,Y') with d = 1 − IoU; v: over all n² pairs of samples, as papers do; "
    "u: over the n(n − 1) pairs of different samples; raters always over all m² pairs",
    "empty masks are valid: IoU and Dice of two empty masks 1, of an empty and another 0, so d(∅,∅) = 0; S_c is 1 "
    "where all raters are empty; surface distances are 0 between two empty masks, undefined where one is empty",
    "D_a reads V as 1 − Dice; CI harm. is the harmonic mean of S_c, D_max and D_a, CI printed is 3abc/(a + b + c)",
)
MEAN_DICE = "Dice is the mean over all pairs of a sample and a rater"
PROTOCOL = (
    *DEFINITIONS,
    "each figure is computed per 2-D image and averaged over the images where it is defined; those with all raters "
    "empty are included",
    f"{MEAN_DICE}; spread is the mean root mean squared difference of two samples over all n² pairs",
)
SURFACE_DEFINITION = "HD95 is the larger of the two directed 95th percentiles, ASSD the mean of both directions pooled"
SURFACE_PROTOCOL = (
    f"{SURFACE_DEFINITION}; per image the mean over the pairs of a sample and a rater where they are defined"
)
FIGURES = (
    Column("ged_v", "GED v"),
    Column("ged_u", "GED u"),
    Column("distance_samples_v", "E d(S,S') v"),
    Column("distance_raters", "E d(Y,Y')"),
    Column("ci_harmonic", "CI harm."),
    Column("ci_printed", "CI printed"),
    Column("combined_sensitivity", "S_c"),
    Column("dice_max", "D_max"),
    Column("diversity_agreement", "D_a"),
    Column("hm_iou", "HM-IoU"),
    Column("mean_dice", "Dice"),
)
SURFACE_FIGURES = (Column("hd95_mm", "HD95 mm", 2), Column("assd_mm", "ASSD mm", 2))
_SPREAD = Column("sample_spread", "spread")
_MODES = Column("mode_correlation", "mode corr.")


@dataclass(frozen=True)
class SurfaceMeans:
    """HD95 and ASSD in mm, means over the pairs where they are defined (nan: none), and how many pairs are not."""

    hd95_mm: float
    assd_mm: float
    pairs: int
    undefined_pairs: int

    @classmethod
    def of(cls, hd95_mm: np.ndarray, assd_mm: np.ndarray) -> SurfaceMeans:
        """Means of the distances of all pairs, float ``(N, M)`` each; nan where undefined."""
        undefined = int(np.isnan(hd95_mm).sum())
        return cls(_defined_mean(hd95_mm.ravel()), _defined_mean(assd_mm.ravel()), hd95_mm.size, undefined)


@dataclass(frozen=True)
class CaseResult:
    """Figures of one case.

    Attributes:
        identity: of the case.
        metrics: of samples against raters.
        surface: None where the pixel spacing is unknown.
        mode_frequencies, mode_probabilities: float ``(K,)`` where the true distribution is known, else None.
    """

    identity: str
    metrics: DistributionMetrics
    surface: SurfaceMeans | None = None
    mode_frequencies: np.ndarray | None = None
    mode_probabilities: np.ndarray | None = None

    def disagreement(self) -> tuple[float, float]:
        """Mean d over pairs of different raters, and over pairs of different samples; nan with a single one.

        Without the diagonal on either side: sets of different sizes would otherwise not be comparable.
        """
        ged, m = next(entry for entry in self.metrics.ged if entry.estimator == "u"), self.metrics.n_raters
        return (ged.within_raters * m / (m - 1) if m > 1 else math.nan, ged.within_samples)


@dataclass(frozen=True)
class Result:
    """All cases under one source of samples: a row of the summary.

    Attributes:
        name, method, sampler: as shown.
        cases: in the order of the data set.
        weights_sha256: of the model; empty where there is none.
    """

    name: str
    method: str
    sampler: str
    cases: tuple[CaseResult, ...]
    weights_sha256: str = ""

    def averages(self) -> DistributionAverages:
        return average([case.metrics for case in self.cases])

    def surface(self) -> SurfaceMeans | None:
        """Means over the cases where they are defined; counts are sums. None where the spacing is unknown."""
        known = [case.surface for case in self.cases if case.surface is not None]
        if not known:
            return None
        hd95, assd = (_defined_mean([getattr(s, key) for s in known]) for key in ("hd95_mm", "assd_mm"))
        return SurfaceMeans(hd95, assd, sum(s.pairs for s in known), sum(s.undefined_pairs for s in known))

    def modes(self) -> FrequencyAgreement | None:
        """None where the true distribution is unknown."""
        known = [case for case in self.cases if case.mode_frequencies is not None]
        if not known:
            return None
        return frequency_agreement([c.mode_frequencies for c in known], [c.mode_probabilities for c in known])

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; undefined is None."""
        surface, modes = self.surface(), self.modes()
        return plain(
            {
                "name": self.name,
                "method": self.method,
                "sampler": self.sampler,
                "weights_sha256": self.weights_sha256 or None,
                "averages": self.averages().as_dict(),
                "surface": None if surface is None else asdict(surface),
                "modes": None if modes is None else asdict(modes),
                "disagreement_correlation": self.disagreement_correlation(),
            }
        )

    def disagreement_correlation(self) -> float:
        """Pearson's over the cases between both of ``CaseResult.disagreement``; nan where it is undefined."""
        points = np.array([case.disagreement() for case in self.cases]).reshape(-1, 2)
        points = points[~np.isnan(points).any(axis=1)]
        if len(points) < 2 or (np.ptp(points, axis=0) == 0).any():
            return math.nan
        return float(np.corrcoef(points.T)[0, 1])


def evaluate_case(
    identity: str, samples: np.ndarray, raters: np.ndarray, spacing_mm: tuple[float, float] | None = None
) -> CaseResult:
    """Figures of one case: masks bool ``(N, H, W)`` and ``(M, H, W)``, pixel spacing along rows and columns.

    Raises:
        ValueError: as ``compare`` and ``pairwise_surface_metrics``.
    """
    surface = None if spacing_mm is None else surface_means(samples, raters, spacing_mm)
    return CaseResult(identity, compare(samples, raters), surface)


def surface_means(samples: np.ndarray, raters: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceMeans:
    """HD95 and ASSD over all pairs of a sample and a rater, bool ``(N, *spatial)`` and ``(M, *spatial)``."""
    return SurfaceMeans.of(*pairwise_surface_metrics(samples, raters, spacing_mm))


def summary_table(results: Sequence[Result], notes: Sequence[str] = ()) -> Table:
    """One row per result; ``notes`` come first, then what holds for every such table.

    Raises:
        ValueError: results over different cases, or with different numbers of samples: they share no column.
    """
    if len({tuple((c.identity, c.metrics.n_samples, c.metrics.n_raters) for c in r.cases) for r in results}) != 1:
        raise ValueError(
            f"The {len(results)} results of a table need the same cases, samples and raters. Evaluate them together."
        )
    averages, surfaces = [r.averages() for r in results], [r.surface() for r in results]
    modes = [r.modes() for r in results]
    surface_columns = SURFACE_FIGURES if any(s is not None for s in surfaces) else ()
    mode_columns = (_MODES,) if any(m is not None for m in modes) else ()
    columns = (Column("model", "model"), Column("method", "method"), Column("sampler", "sampler"))
    rows = []
    for result, means, surface, mode in zip(results, averages, surfaces, modes):
        row = {"model": result.name, "method": result.method, "sampler": result.sampler}
        row |= {column.key: means.mean[column.key] for column in (*FIGURES, _SPREAD)}
        row |= {column.key: getattr(surface, column.key, None) for column in surface_columns}
        rows.append(row | {column.key: getattr(mode, "correlation", None) for column in mode_columns})
    first = averages[0]
    raters = " to ".join(str(m) for m in sorted({first.n_raters[0], first.n_raters[-1]}))
    lines = [
        *notes,
        f"n = {first.n_samples} samples and m = {raters} raters per image; {first.cases} images, in "
        f"{first.all_raters_empty} of them all raters empty",
        *PROTOCOL,
        *([SURFACE_PROTOCOL] if surface_columns else ["HD95 and ASSD left out: no pixel spacing is known"]),
        *(line for result in results for line in missing_notes(result)),
    ]
    return Table((*columns, *FIGURES, *surface_columns, _SPREAD, *mode_columns), tuple(rows), tuple(lines))


def case_table(results: Sequence[Result]) -> Table:
    """One row per result and case, every figure in it."""
    rows = []
    for result in results:
        for case in result.cases:
            row = {"model": result.name, "case": case.identity, **case.metrics.as_dict()}
            row |= asdict(case.surface or SurfaceMeans(math.nan, math.nan, 0, 0))
            for key in ("mode_frequencies", "mode_probabilities"):
                values = getattr(case, key)
                row[key] = None if values is None else " ".join(f"{v:.6g}" for v in values)
            rows.append(row)
    return Table(tuple(Column(key, key) for key in rows[0]), tuple(rows))


def missing_notes(result: Result, cases: str = "images") -> list[str]:
    """Lines that say what is undefined in a result, and how often; ``cases`` is what its cases are called."""
    averages, surface, modes = result.averages(), result.surface(), result.modes()
    titles = {column.key: column.title for column in (*FIGURES, _SPREAD)}
    parts = [f"{titles[key]} in {count} {cases}" for key, count in averages.missing.items() if count and key in titles]
    if surface is not None and surface.undefined_pairs:
        parts.append(f"surface distances of {surface.undefined_pairs} of {surface.pairs} pairs")
    lines = [f"{result.name}: undefined and left out of the means: {', '.join(parts)}"] if parts else []
    if modes is not None and modes.unassigned > 0:
        lines.append(f"{result.name}: {modes.unassigned:.1%} of the samples overlap no mode")
    return lines


def _defined_mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan

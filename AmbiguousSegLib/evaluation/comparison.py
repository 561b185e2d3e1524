"""Samples against raters over a data set: the figures of each case, their averages, and the tables of both."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from AmbiguousSegLib.evaluation.mode_frequencies import FrequencyAgreement, frequency_agreement
from AmbiguousSegLib.evaluation.table import Column, Table, plain
from AmbiguousSegLib.metrics.figures import EVALUATE, FIGURES, Averages, MaskSets, available, average, figures_of
from AmbiguousSegLib.metrics.mask_sets import PLANE, SPACING

ALL_CLASSES = "all classes"
LABEL = Column("label", "label")
DEFINITIONS = (
    "GED² = 2 E d(S,Y) − E d(S,S') − E d(Y,Y') with d = 1 − IoU; v: over all n² pairs of samples, as papers do; "
    "u: over the n(n − 1) pairs of different samples; raters always over all m² pairs",
    "empty masks are valid: IoU and Dice of two empty masks 1, of an empty and another 0, so d(∅,∅) = 0; S_c is 1 "
    "where all raters are empty; surface distances are 0 between two empty masks, undefined where one is empty",
    "D_a reads V as 1 − Dice; CI harm. is the harmonic mean of S_c, D_max and D_a, CI printed is 3abc/(a + b + c)",
)
CLASSES_NOTE = (
    f"rows of a class: of its mask alone; {ALL_CLASSES}: IoU and Dice of two masks are means over the classes present "
    "in either, surface distances over those present in both (undefined where a class is in one only), S_c over those "
    "that any rater marks"
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
READING = "dice"  # of V in D_a
_OF_PAIRS = ("hd95_mm", "assd_mm")  # means over pairs: their undefined pairs are counted, not their cases
_MODES = Column("mode_correlation", "mode corr.")
_CASE_FIGURES = (  # in files of cases in this order, all others after what is known of the modes
    *("combined_sensitivity", "dice_max", "diversity_agreement", "ci_printed", "ci_harmonic", "hm_iou", "mean_dice"),
    *("sample_spread", "distance_cross", "distance_raters", "ged_v", "distance_samples_v", "ged_u"),
    *("distance_samples_u", *_OF_PAIRS),
)


@dataclass(frozen=True)
class CaseResult:
    """Figures of one case, of one class or of all.

    Attributes:
        identity: of the case.
        n_samples, n_raters: N and M.
        all_raters_empty: no rater marks anything.
        figures: by key, as ``figures_of`` gives them; nan where undefined.
        undefined_pairs: of the N · M pairs of a sample and a rater those without surface distances; None where the
            pixel spacing is unknown.
        mode_frequencies, mode_probabilities: float ``(modes,)`` where the true distribution is known, else None.
    """

    identity: str
    n_samples: int
    n_raters: int
    all_raters_empty: bool
    figures: Mapping[str, float]
    undefined_pairs: int | None = None
    mode_frequencies: np.ndarray | None = None
    mode_probabilities: np.ndarray | None = None

    @property
    def pairs(self) -> int:
        """Pairs of a sample and a rater whose surface distances were looked at."""
        return 0 if self.undefined_pairs is None else self.n_samples * self.n_raters

    def disagreement(self) -> tuple[float, float]:
        """Mean d over pairs of different raters, and over pairs of different samples; nan with a single one.

        Without the diagonal on either side: sets of different sizes would otherwise not be comparable.
        """
        m = self.n_raters
        observed = self.figures["distance_raters"] * m / (m - 1) if m > 1 else math.nan
        return observed, self.figures["distance_samples_u"]


@dataclass(frozen=True)
class Result:
    """All cases under one source of samples, of one class or of all: a row of the summary.

    Attributes:
        name, method, sampler: as shown.
        cases: in the order of the data set.
        weights_sha256: of the model; empty where there is none.
        label: the class, or ``ALL_CLASSES``; empty where there is one class.
    """

    name: str
    method: str
    sampler: str
    cases: tuple[CaseResult, ...]
    weights_sha256: str = ""
    label: str = ""

    @property
    def overall(self) -> bool:
        """Whether this is of everything that is segmented, not of one class of several."""
        return self.label in ("", ALL_CLASSES)

    def averages(self) -> Averages:
        """Mean of each figure over the cases, and in how many it is missing.

        Raises:
            ValueError: no case, or cases that differ in N: such figures mean different things and share no column.
        """
        if len({case.n_samples for case in self.cases}) > 1:
            raise ValueError("Averages need cases with one number of samples; average each on its own.")
        return average([case.figures for case in self.cases])

    def surface_pairs(self) -> tuple[int, int]:
        """Pairs whose surface distances were looked at, and how many of them are undefined."""
        return sum(case.pairs for case in self.cases), sum(case.undefined_pairs or 0 for case in self.cases)

    def modes(self) -> FrequencyAgreement | None:
        """None where the true distribution is unknown."""
        frequencies = [c.mode_frequencies for c in self.cases if c.mode_frequencies is not None]
        probabilities = [c.mode_probabilities for c in self.cases if c.mode_probabilities is not None]
        return frequency_agreement(frequencies, probabilities) if frequencies else None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; undefined is None."""
        averages, modes, (pairs, undefined) = self.averages(), self.modes(), self.surface_pairs()
        head = {"name": self.name, "method": self.method, "sampler": self.sampler}
        counts = {
            "cases": len(self.cases),
            "all_raters_empty": sum(case.all_raters_empty for case in self.cases),
            "n_samples": self.cases[0].n_samples,
            "n_raters": sorted({case.n_raters for case in self.cases}),
            "reading": READING,
        }
        surface = {key: averages.mean.get(key) for key in _OF_PAIRS} | {"pairs": pairs, "undefined_pairs": undefined}
        return plain(
            head
            | ({"label": self.label} if self.label else {})
            | {
                "weights_sha256": self.weights_sha256 or None,
                "averages": counts | asdict(averages),
                "surface": surface if pairs else None,
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


def by_label(sets: MaskSets, labels: Sequence[str]) -> dict[str, MaskSets]:
    """What tables have rows of: each class by name, then ``ALL_CLASSES``; with one class only it, under ``""``.

    Raises:
        ValueError: not one name for each class, or a class of several that is named as all of them together.
    """
    if len(labels) != sets.classes:
        raise ValueError(f"{sets.classes} classes need as many names, got {', '.join(labels)}.")
    if sets.classes == 1:
        return {"": sets}
    if ALL_CLASSES in labels:
        raise ValueError(f"A label is named {ALL_CLASSES!r}, as the rows of all labels together; rename it.")
    return {name: sets.of_class(k) for k, name in enumerate(labels, 1)} | {ALL_CLASSES: sets.of_class(None)}


def evaluate_case(identity: str, sets: MaskSets) -> CaseResult:
    """Figures of one case. ValueError: a spacing that does not fit."""
    undefined = int(np.isnan(sets.surface()[0]).sum()) if SPACING in sets.has else None
    sizes = len(sets.samples), len(sets.raters)
    return CaseResult(identity, *sizes, sets.all_raters_empty, figures_of(sets), undefined)


def figure_columns(has: Collection[str], table: str) -> tuple[Column, ...]:
    """Columns of the figures of a table that can be computed from what is known, see ``mask_sets.NEEDS``."""
    return tuple(Column(entry.key, entry.title, entry.decimals) for entry in available(has, table))


def figure_notes(columns: Sequence[Column]) -> list[str]:
    """Lines that explain the figures which the tables' own notes do not."""
    return [note for column in columns if column.key in FIGURES and (note := FIGURES[column.key].note)]


def summary_table(results: Sequence[Result], notes: Sequence[str] = ()) -> Table:
    """One row per result; ``notes`` come first, then what holds for every such table.

    Raises:
        ValueError: results over different cases, or with different numbers of samples: they share no column.
    """
    if len({tuple((c.identity, c.n_samples, c.n_raters) for c in r.cases) for r in results}) != 1:
        raise ValueError(
            f"The {len(results)} results of a table need the same cases, samples and raters. Evaluate them together."
        )
    first = results[0].cases
    known = any(case.undefined_pairs is not None for case in first)
    columns = [Column("model", "model"), Column("method", "method"), Column("sampler", "sampler")]
    columns += [LABEL] if results[0].label else []
    figures = figure_columns({PLANE, *([SPACING] if known else [])}, EVALUATE)
    modes = [result.modes() for result in results]
    shown = list(figures)
    if any(mode is not None for mode in modes):
        shown.insert(1 + [column.key for column in figures].index("sample_spread"), _MODES)
    rows = []
    for result, mode in zip(results, modes):
        means = result.averages().mean
        row: dict[str, Any] = {
            "model": result.name,
            "method": result.method,
            "sampler": result.sampler,
            "label": result.label,
        }
        row |= means | {_MODES.key: getattr(mode, "correlation", None)}
        rows.append({column.key: row[column.key] for column in (*columns, *shown)})
    counts = sorted({case.n_raters for case in first})
    raters = " to ".join(str(m) for m in sorted({counts[0], counts[-1]}))
    overall = next(result for result in results if result.overall)
    lines = [
        *notes,
        f"n = {first[0].n_samples} samples and m = {raters} raters per image; {len(first)} images, in "
        f"{sum(case.all_raters_empty for case in overall.cases)} of them all raters empty",
        *PROTOCOL,
        *([SURFACE_PROTOCOL] if known else ["HD95 and ASSD left out: no pixel spacing is known"]),
        *([CLASSES_NOTE] if results[0].label else []),
        *figure_notes(figures),
        *(line for result in results for line in missing_notes(result, figures)),
    ]
    return Table((*columns, *shown), tuple(rows), tuple(lines))


def case_table(results: Sequence[Result]) -> Table:
    """One row per result and case, every figure in it."""
    rows = []
    for result in results:
        for case in result.cases:
            row: dict[str, Any] = {"model": result.name, "case": case.identity}
            row |= {"label": result.label} if result.label else {}
            row |= {"n_samples": case.n_samples, "n_raters": case.n_raters, "all_raters_empty": case.all_raters_empty}
            row |= {"reading": READING} | {key: case.figures.get(key, math.nan) for key in _CASE_FIGURES}
            row |= {"pairs": case.pairs, "undefined_pairs": case.undefined_pairs or 0}
            for key in ("mode_frequencies", "mode_probabilities"):
                values = getattr(case, key)
                row[key] = None if values is None else " ".join(f"{v:.6g}" for v in values)
            rows.append(row | {key: value for key, value in case.figures.items() if key not in row})
    return Table(tuple(Column(key, key) for key in rows[0]), tuple(rows))


def missing_notes(result: Result, columns: Sequence[Column], cases: str = "images") -> list[str]:
    """Lines that say what is undefined in a result, and how often.

    Args:
        columns: of the figures that are shown.
        cases: what its cases are called.
    """
    missing, modes, (pairs, undefined) = result.averages().missing, result.modes(), result.surface_pairs()
    name = f"{result.name}, {result.label}" if result.label else result.name
    titles = {column.key: column.title for column in columns}

    def told(keys: Iterable[str]) -> list[str]:
        return [f"{titles[key]} in {missing[key]} {cases}" for key in keys if key in titles and missing.get(key)]

    parts = told(key for key in _CASE_FIGURES if key not in _OF_PAIRS)
    parts += [f"surface distances of {undefined} of {pairs} pairs"] if undefined else []
    parts += told(key for key in titles if key not in _CASE_FIGURES)
    lines = [f"{name}: undefined and left out of the means: {', '.join(parts)}"] if parts else []
    if modes is not None and modes.unassigned > 0:
        lines.append(f"{name}: {modes.unassigned:.1%} of the samples overlap no mode")
    return lines

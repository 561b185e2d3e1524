"""All figures by name: what tables, cards, Slicer and README's table of meanings are made from.

A figure is one function of a `MaskSets`, entered by a decorator in any module of this room, and nothing else::

    @figure("empty_share", "empty", "share of the samples that mark nothing", better="alike")
    def empty_share(sets: MaskSets) -> float:
        samples, _ = sets.marked()
        return float((~samples.any(axis=tuple(range(1, samples.ndim)))).mean())

Here stand those of the CIMD paper and those that later papers added. Definitions: docs/definitions.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from AmbiguousSegLib.metrics import distribution
from AmbiguousSegLib.metrics.entry import COMPARE, EVALUATE, FIGURES, Figure, figure
from AmbiguousSegLib.metrics.mask_sets import SPACING, MaskSets
from AmbiguousSegLib.metrics.overlap import matched_mean

__all__ = ["FIGURES", "Averages", "Figure", "MaskSets", "available", "average", "compare", "figure", "figures_of"]


def available(has: Collection[str], table: str | None = None) -> list[Figure]:
    """Figures that can be computed from what there is, in order, those of one table or (None) all.

    Args:
        has: of ``mask_sets.NEEDS``, what is known.
    """
    entries = [FIGURES[key] for key in FIGURES]
    return [f for f in entries if f.needs <= set(has) and (table is None or table in f.tables)]


def figures_of(sets: MaskSets) -> dict[str, float]:
    """Every figure that can be computed, by key; nan where undefined. Those whose needs are unmet are left out."""
    return {entry.key: float(entry.compute(sets)) for entry in available(sets.has)}


def compare(
    samples: ArrayLike,
    raters: ArrayLike,
    spacing_mm: Sequence[float] | None = None,
    classes: int = 1,
    label: int | None = None,
    voxel_volume_ml: float | None = None,
) -> dict[str, float]:
    """Every figure of one case that can be computed, by key; nan where undefined.

    Args:
        samples, raters: bool masks, or uint8 label maps of several classes, ``(N, *spatial)`` and ``(M, *spatial)``.
        spacing_mm: of a pixel along each spatial axis; None: figures in mm are left out.
        classes: K.
        label: figures of this class alone, 1 to K; None: of all classes.
        voxel_volume_ml: None: figures of volumes are left out.

    Raises:
        ValueError: as `MaskSets`, or a spacing that does not fit.
    """
    spacing = None if spacing_mm is None else tuple(float(s) for s in spacing_mm)
    return figures_of(MaskSets(np.asarray(samples), np.asarray(raters), classes, label, spacing, voxel_volume_ml))


@dataclass(frozen=True)
class Averages:
    """Over cases, by key of a figure: the mean over those where it is defined (nan: none), and how many are not."""

    mean: dict[str, float]
    missing: dict[str, int]


def average(cases: Sequence[Mapping[str, float]]) -> Averages:
    """Averages of cases that have the same figures. CI is averaged like every other, not made of averaged parts.

    Raises:
        ValueError: no case, or cases that differ in their figures.
    """
    if not cases or any(set(case) != set(cases[0]) for case in cases):
        raise ValueError(f"Averages need one case or more, all with the same figures, got {len(cases)} cases.")
    columns = {key: np.array([case[key] for case in cases]) for key in cases[0]}
    defined = {key: values[~np.isnan(values)] for key, values in columns.items()}
    return Averages(
        {key: float(values.mean()) if len(values) else math.nan for key, values in defined.items()},
        {key: len(cases) - len(values) for key, values in defined.items()},
    )


def meanings_markdown() -> str:
    """The table of meanings of all figures, as it stands in the README."""
    lines = ["| name | meaning | better |", "|---|---|---|"]
    for key in FIGURES:
        entry = FIGURES[key]
        lines.append(f"| {entry.title} | {entry.meaning.replace('|', chr(92) + '|')} | {entry.better} |")
    return "\n".join(lines) + "\n"


def defined_mean(values: np.ndarray) -> float:
    """Mean of the values that are not nan; nan if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


_told = partial(figure, note="")  # the notes of every table define these
_V, _U = "over all pairs, a sample with itself included", "over the pairs of different samples"


@_told(
    "ged_v",
    "GED v",
    "2·E d(S,Y) − E d(S,S′) − E d(Y,Y′), squared distance of the distribution of samples from that of "
    f"raters, d = 1 − IoU; E d(S,S′) {_V}, as papers do",
    "lower",
)
def _(sets: MaskSets) -> float:
    return _ged(sets, "v").value


@_told(
    "ged_u", "GED u", f"as GED v, with E d(S,S′) {_U}; never compare v with u, or different numbers of samples", "lower"
)
def _(sets: MaskSets) -> float:
    return _ged(sets, "u").value


@_told("distance_cross", "E d(S,Y)", "mean d of a sample and a rater", "lower", tables=[COMPARE])
def _(sets: MaskSets) -> float:
    return float(1 - sets.cross.iou.mean())


@_told("distance_samples_v", "E d(S,S') v", f"how much samples disagree among themselves: mean d {_V}", "alike")
def _(sets: MaskSets) -> float:
    return _ged(sets, "v").within_samples


@_told(
    "distance_samples_u", "E d(S,S') u", f"how much samples disagree among themselves: mean d {_U}", "alike", tables=[]
)
def _(sets: MaskSets) -> float:
    return _ged(sets, "u").within_samples


@_told(
    "distance_raters",
    "E d(Y,Y')",
    "how much raters disagree among themselves: mean d over all pairs, a rater with himself included",
)
def _(sets: MaskSets) -> float:
    return float(1 - sets.among_raters.iou.mean())


@_told("ci_harmonic", "CI harm.", "S_c, D_max and D_a in one: their harmonic mean, as the CIMD paper says", "higher")
def _(sets: MaskSets) -> float:
    return distribution.ci_harmonic(*_ci_parts(sets))


@_told("ci_printed", "CI printed", "S_c, D_max and D_a in one, as Eq. 17 of the CIMD paper prints it", "higher")
def _(sets: MaskSets) -> float:
    return distribution.ci_printed(*_ci_parts(sets))


@_told("combined_sensitivity", "S_c", "sensitivity of the union of samples against the union of raters", "higher")
def _(sets: MaskSets) -> float:
    return sets.combined_sensitivity


@_told("dice_max", "D_max", "for each rater the best Dice that any sample reaches, averaged", "higher")
def _(sets: MaskSets) -> float:
    return distribution.dice_max_of(sets.cross.dice)


@_told(
    "diversity_agreement",
    "D_a",
    "agreement of smallest and largest disagreement among samples with that among raters",
    "higher",
)
def _(sets: MaskSets) -> float:
    return _ci_parts(sets)[2]


@_told("hm_iou", "HM-IoU", "mean IoU of samples and raters matched one to one", "higher")
def _(sets: MaskSets) -> float:
    return matched_mean(sets.cross.iou)


@_told("mean_dice", "Dice", "mean Dice of a sample and a rater", "higher")
def _(sets: MaskSets) -> float:
    return float(sets.cross.dice.mean())


@_told(
    "hd95_mm",
    "HD95 mm",
    "95th percentile of the distances between the borders of a sample and a rater",
    "lower",
    "mm",
    2,
    [SPACING],
)
def _(sets: MaskSets) -> float:
    return defined_mean(sets.surface()[0])


@_told("assd_mm", "ASSD mm", "mean distance between the borders of a sample and a rater", "lower", "mm", 2, [SPACING])
def _(sets: MaskSets) -> float:
    return defined_mean(sets.surface()[1])


@_told("sample_spread", "spread", "mean root mean squared difference of two samples", "", tables=[EVALUATE])
def _(sets: MaskSets) -> float:
    return distribution.sample_spread_of(sets.samples_differ())


def _ged(sets: MaskSets, estimator: str) -> distribution.GED:
    return distribution.ged_of(sets.cross.iou, sets.among_samples.iou, sets.among_raters.iou, estimator)


def _ci_parts(sets: MaskSets) -> tuple[float, float, float]:
    d_a = distribution.diversity_agreement_of(1 - sets.among_samples.dice, 1 - sets.among_raters.dice)
    return sets.combined_sensitivity, distribution.dice_max_of(sets.cross.dice), d_a

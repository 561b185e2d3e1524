"""How well a set of sampled masks agrees with the set of masks that several raters drew.

Throughout, ``samples`` is bool ``(N, *spatial)`` and ``raters`` bool ``(M, *spatial)``, tensor or numpy array, on one
grid, N and M ≥ 1; empty masks are valid. Results are Python floats, nan where a figure is undefined (missing).
``ValueError`` is raised for masks that are not bool, an empty set, or grids that differ.

CIMD is Rahman et al., CVPR 2023. `compare` gives all figures of one case, `average` those of a data set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch

from AmbiguousSegLib.metrics.overlap import Counts, Masks, as_mask_set, as_tensor, matched_mean, pairwise_counts, recall

ESTIMATORS = ("v", "u")
READINGS = ("dice", "pixel_variance")
_SETTINGS = ("n_samples", "n_raters", "all_raters_empty", "reading")
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


def ged(samples: Masks, raters: Masks, estimator: str = "v") -> GED:
    """Squared generalized energy distance (CIMD Eq. 24). Never compare values at different N or of two estimators."""
    cross, within_samples, within_raters = _pairs(samples, raters)
    return _ged(cross.iou(), within_samples.iou(), within_raters.iou(), estimator)


def combined_sensitivity(samples: Masks, raters: Masks) -> float:
    """S_c: recall of the union of the samples against the union of the raters, in [0, 1] (CIMD Eq. 18–19).

    1 where all raters are empty, whatever the samples mark, by the text before Eq. 19 (which prints 0/0 there).
    """
    union = as_mask_set(raters, "raters").any(0)
    return float(recall(as_mask_set(samples, "samples").any(0), union)) if union.any() else 1.0


def dice_max(samples: Masks, raters: Masks) -> float:
    """D_max: mean over raters of the best Dice that any sample reaches, in [0, 1] (CIMD Eq. 20–22)."""
    return _dice_max(pairwise_counts(samples, raters).dice())


def diversity_agreement(samples: Masks, raters: Masks, reading: str = "dice") -> float:
    """D_a = 1 − (ΔV_max + ΔV_min)/2 in [0, 1] (CIMD Eq. 23); one rater or one sample: nan.

    ΔV_max and ΔV_min are the absolute differences between raters and samples in the largest and smallest V of two
    different masks of the set. The paper calls V the variance between two raters and does not define it:

    Args:
        reading: ``"dice"``: V = 1 − Dice. ``"pixel_variance"``: the variance of a pixel's two values, averaged over
            the pixels, |A △ B|/(4 · pixels); near 0 for small lesions, so that D_a is near 1 whatever is sampled.
    """
    _, within_samples, within_raters = _pairs(samples, raters)
    return _diversity_agreement(within_samples, within_raters, reading)


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


def hm_iou(samples: Masks, raters: Masks) -> float:
    """Hungarian-matched IoU in [0, 1]: both sets repeated to lcm(N, M) and assigned to maximise the mean IoU."""
    return matched_mean(pairwise_counts(samples, raters).iou().numpy())


def sample_spread(maps: torch.Tensor | np.ndarray) -> float:
    """Mean over all N² ordered pairs of the root mean squared difference of two maps (DiffSeg Eq. 5–7).

    DiffSeg calls it GED; it has no reference term. Pairs of a map with itself count as 0, as in Eq. 5.

    Args:
        maps: ``(N, *spatial)``, bool, or float and finite, such as probabilities in [0, 1].

    Returns:
        a value in [0, (N − 1)/N · range of the maps].

    Raises:
        ValueError: maps that are neither bool nor float, not finite, or no map.
    """
    values = as_tensor(maps)
    if values.dtype == torch.bool:
        return _sample_spread(pairwise_counts(values, values))
    if not values.is_floating_point() or values.ndim < 2 or values.numel() == 0 or not values.isfinite().all():
        raise ValueError(
            f"maps must be (N, *spatial), bool or finite float, N ≥ 1, got {values.dtype} {tuple(values.shape)}"
            f"{'' if values.isfinite().all() else ' with nan or inf'}. Scale label values to [0, 1] first."
        )
    flat = values.flatten(1)
    squared = torch.zeros(len(flat), len(flat), dtype=torch.float64)
    for part in flat.split(max(1, _CHUNK_ELEMENTS // len(flat)), dim=1):
        part = part.to("cpu", torch.float64)
        squared += torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist").square()
    return float((squared / flat.shape[1]).sqrt().mean())


@dataclass(frozen=True)
class DistributionMetrics:
    """All figures of one case, with what they were computed from; each as the function of the same name gives it.

    Attributes:
        n_samples, n_raters: N and M.
        all_raters_empty: no rater marks anything.
        reading: of V in ``diversity_agreement``.
        ged: one entry per estimator.
        mean_dice: mean Dice over all N · M pairs of a sample and a rater.
    """

    n_samples: int
    n_raters: int
    all_raters_empty: bool
    reading: str
    ged: tuple[GED, ...]
    combined_sensitivity: float
    dice_max: float
    diversity_agreement: float
    ci_printed: float
    ci_harmonic: float
    hm_iou: float
    mean_dice: float
    sample_spread: float

    def as_dict(self) -> dict[str, int | bool | str | float]:
        """One flat row of a table; GED² and E d(S, S') bear the estimator in their names. nan: missing."""
        row = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "ged"}
        row |= {"distance_cross": self.ged[0].cross, "distance_raters": self.ged[0].within_raters}
        for entry in self.ged:
            row |= {f"ged_{entry.estimator}": entry.value, f"distance_samples_{entry.estimator}": entry.within_samples}
        return row


def compare(
    samples: Masks, raters: Masks, estimators: Sequence[str] = ESTIMATORS, reading: str = "dice"
) -> DistributionMetrics:
    """All figures of one case from one set of pairwise counts.

    Args:
        samples, raters: bool ``(N, *spatial)`` and ``(M, *spatial)`` on one grid.
        estimators: of GED, one or more of ``"v"`` and ``"u"``.
        reading: of V in D_a, see `diversity_agreement`.
    """
    if isinstance(estimators, str) or not estimators:
        raise ValueError(f"estimators must be a sequence of one or more of {ESTIMATORS}, got {estimators!r}.")
    cross, within_samples, within_raters = _pairs(samples, raters)
    iou, dice = cross.iou(), cross.dice()
    s_c, d_max = combined_sensitivity(samples, raters), _dice_max(dice)
    d_a = _diversity_agreement(within_samples, within_raters, reading)
    return DistributionMetrics(
        n_samples=len(samples),
        n_raters=len(raters),
        all_raters_empty=bool((within_raters.size_a == 0).all()),
        reading=reading,
        ged=tuple(_ged(iou, within_samples.iou(), within_raters.iou(), estimator) for estimator in estimators),
        combined_sensitivity=s_c,
        dice_max=d_max,
        diversity_agreement=d_a,
        ci_printed=ci_printed(s_c, d_max, d_a),
        ci_harmonic=ci_harmonic(s_c, d_max, d_a),
        hm_iou=matched_mean(iou.numpy()),
        mean_dice=float(dice.mean()),
        sample_spread=_sample_spread(within_samples),
    )


@dataclass(frozen=True)
class DistributionAverages:
    """Means over the cases of a data set.

    Attributes:
        cases: number of cases, those with all raters empty included.
        all_raters_empty: how many of them had all raters empty.
        n_samples: N, the same in every case.
        n_raters: the numbers of raters that occur, ascending.
        reading: of V in ``diversity_agreement``.
        mean: of each figure over the cases where it is defined; nan where it is defined in none.
        missing: number of cases where each figure is undefined, left out of its mean.
    """

    cases: int
    all_raters_empty: int
    n_samples: int
    n_raters: tuple[int, ...]
    reading: str
    mean: dict[str, float]
    missing: dict[str, int]

    def as_dict(self) -> dict[str, object]:
        """The attributes by name, of plain types."""
        return asdict(self)


def average(cases: Sequence[DistributionMetrics]) -> DistributionAverages:
    """Mean of each figure over cases; CI is averaged like every other figure, not computed from averaged parts.

    Raises:
        ValueError: no case, or cases that differ in N, in estimators or in the reading of D_a: such figures mean
            different things and share no column.
    """
    settings = {(case.n_samples, case.reading, tuple(g.estimator for g in case.ged)) for case in cases}
    if len(settings) != 1:
        raise ValueError(
            "Averages need cases with one number of samples, reading and estimators, got "
            f"{sorted(settings) or 'no case'}. Average each setting on its own."
        )
    rows = [case.as_dict() for case in cases]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0] if name not in _SETTINGS}
    defined = {name: values[~np.isnan(values)] for name, values in columns.items()}
    return DistributionAverages(
        cases=len(cases),
        all_raters_empty=sum(case.all_raters_empty for case in cases),
        n_samples=cases[0].n_samples,
        n_raters=tuple(sorted({case.n_raters for case in cases})),
        reading=cases[0].reading,
        mean={name: float(values.mean()) if len(values) else math.nan for name, values in defined.items()},
        missing={name: len(cases) - len(values) for name, values in defined.items()},
    )


def _pairs(samples: Masks, raters: Masks) -> tuple[Counts, Counts, Counts]:
    """Counts of samples with raters, of samples with samples, of raters with raters."""
    return pairwise_counts(samples, raters), pairwise_counts(samples, samples), pairwise_counts(raters, raters)


def _ged(cross_iou: torch.Tensor, samples_iou: torch.Tensor, raters_iou: torch.Tensor, estimator: str) -> GED:
    if estimator not in ESTIMATORS:
        raise ValueError(f"The estimator of GED must be one of {ESTIMATORS}, got {estimator!r}.")
    n = len(samples_iou)
    pairs = n * n if estimator == "v" else n * (n - 1)
    spread = float((1 - samples_iou).sum()) / pairs if pairs else math.nan  # d(S, S) = 0: the diagonal adds nothing
    return GED(float(1 - cross_iou.mean()), spread, float(1 - raters_iou.mean()), estimator)


def _dice_max(cross_dice: torch.Tensor) -> float:
    return float(cross_dice.amax(dim=0).mean())


def _diversity_agreement(within_samples: Counts, within_raters: Counts, reading: str) -> float:
    if reading not in READINGS:
        raise ValueError(f"The reading of D_a must be one of {READINGS}, got {reading!r}.")
    if len(within_samples.intersection) == 1 or len(within_raters.intersection) == 1:
        return math.nan

    def extremes(pairs: Counts) -> tuple[float, float]:
        v = 1 - pairs.dice() if reading == "dice" else pairs.difference() / (4 * pairs.pixels)
        rows, columns = torch.triu_indices(*v.shape, offset=1)
        return float(v[rows, columns].max()), float(v[rows, columns].min())

    (max_s, min_s), (max_y, min_y) = extremes(within_samples), extremes(within_raters)
    return 1 - (abs(max_y - max_s) + abs(min_y - min_s)) / 2


def _sample_spread(within_samples: Counts) -> float:
    return float((within_samples.difference() / within_samples.pixels).sqrt().mean())


def _unit_parts(*parts: float) -> tuple[float, ...]:
    if any(part < 0 or part > 1 for part in parts):
        raise ValueError(f"S_c, D_max and D_a must lie in [0, 1] or be nan, got {parts}. Divide percentages by 100.")
    return parts

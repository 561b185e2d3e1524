"""The samples of one volume against what several raters drew in it: figures slice by slice and for the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.ensemble.consensus import NoEstimate, majority, staple
from AmbiguousSegLib.evaluation.comparison import CaseResult, Result, SurfaceMeans, evaluate_case
from AmbiguousSegLib.evaluation.rater_tables import (
    DICE,
    HD95,
    best_table,
    consensus_table,
    disagreement_table,
    pairs_table,
    slices_table,
    summary_table,
)
from AmbiguousSegLib.evaluation.table import Table
from AmbiguousSegLib.metrics.distribution import compare
from AmbiguousSegLib.metrics.overlap import dice, pairwise_dice
from AmbiguousSegLib.metrics.surface import SurfaceMetrics, pairwise_surface_metrics, surface_metrics
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes

STAPLE_MARGIN_MM = 5.0
PER_SLICE, WHOLE = "per slice", "whole volume"
RULES = ("majority", "STAPLE")


@dataclass(frozen=True)
class RaterComparison:
    """What a comparison found.

    Attributes:
        tables: ``"summary"``, ``"slices"``, ``"dice"``, ``"hd95"``, ``"dice_max"``, ``"consensus"``,
            ``"disagreement"``.
        fused: bool masks of the shape of the arrays compared: ``"raters majority"``, ``"raters STAPLE"``,
            ``"samples majority"``, ``"samples STAPLE"``; those that STAPLE cannot estimate are left out, their figures
            undefined.
        slices: a case for each slice where anything is marked; for the figure of an evaluation.
    """

    tables: dict[str, Table]
    fused: dict[str, np.ndarray]
    slices: Result


@dataclass(frozen=True)
class _Place:
    """Where the arrays compared lie in their volume, and along which of their axes the slices follow each other."""

    geometry: Geometry
    start: tuple[int, ...]  # z, y, x
    shape: tuple[int, ...]

    @property
    def plane(self) -> str:
        return "axial" if self.geometry.size[2] > 1 else "stored"  # a picture has no other slices

    @property
    def axes(self) -> SliceAxes:
        return SliceAxes.of(self.geometry, self.plane)

    @property
    def slices(self) -> int:
        """Of the whole volume."""
        return self.axes.of_index(self.geometry.size)[0]

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Along slices, rows and columns."""
        return self.axes.of_index(self.geometry.spacing_mm)

    def number(self, k: int) -> int:
        """Number in the whole volume of slice ``k`` of the arrays, both counted as ``SliceAxes.view`` does."""
        axis, back = self.axes.index_axes[0], self.axes.backwards[0]
        start, length = self.start[2 - axis], self.shape[2 - axis]
        return k + (self.slices - start - length if back else start)

    def position_mm(self, k: int) -> float:
        """Of slice ``k`` along the normal of the slices, which points as they count (axial: to the head)."""
        axis, back = self.axes.index_axes[0], self.axes.backwards[0]
        index = np.zeros(3)
        index[axis] = self.slices - 1 - self.number(k) if back else self.number(k)
        normal = np.array(self.geometry.direction).reshape(3, 3)[:, axis] * (-1 if back else 1)
        return float(self.geometry.to_mm(index) @ normal)


def compare_with_raters(
    samples: np.ndarray,
    raters: np.ndarray,
    geometry: Geometry,
    rater_names: Sequence[str],
    sample_names: Sequence[str] | None = None,
    *,
    box_start: tuple[int, int, int] = (0, 0, 0),
    on_progress: Callable[[float], None] | None = None,
) -> RaterComparison:
    """Every figure of a set of samples against several raters of the same volume.

    Slices follow each other along the axial axis of the grid, counted from 0 at the feet, as ``sample`` counts them; a
    volume of one slice is judged in 2-D throughout. No figure depends on how far the arrays reach beyond what is
    marked: STAPLE sees the box that holds all samples and all raters, and ``STAPLE_MARGIN_MM`` more on each side as
    far as the volume reaches.

    Args:
        samples: bool ``(N, Z, Y, X)``, N ≥ 1: masks of the volume, or of one box in it that holds all that is marked.
        raters: bool ``(M, Z, Y, X)``, M ≥ 1, of the same box.
        geometry: grid of the whole volume.
        rater_names: one for each rater, all different.
        sample_names: one for each sample, all different; by default sample 1 to sample N.
        box_start: index (z, y, x) of the arrays' first voxel in the volume.
        on_progress: called with the share done, in (0, 1], after each slice and each mask; it may raise to stop.

    Raises:
        ValueError: no rater or no sample, arrays that are not bool or do not share a box in the volume, names that
            are too few, too many or not different.
    """
    if sample_names is None:
        sample_names = [f"sample {k}" for k in range(1, 1 + len(samples))]
    _check(samples, raters, rater_names, sample_names, geometry, box_start)
    shape = samples.shape[1:]
    if 0 in shape:  # the box of masks that all are empty
        samples, raters = (np.zeros((len(masks), 1, 1, 1), bool) for masks in (samples, raters))
    place = _Place(geometry, tuple(box_start), samples.shape[1:])
    drawn, known = place.axes.view(samples), place.axes.view(raters)
    marked = np.flatnonzero(drawn.any((0, 2, 3)) | known.any((0, 2, 3))).tolist()
    step = _steps(len(marked) + len(samples) + len(raters) + 2 * len(RULES), on_progress)

    cases, best = [], []
    for k in marked:
        cases.append(evaluate_case(f"slice {place.number(k)}", drawn[:, k], known[:, k], place.spacing_mm[1:]))
        best.append(pairwise_dice(drawn[:, k], known[:, k]).amax(0).tolist())
        step()
    slices = Result(PER_SLICE, "", "", tuple(cases))

    drawn, known = (_solid(masks, place) for masks in (samples, raters))
    spacing = place.spacing_mm[1 - drawn.ndim :]
    overlap = pairwise_dice(drawn, known).numpy()
    hd95_mm, assd_mm = pairwise_surface_metrics(drawn, known, spacing, step)
    whole = CaseResult(WHOLE, compare(drawn, known), SurfaceMeans.of(hd95_mm, assd_mm))

    fused, missing = {}, []
    for who, masks in (("raters", raters), ("samples", samples)):
        fused[f"{who} majority"] = majority(masks)
        step()
        try:
            fused[f"{who} STAPLE"] = _staple(masks, samples.any(0) | raters.any(0), place)
        except NoEstimate:
            missing.append(
                f"STAPLE of the {len(masks)} {who} is undefined: with so many masks its probabilities are too small to "
                "compute"
            )
        step()

    milliliters = geometry.voxel_volume_ml
    agreements, by_slice = [], []
    for rule in RULES:
        ours, theirs = (fused.get(f"{who} {rule}") for who in ("samples", "raters"))
        volumes = [math.nan if m is None else float(np.count_nonzero(m) * milliliters) for m in (theirs, ours)]
        agreement, surface = math.nan, SurfaceMetrics(math.nan, math.nan)
        of_slices = [math.nan] * len(marked)
        if ours is not None and theirs is not None:
            agreement = float(dice(ours, theirs))
            surface = surface_metrics(*(_solid(mask[None], place)[0] for mask in (ours, theirs)), spacing)
            of_slices = dice(*(place.axes.view(mask)[marked] for mask in (ours, theirs)), spatial_ndim=2).tolist()
        agreements.append((rule, *volumes, agreement, surface))
        by_slice.append(of_slices)
    numbers, positions = [place.number(k) for k in marked], [place.position_mm(k) for k in marked]
    rows = zip(numbers, positions, [case.disagreement() for case in cases], zip(*by_slice))
    summary = summary_table(slices, Result(WHOLE, "", "", (whole,)), place.slices, place.plane)
    volumes_ml = [float(np.count_nonzero(mask) * milliliters) for mask in raters]
    tables = {
        "summary": summary,
        "slices": slices_table(summary, slices, list(zip(numbers, positions, best)), rater_names, place.plane),
        "dice": pairs_table(overlap, rater_names, sample_names, DICE),
        "hd95": pairs_table(hd95_mm, rater_names, sample_names, HD95),
        "dice_max": best_table(overlap, hd95_mm, volumes_ml, rater_names, sample_names),
        "consensus": consensus_table(agreements, STAPLE_MARGIN_MM, missing),
        "disagreement": disagreement_table(list(rows), slices.disagreement_correlation(), place.plane, missing),
    }
    inside = tuple(slice(length) for length in shape)
    return RaterComparison(tables, {name: mask[inside] for name, mask in fused.items()}, slices)


def _solid(masks: np.ndarray, place: _Place) -> np.ndarray:
    """Masks ``(N, slices, rows, columns)``, or ``(N, rows, columns)`` where the volume is a single slice."""
    turned = place.axes.view(masks)
    return turned[:, 0] if place.slices == 1 else turned


def _staple(masks: np.ndarray, marked: np.ndarray, place: _Place) -> np.ndarray:
    """STAPLE's mask in the box of ``marked`` with its margin, which ends where the volume ends; nothing elsewhere."""
    found = [np.flatnonzero(marked.any(other)) for other in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(int(f[0]), int(f[-1]) + 1) if len(f) else slice(0, 1) for f in found)
    margins = []
    for span, start, length, mm in zip(box, place.start, place.geometry.shape, place.geometry.spacing_mm[::-1]):
        margin = math.ceil(STAPLE_MARGIN_MM / mm - 1e-9)
        margins.append((min(margin, start + span.start), min(margin, length - start - span.stop)))
    estimate = staple(np.pad(masks[(slice(None), *box)], ((0, 0), *margins))).mask
    fused = np.zeros(marked.shape, bool)
    fused[box] = estimate[tuple(slice(low, low + span.stop - span.start) for (low, _), span in zip(margins, box))]
    return fused


def _steps(total: int, on_progress: Callable[[float], None] | None) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done / total)

    return step


def _check(
    samples: np.ndarray,
    raters: np.ndarray,
    rater_names: Sequence[str],
    sample_names: Sequence[str],
    geometry: Geometry,
    box_start: Sequence[int],
) -> None:
    for what, masks, names in (("sample", samples, sample_names), ("rater", raters, rater_names)):
        if masks.ndim != 4 or masks.dtype != bool or len(masks) == 0:
            raise ValueError(
                f"A comparison takes one {what} or more as a bool array (N, Z, Y, X), got {masks.dtype} {masks.shape}."
            )
        if len(names) != len(masks):
            raise ValueError(f"{len(masks)} {what}s need as many names, got {len(names)}.")
        if len(set(names)) < len(names):
            raise ValueError(f"The names of the {what}s must differ, got {', '.join(names)}. Rename one.")
    if samples.shape[1:] != raters.shape[1:]:
        raise ValueError(
            f"Samples and raters must lie on one grid, got {samples.shape[1:]} and {raters.shape[1:]} (Z, Y, X). "
            "Cut both to the same box."
        )
    ends = [start + length for start, length in zip(box_start, samples.shape[1:])]
    if len(box_start) != 3 or min(box_start) < 0 or any(end > n for end, n in zip(ends, geometry.shape)):
        raise ValueError(
            f"A box of {samples.shape[1:]} voxels from {tuple(box_start)} does not lie in a volume of shape "
            f"{geometry.shape} (Z, Y, X)."
        )

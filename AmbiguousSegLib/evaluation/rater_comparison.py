"""The samples of one volume against what several raters drew in it: figures slice by slice and for the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.ensemble.consensus import NoEstimate, majority_of
from AmbiguousSegLib.evaluation.comparison import CaseResult, Result, by_label, evaluate_case
from AmbiguousSegLib.evaluation.consensus_masks import STAPLE_MARGIN_MM, staple_of
from AmbiguousSegLib.evaluation.findings import Agreement, Findings, Slice
from AmbiguousSegLib.evaluation.rater_tables import rater_tables
from AmbiguousSegLib.evaluation.table import Table
from AmbiguousSegLib.label_maps import as_label_map
from AmbiguousSegLib.metrics.mask_sets import MaskSets
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes

__all__ = ["STAPLE_MARGIN_MM", "RaterComparison", "compare_with_raters"]

PER_SLICE, WHOLE = "per slice", "whole volume"
RULES = ("majority", "STAPLE")


@dataclass(frozen=True)
class RaterComparison:
    """What a comparison found.

    Attributes:
        tables: by the keys of ``rater_tables.TABLE_TITLES``.
        fused: label maps, uint8 of the shape of the arrays compared: ``"raters majority"``, ``"raters STAPLE"``,
            ``"samples majority"``, ``"samples STAPLE"``; those that STAPLE cannot estimate are left out, their figures
            undefined.
        slices: a case for each slice where anything is marked, of all classes; for the figure of an evaluation.
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
    labels: Sequence[str] = ("lesion",),
    box_start: tuple[int, int, int] = (0, 0, 0),
    on_progress: Callable[[float], None] | None = None,
) -> RaterComparison:
    """Every figure of a set of samples against several raters of the same volume.

    Slices follow each other along the axial axis of the grid, counted from 0 at the feet, as ``sample`` counts them; a
    volume of one slice is judged in 2-D throughout. No figure depends on how far the arrays reach beyond what is
    marked: STAPLE sees the box that holds all samples and all raters, and ``STAPLE_MARGIN_MM`` more on each side as
    far as the volume reaches. Of several classes each is compared on its own, and then all together.

    Args:
        samples: label maps, uint8 ``(N, Z, Y, X)``, N ≥ 1, or bool masks of one class: of the volume, or of one box in
            it that holds all that is marked.
        raters: uint8 or bool ``(M, Z, Y, X)``, M ≥ 1, of the same box.
        geometry: grid of the whole volume.
        rater_names: one for each rater, all different.
        sample_names: one for each sample, all different; by default sample 1 to sample N.
        labels: names of the classes 1 to K.
        box_start: index (z, y, x) of the arrays' first voxel in the volume.
        on_progress: called with the share done, in (0, 1], after each slice and each mask; it may raise to stop.

    Raises:
        ValueError: no rater or no sample, arrays of another type or that do not share a box in the volume, a label
            beyond K, names that are too few, too many or not different.
    """
    if sample_names is None:
        sample_names = [f"sample {k}" for k in range(1, 1 + len(samples))]
    _check(samples, raters, rater_names, sample_names, geometry, box_start)
    shape, classes = samples.shape[1:], len(labels)
    if 0 in shape:  # the box of masks that all are empty
        samples, raters = (np.zeros((len(masks), 1, 1, 1), np.uint8) for masks in (samples, raters))
    samples, raters = as_label_map(samples), as_label_map(raters)
    place = _Place(geometry, tuple(box_start), samples.shape[1:])
    whole = by_label(_sets(_solid(samples, place), _solid(raters, place), place, classes), labels)
    drawn, known = place.axes.view(samples), place.axes.view(raters)
    marked = np.flatnonzero(drawn.any((0, 2, 3)) | known.any((0, 2, 3))).tolist()
    step = _steps(len(marked) + classes * (len(samples) + len(raters)) + 2 * len(RULES), on_progress)

    cases: dict[str, list[CaseResult]] = {label: [] for label in whole}
    slices: dict[str, list[Slice]] = {label: [] for label in whole}
    for k in marked:
        for label, sets in by_label(_sets(drawn[:, k], known[:, k], place, classes), labels).items():
            if any(masks.any() for masks in sets.marked()):
                cases[label].append(evaluate_case(f"slice {place.number(k)}", sets))
                best = sets.cross.dice.max(axis=0).tolist()
                slices[label].append(Slice(k, place.number(k), place.position_mm(k), best))
        step()
    for sets in whole.values():
        sets.surface(step)

    fused, missing, anything = {}, [], np.any(samples, axis=0) | np.any(raters, axis=0)
    for who, masks in (("raters", raters), ("samples", samples)):
        fused[f"{who} majority"] = majority_of(masks, classes)
        step()
        try:
            fused[f"{who} STAPLE"] = staple_of(masks, classes, anything, geometry, place.start)
        except NoEstimate:
            missing.append(
                f"STAPLE of the {len(masks)} {who} is undefined: with so many masks its probabilities are too small to "
                "compute"
            )
        step()
    agreements: dict[str, list[Agreement]] = {label: [] for label in whole}
    for rule in RULES:
        pair = [fused.get(f"{who} {rule}") for who in ("samples", "raters")]
        for label, agreement in _agreements(rule, pair, place, labels).items():
            agreements[label].append(agreement)

    findings = [
        Findings(
            label=label,
            slices=Result(PER_SLICE, "", "", tuple(cases[label]), label=label),
            places=tuple(slices[label]),
            whole=Result(WHOLE, "", "", (evaluate_case(WHOLE, sets),), label=label),
            dice=sets.cross.dice,
            hd95_mm=sets.surface()[0],
            raters_ml=[float(np.count_nonzero(mask) * geometry.voxel_volume_ml) for mask in sets.marked()[1]],
            agreements=tuple(agreements[label]),
        )
        for label, sets in whole.items()
    ]
    tables = rater_tables(findings, rater_names, sample_names, place.slices, place.plane, STAPLE_MARGIN_MM, missing)
    inside = tuple(slice(length) for length in shape)
    return RaterComparison(tables, {name: mask[inside] for name, mask in fused.items()}, findings[-1].slices)


def _sets(samples: np.ndarray, raters: np.ndarray, place: _Place, classes: int) -> MaskSets:
    """Masks ``(N, slices, rows, columns)`` or ``(N, rows, columns)`` with the lengths of their voxels."""
    spacing = place.spacing_mm[1 - samples.ndim :]
    volume = place.geometry.voxel_volume_ml
    return MaskSets(samples, raters, classes, spacing_mm=spacing, voxel_volume_ml=volume)


def _agreements(
    rule: str, pair: Sequence[np.ndarray | None], place: _Place, labels: Sequence[str]
) -> dict[str, Agreement]:
    """How the fused mask of the samples, the first of ``pair``, agrees with that of the raters; nan where one lacks."""
    there = [np.zeros(place.shape, np.uint8) if mask is None else mask for mask in pair]
    ours, theirs = (_solid(mask[None], place) for mask in there)
    solid = by_label(_sets(ours, theirs, place, len(labels)), labels)
    turned = [place.axes.view(mask) for mask in there]
    of_slices: dict[str, list[float]] = {label: [] for label in solid}
    complete = all(mask is not None for mask in pair)
    for of_samples, of_raters in zip(*turned):
        for label, sets in by_label(_sets(of_samples[None], of_raters[None], place, len(labels)), labels).items():
            of_slices[label].append(float(sets.cross.dice[0, 0]) if complete else math.nan)
    found = {}
    for label, sets in solid.items():
        ours_ml, theirs_ml = (
            math.nan if mask is None else float(np.count_nonzero(own) * place.geometry.voxel_volume_ml)
            for mask, own in zip(pair, sets.marked())
        )
        figures = (sets.cross.dice, *sets.surface()) if complete else np.full((3, 1, 1), math.nan)
        dice, hd95_mm, assd_mm = (float(figure[0, 0]) for figure in figures)
        found[label] = Agreement(rule, ours_ml, theirs_ml, dice, hd95_mm, assd_mm, of_slices[label])
    return found


def _solid(masks: np.ndarray, place: _Place) -> np.ndarray:
    """Masks ``(N, slices, rows, columns)``, or ``(N, rows, columns)`` where the volume is a single slice."""
    turned = place.axes.view(masks)
    return turned[:, 0] if place.slices == 1 else turned


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
        if masks.ndim != 4 or masks.dtype not in (bool, np.uint8) or len(masks) == 0:
            raise ValueError(
                f"A comparison takes one {what} or more as a bool or uint8 array (N, Z, Y, X), got {masks.dtype} "
                f"{masks.shape}."
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

"""The tables of a comparison of samples with several raters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from AmbiguousSegLib.evaluation.comparison import (
    DEFINITIONS,
    FIGURES,
    MEAN_DICE,
    SURFACE_DEFINITION,
    SURFACE_FIGURES,
    Result,
    missing_notes,
)
from AmbiguousSegLib.evaluation.table import Column, Table, plain
from AmbiguousSegLib.metrics.surface import SurfaceMetrics

_SCOPE = (Column("scope", "scope"), Column("n_samples", "n samples"), Column("n_raters", "m raters"))
_CROSS = Column("distance_cross", "E d(S,Y)")
_RATER = Column("rater", "rater")
DICE, HD95 = Column("dice", "Dice"), SURFACE_FIGURES[0]
_NOTES = (
    *DEFINITIONS,
    MEAN_DICE,
    f"{SURFACE_DEFINITION}; means over the pairs of a sample and a rater where they are defined",
)
_EMPTY_DICE = "Dice of two empty masks is 1, of an empty and another 0"
_SURFACE = f"{SURFACE_DEFINITION}; 0 between two empty masks, undefined where one is empty"


def summary_table(slices: Result, whole: Result, total_slices: int, plane: str) -> Table:
    """Two rows: means over the slices (a case each, maybe none), and the figures of the whole masks (one case)."""
    first = FIGURES.index(next(column for column in FIGURES if column.key == "ged_u")) + 1
    figures = (*FIGURES[:first], _CROSS, *FIGURES[first:])
    metrics = whole.cases[0].metrics
    rows = []
    for result in (slices, whole):
        means, surface = (result.averages().mean, result.surface()) if result.cases else ({}, None)
        row = {"scope": result.name, "n_samples": metrics.n_samples, "n_raters": metrics.n_raters}
        row |= {column.key: plain(means.get(column.key)) for column in figures}
        rows.append(row | {column.key: plain(getattr(surface, column.key, None)) for column in SURFACE_FIGURES})
    empty = sum(case.metrics.all_raters_empty for case in slices.cases)
    notes = (
        f"{slices.name}: each figure in 2-D, averaged over those of the {len(slices.cases)} {plane} slices (of "
        f"{total_slices}) with a mark of any rater or sample where it is defined; in {empty} of them all raters are "
        "empty, they are included",
        f"{whole.name}: each figure once, of the whole masks",
        *_NOTES,
        *(missing_notes(slices, "slices") if slices.cases else ()),
        *missing_notes(whole, "volume"),
    )
    return Table((*_SCOPE, *figures, *SURFACE_FIGURES), tuple(rows), notes)


def slices_table(
    summary: Table,
    slices: Result,
    places: Sequence[tuple[int, float, Sequence[float]]],
    rater_names: Sequence[str],
    plane: str,
) -> Table:
    """A row for each slice: number, position in mm, the figures of ``summary``, and the best Dice for each rater.

    ``places``: number and position of each case of ``slices``, and for each rater the highest Dice of any sample there.
    """
    figures = [column for column in summary.columns if column.key not in ("scope", "n_samples", "n_raters")]
    best = [Column(f"dice_max {name}", f"best Dice, {name}") for name in rater_names]
    rows = []
    for case, (number, position, of_raters) in zip(slices.cases, places):
        found = case.metrics.as_dict() | asdict(case.surface)
        row = {"slice": number, "position_mm": position} | {column.key: plain(found[column.key]) for column in figures}
        rows.append(row | {column.key: value for column, value in zip(best, of_raters)})
    notes = (
        f"{plane} slices with a mark of any rater or sample, counted from 0 over the whole volume; position: along the "
        "normal of the slices, from the origin of the patient's coordinates",
        "each figure in 2-D, of what lies in the slice alone; its mean over the slices where it is defined is the "
        f"summary's figure {slices.name}",
        *_NOTES,
        "best Dice: the highest that any sample reaches with the rater in the slice; D_max is the mean over the raters",
        *(missing_notes(slices, "slices") if slices.cases else ()),
    )
    columns = (Column("slice", "slice"), Column("position_mm", "position mm", 2), *figures, *best)
    return Table(columns, tuple(rows), notes)


def pairs_table(values: np.ndarray, rater_names: Sequence[str], sample_names: Sequence[str], figure: Column) -> Table:
    """A row for each rater, a column for each sample; ``values`` of DICE or HD95, ``(N, M)``, nan where undefined."""
    columns = (_RATER, *(Column(name, name, figure.decimals) for name in sample_names))
    rows = [
        {"rater": name} | {sample: plain(value) for sample, value in zip(sample_names, of_rater)}
        for name, of_rater in zip(rater_names, values.T.tolist())
    ]
    notes = (
        f"{figure.title} of each rater's whole mask with each sample's",
        _EMPTY_DICE if figure is DICE else _SURFACE,
    )
    return Table(columns, tuple(rows), notes)


def best_table(
    dice: np.ndarray,
    hd95_mm: np.ndarray,
    volumes_ml: Sequence[float],
    rater_names: Sequence[str],
    sample_names: Sequence[str],
) -> Table:
    """A row for each rater: the sample that comes closest; both matrices ``(N, M)``."""
    columns = (
        _RATER,
        Column("volume_ml", "volume mL"),
        Column("dice_max", "best Dice"),
        Column("sample", "by sample"),
        Column(HD95.key, f"its {HD95.title}", HD95.decimals),
    )
    rows = []
    for j, (name, volume) in enumerate(zip(rater_names, volumes_ml)):
        best = int(dice[:, j].argmax())
        found = {"dice_max": float(dice[best, j]), "hd95_mm": plain(float(hd95_mm[best, j]))}
        rows.append({"rater": name, "volume_ml": volume, "sample": sample_names[best], **found})
    notes = (
        "best Dice: the highest that any sample reaches with the rater's whole mask (the first of several); D_max of "
        "the whole volume is the mean of this column",
        _EMPTY_DICE,
        _SURFACE,
    )
    return Table(columns, tuple(rows), notes)


def consensus_table(
    agreements: Sequence[tuple[str, float, float, float, SurfaceMetrics]],
    staple_margin_mm: float,
    missing: Sequence[str] = (),
) -> Table:
    """A row for each rule of fusion: its name, raters' and samples' volume in mL, their Dice and distances.

    A figure is nan where a fused mask is missing; ``missing`` are the notes that say why.
    """
    columns = (
        Column("fusion", "one mask by"),
        Column("raters_ml", "raters mL"),
        Column("samples_ml", "samples mL"),
        Column("difference_ml", "difference mL"),
        DICE,
        *SURFACE_FIGURES,
    )
    rows = [
        plain({"fusion": rule, "raters_ml": raters, "samples_ml": samples, "difference_ml": samples - raters})
        | plain({"dice": dice, "hd95_mm": surface.hd95_mm, "assd_mm": surface.assd_mm})
        for rule, raters, samples, dice, surface in agreements
    ]
    notes = (
        "the raters' masks are fused into one, the samples into another, and both are compared; difference: samples "
        "less raters",
        "majority: voxels that more than half of the masks mark",
        "STAPLE (Warfield 2004): probability above 0.5, prior from the masks, estimated in the box that holds all "
        f"raters and samples, with {staple_margin_mm:g} mm more on each side as far as the volume reaches",
        *missing,
        _EMPTY_DICE,
        _SURFACE,
    )
    return Table(columns, tuple(rows), notes)


def disagreement_table(
    rows: Sequence[tuple[int, float, tuple[float, float], tuple[float, float]]],
    correlation: float,
    plane: str,
    missing: Sequence[str] = (),
) -> Table:
    """A row for each slice: number, position in mm, observed and predicted disagreement, Dice of both fusions.

    A Dice is nan where a fused mask is missing; ``missing`` are the notes that say why.
    """
    columns = (
        Column("slice", "slice"),
        Column("position_mm", "position mm", 2),
        Column("observed", "observed d"),
        Column("predicted", "predicted d"),
        Column("dice", "Dice of majorities"),
        Column("dice_staple", "Dice of STAPLE"),
    )
    filled = [
        {"slice": number, "position_mm": position, "observed": plain(observed), "predicted": plain(predicted)}
        | {"dice": of_majorities, "dice_staple": plain(of_staple)}
        for number, position, (observed, predicted), (of_majorities, of_staple) in rows
    ]
    notes = (
        f"{plane} slices with a mark of any rater or sample, counted from 0 over the whole volume; position: along the "
        "normal of the slices, from the origin of the patient's coordinates",
        "d: mean 1 − IoU, observed over all pairs of different raters, predicted over all pairs of different samples; "
        "undefined with one",
        "Dice of majorities: of what most raters mark and what most samples mark; of STAPLE: of what it makes of each, "
        "estimated once for the whole volume",
        *missing,
        "Pearson's correlation of observed and predicted over the slices is undefined: it takes two slices with "
        "different values, two raters and two samples"
        if math.isnan(correlation)
        else f"Pearson's correlation of observed and predicted over the slices: {correlation:.3f}",
    )
    return Table(columns, tuple(filled), notes)

"""The tables of a comparison of samples with several raters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from AmbiguousSegLib.evaluation.comparison import (
    CLASSES_NOTE,
    DEFINITIONS,
    LABEL,
    MEAN_DICE,
    SURFACE_DEFINITION,
    Result,
    figure_columns,
    figure_notes,
    missing_notes,
)
from AmbiguousSegLib.evaluation.findings import Findings
from AmbiguousSegLib.evaluation.table import Column, Table, plain
from AmbiguousSegLib.metrics.figures import COMPARE
from AmbiguousSegLib.metrics.mask_sets import NEEDS

TABLE_TITLES = {
    "summary": "Samples against raters",
    "slices": "Samples against raters, slice by slice",
    "dice": "Dice of each pair",
    "hd95": "HD95 of each pair, mm",
    "dice_max": "Closest sample to each rater",
    "consensus": "Raters' and samples' consensus",
    "disagreement": "Disagreement, slice by slice",
}
_SCOPE = (Column("scope", "scope"), Column("n_samples", "n samples"), Column("n_raters", "m raters"))
_SLICE = (Column("slice", "slice"), Column("position_mm", "position mm", 2))
_RATER = Column("rater", "rater")
_DICE, _HD95, _ASSD = Column("dice", "Dice"), Column("hd95_mm", "HD95 mm", 2), Column("assd_mm", "ASSD mm", 2)
_NOTES = (
    *DEFINITIONS,
    MEAN_DICE,
    f"{SURFACE_DEFINITION}; means over the pairs of a sample and a rater where they are defined",
)
_EMPTY_DICE = "Dice of two empty masks is 1, of an empty and another 0"
_SURFACE = f"{SURFACE_DEFINITION}; 0 between two empty masks, undefined where one is empty"


def rater_tables(
    findings: Sequence[Findings],
    rater_names: Sequence[str],
    sample_names: Sequence[str],
    total_slices: int,
    plane: str,
    staple_margin_mm: float,
    missing: Sequence[str] = (),
) -> dict[str, Table]:
    """All tables, by the keys of ``TABLE_TITLES``; of several classes each has its rows, and a column "label".

    Args:
        findings: of each class and of all together, which come last; or of the only class.
        total_slices: of the volume.
        plane: of the slices.
        staple_margin_mm: by which the box of STAPLE is wider than what is marked.
        missing: notes that say which fused masks there are not.
    """
    return {
        "summary": _summary(findings, total_slices, plane),
        "slices": _slices(findings, rater_names, plane),
        "dice": _pairs(findings, rater_names, sample_names, _DICE),
        "hd95": _pairs(findings, rater_names, sample_names, _HD95),
        "dice_max": _best(findings, rater_names, sample_names),
        "consensus": _consensus(findings, staple_margin_mm, missing),
        "disagreement": _disagreement(findings, plane, missing),
    }


def _table(
    findings: Sequence[Findings],
    columns: Sequence[Column],
    rows: Sequence[Sequence[dict[str, Any]]],
    notes: Sequence[str],
) -> Table:
    """A table of the rows of each of the findings; with several of them the column of labels comes first."""
    if len(findings) == 1:
        return Table(tuple(columns), tuple(plain(rows[0])), tuple(notes))
    labelled = [{LABEL.key: f.label, **plain(row)} for f, own in zip(findings, rows) for row in own]
    return Table((LABEL, *columns), tuple(labelled), (*notes, CLASSES_NOTE))


def _figures() -> tuple[Column, ...]:
    return figure_columns(NEEDS, COMPARE)


def _summary(findings: Sequence[Findings], total_slices: int, plane: str) -> Table:
    """Two rows each: means over the slices, and the figures of the whole masks."""
    figures = _figures()
    rows: list[list[dict[str, Any]]] = []
    for found in findings:
        own: list[dict[str, Any]] = []
        for result in (found.slices, found.whole):
            means = result.averages().mean if result.cases else {}
            sizes = {"n_samples": found.dice.shape[0], "n_raters": found.dice.shape[1]}
            own.append({"scope": result.name, **sizes} | {column.key: means.get(column.key) for column in figures})
        rows.append(own)
    slices, whole = findings[-1].slices, findings[-1].whole
    empty = sum(case.all_raters_empty for case in slices.cases)
    notes = (
        f"{slices.name}: each figure in 2-D, averaged over those of the {len(slices.cases)} {plane} slices (of "
        f"{total_slices}) with a mark of any rater or sample where it is defined; in {empty} of them all raters are "
        "empty, they are included",
        f"{whole.name}: each figure once, of the whole masks",
        *_NOTES,
        *figure_notes(figures),
        *(line for f in findings for line in (*_missing(f.slices, "slices"), *_missing(f.whole, "volume"))),
    )
    return _table(findings, (*_SCOPE, *figures), rows, notes)


def _slices(findings: Sequence[Findings], rater_names: Sequence[str], plane: str) -> Table:
    """A row for each slice: number, position in mm, the figures of the summary, and the best Dice for each rater."""
    figures = _figures()
    best = [Column(f"dice_max {name}", f"best Dice, {name}") for name in rater_names]
    rows = [
        [
            {"slice": place.number, "position_mm": place.position_mm}
            | {column.key: case.figures.get(column.key) for column in figures}
            | {column.key: value for column, value in zip(best, place.best)}
            for case, place in zip(found.slices.cases, found.places)
        ]
        for found in findings
    ]
    notes = (
        _counted(plane),
        "each figure in 2-D, of what lies in the slice alone; its mean over the slices where it is defined is the "
        f"summary's figure {findings[-1].slices.name}",
        *_NOTES,
        "best Dice: the highest that any sample reaches with the rater in the slice; D_max is the mean over the raters",
        *figure_notes(figures),
        *(line for found in findings for line in _missing(found.slices, "slices")),
    )
    return _table(findings, (*_SLICE, *figures, *best), rows, notes)


def _pairs(
    findings: Sequence[Findings], rater_names: Sequence[str], sample_names: Sequence[str], figure: Column
) -> Table:
    """A row for each rater, a column for each sample; ``figure`` is Dice or HD95."""
    columns = (_RATER, *(Column(name, name, figure.decimals) for name in sample_names))
    rows = [
        [
            {"rater": name} | dict(zip(sample_names, of_rater))
            for name, of_rater in zip(rater_names, getattr(found, figure.key).T.tolist())
        ]
        for found in findings
    ]
    notes = (
        f"{figure.title} of each rater's whole mask with each sample's",
        _EMPTY_DICE if figure is _DICE else _SURFACE,
    )
    return _table(findings, columns, rows, notes)


def _best(findings: Sequence[Findings], rater_names: Sequence[str], sample_names: Sequence[str]) -> Table:
    """A row for each rater: the sample that comes closest."""
    columns = (
        _RATER,
        Column("volume_ml", "volume mL"),
        Column("dice_max", "best Dice"),
        Column("sample", "by sample"),
        Column(_HD95.key, f"its {_HD95.title}", _HD95.decimals),
    )
    rows = []
    for found in findings:
        own = []
        for j, (name, volume) in enumerate(zip(rater_names, found.raters_ml)):
            best = int(found.dice[:, j].argmax())
            figures = {"dice_max": float(found.dice[best, j]), "hd95_mm": float(found.hd95_mm[best, j])}
            own.append({"rater": name, "volume_ml": volume, "sample": sample_names[best], **figures})
        rows.append(own)
    notes = (
        "best Dice: the highest that any sample reaches with the rater's whole mask (the first of several); D_max of "
        "the whole volume is the mean of this column",
        _EMPTY_DICE,
        _SURFACE,
    )
    return _table(findings, columns, rows, notes)


def _consensus(findings: Sequence[Findings], staple_margin_mm: float, missing: Sequence[str]) -> Table:
    """A row for each rule of fusion."""
    columns = (
        Column("fusion", "one mask by"),
        Column("raters_ml", "raters mL"),
        Column("samples_ml", "samples mL"),
        Column("difference_ml", "difference mL"),
        *(_DICE, _HD95, _ASSD),
    )
    rows = [
        [
            {"fusion": a.rule, "raters_ml": a.raters_ml, "samples_ml": a.samples_ml}
            | {"difference_ml": a.samples_ml - a.raters_ml, "dice": a.dice, "hd95_mm": a.hd95_mm, "assd_mm": a.assd_mm}
            for a in found.agreements
        ]
        for found in findings
    ]
    several = len(findings) > 1
    chosen = "of each class on its own the largest probability" if several else "probability above 0.5"
    notes = (
        "the raters' masks are fused into one, the samples into another, and both are compared; difference: samples "
        "less raters",
        "majority: the most frequent class of each voxel, background among them; ties go to background"
        if several
        else "majority: voxels that more than half of the masks mark",
        f"STAPLE (Warfield 2004): {chosen}, prior from the masks, estimated in the box that holds all raters and "
        f"samples, with {staple_margin_mm:g} mm more on each side as far as the volume reaches",
        *missing,
        _EMPTY_DICE,
        _SURFACE,
    )
    return _table(findings, columns, rows, notes)


def _disagreement(findings: Sequence[Findings], plane: str, missing: Sequence[str]) -> Table:
    """A row for each slice: observed and predicted disagreement, and the Dice of both fusions."""
    columns = (
        *_SLICE,
        Column("observed", "observed d"),
        Column("predicted", "predicted d"),
        Column("dice", "Dice of majorities"),
        Column("dice_staple", "Dice of STAPLE"),
    )
    rows = []
    for found in findings:
        own = []
        for case, place in zip(found.slices.cases, found.places):
            observed, predicted = case.disagreement()
            fused = (agreement.of_slices[place.index] for agreement in found.agreements)
            own.append(
                {"slice": place.number, "position_mm": place.position_mm, "observed": observed, "predicted": predicted}
                | dict(zip(("dice", "dice_staple"), fused))
            )
        rows.append(own)
    notes = (
        _counted(plane),
        "d: mean 1 − IoU, observed over all pairs of different raters, predicted over all pairs of different samples; "
        "undefined with one",
        "Dice of majorities: of what most raters mark and what most samples mark; of STAPLE: of what it makes of each, "
        "estimated once for the whole volume",
        *missing,
        *([CLASSES_NOTE] if len(findings) > 1 else []),
        *(_correlation(found) for found in findings),
    )
    table = _table(findings, columns, rows, notes)
    return Table(table.columns, table.rows, notes)  # correlations last


def _correlation(found: Findings) -> str:
    correlation, of = found.slices.disagreement_correlation(), f"{found.label}: " if found.label else ""
    if math.isnan(correlation):
        return (
            f"{of}Pearson's correlation of observed and predicted over the slices is undefined: it takes two slices "
            "with different values, two raters and two samples"
        )
    return f"{of}Pearson's correlation of observed and predicted over the slices: {correlation:.3f}"


def _counted(plane: str) -> str:
    return (
        f"{plane} slices with a mark of any rater or sample, counted from 0 over the whole volume; position: along the "
        "normal of the slices, from the origin of the patient's coordinates"
    )


def _missing(result: Result, cases: str) -> list[str]:
    return missing_notes(result, _figures(), cases) if result.cases else []

"""Ensembles by their size as tables: all figures with intervals, and the form of Wolleb et al. 2022, Table 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from AmbiguousSegLib.evaluation.bootstrap import Bootstrap, Estimate, Sums, mean_of, ratio_of
from AmbiguousSegLib.evaluation.ensemble_size import SizeCurve
from AmbiguousSegLib.evaluation.table import Column, Table, plain

_FIGURES = ("dice", "dice_marked", "iou", "iou_marked", "hd95_mm", "gain")
_HEAD = (Column("model", "model"), Column("n", "samples n"))
_LABEL = Column("label", "label")
NOTES = (
    "the consensus of n samples marks what more than half of them mark (several classes: the most frequent one); "
    "ties, as exactly one half is, are background, so that at n = 2 both must mark a pixel",
    "Dice [Dice]: mean over all cases, where an empty consensus counts 0, and in square brackets over the cases whose "
    "consensus is not empty; Jaccard likewise; HD95 where it is defined, so without the cases of an empty consensus",
    "gain: Dice less that of the smallest n, case by case; intervals of 95 % by the bootstrap over subjects",
)


def estimates(curve: SizeCurve) -> list[dict[str, Estimate | float]]:
    """For each size the figures with intervals of 95 % over subjects, and how many cases are empty; undefined: nan.

    "dice", "iou": means over the cases. "dice_marked", "iou_marked": their sums by the number of cases of a consensus
    that is not empty (an empty one adds 0). "hd95_mm": mean where defined. "gain": Dice less that of the first size.
    "empty": cases of an empty consensus, of random subsets the expected number.
    """
    if not curve.cases:
        nothing = Estimate(math.nan, math.nan, math.nan)
        return [{"empty": 0.0, **dict.fromkeys(_FIGURES, nothing)} for _ in curve.sizes]
    bootstrap = Bootstrap([case.subject or case.identity for case in curve.cases])
    found: list[dict[str, Estimate | float]] = []
    for k in range(len(curve.sizes)):
        sums = _sums(curve, k)
        row: dict[str, Estimate | float] = {key: bootstrap.estimate(one) for key, one in sums.items()}
        row["gain"] = bootstrap.difference(sums["dice"], _sums(curve, 0)["dice"])
        row["empty"] = float(sum(case.empty[k] for case in curve.cases))
        found.append(row)
    return found


def _sums(curve: SizeCurve, k: int) -> dict[str, Sums]:
    dice, iou, empty, hd95, measured = (
        np.array([[getattr(case, key)[k] for case in curve.cases]])
        for key in ("dice", "iou", "empty", "hd95_mm", "measured")
    )
    return {
        "dice": mean_of(dice),
        "dice_marked": ratio_of(dice, 1 - empty),
        "iou": mean_of(iou),
        "iou_marked": ratio_of(iou, 1 - empty),
        "hd95_mm": ratio_of(hd95, measured),
    }


def size_table(curves: Sequence[SizeCurve], notes: Sequence[str] = ()) -> Table:
    """Every figure of every size in full, a row for each source, class and size; for files."""
    rows = []
    for curve in curves:
        for n, row in zip(curve.sizes, estimates(curve)):
            entry: dict[str, Any] = {"model": curve.name}
            entry |= {"label": curve.label} if curve.label else {}
            entry |= {"n": n, "cases": len(curve.cases), "empty": row["empty"]}
            for key in _FIGURES:
                one = row[key]
                if isinstance(one, Estimate):
                    entry |= {key: one.value, f"{key}_low": one.low, f"{key}_high": one.high}
            rows.append(entry)
    return Table(tuple(Column(key, key) for key in rows[0]), tuple(rows), (*notes, *size_notes(curves)))


def shown_table(table: Table) -> Table:
    """What people read of a ``size_table``: rows as in the paper's Table 1."""
    labelled = any(column.key == "label" for column in table.columns)
    columns = (
        *((_HEAD[0], _LABEL, _HEAD[1]) if labelled else _HEAD),
        *(Column("dice", "Dice [not empty]"), Column("interval", "95 %"), Column("hd95", "HD95 mm")),
        *(Column("iou", "Jaccard [not empty]"), Column("empty", "empty", 1), Column("gain", "gain in Dice (95 %)")),
    )
    rows: list[dict[str, Any]] = []
    seen = set()
    for row in table.rows:
        first = (row["model"], row.get("label")) not in seen
        seen.add((row["model"], row.get("label")))
        shown: dict[str, Any] = {key: row[key] for key in ("model", "label", "n") if key in row}
        shown |= {"dice": _bracketed(row, "dice"), "iou": _bracketed(row, "iou"), "hd95": row["hd95_mm"]}
        shown["interval"] = f"{_said(row['dice_low'])} to {_said(row['dice_high'])}"
        empty = float(str(row["empty"]))
        shown["empty"] = int(empty) if empty == int(empty) else round(empty, 1)
        value, low, high = (_said(row[key], "+") for key in ("gain", "gain_low", "gain_high"))
        shown["gain"] = None if first else f"{value} ({low} to {high})"
        rows.append(shown)
    return Table(columns, tuple(rows), table.notes)


def size_notes(curves: Sequence[SizeCurve]) -> list[str]:
    """Lines that hold for every such table, and what is particular to these curves."""
    lines = list(NOTES)
    for curve in curves:
        name = f"{curve.name}, {curve.label}" if curve.label else curve.name
        left = len(curve.without_reference)
        told = f"{name}: {len(curve.cases)} cases"
        if left:
            told += f"; {left} whose reference marks nothing left out"
        if curve.cases:
            single = [np.mean([getattr(case, key) for case in curve.cases]) for key in ("single_dice", "single_iou")]
            told += f"; its {curve.samples} samples one by one: mean Dice {single[0]:.3f}, Jaccard {single[1]:.3f}"
        lines.append(told)
    return lines


def curves_as_dict(curves: Sequence[SizeCurve]) -> list[dict[str, Any]]:
    """Plain JSON types: every case's Dice, Jaccard, HD95 and emptiness by size; undefined is None."""
    found = []
    for curve in curves:
        cases = []
        for case in curve.cases:
            measured = np.where(case.measured > 0, case.measured, math.nan)
            arrays = {"dice": case.dice, "iou": case.iou, "empty": case.empty, "hd95_mm": case.hd95_mm / measured}
            head = {"case": case.identity, "subject": case.subject}
            single = {"single_dice": case.single_dice, "single_iou": case.single_iou}
            cases.append(head | {key: array.tolist() for key, array in arrays.items()} | single)
        found.append(
            {
                "name": curve.name,
                "label": curve.label,
                "sizes": list(curve.sizes),
                "samples": curve.samples,
                "without_reference": list(curve.without_reference),
                "cases": cases,
            }
        )
    return plain(found)


def _bracketed(row: Mapping[str, Any], key: str) -> str:
    """ "0.881 [0.909]"."""
    return f"{_said(row[key])} [{_said(row[f'{key}_marked'])}]"


def _said(value: Any, sign: str = "") -> str:
    return "–" if value is None or math.isnan(value) else f"{value:{sign}.3f}"

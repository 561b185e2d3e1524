"""The tables of a benchmark: every system with its intervals, and its differences from one, patient by patient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from AmbiguousSegLib.evaluation.benchmark_result import CellResult, same_cases, values_of
from AmbiguousSegLib.evaluation.bootstrap import (
    REPLICATES,
    Bootstrap,
    Estimate,
    Sums,
    correlation_of,
    mean_of,
    ratio_of,
)
from AmbiguousSegLib.evaluation.table import UNDEFINED, Column, Table, Value
from AmbiguousSegLib.metrics.figures import FIGURES

SPREAD_RATIO, MODES = "spread_ratio", "mode_correlation"
ALL, MARKED_BY_ALL = "all cases", "cases that all raters marked"
COMPARED = ("ged_u", "hm_iou")
_TITLES = {SPREAD_RATIO: "spread ratio", MODES: "mode corr."}
_AT_EACH = ("ged_v", "ged_u")
_AT_MOST = (
    *("ci_harmonic", "ci_printed", "combined_sensitivity", "dice_max", "diversity_agreement", "hm_iou"),
    *("dice_consensus", "hd95_mm", SPREAD_RATIO, "roughness_samples", "roughness_raters", "calibration_error", MODES),
)
_COST = (
    *(Column("seconds_per_mask", "s per mask", 4), Column("parameters", "parameters"), Column("images", "images")),
    *(Column("training_cpu_seconds", "training CPU s", 0), Column("training_seconds", "training s", 0)),
)

Figures = dict[tuple[str, int], Estimate]
"""By key of a figure and number of samples."""


@dataclass(frozen=True)
class Subset:
    """Systems on all cases or on some of them.

    Attributes:
        name: in words.
        cases, patients: how many.
        figures: of each system.
        differences: of each system but the reference, from it; empty without one.
        reference: the system that the others are held against, "" for none.
    """

    name: str
    cases: int
    patients: int
    figures: Mapping[str, Figures]
    differences: Mapping[str, Figures]
    reference: str


def subsets_of(
    cells: Mapping[str, Sequence[CellResult]],
    samples: Sequence[int],
    reference: str | None = None,
    marked_by_all: bool = True,
    replicates: int = REPLICATES,
) -> list[Subset]:
    """All cases, and those that all raters marked where these are some of them but not all.

    Args:
        cells: of each system that has one or more, in the order of the tables.
        samples: numbers of samples.
        reference: a system; without cells, nothing is held against it.

    Raises:
        ValueError: cells of different cases, or none.
    """
    everything = [cell for own in cells.values() for cell in own]
    if not everything:
        raise ValueError("No cell is done, so there is no table; see what failed.")
    same_cases(everything)
    marked = np.array([case.marked_by_all for case in everything[0].cases])
    chosen = {ALL: np.ones(len(marked), bool)}
    if marked_by_all and marked.any() and not marked.all():
        chosen[MARKED_BY_ALL] = marked
    return [_subset(name, cells, keep, samples, reference, replicates) for name, keep in chosen.items()]


def _subset(
    name: str,
    cells: Mapping[str, Sequence[CellResult]],
    keep: np.ndarray,
    samples: Sequence[int],
    reference: str | None,
    replicates: int,
) -> Subset:
    of = {system: [_kept(cell, keep) for cell in own] for system, own in cells.items()}
    cases = next(iter(of.values()))[0].cases
    bootstrap = Bootstrap([case.subject for case in cases], replicates)
    sums = {system: _sums(own, samples) for system, own in of.items()}
    stream = {system: number for number, system in enumerate(of)}
    figures = {
        system: {key: bootstrap.estimate(one, stream[system]) for key, one in own.items()}
        for system, own in sums.items()
    }
    differences: dict[str, Figures] = {}
    if reference in sums:
        base = sums[reference]
        for system, own in sums.items():
            if system != reference:
                streams = stream[system], stream[reference]
                shared = [key for key in own if key in base]
                differences[system] = {key: bootstrap.difference(own[key], base[key], streams) for key in shared}
    return Subset(name, len(cases), bootstrap.patients, figures, differences, reference if reference in sums else "")


def _kept(cell: CellResult, keep: np.ndarray) -> CellResult:
    return replace(cell, cases=tuple(case for case, kept in zip(cell.cases, keep, strict=True) if kept))


def _sums(cells: Sequence[CellResult], samples: Sequence[int]) -> dict[tuple[str, int], Sums]:
    """Every figure of one system, to be summed over cases."""
    found: dict[tuple[str, int], Sums] = {}
    raters = np.array([case.raters for case in cells[0].cases], float)
    different = np.divide(raters, raters - 1, out=np.full(len(raters), math.nan), where=raters > 1)
    for count in samples:
        keys = cells[0].cases[0].figures[str(count)]
        found |= {(key, count): mean_of(values_of(cells, count, key)) for key in keys}
        ours = values_of(cells, count, "distance_samples_u")
        found[SPREAD_RATIO, count] = ratio_of(ours, values_of(cells, count, "distance_raters") * different)
    if any(case.mode_probabilities is not None for case in cells[0].cases):
        pairs = [
            [(np.array(case.mode_frequencies or ()), np.array(case.mode_probabilities or ())) for case in cell.cases]
            for cell in cells
        ]
        found[MODES, samples[-1]] = correlation_of(pairs)
    return found


def main_table(
    subset: Subset,
    cells: Mapping[str, Sequence[CellResult]],
    samples: Sequence[int],
    notes: Sequence[str] = (),
    failed: Mapping[str, int] | None = None,
) -> Table:
    """A row for each system: means with their intervals, and what it took.

    Args:
        cells: of each system, for what it took.
        failed: how many cells of a system failed; one that has no other is a row without figures.
    """
    failed = failed or {}
    shown = [(key, count) for key in _AT_EACH for count in samples] + [(key, samples[-1]) for key in _AT_MOST]
    known = {key for figures in subset.figures.values() for key in figures}
    shown = [key for key in shown if key in known]
    columns = [Column("system", "system"), *(Column(_key(*one), _title(*one, samples)) for one in shown), *_COST]
    rows = []
    for system in dict.fromkeys([*subset.figures, *failed]):
        figures, own = subset.figures.get(system, {}), cells.get(system, ())
        row: dict[str, Value] = {"system": system}
        row |= {_key(*one): _told(figures.get(one), _decimals(one[0])) for one in shown}
        row |= _costs(own) | {"seeds": _seeds(len(own), failed.get(system, 0))}
        rows.append(row)
    lines = [
        *notes,
        f"{subset.name}: {subset.cases} cases of {subset.patients} patients; unless a column says otherwise, figures "
        f"are those of {samples[-1]} samples",
        "mean over cases, then over seeds (low to high: 95 % interval of the bootstrap over patients and seeds); an "
        "interval of one seed holds nothing of what another training would give: such a system is not ranked",
    ]
    return Table((*columns, Column("seeds", "seeds")), tuple(rows), tuple(lines))


def difference_table(
    subset: Subset, cells: Mapping[str, Sequence[CellResult]], samples: Sequence[int], keys: Sequence[str] = COMPARED
) -> Table:
    """A row for each system but the reference: differences from it, paired by patient, and what they mean."""
    shown = [(key, samples[-1]) for key in keys]
    columns = [Column("system", "system")]
    for one in shown:
        title = FIGURES[one[0]].title
        columns += [Column(_key(*one), f"{title}, less the reference's"), Column(f"{one[0]}_verdict", f"in {title}")]
    rows = []
    for system, figures in subset.differences.items():
        row: dict[str, Value] = {"system": system}
        for one in shown:
            row[_key(*one)] = _told(figures.get(one), _decimals(one[0]), signed=True)
            row[f"{one[0]}_verdict"] = _verdict(figures.get(one), FIGURES[one[0]].better)
        rows.append(row | {"seeds": _seeds(len(cells[system]), 0)})
    lines = [
        f"{subset.name}: differences from {subset.reference} at {samples[-1]} samples, the same patients drawn for "
        "both, seeds of each on their own; better or worse: the 95 % interval excludes 0"
    ]
    return Table((*columns, Column("seeds", "seeds")), tuple(rows), tuple(lines))


def long_table(subsets: Sequence[Subset], cells: Mapping[str, Sequence[CellResult]]) -> Table:
    """A row for each number, in full precision: every figure at every number of samples, and every difference."""
    names = ("subset", "system", "minus", "figure", "samples", "value", "low", "high", "seeds", "ranked")
    rows: list[dict[str, Value]] = []
    for subset in subsets:
        parts = [("", subset.figures), (subset.reference, subset.differences)]
        for minus, of in parts:
            for system, figures in of.items():
                seeds = len(cells[system])
                for (key, count), one in figures.items():
                    values = (subset.name, system, minus, key, count, one.value, one.low, one.high, seeds, seeds > 1)
                    rows.append(dict(zip(names, values, strict=True)))
    return Table(tuple(Column(name, name) for name in names), tuple(rows))


def _key(key: str, count: int) -> str:
    return f"{key}_at_{count}"


def _title(key: str, count: int, samples: Sequence[int]) -> str:
    title = _TITLES.get(key) or FIGURES[key].title
    return f"{title}, {count}" if key in _AT_EACH and len(samples) > 1 else title


def _decimals(key: str) -> int:
    return FIGURES[key].decimals if key in FIGURES else 3


def _told(one: Estimate | None, decimals: int, signed: bool = False) -> str:
    if one is None or math.isnan(one.value):
        return UNDEFINED
    value, low, high = (f"{v:{'+' if signed else ''}.{decimals}f}" for v in (one.value, one.low, one.high))
    return f"{value} ({low} to {high})"


def _verdict(one: Estimate | None, better: str) -> str:
    if one is None or math.isnan(one.value):
        return UNDEFINED
    if not one.excludes_zero:
        return "undecided"
    return "better" if (one.value < 0) == (better == "lower") else "worse"


def _costs(cells: Sequence[CellResult]) -> dict[str, float | int | None]:
    """Means over the seeds; on a CPU a mask takes CPU seconds, on a GPU seconds."""

    def mean(value: Callable[[CellResult], float]) -> float | None:
        return float(np.mean([value(cell) for cell in cells])) if cells else None

    per_mask = mean(lambda c: c.cost.cpu_seconds_per_mask if c.device == "cpu" else c.cost.seconds_per_mask)
    return {
        "seconds_per_mask": per_mask,
        "parameters": cells[0].cost.parameters if cells else None,
        "images": round(mean(lambda c: c.cost.images) or 0) if cells else None,
        "training_cpu_seconds": mean(lambda c: c.cost.training_cpu_seconds),
        "training_seconds": mean(lambda c: c.cost.training_seconds),
    }


def _seeds(done: int, failed: int) -> str:
    words = f"{done}, not ranked" if done == 1 else str(done)
    return f"{words}; {failed} failed" if failed else words

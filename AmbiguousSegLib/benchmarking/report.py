"""What the cells of a benchmark come to, as files: tables, every figure, and a picture."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib import __version__
from AmbiguousSegLib.benchmarking.cell import PICTURE_CASES, PICTURES_FILE, RESULT_FILE, Cell
from AmbiguousSegLib.benchmarking.file import TRUTH, Benchmark
from AmbiguousSegLib.benchmarking.runner import failure
from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.evaluation.benchmark_result import CellResult
from AmbiguousSegLib.evaluation.benchmark_table import (
    Figures,
    Subset,
    difference_table,
    long_table,
    main_table,
    subsets_of,
)
from AmbiguousSegLib.evaluation.bootstrap import REPLICATES
from AmbiguousSegLib.evaluation.comparison import DEFINITIONS
from AmbiguousSegLib.evaluation.table import Table, plain
from AmbiguousSegLib.files import write_together
from AmbiguousSegLib.plotting.pictures import write_png
from AmbiguousSegLib.plotting.system_sheet import Shown, system_sheet

TABLE_FILE, CSV_FILE, SUMMARY_FILE, SHEET_FILE = "table.md", "table.csv", "summary.json", "samples.png"


def write_report(
    folder: Path, benchmark: Benchmark, cells: Sequence[Cell], replicates: int = REPLICATES
) -> list[Table]:
    """Tables of all cells that are done, written into ``folder`` together; those of systems, in their order.

    Raises:
        ValueError: no cell is done, or cells that cannot be compared.
    """
    done: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.done:
            done.setdefault(cell.system, []).append(cell.result())
    failed = {str(cell): reason for cell in cells if (reason := failure(cell))}
    missing = [cell for cell in cells if not cell.done]
    file = benchmark.file
    subsets = subsets_of(done, file.samples, file.reference, file.marked_by_all, replicates)
    counts: dict[str, int] = {}
    for cell in missing:
        counts.setdefault(cell.system, 0)
        counts[cell.system] += bool(failure(cell))
    notes = _notes(benchmark, done, failed, [str(cell) for cell in missing if not failure(cell)])
    tables = []
    for number, subset in enumerate(subsets):
        tables.append(main_table(subset, done, file.samples, [] if number else notes, counts))
        if subset.differences:
            tables.append(difference_table(subset, done, file.samples))
    summary = {
        "format_version": 1,
        "software": f"AmbiguousSegLib {__version__}",
        "benchmark": to_dict(file),
        "cells": [_of_cell(result) for own in done.values() for result in own],
        "failed": failed,
        "subsets": [_of_subset(subset) for subset in subsets],
        "tables": [table.as_dict() for table in tables],
    }
    count = min(PICTURE_CASES, len(next(iter(done.values()))[0].cases))
    picture = _picture([cell for cell in cells if cell.done], count)

    def write(place: Path) -> list[str]:
        text = f"# {file.title}\n\n" + "\n".join(table.markdown() for table in tables)
        (place / TABLE_FILE).write_text(text, encoding="utf-8")
        (place / CSV_FILE).write_text(long_table(subsets, done).csv(), encoding="utf-8")
        text = json.dumps(plain(summary), indent=1, ensure_ascii=False, allow_nan=False)
        (place / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
        write_png(place / SHEET_FILE, picture)
        return [TABLE_FILE, CSV_FILE, SUMMARY_FILE, SHEET_FILE]

    write_together(folder, write)
    return tables


def _notes(
    benchmark: Benchmark, done: Mapping[str, Sequence[CellResult]], failed: Mapping[str, str], missing: Sequence[str]
) -> list[str]:
    results = [result for own in done.values() for result in own]
    first, raters = results[0], sorted({case.raters for case in results[0].cases})
    shown = " to ".join(str(n) for n in sorted({raters[0], raters[-1]}))
    file = benchmark.file

    def all_of(name: str) -> str:
        return ", ".join(sorted({getattr(result, name) for result in results} - {""})) or "unknown"

    lines = [
        f"budget of each training: {file.budget.in_words()}; {file.test.part} part, {shown} raters a case",
        f"commit {all_of('commit')}; {all_of('device')}; {all_of('machine')}; "
        f"{min(result.date for result in results)[:10]} to {max(result.date for result in results)[:10]}",
        *DEFINITIONS,
        "spread ratio: mean E d(S,S') u over the cases by mean E d(Y,Y') over pairs of different raters; as spread as "
        "the raters: 1. Dice cons.: of what more than half of the samples and of the raters mark",
        f"s per mask: {'CPU seconds' if first.device == 'cpu' else 'seconds'} of drawing, "
        f"{first.cost.batch_size or 1} masks together; training seconds: of the process, with validation, all attempts",
    ]
    if any(case.mode_probabilities for case in first.cases):
        lines.append(f"mode corr.: of {file.test.mode_samples} samples a case; {TRUTH}: a perfect model's score")
    lines += [f"{cell} failed: {reason}" for cell, reason in failed.items()]
    return [*lines, *([f"not run yet: {', '.join(missing)}"] if missing else [])]


def _of_cell(result: CellResult) -> dict[str, Any]:
    return {key: value for key, value in to_dict(result).items() if key != "cases"}


def _of_subset(subset: Subset) -> dict[str, Any]:
    def listed(of: Mapping[str, Figures]) -> dict[str, Any]:
        return {
            system: [{"figure": key, "samples": count, **asdict(one)} for (key, count), one in figures.items()]
            for system, figures in of.items()
        }

    head = {"name": subset.name, "cases": subset.cases, "patients": subset.patients, "reference": subset.reference}
    return {**head, "figures": listed(subset.figures), "differences": listed(subset.differences)}


def _picture(cells: Sequence[Cell], count: int) -> np.ndarray:
    """Samples of the first seed of each system for the first ``count`` cases."""
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.system, cell)
    arrays = {system: _loaded(cell, count) for system, cell in first.items()}
    one = next(iter(arrays.values()))
    shown = [
        Shown(
            f"case {place + 1}",
            one[f"image{place}"],
            one[f"raters{place}"],
            {system: of[f"samples{place}"] for system, of in arrays.items()},
        )
        for place in range(count)
    ]
    return system_sheet(shown, next(iter(first.values())).config.labels)


def _loaded(cell: Cell, count: int) -> dict[str, np.ndarray]:
    path = cell.folder / PICTURES_FILE
    try:
        with np.load(path) as file:
            return {name: file[name] for place in range(count) for name in _names(place)}
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is damaged or gone; remove {RESULT_FILE} beside it, and {cell} is drawn and judged again."
        ) from error


def _names(place: int) -> tuple[str, ...]:
    return f"image{place}", f"raters{place}", f"samples{place}"

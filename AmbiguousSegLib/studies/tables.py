"""The tables of a study, as files: CSV that no spreadsheet takes for formulas, JSON, and Parquet where it can be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.evaluation.table import Column, Table, Value, plain
from AmbiguousSegLib.metrics.figures import FIGURES
from AmbiguousSegLib.studies.agreement import RatedCase, pair_table, rater_table, rating_table, reliability
from AmbiguousSegLib.studies.case import CASE, FORMAT, RATER_FIGURES
from AmbiguousSegLib.studies.jobs import LEFT_OUT, Job, Row
from AmbiguousSegLib.studies.requests import RESULT, read_object

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
CHANGING = ("status", "seconds", "memory_mb", "host")  # columns that another run of the same study fills otherwise
COLUMNS = (
    Column("case", "case"),
    Column("subject", "subject"),
    Column("model", "model"),
    Column("status", "status"),
    Column("flags", "flags"),
    Column("samples", "samples"),
    Column("volume_mean_ml", "volume mL"),
    Column("volume_median_ml", "median mL"),
    Column("volume_low_ml", "from mL"),
    Column("volume_high_ml", "to mL"),
    Column("interval_level", "level", 2),
    Column("consensus_ml", "consensus mL"),
    Column("modes", "modes"),
    Column("most_frequent_mode", "most frequent", 2),
    Column("disagreement", "disagreement"),
    Column("empty_samples", "empty samples"),
    Column("raters", "raters"),
    *(Column(key, FIGURES[key].title, FIGURES[key].decimals) for key in RATER_FIGURES),
    Column("seconds", "seconds", 1),
    Column("memory_mb", "memory MB", 0),
    Column("host", "host"),
    Column("warnings", "warnings"),
    Column("reason", "reason"),
)
NOTES = (
    "volumes are of the samples; the interval is that in which one more sample lies with the level given: 0.95, or "
    "less where the least and the greatest of few samples are all that is known",
    "disagreement is the mean of 1 − IoU over the pairs of different samples",
    "GED, CI, HM-IoU, Dice and HD95 compare the samples with the case's raters, over the whole volume",
    "seconds and memory are of sampling and writing; memory is the most that the process had",
)


def study_table(jobs: Sequence[Job], rows: Sequence[Row], out: Path) -> Table:
    """One row for each volume of the rows, in their order; what is not known is empty."""
    by_name = {job.name: job for job in jobs}
    return Table(COLUMNS, tuple(_row(by_name.get(row.name), row, out) for row in rows), NOTES)


def _row(job: Job | None, row: Row, out: Path) -> dict[str, Value]:
    found: dict[str, Value] = dict.fromkeys(column.key for column in COLUMNS)
    found |= {"case": row.name, "status": row.status, "warnings": row.warnings, "reason": row.message}
    if job is not None:
        found |= {"subject": job.subject or job.name, "model": job.model.name if job.model else ""}
    if row.status in ("failed", LEFT_OUT):
        return found | {"seconds": row.seconds}
    summary, case = read_object(out / row.name / RESULT) or {}, read_object(out / row.name / CASE) or {}
    if "model" in summary:
        found["model"] = summary["model"].get("name", found["model"])
    if "volume" in summary:
        low, high, level = interval_of(summary["volume"])
        volumes = summary["volume"]["samples"]
        modes = summary.get("modes", [])
        found |= {
            "samples": len(volumes),
            "volume_mean_ml": summary["volume"]["mean"],
            "volume_median_ml": float(np.median(volumes)),
            "volume_low_ml": low,
            "volume_high_ml": high,
            "interval_level": level,
            "consensus_ml": summary.get("consensus", {}).get("volume_ml"),
            "modes": len(modes),
            "most_frequent_mode": max((mode["frequency"] for mode in modes), default=None),
        }
    raters = case.get("raters", {})
    found |= {key: raters.get("figures", {}).get(key) for key in RATER_FIGURES}
    found |= {"raters": len(raters.get("raters", [])), "flags": "; ".join(case.get("flags", []))}
    found |= {key: case.get(key) for key in ("disagreement", "empty_samples", "seconds", "memory_mb", "host")}
    return found


def interval_of(volume: Mapping[str, Any]) -> tuple[float, float, float]:
    """Ends and level of the interval of a "volume" of ``samples.json``: of 95 %, or the range and its level."""
    if volume.get("interval_95"):
        low, high = volume["interval_95"]
        return low, high, 0.95
    low, high = volume["range"]
    return low, high, volume.get("range_level", math.nan)


def rated_cases(jobs: Sequence[Job], rows: Sequence[Row], out: Path) -> list[RatedCase]:
    """The cases that raters have read and that are done."""
    by_name, found = {job.name: job for job in jobs}, []
    for row in rows:
        if row.status in ("failed", LEFT_OUT) or row.name not in by_name:
            continue
        summary, case = read_object(out / row.name / RESULT) or {}, read_object(out / row.name / CASE) or {}
        raters = case.get("raters", {})
        if not raters.get("raters"):
            continue
        low, high, _ = interval_of(summary["volume"])
        dice = {tuple(sorted(pair["raters"])): pair["dice"] for pair in raters["pairs"]}
        volumes = {rater["name"]: rater["volume_ml"] for rater in raters["raters"]}
        interval = (low, high) if len(summary["volume"]["samples"]) > 1 else None
        subject = by_name[row.name].subject or row.name
        found.append(RatedCase(row.name, subject, volumes, dice, interval))
    return found


def neutral(table: Table) -> Table:
    """The table with an apostrophe before texts that a spreadsheet would take for a formula."""
    rows = [
        {key: f"'{v}" if isinstance(v, str) and v.startswith(_FORMULA) else v for key, v in row.items()}
        for row in table.rows
    ]
    return replace(table, rows=tuple(rows))


def write_tables(
    jobs: Sequence[Job], rows: Sequence[Row], out: Path, stem: str, write: Callable[[Path, bytes], None]
) -> None:
    """Write ``STEM.csv``, ``STEM.json``, ``STEM.parquet`` if pyarrow is installed, and those of raters if there are.

    Args:
        write: takes a path and its content.

    Raises:
        OSError: what ``write`` raises.
    """
    table = study_table(jobs, rows, out)
    content: dict[str, Any] = {"format_version": FORMAT, "study": table.as_dict()}
    tables = {stem: table}
    cases = rated_cases(jobs, rows, out)
    if cases:
        raters = {"raters": rater_table(cases), "rater_pairs": pair_table(cases), "ratings": rating_table(cases)}
        icc, complete, count = reliability(cases)
        content |= {"icc_2_1": plain({"value": icc, "cases": complete, "raters": count})}
        content |= {name: found.as_dict() for name, found in raters.items()}
        tables |= {f"{stem}_{name}": found for name, found in raters.items()}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write(out / f"{stem}.json", f"{text}\n".encode(errors="backslashreplace"))
    for name, found in tables.items():
        write(out / f"{name}.csv", neutral(found).csv().encode(errors="backslashreplace"))
    if (packed := _parquet(table)) is not None:
        write(out / f"{stem}.parquet", packed)


def _parquet(table: Table) -> bytes | None:
    """The table as Parquet; None without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    columns = {column.key: [plain(row[column.key]) for row in table.rows] for column in table.columns}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()

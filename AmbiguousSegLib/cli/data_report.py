"""What is in data, a row for each case: the table that ``prepare`` prints and writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.data.prepared_cases import PreparedCase
from AmbiguousSegLib.data.prepared_writing import Outcome, Skipped
from AmbiguousSegLib.evaluation.table import Column, Table, Value, plain
from AmbiguousSegLib.labels import Label

_MOST_ROWS = 30  # that people are shown
_COLUMNS = (
    *(Column("identity", "case"), Column("subject", "subject"), Column("group", "group"), Column("part", "part")),
    *(Column("modality", "modality"), Column("size", "size (x, y, z)"), Column("spacing_mm", "spacing, mm")),
    *(Column("channels", "channels"), Column("stored", "read as"), Column("kept", "kept as")),
    *(Column("least", "least", 6), Column("greatest", "greatest", 6), Column("raters", "raters")),
    *(Column("empty_raters", "empty"), Column("labels", "labels"), Column("marked_slices", "marked slices")),
    *(Column("largest_mm", "largest lesion, mm", 1), Column("status", "status"), Column("reason", "reason")),
)
_SHOWN = ("identity", "size", "spacing_mm", "channels", "kept", "range", "raters", "labels", "marked", "largest_mm")
_TITLES = {c.key: c.title for c in _COLUMNS} | {"range": "values", "marked": "marked slices", "kept": "type"}


def report(outcomes: Sequence[Outcome], labels: Sequence[Label]) -> Table:
    """A row for each case, the skipped ones too, with notes on what they are together.

    ``marked_slices`` counts along the third axis of the file; ``largest_mm`` is the longest edge of the box around the
    largest connected mark of all raters together.
    """
    return Table(_COLUMNS, tuple(_row(one, labels) for one in outcomes), tuple(_notes(outcomes, labels)))


def report_json(table: Table, head: dict[str, Any]) -> str:
    """The report as JSON, under what is said of the whole."""
    return json.dumps(plain({**head, **table.as_dict()}), indent=1, ensure_ascii=False) + "\n"


def for_people(table: Table) -> str:
    """The report for a terminal: the columns that matter, the first rows, and every case that was skipped."""
    read = [row for row in table.rows if row["status"] == "ok"]
    columns = tuple(Column(key, _TITLES[key], 1) for key in _SHOWN)
    rows = tuple({key: _short(row, key) for key in _SHOWN} for row in read[:_MOST_ROWS])
    lines = [Table(columns, rows, table.notes).text().rstrip()]
    if len(read) > _MOST_ROWS:
        lines.append(f"… and {len(read) - _MOST_ROWS} more, in report.csv")
    bad = [(str(row["identity"]), str(row["reason"])) for row in table.rows if row["status"] != "ok"]
    lines += [f"skipped: {'' if why.startswith(name) else f'{name}: '}{why}" for name, why in bad]
    return "\n".join(lines)


def _row(one: Outcome, labels: Sequence[Label]) -> dict[str, Value]:
    if isinstance(one, Skipped):
        nothing: dict[str, Value] = dict.fromkeys(column.key for column in _COLUMNS)
        return nothing | {"identity": one.identity, "status": "skipped", "reason": one.reason}
    seen = one.seen
    return {
        **{key: getattr(seen, key) for key in ("identity", "subject", "group", "part", "modality", "stored")},
        "size": " × ".join(map(str, seen.geometry.size)),
        "spacing_mm": "" if one.pictured else " × ".join(f"{mm:.4g}" for mm in seen.geometry.spacing_mm),
        "channels": len(seen.values),
        "kept": np.dtype(one.dtype).name,
        "least": min(channel.least for channel in seen.values),
        "greatest": max(channel.greatest for channel in seen.values),
        "raters": len(seen.raters),
        "empty_raters": seen.empty_raters,
        "labels": ", ".join(labels[number - 1].name for number in seen.labels),
        "marked_slices": len(seen.marked[0]),
        "largest_mm": None if one.pictured else _largest_mm(seen),
        "status": "ok",
        "reason": "",
    }


def _largest_mm(seen: Inspection) -> float:
    return max(px * mm for px, mm in zip(seen.largest_px, reversed(seen.geometry.spacing_mm)))


def _short(row: Any, key: str) -> Value:
    if key == "range":
        return f"{row['least']:g} … {row['greatest']:g}"
    if key == "raters":
        return f"{row['raters']} ({row['empty_raters']} empty)" if row["empty_raters"] else str(row["raters"])
    if key == "marked":
        return f"{row['marked_slices']} of {row['size'].rpartition(' ')[2]}"
    return row[key] or None


def _notes(outcomes: Sequence[Outcome], labels: Sequence[Label]) -> list[str]:
    """What the cases are together, and what will matter in training."""
    cases = [one for one in outcomes if isinstance(one, PreparedCase)]
    seen = [case.seen for case in cases]
    skipped = len(outcomes) - len(seen)
    notes = [f"{len(seen)} case(s) of {len({s.subject for s in seen})} subject(s), {skipped} skipped"]
    notes.append(f"raters: {_counts(seen, lambda s: str(len(s.raters)))}")
    for title, of in (
        ("part", lambda s: s.part or "none"),
        ("group", lambda s: s.group or "none"),
        ("modality", lambda s: s.modality or "unknown"),
    ):
        if any(getattr(s, title) for s in seen):
            notes.append(f"{title}: {_counts(seen, of)}")
    if len({len(s.values) for s in seen}) > 1:
        told = _counts(seen, lambda s: str(len(s.values)))
        notes.append(f"NUMBERS OF CHANNELS DIFFER, which training refuses: {told}")
    if nothing := [s.identity for s in seen if not s.labels]:
        more = ", …" if len(nothing) > 3 else ""
        notes.append(f"no rater marked anything in {len(nothing)} case(s): {', '.join(nothing[:3])}{more}")
    there = {number for s in seen for number in s.labels}
    if missing := [label.name for number, label in enumerate(labels, start=1) if number not in there]:
        notes.append(f"LABELS THAT NOBODY MARKED ANYWHERE: {', '.join(missing)}")
    if pictures := sum(case.pictured for case in cases):
        notes.append(f"{pictures} case(s) are pictures, which do not know the size of their pixels")
    return notes


def _counts(seen: Sequence[Inspection], of: Callable[[Inspection], str]) -> str:
    """How often each thing occurs, the most frequent first: "4 in 12 case(s), 2 in 1 case(s)"."""
    return ", ".join(f"{what} in {count} case(s)" for what, count in Counter(map(of, seen)).most_common(6))

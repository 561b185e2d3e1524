"""What people decided about sampled lesions: which mask stands for each, and in which order they are looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.evaluation.table import Column, Table

SAMPLE, MODE, CONSENSUS, EDITED = "sample", "mode", "consensus", "edited"
KINDS = (SAMPLE, MODE, CONSENSUS, EDITED)
UNCHANGED, CHANGED, DELETED = "unchanged", "changed", "deleted"
FORMAT_VERSION = 1
COLUMNS = (
    Column("run", "run"),
    Column("input", "input"),
    Column("accepted", "accepted"),
    Column("mask", "mask"),
    Column("mode", "mode"),
    Column("since_then", "since then"),
    Column("voxels", "voxels"),
    Column("volume_ml", "volume (mL)"),
    Column("reviewer", "reviewer"),
    Column("decided_at", "decided at (UTC)"),
    Column("comment", "comment"),
)

_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for the begin of a formula


@dataclass(frozen=True)
class Decision:
    """A mask that somebody accepted for a lesion.

    Attributes:
        kind: one of KINDS.
        mask: which mask of the run: "sample 03", "consensus", "edited 1". Of a mode, its representative.
        reviewer: who.
        at: when, UTC, ISO 8601.
        voxels: how many the mask gave to each class then.
        checksum: of the mask then.
        mode: its number, of a mode alone.
        comment: for people.

    Raises:
        ValueError: another kind, or nobody decided.
    """

    kind: str
    mask: str
    reviewer: str
    at: str
    voxels: tuple[int, ...]
    checksum: int
    mode: int | None = None
    comment: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"A decision is for one of {', '.join(KINDS)}, got {self.kind!r}. Name one of them.")
        if not self.reviewer.strip():
            raise ValueError("A decision needs somebody who made it, got an empty name. Enter the reviewer's name.")


@dataclass(frozen=True)
class Reviewed:
    """A run, and the decision about it, if there is one.

    Attributes:
        run: its name.
        input: name of the volume; empty if it is gone.
        labels: names of the classes.
        voxel_ml: volume of a voxel; None if the run's grid cannot be read any more.
        decision: None: it is open.
        state: of the mask accepted since then, UNCHANGED, CHANGED or DELETED; empty without a decision.
    """

    run: str
    input: str
    labels: tuple[str, ...]
    voxel_ml: float | None
    decision: Decision | None = None
    state: str = ""


def in_falling_order(values: Sequence[float | None]) -> list[int]:
    """Places of the values from the greatest to the least; equal ones as they stand, None and nan last."""
    defined = [value if value is not None and not math.isnan(value) else -math.inf for value in values]
    return sorted(range(len(defined)), key=lambda place: -defined[place])


def decisions_table(reviewed: Sequence[Reviewed]) -> Table:
    """A row for each run, open ones included; ``voxels`` and ``volume_ml`` are of all classes together, as accepted."""
    rows = []
    for entry in reviewed:
        row: dict[str, Any] = dict.fromkeys(column.key for column in COLUMNS)
        row |= {"run": entry.run, "input": entry.input, "since_then": entry.state or None}
        if (decision := entry.decision) is not None:
            count = sum(decision.voxels)
            row |= {"accepted": decision.kind, "mask": decision.mask, "mode": decision.mode, "voxels": count}
            row |= {"reviewer": decision.reviewer, "decided_at": decision.at, "comment": decision.comment}
            row["volume_ml"] = None if entry.voxel_ml is None else count * entry.voxel_ml
        rows.append(row)
    return Table(COLUMNS, tuple(rows))


def decisions_csv(reviewed: Sequence[Reviewed]) -> str:
    """The table as CSV, text on one line each; what a spreadsheet would take for a formula is led by an apostrophe."""
    table = decisions_table(reviewed)
    rows = tuple({key: _harmless(value) for key, value in row.items()} for row in table.rows)
    return replace(table, rows=rows).csv()


def decisions_json(reviewed: Sequence[Reviewed]) -> str:
    """The same as JSON, word for word, with the voxels of each class and the checksum."""
    runs: list[Mapping[str, Any]] = []
    for entry in reviewed:
        decision = None if entry.decision is None else to_dict(entry.decision)
        if decision is not None:
            decision["voxels"] = dict(zip(entry.labels, decision["voxels"]))
            decision["since_then"] = entry.state
        runs.append({"run": entry.run, "input": entry.input, "voxel_ml": entry.voxel_ml, "decision": decision})
    return json.dumps({"review": FORMAT_VERSION, "runs": runs}, indent=2, ensure_ascii=False) + "\n"


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    line = " ".join(value.split())
    return f"'{line}" if line.startswith(_FORMULA) else line

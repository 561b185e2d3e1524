"""One table object: what is printed, written to files and shown elsewhere is the same rows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Value = str | int | float | bool | None
UNDEFINED = "–"


@dataclass(frozen=True)
class Column:
    """A column: ``key`` in files, ``title`` for people, and how many ``decimals`` people see of a float."""

    key: str
    title: str
    decimals: int = 3


@dataclass(frozen=True)
class Table:
    """Rows of plain values under named columns, with notes that say how to read them.

    Attributes:
        columns: from left to right.
        rows: one mapping per row, from the keys of the columns to values; None and nan mean undefined.
        notes: lines that stand above the table.

    Raises:
        ValueError: a row whose keys are not those of the columns, or a key that two columns bear.
    """

    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Value], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = [column.key for column in self.columns]
        if len(set(keys)) < len(keys):
            raise ValueError(f"Table columns must differ, got {keys}. Rename one.")
        for number, row in enumerate(self.rows):
            wrong = sorted(set(row) ^ set(keys))
            if wrong:
                raise ValueError(f"Table row {number} and the columns differ in {', '.join(wrong)}. Give each a value.")

    def text(self) -> str:
        """For a terminal: notes, then columns padded with spaces, numbers to the right."""
        cells = [[column.title for column in self.columns], *self._shown()]
        right = [all(_is_number(row[column.key]) for row in self.rows) for column in self.columns]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right)).rstrip()
            for row in cells
        ]
        return "\n".join([*self.notes, *([""] if self.notes else []), *lines]) + "\n"

    def markdown(self) -> str:
        """Notes as a list, then a table in Markdown."""
        rules = ["---:" if all(_is_number(row[c.key]) for row in self.rows) else "---" for c in self.columns]
        rows = [[column.title for column in self.columns], *self._shown()]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        lines.insert(1, "| " + " | ".join(rules) + " |")
        return "\n".join([*(f"- {note}" for note in self.notes), *([""] if self.notes else []), *lines]) + "\n"

    def csv(self) -> str:
        """Keys, then values in full precision; undefined cells are empty. Notes have no place in it."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(column.key for column in self.columns)
        writer.writerows([_stored(row[column.key]) for column in self.columns] for row in self.rows)
        return out.getvalue()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types: notes, columns and rows; undefined is None."""
        return {
            "notes": list(self.notes),
            "columns": [asdict(column) for column in self.columns],
            "rows": [{column.key: plain(row[column.key]) for column in self.columns} for row in self.rows],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Table:
        """The table that ``as_dict`` made ``content`` from; what was nan is None.

        Raises:
            ValueError: content of another form.
        """
        try:
            columns = tuple(Column(**column) for column in content["columns"])
            return cls(columns, tuple(dict(row) for row in content["rows"]), tuple(content["notes"]))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"A table is read from notes, columns (key, title, decimals) and rows; {error} is wrong in this one. "
                "Give what Table.as_dict returns."
            ) from error

    def _shown(self) -> list[list[str]]:
        return [[_shown(row[column.key], column.decimals) for column in self.columns] for row in self.rows]


def plain(value: Any) -> Any:
    """``value`` with nan replaced by None, in mappings and sequences too: what strict JSON can hold."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _is_number(value: Value) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _shown(value: Value, decimals: int) -> str:
    value = plain(value)
    if value is None:
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{decimals}f}" if isinstance(value, float) else " ".join(str(value).split())


def _stored(value: Value) -> str:
    value = plain(value)
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)

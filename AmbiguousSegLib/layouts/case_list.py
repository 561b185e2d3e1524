"""The reader "list": cases that a file lists, CSV or JSON: files of images and masks, or arrays in ``.npz`` files.

The list is the data itself, or ``cases.csv``, ``cases.tsv`` or ``cases.json`` in the data folder. Paths in it are
relative to it. CSV has one line for each case, JSON one object with the same names, or one for an ``.npz`` file of many
cases (``arrays.ArrayEntry``).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Case, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.arrays import read_arrays
from AmbiguousSegLib.layouts.listed_files import Columns, Row, read_files
from AmbiguousSegLib.text_files import read_bytes, read_json
from AmbiguousSegLib.volume.file_checks import shown

_SUFFIXES = (".csv", ".tsv", ".json")
NAMES = tuple(f"cases{suffix}" for suffix in _SUFFIXES)
_MANY = re.compile(r"(image|rater|mask|label)s?", re.IGNORECASE)  # of JSON: several files under one name


@LAYOUTS.register("list")
def recognise(folder: Path) -> Layout | None:
    """A list, or a folder with ``cases.csv``, ``cases.tsv`` or ``cases.json``; JSON of another kind is no list."""
    if folder.suffix.lower() in _SUFFIXES and folder.is_file():
        return _layout(folder, f"list of cases {shown(folder.name)}")
    found = [name for name in NAMES if (folder / name).is_file()]
    if len(found) == 1:
        return _layout(folder / found[0], f"folder with the list of cases {found[0]}", surely=True)
    return Layout(f"folder with the lists of cases {', '.join(found)}") if found else None


def _layout(file: Path, words: str, surely: bool = False) -> Layout | None:
    """What a file is; damaged ones are lists, which their reader will say."""
    try:
        if file.suffix.lower() != ".json":
            keys, _ = _rows_of_csv(file)
        else:
            stored = read_json(file)
            first = stored[0] if isinstance(stored, list) and stored else stored
            keys = list(_flat(first)) if isinstance(first, dict) else []
            if not surely and not any(key == "npz" or key.casefold().startswith("image") for key in keys):
                return None
        channels = tuple(name for _, name in Columns.of(keys).images)
    except (OSError, ValueError):
        return Layout(words)
    return Layout(words, channels=channels if all(map(_is_name, channels)) else ())


@READERS.register("list")
def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[Case]:
    """All cases of a list: those in arrays, then those in files, each in the order of the list.

    Raises:
        FileNotFoundError, PermissionError, ValueError: no list, or several; what it says cannot be read, or does not
            fit: as ``read_arrays`` and ``read_files``.
    """
    file = _list_in(folder)
    arrays: list[Row] = []
    if file.suffix.lower() == ".json":
        arrays, rows = _entries_of_json(file)
        keys = list(dict.fromkeys(key for _, cells in rows for key in cells))
    else:
        keys, rows = _rows_of_csv(file)
    cases: list[Case] = []
    for where, entry in arrays:
        try:
            cases += read_arrays(entry, file.parent, config, len(labels))
        except ValueError as error:
            raise ValueError(f"{shown(file)}, {where}: {error}") from error
    return [*cases, *read_files(keys, rows, file, config, labels)] if rows else cases


def _list_in(folder: Path) -> Path:
    if not folder.is_dir():
        return folder
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) != 1:
        there = f"holds {', '.join(file.name for file in found)}" if found else "holds no list"
        raise ValueError(f"{shown(folder)} {there}, expected one of {', '.join(NAMES)}; name the list itself as data.")
    return found[0]


def _is_name(channel: str) -> bool:
    return bool(channel) and not channel.isdecimal()


def _entries_of_json(file: Path) -> tuple[list[Row], list[Row]]:
    """Entries that name arrays, and those that name files."""
    stored = read_json(file)
    entries = [stored] if isinstance(stored, dict) else stored
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{shown(file)} must hold an object for each case or .npz file, in a list; correct it.")
    numbered = [(f"entry {number}", entry) for number, entry in enumerate(entries, start=1)]
    return [row for row in numbered if "npz" in row[1]], [(w, _flat(e)) for w, e in numbered if "npz" not in e]


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """``{"raters": {"anna": …}}`` as ``{"rater_anna": …}``, a list of files by its numbers, null as an empty cell."""
    cells: dict[str, Any] = {}
    for key, value in entry.items():
        many = _MANY.fullmatch(key)
        if many and isinstance(value, (dict, list)):
            named = value.items() if isinstance(value, dict) else enumerate(value, start=1)
            cells.update({f"{many[1]}_{name}": "" if cell is None else cell for name, cell in named})
        else:
            cells[key] = "" if value is None else value
    return cells


def _rows_of_csv(file: Path) -> tuple[list[str], list[Row]]:
    """Columns and lines of a table; comma, semicolon or tab, whichever the first line has most, divides its cells."""
    try:
        text = read_bytes(file).decode("utf-8-sig").lstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown(file)} is not UTF-8 (byte {error.start}); save it as CSV UTF-8.") from error
    head = re.sub(r'"[^"]*"', "", text.splitlines()[0] if text else "")
    delimiter = max(",;\t", key=head.count)
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    rows: list[Row] = []
    try:
        keys = [key.strip() for key in table.fieldnames or []]
        table.fieldnames = keys
        if len({key.casefold() for key in keys}) < len(keys) or not all(keys):
            raise ValueError(f"{shown(file)}: each column needs a name of its own, got {', '.join(keys)}; rename them.")
        for cells in table:
            where = f"line {table.line_num}"
            if None in cells or None in cells.values():
                found = sum(cell is not None for key, cell in cells.items() if key) + len(cells.get(None) or [])
                raise ValueError(f"{shown(file)}, {where}: {found} cells, expected {len(keys)}; correct the line.")
            if any(cell.strip() for cell in cells.values()):
                rows.append((where, {key: cell.strip() for key, cell in cells.items()}))
    except csv.Error as error:
        raise ValueError(f"{shown(file)}, after line {table.line_num}: {error}; correct it.") from error
    return keys, rows

"""A table of volumes, CSV or JSON, as jobs of a study."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from AmbiguousSegLib.files import said
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.studies.jobs import Job, name_problem, volume_name
from AmbiguousSegLib.text_files import read_bytes, read_json

LPS_COLUMNS, RAS_COLUMNS = ("point_x", "point_y", "point_z"), ("point_r", "point_a", "point_s")
OWN_COLUMNS = (
    *("name", "seed", "series", "slice_first", "slice_last", *LPS_COLUMNS, *RAS_COLUMNS, "window_mm"),
    *("region", "raters", "model", "subject"),
)
RATER = "rater_"
_PARTS = {"point": LPS_COLUMNS, "slices": ("slice_first", "slice_last")}  # lists in JSON, columns in CSV
_MOST_BYTES = 64_000_000


def read_table(path: Path) -> list[Job]:
    """Jobs of a table.

    CSV has a line for each volume. Columns are ``OWN_COLUMNS``, ``rater_NAME`` for the file of a rater, and every
    other one is a channel; ``region`` holds X0 X1 Y0 Y1 Z0 Z1 in LPS mm, ``raters`` files separated by semicolons.
    JSON is a list of objects with the same names, in which ``channels`` and ``raters`` may also be a list or an object
    of files by name, and ``point``, ``slices`` and ``region`` lists of numbers. Paths are relative to the table.

    Raises:
        ValueError: with file and line, if a column or cell is missing, or a number is none. OSError: as ``read_bytes``.
    """
    if path.suffix.lower() == ".json":
        return _entries(path)
    try:
        return _lines(path, read_bytes(path, _MOST_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}). Save it as CSV, UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{path}: cannot be read as a table ({error}). Save it as CSV, UTF-8.") from error


def _lines(path: Path, text: str) -> list[Job]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = [column.strip() for column in reader.fieldnames or []]
    reader.fieldnames = columns
    for column in columns:
        if column not in OWN_COLUMNS and column.lower() in OWN_COLUMNS:
            raise ValueError(f"{path}: a column is named {column!r}; name it {column.lower()!r}.")
    if not _channels(columns) or any(";" in column or not column for column in columns):
        raise ValueError(
            f"{path}: expected a first line of column names separated by commas, one column per channel beside "
            f"the optional {', '.join(OWN_COLUMNS)} and {RATER}NAME; got {columns}."
        )
    return [_job_of(row, _channels(columns), path, f"line {reader.line_num}") for row in reader]


def _entries(path: Path) -> list[Job]:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise ValueError(
            f"{path}: expected a list of objects, one for each volume, with the names of a table's columns."
        )
    jobs = []
    for number, entry in enumerate(content, start=1):
        where = f"entry {number}"
        try:
            cells = _flat(entry)
        except ValueError as error:
            raise ValueError(f"{path}, {where}: {error}") from None
        channels = _channels(cells)
        if not channels:
            raise ValueError(f"{path}, {where}: expected a file for each channel, under 'channels' or by its name.")
        jobs.append(_job_of(cells, channels, path, where))
    return jobs


def _channels(columns: Sequence[str] | Mapping[str, Any]) -> list[str]:
    return [column for column in columns if column not in OWN_COLUMNS and not column.startswith(RATER)]


def _flat(entry: Mapping[str, Any]) -> dict[str, str]:
    """Cells of text, as CSV has them, of an entry of JSON."""
    cells: dict[str, str] = {}

    def put(key: str, value: Any) -> None:
        if value is None or isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"{key} must be text or a number, got {value!r}.")
        if key in cells:
            raise ValueError(f"{key} is given twice.")
        cells[key] = str(value)

    for key, value in entry.items():
        if value is None:
            continue
        if key in _PARTS:
            if not isinstance(value, list) or len(value) != len(_PARTS[key]):
                raise ValueError(f"{key} must be a list of {len(_PARTS[key])} numbers, got {value!r}.")
            for part, number in zip(_PARTS[key], value):
                put(part, number)
        elif key == "region" and isinstance(value, list):
            put(key, " ".join(map(str, value)))
        elif key in ("channels", "raters") and isinstance(value, (list, dict)):
            named = value if isinstance(value, dict) else {str(k): v for k, v in enumerate(value, start=1)}
            if key == "raters" and isinstance(value, list):
                put(key, "; ".join(map(str, value)))
                continue
            for name, file in named.items():
                put(f"{RATER}{name}" if key == "raters" else f"channel {name}" if name in OWN_COLUMNS else name, file)
        else:
            put(key, value)
    return cells


def _job_of(row: Mapping[str, Any], channels: list[str], path: Path, line: str) -> Job:
    def text(column: str) -> str:
        return (row.get(column) or "").strip()

    def number(column: str) -> int | None:
        if text(column) and not text(column).isdecimal():
            raise ValueError(f"{path}, {line}: {column} must be an integer of at least 0, got {text(column)!r}.")
        return int(text(column)) if text(column) else None

    if None in row or any(not text(column) for column in channels):
        raise ValueError(f"{path}, {line}: expected one cell for each column and a file for each of {channels}.")
    if any("\0" in str(cell) for cell in row.values()):
        raise ValueError(f"{path}, {line}: a cell holds the character of number 0. Save it as CSV, UTF-8.")
    paths = tuple(path.parent / text(column) for column in channels)
    name = text("name") or volume_name(paths[0])
    if problem := name_problem(name):
        told = f"name must be usable as the name of a folder, got {name[:60]!r}, which {problem}."
        raise ValueError(f"{path}, {line}: {told}")
    first, last = number("slice_first"), number("slice_last")
    if (first is None) != (last is None) or (first is not None and last is not None and first > last):
        raise ValueError(f"{path}, {line}: give both slice_first and slice_last, first <= last, or neither.")
    slices = None if first is None or last is None else (first, last)
    try:
        point, window = _point_of(row)
        region = _region_of(text("region"))
        model = _model_of(text("model"), path.parent)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}, {line}: {said(error)}") from None
    if point is not None and (slices is not None or region is not None):
        other = "slice_first and slice_last" if slices is not None else "region"
        raise ValueError(f"{path}, {line}: a point chooses slices by itself; leave out {other}.")
    named = [column for column in row if column.startswith(RATER) and text(column)]
    raters = [(column[len(RATER) :], path.parent / text(column)) for column in named]
    raters += [("", path.parent / file.strip()) for file in text("raters").split(";") if file.strip()]
    return Job(
        name,
        paths,
        slices,
        number("seed"),
        text("series") or None,
        point,
        window,
        region=region,
        raters=tuple(raters),
        model=model,
        subject=text("subject"),
    )


def _point_of(row: Mapping[str, Any]) -> tuple[tuple[float, float, float] | None, float | None]:
    """Place that a row points at, in LPS mm, and the size of the window around it; ValueError for what is none."""
    from AmbiguousSegLib.inference.point_sampling import Pointing
    from AmbiguousSegLib.volume.geometry import lps_of_ras

    def numbers(columns: Sequence[str]) -> list[float]:
        texts = {column: text for column in columns if (text := (row.get(column) or "").strip())}
        values = _finite(list(texts.values()))
        if values is None:
            raise ValueError(f"{', '.join(texts)} must be numbers, in mm, got {', '.join(texts.values())}.")
        return values

    lps, ras, window = numbers(LPS_COLUMNS), numbers(RAS_COLUMNS), numbers(["window_mm"])
    if lps and ras:
        raise ValueError(
            f"both {', '.join(LPS_COLUMNS)} (LPS mm) and {', '.join(RAS_COLUMNS)} (RAS mm) are given; leave one out."
        )
    if sorted((len(lps), len(ras))) not in ([0, 0], [0, 3]):
        raise ValueError(f"give {', '.join(LPS_COLUMNS)} (LPS mm) or {', '.join(RAS_COLUMNS)} (RAS mm), all three.")
    if window and not (lps or ras):
        raise ValueError("window_mm belongs to a point; give the point, too.")
    if not (lps or ras):
        return None, None
    x, y, z = lps or lps_of_ras(ras)
    pointing = Pointing((x, y, z), window[0] if window else None)
    return pointing.point_mm, pointing.window_mm


def _finite(texts: Sequence[str]) -> list[float] | None:
    """The numbers that texts hold; None if one is none, or not finite."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None


def _region_of(text: str) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    if not text:
        return None
    v = _finite(text.replace(",", " ").replace(";", " ").split())
    if v is None or len(v) != 6 or v[0] > v[1] or v[2] > v[3] or v[4] > v[5]:
        raise ValueError(f"region must be X0 X1 Y0 Y1 Z0 Z1 in LPS mm, the lower of each first, got {text[:80]!r}.")
    return (v[0], v[2], v[4]), (v[1], v[3], v[5])


def _model_of(text: str, folder: Path) -> Path | None:
    """A folder beside the table, or whatever ``find_model`` finds; None for an empty cell."""
    if not text:
        return None
    return folder / text if (folder / text).is_dir() else find_model(text)

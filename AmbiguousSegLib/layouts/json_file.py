"""JSON files of others: read within bounds, with errors of one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.volume.file_checks import check_file, shown, size_text

MOST_BYTES = 32_000_000  # a list of 200,000 files
_DEEPEST = 16
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)  # up to the end, where it is not closed


def read_bounded(path: Path) -> bytes:
    """The bytes of a file of text.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as ``check_file``; more than ``MOST_BYTES``.
    """
    check_file(path)
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"{shown(path)} is larger than {size_text(MOST_BYTES)}, the most that is read of a list or description; is "
            "it the intended file?"
        )
    return data


def read_json(path: Path) -> Any:
    """What a JSON file holds. Size and nesting are bounded before anything is parsed.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as ``read_bounded``; not JSON in UTF-8 (line and column are
            named), nested more than 16 deep, a key that an object holds twice, NaN or infinity.
    """
    data = read_bounded(path)
    marks = np.frombuffer(_STRING.sub(b"", data), np.uint8)
    opened, closed = ((marks == ord(a)) | (marks == ord(b)) for a, b in ("[{", "]}"))
    if (deepest := np.cumsum(opened.astype(np.int32) - closed).max(initial=0)) > _DEEPEST:
        raise ValueError(f"{shown(path)} is nested {deepest} deep, expected at most {_DEEPEST}; is it the right file?")
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown(path)} is not UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except ValueError as error:
        raise ValueError(f"{shown(path)} is not valid JSON: {error}; correct it.") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice in one object")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")

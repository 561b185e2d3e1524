"""JSON files of others: read within bounds, with errors of one line."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from AmbiguousSegLib.volume.file_checks import check_file, shown, size_text

MOST_BYTES = 16_000_000  # a list of 100,000 files
_DEEPEST = 16
_MARKS = re.compile(rb'\\.|["\[\]{}]', re.DOTALL)


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
    if _is_deep(data):
        raise ValueError(f"{shown(path)} is nested more than {_DEEPEST} deep; is it the intended file?")
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown(path)} is not UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except ValueError as error:
        raise ValueError(f"{shown(path)} is not valid JSON: {error}; correct it.") from error


def _is_deep(data: bytes) -> bool:
    """Whether brackets outside of strings are nested deeper than ``_DEEPEST``."""
    depth, inside = 0, False
    for found in _MARKS.finditer(data):
        mark = found[0]
        if mark == b'"':
            inside = not inside
        elif not inside and mark in b"[{":
            depth += 1
            if depth > _DEEPEST:
                return True
        elif not inside and mark in b"]}":
            depth -= 1
    return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")

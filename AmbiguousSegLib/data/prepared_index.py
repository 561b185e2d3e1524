"""The file ``prepared.json`` of prepared data: one JSON object, of which the lines can be read one by one.

The first line bears the checksum of all others, the second is the head, which holds for all cases, and each one behind
it a case (``prepared_cases.case_line``).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from AmbiguousSegLib.text_files import parse_json
from AmbiguousSegLib.volume.file_checks import check_file, shown

INDEX = "prepared.json"
VERSION = 1
START = '{"form": "AmbiguousSeg prepared data", "crc32": '  # of the first line
REMEDY = "prepare the data again (ambiguousseg prepare … --overwrite)"
_MOST_HEAD = 1 << 26  # bytes


def index_text(head: Mapping[str, Any], lines: Sequence[str]) -> str:
    """The text of ``prepared.json``."""
    whole = {"version": VERSION, **head, "cases": len(lines)}
    rest = f'"head": {json.dumps(whole)},\n"cases": [\n' + ",\n".join(lines) + "\n]}\n"
    return f"{START}{zlib.crc32(rest.encode())},\n{rest}"


def read_head(path: Path) -> dict[str, Any]:
    """The head of a ``prepared.json``, from its second line.

    Raises:
        ValueError: not ours, damaged, or of a later version. OSError: as ``check_file``.
    """
    check_file(path)
    with open(path, "rb") as file:
        file.readline(_MOST_HEAD)
        return _head(path, file.readline(_MOST_HEAD))


def read_index(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The head, and for each case what ``case_line`` wrote; errors as ``read_head``."""
    check_file(path)
    with open(path, "rb") as file:
        first = file.readline(_MOST_HEAD)
        rest = file.read() if first.startswith(START.encode()) else b""
    if first != f"{START}{zlib.crc32(rest)},\n".encode():
        raise ValueError(f"{shown(path)} is damaged or was changed: it does not agree with its checksum; {REMEDY}.")
    head, _, cases = rest.partition(b"\n")
    return _head(path, head), parse_json(b"{" + cases, shown(path), nan=True)["cases"]


def _head(path: Path, line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(b"{" + line.rstrip().removesuffix(b",") + b"}")["head"]
        version = int(head["version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{shown(path)} is damaged, or not of prepared data; {REMEDY}.") from error
    if version > VERSION:
        raise ValueError(f"{shown(path)} is of form {version}, this version reads {VERSION}; {REMEDY}, or update.")
    return head

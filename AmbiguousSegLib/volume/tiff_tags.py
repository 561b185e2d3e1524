"""Directories and tags of TIFF and EXIF, read within bounds; no pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from AmbiguousSegLib.volume.file_checks import cut_off, shown

Tags = dict[int, tuple[Any, ...]]
"""Values of a directory's tags by their numbers; of text, one string."""

ORIENTATION, DESCRIPTION = 274, 270
_MOST_PAGES = 65_536
_MOST_TAGS = 4_096
_SHARED = 1 << 20
_NUMBERS = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}  # types of whole numbers; 2 is text
_PROGRAMS = {34412, *range(33628, 33632)}  # of which only counts that they are there
_USED = {*range(254, 263), 266, DESCRIPTION, 273, ORIENTATION, 277, 278, 279, 284, 292, 293, 317, *range(320, 326)}
_USED |= {338, 339, 347}


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins so is a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_pages(path: Path, most: int | None = None) -> tuple[str, list[Tags]]:
    """Byte order ("<" or ">") and the tags of each page that are used here, or of the first ``most`` pages.

    Raises:
        ValueError: cut off, damaged, a chain of pages without end, or more pages or tags than there ever are.
    """
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            order, big, first = _start(file)
            return order, list(islice(_directories(path, file, size, order, big, first), most))
    except (struct.error, OverflowError) as error:
        raise cut_off(path) from error


def exif_turn(data: bytes) -> int:
    """Orientation, 1 to 8, of EXIF's bytes; 1 where there is none that can be read."""
    if not is_tiff(data):
        return 1
    file = BytesIO(data)
    try:
        order, big, first = _start(file)
        tags = next(_directories(Path("EXIF"), file, len(data), order, big, first), {})
    except (struct.error, ValueError, OverflowError):
        return 1
    turn = tags.get(ORIENTATION, (1,))[0]
    return turn if turn in range(1, 9) else 1


def _start(file: BinaryIO) -> tuple[str, bool, int]:
    """Byte order, whether numbers are those of BigTIFF, and where the first directory lies."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = b"+" in head[2:4]
    return order, big, struct.unpack_from(f"{order}Q" if big else f"{order}I", head, 8 if big else 4)[0]


def _directories(path: Path, file: BinaryIO, size: int, order: str, big: bool, at: int) -> Iterator[Tags]:
    count_format, wide = ("Q", 8) if big else ("H", 4)
    entry, place = struct.Struct(f"{order}HH{'Q' if big else 'I'}"), struct.Struct(f"{order}{'Q' if big else 'I'}")
    seen: set[int] = set()
    budget = [size + _SHARED, size]  # bytes of values in all (directories may share theirs, but hardly do), of the file
    while at:
        if at in seen or len(seen) == _MOST_PAGES:
            found = "its pages lead back to an earlier one" if at in seen else f"it has more than {_MOST_PAGES:,} pages"
            raise ValueError(f"{shown(path)} is damaged: {found}; save it again.")
        seen.add(at)
        file.seek(_within(path, at, size))
        (count,) = struct.unpack(f"{order}{count_format}", file.read(struct.calcsize(f"<{count_format}")))
        if count > _MOST_TAGS:
            raise ValueError(f"{shown(path)} is damaged: a page has {count:,} tags; copy or save it again.")
        length = entry.size + wide
        table = file.read(count * length + wide)
        tags: Tags = {}
        for k in range(count):
            tag, kind, number = entry.unpack_from(table, k * length)
            if tag in _PROGRAMS:
                tags[tag] = (1,)
            elif tag in _USED and number:
                inline = table[k * length + entry.size : (k + 1) * length]
                tags[tag] = _value(path, file, budget, order, (tag, kind, number), inline, place)
        (at,) = place.unpack_from(table, count * length)
        yield tags


def _value(
    path: Path,
    file: BinaryIO,
    budget: list[int],
    order: str,
    told: tuple[int, int, int],
    inline: bytes,
    place: struct.Struct,
) -> tuple[Any, ...]:
    """Values of one tag; ``told`` are its number, the number of its type, and how many values it has."""
    tag, kind, number = told
    text = tag == DESCRIPTION
    if kind not in ((2,) if text else _NUMBERS):
        if text:
            return ("",)
        raise ValueError(
            f"{shown(path)} is damaged: its tag {tag} is of type {kind}, expected whole numbers; save it again."
        )
    length = number if text else struct.calcsize(f"<{_NUMBERS[kind]}") * number
    budget[0] -= length
    if budget[0] < 0:
        raise ValueError(f"{shown(path)} is damaged: its tags hold more than the whole file; copy or save it again.")
    raw = inline[:length]
    if length > len(inline):
        file.seek(_within(path, place.unpack(inline)[0], budget[1]))
        raw = file.read(length)
        if len(raw) < length:
            raise cut_off(path)
    if text:
        return (raw.split(b"\0")[0].decode("utf-8", "replace"),)
    return struct.unpack(f"{order}{number}{_NUMBERS[kind]}", raw)


def _within(path: Path, place: int, size: int) -> int:
    if place >= size:
        raise cut_off(path)
    return place

"""The XML in which LIDC-IDRI keeps what up to four readers outlined in a CT series.

A file may come from anywhere: one that declares a document type is refused before anything of it is expanded, as
entities that blow up need one, and sizes are bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from AmbiguousSegLib.volume.file_checks import check_file, shown, size_text

LIDC, CHEST_X_RAY = "lidcreadmessage", "idrireadmessage"
MOST_READERS = 4

_MOST_BYTES, _MOST_HEADER, _BLOCK = 32 << 20, 1 << 20, 1 << 16  # the largest of LIDC-IDRI are below 1 MB
_DEEPEST, _MOST_ELEMENTS = 32, 1_000_000  # the largest have 25,000
_MOST_POINTS = 10_000  # of an outline; the longest of LIDC-IDRI has 311
_LARGEST_INDEX = 65_535  # rows and columns of DICOM are 16-bit


class Header(NamedTuple):
    """What a file is: name of its outermost element in lower case, empty if it is no XML; UID of its series."""

    root: str
    series: str


@dataclass(frozen=True)
class Outline:
    """One closed line on one slice.

    Attributes:
        image: SOP instance UID of the slice; may be empty.
        z_mm: z of the slice's place in the patient (LPS).
        inside: the region within is nodule; False: it is excluded from the nodule.
        points: columns and rows (x, y) of the pixels that the line runs through, in order; 0 is the first.
    """

    image: str
    z_mm: float
    inside: bool
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Outlined:
    """A nodule as one reader outlined it: ``reader`` counts from 0, ``name`` is the reader's own number of it."""

    reader: int
    name: str
    outlines: tuple[Outline, ...]


@dataclass(frozen=True)
class Readings:
    """What is in a file.

    Attributes:
        file: it.
        series: UID of the CT series.
        readers: reading sessions in it, 1 to 4.
        outlined: nodules of 3 mm and more, which have outlines, reader by reader.
        small: number of nodules below 3 mm, of which readers marked one point.
        others: number of marks of what readers took for no nodule.
    """

    file: Path = field(compare=False)
    series: str
    readers: int
    outlined: tuple[Outlined, ...]
    small: int
    others: int


def read_header(path: Path) -> Header:
    """What a file says of itself at its top; the rest is not read.

    Raises:
        ValueError: it is no file on disk; it declares a document type; readings of LIDC that are cut off before they
            name their series.
        OSError: it cannot be read.
    """
    check_file(path)
    parser = _Parser(path)
    failed: expat.ExpatError | None = None
    with open(path, "rb") as file:
        for _ in range(_MOST_HEADER // _BLOCK):
            block = file.read(_BLOCK)
            try:
                parser.feed(block, last=not block)
            except expat.ExpatError as error:
                failed = error
            if failed or not block or parser.series or parser.root not in ("", LIDC):
                break
    if failed and parser.root == LIDC and not parser.series:
        raise _damaged(path, failed) from failed
    return Header(parser.root, parser.series)


def read_readings(path: Path) -> Readings:
    """All of a file of readings.

    A mark of a single point is a nodule below 3 mm, whatever else is said of it; a point among outlines is kept, and
    encloses nothing.

    Raises:
        ValueError: no readings of LIDC, damaged, larger than 32 MB, more than four sessions, numbers that are none.
        OSError: it cannot be read.
    """
    check_file(path)
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(
            f"{shown(path)} has {size_text(size)}, expected at most {size_text(_MOST_BYTES)} of LIDC readings."
        )
    parser = _Parser(path)
    try:
        parser.feed(path.read_bytes(), last=True)
    except expat.ExpatError as error:
        raise _damaged(path, error) from error
    if parser.root != LIDC:
        raise ValueError(f"{shown(path)} is {parser.root or 'no XML'}, expected LidcReadMessage; give LIDC readings.")
    sessions = parser.tree.findall("readingsession")
    if not 1 <= len(sessions) <= MOST_READERS:
        raise ValueError(
            f"{shown(path)} holds {len(sessions)} reading sessions, expected 1 to {MOST_READERS}; is it the readings "
            "of one series?"
        )
    outlined, small = [], 0
    for reader, session in enumerate(sessions):
        for mark in session.findall("unblindedreadnodule"):
            rois = mark.findall("roi")
            if all(len(roi.findall("edgemap")) <= 1 for roi in rois):
                small += 1
                continue
            name = _text(mark, "noduleid") or "without a number"
            where = f"{shown(path)}, reader {reader + 1}, nodule {name}"
            outlined.append(Outlined(reader, name, tuple(_outline(roi, where) for roi in rois)))
    others = sum(len(session.findall("nonnodule")) for session in sessions)
    return Readings(path, parser.series, len(sessions), tuple(outlined), small, others)


class _Parser:
    """An element tree of names in lower case, without namespaces and attributes; nothing is ever expanded."""

    def __init__(self, path: Path) -> None:
        self._path, self._depth, self._elements = path, 0, 0
        self._builder = ElementTree.TreeBuilder()
        self.tree: ElementTree.Element = ElementTree.Element("")
        self.root = ""
        self._expat = expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.StartDoctypeDeclHandler = self._refuse
        self._expat.EntityDeclHandler = self._refuse
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._builder.data

    def feed(self, block: bytes, last: bool) -> None:
        """Take a part of the file; ExpatError for what is no XML."""
        self._expat.Parse(block, last)

    @property
    def series(self) -> str:
        """UID of the series, once it is read; before that empty."""
        return _text(self.tree, "responseheader/seriesinstanceuid")

    def _start(self, name: str, _attributes: object) -> None:
        self._depth, self._elements = self._depth + 1, self._elements + 1
        if self._depth > _DEEPEST or self._elements > _MOST_ELEMENTS:
            raise ValueError(
                f"{shown(self._path)} holds {self._elements:,} elements, {self._depth} deep in each other, more than "
                "readings of LIDC do; it is not read. Move it elsewhere."
            )
        local = name.rpartition(":")[2].lower()
        element = self._builder.start(local, {})
        if not self.root:
            self.root, self.tree = local, element

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._builder.end(name.rpartition(":")[2].lower())

    def _refuse(self, *_: object) -> None:
        raise ValueError(
            f"{shown(self._path)} declares a document type (DOCTYPE), which readings of LIDC do not; it is not read. "
            "Download it again, or move it elsewhere."
        )


def _outline(roi: ElementTree.Element, where: str) -> Outline:
    inclusion = _text(roi, "inclusion").upper()
    if inclusion not in ("TRUE", "FALSE"):
        raise ValueError(f"{where}: inclusion is {inclusion!r}, expected TRUE or FALSE; download the file again.")
    points = tuple((_index(edge, "xcoord", where), _index(edge, "ycoord", where)) for edge in roi.findall("edgemap"))
    if len(points) > _MOST_POINTS:
        raise ValueError(f"{where}: an outline has {len(points)} points, expected at most {_MOST_POINTS}.")
    try:
        z_mm = float(_text(roi, "imagezposition"))
    except ValueError:
        z_mm = math.nan
    image = _text(roi, "imagesop_uid")
    if not math.isfinite(z_mm):
        raise ValueError(
            f"{where}: imageZposition is {_text(roi, 'imagezposition')!r}, expected a number; download the file again."
        )
    return Outline(image, z_mm, inclusion == "TRUE", points)


def _index(edge: ElementTree.Element, name: str, where: str) -> int:
    text = _text(edge, name)
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= _LARGEST_INDEX):
        raise ValueError(
            f"{where}: {name[0]}Coord is {text[:20]!r}, expected an index of a pixel; download the file again."
        )
    return int(text)


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _damaged(path: Path, error: expat.ExpatError) -> ValueError:
    return ValueError(f"{shown(path)} is cut off or damaged XML ({error}); copy or download it again.")

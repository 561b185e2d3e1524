"""Cases of prepared data: where their values and masks lie in its two files, and their lines of ``prepared.json``.

Images are arrays ``(C, Z, Y, X)``, in the order of memory, of little-endian numbers; masks are what
``packed`` makes of them.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.boxes import bounding_box
from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.data.prepared_index import REMEDY
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.geometry import Geometry

_FURTHER = ("pictured", "channel_names")  # of a case's line, beside what was seen and the blocks
_ROW = np.dtype("<i4")
_SMALL = 1 << 20  # bytes that are read rather than mapped: for pictures that is faster


@dataclass(frozen=True)
class Block:
    """Bytes of one case in a file of many.

    Attributes:
        start: the first one's place.
        count: how many.
        crc32: their checksum.
    """

    file: Path
    start: int
    count: int
    crc32: int

    def load(self) -> np.ndarray:
        """The bytes, uint8 ``(count,)``; many of them are a memmap, which comes from the disk as it is looked at.

        Raises:
            FileNotFoundError: the file is gone. ValueError: it is too short.
        """
        if not self.count:
            return np.zeros(0, np.uint8)
        try:
            if self.count < _SMALL:
                loaded = np.fromfile(self.file, np.uint8, self.count, offset=self.start)
            else:
                loaded = np.memmap(self.file, np.uint8, "r", offset=self.start, shape=(self.count,))
        except FileNotFoundError as error:
            told = "is gone; was the data prepared again meanwhile? Start again with what is there now."
            raise FileNotFoundError(f"{shown(self.file)} {told}") from error
        except ValueError as error:  # of memmap: the file ends before
            raise ValueError(f"{shown(self.file)} is cut off; {REMEDY}.") from error
        if len(loaded) < self.count:
            raise ValueError(f"{shown(self.file)} is cut off; {REMEDY}.")
        return loaded

    def check(self, identity: str) -> None:
        """Read them all; ValueError that names the case ``identity`` where they do not agree with the checksum."""
        if zlib.crc32(self.load().data) != self.crc32:
            raise ValueError(
                f"{shown(self.file)} is damaged: what it holds of case {identity!r} does not agree with its checksum; "
                f"{REMEDY}."
            )


@dataclass(frozen=True)
class PreparedCase:
    """A case of prepared data; a ``readers.Case``. Opens the files when it is asked, each time anew, and keeps nothing.

    Attributes:
        image, marks: where they lie.
        dtype: of the numbers of the image, as numpy writes it: "<i2".
        seen: what was seen in the case when it was prepared.
        pictured: the image does not know the size of its pixels; settings may tell it.
        channel_names: what the channels are called in the data, as ``FileCase`` has it.
        field_mm: height and width of such an image as told, see ``FileCase``.
        channels: places of those that are given, in their order, of all that are kept; None: all.
    """

    image: Block
    marks: Block
    dtype: str
    seen: Inspection = field(compare=False)
    pictured: bool = False
    channel_names: tuple[tuple[str, ...], ...] = ()
    field_mm: tuple[float, float] | None = None
    channels: tuple[int, ...] | None = None

    @property
    def identity(self) -> str:
        """Name of the case."""
        return self.seen.identity

    @property
    def subject(self) -> str:
        """Whom it shows."""
        return self.seen.subject

    @property
    def group(self) -> str:
        """Set that it belongs to."""
        return self.seen.group

    @property
    def part(self) -> str:
        """Part of the split that the data puts it in."""
        return self.seen.part

    @property
    def modality(self) -> str:
        """As DICOM names it."""
        return self.seen.modality

    @property
    def rater_names(self) -> tuple[str, ...]:
        """Raters in the order of ``load_masks``."""
        return self.seen.raters

    @property
    def inspection(self) -> Inspection:
        """What ``inspect`` sees in the original; the first time in a process the checksums are compared.

        Raises:
            ValueError, OSError: as ``Block.check``.
        """
        self._check()
        chosen = range(len(self.seen.values)) if self.channels is None else self.channels
        return replace(self.seen, geometry=self._geometry(), values=tuple(self.seen.values[k] for k in chosen))

    def load_image(self) -> tuple[np.ndarray, Geometry]:
        """Channels ``(C, Z, Y, X)`` with the values of the original, often of a smaller type, and their grid.

        The array may not be written to. Of 1 MB and more it is a memmap: what is looked at is read from the disk then;
        the first time, everything is, for its checksum. Where several of the channels kept are chosen, they are read.

        Raises:
            ValueError, OSError: as ``Block.check``.
        """
        self._check()
        shape = (len(self.seen.values), *self.seen.geometry.shape)
        values = self.image.load().view(self.dtype).reshape(shape)
        values.flags.writeable = False
        if self.channels is not None:
            values = (
                values[self.channels[0] : self.channels[0] + 1] if len(self.channels) == 1 else values[[*self.channels]]
            )
        return values, self._geometry()

    def load_masks(self) -> np.ndarray:
        """Masks, uint8 ``(R, Z, Y, X)``, as those of the original; memory is taken where something is marked.

        Raises:
            ValueError, OSError: as ``Block.check``.
        """
        self._check()
        return unpacked(self.marks.load(), (len(self.rater_names), *self.seen.geometry.shape))

    def _check(self) -> None:
        _ = self._intact

    @cached_property
    def _intact(self) -> bool:
        """Whether the bytes are what was written; kept, and told to processes that the case is sent to."""
        self.image.check(self.identity)
        self.marks.check(self.identity)
        return True

    def _geometry(self) -> Geometry:
        grid = self.seen.geometry
        if self.field_mm is None:
            return grid
        rows, columns = self.field_mm[0] / grid.shape[1], self.field_mm[1] / grid.shape[2]
        return replace(grid, spacing_mm=(columns, rows, 1.0))


def packed(masks: np.ndarray) -> np.ndarray:
    """Masks, uint8 ``(R, Z, Y, X)``, without the empty space, as bytes: for each rater and slice, the box of the marks.

    First the number of boxes, then for each six numbers (rater, z, first row, row after the last, first column, column
    after the last), all int32; then the voxels of each box, row by row.
    """
    rows: list[tuple[int, ...]] = []
    voxels: list[np.ndarray] = []
    for rater, mask in enumerate(masks):
        for z in np.flatnonzero(mask.any((1, 2))).tolist():
            y, x = bounding_box(mask[z]) or (slice(0), slice(0))
            rows.append((rater, z, y.start, y.stop, x.start, x.stop))
            voxels.append(mask[z, y, x].ravel())
    table = np.array([len(rows), *(number for row in rows for number in row)], _ROW)
    return np.concatenate([table.view(np.uint8), *voxels])


def unpacked(block: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The masks, uint8 of this shape, that ``packed`` made these bytes of."""
    masks = np.zeros(shape, np.uint8)
    at = _ROW.itemsize * (1 + 6 * int(block[: _ROW.itemsize].view(_ROW)[0]))
    for rater, z, top, bottom, left, right in block[_ROW.itemsize : at].view(_ROW).reshape(-1, 6).tolist():
        size = (bottom - top) * (right - left)
        masks[rater, z, top:bottom, left:right] = block[at : at + size].reshape(bottom - top, right - left)
        at += size
    return masks


def case_line(case: PreparedCase) -> str:
    """The line of ``prepared.json`` for this case."""
    seen = to_dict(case.seen) | {"marked": [_runs(indices) for indices in case.seen.marked]}
    shape = [len(case.seen.values), *case.seen.geometry.shape]
    image = {**_place(case.image), "dtype": case.dtype, "shape": shape}
    line = {**seen, "image": image, "marks": _place(case.marks), **{key: getattr(case, key) for key in _FURTHER}}
    return json.dumps(line, default=lambda number: number.item())


def case_of(line: Mapping[str, Any], files: Mapping[str, Path]) -> PreparedCase:
    """The case that ``case_line`` made this of.

    Args:
        files: that hold ``image`` and ``marks``.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    places = {key: line[key] for key in ("image", "marks")}
    blocks = {key: Block(files[key], p["start"], p["bytes"], p["crc32"]) for key, p in places.items()}
    stated = {key: value for key, value in line.items() if key not in ("image", "marks", *_FURTHER)}
    z, y, x = (tuple(i for first, last in runs for i in range(first, last + 1)) for runs in stated["marked"])
    seen = replace(from_dict(Inspection, {**stated, "marked": [[], [], []]}), marked=(z, y, x))
    dtype, shape = np.dtype(places["image"]["dtype"]), places["image"]["shape"]
    count = blocks["image"].count
    if shape != [len(seen.values), *seen.geometry.shape] or math.prod(shape) * dtype.itemsize != count:
        raise ValueError(f"{seen.identity}: an image of {dtype} {shape} is stated to have {count} bytes")
    names = tuple(tuple(map(str, own)) for own in line["channel_names"])
    return PreparedCase(blocks["image"], blocks["marks"], dtype.str, seen, bool(line["pictured"]), names)


def _place(block: Block) -> dict[str, Any]:
    return {"start": block.start, "bytes": block.count, "crc32": block.crc32}


def _runs(indices: Sequence[int]) -> list[list[int]]:
    """Ascending numbers as pairs of first and last of those that follow each other."""
    runs = groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0])
    return [[group[0][1], group[-1][1]] for group in (list(run) for _, run in runs)]

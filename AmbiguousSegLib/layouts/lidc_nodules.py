"""From outlines to masks, and from readers' marks to nodules, by the rules of LIDC-IDRI.

**A line is not nodule.** Readers were asked to draw so that the line itself covers no pixel of the nodule: around it
just outside, and around a region that is excluded (an air-filled cavity) just inside that region. So a mask is what
lies strictly within the polygon through the pixels' centres, and an exclusion takes away its own line, too. Armato et
al., Med. Phys. 38, 2011; MAX, the program by which LIDC compared its readers, does the same.

**Marks of different readers that share a voxel are one nodule**, and what is joined by such marks in turn (MAX: simple
overlap; nobody matches with himself). No mark is dilated: the 6,859 marks of LIDC-IDRI give 2,654 nodules (Armato et
al., by eye: 2,669), as many as with their lines counted in, and a slice more would begin to join neighbours. In 14 of
them are more than four marks.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import gcd
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from AmbiguousSegLib.boxes import Box, bounding_box, inside, joined
from AmbiguousSegLib.layouts.lidc_xml import MOST_READERS, Outline, Outlined, Readings
from AmbiguousSegLib.volume.dicom_headers import Frame
from AmbiguousSegLib.volume.dicom_volumes import grid_of
from AmbiguousSegLib.volume.file_checks import shown

log = logging.getLogger(__name__)

_TOLERANCE = 0.1  # of the distance of slices: how far an outline may lie from its slice


class Area(NamedTuple):
    """What a closed line encloses: ``within`` and ``line``, bool ``(h, w)``, the first pixel at ``row``, ``column``."""

    row: int
    column: int
    within: np.ndarray
    line: np.ndarray


@dataclass(frozen=True)
class Slices:
    """Slices of a CT in the order of its array.

    Attributes:
        of_image: index of each by its SOP instance UID, if no other slice has the same.
        z_mm: of their places in the patient.
        tolerance_mm: how far an outline may lie from the slice it is on.
        rows, columns: of each.
    """

    of_image: Mapping[str, int]
    z_mm: tuple[float, ...]
    tolerance_mm: float
    rows: int
    columns: int

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> Slices:
        """Those of frames in the order of the volume; ValueError for one that tells no place."""
        placeless = next((frame for frame in frames if frame.position is None), None)
        if placeless is not None:
            raise ValueError(f"{placeless.name} tells no place in the patient, which LIDC's readings refer to.")
        grid, images = grid_of(frames), Counter(frame.instance for frame in frames)
        return cls(
            {frame.instance: z for z, frame in enumerate(frames) if frame.instance and images[frame.instance] == 1},
            tuple(frame.position[2] for frame in frames if frame.position is not None),
            _TOLERANCE * grid.spacing_mm[2],
            frames[0].rows,
            frames[0].columns,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the volume, ``(Z, Y, X)``."""
        return len(self.z_mm), self.rows, self.columns

    def index(self, outline: Outline, where: str) -> int:
        """Index of the slice that an outline is on: that of its image or, where the series lacks it, at its z.

        Raises:
            ValueError: that image lies elsewhere; no slice lies there; points outside the slice. ``where`` is named.
        """
        z = self.of_image.get(outline.image)
        if z is None:
            z = int(np.argmin(np.abs(np.subtract(self.z_mm, outline.z_mm))))
        if abs(self.z_mm[z] - outline.z_mm) > self.tolerance_mm:
            found = f"image {outline.image} lies" if outline.image in self.of_image else "the nearest slice lies"
            raise ValueError(
                f"{where}: an outline at z = {outline.z_mm:g} mm, but {found} at {self.z_mm[z]:g} mm; are series and "
                "readings complete, and of each other?"
            )
        for x, y in outline.points:
            if not (x < self.columns and y < self.rows):
                raise ValueError(
                    f"{where}: an outline passes column {x}, row {y}, but slices have {self.columns} × {self.rows} "
                    "pixels; are series and readings of each other?"
                )
        return z


@dataclass(frozen=True, eq=False)
class Mark:
    """A nodule as one reader outlined it.

    Attributes:
        reader: 0 to 3, in the order of the sessions.
        name: the reader's own number of it.
        box: of all its voxels in the CT's array ``(Z, Y, X)``.
        mask: bool, of that box.
    """

    reader: int
    name: str
    box: Box
    mask: np.ndarray

    def overlaps(self, other: Mark) -> bool:
        """Whether they share a voxel."""
        both = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.box, other.box))
        if any(part.start >= part.stop for part in both):
            return False
        return bool((self.mask[inside(both, self.box)] & other.mask[inside(both, other.box)]).any())


@dataclass(frozen=True, eq=False)
class Nodule:
    """Marks of one nodule, in the order of their readers.

    Attributes:
        several: readers with more than one mark here, who saw parts of what others saw as one. There is one wherever
            a nodule has more than four marks.
        chained: marks of different readers are in it that do not overlap, but both overlap another.
    """

    marks: tuple[Mark, ...]
    several: tuple[int, ...] = ()
    chained: bool = False

    @property
    def box(self) -> Box:
        """The smallest box around all marks, in the CT's array ``(Z, Y, X)``."""
        return joined(mark.box for mark in self.marks) or ()

    @property
    def readers(self) -> tuple[int, ...]:
        """Who outlined it, ascending from 0."""
        return tuple(sorted({mark.reader for mark in self.marks}))

    def masks(self) -> np.ndarray:
        """Masks of the four readers in ``box``, uint8 ``(4, z, y, x)``: of who outlined nothing here, empty ones."""
        box = self.box
        masks = np.zeros((MOST_READERS, *(part.stop - part.start for part in box)), np.uint8)
        for mark in self.marks:
            masks[mark.reader][inside(mark.box, box)] |= mark.mask.view(np.uint8)
        return masks


def area(points: Sequence[tuple[int, int]]) -> Area:
    """What a line through pixels (x, y) encloses, computed in integers.

    The line runs straight from each centre to the next, and from the last to the first. Pixels whose centres it passes
    are on it; within are those of the others that have an odd number of crossings to their left.
    """
    left, top = (min(values) for values in zip(*points))
    width, height = (max(values) - first + 1 for values, first in zip(zip(*points), (left, top)))
    line = np.zeros((height, width), bool)
    crossed = np.zeros((height, width + 1), bool)  # whether an odd number of crossings lie just left of a pixel
    for (xa, ya), (xb, yb) in pairwise([*points, points[0]]):
        xa, ya, xb, yb = xa - left, ya - top, xb - left, yb - top
        steps = gcd(xb - xa, yb - ya) or 1
        for k in range(steps + 1):
            line[ya + (yb - ya) // steps * k, xa + (xb - xa) // steps * k] = True
        if ya > yb:
            xa, ya, xb, yb = xb, yb, xa, ya
        for y in range(ya, yb):  # without its lower end, which the next edge has
            crossed[y, xa + (y - ya) * (xb - xa) // (yb - ya) + 1] ^= True
    odd = np.logical_xor.accumulate(crossed[:, :-1], axis=1)
    return Area(top, left, odd & ~line, line)


def marks_of(readings: Readings, slices: Slices) -> list[Mark]:
    """Each reader's marks on a CT; what encloses no pixel is left out.

    Raises:
        ValueError: an outline that cannot be placed, as ``Slices.index``.
    """
    marks = []
    lost = [o for outlined in readings.outlined for o in outlined.outlines if o.image not in slices.of_image]
    if lost:
        log.info("%s: %d outline(s) placed by z, as the CT lacks their images.", shown(readings.file), len(lost))
    for outlined in readings.outlined:
        where = f"{shown(readings.file)}, reader {outlined.reader + 1}, nodule {outlined.name}"
        mark = _mark(outlined, slices, where)
        if mark is None:
            log.info("%s: its outlines enclose no pixel; it is left out.", where)
        else:
            marks.append(mark)
    return marks


def _mark(outlined: Outlined, slices: Slices, where: str) -> Mark | None:
    """All regions of a slice together, less what any exclusion on it takes away."""
    areas: dict[int, list[tuple[bool, Area]]] = defaultdict(list)
    for outline in outlined.outlines:
        if outline.points:
            areas[slices.index(outline, where)].append((outline.inside, area(outline.points)))
    boxes = [
        (slice(z, z + 1), *(slice(a, a + n) for a, n in zip((one.row, one.column), one.line.shape)))
        for z, own in areas.items()
        for _, one in own
    ]
    box = joined(boxes)
    if box is None:
        return None
    mask = np.zeros([part.stop - part.start for part in box], bool)
    for z, own in areas.items():
        for included in (True, False):
            for one in (one for kind, one in own if kind == included):
                row, column = one.row - box[1].start, one.column - box[2].start
                there = mask[z - box[0].start, row : row + one.line.shape[0], column : column + one.line.shape[1]]
                if included:
                    there |= one.within
                else:
                    there &= ~(one.within | one.line)
    kept = bounding_box(mask)
    if kept is None:
        return None
    place = tuple(slice(outer.start + own.start, outer.start + own.stop) for outer, own in zip(box, kept))
    return Mark(outlined.reader, outlined.name, place, mask[kept].copy())


def nodules_of(marks: Sequence[Mark]) -> list[Nodule]:
    """Marks of different readers that overlap, each with each or by way of others, as nodules, the lowest slice first.

    Marks of one reader are never compared: they are two nodules, unless marks of others join them.
    """
    pairs = [
        (a, b)
        for a, b in combinations(range(len(marks)), 2)
        if marks[a].reader != marks[b].reader and marks[a].overlaps(marks[b])
    ]
    ends = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (ends[0], ends[1])), shape=(len(marks),) * 2)
    members = defaultdict(list)
    for index, number in enumerate(connected_components(graph, directed=False)[1] if marks else ()):
        members[number].append(index)
    overlapping = set(pairs)
    nodules = []
    for own in members.values():
        of_reader = Counter(marks[index].reader for index in own)
        strangers = [
            (a, b) for a, b in combinations(own, 2) if marks[a].reader != marks[b].reader and (a, b) not in overlapping
        ]
        nodules.append(
            Nodule(
                tuple(sorted((marks[index] for index in own), key=lambda mark: mark.reader)),
                tuple(sorted(reader for reader, count in of_reader.items() if count > 1)),
                bool(strangers),
            )
        )
    return sorted(nodules, key=lambda nodule: [(part.start, part.stop) for part in nodule.box])

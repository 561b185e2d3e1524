"""Masks without the empty space around them: how a mask travels between processes and lies in a segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Crop:
    """A mask cut to its bounding box.

    Attributes:
        voxels: bool ``(z, y, x)``, what lies inside the box; all axes have length 0 for an empty mask.
        start: index (z, y, x) of the box's first voxel on the grid; (0, 0, 0) for an empty mask.
        shape: shape ``(Z, Y, X)`` of the whole grid.
    """

    voxels: np.ndarray
    start: tuple[int, int, int]
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.voxels.dtype != bool or self.voxels.ndim != 3:
            raise ValueError(f"Crop.voxels must be bool (z, y, x), got {self.voxels.dtype} {self.voxels.shape}.")
        ends = [start + length for start, length in zip(self.start, self.voxels.shape)]
        if min(self.start) < 0 or any(end > length for end, length in zip(ends, self.shape)):
            raise ValueError(f"A box from {self.start} to {tuple(ends)} does not lie in a grid of shape {self.shape}.")

    @classmethod
    def of(cls, mask: np.ndarray) -> Crop:
        """Crop of a mask, bool ``(Z, Y, X)``; its voxels are a view, ``copy`` lets go of the mask."""
        box = bounding_box(mask)
        if box is None:
            return cls(np.zeros((0, 0, 0), bool), (0, 0, 0), mask.shape)
        return cls(mask[box], tuple(span.start for span in box), mask.shape)

    def copy(self) -> Crop:
        """The same crop with memory of its own."""
        return Crop(self.voxels.copy(), self.start, self.shape)

    @property
    def empty(self) -> bool:
        return self.voxels.size == 0

    @property
    def box(self) -> Box:
        """Where the crop lies on its grid; of length 0 for an empty mask."""
        return tuple(slice(start, start + length) for start, length in zip(self.start, self.voxels.shape))

    def same(self, other: Crop) -> bool:
        """Whether both are the same mask on the same grid."""
        return (self.start, self.shape) == (other.start, other.shape) and np.array_equal(self.voxels, other.voxels)

    def full(self) -> np.ndarray:
        """The mask on the whole grid: bool ``(Z, Y, X)``."""
        mask = np.zeros(self.shape, bool)
        mask[self.box] = self.voxels
        return mask

    def within(self, box: Box) -> np.ndarray:
        """The mask inside ``box``, which holds all of it: bool, of the box's shape."""
        part = np.zeros([span.stop - span.start for span in box], bool)
        part[tuple(slice(own.start - s.start, own.stop - s.start) for own, s in zip(self.box, box))] = self.voxels
        return part

    def save(self, path: Path) -> dict[str, list[int]]:
        """Write the voxels to ``path`` (``.npy``) and return what ``load`` needs besides, in plain JSON types."""
        np.save(path, self.voxels.view(np.uint8), allow_pickle=False)
        return {"start": list(map(int, self.start)), "shape": list(map(int, self.shape))}

    @classmethod
    def load(cls, path: Path, place: dict[str, list[int]]) -> Crop:
        """The crop that ``save`` wrote to ``path``; ``place`` is what it returned."""
        voxels = np.load(path, allow_pickle=False)
        return cls(voxels.view(bool), tuple(place["start"]), tuple(place["shape"]))


def bounding_box(mask: np.ndarray) -> Box | None:
    """Smallest box ``(z, y, x)`` that holds all of a bool mask ``(Z, Y, X)``; None if the mask is empty."""
    box: list[slice] = []
    for axis in range(3):
        part = mask[tuple(box)]
        marked = np.flatnonzero(part.any(axis=tuple(a for a in range(3) if a != axis)))
        if len(marked) == 0:
            return None
        box.append(slice(int(marked[0]), int(marked[-1]) + 1))
    return tuple(box)


def joint_box(crops: Sequence[Crop]) -> Box | None:
    """Smallest box that holds all of several crops of one grid; None if all are empty."""
    boxes = [crop.box for crop in crops if not crop.empty]
    if not boxes:
        return None
    return tuple(slice(min(s.start for s in spans), max(s.stop for s in spans)) for spans in zip(*boxes))


def stack(crops: Sequence[Crop], box: Box) -> np.ndarray:
    """Crops of one grid inside ``box``, which holds them all: bool ``(N, z, y, x)``."""
    return np.stack([crop.within(box) for crop in crops])

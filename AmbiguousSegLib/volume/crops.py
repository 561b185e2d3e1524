"""Masks without the empty space around them: how a mask travels between processes and lies in a segment."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from AmbiguousSegLib.boxes import Box, bounding_box, inside, joined
from AmbiguousSegLib.label_maps import as_label_map
from AmbiguousSegLib.volume.npy_file import read_npy


@dataclass(frozen=True)
class Crop:
    """A mask cut to its bounding box.

    Attributes:
        voxels: label map, uint8 ``(z, y, x)``, what lies inside the box; all axes have length 0 for an empty mask.
        start: index (z, y, x) of the box's first voxel on the grid; (0, 0, 0) for an empty mask.
        shape: shape ``(Z, Y, X)`` of the whole grid.
    """

    voxels: np.ndarray
    start: tuple[int, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.voxels.dtype != np.uint8 or self.voxels.ndim != 3:
            raise ValueError(f"Crop.voxels must be uint8 (z, y, x), got {self.voxels.dtype} {self.voxels.shape}.")
        ends = [start + length for start, length in zip(self.start, self.voxels.shape)]
        if min(self.start) < 0 or any(end > length for end, length in zip(ends, self.shape)):
            raise ValueError(f"A box from {self.start} to {tuple(ends)} does not lie in a grid of shape {self.shape}.")

    @classmethod
    def of(cls, mask: np.ndarray) -> Crop:
        """Crop of a label map, uint8 ``(Z, Y, X)``, or of a bool mask, which is one of one class.

        Its voxels are a view, ``copy`` lets go of the mask.
        """
        mask = as_label_map(mask)
        box = bounding_box(mask)
        if box is None:
            return cls.nothing(mask.shape)
        return cls(mask[box], tuple(span.start for span in box), mask.shape)

    @classmethod
    def nothing(cls, shape: tuple[int, ...]) -> Crop:
        """Crop of an empty mask on a grid of this shape."""
        return cls(np.zeros((0, 0, 0), np.uint8), (0, 0, 0), shape)

    @classmethod
    def merged(cls, crops: Sequence[Crop], names: Sequence[str] = ()) -> Crop:
        """One label map of the masks of the classes 1 to K, which mark their class by whatever is not 0.

        Args:
            crops: one for each class, all on one grid; empty for a class that is not there.
            names: of the classes, for the message.

        Raises:
            ValueError: two of them mark the same voxel: classes are exclusive.
        """
        box = joint_box(crops)
        if box is None:
            return cls.nothing(crops[0].shape)
        voxels = np.zeros([span.stop - span.start for span in box], np.uint8)
        for number, crop in enumerate(crops, start=1):
            own = crop.within(box) != 0
            if (shared := voxels[own]).any():
                one, other = (names[k - 1] if names else f"class {k}" for k in (int(shared.max()), number))
                raise ValueError(
                    f"{one} and {other} overlap in {np.count_nonzero(shared)} voxels, but a voxel is of one class; "
                    "give each to one of them."
                )
            voxels[own] = number
        return cls(voxels, tuple(span.start for span in box), crops[0].shape)

    def of_class(self, label: int) -> Crop:
        """Crop of one class alone, which it marks with 1; the same crop where it holds class 1 and no other."""
        if label == 1 and self.voxels.size and self.voxels.max() <= 1:
            return self
        return Crop.of(self.voxels == label).placed(self.start, self.shape)

    def placed(self, start: Sequence[int], shape: tuple[int, ...]) -> Crop:
        """The crop on a larger grid, in which the first voxel of its own grid has the index ``start`` (z, y, x)."""
        if self.empty:
            return Crop.nothing(shape)
        return Crop(self.voxels, tuple(int(a + b) for a, b in zip(self.start, start)), shape)

    def copy(self) -> Crop:
        """The same crop with memory of its own."""
        return Crop(self.voxels.copy(), self.start, self.shape)

    @property
    def empty(self) -> bool:
        """Whether nothing is marked."""
        return self.voxels.size == 0

    @property
    def box(self) -> Box:
        """Where the crop lies on its grid; of length 0 for an empty mask."""
        return tuple(slice(start, start + length) for start, length in zip(self.start, self.voxels.shape))

    def same(self, other: Crop) -> bool:
        """Whether both are the same mask on the same grid."""
        return (self.start, self.shape) == (other.start, other.shape) and np.array_equal(self.voxels, other.voxels)

    def checksum(self) -> int:
        """Of which voxels of its grid the crop marks, and as which class."""
        checksum = zlib.crc32(np.array([*self.start, *self.voxels.shape], np.int64).tobytes())
        for label in range(1, 1 + max(1, int(self.voxels.max(initial=0)))):
            checksum = zlib.crc32(np.packbits(self.voxels == label).tobytes(), checksum)
        return checksum

    def full(self) -> np.ndarray:
        """The label map on the whole grid: uint8 ``(Z, Y, X)``."""
        mask = np.zeros(self.shape, np.uint8)
        mask[self.box] = self.voxels
        return mask

    def within(self, box: Box) -> np.ndarray:
        """The label map inside ``box``, which holds all of it: uint8, of the box's shape."""
        part = np.zeros([span.stop - span.start for span in box], np.uint8)
        part[inside(self.box, box)] = self.voxels
        return part

    def save(self, path: Path) -> dict[str, list[int]]:
        """Write the voxels to ``path`` (``.npy``) and return what ``load`` needs besides, in plain JSON types."""
        np.save(path, self.voxels, allow_pickle=False)
        return {"start": list(map(int, self.start)), "shape": list(map(int, self.shape))}

    @classmethod
    def load(cls, path: Path, place: dict[str, list[int]]) -> Crop:
        """The crop that ``save`` wrote to ``path``; ``place`` is what it returned. Errors as ``read_npy``."""
        return cls(np.array(read_npy(path)), tuple(place["start"]), tuple(place["shape"]))


def joint_box(crops: Sequence[Crop]) -> Box | None:
    """Smallest box that holds all of several crops of one grid; None if all are empty."""
    return joined(crop.box for crop in crops if not crop.empty)


def stack(crops: Sequence[Crop], box: Box) -> np.ndarray:
    """Crops of one grid inside ``box``, which holds them all: uint8 ``(N, z, y, x)``."""
    return np.stack([crop.within(box) for crop in crops])

"""Mean, variance and consensus of masks that come one by one, computed where any of them marks something."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from AmbiguousSegLib.volume.crops import Box, Crop

EMPTY_BOX: Box = (slice(0, 0),) * 3


class Tally:
    """How many masks mark a voxel; kept over their joint box alone.

    Attributes:
        shape: shape ``(Z, Y, X)`` of the grid.
        masks: how many masks were added.
        box: joint box of the masks; of length 0 while all are empty.
        counts: uint8 or uint16 ``(z, y, x)``, masks that mark a voxel inside the box.
    """

    def __init__(self, shape: tuple[int, int, int], crops: Iterable[Crop] = ()) -> None:
        self.shape, self.masks, self.box = shape, 0, EMPTY_BOX
        self.counts = np.zeros((0, 0, 0), np.uint8)
        for crop in crops:
            self.add(crop)

    def add(self, crop: Crop) -> None:
        """Count one more mask; ValueError if it lies on a grid of another shape."""
        if tuple(crop.shape) != tuple(self.shape):
            raise ValueError(
                f"A mask on a grid of shape {crop.shape} does not fit one of shape {self.shape} (Z, Y, X)."
            )
        if self.masks == np.iinfo(np.uint8).max:
            self.counts = self.counts.astype(np.uint16)
        self.masks += 1
        if crop.empty:
            return
        box = _joint(self.box, crop.box) if self.counts.size else crop.box
        if box != self.box:
            grown = np.zeros([span.stop - span.start for span in box], self.counts.dtype)
            if self.counts.size:
                grown[_inside(self.box, box)] = self.counts
            self.box, self.counts = box, grown
        self.counts[_inside(crop.box, box)] += crop.voxels.view(np.uint8)

    def mean(self) -> np.ndarray:
        """Share of the masks that mark a voxel: float32 ``(Z, Y, X)`` in [0, 1]."""
        return self._map(lambda share: share)

    def variance(self) -> np.ndarray:
        """Variance of the masks, mean·(1 − mean): float32 ``(Z, Y, X)`` in [0, 0.25]."""
        return self._map(lambda share: (1 - share) * share)

    def _map(self, of_share: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        if self.masks == 0:
            raise ValueError("There is no mean of no masks. Add one.")
        voxels = np.zeros(self.shape, np.float32)  # the system hands out zeros only where something is written
        for slab, counts in zip(voxels[self.box], self.counts):  # one slice at a time stays in the cache
            slab[...] = of_share(np.divide(counts, np.float32(self.masks), dtype=np.float32))
        return voxels


def consensus_of(mean: np.ndarray, box: Box, threshold: float) -> Crop:
    """Voxels of the box whose mean, float32 ``(Z, Y, X)``, lies above the threshold (0.5: strict majority)."""
    check_threshold(threshold)
    crop = Crop.of(mean[box] > threshold)
    start = (0, 0, 0) if crop.empty else tuple(own + span.start for own, span in zip(crop.start, box))
    return Crop(crop.voxels, start, mean.shape)


def check_threshold(threshold: float) -> None:
    """ValueError unless ``threshold`` can be that of a consensus."""
    if not 0 <= threshold < 1:
        raise ValueError(f"Consensus threshold must lie in [0, 1), got {threshold}.")


def _joint(box: Box, other: Box) -> Box:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other))


def _inside(box: Box, outer: Box) -> Box:
    """``box`` as it lies in an array of the voxels of ``outer``."""
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(box, outer))

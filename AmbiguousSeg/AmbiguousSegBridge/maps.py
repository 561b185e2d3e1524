"""Mean, variance and consensus of masks that come one by one, computed where any of them marks something.

What takes long is a generator of small steps, so that the GUI can do something else between two of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from AmbiguousSegLib.volume.crops import Box, Crop

EMPTY_BOX: Box = (slice(0, 0),) * 3
DEFAULT_THRESHOLD = 0.5  # of the consensus: a strict majority
Result = TypeVar("Result")


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


@dataclass(frozen=True)
class Maps:
    """What the masks of a run agree on, and where they do not.

    Attributes:
        mean: share of the masks that mark a voxel, float32 ``(Z, Y, X)`` in [0, 1].
        variance: variance of the masks, mean·(1 − mean), float32 ``(Z, Y, X)`` in [0, 0.25].
        box: where any mask marks something; outside both are 0.
        consensus: voxels that more than ``threshold`` of the masks mark (0.5: strict majority).
    """

    mean: np.ndarray
    variance: np.ndarray
    box: Box
    consensus: Crop
    threshold: float


def maps_of(tally: Tally, threshold: float) -> Generator[None, None, Maps]:
    """Maps of the masks counted, one slice in a step; ValueError if there are none, or for another threshold."""
    check_threshold(threshold)
    if tally.masks == 0:
        raise ValueError("There is no mean of no masks. Add one.")
    # The system hands out zeros only where something is written, which it takes its time for.
    mean, variance = np.zeros(tally.shape, np.float32), np.zeros(tally.shape, np.float32)
    above = np.zeros(tally.counts.shape, bool)
    for counts, share, spread, over in zip(tally.counts, mean[tally.box], variance[tally.box], above):
        np.divide(counts, np.float32(tally.masks), out=share, dtype=np.float32)
        np.multiply(1 - share, share, out=spread)
        np.greater(share, threshold, out=over)
        yield
    return Maps(mean, variance, tally.box, _placed(above, tally.box, tally.shape), threshold)


def at_once(steps: Generator[None, None, Result]) -> Result:
    """What a generator of steps returns when all of them are done."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def consensus_of(mean: np.ndarray, box: Box, threshold: float) -> Crop:
    """Voxels of the box whose mean, float32 ``(Z, Y, X)``, lies above the threshold (0.5: strict majority)."""
    check_threshold(threshold)
    return _placed(mean[box] > threshold, box, mean.shape)


def check_threshold(threshold: float) -> None:
    """ValueError unless ``threshold`` can be that of a consensus."""
    if not 0 <= threshold < 1:
        raise ValueError(f"Consensus threshold must lie in [0, 1), got {threshold}.")


def _placed(mask: np.ndarray, box: Box, shape: tuple[int, int, int]) -> Crop:
    """Crop of a mask that is given inside a box of a grid."""
    crop = Crop.of(mask)
    start = (0, 0, 0) if crop.empty else tuple(own + span.start for own, span in zip(crop.start, box))
    return Crop(crop.voxels, start, shape)


def _joint(box: Box, other: Box) -> Box:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other))


def _inside(box: Box, outer: Box) -> Box:
    """``box`` as it lies in an array of the voxels of ``outer``."""
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(box, outer))

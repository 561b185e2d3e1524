"""Maps and consensus of masks that come one by one, computed where any of them marks something.

What takes long is a generator of small steps, so that the GUI can do something else between two of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from AmbiguousSegLib.boxes import Box, inside, joined
from AmbiguousSegLib.ensemble.consensus import checked_threshold, consensus_of_means
from AmbiguousSegLib.ensemble.disagreement import predictive_entropy
from AmbiguousSegLib.label_maps import class_mask
from AmbiguousSegLib.volume.crops import Crop

EMPTY_BOX: Box = (slice(0, 0),) * 3
Result = TypeVar("Result")


class Tally:
    """How many masks give a voxel each class; kept over their joint box alone.

    Attributes:
        shape: shape ``(Z, Y, X)`` of the grid.
        masks: how many masks were added.
        box: joint box of the masks; of length 0 while all are empty.
        counts: uint8 or uint16 ``(K, z, y, x)``, masks that have class 1 to K in a voxel inside the box.
    """

    def __init__(self, shape: tuple[int, int, int], crops: Iterable[Crop] = (), classes: int = 1) -> None:
        self.shape, self.masks, self.box = shape, 0, EMPTY_BOX
        self.counts = np.zeros((classes, 0, 0, 0), np.uint8)
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
        classes = len(self.counts)
        box = joined([self.box, crop.box] if self.counts.size else [crop.box])
        if box != self.box:
            grown = np.zeros([classes, *(span.stop - span.start for span in box)], self.counts.dtype)
            if self.counts.size:
                grown[(slice(None), *inside(self.box, box))] = self.counts
            self.box, self.counts = box, grown
        for label, counts in enumerate(self.counts, start=1):
            counts[inside(crop.box, box)] += class_mask(crop.voxels, label, classes).view(np.uint8)


@dataclass(frozen=True)
class Maps:
    """What the masks of a run agree on, and where they do not.

    Attributes:
        means: for each class the share of the masks that give it to a voxel, float32 ``(Z, Y, X)`` in [0, 1].
        variances: for each class the variance of the masks, mean·(1 − mean), float32 ``(Z, Y, X)`` in [0, 0.25].
        entropy: predictive entropy, float32 ``(Z, Y, X)`` in [0, ln(K + 1)]; None with one class.
        box: where any mask marks something; outside all are 0.
        consensus: by ``ensemble.consensus.consensus_of_means``.
        threshold: of the consensus; None with several classes.
    """

    means: tuple[np.ndarray, ...]
    variances: tuple[np.ndarray, ...]
    entropy: np.ndarray | None
    box: Box
    consensus: Crop
    threshold: float | None


def maps_of(tally: Tally, threshold: float | None) -> Generator[None, None, Maps]:
    """Maps of the masks counted, one slice in a step.

    Raises:
        ValueError: there are no masks, or as ``consensus_of_means`` for a threshold.
    """
    classes = len(tally.counts)
    threshold = checked_threshold(threshold, classes)
    if tally.masks == 0:
        raise ValueError("There is no mean of no masks. Add one.")
    # The system hands out zeros only where something is written, which it takes its time for.
    means, variances = (tuple(np.zeros(tally.shape, np.float32) for _ in range(classes)) for _ in range(2))
    entropy = np.zeros(tally.shape, np.float32) if classes > 1 else None
    fused = np.zeros(tally.counts.shape[1:], np.uint8)
    for z in range(len(fused)):
        slab = slice(z, z + 1)
        shares = [mean[tally.box][slab] for mean in means]
        for counts, share, variance in zip(tally.counts, shares, variances):
            np.divide(counts[slab], np.float32(tally.masks), out=share, dtype=np.float32)
            np.multiply(1 - share, share, out=variance[tally.box][slab])
        if entropy is not None:
            entropy[tally.box][slab] = predictive_entropy(shares)
        fused[slab] = consensus_of_means(shares, threshold)
        yield
    return Maps(means, variances, entropy, tally.box, _crop_of(fused, tally.box, tally.shape), threshold)


def at_once(steps: Generator[None, None, Result]) -> Result:
    """What a generator of steps returns when all of them are done."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def consensus_of(means: Sequence[np.ndarray], box: Box, threshold: float | None) -> Crop:
    """Consensus of the mean maps of all classes, float32 ``(Z, Y, X)``, inside a box; see ``consensus_of_means``."""
    return _crop_of(consensus_of_means([mean[box] for mean in means], threshold), box, means[0].shape)


def _crop_of(mask: np.ndarray, box: Box, shape: tuple[int, int, int]) -> Crop:
    """Crop of a mask that is given inside a box of a grid."""
    return Crop.of(mask).placed([span.start for span in box], shape)

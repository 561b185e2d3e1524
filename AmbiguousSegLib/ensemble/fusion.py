"""One mask from several by fusion: DiffSeg, section 3.3, the steps around Eq. 12."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from AmbiguousSegLib.diffusion.noise import philox
from AmbiguousSegLib.ensemble.consensus import majority_of
from AmbiguousSegLib.ensemble.sample_set import SampleSet

FUSION = 2  # purpose of random numbers, beside sampling and training


@dataclass(frozen=True)
class Fusion:
    """How samples are fused; the defaults are DiffSeg's (section 4.1), of 10 samples.

    Attributes:
        draws: K, how many subsets are drawn.
        size: samples in each, all different.
    """

    draws: int = 3
    size: int = 4

    def __post_init__(self) -> None:
        if self.draws < 1 or self.size < 1:
            raise ValueError(f"Fusion needs 1 or more draws of 1 or more samples, got {self.draws} of {self.size}.")

    def check(self, samples: int) -> None:
        """ValueError unless there are as many samples as a draw takes."""
        if samples < self.size:
            raise ValueError(f"Fusion draws {self.size} different samples, but there are {samples}; sample more.")

    def subsets(self, samples: int, seed: int) -> list[list[int]]:
        """Numbers, from 0, of the samples of each draw, ascending; every sample is equally likely.

        Args:
            samples: how many there are.
            seed: in [0, 2⁶³). A draw follows from it, from its own number and from ``samples``.

        Raises:
            ValueError: as ``check``.
        """
        self.check(samples)
        found = []
        for draw in range(self.draws):
            order = philox(seed, FUSION, draw, 0, 0).permutation(samples)
            found.append(sorted(order[: self.size].tolist()))
        return found


def fused(masks: np.ndarray, classes: int = 1, seed: int = 0, fusion: Fusion | None = None) -> np.ndarray:
    """The consensus of (refined) samples by fusion: label map, uint8 ``(*spatial)``.

    The masks of each draw are averaged and binarised, and what comes of the draws is averaged and binarised again: in
    both, where more than half say so (ties are background); of several classes the most frequent one.

    Args:
        masks: label maps, uint8 ``(N, *spatial)``.
        classes: K.
        seed: of the draws.
        fusion: how many draws of how many; None: ``Fusion()``.

    Raises:
        ValueError: fewer samples than a draw takes.
    """
    chosen = fusion or Fusion()
    drawn = [majority_of(masks[subset], classes) for subset in chosen.subsets(len(masks), seed)]
    return majority_of(np.stack(drawn), classes)


def with_fusion(sample_set: SampleSet, fusion: Fusion | None = None) -> tuple[SampleSet, np.ndarray]:
    """The set with "fusion" in its provenance, and its fused mask, uint8 ``(Z, Y, X)``, by the seed of the set.

    "fusion" has "draws", "size" and, as "samples", the numbers of those drawn, counted from 1 as files are.

    Raises:
        ValueError: fewer samples than a draw takes.
    """
    chosen, told = fusion or Fusion(), sample_set.provenance
    seed, first = told.get("seed", 0), 1 + told.get("first_sample", 0)
    mask = fused(sample_set.masks, sample_set.classes, seed, chosen)
    drawn = [[first + k for k in subset] for subset in chosen.subsets(len(sample_set), seed)]
    return replace(sample_set, provenance={**told, "fusion": {**asdict(chosen), "samples": drawn}}), mask

"""How often samples fall on each mask of a known distribution, held against the true probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.metrics.overlap import pairwise_label_iou


def mode_frequencies(samples: np.ndarray, modes: np.ndarray, classes: int = 1) -> np.ndarray:
    """Share of the samples that belong to each mode: float64 ``(modes,)`` in [0, 1].

    A sample belongs to the mode with which its IoU (of all classes) is largest; of modes with exactly equal IoU, to the
    first, which is the most probable in the order of ``Phantom.distinct_modes``. Exactly empty samples, and no others,
    belong to the empty mode. A sample that overlaps no mode belongs to none, so that the sum may be below 1.

    Args:
        samples: label maps, uint8 ``(N, H, W)``, N ≥ 1, or bool masks of one class.
        modes: uint8 or bool ``(modes, H, W)``, different masks on the same grid.
        classes: number of classes.

    Raises:
        ValueError: masks of another type, an empty set, or grids that differ.
    """
    iou = pairwise_label_iou(samples, modes, classes)
    belongs = iou.argmax(axis=1)[iou.max(axis=1) > 0]
    return np.bincount(belongs, minlength=len(modes)) / len(samples)


@dataclass(frozen=True)
class FrequencyAgreement:
    """Frequencies of modes against their probabilities, over all pairs (case, mode).

    Attributes:
        correlation: Pearson's, in [−1, 1]; nan with fewer than two pairs, or where either side is constant.
        cases: cases with two or more modes, the only ones counted.
        pairs: pairs (case, mode) of these cases.
        unassigned: mean share of a case's samples that overlap no mode.
    """

    correlation: float
    cases: int
    pairs: int
    unassigned: float


def frequency_agreement(frequencies: Sequence[np.ndarray], probabilities: Sequence[np.ndarray]) -> FrequencyAgreement:
    """Pooled agreement of cases; each entry is float ``(modes,)`` of one case, whose number may differ between cases.

    A case with one mode is left out: it would add the same point for every sampler that draws anything near it.

    Raises:
        ValueError: not one array of probabilities for each of frequencies, or of another length.
    """
    if [len(f) for f in frequencies] != [len(p) for p in probabilities]:
        raise ValueError(
            f"Frequencies of {len(frequencies)} cases and probabilities of {len(probabilities)} do not pair up mode by "
            "mode. Give both for the same cases and modes."
        )
    counted = [(f, p) for f, p in zip(frequencies, probabilities) if len(p) >= 2]
    if not counted:
        return FrequencyAgreement(math.nan, 0, 0, math.nan)
    drawn, true = (np.concatenate(side) for side in zip(*counted))
    constant = np.ptp(drawn) == 0 or np.ptp(true) == 0
    return FrequencyAgreement(
        correlation=math.nan if constant else float(np.corrcoef(drawn, true)[0, 1]),
        cases=len(counted),
        pairs=len(true),
        unassigned=max(0.0, float(np.mean([1 - f.sum() for f, _ in counted]))),
    )

"""What a comparison with raters finds, before it becomes tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.evaluation.comparison import Result


@dataclass(frozen=True)
class Slice:
    """A slice that is compared.

    Attributes:
        index: among the slices of the arrays.
        number: in the whole volume.
        position_mm: along the normal of the slices.
        best: for each rater the highest Dice of any sample in the slice.
    """

    index: int
    number: int
    position_mm: float
    best: Sequence[float]


@dataclass(frozen=True)
class Agreement:
    """One mask fused from the raters and one from the samples, compared; nan where one of them is missing.

    Attributes:
        rule: of the fusion.
        samples_ml, raters_ml: volumes.
        dice, hd95_mm, assd_mm: of both.
        of_slices: their Dice in each slice of the arrays.
    """

    rule: str
    samples_ml: float
    raters_ml: float
    dice: float
    hd95_mm: float
    assd_mm: float
    of_slices: Sequence[float]


@dataclass(frozen=True)
class Findings:
    """What was found of one class, or of all classes together.

    Attributes:
        label: of the class, or ``ALL_CLASSES``; empty where there is one class.
        slices: a case for each slice in which any rater or sample marks it, maybe none.
        places: of these slices.
        whole: one case, of the whole masks.
        dice, hd95_mm: of the whole masks, float64 ``(N, M)``, nan where undefined.
        raters_ml: volume of each rater's mask.
        agreements: one for each rule of fusion, majority first.
    """

    label: str
    slices: Result
    places: Sequence[Slice]
    whole: Result
    dice: np.ndarray
    hd95_mm: np.ndarray
    raters_ml: Sequence[float]
    agreements: Sequence[Agreement]

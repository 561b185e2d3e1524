"""Dice, precision and recall of two consensuses, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from AmbiguousSegLib.metrics.consensus import consensus_dice, consensus_precision, consensus_recall
from AmbiguousSegLib.metrics.mask_sets import MaskSets


def masks(*rows: str) -> np.ndarray:
    """Label maps of one row of pixels each."""
    return np.array([[[int(c) for c in row]] for row in rows], np.uint8)


def figures(sets: MaskSets) -> list[float]:
    """Dice, precision, recall."""
    return [figure(sets) for figure in (consensus_dice, consensus_precision, consensus_recall)]


def test_more_than_half_of_each_side():
    """Samples: pixels 0 to 2 by two of three, pixel 3 by one. Raters: pixel 1 by all, pixels 2 and 3 by half."""
    samples, raters = masks("1110", "1111", "0000"), masks("0111", "0100")
    assert figures(MaskSets(samples, raters)) == pytest.approx([2 * 1 / (3 + 1), 1 / 3, 1 / 1])


def test_empty_consensuses():
    nothing, apart = masks("0000"), masks("1000", "0100")
    assert figures(MaskSets(apart, nothing)) == [1.0, 1.0, 1.0]  # half is no majority
    assert figures(MaskSets(nothing, masks("1000"))) == [0.0, 0.0, 0.0]
    assert figures(MaskSets(masks("1000"), nothing)) == [0.0, 0.0, 0.0]


def test_several_classes():
    """Samples say 1 1 2 0, raters 1 2 2 0: Dice of core 2/3, of halo 2/3; a third class is absent."""
    samples, raters = masks("1120", "1120", "2210"), masks("1220", "1223", "1220")
    sets = MaskSets(samples, raters, classes=3)
    assert figures(sets) == pytest.approx([(2 / 3 + 2 / 3) / 2, (1 / 2 + 1) / 2, (1 + 1 / 2) / 2])
    assert figures(sets.of_class(1)) == pytest.approx([2 / 3, 1 / 2, 1])
    assert figures(sets.of_class(3)) == [1.0, 1.0, 1.0]
    assert figures(MaskSets(masks("0000"), masks("0000"), classes=2)) == [1.0, 1.0, 1.0]
    assert figures(MaskSets(masks("1200"), masks("1000"), classes=2)) == pytest.approx([(1 + 0) / 2] * 3)

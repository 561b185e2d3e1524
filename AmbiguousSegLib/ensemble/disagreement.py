"""Where samples disagree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import entr


def predictive_entropy(shares: Sequence[np.ndarray]) -> np.ndarray:
    """−Σ p·ln p over background and all classes: float32 of the shape of each share, in [0, ln(K + 1)], nats.

    Args:
        shares: for each class 1 to K the share p of the samples that say so, float32 of one shape; background has the
            rest. 0·ln 0 is 0.
    """
    of_classes = np.stack(shares)
    rest = np.maximum(1 - of_classes.sum(axis=0), 0)  # rounding may leave less than nothing
    return entr(of_classes).sum(axis=0) + entr(rest)


def slices_by_disagreement(variance: Iterable[np.ndarray], mean: Iterable[np.ndarray]) -> list[int]:
    """Slices in which any sample marks something, in falling order of disagreement, which is the summed variance.

    Slices without any disagreement come after those with some, by how much is marked; equal ones in stack order.

    Args:
        variance, mean: maps of the samples, ``(slices, H, W)``, or slices ``(H, W)`` that are made one by one.
    """
    disagreement, marked = ([plane.sum(dtype=np.float64) for plane in planes] for planes in (variance, mean))
    order = sorted(range(len(marked)), key=lambda z: (-disagreement[z], -marked[z], z))
    return [z for z in order if marked[z] > 0]

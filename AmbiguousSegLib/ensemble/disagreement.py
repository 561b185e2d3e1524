"""Where samples disagree."""

from __future__ import annotations

import numpy as np


def slices_by_disagreement(variance: np.ndarray, mean: np.ndarray) -> list[int]:
    """Slices in which any sample marks something, in falling order of disagreement, which is the summed variance.

    Slices without any disagreement come after those with some, by how much is marked; equal ones in stack order.

    Args:
        variance, mean: maps of the samples, ``(slices, H, W)``.
    """
    disagreement, marked = variance.sum((1, 2), dtype=np.float64), mean.sum((1, 2), dtype=np.float64)
    order = sorted(range(len(variance)), key=lambda z: (-disagreement[z], -marked[z], z))
    return [z for z in order if marked[z] > 0]

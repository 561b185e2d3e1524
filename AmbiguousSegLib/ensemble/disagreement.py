"""Where samples disagree."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def slices_by_disagreement(variance: Iterable[np.ndarray], mean: Iterable[np.ndarray]) -> list[int]:
    """Slices in which any sample marks something, in falling order of disagreement, which is the summed variance.

    Slices without any disagreement come after those with some, by how much is marked; equal ones in stack order.

    Args:
        variance, mean: maps of the samples, ``(slices, H, W)``, or slices ``(H, W)`` that are made one by one.
    """
    disagreement, marked = ([plane.sum(dtype=np.float64) for plane in planes] for planes in (variance, mean))
    order = sorted(range(len(marked)), key=lambda z: (-disagreement[z], -marked[z], z))
    return [z for z in order if marked[z] > 0]

"""The channel by which a network is told where somebody pointed."""

from __future__ import annotations

import numpy as np


def point_map(size: tuple[int, int], row: float, column: float, sigma: float) -> np.ndarray:
    """exp(−r²/2σ²) of each pixel's distance r from a place: float32 ``(1, H, W)`` in [0, 1].

    Args:
        size: height and width.
        row, column: the place; pixel (i, j) has its middle at (i, j). It may lie between pixels or outside.
        sigma: σ in pixels.
    """
    rows, columns = (np.exp(-((np.arange(n) - at) ** 2) / (2 * sigma**2)) for n, at in zip(size, (row, column)))
    return np.outer(rows, columns).astype(np.float32)[None]

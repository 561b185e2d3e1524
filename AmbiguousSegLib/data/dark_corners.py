"""Dark corners as dermatoscopes make them: a round field of view, beyond which the picture is dark.

Skin is taken for a lesion there (SegDiff on skin lesions, course report, section 4.3, which plans this augmentation and
gives no numbers: all ranges here are ours).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_RADIUS, MOST_RADIUS = 0.65, 1.0  # of half the diagonal: from just inside the sides to the corners
MOST_SHIFT = 0.1  # of each side
LEAST_EDGE, MOST_EDGE = 0.01, 0.1  # of half the diagonal
MOST_REST = 0.2


@dataclass(frozen=True)
class DarkCorners:
    """A field of view.

    Attributes:
        radius: where full darkness begins, as a share of half the picture's diagonal.
        shift: of its centre from the picture's (row, column), as shares of the sides.
        edge: over which brightness falls, evenly and inwards from ``radius``, as a share of half the diagonal.
        rest: share of the brightness that is left outside.
    """

    radius: float
    shift: tuple[float, float]
    edge: float
    rest: float

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Darkened picture, float32 ``(C, H, W)`` as it was; within ``radius − edge`` each value is kept as it is."""
        height, width = image.shape[-2:]
        rows, columns = (
            np.arange(side) - (side - 1) / 2 - shift * side for side, shift in zip((height, width), self.shift)
        )
        distance = np.hypot(rows[:, None], columns) / (np.hypot(height, width) / 2)
        seen = np.clip((self.radius - distance) / self.edge, 0, 1)
        return (image * (self.rest + (1 - self.rest) * seen).astype(np.float32)).astype(np.float32)


def draw_dark_corners(probability: float, rng: np.random.Generator) -> DarkCorners | None:
    """Random ones with this probability, else None; always takes the same number of draws from ``rng``."""
    chance, radius, row, column, edge, rest = rng.random(6)
    if chance >= probability:
        return None
    return DarkCorners(
        radius=LEAST_RADIUS + (MOST_RADIUS - LEAST_RADIUS) * radius,
        shift=(MOST_SHIFT * (2 * row - 1), MOST_SHIFT * (2 * column - 1)),
        edge=LEAST_EDGE + (MOST_EDGE - LEAST_EDGE) * edge,
        rest=MOST_REST * rest,
    )

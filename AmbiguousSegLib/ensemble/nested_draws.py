"""Label maps drawn from maps of probabilities by one threshold for a whole mask: coherent, and nested in each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def nested_label_maps(probabilities: np.ndarray, thresholds: Sequence[float]) -> Iterator[np.ndarray]:
    """A label map for each threshold u: uint8 ``(*spatial)``.

    One class: what has a probability above u. Several: class k or a later one where p_k + … + p_K > u, so that u drawn
    uniformly from [0, 1) gives each pixel class k with the probability p_k. All masks come from one order of the
    pixels: of two thresholds the greater marks a part of what the smaller marks. How pixels vary together is not in
    the probabilities, and none of a rater's habits is; this is the most coherent reading of them, and no model of
    raters. (Drawn pixel by pixel, the same probabilities give speckle.)

    Args:
        probabilities: float ``(K, *spatial)``, of the classes 1 to K; background has what they leave of 1.
        thresholds: in [0, 1).
    """
    tails = np.cumsum(probabilities[::-1], axis=0)[::-1]
    for u in thresholds:
        yield np.add.reduce(tails > u, axis=0, dtype=np.uint8)

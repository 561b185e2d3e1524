"""Raters' label maps on the grid of a network."""

from __future__ import annotations

import numpy as np

_ROUNDING = 1e-9  # of shares of area


def resized_label_maps(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Label maps brought to ``size`` (H, W), both axes on their own.

    A new pixel gets the label that has the largest share of it, background among them: along an axis that shrinks its
    share of the pixel's extent, along one that grows what linear interpolation between pixel centres gives. Of equal
    shares the lowest label wins, and background last: with one class, a pixel is marked if at least half of it is.

    Args:
        masks: uint8 label maps (R, H, W).

    Returns:
        uint8 (R, *size); the same array if it has that size already.
    """
    if masks.shape[1:] == tuple(size):
        return masks
    rows, columns = (_shares(old, new) for old, new in zip(masks.shape[1:], size, strict=True))
    labels = np.zeros((len(masks), *size), np.uint8)
    largest, background = np.zeros(labels.shape), np.ones(labels.shape)
    for label in range(1, masks.max(initial=0) + 1):
        share = rows @ (masks == label).astype(float) @ columns.T
        larger = share > largest + _ROUNDING
        largest[larger], labels[larger] = share[larger], label
        background -= share
    return np.where(largest >= background - 2 * _ROUNDING, labels, np.uint8(0))


def _shares(old: int, new: int) -> np.ndarray:
    """(new, old) share of each old pixel in each new one along an axis; rows sum to 1."""
    if new > old:
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        distance = np.abs(np.clip(centres, 0, old - 1)[:, None] - np.arange(old)[None])
        return np.clip(1 - distance, 0, None)
    edges_old, edges_new = np.arange(old + 1) / old, np.arange(new + 1) / new
    low = np.maximum(edges_new[:-1, None], edges_old[None, :-1])
    high = np.minimum(edges_new[1:, None], edges_old[None, 1:])
    return np.clip(high - low, 0, None) * new

"""Label maps: uint8 masks in which 0 is background and 1 to K are the classes."""

from __future__ import annotations

import numpy as np


def label_map_of(values: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """The class that is largest, background included: uint8 ``(*spatial)`` with 0 for background, 1 to K for classes.

    Background has what the classes leave of 1. A class must be strictly larger than background and every other class,
    so that ties go to background. With one class this is: above one half.

    Args:
        values: float ``(K, *spatial)``, one channel per class on a scale where 0 is "not this class" and 1 is "this
            class": a network's answer, or the share of samples that say so.
        margin: how much larger than all others a class must be, where there are several: shares of samples that are
            equal may differ by rounding.

    Raises:
        ValueError: no class, or more than 255.
    """
    if not 1 <= len(values) <= 255:
        raise ValueError(f"Values of 1 to 255 classes are needed as (K, *spatial), got shape {values.shape}.")
    if len(values) == 1:
        return (values[0] > 0.5).view(np.uint8)
    background = 1 - values.sum(axis=0)
    label, best, next_best = np.zeros(background.shape, np.uint8), background, np.full_like(background, -np.inf)
    for number, own in enumerate(values, start=1):
        next_best = np.maximum(next_best, np.minimum(own, best))
        label[own > best] = number
        best = np.maximum(best, own)
    label[~(best > next_best + margin)] = 0  # tied, or no number at all
    return label


def as_label_map(mask: np.ndarray) -> np.ndarray:
    """A bool or uint8 array as uint8, without a copy: bool is a label map of one class. ValueError for other types."""
    if mask.dtype == bool:
        return mask.view(np.uint8)
    if mask.dtype != np.uint8:
        raise ValueError(f"A label map is uint8 (or bool, one class), got {mask.dtype}; threshold or convert it first.")
    return mask


def class_mask(label_map: np.ndarray, label: int, classes: int) -> np.ndarray:
    """Where a uint8 label map of ``classes`` classes has ``label``: bool, same shape; a view if there is one class."""
    return label_map.view(bool) if classes == 1 and label_map.dtype == np.uint8 else label_map == label

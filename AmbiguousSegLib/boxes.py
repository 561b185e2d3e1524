"""Boxes in arrays: the smallest that holds what is marked, and the smallest that holds several boxes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Box = tuple[slice, ...]


def bounding_box(mask: np.ndarray) -> Box | None:
    """Smallest box that holds all that is not 0 in an array of any number of axes; None if all is 0."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        part = mask[tuple(box)]
        marked = np.flatnonzero(part.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if len(marked) == 0:
            return None
        box.append(slice(int(marked[0]), int(marked[-1]) + 1))
    return tuple(box)


def joined(boxes: Iterable[Box]) -> Box | None:
    """Smallest box that holds several boxes, all with the same axes; None if there are none."""
    spans = list(zip(*boxes))
    return tuple(slice(min(s.start for s in along), max(s.stop for s in along)) for along in spans) or None


def inside(box: Box, outer: Box) -> Box:
    """``box`` as it lies in an array of the voxels of ``outer``."""
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(box, outer))

"""What is in a case: every pixel of its files read once, and what was seen, in a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

from AmbiguousSegLib.boxes import bounding_box
from AmbiguousSegLib.data.readers import Case, load_case
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes
from AmbiguousSegLib.volume.inputs import ChannelValues, channel_values


@dataclass(frozen=True)
class Inspection:
    """What was seen in a case.

    Attributes:
        identity, subject, group, part, modality: as ``readers.Case``.
        stored: type of the image's values as the reader gives them: "uint8", "int16", "float32".
        geometry: grid of the image.
        raters: their names.
        values: of each channel.
        marked: indices along Z, Y and X of the array where anybody marked anything, ascending.
        largest_px: extent along Z, Y and X of the largest connected mark of all raters together, by voxels; zeros if
            nobody marked anything.
        labels: those that occur in the masks.
        empty_raters: how many raters marked nothing.
    """

    identity: str
    subject: str
    group: str
    part: str
    modality: str
    stored: str
    geometry: Geometry
    raters: tuple[str, ...]
    values: tuple[ChannelValues, ...]
    marked: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    largest_px: tuple[int, int, int]
    labels: tuple[int, ...]
    empty_raters: int

    def marked_slices(self, plane: str) -> tuple[int, list[int]]:
        """Number of slices in a plane, and those of them that anybody marked, counted as ``Preprocessing.prepare``."""
        axes = SliceAxes.of(self.geometry, plane)
        count, found = self.geometry.size[axes.index_axes[0]], self.marked[2 - axes.index_axes[0]]
        return count, [count - 1 - i for i in reversed(found)] if axes.backwards[0] else list(found)


def inspect(case: Case, classes: int) -> Inspection:
    """Read a case whole; where it was inspected before (``layouts.prepared``), what was seen then.

    Raises:
        ValueError: as ``load_case``; NaN or infinite values.
    """
    before = getattr(case, "inspection", None)
    if isinstance(before, Inspection):
        return before
    values, geometry, masks = load_case(case, classes)
    union: np.ndarray = np.any(masks, axis=0)
    marked = tuple(tuple(np.flatnonzero(np.any(union, axis=axis)).tolist()) for axis in ((1, 2), (0, 2), (0, 1)))
    return Inspection(
        identity=case.identity,
        subject=case.subject,
        group=case.group,
        part=case.part,
        modality=case.modality,
        stored=values.dtype.name,
        geometry=geometry,
        raters=case.rater_names,
        values=tuple(_seen(channel, case.identity) for channel in values),
        marked=marked,  # type: ignore[arg-type]
        largest_px=_largest(union),
        labels=_labels(masks),
        empty_raters=int((~masks.any((1, 2, 3))).sum()),
    )


def inspect_all(cases: Sequence[Case], classes: int, on_case: Callable[[int], None] | None = None) -> list[Inspection]:
    """``inspect`` each case, so that what cannot be read is found before it is needed.

    Args:
        on_case: called with the number of cases inspected so far.

    Raises:
        ValueError: by the first case that cannot be read.
    """
    seen = []
    for number, case in enumerate(cases, start=1):
        seen.append(inspect(case, classes))
        if on_case is not None:
            on_case(number)
    return seen


def _seen(channel: np.ndarray, identity: str) -> ChannelValues:
    found = channel_values(channel)
    if found is None:
        raise ValueError(f"{identity}: the image holds NaN or infinite values; replace them before use.")
    return found


def _labels(masks: np.ndarray) -> tuple[int, ...]:
    """Labels that occur, slice by slice: counting takes 8 bytes a voxel."""
    counts = np.zeros(256, int)
    for z in range(masks.shape[1]):
        counts += np.bincount(masks[:, z].ravel(), minlength=256)
    return tuple(n for n in np.flatnonzero(counts).tolist() if n)


def _largest(union: np.ndarray) -> tuple[int, int, int]:
    """Within the box of all marks, as numbering takes 12 bytes a voxel."""
    box = bounding_box(union)
    if box is None:
        return 0, 0, 0
    numbered, _ = label(union[box])
    largest = int(np.bincount(numbered.ravel())[1:].argmax())
    z, y, x = find_objects(numbered)[largest]
    return z.stop - z.start, y.stop - y.start, x.stop - x.start

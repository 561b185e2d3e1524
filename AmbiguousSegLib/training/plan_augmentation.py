"""How slices are to be varied in training, with the reasons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.training.plan_intensity import Choice
from AmbiguousSegLib.volume.geometry import SliceAxes

SMALL_FIELD_MM = 128.0  # a patch this small shows no organ as a whole, whose orientation means something


def augmentation(
    seen: Sequence[Inspection],
    plane: str,
    size: Sequence[int],
    spacing_mm: float | None,
    hounsfield: bool,
    pointed: bool = False,
) -> list[Choice]:
    """Settings ``augmentation``.

    Args:
        seen: of each case.
        plane, size, spacing_mm: how slices are made.
        hounsfield: whether values are in HU.
        pointed: whether the network reads a map of a point, which brightness and contrast would change, too.
    """
    whole = spacing_mm is not None and max(size) * spacing_mm > SMALL_FIELD_MM
    turns = (
        "the field shows organs, which have an orientation" if whole else "what is seen has no preferred orientation"
    )
    centred = _always_in_the_middle(seen, plane, size, spacing_mm)
    shift = (
        "lesions lie in the middle of the images: so that the place tells nothing" if centred else "a little is enough"
    )
    scale = "HU mean the same in every scan" if hounsfield else "brightness and contrast differ between scans"
    scale = "the map of the point must stay as it is" if pointed else scale
    kept = hounsfield or pointed
    return [
        ("augmentation.flip", not whole, turns),
        ("augmentation.rotate_degrees", 15.0 if whole else 180.0, turns),
        ("augmentation.scale", 0.15, "lesions come in all sizes"),
        ("augmentation.translate", 0.15 if centred else 0.05, shift),
        ("augmentation.gain", 0.0 if kept else 0.15, scale),
        ("augmentation.offset", 0.0 if kept else 0.05, scale),
    ]


def _always_in_the_middle(
    seen: Sequence[Inspection], plane: str, size: Sequence[int], spacing_mm: float | None
) -> bool:
    """Crops around lesions, as they are seen: the marks of most cases are centred, and smaller than half of them."""
    marked = [case for case in seen if all(case.marked)]
    if not marked:
        return False
    off, share, room = [], [], []
    for case in marked:
        axes = SliceAxes.of(case.geometry, plane).index_axes[1:]
        spacings, sizes, extents = in_plane(case, plane)
        field = sizes if spacing_mm is None else np.array(size) * spacing_mm / spacings
        middles = np.array([(case.marked[2 - k][0] + case.marked[2 - k][-1]) / 2 for k in axes])
        off.append(float((np.abs(middles - (sizes - 1) / 2) / field).max()))
        share.append(float((extents / field).max()))
        room.append(float((sizes / field).min()))
    return bool(np.median(off) < 0.1 and np.median(share) < 0.5 and np.median(room) < 1.5)


def in_plane(case: Inspection, plane: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spacing, size and extent of the largest mark along rows and columns."""
    axes = SliceAxes.of(case.geometry, plane)
    three = (case.geometry.spacing_mm, case.geometry.size, case.largest_px[::-1])
    return tuple(np.array(axes.of_index(values)[1:], float) for values in three)  # type: ignore[return-value]

"""How slices are to be made of given data: spacing, plane, size, channels, intensity. Rules with their reasons.

The numbers in this module were chosen by what was measured on real data where a comment says so, and are conventions of
the field otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.training.plan_augmentation import augmentation, in_plane
from AmbiguousSegLib.training.plan_intensity import Choice, Near, ceiling, intensity, is_hounsfield
from AmbiguousSegLib.volume.geometry import SliceAxes

ANISOTROPIC = 1.5  # coarsest spacing against the next: above it slices are cut across the coarsest axis
CONTEXT = 2.0  # side of a patch against the largest lesions: half a lesion's width of healthy tissue on each side
LEAST_CONTEXT = 1.5  # what must fit before the spacing is made coarser than that of the data
LEAST_SIDE, MOST_SIDE_CPU, MOST_SIDE_GPU = 32, 128, 256  # four times the pixels cost four times the time
PATCH_SIDE = 64  # of larger slices at least this: what is not a lesion, such as vessels, is learned from surroundings
ACROSS_LESION_CPU = 48  # pixels across a lesion that fills its picture: one pixel of border is 4 % of its diameter
PLANE_OF_AXIS = {2: "axial", 1: "coronal", 0: "sagittal"}


@dataclass(frozen=True)
class Images:
    """What was chosen about images.

    Attributes:
        choices: key, value and reason of each.
        size: height and width of what the network sees.
        flat: every case is one slice.
    """

    choices: tuple[Choice, ...]
    size: tuple[int, int]
    flat: bool


def plan_images(
    seen: Sequence[Inspection], gpu: bool, names: Sequence[str] = (), near: Near = (), pointed: bool = False
) -> Images:
    """Settings ``dataset.size`` to ``dataset.intensity``, and ``augmentation``.

    Args:
        seen: of each case.
        gpu: whether a GPU trains, which affords larger slices.
        names: of the channels, where they are known.
        near: as ``plan_intensity.intensity``.
        pointed: as ``plan_augmentation.augmentation``.

    Raises:
        ValueError: no case; cases with different numbers of channels.
    """
    if not seen:
        raise ValueError("There is no case to plan for; check the data folder.")
    counts = sorted({len(case.values) for case in seen})
    if len(counts) > 1:
        odd = next(case for case in seen if len(case.values) != len(seen[0].values))
        raise ValueError(
            f"{odd.identity} has {len(odd.values)} channel(s), {seen[0].identity} has {len(seen[0].values)}; give all "
            "cases the same channels."
        )
    modality = _modality(seen)
    hounsfield = [is_hounsfield([case.values[k] for case in seen], modality) for k in range(counts[0])]
    flat = all(min(case.geometry.size) == 1 for case in seen)
    known = not flat or _spacing_known(seen, any(hounsfield) or bool(modality))
    plane = _plane(seen, flat, known)
    spacing, size = _grid(seen, plane[1], known, gpu)
    channels = _channels(seen, "CT" if all(hounsfield) else modality, names)
    choices = (
        plane,
        spacing,
        size,
        channels,
        intensity(seen, hounsfield, not known, near),
        *augmentation(seen, plane[1], size[1], spacing[1], all(hounsfield), pointed),
    )
    return Images(choices, tuple(size[1]), flat)


def multiple_of(side: float) -> int:
    """What a side of about this length must be a multiple of: the levels of ``plan_run.network``."""
    return 8 if side < 91 else 16 if side < 182 else 32


def _down(side: float) -> int:
    least = int(side) // 8 * 8
    return int(side) // multiple_of(least) * multiple_of(least)


def _up(side: float) -> int:
    return math.ceil(side / multiple_of(side)) * multiple_of(side)


def _modality(seen: Sequence[Inspection]) -> str:
    found = {case.modality for case in seen if case.modality}
    return found.pop() if len(found) == 1 else ""


def _spacing_known(seen: Sequence[Inspection], physical: bool) -> bool:
    """Pictures come as pixels of 1 mm, which says nothing; any other spacing, and one of CT or MR, is true."""
    return physical or any(case.geometry.spacing_mm != (1.0, 1.0, 1.0) for case in seen)


def _patient_axes(case: Inspection) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Spacing and size along the patient's z, y and x."""
    axes = SliceAxes.of(case.geometry, "axial")
    return axes.of_index(case.geometry.spacing_mm), axes.of_index(case.geometry.size)


def _plane(seen: Sequence[Inspection], flat: bool, known: bool) -> Choice:
    key = "dataset.plane"
    if flat and not known:
        return key, "stored", "pictures lie as they are stored"
    spacings, sizes = (np.array(rows) for rows in zip(*map(_patient_axes, seen)))
    if flat:
        across = [k for k in range(3) if (sizes[:, k] == 1).all()]
        if not across:
            return key, "stored", "the single slices lie in several planes, and are taken as they are stored"
        name = PLANE_OF_AXIS[2 - across[0]]
        return key, name, f"every case is one {name} slice"
    z, y, x = (float(n) for n in np.median(spacings, axis=0))
    order = sorted(((z, "axial"), (y, "coronal"), (x, "sagittal")), reverse=True)
    text = f"voxels are {x:.3g} × {y:.3g} × {z:.3g} mm (x, y, z; median)"
    if order[0][0] > ANISOTROPIC * order[1][0]:
        return key, order[0][1], f"{text}: slices across the coarsest axis"
    return key, "axial", f"{text}: no axis is coarser than the next by more than {ANISOTROPIC:g}, so as it is usual"


def _grid(seen: Sequence[Inspection], plane: str, known: bool, gpu: bool) -> tuple[Choice, Choice]:
    """Spacing and size."""
    spacings, sizes, extents = (np.array(rows) for rows in zip(*(in_plane(case, plane) for case in seen)))
    most = MOST_SIDE_GPU if gpu else MOST_SIDE_CPU
    marked = extents.max(1) > 0
    if not known:
        return _picture_grid(sizes, extents[marked], sizes[marked], most, gpu)
    # Five digits: pixels as they are stay as they are. At 0.94 mm, 256 of 0.9375 mm would become 255, and blurred.
    spacing = float(f"{np.median(spacings):.5g}")
    widths = (extents * spacings).max(1)[marked]
    # Of few cases no mean of the largest two: one huge lesion among ten is cut, not all others made small.
    largest = float(np.percentile(widths, 95, method="lower")) if len(widths) else 0.0
    why = f"median of the cases' pixels ({spacings.min():.3g} to {spacings.max():.3g} mm)"
    if LEAST_CONTEXT * largest / spacing > most:
        spacing = float(f"{LEAST_CONTEXT * largest / most:.2g}")
        why = f"coarser than the {why}, so that lesions of {largest:.3g} mm and their surroundings fit {most} pixels"
    wanted = CONTEXT * largest / spacing
    field = float(np.median((sizes * spacings).min(1))) / spacing  # of the images, in pixels of the model
    # Crops are little larger than what they were cut around; of whole scans more than the lesions is shown.
    side = _up(max(wanted, PATCH_SIDE if field > PATCH_SIDE else LEAST_SIDE))
    reason = f"the largest lesions (95th percentile) are {largest:.3g} mm, {largest / spacing:.3g} pixels, wide"
    reason += f"; with as much around them {wanted:.3g}"
    if side > most:
        side, reason = most, f"{reason}; at most {most} on this device"
    if side > field:
        side, reason = max(_down(field), 8), f"{reason}; the images (median) are {field:.3g} pixels"
    return ("dataset.spacing_mm", spacing, why), ("dataset.size", [side, side], reason)


def _picture_grid(
    sizes: np.ndarray, extents: np.ndarray, of_sizes: np.ndarray, most: int, gpu: bool
) -> tuple[Choice, Choice]:
    """For pictures whose pixels are of unknown size: each is brought to one size as a whole."""
    rows, columns = (float(n) for n in np.median(sizes, axis=0))
    longest = min(max(rows, columns), most)
    reason = f"the pictures are {rows:g} × {columns:g} pixels (median)"
    if max(rows, columns) > most:
        reason += f", at most {most} on this device"
    if not gpu and len(extents):
        share = float(np.median((extents / of_sizes).max(1)))
        if ACROSS_LESION_CPU / share < longest:
            longest = ACROSS_LESION_CPU / share
            reason += (
                f"; what is marked spans {100 * share:.0f} % of them (median), {ACROSS_LESION_CPU} pixels of these"
            )
    longest = max(_down(longest), min(LEAST_SIDE, _down(max(rows, columns))), 8)
    unit = multiple_of(longest)
    size = [max(unit, round(n * longest / max(rows, columns) / unit) * unit) for n in (rows, columns)]
    return (
        ("dataset.spacing_mm", None, "the size of the pixels is unknown: each picture is brought to one size"),
        ("dataset.size", size, reason),
    )


def _channels(seen: Sequence[Inspection], modality: str, names: Sequence[str]) -> Choice:
    count = len(seen[0].values)
    if len(names) == count:
        return "dataset.channels", list(names), "named by the data"
    if count == 1:
        return "dataset.channels", [modality or "image"], "one channel"
    if count == 3 and all(ceiling(v) == 255 for case in seen for v in case.values):
        return "dataset.channels", ["red", "green", "blue"], "three channels of 8 bits"
    return "dataset.channels", [f"channel_{k}" for k in range(1, count + 1)], f"{count} channels that nothing names"

"""Files of raters on the grid of the samples they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import file_stem, is_flat, placed_on
from AmbiguousSegLib.volume.scan_kind import is_picture
from AmbiguousSegLib.volume.segments import read_rater_maps


@dataclass(frozen=True)
class RaterMask:
    """One rater's label map on the samples' grid, and where it came from; ``name`` is the segment's or the file's."""

    name: str
    file: Path
    resampled: bool
    crop: Crop


def read_rater_masks(
    file: Path, geometry: Geometry, labels: Sequence[Label], segments_are: str = "auto", resample: bool = False
) -> list[RaterMask]:
    """Every rater of a file on the grid ``geometry``.

    Args:
        segments_are: as ``read_rater_maps``.
        resample: bring raters of other grids onto it (nearest neighbour).

    Raises:
        ValueError: another grid; marks that would be lost. Otherwise, and OSError and ImportError, as
            ``read_rater_maps``.
    """
    maps, grid, part = read_rater_maps(file, [label.name for label in labels], segments_are, geometry)
    if is_picture(file) and geometry.size[2] == 1 and grid.size == geometry.size:
        grid = geometry  # a picture does not tell the size of its pixels, which the samples know
    found = []
    for name, label_map in maps.items():
        placed = placed_on(geometry, label_map, grid, part)
        if placed is not None:
            found.append(RaterMask(name, file, False, Crop.of(placed).copy()))
            continue
        differs = f"{file} does not lie on the samples' grid: {geometry.difference(grid)}."
        if geometry.size[2] > 1 and is_flat(file):
            raise ValueError(
                f"{differs} A picture does not say which slice it shows; save the rater's mask as a volume."
            )
        if not resample:
            raise ValueError(f"{differs} Resample it; compare does with --resample (nearest neighbour).")
        crop, outside = resampled(Crop.of(label_map), grid, geometry)
        if label_map.any() and crop.empty:
            raise ValueError(f"{file}: {name} marks nothing on the samples' grid; is it the same patient?")
        if outside:
            raise ValueError(
                f"{file}: {name} marks {outside * geometry.voxel_volume_ml:.3g} mL outside the samples' volume, which "
                "would be lost; crop the rater's mask, or sample the larger volume."
            )
        found.append(RaterMask(name, file, True, crop))
    return found


def distinct_names(raters: Sequence[RaterMask]) -> list[str]:
    """Names of the raters, with their files' where several agree; ValueError where two are the same even so."""
    own = [rater.name for rater in raters]
    names = [f"{file_stem(r.file)}: {r.name}" if own.count(r.name) > 1 else r.name for r in raters]
    if len(set(names)) < len(names):
        raise ValueError(
            f"Two raters are named {max(names, key=names.count)}; give each once, in files of different names."
        )
    return names


def resampled(drawn: Crop, grid: Geometry, geometry: Geometry) -> tuple[Crop, int]:
    """What is drawn on ``grid`` by the nearest voxels of ``geometry``, and how many voxels it takes beyond that."""
    if drawn.empty:
        return Crop.nothing(geometry.shape), 0
    # Both grids are cut to what is drawn, or go on beyond the volume to hold it.
    start = tuple(grid.to_mm(np.array(drawn.start[::-1])))
    source = Geometry(drawn.voxels.shape[::-1], grid.spacing_mm, start, grid.direction)
    corners = geometry.to_index(source.outer_corners_mm())
    first, end = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int) + 1
    to = ((end - first).tolist(), sitk.Transform(), sitk.sitkNearestNeighbor)
    lies = (tuple(geometry.to_mm(first)), geometry.spacing_mm, geometry.direction)
    found = sitk.GetArrayFromImage(sitk.Resample(source.image(drawn.voxels), *to, *lies))
    low, high = np.clip([first, end], 0, geometry.size)
    inside = Crop.of(found[tuple(slice(a, b) for a, b in zip((low - first)[::-1], (high - first)[::-1]))])
    outside = np.count_nonzero(found) - np.count_nonzero(inside.voxels)
    return inside.copy().placed(low[::-1], geometry.shape), int(outside)

"""What a calibrated model says of samples of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from AmbiguousSegLib.calibration.figures import KEY, calibrated_figures
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.field_of_view import slice_at, window_pixels
from AmbiguousSegLib.volume.geometry import Geometry, Point, SliceAxes
from AmbiguousSegLib.volume.preprocessing import Preprocessing


def calibrated(
    model: Model,
    settings: SamplerSettings,
    masks: np.ndarray,
    geometry: Geometry,
    point_mm: Point | None = None,
    slice_range: Sequence[int] | None = None,
    window_mm: Sequence[float] | None = None,
    refined: bool = False,
) -> dict[str, Any]:
    """For the provenance of samples: ``calibrated_figures`` of one slice and of the volumes; nothing without any.

    The slice is the one that holds the point (``slice_at``), else the one of the largest mean area, the first of
    several: then the samples chose it, and its figures say "not validated". "slice" says which, counted as
    ``Preprocessing.prepare`` does; there is none where no sample marks anything to choose by. A volume of one slice has
    no figures of volumes. A window of another size than the field of view, which all cases of a calibration have, has
    no figures; neither have samples that were refined, which no calibration has seen.

    Args:
        settings: how the masks were drawn.
        masks: label maps, uint8 ``(N, Z, Y, X)``.
        point_mm: LPS.
        slice_range: first and last of the slices that the masks are of, both included; None: all.
        window_mm: height and width of what was looked at around the point; None: no window was chosen.
        refined: whether the borders of the masks were moved after they were drawn.

    Raises:
        ValueError: a point outside of the volume.
    """
    if not model.calibrations:
        return {}
    if refined:
        return {KEY: {"absent": "the model is calibrated for samples as they are drawn; these are refined"}}
    if window_mm is not None and (told := _other_window(model.preprocessing, window_mm)):
        return {KEY: {"absent": told}}
    axes = SliceAxes.of(geometry, model.preprocessing.plane)
    _, *pixel_mm = axes.of_index(geometry.spacing_mm)
    pixels = np.array([np.count_nonzero(axes.view(mask), axis=(1, 2)) for mask in masks])
    first, last = slice_range or (0, pixels.shape[1] - 1)
    by_samples = point_mm is None and first < last
    if point_mm is not None:
        place = slice_at(model.preprocessing, geometry, point_mm)
    else:
        place = first + int(pixels[:, first : last + 1].sum(axis=0).argmax())
    sampling = settings if model.method.samples_by_steps else None
    volumes_ml = pixels.sum(axis=1) * geometry.voxel_volume_ml if pixels.shape[1] > 1 else None
    areas_mm2 = pixels[:, place] * (pixel_mm[0] * pixel_mm[1])
    found = calibrated_figures(model.calibrations, sampling, areas_mm2, volumes_ml, by_samples)
    nowhere = by_samples and not pixels.any()
    return {KEY: found if nowhere else {"slice": place, **found}}


def _other_window(preprocessing: Preprocessing, window_mm: Sequence[float]) -> str:
    """Why there are no figures of a window of this height and width; empty: it is the field of view."""
    fitted = [n * float(preprocessing.spacing_mm or 1) for n in window_pixels(preprocessing)]
    if np.allclose(window_mm, fitted):
        return ""
    (height, width), (own_height, own_width) = window_mm, fitted
    return (
        f"the model is calibrated for its field of view, {own_height:.4g} × {own_width:.4g} mm; these samples are of a "
        f"window of {height:.4g} × {width:.4g} mm"
    )

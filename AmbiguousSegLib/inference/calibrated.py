"""What a calibrated model says of samples of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from AmbiguousSegLib.calibration.figures import KEY, calibrated_figures
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes


def calibrated(
    model: Model,
    settings: SamplerSettings,
    masks: np.ndarray,
    geometry: Geometry,
    point_mm: Sequence[float] | None = None,
) -> dict[str, Any]:
    """For the provenance of samples: ``calibrated_figures`` of one slice and of the volumes; nothing without any.

    The slice is the one that holds the point, else the one of the largest mean area, the first of several. "slice" says
    which, counted as ``Preprocessing.prepare`` does. A volume of one slice has no figures of volumes.

    Args:
        settings: how the masks were drawn.
        masks: label maps, uint8 ``(N, Z, Y, X)``.
        point_mm: LPS.
    """
    if not model.calibrations:
        return {}
    axes = SliceAxes.of(geometry, model.preprocessing.plane)
    _, *pixel_mm = axes.of_index(geometry.spacing_mm)
    pixels = np.array([np.count_nonzero(axes.view(mask), axis=(1, 2)) for mask in masks])
    place = int(pixels.sum(axis=0).argmax())
    if point_mm is not None:
        index = np.rint(geometry.to_index([tuple(point_mm)])[0])
        place = int(np.clip(axes.of_index(index)[0], 0, pixels.shape[1] - 1))
        if axes.backwards[0]:
            place = pixels.shape[1] - 1 - place
    sampling = settings if model.method.samples_by_steps else None
    volumes_ml = pixels.sum(axis=1) * geometry.voxel_volume_ml if pixels.shape[1] > 1 else None
    areas_mm2 = pixels[:, place] * (pixel_mm[0] * pixel_mm[1])
    return {KEY: {"slice": place, **calibrated_figures(model.calibrations, sampling, areas_mm2, volumes_ml)}}

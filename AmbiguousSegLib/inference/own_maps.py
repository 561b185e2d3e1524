"""What a method says of each voxel beside its masks, on the volume's grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from AmbiguousSegLib.inference.batches import prepare_slices
from AmbiguousSegLib.inference.computation import Computation
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.prepared import PreparedVolume


def own_maps(
    model: Model, prepared: PreparedVolume, slices: Sequence[int], computation: Computation
) -> dict[str, np.ndarray]:
    """``Method.own_maps`` of some slices, brought back as values are: float32 ``(Z, Y, X)`` by name, else 0.

    Each slice is prepared once more for it, one at a time; nothing is computed where the method has no maps.

    Raises:
        ValueError: a method that gave something else than ``Method`` says, NaN or infinity.
    """
    method, names = model.method, model.method.own_map_names
    maps = {name: prepared.empty_map() for name in names}
    for z in slices if names else ():
        with torch.inference_mode(), computation.autocast(model.device):
            found = method.own_maps(prepare_slices(method, prepared.image, [z]))
        for name in names:
            values = found.get(name)
            if values is None or tuple(values.shape) != (1, *prepared.canvas) or not torch.isfinite(values).all():
                got = "nothing" if values is None else f"shape {tuple(values.shape)}"
                raise ValueError(
                    f"own_maps of the method {method.name} must give {name} as finite numbers of shape "
                    f"{(1, *prepared.canvas)}, got {got}, on slice {z}; correct the method, or check the weights."
                )
            prepared.region_of(maps[name][None], z)[0] = prepared.restore(values)[0].numpy()
    return maps

"""What a model's training data is like, for ``Model.inputs``."""

from __future__ import annotations

from collections.abc import Sequence

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.data.lung_phantom import phantom_case
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.inputs import Inputs, channel_values

_UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_PHANTOMS = 256  # of an endless supply
_PHANTOM = "phantom"  # is no modality: any scan differs from it


def inputs_of(inspections: Sequence[Inspection], plane: str) -> Inputs:
    """What these cases are like, of slices in a plane of ``PLANES``.

    One slice with pixels of exactly 1 mm counts as a picture whose pixels nobody has told the size of.

    Raises:
        ValueError: there is none, or they differ in their number of channels.
    """
    return Inputs.merged(
        Inputs.of(
            seen.values,
            seen.geometry,
            plane,
            seen.modality,
            picture=seen.geometry.size[2] == 1 and seen.geometry.spacing_mm == (1.0, 1.0, 1.0),
        )
        for seen in inspections
    )


def phantom_inputs(config: DataConfig) -> Inputs:
    """What the phantom's slices are like, seen in the first of them; their modality says that nobody was scanned."""
    spacing = config.phantom_spacing_mm
    grid = Geometry((config.size[1], config.size[0], 1), (spacing, spacing, 1.0), (0.0, 0.0, 0.0), _UPRIGHT)
    phantoms = (phantom_case(config.phantom_seed, n, config.size, spacing).image for n in range(_PHANTOMS))
    return Inputs.merged(
        Inputs.of([values], grid, "axial", _PHANTOM)
        for image in phantoms
        if (values := channel_values(image)) is not None
    )

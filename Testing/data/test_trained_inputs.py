"""What training data is like, from what was seen in its cases."""

from __future__ import annotations

import numpy as np
import pytest

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.data.lung_phantom import phantom_case, phantom_volume
from AmbiguousSegLib.data.trained_inputs import inputs_of, phantom_inputs
from AmbiguousSegLib.description import read_description
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.input_check import check_inputs
from AmbiguousSegLib.volume.inputs import ChannelValues

UPRIGHT = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
WINDOW = {"kind": "phantom", "size": (64, 64), "channels": ("CT",), "spacing_mm": 1.0, "plane": "axial"}


def seen(size, spacing, modality="", values=(0.0, 1.0, 2.0, 3.0, 4.0, True)) -> Inspection:
    grid = Geometry(size, spacing, (0.0, 0.0, 0.0), UPRIGHT)
    channels = (ChannelValues(*values),)
    return Inspection("a", "a", "", "", modality, "float32", grid, ("r",), channels, ((),) * 3, (0, 0, 0), (), 0)


def test_a_volume_a_picture_and_one_that_was_told_its_pixels():
    cases = [
        seen((8, 6, 4), (0.5, 0.5, 2.0), "CT"),
        seen((9, 7, 1), (1.0, 1.0, 1.0)),
        seen((5, 5, 1), (0.25, 0.25, 1.0), values=(-1.0, 0.0, 3.0, 4.0, 9.0, False)),
    ]
    found = inputs_of(cases, "axial")
    assert (found.rows_px, found.columns_px, found.modalities) == ((5, 7), (5, 9), ("CT",))
    assert (found.pixel_mm, found.slice_mm, found.pictures, found.images) == ((0.25, 0.5), (2.0, 2.0), True, 3)
    (channel,) = found.channels
    assert (channel.least, channel.median, channel.greatest, channel.whole) == ((-1, 0), (2, 3), (4, 9), False)
    assert channel.middle == (0.5, 0.75)
    coronal = inputs_of(cases[:1], "coronal")
    assert (coronal.rows_px, coronal.pixel_mm, coronal.slice_mm) == ((4, 4), (0.5, 2.0), (0.5, 0.5))
    with pytest.raises(ValueError, match="one number of channels"):
        inputs_of([], "axial")


def test_the_bundled_model_says_what_the_phantom_is_like():
    told = read_description(find_model("phantom-cimd-64")).inputs
    found = phantom_inputs(DataConfig(**WINDOW))
    assert (told.rows_px, told.columns_px, told.pixel_mm, told.slice_mm) == ((64, 64), (64, 64), (1.0, 1.0), None)
    assert (found.modalities, found.images) == (told.modalities, told.images) == (("phantom",), 256)
    for name in ("least", "low", "median", "high", "greatest", "middle"):
        assert getattr(found.channels[0], name) == pytest.approx(getattr(told.channels[0], name), abs=1e-3)
    image = phantom_case(0, 3).image  # one of those that were looked at
    low, high = np.percentile(image, (0.5, 99.5))
    assert told.channels[0].low[0] <= low <= told.channels[0].low[1]
    assert told.channels[0].high[0] <= high <= told.channels[0].high[1]


def test_phantoms_that_it_was_not_trained_on_pass_and_scans_do_not():
    model = read_description(find_model("phantom-cimd-64"))
    grid = Geometry((64, 64, 24), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), UPRIGHT)
    for seed in range(4):
        values = phantom_volume(seed).image[None]
        assert check_inputs(model.inputs, values, grid, model.preprocessing) == []
    (note,) = check_inputs(model.inputs, values, grid, model.preprocessing, "CT")
    assert note.startswith("This is CT: the model was trained on phantom;")

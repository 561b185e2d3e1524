"""What images are like: spans over several, by hand, and as they are written and read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.inputs import ChannelSpans, ChannelValues, Inputs, channel_values, in_words

UPRIGHT = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
TURNED = (0.0, 0, 1.0, 1.0, 0, 0, 0, 1.0, 0)  # index x runs to the back, y to the head, z to the left
VALUES = ChannelValues(0.0, 10.0, 30.0, 90.0, 200.0, True)


def grid(size=(8, 6, 4), spacing=(0.5, 0.7, 3.0), direction=UPRIGHT) -> Geometry:
    return Geometry(size, spacing, (0.0, 0.0, 0.0), direction)


def test_values_of_a_channel_by_hand():
    found = channel_values(np.arange(1001, dtype=np.int16).reshape(1, 7, 143))
    assert found == ChannelValues(0, 5, 500, 995, 1000, True)
    assert not channel_values(np.array([0.0, 0.5, 1.0])).whole
    for wrong in (np.nan, np.inf):
        assert channel_values(np.array([0.0, wrong])) is None


def test_all_columns_of_a_large_image_count():
    """8 million values: every fourth would be seen, which in rows of 200 is always the same columns."""
    channel = np.zeros((200, 200, 200), np.uint8)
    channel[..., ::4] = 9
    found = channel_values(channel)
    assert (found.low, found.median, found.high) == (0, 0, 9)


def test_the_slices_of_an_image_are_those_of_the_plane():
    stored = Inputs.of([VALUES], grid(), "axial", "CT")
    assert (stored.rows_px, stored.columns_px, stored.pixel_mm, stored.slice_mm) == ((6, 6), (8, 8), (0.5, 0.7), (3, 3))
    sagittal = Inputs.of([VALUES], grid(), "sagittal")  # rows to the feet, columns to the back
    assert (sagittal.rows_px, sagittal.columns_px) == ((4, 4), (6, 6))
    assert (sagittal.pixel_mm, sagittal.slice_mm) == ((0.7, 3.0), (0.5, 0.5))
    turned = Inputs.of([VALUES], grid(direction=TURNED), "axial")
    assert (turned.rows_px, turned.columns_px, turned.slice_mm) == ((8, 8), (4, 4), (0.7, 0.7))


def test_a_region_is_what_is_seen():
    region = ((0.6, 0.8, 0.0), (1.4, 3.4, 9.0))  # columns 1 to 3, rows 1 to 5
    found = Inputs.of([VALUES], grid(), "axial", region=region)
    assert (found.rows_px, found.columns_px) == ((5, 5), (3, 3))


def test_a_picture_tells_no_millimetres_and_one_slice_no_distance():
    picture = Inputs.of([VALUES], grid((8, 6, 1), (1.0, 1.0, 1.0)), "stored", picture=True)
    assert picture.pictures and picture.pixel_mm is None and picture.slice_mm is None
    slice_ = Inputs.of([VALUES], grid((8, 6, 1)), "axial")
    assert slice_.pixel_mm == (0.5, 0.7) and slice_.slice_mm is None and not slice_.pictures


def test_spans_of_several_images():
    other = ChannelValues(-5.0, 0.0, 20.0, 100.0, 300.0, False)
    several = [
        Inputs.of([VALUES], grid(), "axial", "MR"),
        Inputs.of([other], grid((4, 9, 2), (0.4, 0.4, 5.0)), "axial", "CT"),
        Inputs.of([VALUES], grid((5, 5, 1), (1.0, 1.0, 1.0)), "axial", picture=True),
    ]
    found = Inputs.merged(several)
    assert found == Inputs(
        (ChannelSpans((-5, 0), (0, 10), (20, 30), (90, 100), (200, 300), (0.2, 0.25), False),),
        rows_px=(5, 9),
        columns_px=(4, 8),
        modalities=("CT", "MR"),
        pixel_mm=(0.4, 0.7),
        slice_mm=(3.0, 5.0),
        pictures=True,
        images=3,
    )
    assert Inputs.merged([found, several[0]]).images == 4
    for wrong in ([], [several[0], Inputs.of([VALUES] * 2, grid(), "axial")]):
        with pytest.raises(ValueError, match="one number of channels"):
            Inputs.merged(wrong)


@pytest.mark.parametrize(
    ("least", "greatest", "whole", "stored"),
    [
        *((0, 255, True, "uint8"), (0, 256, True, "uint16"), (0, 65535, True, "uint16"), (0, 65536, True, "int32")),
        *(
            (-1, 255, True, "int16"),
            (-1024, 3071, True, "int16"),
            (0, 255, False, "float32"),
            (0, 1e12, True, "float32"),
        ),
    ],
)
def test_the_smallest_type_that_holds_the_values(least, greatest, whole, stored):
    assert ChannelSpans.of(ChannelValues(least, least, least, greatest, greatest, whole)).stored == stored


def test_an_image_of_nearly_one_value_has_its_median_at_the_dark_end():
    assert ChannelSpans.of(ChannelValues(0, 0, 0, 0, 7, True)).middle == (0, 0)


def test_written_and_read():
    found = Inputs.of([VALUES, VALUES], grid(), "axial", "MR")
    assert from_dict(Inputs, json.loads(json.dumps(to_dict(found))), "inputs") == found


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "pixel_mm",
            [0.0, 1.0],
            r"inputs.pixel_mm must be two positive numbers, the lower one first, got \[0.0, 1.0\]",
        ),
        ("slice_mm", [2.0, 1.0], "inputs.slice_mm must be"),
        ("rows_px", [0, 3], "inputs.rows_px must be two positive numbers"),
        ("pixel_mm", [1.0, float("nan")], "inputs.pixel_mm must be"),
        ("columns_px", [1], "inputs.columns_px must hold 2 values"),
        ("pixel_mm", "0.5", "inputs.pixel_mm must be a list"),
    ],
)
def test_what_cannot_be_true_is_refused(key, value, message):
    content = {**to_dict(Inputs.of([VALUES], grid(), "axial")), key: value}
    with pytest.raises(ValueError, match=message):
        from_dict(Inputs, content, "inputs")


def test_values_that_cannot_be_true_are_refused():
    with pytest.raises(ValueError, match=r"inputs.channels.median must be two finite numbers"):
        ChannelSpans((0, 0), (0, 0), (1, 0), (2, 2), (3, 3), (0, 0), True)


def test_in_words():
    assert [in_words(s) for s in ((0.4609, 0.9766), (1.0, 1.0), (-1024, 3071), (1000.0, 1000.2))] == [
        *("0.461 to 0.977", "1", "-1024 to 3071", "1000")
    ]
    volume = Inputs.of([VALUES], grid(), "axial", "CT")
    assert volume.words() == [
        *("CT", "slices of 6 × 8 pixels of 0.5 to 0.7 mm, 3 mm apart", "values: 0 to 200, medians 30 (uint8)")
    ]
    picture = Inputs.of([VALUES] * 2, grid((8, 6, 1), (1.0, 1.0, 1.0)), "stored", picture=True)
    assert picture.words()[0] == "slices of 6 × 8 pixels" and picture.words()[2].startswith("values of channel 2: ")

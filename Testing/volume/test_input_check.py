"""The check of inputs: each threshold at both sides, and real scans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shared_data import shared_path

from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.input_check import check_inputs, compare_inputs
from AmbiguousSegLib.volume.inputs import ChannelSpans, Inputs, channel_values
from AmbiguousSegLib.volume.io import read_volume
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

UPRIGHT = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
WINDOW = Intensity("window", 0.0, 100.0)
RESAMPLED = Preprocessing(("CT",), "axial", 1.0, (40, 40), 8, WINDOW)
STRETCHED = replace(RESAMPLED, spacing_mm=None)
SPANS = ChannelSpans((0, 0), (0, 10), (40, 60), (80, 100), (90, 120), (0.3, 0.5), True)
KNOWN = Inputs((SPANS,), (60, 80), (60, 80), ("CT",), (0.5, 1.0), (2.0, 3.0))
OWN = replace(KNOWN, rows_px=(60, 60), columns_px=(60, 60), pixel_mm=(1.0, 1.0), slice_mm=(2.0, 2.0))


def notes(preprocessing=RESAMPLED, known=KNOWN, **changes) -> list[str]:
    return compare_inputs(known, replace(OWN, **changes), preprocessing)


def values(**changes) -> tuple[ChannelSpans]:
    """A channel that lies where training's lay, but for these."""
    own = replace(SPANS, low=(5, 5), median=(50, 50), high=(90, 90), middle=(0.4, 0.4))
    return (replace(own, **changes),)


def test_what_was_trained_on_gives_no_warning():
    for preprocessing in (RESAMPLED, STRETCHED):
        assert notes(preprocessing) == [] and compare_inputs(KNOWN, KNOWN, preprocessing) == []


@pytest.mark.parametrize(
    ("preprocessing", "fits", "differs", "words"),
    [
        (RESAMPLED, {"pixel_mm": (0.4, 0.4)}, {"pixel_mm": (0.399, 0.4)}, "Pixels are 0.399 to 0.4 mm large"),
        (RESAMPLED, {"pixel_mm": (1.25, 1.25)}, {"pixel_mm": (1.251, 1.251)}, "Pixels are 1.25 mm large"),
        (RESAMPLED, {"slice_mm": (1.0, 1.0)}, {"slice_mm": (0.99, 0.99)}, "Slices are 0.99 mm apart"),
        (STRETCHED, {"slice_mm": (6.0, 6.0)}, {"slice_mm": (6.01, 6.01)}, "Slices are 6.01 mm apart"),
        # Least trained field 60 × 0.5 mm; patches are of 40 mm.
        (RESAMPLED, {"rows_px": (15, 15)}, {"rows_px": (14, 14)}, "What is looked at is 14 mm wide or high"),
        (RESAMPLED, {"columns_px": (15, 15)}, {"columns_px": (14, 14)}, "the model was trained on 30 mm and more"),
        (RESAMPLED, {"rows_px": (512, 512)}, {"rows_px": (5, 5)}, "give a larger image, or a larger region"),
        # Proportions of training: 60 / 80 to 80 / 60.
        (STRETCHED, {"rows_px": (36, 36)}, {"rows_px": (35, 35)}, "so that shapes are distorted"),
        (STRETCHED, {"columns_px": (37, 37)}, {"columns_px": (35, 35)}, "Slices have 60 × 35 pixels"),
        # Trained sides: 30 to 80 mm; 24 to 100 mm pass.
        (STRETCHED, {"pixel_mm": (0.4, 0.4)}, {"pixel_mm": (0.39, 0.39)}, "Slices are 23.4 mm wide and high"),
        (STRETCHED, {"pixel_mm": (1.66, 1.66)}, {"pixel_mm": (1.67, 1.67)}, "lesions look larger or smaller"),
        (RESAMPLED, {"modalities": ()}, {"modalities": ("MR",)}, "This is MR: the model was trained on CT"),
        (RESAMPLED, {"channels": values(low=(35, 35))}, {"channels": values(low=(35.1, 35.1))}, "0.5th percentile of"),
        (RESAMPLED, {"channels": values(median=(15, 15))}, {"channels": values(median=(14.9, 14.9))}, "median of the"),
        (RESAMPLED, {"channels": values(high=(55, 55))}, {"channels": values(high=(54, 54))}, "99.5th percentile of"),
        # Below 0 where training had nothing: a tenth of 0 to 100.
        (RESAMPLED, {"channels": values(low=(-10, -10))}, {"channels": values(low=(-10.1, 0))}, "is -10.1 to 0"),
    ],
)
def test_both_sides_of_each_threshold(preprocessing, fits, differs, words):
    assert notes(preprocessing, **fits) == []
    (note,) = notes(preprocessing, **differs)
    assert words in note and note.endswith(".") and "trained on" in note


def test_sizes_in_pixels_count_where_millimetres_are_unknown():
    """Of pictures of 60 to 80 pixels 30 to 160 pass."""
    pictures = {
        "known": replace(KNOWN, pixel_mm=None, slice_mm=None, pictures=True),
        "pixel_mm": None,
        "slice_mm": None,
    }
    for side, warned in ((30, False), (29, True), (160, False), (161, True)):
        found = notes(STRETCHED, **pictures, rows_px=(side, side), columns_px=(side, side))
        assert bool(found) == warned
        assert all(
            f"Slices have {side} × {side} pixels: the model was trained on 60 to 80 × 60 to 80" in n for n in found
        )


def test_values_outside_a_window_do_not_count():
    """Padding of −3000 and metal of 30,000 look as the ends of the window do, if training had such ends, too."""
    negative = ChannelSpans((-9, -1), (-5, 0), (40, 60), (90, 150), (120, 300), (0.3, 0.5), True)
    seen = replace(negative, least=(-3000, -3000), low=(-2000, -2000), greatest=(30000, 30000), high=(9000, 9000))
    assert notes(known=replace(KNOWN, channels=(negative,)), channels=(seen,)) == []


@pytest.mark.parametrize("rule", [Intensity("percentile", 0.5, 99.5), Intensity("minmax")])
def test_where_limits_follow_from_the_image_only_the_shape_of_the_histogram_counts(rule):
    preprocessing = replace(RESAMPLED, intensity=rule)
    tenfold = replace(SPANS, low=(0, 0), median=(400, 400), high=(1000, 1000), greatest=(5000, 5000), middle=(0.4, 0.4))
    assert notes(preprocessing, channels=(tenfold,)) == []
    assert notes(preprocessing, channels=(replace(tenfold, middle=(0.75, 0.75)),)) == []
    (note,) = notes(preprocessing, channels=(replace(tenfold, middle=(0.76, 0.76)),))
    assert "lies 76 % of the way from the darkest to the brightest" in note and "it is 30 to 50 %" in note
    assert len(notes(preprocessing, channels=(replace(tenfold, least=(-1024, -1024), low=(-1000, -1000)),))) == 1


@pytest.mark.parametrize(("least", "warned"), [(-10.0, False), (-10.1, True)])
def test_an_image_without_values_below_0_where_each_of_training_had_some(least, warned):
    """Each training image reached below −10 (a tenth of 0 to 100), or all but just so."""
    known = replace(SPANS, least=(-50, least))
    preprocessing = replace(RESAMPLED, intensity=Intensity("minmax"))
    assert bool(notes(preprocessing, known=replace(KNOWN, channels=(known,)), channels=values())) == warned


def test_channels_are_named_where_there_are_several_and_each_has_its_rule():
    rules = (WINDOW, Intensity("minmax"))
    preprocessing = replace(RESAMPLED, channels=("T1", "FLAIR"), intensity=rules)
    known = replace(KNOWN, channels=(SPANS, SPANS))
    bright = values(low=(90, 90))
    assert notes(preprocessing, known=known, channels=(*values(), *bright)) == []
    (note,) = notes(preprocessing, known=known, channels=(*bright, *values()))
    assert note.startswith("T1: the 0.5th percentile of the values is 90:")


@pytest.mark.parametrize(
    ("known", "seen", "words"),
    [
        ((0, 255, True), (0, 65000, True), "values of 16 bits, those of 8: convert the image"),
        ((0, 65000, True), (0, 255, True), "values of 8 bits, those of 16: convert the image"),
        ((0, 255, True), (0, 1, False), "scaled to 0 … 1"),
        ((-1024, 3000, True), (0, 4024, True), "Hounsfield units? Without their offset values are 1024 too high"),
        ((0, 4024, True), (-1024, 3000, True), "these may be Hounsfield units, those were not"),
    ],
)
def test_the_likely_reason_is_told(known, seen, words):
    spans = []
    for least, greatest, whole in (known, seen):
        image = np.linspace(least, greatest, 1001)
        spans.append(ChannelSpans.of(channel_values(image.round() if whole else image)))
    intensity = (
        Intensity("full_scale", high=float(max(known[1], 1))) if known[0] == 0 else Intensity("window", -1000, 400)
    )
    (note,) = notes(
        replace(RESAMPLED, intensity=intensity), known=replace(KNOWN, channels=spans[:1]), channels=tuple(spans[1:])
    )
    assert words in note


# Images


def grid(size=(60, 60, 3), spacing=(1.0, 1.0, 2.0)) -> Geometry:
    return Geometry(size, spacing, (0.0, 0.0, 0.0), UPRIGHT)


def image(low=0.0, high=100.0, size=(60, 60, 3)) -> np.ndarray:
    return np.linspace(low, high, int(np.prod(size)), dtype=np.float32).reshape(1, *size[::-1])


def test_an_image_is_checked_as_its_numbers_say():
    assert check_inputs(KNOWN, image(), grid(), RESAMPLED, "CT") == []
    assert check_inputs(KNOWN, list(image()), grid(), RESAMPLED) == []
    found = check_inputs(KNOWN, image(1000, 2000), grid(spacing=(3.0, 3.0, 9.0)), RESAMPLED, "MR")
    for words, note in zip(("This is MR", "Pixels are 3 mm", "Slices are 9 mm", "percentile of the values"), found):
        assert words in note
    assert len(found) == 4


def test_of_a_region_its_size_counts():
    region = ((0.0, 0.0, 0.0), (10.0, 40.0, 4.0))
    (note,) = check_inputs(KNOWN, image(), grid(), RESAMPLED, region=region)
    assert note.startswith("What is looked at is 11 mm wide or high")
    with pytest.raises(ValueError, match="does not overlap"):
        check_inputs(KNOWN, image(), grid(), RESAMPLED, region=((500.0, 0, 0), (600.0, 40, 4)))


def test_a_model_that_says_nothing_checks_nothing():
    assert check_inputs(None, image(-9e4, 9e4), grid(spacing=(9.0, 9.0, 9.0)), RESAMPLED, "US") == []


def test_a_picture_of_unknown_pixels_is_told_of_once():
    size = (60, 60, 1)
    arguments = image(size=size), grid(size, (1.0, 1.0, 1.0))
    for known, words in (
        (None, "this model resamples to 1 mm"),
        (KNOWN, "was trained on pixels of 0.5 to 1 mm and res"),
    ):
        (note,) = check_inputs(known, *arguments, RESAMPLED, picture=True)
        assert words in note and "1 mm is assumed" in note and "--spacing-mm" in note
    assert check_inputs(KNOWN, *arguments, RESAMPLED) == []  # told
    assert check_inputs(None, *arguments, STRETCHED, picture=True) == []


def test_what_cannot_be_sampled_is_left_to_who_samples():
    broken = image()
    broken[0, 0, 0, 0] = np.nan
    assert check_inputs(KNOWN, broken, grid(), RESAMPLED) == []
    assert check_inputs(KNOWN, np.concatenate([image(), image()]), grid(), RESAMPLED) == []


# Real scans, against what 2,012 crops of lung nodules are like


@pytest.fixture(scope="module")
def nodules() -> Inputs:
    return Inputs.merged(crops("train"))


@pytest.fixture(scope="module")
def chest():
    return read_volume(shared_path("data/chest_ct/lung1_image.nrrd"))


def crops(part: str) -> list[Inputs]:
    with np.load(shared_path(f"data/lidc_nodules/{part}.npz")) as data:
        images, spacings = data["images_hu"], data["spacing"]
    return [
        Inputs.of([channel_values(pixels)], grid((71, 71, 1), (float(mm), float(mm), 1.0)), "axial", "CT")
        for pixels, mm in zip(images, spacings)
    ]


LUNG = Preprocessing(("CT",), "axial", 0.7, (64, 64), 8, Intensity("window", -1000.0, 400.0))
WIDE = replace(LUNG, intensity=Intensity("window", -1024.0, 3071.0))
SOFT = replace(LUNG, intensity=Intensity("window", -160.0, 240.0))


@pytest.mark.parametrize("preprocessing", [LUNG, WIDE, SOFT])
def test_nodules_of_other_patients_and_a_chest_ct_are_what_was_trained_on(nodules, chest, preprocessing):
    assert not any(compare_inputs(nodules, crop, preprocessing) for crop in crops("test"))
    assert check_inputs(nodules, *chest, preprocessing, "CT") == []
    values, geometry = chest
    (note,) = check_inputs(nodules, values + 1024, geometry, preprocessing, "CT")
    assert "is 3: in the images" in note and "1024 too high" in note
    (note,) = check_inputs(nodules, ((values + 1024) / 3).clip(0, 1400).round(), geometry, preprocessing)  # as MR has
    assert "percentile of the values is 1: " in note
    assert check_inputs(nodules, values, geometry, preprocessing, "MR")[0].startswith("This is MR")


def test_a_head_ct_of_coarse_pixels_that_is_not_in_hounsfield_units(nodules):
    values, geometry = read_volume(shared_path("data/ct_head_dicom"))
    coarse, offset = check_inputs(nodules, values, geometry, LUNG, "CT")
    assert coarse.startswith("Pixels are 3.2 mm large: the model was trained on 0.461 to 0.977 mm")
    assert "1024 too high" in offset
    assert check_inputs(nodules, values - 1024, geometry, LUNG, "CT") == [coarse]

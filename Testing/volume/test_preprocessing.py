"""From a volume to slices and back: orientation, resampling, cropping, intensity."""

from __future__ import annotations

import json
import tracemalloc
from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.label_maps import label_map_of
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

IDENTITY = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
RNG = np.random.default_rng(11)
AS_IS = Intensity("window", 0.0, 1.0)


def model(plane="axial", spacing_mm=1.0, size=(16, 16), multiple=1, intensity=AS_IS, channels=("CT",)):
    return Preprocessing(channels, plane, spacing_mm, size, multiple, intensity)


def volume_of(image):
    return sitk.GetArrayFromImage(image)[None], Geometry.of(image)


def grid(size, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0), direction=IDENTITY):
    return Geometry(size, spacing_mm, origin_mm, direction)


# A patient of 7 × 6 × 5 voxels, x y z, in LPS order, and the 48 ways to store the same patient.

PATIENT = grid((7, 6, 5), (1.0, 1.0, 1.0), (-3.0, 20.0, 5.0)).image(RNG.random((5, 6, 7)).astype(np.float32))
TURNS = list(product(permutations((0, 1, 2)), product((False, True), repeat=3)))


def turned(image, permutation, flips):
    return sitk.Flip(sitk.PermuteAxes(image, permutation), flips)


def thresholded(preprocessing, image, threshold=0.5):
    """The model "brighter than threshold", applied slice by slice and written back."""
    volume, geometry = volume_of(image)
    prepared = preprocessing.prepare(volume, geometry)
    out = np.zeros(geometry.shape, np.uint8)
    for i in prepared.slice_indices:
        prepared.write(out, i, (prepared.restore(prepared.image(i)[0]) > threshold).byte().numpy())
    return out.view(bool)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_all_48_orientations_give_the_same_slices_and_masks(turn):
    image = turned(PATIENT, *turn)
    oriented = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
    np.testing.assert_array_equal(oriented, sitk.GetArrayFromImage(PATIENT))
    for plane in ("axial", "coronal", "sagittal"):
        mine = model(plane).prepare(*volume_of(image))
        theirs = model(plane).prepare(*volume_of(PATIENT))
        assert mine.slice_indices == theirs.slice_indices
        for i in mine.slice_indices:
            torch.testing.assert_close(mine.image(i), theirs.image(i), rtol=0, atol=0)
        np.testing.assert_array_equal(thresholded(model(plane), image), sitk.GetArrayFromImage(image) > 0.5)


def test_planes_by_hand():
    array = sitk.GetArrayFromImage(PATIENT)  # z to the head, y to the back, x to the left
    expected = {
        "axial": [array[k] for k in range(5)],
        "coronal": [array[::-1, k, :] for k in range(6)],  # head up
        "sagittal": [array[::-1, :, k] for k in range(7)],
    }
    for plane, slices in expected.items():
        prepared = model(plane, size=(1, 1)).prepare(*volume_of(PATIENT))
        assert prepared.slice_indices == list(range(len(slices)))
        for i, pixels in enumerate(slices):
            np.testing.assert_array_equal(prepared.image(i)[0], pixels)


@pytest.mark.parametrize("seed", range(12))
def test_oblique_volumes_are_sliced_on_their_nearest_axes_as_by_dicom_orient(seed):
    direction, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))  # right- and left-handed
    geometry = grid((7, 6, 5), (1.0, 1.0, 1.0), (4.0, 5.0, 6.0), tuple(direction.ravel()))
    image = geometry.image(sitk.GetArrayFromImage(PATIENT))
    prepared = model(size=(1, 1)).prepare(*volume_of(image))
    slices = np.stack([prepared.image(i)[0] for i in prepared.slice_indices])
    np.testing.assert_array_equal(slices, sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS")))


def test_a_small_rotation_changes_nothing_but_the_direction():
    direction = tuple(Rotation.from_euler("xyz", (20, -15, 10), degrees=True).as_matrix().ravel())
    straight, oblique = (grid((7, 6, 5), direction=d) for d in (IDENTITY, direction))
    volume = RNG.random((1, 5, 6, 7)).astype(np.float32)
    a, b = model().prepare(volume, straight), model().prepare(volume, oblique)
    for i in range(5):
        torch.testing.assert_close(a.image(i), b.image(i), rtol=0, atol=0)


def test_stored_plane_takes_the_array_as_it_is():
    image = turned(PATIENT, (2, 0, 1), (True, False, True))
    prepared = model("stored", size=(1, 1)).prepare(*volume_of(image))
    for i, pixels in enumerate(sitk.GetArrayFromImage(image)):
        np.testing.assert_array_equal(prepared.image(i)[0], pixels)


def test_slice_spacing_follows_the_plane():
    image = turned(grid((7, 6, 5), (1.0, 2.0, 3.0)).image(np.zeros((5, 6, 7), np.float32)), (1, 2, 0), (True,) * 3)
    spacing = {p: model(p).prepare(*volume_of(image)).slice_spacing_mm for p in ("axial", "coronal", "sagittal")}
    assert spacing == {"axial": 3.0, "coronal": 2.0, "sagittal": 1.0}


# Resampling


def disc(geometry, centre_mm, radius_mm):
    """Disc in every slice, its border softened by the share of the pixel it covers (32 × 32 points a pixel)."""
    nx, ny, nz = geometry.size
    fine = (np.arange(32) + 0.5) / 32 - 0.5
    x = geometry.origin_mm[0] + geometry.spacing_mm[0] * (np.arange(nx)[:, None] + fine).ravel()
    y = geometry.origin_mm[1] + geometry.spacing_mm[1] * (np.arange(ny)[:, None] + fine).ravel()
    inside = (x[None] - centre_mm[0]) ** 2 + (y[:, None] - centre_mm[1]) ** 2 < radius_mm**2
    plane = inside.reshape(ny, 32, nx, 32).mean(axis=(1, 3)).astype(np.float32)
    return np.repeat(plane[None], nz, axis=0)


def moments(plane):
    """Sum, centre of mass (row, column) and variance along rows and columns."""
    plane = np.asarray(plane, float)
    rows, columns = np.indices(plane.shape)
    total = plane.sum()
    centre = (plane * rows).sum() / total, (plane * columns).sum() / total
    spread = (plane * (rows - centre[0]) ** 2).sum() / total, (plane * (columns - centre[1]) ** 2).sum() / total
    return total, centre, spread


@pytest.mark.parametrize("spacing_mm", [0.5, 1.0, 1.7])
def test_a_disc_on_oblong_pixels_becomes_round_and_keeps_its_place(spacing_mm):
    geometry = grid((100, 60, 2), (0.8, 1.5, 5.0), (-40.0, 10.0, 0.0))  # 80 mm × 90 mm
    centre_mm, radius_mm = (3.3, 52.1), 17.0
    volume = disc(geometry, centre_mm, radius_mm)[None]
    prepared = model(spacing_mm=spacing_mm, size=(200, 200)).prepare(volume, geometry)
    image = prepared.image(1)[0]
    height, width = round(90 / spacing_mm), round(80 / spacing_mm)  # extents map onto extents exactly
    pixel_mm = 90 / height, 80 / width
    area, centre, spread = moments(image)
    assert area * pixel_mm[0] * pixel_mm[1] == pytest.approx(np.pi * radius_mm**2, rel=2e-3)
    # Outer face of the volume: origin minus half a voxel. The canvas adds its centring offset.
    top, left = (200 - height) // 2, (200 - width) // 2
    assert (centre[0] - top + 0.5) * pixel_mm[0] + 10.0 - 0.75 == pytest.approx(centre_mm[1], abs=0.02)
    assert (centre[1] - left + 0.5) * pixel_mm[1] - 40.0 - 0.4 == pytest.approx(centre_mm[0], abs=0.02)
    assert spread[0] * pixel_mm[0] ** 2 == pytest.approx(spread[1] * pixel_mm[1] ** 2, rel=0.02)  # round
    area, centre, _ = moments(prepared.restore(image))
    assert area * 0.8 * 1.5 == pytest.approx(np.pi * radius_mm**2, rel=5e-3)
    assert centre[0] * 1.5 + 10.0 == pytest.approx(centre_mm[1], abs=0.02)
    assert centre[1] * 0.8 - 40.0 == pytest.approx(centre_mm[0], abs=0.02)


def test_a_linear_ramp_is_resampled_to_its_values_in_mm():
    geometry = grid((40, 30, 1), (1.0, 2.0, 1.0))
    ramp = (np.arange(40, dtype=np.float32)[None, :] + 2 * np.arange(30, dtype=np.float32)[:, None]) / 100
    prepared = model(spacing_mm=0.5, size=(1, 1)).prepare(ramp[None, None], geometry)
    y, x = np.indices((120, 80)) * 0.5 + 0.25  # mm from the outer face
    expected = ((x - 0.5) + (y - 1.0)) / 100  # value = position of voxel centres in mm / 100
    inner = slice(4, -4)
    np.testing.assert_allclose(prepared.image(0)[0].numpy()[inner, inner], expected[inner, inner], atol=1e-5)


@pytest.mark.parametrize("spacing_mm", [0.4, 0.77, 1.0, 1.3])
def test_smooth_fields_survive_the_round_trip(spacing_mm):
    geometry = grid((60, 50, 1))
    y, x = np.indices((50, 60))
    field = 0.5 + 0.4 * np.sin(2 * np.pi * x / 30) * np.cos(2 * np.pi * y / 25)
    prepared = model(spacing_mm=spacing_mm, size=(1, 1)).prepare(field[None, None].astype(np.float32), geometry)
    restored = prepared.restore(prepared.image(0))[0].numpy()
    assert np.abs(restored - field)[2:-2, 2:-2].max() < 0.03


def test_shrinking_is_antialiased():
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (1, 1, 64, 32))
    image = model(spacing_mm=4.0, size=(1, 1)).prepare(stripes, grid((64, 64, 1))).image(0)
    assert image.shape == (1, 16, 16)
    # Triangle of half-width 4; at the border it is cut: weights 5, 7, 7, 5, 3, 1, of which 13/28 fall on odd columns.
    np.testing.assert_allclose(image[0, :, 1:-1], 0.5, atol=1e-6)
    np.testing.assert_allclose(image[0, :, 0], 13 / 28, atol=1e-6)


def test_region_without_spacing_is_stretched_to_size():
    volume = RNG.random((1, 1, 12, 20)).astype(np.float32)
    prepared = model("stored", spacing_mm=None, size=(24, 40)).prepare(volume, grid((20, 12, 1), (9.0, 0.1, 1.0)))
    expected = torch.nn.functional.interpolate(torch.from_numpy(volume), (24, 40), mode="bilinear", antialias=True)
    torch.testing.assert_close(prepared.image(0), expected[0])
    assert prepared.restore(prepared.image(0)).shape == (1, 12, 20)


@pytest.mark.parametrize(
    ("shape", "size", "multiple", "canvas"),
    [
        ((20, 30), (32, 32), 16, (32, 32)),
        ((33, 30), (32, 32), 16, (48, 32)),
        ((48, 65), (32, 32), 16, (48, 80)),
        ((32, 32), (32, 32), 16, (32, 32)),
    ],
)
def test_canvas_and_centred_padding(shape, size, multiple, canvas):
    volume = RNG.uniform(0.5, 1, (1, 1, *shape)).astype(np.float32)
    prepared = model(size=size, multiple=multiple).prepare(volume, grid((shape[1], shape[0], 1)))
    image = prepared.image(0)
    assert prepared.canvas == canvas and image.shape == (1, *canvas)
    top, left = (canvas[0] - shape[0]) // 2, (canvas[1] - shape[1]) // 2
    expected = np.zeros(canvas, np.float32)
    expected[top : top + shape[0], left : left + shape[1]] = volume[0, 0]
    np.testing.assert_array_equal(image[0], expected)
    torch.testing.assert_close(prepared.restore(image), torch.from_numpy(volume[0]), rtol=0, atol=0)


def test_leading_axes_are_kept():
    prepared = model(spacing_mm=0.7).prepare(*volume_of(PATIENT))
    values = torch.rand(2, 3, *prepared.canvas)
    together = prepared.restore(values)
    assert together.shape == (2, 3, *prepared.crop_shape)
    torch.testing.assert_close(together[1, 2], prepared.restore(values[1, 2]))
    planes = torch.rand(4, *prepared.crop_shape)
    torch.testing.assert_close(prepared.to_canvas(planes)[3], prepared.to_canvas(planes[3]))


def test_one_slice_volumes_and_photographs():
    rgb = RNG.integers(0, 256, (3, 1, 9, 7)).astype(np.float32)
    photograph = model("stored", None, (9, 7), 1, Intensity("full_scale", high=255), ("red", "green", "blue"))
    prepared = photograph.prepare(rgb, grid((7, 9, 1)))
    torch.testing.assert_close(prepared.image(0), torch.from_numpy(rgb[:, 0] / np.float32(255)), rtol=0, atol=0)
    axial = model().prepare(RNG.random((1, 1, 9, 7)), grid((7, 9, 1)))
    assert axial.slice_indices == [0]
    with pytest.raises(ValueError, match="coronal plane this volume is 1 × 7"):
        model("coronal").prepare(RNG.random((1, 1, 9, 7)), grid((7, 9, 1)))


# Slice range and region


def test_slice_range_leaves_the_other_images_bit_for_bit():
    volume = RNG.normal(size=(2, 9, 12, 10)).astype(np.float32)
    volume[:, 8] *= 100  # would change percentiles and extremes if the range had a say
    rules = (Intensity("percentile", 1, 99), Intensity("minmax"))
    preprocessing = model(spacing_mm=0.8, intensity=rules, channels=("T1", "T2"))
    geometry = grid((10, 12, 9), direction=(1.0, 0, 0, 0, 1, 0, 0, 0, -1))
    whole, part = preprocessing.prepare(volume, geometry), preprocessing.prepare(volume, geometry, slice_range=(3, 5))
    assert part.slice_indices == [3, 4, 5]
    for i in part.slice_indices:
        torch.testing.assert_close(part.image(i), whole.image(i), rtol=0, atol=0)
    out = np.zeros(geometry.shape, np.uint8)
    part.write(out, 4, np.ones((12, 10), np.uint8))
    assert np.flatnonzero(out.any(axis=(1, 2))).tolist() == [9 - 1 - 4]  # stored head first, counted from the feet
    for i in (2, 6, -1):
        with pytest.raises(ValueError, match="slices 3 to 5 were"):
            part.image(i)


@pytest.mark.parametrize("turn", TURNS[::5], ids=str)
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_region_is_the_same_part_of_the_patient_in_every_orientation(turn, plane):
    image = turned(PATIENT, *turn)
    volume, geometry = volume_of(image)
    # Voxel centres: x = -3 … 3, y = 20 … 25, z = 5 … 9. The box touches x = -1 … 2, y = 22 … 24, z = 6, 7.
    prepared = model(plane).prepare(volume, geometry, region=((-1.4, 21.5, 6.0), (1.6, 24.2, 7.5)))
    out = np.zeros(geometry.shape, np.uint8)
    for i in prepared.slice_indices:
        prepared.write(out, i, np.ones(prepared.crop_shape, np.uint8))
    expected = np.zeros((5, 6, 7), bool)
    expected[1:3, 2:5, 2:6] = True
    there = sitk.GetArrayFromImage(turned(sitk.GetImageFromArray(expected.astype(np.uint8)), *turn))
    np.testing.assert_array_equal(out, there)
    brighter = np.zeros(geometry.shape, np.uint8)
    for i in prepared.slice_indices:
        prepared.write(brighter, i, label_map_of(prepared.restore(prepared.image(i)[:1]).numpy()))
    np.testing.assert_array_equal(brighter, out & (volume[0] > 0.5))


def test_region_reaches_no_further_than_the_volume_and_meets_the_range():
    volume, geometry = volume_of(PATIENT)
    prepared = model().prepare(volume, geometry, slice_range=(1, 4), region=((-99, -99, -99), (99, 99, 7.4)))
    assert prepared.slice_indices == [1, 2] and prepared.crop_shape == (6, 7)
    with pytest.raises(ValueError, match="do not meet"):
        model().prepare(volume, geometry, slice_range=(3, 4), region=((-99, -99, -99), (99, 99, 7.4)))


def test_region_of_an_oblique_volume_by_hand():
    # x index runs along (0.6, 0.8): the box's corners (0, 0), (10, 0), (0, 5), (10, 5) mm lie at indices
    # (0, 0), (6, -8), (4, 3), (10, -5); so columns 0 … 10 and, what is inside the volume, rows 0 … 3.
    geometry = grid((30, 20, 2), direction=(0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0))
    prepared = model("stored").prepare(RNG.random((1, 2, 20, 30)), geometry, region=((0, 0, 0), (10, 5, 0)))
    assert prepared.crop_shape == (4, 11) and prepared.slice_indices == [0]


def test_write_touches_the_region_only():
    volume, geometry = volume_of(PATIENT)
    prepared = model().prepare(volume, geometry, region=((-1.4, 21.5, 6.0), (1.6, 24.2, 7.5)))
    out = np.ones(geometry.shape, np.uint8)
    for i in prepared.slice_indices:
        prepared.write(out, i, np.zeros(prepared.crop_shape, np.uint8))
    assert out.sum() == out.size - 2 * 3 * 4


# Intensity


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Intensity("window", -1000, 400), [0, 0, 0.5, 1, 1]),
        (Intensity("minmax"), [0, 1 / 4.0, 0.425, 0.6, 1]),
        (Intensity("percentile", 25, 75), [0, 0, 0.5, 1, 1]),
    ],
)
def test_intensity_by_hand(rule, expected):
    channel = np.array([-2000, -1000, -300, 400, 2000], np.int16)
    volume = np.repeat(channel, 4).reshape(1, 1, 4, 5)
    pixels = model(intensity=rule, size=(4, 5)).prepare(volume, grid((5, 4, 1))).image(0)
    if rule.rule == "percentile":  # 20 values, position 0.25 · 19 = 4.75: the 5th of them, -1000
        assert rule.limits(channel.repeat(4), "CT") == (-1000.0, 400.0)
    np.testing.assert_allclose(pixels.flatten()[::4], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "first", "last"),
    [(np.int8, -100, 100), (np.uint8, 0, 200), (np.int16, -30000, 30000), (np.float64, -30000, 30000)],
)
def test_percentiles_do_not_overflow_the_type_of_the_values(dtype, first, last):
    """Neighbours 200 and 60,000 apart, more than int8 and int16 hold; the quarters between them are known."""
    low, high = Intensity("percentile", 25.0, 75.0).limits(np.array([first, last], dtype), "CT")
    assert (low, high) == (first + (last - first) / 4, first + 3 * (last - first) / 4)


def test_one_rule_per_channel():
    volume = RNG.uniform(0, 255, (2, 1, 6, 6)).astype(np.float32)
    rules = (Intensity("full_scale", high=255), Intensity("window", 100, 200))
    image = model(size=(6, 6), intensity=rules, channels=("a", "b")).prepare(volume, grid((6, 6, 1))).image(0)
    np.testing.assert_allclose(image[0], volume[0, 0] / 255, atol=1e-6)
    np.testing.assert_allclose(image[1], np.clip((volume[1, 0] - 100) / 100, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("histogram",), "must be one of"),
        (("window", 5.0), "takes low and high"),
        (("window", 5.0, 5.0), "below"),
        (("window", float("nan"), 5.0), "below"),
        (("percentile", -1.0, 99.0), "Percentiles"),
        (("percentile", 1.0, 101.0), "Percentiles"),
        (("full_scale",), "takes low and high"),
        (("full_scale", None, -1.0), "below"),
        (("minmax", 0.0, 1.0), "takes low and high"),
    ],
)
def test_rules_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Intensity(*arguments)


@pytest.mark.parametrize(
    ("rule", "values", "words"),
    [
        (Intensity("full_scale", high=255), (0, 40000), "Channel CT reaches from 0 to 40000"),
        (Intensity("full_scale", high=255), (-5, 40), "0 to 255"),
        (Intensity("minmax"), (3, 3), "Channel CT is 3"),
        (Intensity("percentile", 1, 40), (3, 9), "everywhere"),
        (AS_IS, (0, np.nan), "NaN"),
        (AS_IS, (0, np.inf), "infinite"),
    ],
)
def test_values_that_a_rule_cannot_map_are_refused(rule, values, words):
    volume = np.full((1, 1, 4, 4), values[0], np.float32)
    volume[..., 3] = values[1]
    with pytest.raises(ValueError, match=words):
        model(intensity=rule).prepare(volume, grid((4, 4, 1)))


@pytest.mark.parametrize(("kind", "high"), [(np.uint16, 255.0), (np.uint8, 65535.0)])
def test_a_dark_image_of_16_bits_is_not_taken_for_one_of_8(kind, high):
    """Nor a bright one of 8 bits for a dark one of 16; its values alone would fit both."""
    volume = np.arange(16, dtype=kind).reshape(1, 1, 4, 4)
    bits = 8 * volume.itemsize
    own = f"stored in {bits} bits, of full scale {2**bits - 1}"
    with pytest.raises(ValueError, match=f"Channel CT is {own};.*set dataset.intensity to .*high: {2**bits - 1}}}"):
        model(intensity=Intensity("full_scale", high=high)).prepare(volume, grid((4, 4, 1)))
    for rule in (Intensity("full_scale", high=2.0**bits - 1), Intensity("full_scale", high=4095.0), AS_IS):
        model(intensity=rule).prepare(volume, grid((4, 4, 1)))
    model(intensity=Intensity("full_scale", high=high)).prepare(volume.astype(np.float32), grid((4, 4, 1)))


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"slice_range": (2, 5)}, "0 to 4"),
        ({"slice_range": (-1, 2)}, "0 to 4"),
        ({"slice_range": (3, 2)}, "0 to 4"),
        ({"region": ((50, 0, 0), (60, 99, 99))}, r"does not overlap .* from \(-3.5, 19.5, 4.5\) to \(3.5, 25.5, 9.5\)"),
        ({"region": ((5, 0, 0), (-5, 99, 99))}, "lowest and its highest"),
        ({"region": ((-5, 0, float("nan")), (5, 99, 99))}, "all finite"),
        ({"region": ((-float("inf"), 0, 0), (5, 99, float("inf")))}, "all finite"),
    ],
)
def test_parts_outside_the_volume_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        model().prepare(*volume_of(PATIENT), **arguments)
    assert "\n" not in str(error.value)


def test_wrong_shapes_are_refused():
    volume, geometry = volume_of(PATIENT)
    with pytest.raises(ValueError, match=r"2 channel\(s\), T1, FLAIR"):
        model(channels=("T1", "FLAIR")).prepare(volume, geometry)
    with pytest.raises(ValueError, match="does not fit a grid"):
        model().prepare(volume[:, 1:], geometry)
    prepared = model().prepare(volume, geometry)
    with pytest.raises(ValueError, match="Expected values"):
        prepared.restore(torch.zeros(8, 8))
    with pytest.raises(ValueError, match="Expected planes"):
        prepared.to_canvas(torch.zeros(8, 8))
    for out, mask in (
        (np.zeros(geometry.shape, np.uint8), np.zeros((7, 6), np.uint8)),
        (np.zeros(geometry.shape, np.uint8), np.zeros((6, 7), np.float32)),
        (np.zeros(geometry.shape, bool), np.zeros((6, 7), np.uint8)),
        (np.zeros((6, 5, 7), np.uint8), np.zeros((6, 7), np.uint8)),
    ):
        with pytest.raises(ValueError, match="Expected a uint8 label map"):
            prepared.write(out, 0, mask)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plane": "oblique"}, "axial, coronal, sagittal, stored, got 'oblique'"),
        ({"channels": ()}, "channels"),
        ({"channels": "CT"}, "channels"),
        ({"spacing_mm": 0.0}, "spacing_mm"),
        ({"size": (16, 0)}, "size"),
        ({"size_multiple": 5}, "multiples"),
        ({"intensity": (AS_IS, AS_IS)}, "2 rules for 1 channels"),
    ],
)
def test_impossible_preprocessing_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Preprocessing(**{**model().__dict__, **change})


# Storage


@pytest.mark.parametrize("intensity", [AS_IS, (Intensity("minmax"), Intensity("full_scale", high=65535.0))])
@pytest.mark.parametrize("spacing_mm", [None, 0.75])
def test_plain_json_and_back(intensity, spacing_mm):
    channels = ("T1", "FLAIR") if isinstance(intensity, tuple) else ("CT",)
    preprocessing = model("coronal", spacing_mm, (32, 48), 16, intensity, channels)
    data = json.loads(json.dumps(to_dict(preprocessing)))
    assert data == to_dict(preprocessing)
    assert from_dict(Preprocessing, data) == preprocessing


def test_unknown_and_missing_keys_are_named():
    data = to_dict(model())
    with pytest.raises(ValueError, match="Unknown key Preprocessing.colour"):
        from_dict(Preprocessing, {**data, "colour": 1})
    with pytest.raises(ValueError, match="Missing key Preprocessing.plane"):
        from_dict(Preprocessing, {k: v for k, v in data.items() if k != "plane"})
    with pytest.raises(ValueError, match=r"Unknown key Preprocessing\.intensity\.gamma"):
        from_dict(Preprocessing, {**data, "intensity": {**data["intensity"], "gamma": 1}})
    with pytest.raises(ValueError, match=r"Unknown key Preprocessing\.intensity\[0\]\.gamma"):
        from_dict(Preprocessing, {**data, "intensity": [{**data["intensity"], "gamma": 1}]})


# Memory


def test_memory_does_not_grow_with_the_number_of_slices():
    plane = 128 * 128 * 4  # bytes of one float32 slice
    peaks = []
    for count in (8, 128):
        volume = np.zeros((1, count, 128, 128), np.int16)
        tracemalloc.start()
        prepared = model(size=(128, 128)).prepare(volume, grid((128, 128, count)))
        for i in prepared.slice_indices[:: count // 8]:
            prepared.image(i)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 6 * plane
    assert abs(peaks[1] - peaks[0]) < plane / 4


def test_slices_are_computed_when_asked_for():
    volume = np.zeros((1, 3, 8, 8), np.float32)
    prepared = model(size=(8, 8)).prepare(volume, grid((8, 8, 3)))
    volume[0, 1] = 0.25  # the volume is kept, not copied
    assert prepared.image(1).unique().tolist() == [0.25]

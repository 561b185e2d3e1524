"""Geometry against positions and volumes worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.volume.geometry import Geometry

IDENTITY = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
# Index x runs along (0.6, 0.8, 0), index y along (-0.8, 0.6, 0), index z to the head: a turn of 53.13° about z.
TURNED = (0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = Geometry((11, 6, 3), (1.0, 2.0, 4.0), (100.0, -50.0, 10.0), TURNED)


def test_corners_of_an_oblique_grid_by_hand():
    # 10 steps of 1 mm along x: (6, 8, 0); 5 steps of 2 mm along y: (-8, 6, 0); 2 steps of 4 mm along z: (0, 0, 8).
    indices = [(0, 0, 0), (10, 0, 0), (0, 5, 0), (0, 0, 2), (10, 5, 2)]
    expected = [(100, -50, 10), (106, -42, 10), (92, -44, 10), (100, -50, 18), (98, -36, 18)]
    np.testing.assert_allclose(OBLIQUE.to_mm(np.array(indices)), expected, atol=1e-12)
    np.testing.assert_allclose(OBLIQUE.to_index(np.array(expected)), indices, atol=1e-12)


def test_positions_agree_with_simpleitk():
    image = OBLIQUE.image(np.zeros(OBLIQUE.shape, np.float32))
    for index in [(0.0, 0.0, 0.0), (3.25, 1.5, 0.75), (-2.0, 7.0, 1.0)]:
        position = image.TransformContinuousIndexToPhysicalPoint(index)
        np.testing.assert_allclose(OBLIQUE.to_mm(index), position, atol=1e-9)
        np.testing.assert_allclose(OBLIQUE.to_index(position), index, atol=1e-9)


def test_bounds_include_half_a_voxel_at_each_face():
    # Along index axes the box reaches from -0.5 to 10.5, -1 to 11 and -2 to 10 mm; LPS x = 100 + 0.6 a - 0.8 b.
    low, high = OBLIQUE.bounds_mm()
    np.testing.assert_allclose(low, (100 - 0.3 - 8.8, -50 - 0.4 - 0.6, 8), atol=1e-9)
    np.testing.assert_allclose(high, (100 + 6.3 + 0.8, -50 + 8.4 + 6.6, 20), atol=1e-9)


def test_voxel_volume_and_shape():
    assert OBLIQUE.voxel_volume_ml == pytest.approx(0.008)
    assert OBLIQUE.shape == (3, 6, 11)


def test_image_and_back():
    array = np.arange(3 * 6 * 11, dtype=np.int16).reshape(3, 6, 11)
    image = OBLIQUE.image(array)
    assert Geometry.of(image) == OBLIQUE
    assert image[10, 5, 2] == array[2, 5, 10]
    assert OBLIQUE.image(array > 5).GetPixelID() == sitk.sitkUInt8


def test_same_grid_sees_what_moves_a_corner():
    def moved(**change):
        return Geometry(**{**OBLIQUE.__dict__, **change})

    assert OBLIQUE.same_grid(moved(origin_mm=(100.0005, -50.0, 10.0)))
    assert not OBLIQUE.same_grid(moved(origin_mm=(100.01, -50.0, 10.0)))
    assert not OBLIQUE.same_grid(moved(direction=IDENTITY))
    assert not OBLIQUE.same_grid(moved(size=(11, 6, 4)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": (11, 6, 4)}, "size (11, 6, 3) against (11, 6, 4) voxels"),
        ({"spacing_mm": (1.5, 2.0, 4.0)}, "spacing (1.0, 2.0, 4.0) against (1.5, 2.0, 4.0) mm"),
        ({"origin_mm": (101.0, -50.0, 10.0)}, "origin (100.0, -50.0, 10.0) against (101.0, -50.0, 10.0) mm"),
        ({"direction": IDENTITY}, "direction (0.6, -0.8"),
    ],
)
def test_difference_names_the_property(change, words):
    assert words in OBLIQUE.difference(Geometry(**{**OBLIQUE.__dict__, **change}))


def test_slicer_text_is_index_to_ras():
    numbers = [float(v) for v in OBLIQUE.slicer_text().rstrip(";").split(";")]
    # RAS = (-x, -y, z): both first rows of the LPS matrix, spacing included, change their sign.
    expected = [[-0.6, 1.6, 0, -100], [-0.8, -1.2, 0, 50], [0, 0, 4, 10], [0, 0, 0, 1]]
    np.testing.assert_allclose(np.reshape(numbers[:16], (4, 4)), expected, atol=1e-12)
    assert numbers[16:] == [0, 10, 0, 5, 0, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": (0, 1, 1)}, "size"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "spacing_mm"),
        ({"origin_mm": (0.0, float("inf"), 0.0)}, "origin_mm"),
        ({"direction": (1.0, 0, 0, 1)}, "direction"),
        ({"direction": (1.0, 0.2, 0, 0, 1, 0, 0, 0, 1)}, "sheared"),
        ({"direction": (0.0,) * 9}, "perpendicular"),
    ],
)
def test_impossible_grids_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Geometry(**{**OBLIQUE.__dict__, **change})


def test_wrong_shape_and_dimension_are_refused():
    with pytest.raises(ValueError, match="does not fit a grid"):
        OBLIQUE.image(np.zeros((11, 6, 3), np.uint8))
    with pytest.raises(ValueError, match="3-D"):
        Geometry.of(sitk.Image([4, 5], sitk.sitkUInt8))

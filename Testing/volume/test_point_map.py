"""The map of a point: by its formula, and where a point in the patient comes to lie on a model's grid."""

import numpy as np
import pytest

from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.point_map import point_map
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing


def slices(size: int, spacing_mm: float, **options) -> Preprocessing:
    window = Intensity("window", 0.0, 1.0)
    return Preprocessing(("CT",), "axial", spacing_mm, (size, size), 1, window, **options)


def peak(plane: np.ndarray) -> np.ndarray:
    """Middle of mass of the logarithm's parabola: where the maximum lies between pixels."""
    rows, columns = np.indices(plane.shape)
    logs = np.log(plane.astype(float))
    parts = np.stack([np.ones(plane.size), rows.ravel(), columns.ravel(), (rows**2 + columns**2).ravel()])
    _, a, b, c = np.linalg.lstsq(parts.T, logs.ravel(), rcond=None)[0]
    return np.array([-a / (2 * c), -b / (2 * c)])


def test_the_map_is_a_normal_bump():
    found = point_map((3, 4), 1.0, 2.5, 2.0)
    expected = [[np.exp(-((i - 1) ** 2 + (j - 2.5) ** 2) / 8) for j in range(4)] for i in range(3)]
    assert found.dtype == np.float32 and found.shape == (1, 3, 4)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize("flip", [1, -1])
def test_a_point_in_the_patient_comes_to_lie_on_its_voxel(flip):
    # 20 columns of 1 mm and 30 rows of 2 mm: pixels of 2 mm make 10 × 30 of them, in the middle of 32 × 32.
    direction = (float(flip), 0, 0, 0, 1, 0, 0, 0, 1)
    geometry = Geometry((20, 30, 3), (1.0, 2.0, 5.0), (100.0, -50.0, 7.0), direction)
    volume = np.zeros((1, 3, 30, 20), np.float32)
    point = (100.0 + flip * 6.0, -50.0 + 2 * 11.0, 12.0)  # the middle of voxel (6, 11, 1)
    prepared = slices(32, 2.0, point_sigma_mm=6.0).prepare(volume, geometry, point=point)
    image = prepared.image(1).numpy()
    assert image.shape == (2, 32, 32)
    column = 6 if flip == 1 else 19 - 6
    np.testing.assert_allclose(peak(image[1]), [1 + 11, 11 + (column + 0.5) / 2 - 0.5], atol=1e-3)
    assert image[1].max() == pytest.approx(np.exp(-(0.25**2) / 2 / 3**2))  # σ of 6 mm: 3 pixels


def test_without_a_point_it_is_the_middle_of_the_region():
    geometry = Geometry((20, 20, 1), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    volume = np.zeros((1, 1, 20, 20), np.float32)
    told = slices(20, 1.0, point_sigma_mm=3.0)
    np.testing.assert_allclose(peak(told.prepare(volume, geometry).image(0)[1].numpy()), [9.5, 9.5], atol=1e-3)
    region = ((2.0, 4.0, 0.0), (11.0, 9.0, 0.0))  # columns 2 to 11, rows 4 to 9: 10 × 6 in the middle of 20 × 20
    image = told.prepare(volume, geometry, region=region).image(0).numpy()
    np.testing.assert_allclose(peak(image[1]), [9.5, 9.5], atol=1e-3)
    assert slices(20, 1.0).prepare(volume, geometry).image(0).shape == (1, 20, 20)


def test_a_point_needs_a_spacing():
    with pytest.raises(ValueError, match="point_sigma_mm must be positive and needs spacing_mm"):
        Preprocessing(("CT",), "axial", None, (8, 8), 1, Intensity("minmax"), point_sigma_mm=2.0)
    with pytest.raises(ValueError, match="point_sigma_mm"):
        slices(8, 1.0, point_sigma_mm=0.0)

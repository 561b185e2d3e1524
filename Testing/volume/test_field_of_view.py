"""The window around a point: where it lies, by hand, in straight, turned, oblique and coarse volumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from AmbiguousSegLib.volume.field_of_view import field_of_view_mm, slice_at, window_at, window_pixels
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes, Window, lps_of_ras
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# The spacing and the fields of a CT: 64 pixels of 0.7 mm are 44.8 mm, or 78.6 voxels of 0.57 mm.
CT = Geometry((512, 400, 40), (0.57, 0.57, 5.0), (-146.0, -325.0, -777.5), STRAIGHT)
NODULE = Preprocessing(("CT",), "axial", 0.7, (64, 64), 8, Intensity("window", -1000.0, 400.0))


def prepared(preprocessing, geometry, window):
    zeros = np.broadcast_to(np.float32(0), (1, *geometry.shape))
    return preprocessing.prepare(zeros, geometry, None, window)


def at(geometry, x, y, z):
    return tuple(geometry.to_mm((x, y, z)).tolist())


def test_the_window_lies_around_the_point():
    """79 voxels become round(79 · 0.57 / 0.7) = round(64.33) = 64 pixels, 80 would become 65."""
    assert window_at(NODULE, CT, at(CT, 200, 150, 7)) == Window((111, 189), (161, 239))  # 39 on either side
    assert window_at(NODULE, CT, at(CT, 200.4, 149.6, 7)) == Window((111, 189), (161, 239))  # the nearest voxels
    assert window_at(NODULE, CT, at(CT, 200.6, 149.4, 7)) == Window((110, 188), (162, 240))
    assert prepared(NODULE, CT, window_at(NODULE, CT, at(CT, 200, 150, 7))).canvas == (64, 64)


@pytest.mark.parametrize("mm", [*np.linspace(0.3, 1.4, 23), 0.7, 3.0, 20.0])
def test_the_canvas_is_the_models_size_whatever_the_voxels(mm):
    """And filled, as far as whole voxels can: one more would be too many."""
    geometry = replace(CT, size=(600, 500, 40), spacing_mm=(float(mm), float(mm), 5.0))
    for pixels in (None, *((n, n) for n in (96, 128, 192) if mm < 8 * 0.7)):
        window = window_at(NODULE, geometry, at(geometry, 300, 250, 7), pixels)
        found = prepared(NODULE, geometry, window)
        assert found.canvas == (pixels or (64, 64))
        covered = found.crop_shape[0] * mm / 0.7
        assert covered <= found.canvas[0] + 0.5 and covered + mm / 0.7 > found.canvas[0] + 0.49


def test_at_the_volumes_border_it_keeps_its_size():
    assert window_at(NODULE, CT, at(CT, 0, 399, 0)) == Window((321, 399), (0, 78))
    assert window_at(NODULE, CT, at(CT, -0.5, 399.5, 39.5)) == Window((321, 399), (0, 78))  # outer faces are inside
    small = replace(CT, size=(50, 400, 40))
    window = window_at(NODULE, small, at(small, 3, 200, 0))
    assert window == Window((161, 239), (0, 49))  # all there is
    assert prepared(NODULE, small, window).canvas == (64, 64)


def test_in_a_volume_stored_from_left_to_right_head_first_it_is_the_same_place():
    """x runs to the right, z to the feet: voxel (i, j, k) is (511 − i, j, 39 − k) of the straight one."""
    last = CT.to_mm((511, 0, 39))
    turned = replace(CT, origin_mm=tuple(last.tolist()), direction=(-1.0, 0, 0, 0, 1.0, 0, 0, 0, -1.0))
    for place in ((200.2, 150.3, 7), (3, 390, 30)):
        point = at(CT, *place)
        assert window_at(NODULE, turned, point) == window_at(NODULE, CT, point)
        assert slice_at(NODULE, turned, point) == slice_at(NODULE, CT, point) == place[2]


def test_slices_rows_and_columns_of_the_other_planes():
    """Coronal slices count to the back, rows to the feet; sagittal slices to the left, columns to the back."""
    point = at(CT, 200, 150, 7)
    coronal, sagittal = (replace(NODULE, plane=plane) for plane in ("coronal", "sagittal"))
    assert slice_at(coronal, CT, point) == 150 and slice_at(sagittal, CT, point) == 200
    # 9 voxels of 5 mm are round(64.29) = 64 pixels, 10 are 71; row 32 of 40 is the point's, counted from the head
    assert window_at(coronal, CT, point) == Window((28, 36), (161, 239))
    assert window_at(sagittal, CT, point) == Window((28, 36), (111, 189))


def test_an_oblique_window_is_a_rectangle_of_voxels():
    """Turned by 30° about z: a box in LPS around the same window would hold more than twice its area."""
    c, s = np.cos(np.deg2rad(30)), np.sin(np.deg2rad(30))
    oblique = replace(CT, direction=(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0))
    point = (-146.0 + 0.57 * (200 * c - 150 * s), -325.0 + 0.57 * (200 * s + 150 * c), -777.5 + 5 * 7)
    assert window_at(NODULE, oblique, point) == Window((111, 189), (161, 239))
    assert slice_at(NODULE, oblique, point) == 7
    axes = SliceAxes.of(oblique, "axial")
    box = axes.box(oblique, axes.region(oblique, ((7, 7), (111, 189), (161, 239))))
    assert box[0] == (7, 7) and all(b - a + 1 >= 107 for a, b in box[1:])  # 79 · (cos 30° + sin 30°)


@pytest.mark.parametrize("direction", [STRAIGHT, (0, 0, 1.0, -1.0, 0, 0, 0, -1.0, 0)])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", "stored"])
def test_a_region_in_mm_is_the_box_that_it_was_made_of(direction, plane):
    geometry = Geometry((20, 17, 9), (0.8, 1.1, 2.5), (12.5, -7.25, 31.0), direction)
    axes, box = SliceAxes.of(geometry, plane), ((2, 5), (1, 7), (3, 3))
    assert axes.box(geometry, axes.region(geometry, box)) == box
    low, high = axes.region(geometry, box)
    middle = tuple((a + b) / 2 for a, b in zip(low, high))
    assert np.allclose(axes.place(geometry, middle), (3.5, 4, 3))


def test_pixels_of_a_window():
    assert field_of_view_mm(NODULE) == pytest.approx((44.8, 44.8))
    assert window_pixels(NODULE) == window_pixels(NODULE, 44.8) == (64, 64)
    assert window_pixels(NODULE, 1.5 * 44.8) == (96, 96) and window_pixels(NODULE, 3 * 44.8) == (192, 192)
    assert window_pixels(NODULE, 45) == (72, 72)  # 64.3 pixels, up to a multiple of 8
    wide = replace(NODULE, size=(64, 96))
    assert window_pixels(wide) == (64, 96) and window_pixels(wide, 2 * 44.8) == (128, 192)  # its proportions
    with pytest.raises(ValueError, match="at least as large as the model's field of view, 44.8 mm, got 40 mm"):
        window_pixels(NODULE, 40)


def test_a_point_outside_is_told_where_the_volume_is():
    """From −146.285 to 145.555 in x, −325.285 to −97.285 in y, −780 to −580 in z."""
    bounds = r"reaches from \(-146.3, -325.3, -780.0\) to \(145.6, -97.3, -580.0\) mm \(LPS\)"
    inside = at(CT, 200, 150, 7)
    with pytest.raises(ValueError, match=rf"{bounds}; with the signs of x and y turned it would lie inside"):
        window_at(NODULE, CT, lps_of_ras(inside))
    with pytest.raises(ValueError, match=rf"\(0, 0, 0\) mm .* {bounds}, and so it does with the signs"):
        slice_at(NODULE, CT, (0.0, 0.0, 0.0))
    c, s = np.cos(np.deg2rad(30)), np.sin(np.deg2rad(30))
    oblique = replace(CT, direction=(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0))
    low, _ = oblique.bounds_mm()
    with pytest.raises(ValueError, match="outside of the volume"):  # in a corner of the box around it
        window_at(NODULE, oblique, (low[0] + 1, low[1] + 1, -700.0))


def test_a_model_without_spacing_has_no_window():
    stretching = replace(NODULE, spacing_mm=None)
    for call in (field_of_view_mm, window_pixels, lambda p: window_at(p, CT, at(CT, 200, 150, 7))):
        with pytest.raises(ValueError, match="stretches any region to 64 × 64 pixels.*give a region instead"):
            call(stretching)

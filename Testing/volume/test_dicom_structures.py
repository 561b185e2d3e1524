"""Contours as masks: which voxels a contour marks, worked out by hand on a turned grid."""

from __future__ import annotations

import logging

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not installed")
from dicom_files import ALONG_ROW, DOWN_COLUMN
from structure_files import write_structures

from AmbiguousSegLib.volume import dicom_structures, segments
from AmbiguousSegLib.volume.geometry import Geometry

AXES = np.stack([ALONG_ROW, DOWN_COLUMN, np.cross(ALONG_ROW, DOWN_COLUMN)], axis=1)
GRID = Geometry((9, 7, 4), (0.6, 0.8, 2.5), (-10.0, 20.0, 5.5), tuple(AXES.ravel().tolist()))


def box(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def read(path, grid=GRID):
    return dict(dicom_structures.read_structures(path, grid))


def marked(*spans):
    """A mask with these boxes, as (slice, first row, last row, first column, last column)."""
    mask = np.zeros(GRID.shape, bool)
    for z, top, bottom, left, right in spans:
        mask[z, top : bottom + 1, left : right + 1] = True
    return mask


def test_voxels_are_marked_whose_centres_lie_within(tmp_path):
    triangle = [(0.5, 0.5), (6.5, 0.5), (0.5, 4.5)]  # x / 6 + y / 4 < 1 + (.5/6 + .5/4)
    path = write_structures(
        tmp_path / "s.dcm", GRID, [("box", [(1, box(1.6, 0.9, 5.4, 3.1))]), ("triangle", [(2, triangle)])]
    )
    found = read(path)
    assert list(found) == ["box", "triangle"] == dicom_structures.structure_names(path)
    np.testing.assert_array_equal(found["box"], marked((1, 1, 3, 2, 5)))
    rows, columns = np.indices(GRID.shape[1:])
    inside = (rows > 0.5) & (columns > 0.5) & (columns / 6 + rows / 4 < 1 + 0.5 / 6 + 0.5 / 4)
    expected = np.zeros(GRID.shape, bool)
    expected[2] = inside
    assert inside.sum() == 5 + 4 + 2 + 1  # in rows 1 to 4
    np.testing.assert_array_equal(found["triangle"], expected)


def test_a_centre_on_the_contour_is_marked(tmp_path):
    path = write_structures(tmp_path / "s.dcm", GRID, [("box", [(0, box(2, 1, 5, 4))])])
    np.testing.assert_array_equal(read(path)["box"], marked((0, 1, 4, 2, 5)))


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_contour_within_another_is_a_hole_and_one_beside_it_is_not(tmp_path, kind):
    contours = [(1, box(0.6, 0.6, 5.4, 5.4)), (1, box(1.6, 2.6, 3.4, 4.4)), (1, box(6.6, 0.6, 7.4, 2.4))]
    path = write_structures(tmp_path / "s.dcm", GRID, [("ring", contours)], kind)
    expected = marked((1, 1, 5, 1, 5), (1, 1, 2, 7, 7)) & ~marked((1, 3, 4, 2, 3))
    np.testing.assert_array_equal(read(path)["ring"], expected)


def test_a_channel_to_the_hole_in_one_contour(tmp_path):
    keyhole = [
        *((0.5, 0.5), (6.5, 0.5), (6.5, 2.5), (4.5, 2.5), (4.5, 1.5), (2.5, 1.5), (2.5, 4.5)),
        *((4.5, 4.5), (4.5, 2.5), (6.5, 2.5), (6.5, 5.5), (0.5, 5.5)),
    ]
    path = write_structures(tmp_path / "s.dcm", GRID, [("ring", [(3, keyhole)])])
    np.testing.assert_array_equal(read(path)["ring"], marked((3, 1, 5, 1, 6)) & ~marked((3, 2, 4, 3, 4)))


def test_structures_without_contours_are_empty_and_points_are_markers(tmp_path, caplog):
    structures = [
        *(("Anna", [(0, box(1, 1, 2, 2))]), ("isocentre", [(1, [(2, 2)])]), ("Ben", [])),
        *(("Anna", [(1, box(1, 1, 2, 2)), (1, [(4, 4), (5, 5)])]),),
    ]
    path = write_structures(tmp_path / "s.dcm", GRID, structures)
    with caplog.at_level(logging.INFO):
        assert segments.segment_names(path) == ["Anna", "Ben", "Anna (3)"]
    assert "'isocentre' is a marker, which is left out" in caplog.text
    masks, grid, part = segments.read_segments(path, GRID)
    assert grid == GRID and part
    assert [(name, int(mask.sum())) for name, mask in masks.items()] == [("Anna", 4), ("Ben", 0), ("Anna (3)", 4)]


def test_structures_named_as_labels_are_the_classes_of_one_rater(tmp_path):
    structures = [("halo", [(0, box(4, 1, 5, 2))]), ("core", [(0, box(1, 1, 2, 3))])]
    path = write_structures(tmp_path / "Anna.dcm", GRID, structures)
    ((name, label_map),) = segments.read_raters(path, GRID, ["core", "halo"])
    assert name == "Anna"
    np.testing.assert_array_equal(label_map, marked((0, 1, 3, 1, 2)) + 2 * marked((0, 1, 2, 4, 5)).astype(np.uint8))


@pytest.mark.parametrize(
    ("contour", "words"),
    [
        ((1.5, box(1, 1, 3, 3)), "a contour of 'a' lies at slices 1.5 to 1.5 of its image, expected on one"),
        ((4, box(1, 1, 3, 3)), r"reaches from voxel 1, 1, 4 to 3, 3, 4 of an image of 9, 7, 4 \(x, y, z\)"),
        ((0, box(5, 1, 9, 3)), "reaches from voxel 5, 1, 0 to 9, 3, 0"),
        ((0, box(-1, 1, 9, 3)), "reaches from voxel -1, 1"),
    ],
)
def test_contours_off_the_grid_are_refused(tmp_path, contour, words):
    path = write_structures(tmp_path / "s.dcm", GRID, [("a", [contour])])
    with pytest.raises(ValueError, match=rf"\A[^\n]*s.dcm: [^\n]*{words}[^\n]*\Z"):
        read(path)


def test_what_is_no_mask_is_refused(tmp_path):
    path = write_structures(tmp_path / "s.dcm", GRID, [("a", [(0, box(1, 1, 2, 2))])], "OPEN_PLANAR")
    with pytest.raises(ValueError, match="'a' has a contour OPEN_PLANAR, expected closed ones"):
        read(path)
    path = write_structures(tmp_path / "s.dcm", GRID, [("a", [(0, [(1, 1)])])])
    with pytest.raises(ValueError, match="holds no structure"):
        read(path)
    path = write_structures(tmp_path / "s.dcm", GRID, [("a", [])])
    with pytest.raises(ValueError, match="contours, which have no grid of their own; give their image"):
        segments.read_segments(path)


def test_without_pydicom_it_says_what_to_install(tmp_path, monkeypatch):
    path = write_structures(tmp_path / "s.dcm", GRID, [("a", [])])
    monkeypatch.setattr(dicom_structures, "has_pydicom", lambda: False)
    with pytest.raises(ImportError, match="structure set; reading it needs pydicom"):
        dicom_structures.structure_names(path)

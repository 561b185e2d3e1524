"""DICOM segmentations as raters: each segment at the places of its frames, whatever frames are left out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="highdicom is not installed")
import highdicom
import pydicom
from dicom_kinds import COLUMNS, ROWS, pixels, slice_file, stack
from pydicom.sr.codedict import codes

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume import dicom_seg_reading, io, segments
from AmbiguousSegLib.volume.dicom_seg import write_dicom_seg

SLICES = 12
FOR_SEG = dict.fromkeys(
    (
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
    ),
    "",
)
KINDS = highdicom.seg.SegmentationTypeValues


def series(folder):
    stack(folder, SLICES, per=lambda k: FOR_SEG)
    _, grid = io.read_volume(folder)
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())], grid


def block(first, last, row=1):
    mask = np.zeros((SLICES, ROWS, COLUMNS), bool)
    mask[first:last, row : row + 3, 2:5] = True
    return mask


def written(path, sources, masks, kind=KINDS.BINARY, names=None, **options):
    described = [
        highdicom.seg.SegmentDescription(
            k, name, codes.SCT.Tissue, codes.SCT.Neoplasm, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for k, name in enumerate(names or [f"R{k}" for k in range(1, 1 + len(masks))], start=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        highdicom.seg.Segmentation(
            sources, np.stack(masks, -1), kind, described, highdicom.UID(), 1, highdicom.UID(), 1, "m", "m", "1", "0",
            **options,
        ).save_as(path)  # fmt: skip
    return path


SETS = {
    "overlapping": [block(2, 8), block(5, 11, 2)],
    "one after the other, as one regular stack": [block(0, 6), block(6, 12, 2)],
    "apart": [block(1, 3), block(8, 10, 2)],
    "every second slice": [np.where(np.arange(SLICES)[:, None, None] % 2, block(0, 12), False)],
    "a gap": [block(1, 3) | block(7, 9)],
    "one slice": [block(4, 5)],
    "empty among others": [block(4, 7), block(0, 0), block(5, 6, 2)],
    "whole": [block(0, 12)],
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("omitted", [True, False])
def test_each_segment_is_a_rater_at_its_place(tmp_path, name, omitted):
    sources, grid = series(tmp_path / "ct")
    masks = SETS[name]
    path = written(tmp_path / "seg.dcm", sources, masks, omit_empty_frames=omitted)
    found = segments.read_raters(path, grid, ["lesion"])
    assert [rater for rater, _ in found] == [f"R{k}" for k in range(1, 1 + len(masks))]
    for (_, read), mask in zip(found, masks):
        np.testing.assert_array_equal(read, mask)
    read = segments.read_segments(path, grid)
    assert read.grid == grid
    own = segments.read_segments(path)  # by itself: on a part of the grid, or on the slices that are marked
    assert [int(m.sum()) for m in own.masks.values()] == [int(m.sum()) for m in masks]


def test_a_volume_stored_from_the_last_slice_to_the_first(tmp_path):
    from AmbiguousSegLib.volume.geometry import Geometry

    sources, grid = series(tmp_path / "ct")
    path = written(tmp_path / "seg.dcm", sources, SETS["overlapping"])
    turned = Geometry(
        grid.size, grid.spacing_mm, tuple(grid.to_mm((0, 0, SLICES - 1)).tolist()), (1.0, 0, 0, 0, 1, 0, 0, 0, -1)
    )
    for (_, read), mask in zip(segments.read_raters(path, turned, ["lesion"]), SETS["overlapping"]):
        np.testing.assert_array_equal(read, mask[::-1])


def test_segments_named_as_labels_are_the_classes_of_one_rater(tmp_path):
    sources, grid = series(tmp_path / "ct")
    path = written(tmp_path / "Anna.dcm", sources, [block(2, 4), block(6, 9)], names=["core", "halo"])
    ((name, label_map),) = segments.read_raters(path, grid, ["core", "halo"])
    assert name == "Anna"
    np.testing.assert_array_equal(label_map, block(2, 4) + 2 * block(6, 9).astype(np.uint8))


def test_our_own_segmentation_comes_back(tmp_path):
    _, grid = series(tmp_path / "ct")
    masks = [("sample 1", block(2, 5)), ("sample 2", block(0, 0)), ("consensus", block(3, 9, 2))]
    files = sorted((tmp_path / "ct").iterdir())
    write_dicom_seg(tmp_path / "s.dcm", masks, grid, files, [Label()], model_name="m", software_version="1")
    found = segments.read_raters(tmp_path / "s.dcm", grid, ["lesion"])
    assert [name for name, _ in found] == [name for name, _ in masks]
    for (_, read), (_, mask) in zip(found, masks):
        np.testing.assert_array_equal(read, mask)


def test_another_grid_is_refused(tmp_path):
    sources, _ = series(tmp_path / "ct")
    path = written(tmp_path / "seg.dcm", sources, SETS["overlapping"])
    shifted = tmp_path / "shifted"
    for k in range(SLICES):
        slice_file(shifted / f"{k}.dcm", pixels(k), 2.0 * k + 0.7, "1.2.3")
    _, other = io.read_volume(shifted)
    with pytest.raises(ValueError, match=r"seg\.dcm does not lie on the grid of its image"):
        segments.read_raters(path, other, ["lesion"])


def test_fractions_that_are_masks_are_read_and_others_refused(tmp_path):
    sources, grid = series(tmp_path / "ct")
    whole = written(tmp_path / "whole.dcm", sources, [block(2, 5).astype(float)], KINDS.FRACTIONAL)
    ((_, read),) = segments.read_raters(whole, grid, ["lesion"])
    np.testing.assert_array_equal(read, block(2, 5))
    half = written(tmp_path / "half.dcm", sources, [block(2, 5) * 0.5], KINDS.FRACTIONAL)
    with pytest.raises(ValueError, match=r"half\.dcm holds shares .* export it as binary"):
        segments.read_raters(half, grid, ["lesion"])


def test_a_label_map_holds_segments_by_their_numbers(tmp_path):
    if not hasattr(KINDS, "LABELMAP"):
        pytest.skip("this highdicom writes no label maps")
    sources, grid = series(tmp_path / "ct")
    masks = [block(2, 5), block(7, 9)]
    path = written(tmp_path / "seg.dcm", sources, masks, KINDS.LABELMAP)
    found = [(name, mask) for name, mask in segments.read_raters(path, grid, ["lesion"]) if mask.any()]
    for (_, read), mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(read, mask)


def test_without_pydicom_it_says_what_to_install(tmp_path, monkeypatch):
    sources, grid = series(tmp_path / "ct")
    path = written(tmp_path / "seg.dcm", sources, [block(2, 5)])
    monkeypatch.setattr(dicom_seg_reading, "has_pydicom", lambda: False)
    with pytest.raises(ImportError, match=r"seg\.dcm is a DICOM segmentation.*pip install pydicom"):
        segments.read_raters(path, grid, ["lesion"])


def test_a_segmentation_is_no_image_and_is_left_out_of_a_folder(tmp_path, caplog):
    sources, grid = series(tmp_path / "ct")
    written(tmp_path / "ct" / "seg.dcm", sources, [block(2, 5)])
    caplog.set_level("INFO")
    assert io.read_volume(tmp_path / "ct")[1] == grid and "seg.dcm is a segmentation" in caplog.text
    with pytest.raises(ValueError, match=r"seg\.dcm is a DICOM segmentation, expected an image"):
        io.read_volume(tmp_path / "ct" / "seg.dcm")


@pytest.mark.parametrize("what", ["PerFrameFunctionalGroupsSequence", "SegmentSequence", "PixelData"])
def test_a_damaged_segmentation_is_refused_in_one_line(tmp_path, what):
    sources, grid = series(tmp_path / "ct")
    path = written(tmp_path / "seg.dcm", sources, [block(2, 5)])
    d = pydicom.dcmread(path)
    del d[what]
    d.save_as(path)
    with pytest.raises(ValueError, match=r"seg\.dcm") as error:
        segments.read_raters(path, grid, ["lesion"])
    assert "\n" not in str(error.value)


def test_two_frames_of_one_segment_at_one_place(tmp_path):
    sources, grid = series(tmp_path / "ct")
    path = written(tmp_path / "seg.dcm", sources, [block(2, 5)])
    d = pydicom.dcmread(path)
    items = d.PerFrameFunctionalGroupsSequence
    items[1].PlanePositionSequence = items[0].PlanePositionSequence
    d.save_as(path)
    with pytest.raises(ValueError, match="both of segment 'R1' at one place"):
        segments.read_raters(path, grid, ["lesion"])

"""What a file says of itself: modality and pictures, without reading pixels."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_files import write_series
from shared_data import shared_path

from AmbiguousSegLib.volume import dicom_files, scan_kind
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.scan_kind import is_picture, modality_of, with_pixels_of
from AmbiguousSegLib.volume.writing import write_volume

pydicom = pytest.importorskip("pydicom")
GRID = Geometry((7, 5, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@pytest.fixture(params=["pydicom", "SimpleITK"])
def by(request, monkeypatch):
    if request.param == "SimpleITK":
        monkeypatch.setattr(scan_kind, "has_pydicom", lambda: False)
        monkeypatch.setattr(dicom_files, "has_pydicom", lambda: False)
    return request.param


def test_modality_of_a_file_and_a_folder(tmp_path, by):
    files = write_series(tmp_path / "mr", Modality="MR")
    assert modality_of(tmp_path / "mr") == modality_of(files[1]) == modality_of([str(files[0])]) == "MR"
    write_series(tmp_path / "other", Modality="OT")
    assert modality_of(tmp_path / "other") == ""
    assert modality_of([tmp_path / "other", files[0]]) == "MR"


def test_a_report_and_a_segmentation_are_no_images(tmp_path, by):
    image = write_series(tmp_path / "both", Modality="PT")[0]
    for name, changes in (
        ("0_report", {"Modality": "SR", "Rows": None, "Columns": None, "PixelData": None}),
        ("0_seg", {"Modality": "SEG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}),
    ):
        file = write_series(tmp_path / name, slices=1, **changes)[0]
        file.rename(image.parent / f"{name}.dcm")  # before the image by name
    assert modality_of(image.parent) == "PT"
    assert modality_of(image.parent / "0_seg.dcm") == ""


def test_of_several_series_that_which_is_chosen(tmp_path):
    for name in ("CT", "MR"):
        for file in write_series(tmp_path / name, Modality=name):
            (tmp_path / "all").mkdir(exist_ok=True)
            file.rename(tmp_path / "all" / f"{name}{file.name}")
    uid = str(pydicom.dcmread(tmp_path / "all" / "MR001.dcm").SeriesInstanceUID)
    assert modality_of(tmp_path / "all", uid) == "MR" and modality_of(tmp_path / "all", f"{uid},2") == "MR"
    assert modality_of(tmp_path / "all", "1.2.3") == ""


def test_what_tells_no_modality(tmp_path):
    write_volume(tmp_path / "scan.nrrd", np.zeros(GRID.shape, np.float32), GRID)
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    for name in ("scan.nrrd", "broken.dcm", "nowhere", "."):
        assert modality_of(tmp_path / name) == ""


def test_of_a_real_series():
    assert modality_of(shared_path("data/ct_head_dicom")) == "CT"


def test_a_picture_by_how_it_begins_and_by_its_name_where_it_is_gone(tmp_path):
    for name, content, expected in (
        ("shot", b"\x89PNG\r\n\x1a\n" + bytes(20), True),
        ("scan.png", b"NRRD0004\n" + bytes(20), False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_picture(tmp_path / name) == expected
    assert not is_picture(tmp_path)
    assert all(map(is_picture, ("a.png", "b.JPG", "c.tiff", "d.bmp")))
    assert not any(map(is_picture, ("a.nii.gz", "b.nrrd", "png", "c.dcm")))


def test_the_pixels_of_a_picture_are_as_told():
    told = with_pixels_of(0.25, GRID, ["a.png", "b.jpg"])
    assert told.spacing_mm == (0.25, 0.25, 1.0) and told.size == GRID.size
    with pytest.raises(ValueError, match=r"b.nrrd tells the size of its pixels, 1 × 1 mm"):
        with_pixels_of(0.25, GRID, ["a.png", "b.nrrd"])
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be positive"):
            with_pixels_of(wrong, GRID, ["a.png"])

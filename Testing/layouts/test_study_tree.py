"""What a study's folder holds: each volume and series by name, and what is left out and why."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_kinds import pixels, slice_file

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.study_tree import find_volumes, segmentation_reason
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_volume
from AmbiguousSegLib.volume.writing import write_segmentation

SCAN = np.random.default_rng(0).integers(-1000, 500, (3, 6, 8)).astype(np.int16)
MARKS = np.zeros((3, 6, 8), np.uint8)
MARKS[1, 2:4, 3:6] = 1


def volume(path, array=SCAN):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def series(folder, uid, slices=5, **changes):
    for k in range(slices):
        slice_file(folder / f"{uid.rsplit('.', 1)[-1]}_{k}.dcm", pixels(k), 2.0 * k, uid, **changes)


def names(study):
    return [v.name for v in study.volumes]


def test_volumes_anywhere_below_are_named_by_their_place_numbers_by_value(tmp_path):
    for name in ("ct10.nrrd", "ct9.nrrd", "p1/ct.nii.gz", "p1/deep/er/t1.mha", ".hidden/ct.nrrd", "p1/._ct.nii.gz"):
        volume(tmp_path / name) if not name.endswith("._ct.nii.gz") else (tmp_path / name).write_bytes(b"resource")
    (tmp_path / "notes.txt").write_text("no volume", encoding="utf-8")
    study = find_volumes(tmp_path)
    assert names(study) == ["ct9", "ct10", "p1_ct", "p1_deep_er_t1"] and study.left_out == []
    assert [v.path.name for v in study.volumes] == ["ct9.nrrd", "ct10.nrrd", "ct.nii.gz", "t1.mha"]


def test_segmentations_are_left_out_by_header_or_by_name_and_values(tmp_path):
    volume(tmp_path / "ct.nrrd")
    geometry = Geometry.of(sitk.ReadImage(str(tmp_path / "ct.nrrd")))
    write_segmentation(tmp_path / "ct.seg.nrrd", MARKS, geometry, (Label("lesion"),))
    (tmp_path / "renamed.nrrd").write_bytes((tmp_path / "ct.seg.nrrd").read_bytes())
    volume(tmp_path / "ct_label.nii.gz", MARKS * 3)
    volume(tmp_path / "lesion-mask.mha", MARKS)
    labelled = volume(tmp_path / "b.nii", MARKS).read_bytes()
    (tmp_path / "b.nii").write_bytes(labelled[:68] + struct.pack("<h", 1002) + labelled[70:])
    volume(tmp_path / "sagittal_seg_t1.nrrd")  # an image, whatever its name
    volume(tmp_path / "binary.nrrd", MARKS)  # nothing says so
    study = find_volumes(tmp_path)
    assert dict(study.left_out) == {
        "b": "a segmentation (its header says that it holds labels)",
        "ct": "a segmentation (a .seg.nrrd)",
        "ct_label": "a segmentation (its name, and its values 0, 3)",
        "lesion-mask": "a segmentation (its name, and its values 0, 1)",
        "renamed": "a segmentation (its header names segments)",
    }
    assert {v.name: v.note for v in study.volumes} == {
        "binary": "",
        "ct": "",
        "sagittal_seg_t1": "It is named like a segmentation, but its values are those of an image.",
    }
    assert segmentation_reason(tmp_path / "ct.nrrd") == "" == segmentation_reason(tmp_path / "none.nrrd")
    with pytest.raises(ValueError, match=r"renamed.nrrd is a segmentation, expected an image; give it as a rater"):
        read_volume(tmp_path / "renamed.nrrd")


def test_each_series_is_a_volume_and_localisers_are_named(tmp_path):
    mixed = tmp_path / "p1" / "all"
    series(mixed, "1.2.31", SeriesDescription="Chest / lung")
    series(mixed, "1.2.32", SeriesDescription="T1", RescaleSlope=2)
    series(mixed, "1.2.33", SeriesDescription="T1")
    series(mixed, "1.2.34", slices=1, SeriesDescription="Topogram 0.6", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series(mixed, "1.2.35", slices=2, SeriesDescription="scout view")
    series(mixed, "1.2.36", slices=6, SeriesDescription="Survey of the liver")
    series(tmp_path / "p2", "1.2.37", SeriesDescription="alone")
    study = find_volumes(tmp_path)
    assert names(study) == [
        *("p1_all_Chest-lung", "p1_all_T1_32", "p1_all_T1_33", "p1_all_Survey-of-the-liver", "p2"),
    ]
    assert study.left_out == [
        ("p1_all_Topogram-0.6", "a localiser (by its image type; 1 slices)"),
        ("p1_all_scout-view", "a localiser (it is called scout view; 2 slices)"),
    ]
    for one in study.volumes:
        assert one.problem == "" and read_volume(one.path, one.series)[0].shape == (
            1,
            6 if "liver" in one.name else 5,
            6,
            8,
        )
    values = {v.name: read_volume(v.path, v.series)[0] for v in study.volumes}
    np.testing.assert_array_equal(values["p1_all_T1_32"], 2 * values["p1_all_T1_33"])
    assert study.volumes[-1].series is None  # the only one of its folder: found again if its UID changes


def test_a_series_of_several_volumes_is_one_that_says_how_to_choose(tmp_path):
    for echo in (1, 2):
        for k in range(4):
            slice_file(tmp_path / f"{echo}_{k}.dcm", pixels(k), 2.0 * k, "1.2.3", EchoNumbers=echo)
    series(tmp_path, "1.2.4", SeriesDescription="other")
    first, second = sorted(find_volumes(tmp_path).volumes, key=lambda v: v.problem, reverse=True)
    assert "lie at the same place" in first.problem
    assert "by --series and one of: 1.2.3,EchoNumbers=1 (4)" in first.problem
    assert second.problem == "" and second.series == "1.2.4"


def test_dicom_without_a_scan_is_named(tmp_path):
    series(tmp_path, "1.2.3")
    slice_file(tmp_path / "seg.dcm", pixels(0), 0, "1.2.4", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG")
    slice_file(tmp_path / "sr.dcm", pixels(0), 0, "1.2.5", Rows=None, Columns=None, PixelData=None, Modality="SR")
    slice_file(
        tmp_path / "rt.dcm",
        pixels(0),
        0,
        "1.2.6",
        Rows=None,
        PixelData=None,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3",
    )
    slice_file(tmp_path / "dose.dcm", pixels(0), 0, "1.2.7", Modality="RTDOSE")
    study = find_volumes(tmp_path)
    top = tmp_path.name
    assert names(study) == [top]
    assert dict(study.left_out) == {
        f"{top}: seg.dcm": "a segmentation (DICOM)",
        f"{top}: sr.dcm": "DICOM without an image (SR)",
        f"{top}: rt.dcm": "contours (a DICOM structure set)",
        f"{top}: dose.dcm": "a dose",
    }


def test_a_damaged_slice_is_the_problem_of_its_folder_alone(tmp_path):
    series(tmp_path / "a", "1.2.3", PixelSpacing=[0, 0])
    series(tmp_path / "b", "1.2.4")
    bad, good = find_volumes(tmp_path).volumes
    assert "PixelSpacing is 0" in bad.problem and (bad.name, good.name, good.problem) == ("a", "b", "")


def test_links_are_followed_once_and_those_to_nothing_are_told(tmp_path):
    volume(tmp_path / "data" / "p" / "ct.nrrd")
    volume(tmp_path / "elsewhere" / "mr.nrrd")
    try:
        (tmp_path / "data" / "other").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "data" / "p" / "loop").symlink_to(tmp_path / "data")
        (tmp_path / "data" / "again").symlink_to(tmp_path / "data" / "p")
        (tmp_path / "data" / "lost.nrrd").symlink_to(tmp_path / "gone.nrrd")
    except OSError:
        pytest.skip("this system makes no links")
    study = find_volumes(tmp_path / "data")
    assert [(v.name, bool(v.problem)) for v in study.volumes] == [("lost", True), ("p_ct", False), ("other_mr", False)]
    assert "is a link to nothing" in study.volumes[0].problem
    assert {name for name, _ in study.left_out} == {"p_loop", "again"}


def test_names_that_are_not_utf_8_are_one_line_each_and_the_rest_goes_on(tmp_path):
    volume(tmp_path / "ct.nrrd")
    try:
        os.mkdir(os.fsencode(tmp_path) + b"/d\xe9")  # noqa: PTH102 (a name that is no text)
        for name in (b"/f\xe9.nrrd", b"/d\xe9/x.nrrd", b"/d\xe9/y.nrrd", b"/t\xe9.txt"):
            with open(os.fsencode(tmp_path) + name, "wb"):
                pass
    except OSError:
        pytest.skip("this system allows UTF-8 only")
    study = find_volumes(tmp_path)
    problems = {v.name: v.problem for v in study.volumes}
    assert sorted(problems) == ["ct", "d\\xe9", "f\\xe9"] and problems["ct"] == ""
    assert "the name of the folder is not UTF-8; rename it" in problems["d\\xe9"]
    assert "the name is not UTF-8" in problems["f\\xe9"]


def test_results_are_no_input(tmp_path):
    volume(tmp_path / "ct.nrrd")
    for place in ("out/ct", "results"):
        volume(tmp_path / place / "mean.nrrd")
    (tmp_path / "results" / "samples.json").write_text("{}", encoding="utf-8")
    study = find_volumes(tmp_path, [tmp_path / "out"])
    assert names(study) == ["ct"]
    assert study.left_out == [(name, "results of an earlier run") for name in ("out", "results")]


def test_pictures_are_volumes_where_there_is_nothing_else(tmp_path):
    for name in ("a.png", "b.jpg", "below/c.png"):
        volume(tmp_path / name, np.arange(48, dtype=np.uint8).reshape(6, 8))
    volume(tmp_path / "a_mask.png", MARKS[1] * 255)
    study = find_volumes(tmp_path)
    assert names(study) == ["a", "b"]
    assert study.left_out == [("a_mask", "a segmentation (its name, and its values 0, 255)")]
    volume(tmp_path / "ct.nrrd")
    study = find_volumes(tmp_path)
    assert names(study) == ["ct"]
    assert study.left_out == [("a, a_mask, b and 1 more", "pictures beside volumes; give those that are meant by name")]

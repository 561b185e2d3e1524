"""ISIC challenge folders of each year, and IMA++: pictures, masks, raters, diagnoses, patients, parts."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import READERS, recognised
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.isic import recognise

LESION = (Label("lesion"),)


def picture(folder, number, suffix=".jpg", size=(6, 8)):
    """Even colours, which JPEG keeps within a step or two."""
    folder.mkdir(parents=True, exist_ok=True)
    array = np.zeros((*size, 3), np.uint8) + np.array((200, 120, 90), np.uint8)
    array[0] = 20
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(folder / f"ISIC_{number:07d}{suffix}"))


def mask(folder, number, ending="_segmentation.png", pixels=5, value=255, size=(6, 8)):
    folder.mkdir(parents=True, exist_ok=True)
    array = np.zeros(size, np.uint8)
    array.ravel()[:pixels] = value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"ISIC_{number:07d}{ending}"))


def read(folder, labels=LESION, **settings):
    return READERS["isic"](folder, DataConfig(kind="isic", **settings), labels)


def test_2018_with_parts(tmp_path, caplog):
    for number, part in ((1, "Training"), (2, "Training"), (10, "Validation"), (3, "Test")):
        picture(tmp_path / f"ISIC2018_Task1-2_{part}_Input", number)
        mask(tmp_path / f"ISIC2018_Task1_{part}_GroundTruth", number, pixels=number)
    mask(tmp_path / "ISIC2018_Task2_Training_GroundTruth_v3", 1, "_attribute_globules.png")
    (tmp_path / "ISIC2018_Task1-2_Training_Input" / "ATTRIBUTION.txt").touch()
    picture(tmp_path / "ISIC2018_Task1-2_Training_Input", 4)
    mask(tmp_path / "ISIC2018_Task1_Training_GroundTruth", 5)
    assert recognised(tmp_path)[0] == "isic"
    cases = read(tmp_path)
    assert [(c.identity, c.part, c.rater_names) for c in cases] == [
        ("ISIC_0000001", "train", ("reference",)),
        ("ISIC_0000002", "train", ("reference",)),
        ("ISIC_0000003", "test", ("reference",)),
        ("ISIC_0000010", "validation", ("reference",)),
    ]
    assert [int(c.load_masks().sum()) for c in cases] == [1, 2, 3, 10]
    assert {(c.subject == c.identity, c.group) for c in cases} == {(True, "")}
    values, geometry = cases[0].load_image()
    assert np.abs(values[:, 0, 4, 4] - (200, 120, 90)).max() < 4  # red, green, blue
    assert geometry.size == (8, 6, 1) and geometry.spacing_mm == (1, 1, 1)
    assert pickle.loads(pickle.dumps(cases)) == cases
    assert "1 case(s) left out, as they have no mask: ISIC_0000004." in caplog.text
    assert "1 case(s) left out, as their picture is not there: ISIC_0000005." in caplog.text


def test_a_single_part_is_none_and_pixels_may_be_told(tmp_path):
    picture(tmp_path / "ISIC2018_Task1-2_Training_Input", 1)
    mask(tmp_path / "ISIC2018_Task1_Training_GroundTruth", 1)
    (case,) = read(tmp_path, spacing_mm=0.5, size=(12, 16))
    assert case.part == ""
    assert case.load_image()[1].spacing_mm[:2] == (1.0, 1.0)  # 8 mm in 8 columns, 6 mm in 6 rows


def test_parts_that_divide_a_patient_or_leave_pictures_out_are_not_taken(tmp_path, caplog):
    for number, part in ((1, "Training"), (2, "Training"), (3, "Test")):
        picture(tmp_path / f"{part}_Input", number)
        mask(tmp_path / f"{part}_GroundTruth", number)
    assert [c.part for c in read(tmp_path)] == ["train", "train", "test"]
    (tmp_path / "metadata.csv").write_text("isic_id,patient_id\nISIC_0000001,IP_1\nISIC_0000003,IP_1\n")
    assert [(c.part, c.subject) for c in read(tmp_path)] == [("", "IP_1"), ("", "ISIC_0000002"), ("", "IP_1")]
    assert "not taken from the folders' names: pictures of IP_1 are in two." in caplog.text
    picture(tmp_path / "more", 4)
    mask(tmp_path / "more", 4)
    assert {c.part for c in read(tmp_path)} == {""}
    assert "none is told for ISIC_0000004." in caplog.text


def test_2017_superpixels_and_diagnoses(tmp_path):
    data = tmp_path / "ISIC-2017_Training_Data"
    for number in (1, 2, 3):
        picture(data, number)
        picture(data, number, "_superpixels.png")
        mask(tmp_path / "ISIC-2017_Training_Part1_GroundTruth", number, pixels=number)
    (data / "ISIC-2017_Training_Data_metadata.csv").write_text("image_id,age_approximate,sex\nISIC_0000001,55,male\n")
    (tmp_path / "ISIC-2017_Training_Part3_GroundTruth.csv").write_text(
        "image_id,melanoma,seborrheic_keratosis\nISIC_0000001,0.0,0.0\nISIC_0000002,1.0,0.0\nISIC_0000003,0.0,1.0\n"
    )
    assert [c.group for c in read(tmp_path)] == ["nevus", "melanoma", "seborrheic keratosis"]
    assert all(c.load_image()[0].shape[0] == 3 for c in read(tmp_path))


def test_2016_has_a_picture_for_each_task(tmp_path):
    for part in (1, 3):
        picture(tmp_path / f"ISBI2016_ISIC_Part{part}_Training_Data", 1)
    mask(tmp_path / "ISBI2016_ISIC_Part1_Training_GroundTruth", 1, "_Segmentation.png", pixels=7)
    (tmp_path / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv").write_text("ISIC_0000001,malignant\n")
    (case,) = read(tmp_path)
    assert case.images[0].parent.name == "ISBI2016_ISIC_Part1_Training_Data"
    assert (int(case.load_masks().sum()), case.group) == (7, "malignant")
    picture(tmp_path / "ISBI2016_ISIC_Part1_Training_Data", 1, ".png")
    with pytest.raises(ValueError, match="may both be the picture of"):
        read(tmp_path)


def test_the_diagnosis_is_the_class_where_there_are_several_labels(tmp_path, caplog):
    picture_folder, masks = tmp_path / "ISIC2018_Task3_Training_Input", tmp_path / "HAM10000_segmentations"
    for number in range(1, 6):
        picture(picture_folder, number)
        mask(masks, number, pixels=number)
    names = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    rows = [f"ISIC_{n:07d},{','.join('1.0' if n == k else '0.0' for k in range(1, 8))}" for n in range(1, 5)]
    with pytest.raises(ValueError, match="add the CSV file of the challenge"):
        read(tmp_path, (Label("melanoma"), Label("nevus")))
    (tmp_path / "truth.csv").write_text("\n".join([f"image,{','.join(names)}", *rows]))
    (tmp_path / "HAM10000_metadata.csv").write_text(
        "lesion_id,image_id,dx,dx_type\nHAM_0000001,ISIC_0000001,mel,histo\nHAM_0000001,ISIC_0000002,nv,histo\n"
    )
    cases = read(tmp_path, (Label("nevus"), Label("BCC"), Label("Melanoma")))
    assert [np.bincount(c.load_masks().ravel(), minlength=4)[1:].tolist() for c in cases] == [
        [0, 0, 1],
        [2, 0, 0],
        [0, 3, 0],
    ]
    assert [c.subject for c in cases] == ["HAM_0000001", "HAM_0000001", "ISIC_0000003"]
    assert [c.group for c in cases] == ["melanoma", "nevus", "basal cell carcinoma"]
    assert "diagnosis is no label are left out: 1 actinic keratosis, 1 unknown." in caplog.text
    with pytest.raises(ValueError, match="wart is not among those"):
        read(tmp_path, (Label("nevus"), Label("wart")))


def test_several_raters_by_name(tmp_path):
    picture(tmp_path, 1)
    for name, pixels in (("_ben", 3), ("_anna", 2), ("", 9)):
        mask(tmp_path, 1, f"_segmentation{name}.png", pixels)
    (case,) = read(tmp_path)
    assert case.rater_names == ("anna", "ben", "reference")
    assert case.load_masks().sum((1, 2, 3)).tolist() == [2, 3, 9]


def test_ima_plus_plus(tmp_path, caplog):
    """As the data set's own list of files has it; A06 outlined ISIC_0000215 twice."""
    picture(tmp_path / "images", 215, ".JPG")
    for middle, pixels in (("A06_T1_S1_566575bf9fc3c147bbd6adee", 4), ("A06_T1_S1_568bb4c29fc3c126c063ff43", 5)):
        mask(tmp_path / "segs", 215, f"_{middle}.png", pixels)
    mask(tmp_path / "segs", 215, "_A04_T3_S2_545a68aebae47821f8802349.png", 6)
    for consensus in ("MV", "ST"):
        mask(tmp_path / "segs", 215, f"_{'_'.join([consensus] * 4)}.png", 30)
    (tmp_path / "IMAplusplus_img_metadata.csv").write_text(
        "isic_id,attribution,lesion_id,patient_id\nISIC_0000215,Anonymous,IL_1,IP_2\n"
    )
    assert recognised(tmp_path)[0] == "isic"
    with caplog.at_level(logging.WARNING):
        (case,) = read(tmp_path)
    assert case.rater_names == ("A04", "A06", "A06_2") and case.subject == "IP_2"
    assert case.load_masks().sum((1, 2, 3)).tolist() == [6, 4, 5]
    assert "2 consensus mask(s) left out, as they are nobody's: ISIC_0000215_MV_MV_MV_MV.png, " in caplog.text


def test_two_challenges_in_one_folder_are_refused(tmp_path):
    for year in (2017, 2018):
        picture(tmp_path / f"{year}_Training_Data", 1)
        mask(tmp_path / f"{year}_Training_GroundTruth", 1)
    with pytest.raises(ValueError, match="are both there, expected one"):
        read(tmp_path)


def test_masks_without_pictures_are_refused_and_others_not_recognised(tmp_path):
    mask(tmp_path / "segs", 1)
    with pytest.raises(ValueError, match="no picture with a mask"):
        read(tmp_path)
    picture(tmp_path / "other", 1)
    mask(tmp_path / "other", 1, "_attribute_streaks.png")
    assert recognise(tmp_path / "other") is None and recognise(tmp_path / "absent") is None

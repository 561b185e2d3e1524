"""CSV files of the ISIC challenges, each of the year's own form."""

from __future__ import annotations

import pytest

from AmbiguousSegLib.layouts.isic_tables import Tables, diagnosis_of


def tables(tmp_path, *texts):
    said = Tables()
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        said.read(file)
    return said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ISIC_1,benign\nISIC_2,malignant\n", ["benign", "malignant"]),  # 2016, training
        ("ISIC_1,0.0\nISIC_2,1.0\n", ["benign", "malignant"]),  # 2016, test
        ("image_id,melanoma,seborrheic_keratosis\nISIC_1,0,0\nISIC_2,0,1\n", ["nevus", "seborrheic keratosis"]),  # 2017
        ("image_id,melanoma,seborrheic_keratosis\nISIC_1,,\nISIC_2,1.0,0.0\n", [None, "melanoma"]),
        ("\ufeffimage,MEL,NV,AKIEC\r\nISIC_1,0.0,0.0,1.0\r\nISIC_2,0,1,0\r\n", ["actinic keratosis", "nevus"]),  # 2018
        ("image,AK,SCC,UNK\nISIC_1,1,0,0\nISIC_2,0,1,0\n", ["actinic keratosis", "squamous cell carcinoma"]),  # 2019
        ("lesion_id,image_id,dx\nHAM_1,isic_1,bkl\nHAM_2,ISIC_2,vasc\n", ["benign keratosis", "vascular lesion"]),
        ("image,MEL,NV\nISIC_1,1,1\nISIC_2,0.2,0.3\n", [None, None]),
        ("file,MEL\nISIC_1,1\n", [None, None]),
        ("", [None, None]),
    ],
)
def test_diagnoses(tmp_path, text, expected):
    said = tables(tmp_path, text).diagnosis
    assert [said.get(f"ISIC_{number}") for number in (1, 2)] == expected


def test_the_patient_goes_before_the_lesion(tmp_path):
    said = tables(tmp_path, "isic_id,lesion_id,patient_id\nISIC_1,L1,P1\nISIC_2,L2,\n", "image,lesion_id\nISIC_3,L3\n")
    assert [said.subject(f"ISIC_{number}") for number in (1, 2, 3, 4)] == ["P1", "L2", "L3", "ISIC_4"]


def test_the_first_of_two_diagnoses_stands(tmp_path, caplog):
    said = tables(tmp_path, "image,MEL,NV\nISIC_1,1,0\n", "image_id,dx\nISIC_1,nv\nISIC_2,nv\n")
    assert said.diagnosis == {"ISIC_1": "melanoma", "ISIC_2": "nevus"}
    assert "1.csv gives other diagnoses of 1 picture(s) than a file before it, such as ISIC_1" in caplog.text


def test_what_is_no_table_says_nothing(tmp_path, caplog):
    said = tables(tmp_path, b"\xff\xfe\x00\x01,\n\x00", "isic_id,mask_md5\nISIC_1,ad1d\n", '"image\n')
    said.read(tmp_path / "absent.csv")
    assert said.diagnosis == {} and said.subject("ISIC_1") == "ISIC_1"
    assert "absent.csv is left out, as it cannot be read" in caplog.text


def test_names_of_diagnoses():
    assert diagnosis_of("MEL") == diagnosis_of("Melanoma") == "melanoma"
    assert diagnosis_of("Basal-cell carcinoma") == diagnosis_of("bcc")
    assert diagnosis_of("Wart") == "wart"

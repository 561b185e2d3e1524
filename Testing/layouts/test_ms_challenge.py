"""The MS lesion challenge of ISBI 2015 as it is downloaded: four sequences, two raters, several scans of a patient."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import READERS, recognised
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.ms_challenge import recognise

LEVEL = {"flair": 400, "mprage": 100, "pd": 200, "t2": 300}
SHAPE = (5, 7, 6)
LABELS = (Label("multiple sclerosis lesion"),)


def scan(patient, number, masks=(4, 9), ending=".nii"):
    """A time point as it lies on disk; the masks of ``masks`` voxels."""
    name = f"{patient.name}_{number:02d}"
    for place in ("orig", "preprocessed", *(("masks",) if masks else ())):
        (patient / place).mkdir(parents=True, exist_ok=True)
    for sequence, level in LEVEL.items():
        array = np.full(SHAPE, level, np.float32)
        array[0] = 0
        sitk.WriteImage(sitk.GetImageFromArray(array), str(patient / "preprocessed" / f"{name}_{sequence}_pp{ending}"))
        (patient / "orig" / f"{name}_{sequence}.nii.gz").touch()
    for rater, voxels in enumerate(masks, start=1):
        array = np.zeros(SHAPE, np.uint8)
        array.ravel()[:voxels] = 1
        sitk.WriteImage(sitk.GetImageFromArray(array), str(patient / "masks" / f"{name}_mask{rater}{ending}"))


def read(folder, labels=LABELS, **settings):
    return READERS["ms_challenge"](folder, DataConfig(kind="ms_challenge", **settings), labels)


def test_scans_raters_and_channels(tmp_path, caplog):
    for patient, numbers in (("training02", (1,)), ("training01", (1, 2))):
        for number in numbers:
            scan(tmp_path / "training" / patient, number)
    for patient in ("test01", "test02"):
        scan(tmp_path / "testdata_website" / patient, 1, masks=())
    assert recognised(tmp_path)[0] == "ms_challenge"
    with caplog.at_level(logging.INFO):
        cases = read(tmp_path)
    assert [(c.identity, c.subject) for c in cases] == [
        ("training01_01", "training01"),
        ("training01_02", "training01"),
        ("training02_01", "training02"),
    ]
    assert "2 case(s) left out, as they have no mask: test01_01, test02_01." in caplog.text
    assert "the channels are PD, FLAIR, MPRAGE, T2, in this order" in caplog.text
    for case in cases:
        values, geometry = case.load_image()
        assert values.max((1, 2, 3)).tolist() == [200, 400, 100, 300] and geometry.shape == SHAPE
        assert case.rater_names == ("rater1", "rater2") and case.modality == "MR"
        assert case.load_masks().sum((1, 2, 3)).tolist() == [4, 9]
        assert pickle.loads(pickle.dumps(case)) == case


def test_files_side_by_side_and_one_rater(tmp_path):
    scan(tmp_path / "training05", 4, masks=(3,), ending=".nii.gz")
    for file in [*tmp_path.rglob("*.nii.gz")]:
        if file.parent.name != "orig":
            file.rename(tmp_path / file.name)
    (case,) = read(tmp_path)
    assert (case.identity, case.rater_names) == ("training05_04", ("rater1",))
    assert case.load_masks().sum() == 3


def test_channels_are_those_of_the_configuration(tmp_path):
    scan(tmp_path / "training01", 1)
    (case,) = read(tmp_path, channels=("FLAIR", "T1"))
    assert case.load_image()[0].max((1, 2, 3)).tolist() == [400, 100]


def test_what_does_not_go_is_refused_or_told(tmp_path, caplog):
    scan(tmp_path / "training01", 1)
    scan(tmp_path / "training01", 2)
    (tmp_path / "training01" / "preprocessed" / "training01_02_pd_pp.nii").unlink()
    assert [case.identity for case in read(tmp_path)] == ["training01_01"]
    assert "is missing: training01_02 (PD)." in caplog.text
    with pytest.raises(ValueError, match="name one"):
        read(tmp_path, (Label("lesion"), Label("edema")))
    scan(tmp_path / "copy" / "training01", 1)
    with pytest.raises(ValueError, match="are both there, expected one"):
        read(tmp_path)


def test_test_data_alone_are_refused(tmp_path):
    scan(tmp_path / "test01", 1, masks=())
    assert recognise(tmp_path) is not None
    with pytest.raises(ValueError, match=r"none of 1 scan\(s\) has a mask"):
        read(tmp_path)


def test_others_are_not_recognised(tmp_path):
    (tmp_path / "orig").mkdir()
    (tmp_path / "orig" / "training01_01_flair.nii.gz").touch()
    assert recognise(tmp_path) is None and recognise(tmp_path / "absent") is None

"""BraTS folders of each generation of names: channels, labels, patients, and what is left out."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import inspect
from AmbiguousSegLib.data.readers import READERS, recognised
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.brats import parts_of_labels, recognise

OLD = ("t1", "t1ce", "t2", "flair")
NEW = ("t1n", "t1c", "t2w", "t2f")
LEVEL = dict(zip((*OLD, *NEW), (100, 200, 300, 400) * 2))  # brightness that tells which file a channel is
VALUES = {1: 3, 2: 5, 4: 2}  # voxels of each value in a mask
SHAPE = (4, 6, 7)


def write(path, array):
    """As BraTS has it: 1 mm voxels, axes turned to the left and to the back."""
    image = sitk.GetImageFromArray(array)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin((0, 239, 0))
    sitk.WriteImage(image, str(path))


def mask(values=VALUES):
    array = np.zeros(SHAPE, np.uint8)
    array.ravel()[: sum(values.values())] = np.repeat(list(values), list(values.values()))
    return array


def case(folder, name, sequences=OLD, seg="seg", values=VALUES, ending=".nii.gz"):
    folder.mkdir(parents=True, exist_ok=True)
    between = "_" if sequences[0] in OLD else "-"
    for sequence in sequences:
        image = np.full(SHAPE, LEVEL[sequence], np.int16)
        image[0, 0, 0] = 0
        write(folder / f"{name}{between}{sequence}{ending}", image)
    if seg:
        write(folder / f"{name}{between}{seg}{ending}", mask(values))


def read(folder, labels=("tumor",), **settings):
    return READERS["brats"](folder, DataConfig(kind="brats", **settings), [Label(name) for name in labels])


def counts(loaded, label_map=None):
    return np.bincount((loaded.load_masks() if label_map is None else label_map).ravel(), minlength=4)[1:].tolist()


def test_2018_to_2021_with_grades(tmp_path):
    case(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB_1")
    case(tmp_path / "LGG" / "Brats18_2013_10_1", "Brats18_2013_10_1", ending=".nii")
    assert recognised(tmp_path)[0] == "brats"
    low, high = read(tmp_path)
    assert [(c.identity, c.subject, c.group) for c in (low, high)] == [
        ("Brats18_2013_10_1", "Brats18_2013_10_1", "LGG"),
        ("Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB_1", "HGG"),
    ]
    for loaded in (low, high):
        values, geometry = loaded.load_image()
        assert values.max((1, 2, 3)).tolist() == [100, 200, 300, 400]  # T1, T1ce, T2, FLAIR
        assert geometry.spacing_mm == (1, 1, 1) and geometry.shape == SHAPE
        assert counts(loaded) == [10, 0, 0]  # all parts are the tumour
        assert (loaded.modality, loaded.rater_names, loaded.part) == ("MR", ("reference",), "")
        assert pickle.loads(pickle.dumps(loaded)) == loaded and hash(loaded)
    assert inspect(high, 1).labels == (1,)


def test_2023_names_patients_and_numbers(tmp_path):
    top = tmp_path / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    for scan in ("BraTS-GLI-00010-001", "BraTS-GLI-00002-000", "BraTS-GLI-00010-000"):
        case(top / scan, scan, NEW, values={1: 3, 2: 5, 3: 2, 4: 7})
    assert recognised(tmp_path)[0] == "brats"
    cases = read(tmp_path, ("edema", "non-enhancing / necrotic core", "Enhancing tumour"))
    assert [c.subject for c in cases] == ["BraTS-GLI-00002", "BraTS-GLI-00010", "BraTS-GLI-00010"]
    assert cases[0].load_image()[0].max((1, 2, 3)).tolist() == [100, 200, 300, 400]
    for loaded in cases:
        assert counts(loaded) == [5, 3, 2]  # in the order of the labels; the resection cavity, 4, is background
    assert counts(read(tmp_path)[0]) == [10, 0, 0]
    assert counts(read(tmp_path, ("tumor", "resection cavity"))[0]) == [10, 7, 0]
    assert read(tmp_path, subject_pattern=r"-(\d+)$")[1].subject == "000"


@pytest.mark.parametrize("enhancing", [4, 3])
def test_the_enhancing_tumor_is_4_or_3_until_2021(tmp_path, enhancing):
    case(tmp_path / "BraTS2021_00000", "BraTS2021_00000", values={1: 3, 2: 5, enhancing: 2})
    assert counts(read(tmp_path, ("NCR", "ED", "ET"))[0]) == [3, 5, 2]
    assert counts(read(tmp_path, ("ET",))[0]) == [2, 0, 0]  # a single label that names a part is that part
    assert counts(read(tmp_path, ("peritumoral edema", "tumor core"))[0]) == [5, 5, 0]


def test_other_values_are_refused(tmp_path):
    case(tmp_path / "a", "BraTS2021_00000", values={1: 3, 7: 1})
    with pytest.raises(ValueError, match=r"BraTS2021_00000_seg.nii.gz holds the value 7"):
        read(tmp_path)[0].load_masks()


@pytest.mark.parametrize(
    "labels", [("tumor", "edema"), ("ET", "enhancing tumor"), ("whole", "edema"), ("tumor core", "necrotic core")]
)
def test_labels_that_overlap_or_say_nothing_are_refused(labels):
    with pytest.raises(ValueError, match="do not say which parts"):
        parts_of_labels(labels)


def test_children_have_one_label(tmp_path):
    case(tmp_path / "BraTS-PED-00003-000", "BraTS-PED-00003-000", NEW, values={1: 3, 2: 5, 3: 2, 4: 7})
    assert counts(read(tmp_path)[0]) == [17, 0, 0]
    with pytest.raises(ValueError, match="BraTS-PEDs number the parts"):
        read(tmp_path, ("necrotic core", "edema", "enhancing tumor"))


def test_what_is_left_out_is_told(tmp_path, caplog):
    case(tmp_path / "BraTS20_Training_001", "BraTS20_Training_001")
    case(tmp_path / "BraTS20_Training_002", "BraTS20_Training_002", ("t1", "t2", "flair"))
    for number in range(1, 6):
        case(tmp_path / f"v{number}", f"BraTS20_Validation_{number:03d}", seg="")
    (tmp_path / "BraTS20_Training_001" / "._BraTS20_Training_001_t1.nii.gz").touch()
    (tmp_path / "name_mapping.csv").touch()
    with caplog.at_level(logging.INFO):
        assert [c.identity for c in read(tmp_path)] == ["BraTS20_Training_001"]
    assert (
        "5 case(s) left out, as they have no mask (seg): "
        "BraTS20_Validation_001, BraTS20_Validation_002, BraTS20_Validation_003 and 2 more." in caplog.text
    )
    assert "1 case(s) left out, as a sequence is missing: BraTS20_Training_002 (T1ce)." in caplog.text
    assert "the label tumor marks: necrotic and non-enhancing core, edema, enhancing tumor." in caplog.text


def test_validation_data_alone_are_refused(tmp_path):
    case(tmp_path / "BraTS20_Validation_001", "BraTS20_Validation_001", seg="")
    with pytest.raises(ValueError, match=r"none of 1 BraTS case\(s\) has a mask"):
        read(tmp_path)


def test_the_misnamed_mask_of_2020_is_found(tmp_path):
    case(tmp_path / "BraTS20_Training_355", "BraTS20_Training_355", seg="", ending=".nii")
    write(tmp_path / "BraTS20_Training_355" / "W39_1998.09.19_Segm.nii", mask())
    assert counts(read(tmp_path)[0]) == [10, 0, 0]


def test_two_files_of_one_sequence_are_refused(tmp_path):
    case(tmp_path, "BraTS2021_00000")
    case(tmp_path, "BraTS2021_00000", ending=".nii")
    with pytest.raises(ValueError, match=r"are both there, expected one"):
        read(tmp_path)


def test_channels_are_those_of_the_configuration(tmp_path):
    case(tmp_path, "BraTS2021_00000", ("t1", "t2", "flair"))
    (loaded,) = read(tmp_path, channels=("FLAIR", "T1w"))
    assert loaded.load_image()[0].max((1, 2, 3)).tolist() == [400, 100]
    with pytest.raises(ValueError, match="dataset.channels is FLAIR, ADC"):
        read(tmp_path, channels=("FLAIR", "ADC"))
    with pytest.raises(ValueError, match="each once"):
        read(tmp_path, channels=("T1ce", "T1-Gd"))


def test_others_are_not_recognised(tmp_path):
    for name in ("sub-01_T1w", "sub-01_FLAIR", "BRATS_001_0000", "x_t1", "x_t2", "x_flair", "training01_01_t2_pp"):
        (tmp_path / f"{name}.nii.gz").touch()
    assert recognise(tmp_path) is None
    assert recognise(tmp_path / "x_t1.nii.gz") is None and recognise(tmp_path / "absent") is None


def test_four_sequences_of_a_folder_for_each_case_are_not_recognised(tmp_path):
    for sequence in ("t1", "t1ce", "t2", "flair"):
        (tmp_path / f"image_{sequence}.nii.gz").touch()
    assert recognise(tmp_path) is None

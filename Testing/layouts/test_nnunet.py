"""Raw datasets of nnU-Net as it writes them: which file is which case, channel, rater and part, what values mean."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import inspect
from AmbiguousSegLib.data.readers import load_case, read_all
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.layouts.nnunet import recognise
from AmbiguousSegLib.layouts.nnunet_labels import stored_labels

VERSION_2 = {
    "channel_names": {"0": "T2", "1": "ADC"},
    "labels": {"background": 0, "PZ": 1, "TZ": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}
VERSION_1 = {
    "name": "PROSTATE",
    "tensorImageSize": "3D",
    "modality": {"0": "T2", "1": "ADC"},
    "labels": {"0": "background", "1": "PZ", "2": "TZ"},
    "numTraining": 2,
    "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
}
PZ_AND_TZ = (Label("pz"), Label("TZ"))
TURNED = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def write(path, array):
    """A NIfTI file (or picture) with 0.5 × 0.75 × 3 mm voxels on a turned grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if array.ndim == 3 and path.suffix != ".png":
        image.SetSpacing((0.5, 0.75, 3.0))
        image.SetOrigin((-10, 20, 5))
        image.SetDirection(TURNED)
    sitk.WriteImage(image, str(path))
    return path


def mask(pz, tz=0):
    """6 slices of 5×4 pixels with so many voxels of value 1 and of value 2."""
    values = np.zeros(120, np.uint8)
    values[:pz], values[pz : pz + tz] = 1, 2
    return values.reshape(6, 5, 4)


def dataset(folder, described=VERSION_2, names=("a", "b"), part="Tr"):
    """Cases with channels 0 and 1, and one mask each: 7 voxels of PZ, 2 of TZ."""
    rng = np.random.default_rng(3)
    for name in names:
        for channel in range(2):
            values = rng.normal(1000 * channel, 10, (6, 5, 4)).astype(np.float32)
            write(folder / f"images{part}" / f"{name}_000{channel}.nii.gz", values)
        write(folder / f"labels{part}" / f"{name}.nii.gz", mask(7, 2))
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def counts(case, classes):
    """Voxels of each value in each rater's mask."""
    return [np.bincount(m.ravel(), minlength=classes + 1).tolist() for m in load_case(case, classes)[2]]


@pytest.mark.parametrize("described", [VERSION_2, VERSION_1])
def test_a_dataset_of_either_version(tmp_path, described, caplog):
    folder = dataset(tmp_path / "Dataset005_Prostate", described)
    assert recognise(folder).words == "nnU-Net dataset Dataset005_Prostate: 2 training images"
    cases = read_all(folder, DataConfig(channels=("t2", "adc")), PZ_AND_TZ)
    assert [(c.identity, c.subject, c.part, c.modality, c.rater_names) for c in cases] == [
        (name, name, "", "MR", ("labels",)) for name in "ab"
    ]
    values, geometry, _ = load_case(cases[0], 2)
    assert values.shape == (2, 6, 5, 4) and values.mean((1, 2, 3)) == pytest.approx([0, 1000], abs=5)
    assert geometry.spacing_mm == (0.5, 0.75, 3.0) and geometry.origin_mm == (-10, 20, 5)
    assert geometry.direction == pytest.approx(TURNED)
    assert counts(cases[1], 2) == [[111, 7, 2]]
    assert inspect(cases[1], 2).labels == (1, 2) and not caplog.records


def test_channels_are_chosen_by_name(tmp_path):
    (case, _) = read_all(dataset(tmp_path), DataConfig(channels=("ADC",)), PZ_AND_TZ)
    assert [path.name for path in case.images] == ["a_0001.nii.gz"]
    (case, _) = read_all(tmp_path, DataConfig(channels=("x", "y")), PZ_AND_TZ)
    assert [path.name for path in case.images] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_several_raters_in_folders_and_in_names(tmp_path, caplog):
    folder = dataset(tmp_path)
    write(folder / "labelsTr_anna" / "a.nii.gz", mask(0))
    write(folder / "labelsTr_2" / "a.nii.gz", mask(1, 1))
    write(folder / "labelsTr_2" / "b.nii.gz", mask(3))
    write(folder / "labelsTr" / "b__ben.nii.gz", mask(0, 5))
    write(folder / "labelsTr_2" / "c.nii.gz", mask(3))
    (folder / "labelsTr_2" / "._a.nii.gz").write_bytes(b"")
    with caplog.at_level(logging.INFO):
        a, b = read_all(folder, DataConfig(), PZ_AND_TZ)
    assert a.rater_names == ("labels", "2", "anna") and b.rater_names == ("labels", "ben", "2")
    assert counts(a, 2) == [[111, 7, 2], [118, 1, 1], [120, 0, 0]]
    assert counts(b, 2) == [[111, 7, 2], [115, 0, 5], [117, 3, 0]]
    assert "1 mask(s) left out, as they belong to no image in imagesTr: labelsTr_2/c.nii.gz." in caplog.text
    assert "labelsTr is one rater, 'labels', beside labelsTr_2, labelsTr_anna" in caplog.text
    write(folder / "labelsTr_2" / "b__x.nii.gz", mask(0))
    write(folder / "labelsTr_2_x" / "b.nii.gz", mask(0))
    with pytest.raises(ValueError, match="there is another mask of '2_x' for b"):
        read_all(folder, DataConfig(), PZ_AND_TZ)


def test_predictions_are_a_rater_by_the_description_beside_them(tmp_path):
    folder = dataset(tmp_path / "data")
    predicted = folder / "labelsTr_model"
    write(predicted / "a.nii.gz", mask(4, 6))
    turned = {**VERSION_2, "labels": {"background": 0, "TZ": 1, "PZ": 2}}
    for name, content in (("dataset.json", turned), ("plans.json", {}), ("predict_from_raw_data_args.json", {})):
        (predicted / name).write_text(json.dumps(content), encoding="utf-8")
    (predicted / "a.npz").write_bytes(b"probabilities")
    (a, _) = read_all(folder, DataConfig(), PZ_AND_TZ)
    assert counts(a, 2) == [[111, 7, 2], [110, 6, 4]]
    # The same through a list, where nnU-Net's files may lie anywhere.
    out = tmp_path / "predictions"
    shutil.copytree(predicted, out)
    row = {"image_t2": "data/imagesTr/a_0000.nii.gz", "image_adc": "data/imagesTr/a_0001.nii.gz"}
    row |= {"rater_anna": "data/labelsTr/a.nii.gz", "rater_model": "predictions/a.nii.gz"}
    (tmp_path / "cases.json").write_text(json.dumps([row]), encoding="utf-8")
    (case,) = read_all(tmp_path, DataConfig(), PZ_AND_TZ)
    assert counts(case, 2) == [[111, 7, 2], [110, 6, 4]]
    (case,) = read_all(tmp_path, DataConfig(), (Label("TZ"),))
    assert counts(case, 1) == [[118, 2], [116, 4]]


def test_parts(tmp_path, caplog):
    folder = dataset(tmp_path, names=("a", "b", "c"))
    dataset(folder, names=("t1", "t2"), part="Ts")
    (folder / "labelsTs" / "t2.nii.gz").unlink()
    assert [(c.identity, c.part) for c in read_all(folder, DataConfig(), PZ_AND_TZ)] == [
        *((name, "train") for name in "abc"),
        ("t1", "test"),
    ]
    assert "imagesTs: 1 image(s) left out, as they have no mask: t2." in caplog.text
    folds = [{"train": ["c", "a"], "val": ["b"]}, {"train": ["b"], "val": ["a", "c"]}]
    (folder / "splits_final.json").write_text(json.dumps(folds), encoding="utf-8")
    parts = {c.identity: c.part for c in read_all(folder, DataConfig(), PZ_AND_TZ)}
    assert parts == {"a": "train", "b": "validation", "c": "train", "t1": "test"}


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ({"train": ["a"], "val": []}, "fold 0 does not list the cases: b; correct it"),
        ({"train": ["a", "b"], "val": ["z"]}, "fold 0 lists cases that are not there: z"),
        ({"train": ["a", "b"], "val": ["b"]}, "fold 0 has in both parts the cases: b"),
        ({"train": ["a", "b"]}, "expected a list of folds with train and val"),
    ],
)
def test_folds_that_do_not_fit(tmp_path, fold, message):
    (dataset(tmp_path) / "splits_final.json").write_text(json.dumps([fold]), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_all(tmp_path, DataConfig(), PZ_AND_TZ)


def test_a_colour_picture_is_one_file_of_three_channels(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (8, 10, 3)).astype(np.uint8)
    (tmp_path / "imagesTr").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "imagesTr" / "road_0000.png"))
    write(tmp_path / "labelsTr" / "road.png", np.eye(8, 10, dtype=np.uint8))
    described = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "road": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps({**described, "file_ending": ".png"}), encoding="utf-8")
    (case,) = read_all(tmp_path, DataConfig(channels=("R", "G", "B"), size=(16, 20), spacing_mm=0.5), DEFAULT_LABELS)
    values, geometry, masks = load_case(case, 1)
    assert np.array_equal(values[:, 0], np.moveaxis(colours, -1, 0)) and masks.sum() == 8
    assert geometry.spacing_mm == (1, 1, 1)  # 16 × 0.5 mm over 8 pixels


def test_cases_that_the_description_names_itself(tmp_path):
    dataset(tmp_path / "elsewhere")
    named = {
        name: {
            "images": [f"../elsewhere/imagesTr/{name}_000{k}.nii.gz" for k in range(2)],
            "label": f"../elsewhere/labelsTr/{name}.nii.gz",
        }
        for name in "ab"
    }
    folder = tmp_path / "Dataset9"
    write(folder / "labelsTr_anna" / "a.nii.gz", mask(1))
    (folder / "dataset.json").write_text(json.dumps({**VERSION_2, "dataset": named}), encoding="utf-8")
    a, b = read_all(folder, DataConfig(), PZ_AND_TZ)
    assert counts(a, 2) == [[111, 7, 2], [119, 1, 0]] and counts(b, 2) == [[111, 7, 2]]
    named["b"]["label"] = "gone.nii.gz"
    (folder / "dataset.json").write_text(json.dumps({**VERSION_2, "dataset": named}), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="gone.nii.gz, which dataset.json names for 'b', does not exist"):
        read_all(folder, DataConfig(), PZ_AND_TZ)


@pytest.mark.parametrize(
    ("labels", "names", "expected", "logged"),
    [
        ({"background": 0, "tumour": 1}, ["lesion"], ((1, 1),), ""),
        ({"background": 0, "PZ": 1, "TZ": 2}, ["lesion"], ((1, 1), (2, 1)), "PZ, TZ together are the label lesion"),
        ({"background": 0, "PZ": 1, "TZ": 2}, ["tz"], ((1, 0), (2, 1)), "classes PZ are no labels and taken for"),
        ({"background": 0, "PZ": 1, "TZ": 2}, ["TZ", "PZ"], ((1, 2), (2, 1)), ""),
        ({"background": 0, "PZ": 1, "TZ": 2}, ["x", "y"], ((1, 1), (2, 2)), "by their number: PZ is x, TZ is y"),
        ({"0": "background", "2": "b", "1": "a"}, ["x", "y"], ((1, 1), (2, 2)), "a is x, b is y"),
        (
            {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "et": 3},
            ["core"],
            ((1, 0), (2, 1), (3, 1)),
            "whole, et",
        ),
        ({"background": 0, "whole": [1, 2], "core": 2}, ["lesion"], ((1, 1), (2, 1)), "whole, core together"),
        ({"background": 0, "left": [1, 2], "right": [3]}, ["right", "left"], ((1, 2), (2, 2), (3, 1)), ""),
        ({"background": "0", "tumour": "1"}, ["lesion"], ((1, 1),), ""),
    ],
)
def test_what_values_mean(tmp_path, labels, names, expected, logged, caplog):
    pairs = stored_labels({"labels": labels}, [Label(name) for name in names], tmp_path / "dataset.json")
    assert pairs == expected
    assert logged in caplog.text if logged else not caplog.records


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ({"background": 0, "a": 1, "b": 2}, ["a", "c"], "has the classes a, b, which do not fit the labels a, c"),
        ({"background": 0, "a": 1, "b": 2}, ["x", "y", "z"], "do not fit the labels x, y, z"),
        ({"background": 0, "a": 1, "b": 3}, ["x", "y"], "do not fit"),
        ({"background": 0, "w": [1, 2], "c": 2}, ["w", "c"], "regions w and c overlap .value 2."),
        ({"background": 0, "a": 1, "ignore": 2}, ["a"], 'has the label "ignore" for places that nobody judged'),
        ({"background": 0}, ["a"], "expected labels of different values from 1"),
        ({"background": 0, "a": 1, "b": 1}, ["a"], "expected labels of different values from 1"),
        ({"background": 0, "a": 1.5}, ["a"], "the label 'a' has the value 1.5, expected whole"),
        ({"1": "a", "2": "a"}, ["a"], "two labels have one name"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, labels, names, message):
    with pytest.raises(ValueError, match=message):
        stored_labels({"labels": labels}, [Label(name) for name in names], tmp_path / "dataset.json")


def test_values_that_are_no_class_are_refused_when_read(tmp_path):
    write(dataset(tmp_path) / "labelsTr" / "a.nii.gz", mask(3) * 7)
    (a, _) = read_all(tmp_path, DataConfig(), DEFAULT_LABELS)
    with pytest.raises(ValueError, match="a.nii.gz holds the value 7, expected 0 and 1, 2"):
        a.load_masks()


def test_incomplete_datasets(tmp_path, caplog):
    folder = dataset(tmp_path)
    (folder / "labelsTr" / "b.nii.gz").unlink()
    (folder / "imagesTr" / "notes.txt").write_text("", encoding="utf-8")
    assert [case.identity for case in read_all(folder, DataConfig(), PZ_AND_TZ)] == ["a"]
    assert "imagesTr: 1 image(s) left out, as they have no mask: b." in caplog.text
    assert "1 file(s) left out, as they are not named NAME_0000.nii.gz: notes.txt." in caplog.text
    (folder / "imagesTr" / "b_0000.nii.gz").unlink()
    with pytest.raises(ValueError, match="imagesTr: b has the channels 0001, expected 2 from 0000; complete it"):
        read_all(folder, DataConfig(), PZ_AND_TZ)


def test_tiff_with_spacing_beside_it_is_refused(tmp_path):
    described = {"channel_names": {"0": "cells"}, "labels": {"background": 0, "cell": 1}, "file_ending": ".tif"}
    (tmp_path / "imagesTr").mkdir()
    for name in ("c_0000.tif", "c.json"):
        (tmp_path / "imagesTr" / name).write_bytes(b"")
    (tmp_path / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(ValueError, match="TIFF whose spacing is in JSON files is not read; convert it to NIfTI"):
        read_all(tmp_path, DataConfig(), DEFAULT_LABELS)


def test_what_is_not_recognised(tmp_path):
    assert recognise(tmp_path) is None and recognise(tmp_path / "absent") is None
    folder = dataset(tmp_path)
    for change in ({"labels": []}, {"channel_names": None}):
        (folder / "dataset.json").write_text(json.dumps({**VERSION_2, **change}), encoding="utf-8")
        assert recognise(folder) is None
    (folder / "dataset.json").write_text("{", encoding="utf-8")
    assert recognise(folder) is None
    # The Decathlon's own layout: the same description, images and masks of one name, some of which end in four digits.
    decathlon = tmp_path / "Task"
    for place in ("imagesTr", "labelsTr"):
        write(decathlon / place / "amos_0000.nii.gz", mask(1))
    (decathlon / "dataset.json").write_text(json.dumps(VERSION_1), encoding="utf-8")
    assert recognise(decathlon) is None
    # A list in the folder goes first.
    dataset(tmp_path / "own")
    (tmp_path / "own" / "cases.csv").write_text("image,rater\n", encoding="utf-8")
    assert recognise(tmp_path / "own") is None


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"background": 0, "TZ": 2, "PZ": 1}, ["PZ", "TZ"]),
        ({"background": 0, "whole": [1, 2], "core": 2}, []),
        ({"background": 0, "a": 1, "ignore": 2}, []),
        ({"background": 0, "a\n": 1}, []),
    ],
)
def test_a_dataset_names_its_channels_and_labels(tmp_path, labels, names):
    layout = recognise(dataset(tmp_path, {**VERSION_2, "labels": labels}))
    assert layout.channels == ("T2", "ADC") and [label.name for label in layout.labels] == names
    assert len({label.color for label in layout.labels}) == len(names)
    if names:
        (case, _) = read_all(tmp_path, DataConfig(channels=layout.channels), layout.labels)
        assert counts(case, 2) == [[111, 7, 2]]


def test_labels_that_differ_by_case_alone(tmp_path):
    pairs = stored_labels({"labels": {"b": 0, "Core": 1, "core": 2}}, [Label("core"), Label("Core")], tmp_path)
    assert pairs == ((1, 2), (2, 1))

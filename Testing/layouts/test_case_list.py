"""The reader "list": what lists say is what cases give, and what they say wrongly is told in one line."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from shared_data import shared_path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import inspect
from AmbiguousSegLib.data.readers import load_case, read_all
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.layouts.case_list import recognise

TWO = (Label("core"), Label("halo"))
ENTRY = {"npz": "train.npz", "image": "images_hu", "raters": "masks", "subject": "patient", "spacing": "spacing"}


def arrays(**changed):
    """Three pictures of 4×5 pixels, of two patients, seen by two raters; the second rater leaves case 1 empty."""
    images = np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 1000
    masks = np.zeros((3, 2, 4, 5), np.uint8)
    masks[:, 0, 1:3, 2:5] = 1  # 6 pixels
    masks[[0, 2], 1, 1, 1] = 1
    spacing = np.array([0.5, 0.625, 0.75], np.float32)
    return {"images_hu": images, "masks": masks, "patient": np.array(["p7", "p7", "p9"]), "spacing": spacing, **changed}


def listed(tmp_path, entry, classes=DEFAULT_LABELS, config=None, **changed):
    np.savez_compressed(tmp_path / "train.npz", **arrays(**changed))
    file = tmp_path / "cases.json"
    file.write_text(json.dumps(entry), encoding="utf-8")
    return read_all(tmp_path, config or DataConfig(), classes)


def test_arrays_become_cases_with_patient_and_spacing(tmp_path):
    cases = listed(tmp_path, {**ENTRY, "modality": "CT", "part": "train"})
    assert [case.identity for case in cases] == ["train/0000", "train/0001", "train/0002"]
    assert [case.subject for case in cases] == ["p7", "p7", "p9"]
    assert {(case.part, case.modality, case.group, case.rater_names) for case in cases} == {
        ("train", "CT", "", ("rater1", "rater2"))
    }
    values, geometry, masks = load_case(pickle.loads(pickle.dumps(cases[1])), 1)
    assert values.dtype == np.int16 and values[0, 0].tolist() == arrays()["images_hu"][1].tolist()
    assert geometry.size == (5, 4, 1) and geometry.spacing_mm == (0.625, 0.625, 1.0)
    assert masks.sum((1, 2, 3)).tolist() == [6, 0] and masks[0, 0, 1].tolist() == [0, 0, 1, 1, 1]
    values[:] = 0  # what is given is the caller's own
    assert cases[1].load_image()[0].min() == -980 and len({hash(case) for case in cases}) == 3


def test_arrays_of_several_files_with_names_and_parts_of_their_own(tmp_path):
    np.savez(tmp_path / "test.npz", x=np.ones((1, 4, 5)), y=np.ones((1, 4, 5), bool), who=np.array([12]))
    second = {"npz": "test.npz", "image": "x", "raters": "y", "identity": "who", "part": "test", "group": "b"}
    cases = listed(tmp_path, [{**ENTRY, "part": "which"}, second], which=np.array(["train", "validation", "train"]))
    assert [case.part for case in cases] == ["train", "validation", "train", "test"]
    assert (cases[3].identity, cases[3].subject, cases[3].group) == ("12", "12", "b")
    assert cases[3].load_masks().sum() == 20 and cases[3].load_image()[1].spacing_mm == (1, 1, 1)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        (np.array([[0.5, 2], [0.6, 3], [0.7, 4]]), (4, 0.7, 1)),
        (np.array([[9, 0.5, 2], [8, 0.6, 3], [7, 0.7, 4]]), (4, 0.7, 7)),
    ],
)
def test_spacing_is_told_of_slices_rows_and_columns(tmp_path, spacing, expected):
    assert listed(tmp_path, ENTRY, spacing=spacing)[2].load_image()[1].spacing_mm == pytest.approx(expected)


@pytest.mark.parametrize(("told", "expected"), [(0.8, (0.8, 0.8, 1)), ([0.5, 0.25], (0.25, 0.5, 1))])
def test_one_spacing_for_all(tmp_path, told, expected):
    assert listed(tmp_path, {**ENTRY, "spacing": told})[2].load_image()[1].spacing_mm == pytest.approx(expected)


def test_without_spacing_the_configuration_tells_how_large_a_picture_is(tmp_path):
    entry = {key: value for key, value in ENTRY.items() if key != "spacing"}
    config = DataConfig(size=(8, 20), spacing_mm=0.5)  # 4 mm high, 10 mm wide
    assert listed(tmp_path, entry, config=config)[0].load_image()[1].spacing_mm == pytest.approx((2, 1, 1))


@pytest.mark.parametrize(
    ("axes", "shape", "channels"),
    [("ncyx", (3, 2, 4, 5), 2), ("nyxc", (3, 4, 5, 2), 2), (None, (3, 2, 4, 5), 2)],
)
def test_axes_of_channels(tmp_path, axes, shape, channels):
    images = np.random.default_rng(0).random(shape).astype(np.float32)
    cases = listed(tmp_path, {**ENTRY, **({"axes": axes} if axes else {})}, images_hu=images)
    values = load_case(cases[1], 1)[0]
    assert values.shape == (channels, 1, 4, 5)
    assert np.array_equal(values[1, 0], images[1, ..., 1] if axes == "nyxc" else images[1, 1])


def test_volumes_and_several_labels(tmp_path):
    images = np.random.default_rng(0).random((3, 6, 4, 5))
    masks = np.zeros((3, 2, 6, 4, 5), np.int64)
    masks[0, 1, 5, 3, 4], masks[0, 1, 0, 0, :2] = 2, 1
    entry = {**ENTRY, "axes": "nzyx", "rater_names": ["anna", "ben"]}
    case = listed(tmp_path, entry, TWO, images_hu=images, masks=masks, spacing=np.full((3, 3), [2.5, 0.5, 0.5]))[0]
    values, geometry, found = load_case(case, 2)
    assert geometry.spacing_mm == (0.5, 0.5, 2.5) and np.array_equal(values[0], images[0])
    assert case.rater_names == ("anna", "ben") and np.bincount(found[1].ravel()).tolist() == [117, 2, 1]
    assert found[1, 5, 3, 4] == 2


@pytest.mark.parametrize(
    ("entry", "changed", "message"),
    [
        ({"image": "images"}, {}, "has no array 'images' for image; it has images_hu, masks"),
        ({"subject": "patients"}, {}, "has no array 'patients' for subject"),
        ({"spacings": 1}, {}, "Unknown key spacings; known keys: npz, image"),
        ({"part": "training"}, {}, "unknown part 'training'; the parts are train, validation, test"),
        ({"identity": "patient"}, {}, "holds 'p7' twice"),
        ({}, {"masks": np.zeros((3, 2, 5, 4))}, "does not fit images_hu of shape .3, 4, 5."),
        ({}, {"masks": np.zeros((2, 2, 4, 5))}, "does not fit"),
        ({}, {"images_hu": np.zeros((3, 4))}, "of shape .3, 4. cannot be read with axes"),
        ({}, {"images_hu": np.zeros((3, 4, 5), complex)}, "of type complex128"),
        ({}, {"spacing": np.array([1, np.nan, -1])}, r"of case 1 is \[nan\] .and so of 1 more., expected positive mm"),
        ({}, {"spacing": np.ones((3, 4))}, "spacing of shape .3, 4. for 3 pictures"),
        ({}, {"patient": np.array([1.5, 2, 3])}, "is float64"),
        ({}, {"patient": np.array(["a", None, {}], object)}, "for subject is object"),
        ({"rater_names": ["anna"]}, {}, "rater_names must be 2 different texts"),
        ({"npz": "other.npz"}, {}, "other.npz does not exist"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tmp_path, entry, changed, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as told:
        listed(tmp_path, {**ENTRY, **entry}, **changed)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("mask", "classes", "message"),
    [
        (np.uint8([0, 1, 2, 0]), DEFAULT_LABELS, "rater1 for train/0000 holds the values 0, 1, 2, expected 0 and one"),
        (np.uint8([0, 1, 3, 0]), TWO, "whole numbers, 0 for background and 1 to 2 for the labels"),
        (np.array([0, 1, 0.5, 0]), TWO, "holds the values 0, 0.5, 1"),
    ],
)
def test_masks_with_other_values_are_refused(tmp_path, mask, classes, message):
    masks = np.broadcast_to(mask[:, None], (3, 2, 4, 5))
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, ENTRY, classes, masks=masks)[0].load_masks()


def test_any_one_value_is_the_lesion(tmp_path):
    assert listed(tmp_path, ENTRY, masks=arrays()["masks"] * 255)[0].load_masks().sum() == 7


def test_damaged_files_are_refused_in_one_line(tmp_path):
    (case, *_) = listed(tmp_path, ENTRY)
    whole = (tmp_path / "train.npz").read_bytes()
    (tmp_path / "train.npz").write_bytes(whole[: len(whole) // 2])
    for act in (case.load_image, lambda: read_all(tmp_path, DataConfig(), DEFAULT_LABELS)):
        with pytest.raises(ValueError, match="train.npz cannot be read as .npz: .*save it anew") as told:
            act()
        assert "\n" not in str(told.value)


def test_a_pickle_in_an_array_is_never_loaded(tmp_path):
    with pytest.raises(ValueError, match="of type object"):
        listed(tmp_path, ENTRY, masks=np.array([print, None, None], object))


def test_an_array_that_cannot_be_as_large_as_it_says_is_refused(tmp_path):
    (case, *_) = listed(tmp_path, ENTRY)
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        with archive.open("images_hu.npy", "w") as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "<i2", "fortran_order": False, "shape": (3, 1 << 20, 1 << 20)}
            )
    with pytest.raises(ValueError, match="declares .* of voxels, the file holds"):
        case.load_image()


def test_the_nodules_of_many_readers(tmp_path):
    folder = shared_path("data/lidc_nodules")
    parts = [{**ENTRY, "npz": str(folder / f"{p}.npz"), "part": p, "modality": "CT"} for p in ("train", "test")]
    (tmp_path / "nodules.json").write_text(json.dumps(parts), encoding="utf-8")
    cases = read_all(tmp_path / "nodules.json", DataConfig(), DEFAULT_LABELS)
    assert [sum(case.part == part for case in cases) for part in ("train", "test")] == [2012, 278]
    assert len({case.subject for case in cases}) == 649 + 87 and cases[7].identity == "train/0007"
    seen = inspect(cases[7], 1)
    with np.load(folder / "train.npz") as stored:
        area, spacing = stored["masks"][7].sum((1, 2)).tolist(), float(stored["spacing"][7])
    assert cases[7].load_masks().sum((1, 2, 3)).tolist() == area and area.count(0) == 3 == seen.empty_raters
    assert seen.geometry.spacing_mm == (spacing, spacing, 1.0) and seen.stored == "int16"
    assert len(pickle.dumps(cases[7])) < 600


def test_what_is_recognised_as_a_list(tmp_path):
    assert recognise(tmp_path) is None and recognise(tmp_path / "absent.csv") is None
    for name in ("anything.csv", "cases.json", "notes.txt"):
        (tmp_path / name).write_text("", encoding="utf-8")
    assert recognise(tmp_path / "anything.csv").specific and "cases.json" in recognise(tmp_path).words
    assert recognise(tmp_path / "notes.txt") is None
    (tmp_path / "cases.csv").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="holds cases.csv, cases.json, expected one"):
        read_all(tmp_path, DataConfig(), DEFAULT_LABELS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must hold an object for each case"),
        ('{"npz": NaN}', "NaN is no number of JSON"),
        ('{"npz": "a", "npz": "b"}', "'npz' occurs twice"),
        ("{", "is not valid JSON: Expecting .* line 1 column 2"),
        ("[" * 100_000, "is nested 100000 deep, expected at most 16"),
        ('["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["]', "must hold an object"),
    ],
)
def test_lists_that_are_no_lists(tmp_path: Path, text, message):
    (tmp_path / "cases.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_all(tmp_path, DataConfig(), DEFAULT_LABELS)

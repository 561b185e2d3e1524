"""The reader "list": what lists say is what cases give, and what they say wrongly is told in one line."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
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
        ("[" * 100_000, "is nested more than 16 deep"),
        ('{"a": "\\"' + "[{" * 20 + '"}', "the column 'a' is not known"),
        ('["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["]', "must hold an object"),
    ],
)
def test_lists_that_are_no_lists(tmp_path: Path, text, message):
    (tmp_path / "cases.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_all(tmp_path, DataConfig(), DEFAULT_LABELS)


def picture(path, array):
    """A PNG of this array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.asarray(array, np.uint8)), str(path))


@pytest.fixture
def pictures(tmp_path):
    """Two pictures of 4×5 pixels below ``p7`` and ``p9``; anna marked 6 and 1 pixels, ben 2 in the first alone."""
    for patient, marks in (("p7", {"anna": 6, "ben": 2}), ("p9", {"anna": 1})):
        picture(tmp_path / patient / "image.png", np.arange(20).reshape(4, 5) * 10)
        for rater, count in marks.items():
            picture(tmp_path / patient / f"{rater}.png", (np.arange(20) < count).reshape(4, 5) * 255)
    return tmp_path


def table(folder, text, name="cases.csv", encoding="utf-8", config=None, labels=DEFAULT_LABELS):
    (folder / name).write_bytes(text.encode(encoding))
    return read_all(folder, config or DataConfig(), labels)


ROWS = [
    ["image", "rater_anna", "rater_ben", "subject", "part", "spacing"],
    ["p7/image.png", "p7/anna.png", "p7/ben.png", "7", "train", "0.5"],
    ["p9/image.png", "p9/anna.png", "empty", "9", "test", "0,25 x 0,75"],
]


@pytest.mark.parametrize(
    ("delimiter", "name", "encoding", "end"),
    [
        (";", "cases.csv", "utf-8-sig", "\r\n"),
        ("\t", "cases.tsv", "utf-8", "\n"),
        (";", "cases.csv", "utf-8", "\r"),
        (",", "cases.csv", "utf-8", "\n"),
    ],
)
def test_a_table_of_files(pictures, delimiter, name, encoding, end):
    rows = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in ROWS]
    a, b = table(pictures, end.join(delimiter.join(row) for row in [*rows, [""] * 6]), name, encoding)
    assert (a.identity, a.subject, a.part, a.rater_names) == ("p7/image", "7", "train", ("anna", "ben"))
    assert (b.identity, b.subject, b.part, b.rater_names) == ("p9/image", "9", "test", ("anna", "ben"))
    values, geometry, masks = load_case(a, 1)
    assert values.ravel().tolist() == list(range(0, 200, 10)) and geometry.spacing_mm == (0.5, 0.5, 1)
    assert masks.sum((1, 2, 3)).tolist() == [6, 2] and b.load_masks().sum((1, 2, 3)).tolist() == [1, 0]
    assert b.load_image()[1].spacing_mm == (0.75, 0.25, 1)  # columns, rows


def test_an_empty_cell_is_a_rater_who_did_not_read_the_case(pictures):
    text = "image,mask_1,LABEL\np7/image.png,p7/anna.png,p7/ben.png\np9/image.png,p9/anna.png,\n"
    a, b = table(pictures, text, config=DataConfig(subject_pattern=r"p(\d)", size=(8, 10), spacing_mm=2))
    assert (a.rater_names, b.rater_names, a.subject) == (("1", "LABEL"), ("1",), "7")
    assert a.load_image()[1].spacing_mm == (4, 4, 1)  # 8 × 2 mm over 4 pixels


def test_json_says_the_same_in_its_own_way(pictures):
    entries = [
        {"image": "p7/image.png", "raters": {"anna": "p7/anna.png", "ben": "EMPTY"}, "spacing": [0.5, 1], "subject": 7},
        {"image": "p9/image.png", "raters": {"ben": None, "anna": "p9/anna.png"}, "identity": "nine", "modality": "US"},
    ]
    (pictures / "cases.json").write_text(json.dumps(entries), encoding="utf-8")
    a, b = read_all(pictures, DataConfig(), DEFAULT_LABELS)
    assert (a.subject, a.rater_names, a.load_image()[1].spacing_mm) == ("7", ("anna", "ben"), (1, 0.5, 1))
    assert (b.identity, b.subject, b.modality, b.rater_names) == ("nine", "nine", "US", ("anna",))
    assert a.load_masks().sum((1, 2, 3)).tolist() == [6, 0]


def test_channels_by_name_and_by_order(pictures):
    entry = {"image_A": "p7/image.png", "image_B": "p7/anna.png", "rater": "p7/ben.png"}
    (pictures / "cases.json").write_text(json.dumps([entry]), encoding="utf-8")
    for channels, names in ((("b", "a"), ["anna", "image"]), (("b",), ["anna"]), (("x", "y"), ["image", "anna"])):
        (case,) = read_all(pictures, DataConfig(channels=channels), DEFAULT_LABELS)
        assert [path.stem for path in case.images] == names and case.rater_names == ("rater",)
    entry = {"images": ["p7/image.png", "p7/anna.png"], "masks": ["p7/ben.png", "empty"]}
    (pictures / "cases.json").write_text(json.dumps([entry]), encoding="utf-8")
    (case,) = read_all(pictures, DataConfig(), DEFAULT_LABELS)
    assert case.load_image()[0].shape == (2, 1, 4, 5) and case.rater_names == ("1", "2")


def test_volumes_keep_their_grid_and_lists_may_lie_elsewhere(tmp_path):
    scan = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    scan.SetSpacing((0.5, 0.75, 3.0))
    marks = sitk.GetImageFromArray((np.arange(60) < 9).astype(np.uint8).reshape(3, 4, 5))
    marks.CopyInformation(scan)
    for name, image in (("ct", scan), ("m#1", marks)):
        (tmp_path / "scans").mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / "scans" / f"{name}.nii.gz"))
    (tmp_path / "lists").mkdir()
    (case,) = table(tmp_path / "lists", "image,rater\n..\\scans\\ct.nii.gz,../scans/m#1.nii.gz\n")
    _, geometry, masks = load_case(case, 1)
    assert case.identity == "ct" and geometry.spacing_mm == (0.5, 0.75, 3) and masks.sum() == 9
    with pytest.raises(ValueError, match="line 2: a spacing is told, but .*ct.nii.gz is no picture and knows its own"):
        table(tmp_path / "lists", "image,rater,spacing\n../scans/ct.nii.gz,../scans/m#1.nii.gz,1\n")


def test_cases_elsewhere_are_named_below_the_folder_they_share(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    rows = "".join(f"{pictures / p / 'image.png'},{pictures / p / 'anna.png'}\n" for p in ("p7", "p9"))
    for channels in (("image",), ("x",)):
        config = DataConfig(channels=channels)
        assert [c.identity for c in table(folder, f"image,rater\n{rows}", config=config)] == ["p7/image", "p9/image"]
    picture(folder / "own.png", np.arange(20).reshape(4, 5))
    mixed = table(folder, f"image,rater\n{rows}own.png,empty\n")
    assert [case.identity.split("/")[-2:] for case in mixed[:2]] == [["p7", "image"], ["p9", "image"]]
    assert len({case.identity for case in mixed}) == 3 and str(folder) not in mixed[2].identity


def test_a_segment_of_a_file_is_a_rater(tmp_path):
    shape = (2, 3, 4)
    layers = np.zeros((*shape, 2), np.uint8)
    layers[0, 0, :, 0], layers[1, 1, :3, 1] = 1, 1
    image = sitk.GetImageFromArray(layers, isVector=True)
    for k, name in enumerate(("anna b", "ben")):
        for key, value in (("ID", f"s{k}"), ("Name", name), ("Layer", str(k)), ("LabelValue", "1")):
            image.SetMetaData(f"Segment{k}_{key}", value)
    sitk.WriteImage(image, str(tmp_path / "both.seg.nrrd"))
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(shape)), str(tmp_path / "ct.nrrd"))
    (case,) = table(tmp_path, "image,rater_1,rater_2\nct.nrrd,both.seg.nrrd#anna b,both.seg.nrrd#ben\n")
    assert load_case(case, 1)[2].sum((1, 2, 3)).tolist() == [4, 3]
    with pytest.raises(ValueError, match="the mask .*both.seg.nrrd#ben is listed before"):
        table(tmp_path, "image,rater_1,rater_2\nct.nrrd,both.seg.nrrd#ben,both.seg.nrrd#ben\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,rater,colour\n", "no cases found"),
        ("image,rater,colour\nROW,\n", "the column 'colour' is not known; the columns are image"),
        ("image,subject\np7/image.png,1\n", "no column of raters, such as rater or rater_NAME"),
        ("rater,subject\np7/ben.png,1\n", "no column of images"),
        ("image,rater_1,mask_1\nROW,\n", "two of the columns image, rater_1, mask_1 mean the same"),
        ("image,rater,Rater\nROW,\n", "each column needs a name of its own"),
        ("image,rater,\nROW,\n", "each column needs a name of its own"),
        ("image,rater\np7/image.png\n", "line 2: 1 cells, expected 2"),
        ("image,rater\nROW,x\n", "line 2: 3 cells, expected 2"),
        ("image,rater\n,p7/ben.png\n", "line 2: the column image is empty"),
        ("image,rater\np7/image.png,\n", "line 2: nobody has read it, rater being empty; write empty"),
        ("image,rater\np7/image.png,p7/x.png\np7/image2.png,p7/y.png\n", "3 of the files .*x.png .line 2., .*line 3."),
        ("image,rater\nROW\np7/image.png,p7/anna.png\n", "line 3: the case 'p7/image' is listed before"),
        ("image,rater,identity\nROW,a\np7/../p7/image.png,p7/anna.png,b\n", "the image .* listed before"),
        ("image,rater\nROW\np9/image.png,p7/ben.png\n", "the mask .*ben.png is listed before, in line 2"),
        ("image,rater,part\nROW,val\n", "unknown part 'val'; the parts are train"),
        ("image,rater,spacing\nROW,0\n", "the spacing is '0', expected positive mm"),
        ("image,rater,spacing\nROW,nan\n", "the spacing is 'nan'"),
        ("image,rater,spacing\nROW,1 2 3\n", "the spacing is '1 2 3'"),
        ('image,rater\n"ROW\n', "after line 1: unexpected end of data"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit(pictures, text, message):
    with pytest.raises(ValueError, match=message) as told:
        table(pictures, text.replace("ROW", "p7/image.png,p7/ben.png"))
    assert "\n" not in str(told.value)


def test_many_missing_files_are_counted(pictures):
    lines = "".join(f"p7/image{k}.png,empty\n" for k in range(1200))
    with pytest.raises(ValueError, match=r"1200 of the files .*image0.png .line 2., .*, .*line 4. and 1197 more"):
        table(pictures, f"image,rater\n{lines}")


def test_a_table_in_another_encoding_is_refused(pictures):
    with pytest.raises(ValueError, match="cases.csv is not UTF-8 .byte 0.; save it as CSV UTF-8"):
        table(pictures, "image,rater\n", encoding="utf-16")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": 7, "rater": "empty"}, "entry 1: the column image holds 7, expected the path of a file"),
        ({"image": "p7/image.png", "rater": {"a": {"b": 1}}}, "entry 1: the column rater_a holds {'b': 1}"),
        ({"image": "p7/image.png", "rater": "empty", "subject": ["a"]}, "entry 1: subject is .'a'., expected one text"),
        ({"image": "p7/image.png", "rater": "empty", "shape": 1}, "the column 'shape' is not known"),
    ],
)
def test_entries_that_do_not_fit(pictures, entry, message):
    (pictures / "cases.json").write_text(json.dumps([entry]), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_all(pictures, DataConfig(), DEFAULT_LABELS)


def test_json_of_other_kinds_is_no_list(tmp_path):
    for name, content, found in (
        ("dataset.json", {"labels": {}, "training": []}, False),
        ("settings.json", [], False),
        ("a.json", [{"Image": "x"}], True),
        ("b.json", {"npz": "x"}, True),
    ):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        assert (recognise(tmp_path / name) is not None) == found


@pytest.mark.parametrize(
    ("content", "channels"),
    [
        ("image_T1;image_t2;rater\n", ("T1", "t2")),
        ("image;rater\n", ()),
        ('[{"images": {"T1": "a", "ADC": "b"}, "rater": "c"}]', ("T1", "ADC")),
        ('[{"images": ["a", "b"], "rater": "c"}]', ()),
        ("image;colour\n", ()),
        ("[", ()),
    ],
)
def test_a_list_names_its_channels(tmp_path, content, channels):
    name = "cases.json" if content.startswith("[") else "cases.csv"
    (tmp_path / name).write_text(content, encoding="utf-8")
    for place in (tmp_path, tmp_path / name):
        assert getattr(recognise(place), "channels", ()) == channels


def test_a_file_of_one_segment_is_its_raters_whatever_its_name(tmp_path):
    scan = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    marks = sitk.GetImageFromArray((np.arange(24) < 5).astype(np.uint8).reshape(2, 3, 4))
    for key, value in (("ID", "s"), ("Name", "Segment_1"), ("Layer", "0"), ("LabelValue", "1")):
        marks.SetMetaData(f"Segment0_{key}", value)
    sitk.WriteImage(scan, str(tmp_path / "ct.nrrd"))
    sitk.WriteImage(marks, str(tmp_path / "m.seg.nrrd"))
    (case,) = table(tmp_path, "image,rater_eva\nct.nrrd,m.seg.nrrd\n")
    assert case.rater_names == ("eva",) and load_case(case, 1)[2].sum() == 5


def test_a_dicom_series_tells_its_modality(tmp_path):
    folder = shared_path("data/ct_head_dicom")
    (case,) = table(tmp_path, f"image,rater,identity\n{folder},empty,head\n")
    values, geometry, masks = load_case(case, 1)
    assert (case.identity, case.modality, values.shape) == ("head", "CT", (1, 93, 64, 64))
    assert geometry.spacing_mm == pytest.approx((3.2, 3.2, 1.5), abs=0.1) and not masks.any()

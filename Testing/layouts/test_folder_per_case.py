"""Folders of cases: what is read, under which names, and what is refused with which words."""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from shared_data import shared_path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, load_case, read_all, recognised
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label

CLASSES = (Label("core"), Label("halo"))


def write(file: Path, values: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=values.ndim == 3 and values.shape[-1] == 3), str(file))
    return file


def square(size: tuple[int, int] = (8, 10), value: int = 255) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[2:5, 3:7] = value
    return mask


def ramp(dtype=np.uint8, size: tuple[int, int] = (8, 10)) -> np.ndarray:
    return np.linspace(0, np.iinfo(dtype).max, size[0] * size[1]).astype(dtype).reshape(size)


def read(folder: Path, labels=DEFAULT_LABELS, **config):
    return READERS["folder"](folder, DataConfig(**config), labels)


def refused(match: str):
    return pytest.raises(ValueError, match=rf"\A[^\n]*{match}[^\n]*\Z")


@pytest.fixture
def case_folder(tmp_path) -> Path:
    write(tmp_path / "c/image.png", ramp())
    write(tmp_path / "c/label0.png", square())
    return tmp_path


def test_both_published_layouts_are_read_by_one_rule(tmp_path):
    write(tmp_path / "10/image_11.png", ramp())
    write(tmp_path / "2/image_3.tif", ramp())
    for rater in (10, 2, 0):
        write(tmp_path / f"2/label{rater}_.png", square())
        write(tmp_path / f"10/label{rater}_.png", square())
    write(tmp_path / "a/b/image.png", ramp())
    write(tmp_path / "a/b/rater_Person1_Amira.png", square())
    (tmp_path / "a/notes.txt").write_text("no case", encoding="utf-8")
    cases = read(tmp_path)
    assert [c.identity for c in cases] == [c.subject for c in cases] == ["2", "10", "a/b"]
    assert [c.group for c in cases] == ["", "", "a"] and {c.part for c in cases} == {""}
    assert cases[0].rater_names == ("label0", "label2", "label10")
    assert cases[2].rater_names == ("Person1_Amira",)
    assert read(tmp_path / "a/b")[0].identity == "b"
    assert pickle.loads(pickle.dumps(cases)) == cases and len(set(cases)) == 3
    assert recognised(tmp_path) == (
        "folder",
        "a folder for each case: 2 with image_3.tif and label0_.png, label2_.png, label10_.png",
    )


def test_raters_are_named_behind_what_says_that_they_are_masks(tmp_path):
    write(tmp_path / "c/image.png", ramp())
    for name in ("rater_anna", "mask_ben", "Seg-cleo", "segmentation_dora", "label_eve", "mask", "masks_2", "label3"):
        write(tmp_path / f"c/{name}.png", square())
    (case,) = read(tmp_path)
    assert set(case.rater_names) == {"anna", "ben", "cleo", "dora", "label_eve", "mask", "2", "label3"}
    write(tmp_path / "c/mask_anna.bmp", square())
    with refused("/c: 2 masks of rater 'anna', expected one: rename or remove one of .*mask_anna.bmp.*rater_anna.png"):
        read(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_keep_their_stored_values(tmp_path, dtype, suffix):
    values = ramp(dtype) // 2
    write(tmp_path / f"c/image.{suffix}", values)
    write(tmp_path / "c/label0.png", square())
    (case,) = read(tmp_path)
    image, geometry, _ = load_case(case, 1)
    np.testing.assert_array_equal(image, values[None, None])
    assert geometry.size == (10, 8, 1) and geometry.spacing_mm == (1, 1, 1)


def test_pictures_have_the_pixels_that_the_configuration_tells(case_folder):
    (case,) = read(case_folder, size=(64, 40), spacing_mm=0.25)  # a field of 16 × 10 mm on 8 × 10 pixels
    assert case.load_image()[1].spacing_mm == (1.0, 2.0, 1.0)
    case_folder.joinpath("c/image.png").unlink()
    sitk.WriteImage(sitk.GetImageFromArray(ramp()), str(case_folder / "c/image.nrrd"))
    assert read(case_folder, size=(64, 40), spacing_mm=0.25)[0].field_mm is None


def test_files_and_components_become_channels_in_order(tmp_path):
    colours = np.stack([ramp(), ramp() // 2, ramp() // 4], axis=-1)
    write(tmp_path / "c/image_1.png", colours)
    write(tmp_path / "c/image_10.png", ramp() // 8)
    write(tmp_path / "c/image_2.tif", ramp() // 3)
    write(tmp_path / "c/rater_x.png", square())
    image, _ = read(tmp_path)[0].load_image()
    np.testing.assert_array_equal(image[:3, 0], np.moveaxis(colours, -1, 0))
    np.testing.assert_array_equal(image[3:, 0], [ramp() // 3, ramp() // 8])
    write(tmp_path / "c/image_2.tif", ramp(np.uint16))
    mixed, _ = read(tmp_path)[0].load_image()
    np.testing.assert_array_equal(mixed[:, 0], [*np.moveaxis(colours, -1, 0), ramp(np.uint16), ramp() // 8])
    assert (image.dtype, mixed.dtype) == (np.uint8, np.float32)


def test_channels_are_chosen_by_their_names(tmp_path, caplog):
    for case in "ab":
        for factor, name in enumerate(("flair", "T1", "t2"), start=1):
            write(tmp_path / f"{case}/image_{name}.png", ramp() // factor)
        write(tmp_path / f"{case}/label.png", square())
    names = [[path.name for path in case.images] for case in read(tmp_path)]
    assert names == [["image_T1.png", "image_flair.png", "image_t2.png"]] * 2 and not caplog.text
    case, _ = read(tmp_path, channels=("t1", "Flair"))
    assert [path.name for path in case.images] == ["image_T1.png", "image_flair.png"]
    assert caplog.text.count("Of the images flair, t1, t2 only those of dataset.channels are read") == 1
    with refused("/a: no image of the channel pd, expected one beside those of t1"):
        read(tmp_path, channels=("t1", "pd"))
    (tmp_path / "b/image_t2.png").rename(tmp_path / "b/image_pd.png")
    with refused("/b: images flair, pd, t1, but flair, t1, t2 in a: name the channels alike"):
        read(tmp_path)
    write(tmp_path / "b/image_flair.tif", ramp())
    with refused("/b: image_flair.png and image_flair.tif are the same channel"):
        read(tmp_path)


def test_masks_of_any_number_of_raters_and_empty_ones_stay(tmp_path):
    write(tmp_path / "c/image.png", ramp())
    write(tmp_path / "c/label0.png", square())
    write(tmp_path / "c/label1.png", square(value=1))
    write(tmp_path / "c/label2.png", square(value=0))
    write(tmp_path / "c/label3.tif", np.where(square() > 0, 65535, 0).astype(np.uint16))
    masks = read(tmp_path)[0].load_masks()
    assert masks.dtype == np.uint8
    for mask, expected in zip(masks, [1, 1, 0, 1], strict=True):
        np.testing.assert_array_equal(mask[0], (square() > 0) & bool(expected))


def test_jpeg_masks_are_cut_at_half_of_full_scale(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[20:43, 17:50] = 255
    write(tmp_path / "c/image.jpg", ramp(size=(64, 64)))
    file = write(tmp_path / "c/label0_.jpg", mask)
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    assert np.sum(stored > 0) > np.sum(mask > 0)  # the halo that a threshold at 0 would turn into lesion
    np.testing.assert_array_equal(read(tmp_path)[0].load_masks()[0, 0], mask > 0)

    write(file, mask // 255 * 20)
    with refused("label0_.jpg: mask is not black and white"):
        read(tmp_path)[0].load_masks()


def test_layouts_without_sense_are_refused(case_folder, tmp_path):
    with refused("nowhere: cannot be listed"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with refused("empty: no cases found"):
        read(tmp_path / "empty")
    write(tmp_path / "d/image.png", ramp())
    with refused("/d: no raters"):
        read(tmp_path)
    (tmp_path / "d/image.png").rename(tmp_path / "d/label0.png")
    with refused("/d: no image"):
        read(tmp_path)
    write(case_folder / "c/label0_.png", square())
    with refused("2 masks of rater 'label0'"):
        read(tmp_path / "c")
    (case_folder / "c/label0_.png").rename(case_folder / "c/label1.npy")
    with refused("label1.npy: not of a format that is read"):
        read(tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("image.tif", np.zeros((4, 8, 10), np.uint8), r"label0.png is not on the grid of image.tif: size \(10, 8, 4\)"),
        ("image_2.png", np.zeros((8, 11), np.uint8), r"image_2.png is not on the grid of image.png: .*\(11, 8, 1\)"),
        ("label1.png", np.zeros((10, 8), np.uint8), r"label1.png is not on the grid of image.png: .*\(8, 10, 1\)"),
        ("label1.nrrd", np.zeros((2, 8, 10), np.uint8), r"label1.nrrd is not on the grid of image.png"),
    ],
)
def test_grids_that_do_not_fit_are_refused_by_their_headers(case_folder, name, values, words):
    if name == "image.tif":
        (case_folder / "c/image.png").unlink()
    write(case_folder / "c" / name, values)
    with refused(words):
        read(case_folder)


def test_a_mask_in_colours_must_say_one_thing(case_folder):
    write(case_folder / "c/label0.png", np.stack([square()] * 3, -1))
    np.testing.assert_array_equal(read(case_folder)[0].load_masks()[0, 0], square() > 0)
    write(case_folder / "c/label0.png", np.stack([square(), square() * 0, square()], -1))
    with refused("label0.png holds 3 colours"):
        read(case_folder)[0].load_masks()


def test_a_lossless_mask_with_more_than_two_values_is_refused(case_folder):
    mask = square()
    mask[2, 3] = 128
    write(case_folder / "c/label0.png", mask)
    with refused("label0.png is not a binary mask: it holds 3 values"):
        read(case_folder)[0].load_masks()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    file = write(tmp_path / f"c/image.{suffix}", noise)
    write(tmp_path / "c/label0.png", square((64, 64)))
    assert read(tmp_path)[0].load_image()[0].shape == (1, 1, 64, 64)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with refused(f"image.{suffix}"):
        read(tmp_path)[0].load_image()


def test_cases_with_different_numbers_of_channels_are_refused(case_folder):
    write(case_folder / "d/image.png", np.stack([ramp()] * 3, -1))
    write(case_folder / "d/label0.png", square())
    with refused("/d: 3 channels, but 1 in c"):
        read(case_folder)


def test_subjects_come_from_the_identity(case_folder):
    write(case_folder / "s/p7_slice3/image.png", ramp())
    write(case_folder / "s/p7_slice3/label0.png", square())
    assert [c.subject for c in read(case_folder)] == ["c", "s/p7_slice3"]
    assert [c.subject for c in read(case_folder / "s", subject_pattern=r"(p\d+)_")] == ["p7"]
    with refused("/c: subject_pattern .* is not found in 'c'"):
        read(case_folder, subject_pattern=r"(p\d+)_")
    with refused("has 2 groups"):
        read(case_folder, subject_pattern=r"(p)(\d+)_")


def test_folders_named_as_parts_are_parts_of_the_split(tmp_path):
    for place in ("aorta/train/a", "aorta/test/b", "Validation/c", "d"):
        write(tmp_path / place / "image.png", ramp())
        write(tmp_path / place / "label.png", square())
    found = {case.identity: (case.group, case.part) for case in read(tmp_path)}
    assert found == {
        "aorta/train/a": ("aorta", "train"),
        "aorta/test/b": ("aorta", "test"),
        "Validation/c": ("", "validation"),
        "d": ("", ""),
    }


def test_label_maps_are_read_as_they_are(tmp_path):
    values = np.random.default_rng(1).integers(0, 3, (8, 10))
    write(tmp_path / "c/image.png", ramp())
    write(tmp_path / "c/label0.png", values.astype(np.uint8))
    write(tmp_path / "c/label1.tif", values.astype(np.uint16))
    write(tmp_path / "c/label2.png", np.zeros((8, 10), np.uint8))
    (case,) = read(tmp_path, CLASSES)
    masks = case.load_masks()
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks[:, 0], np.stack([values, values, np.zeros_like(values)]))
    with refused("label0.png is not a binary mask: it holds 3 values"):
        read(tmp_path)[0].load_masks()

    write(tmp_path / "c/label1.tif", np.where(values == 2, 257, values).astype(np.uint16))  # 1 in eight bits
    with refused("label1.tif is not a label map of 2 classes: it holds 3 values .*257"):
        read(tmp_path, CLASSES)[0].load_masks()
    write(tmp_path / "c/label3.jpg", np.zeros((8, 10), np.uint8))
    (tmp_path / "c/label1.tif").unlink()
    with refused("label3.jpg: JPEG blurs labels"):
        read(tmp_path, CLASSES)[0].load_masks()


def test_what_lies_beside_a_case_does_no_harm(case_folder, caplog):
    for name in ("c/._image.png", "c/.DS_Store", "c/.ipynb_checkpoints/image.png", "__MACOSX/c/image.png", "readme.md"):
        (case_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (case_folder / name).write_bytes(b"?")
    (case_folder / "c/labels.json").write_text("{}", encoding="utf-8")
    sitk.WriteImage(sitk.GetImageFromArray(square()), str(case_folder / "c/label1.mhd"))  # and label1.raw
    (case,) = read(case_folder)
    assert case.rater_names == ("label0", "label1")
    np.testing.assert_array_equal(case.load_masks()[:, 0], [square() > 0] * 2)
    assert re.findall(r"1 file\(s\) left out, as they are no images: \S*c/labels.json\.", caplog.text)


def test_links_to_cases_are_followed(case_folder):
    (case_folder / "data").mkdir()
    (case_folder / "data/linked").symlink_to(case_folder / "c")
    (case_folder / "data/linked_again").symlink_to(case_folder / "c")
    (case_folder / "data/circle").symlink_to(case_folder / "data")
    assert [case.identity for case in read(case_folder / "data")] == ["linked"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf_8_are_left_out_and_told(case_folder, caplog):
    bad = case_folder / "c" / os.fsdecode(b"label_\xe9.png")
    bad.write_bytes(b"")
    (case_folder / os.fsdecode(b"caf\xe9")).mkdir()
    assert [case.rater_names for case in read(case_folder)] == [("label0",)]
    assert "c/label_\\xe9.png is left out, as its name is not UTF-8; rename it." in caplog.text
    assert "caf\\xe9 is left out" in caplog.text


def test_a_recogniser_never_raises_and_general_layouts_exclude_each_other(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path, tmp_path / "file", tmp_path / "missing", tmp_path / "loop"):
        assert LAYOUTS["folder"](place) is None and LAYOUTS["raters"](place) is None
    write(tmp_path / "p1/images/s.png", ramp())
    write(tmp_path / "p1/masks/s.png", square())
    write(tmp_path / "p2/image.png", ramp())
    write(tmp_path / "p2/label.png", square())
    assert LAYOUTS["folder"](tmp_path) is None and LAYOUTS["raters"](tmp_path) is not None
    write(tmp_path / "image.png", ramp())
    write(tmp_path / "label.png", square())
    assert LAYOUTS["raters"](tmp_path / "p1") is not None
    assert "case: itself with image.png and label.png" in LAYOUTS["folder"](tmp_path).words
    assert LAYOUTS["raters"](tmp_path) is None


def test_lidc_crops():
    folder = shared_path("data/lidc_crops")
    cases = read_all(folder, DataConfig(), DEFAULT_LABELS)
    assert len(cases) == 19 and {c.rater_names for c in cases} == {("label0", "label1", "label2", "label3")}
    masks = [c.load_masks() for c in cases]
    empty = Counter(int((~m.any(axis=(1, 2, 3))).sum()) for m in masks)
    assert empty[3] == 4  # the README of the data: four cases have three empty raters out of four
    assert {c.load_image()[0].shape for c in cases} == {(1, 1, 128, 128)}


@pytest.mark.slow
def test_bu_bil():
    cases = read_all(shared_path("data/bu_bil"), DataConfig(), DEFAULT_LABELS)
    assert len(cases) == 213
    assert Counter(c.group for c in cases) == {
        "fibroblasts": 33, "lu_melanoma": 43, "rabbit_aorta_mri": 24, "rabbit_smooth_muscle": 48,
        "rat_smooth_muscle": 24, "wm993_melanoma": 41,
    }  # fmt: skip
    assert sum(len(c.raters) for c in cases) == 1785
    assert Counter(len(c.raters) for c in cases) == {7: 108, 9: 35, 10: 68, 17: 2}
    aorta = next(c for c in cases if c.identity == "rabbit_aorta_mri/TPre01")
    assert aorta.rater_names == tuple(f"crowd{i}" for i in range(1, 8))
    image, _, masks = load_case(aorta, 1)
    assert image.shape == (1, 1, 64, 64) and masks.shape == (7, 1, 64, 64)
    assert re.match(r"Person\d", next(c for c in cases if c.group == "rat_smooth_muscle").rater_names[0])
    muscle = [c.load_masks() for c in cases if c.group == "rabbit_smooth_muscle"]
    assert sum(int((~m.any(axis=(1, 2, 3))).sum()) for m in muscle) == 18

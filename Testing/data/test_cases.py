"""Folders of images and rater masks: what is read, and what is refused with which words."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from shared_data import shared_path

from AmbiguousSegLib.data.cases import check_cases, read_cases, read_folder
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import resized
from AmbiguousSegLib.labels import Label


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


def refused(match: str):
    return pytest.raises(ValueError, match=rf"\A[^\n]*{match}[^\n]*\Z")


def test_both_layouts_are_read_by_one_rule(tmp_path):
    write(tmp_path / "10/image_11.png", ramp())
    write(tmp_path / "2/image_3.tif", ramp())
    for rater in (10, 2, 0):
        write(tmp_path / f"2/label{rater}_.png", square())
        write(tmp_path / f"10/label{rater}_.png", square())
    write(tmp_path / "a/b/image.png", ramp())
    write(tmp_path / "a/b/rater_Person1_Amira.png", square())
    (tmp_path / "a/notes.txt").write_text("no case", encoding="utf-8")
    cases = read_cases(tmp_path)
    assert [c.identity for c in cases] == ["2", "10", "a/b"]
    assert [c.group for c in cases] == ["", "", "a"]
    assert cases[0].rater_names == ("label0", "label2", "label10")
    assert cases[2].rater_names == ("Person1_Amira",)
    assert check_cases(cases) == 1
    assert read_cases(tmp_path / "a/b")[0].identity == "b"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_images_are_scaled_by_the_full_scale_of_their_type(tmp_path, dtype, suffix):
    values = ramp(dtype) // 2  # never stretched to their own range
    write(tmp_path / f"c/image.{suffix}", values)
    write(tmp_path / "c/label0.png", square())
    image = read_cases(tmp_path)[0].load_image()
    assert image.dtype == np.float32 and image.shape == (1, 8, 10)
    np.testing.assert_allclose(image[0], values / np.iinfo(dtype).max, rtol=1e-6)


def test_files_and_components_become_channels_in_order(tmp_path):
    colours = np.stack([ramp(), ramp() // 2, ramp() // 4], axis=-1)
    write(tmp_path / "c/image_1.png", colours)
    write(tmp_path / "c/image_10.png", np.full((8, 10), 51, np.uint8))
    write(tmp_path / "c/image_2.tif", np.full((8, 10), 13107, np.uint16))
    write(tmp_path / "c/rater_x.png", square())
    cases = read_cases(tmp_path)
    image = cases[0].load_image()
    assert check_cases(cases) == 5 == len(image)
    np.testing.assert_allclose(image[:3], np.moveaxis(colours, -1, 0) / 255, rtol=1e-6)
    np.testing.assert_allclose(image[3:], 0.2, rtol=1e-6)


def test_masks_of_any_number_of_raters_and_empty_ones_stay(tmp_path):
    write(tmp_path / "c/image.png", ramp())
    write(tmp_path / "c/label0.png", square())
    write(tmp_path / "c/label1.png", square(value=1))
    write(tmp_path / "c/label2.png", square(value=0))
    write(tmp_path / "c/label3.tif", np.where(square() > 0, 65535, 0).astype(np.uint16))
    masks = read_cases(tmp_path)[0].load_masks()
    assert masks.dtype == np.uint8
    for mask, expected in zip(masks, [1, 1, 0, 1], strict=True):
        np.testing.assert_array_equal(mask, (square() > 0) & bool(expected))


def test_jpeg_masks_are_cut_at_half_of_full_scale(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[20:43, 17:50] = 255
    write(tmp_path / "c/image.jpg", np.full((64, 64), 128, np.uint8))
    file = write(tmp_path / "c/label0_.jpg", mask)
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    assert np.sum(stored > 0) > np.sum(mask > 0)  # the halo that a threshold at 0 would turn into lesion
    np.testing.assert_array_equal(read_cases(tmp_path)[0].load_masks()[0], mask > 0)

    write(file, mask // 255 * 20)
    with refused("label0_.jpg: mask is not black and white"):
        read_cases(tmp_path)[0].load_masks()


@pytest.fixture
def case_folder(tmp_path) -> Path:
    write(tmp_path / "c/image.png", ramp())
    write(tmp_path / "c/label0.png", square())
    return tmp_path


def test_layouts_without_sense_are_refused(case_folder, tmp_path):
    with refused("nowhere: cannot be listed"):
        read_cases(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with refused("empty: no cases found"):
        read_cases(tmp_path / "empty")
    write(tmp_path / "d/image.png", ramp())
    with refused("/d: no raters"):
        read_cases(tmp_path)
    (tmp_path / "d/image.png").rename(tmp_path / "d/label0.png")
    with refused("/d: no image"):
        read_cases(tmp_path)
    write(case_folder / "c/label0_.png", square())
    with refused("2 masks of rater 'label0'"):
        read_cases(tmp_path / "c")
    (case_folder / "c/label0_.png").rename(case_folder / "c/label1.bmp")
    with refused("label1.bmp: not one of"):
        read_cases(tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("image.tif", np.zeros((8, 10), np.float32), "image.tif: pixels are 32-bit float, expected 8- or 16-bit"),
        ("image.tif", np.zeros((8, 10), np.int16), "16-bit signed"),
        ("image.tif", np.zeros((4, 8, 10), np.uint8), "image.tif: a stack of 4 pages"),
        ("image_2.png", np.zeros((8, 11), np.uint8), r"image_2.png: 8 × 11 pixels .* image.png has 8 × 10"),
        ("label1.png", np.zeros((10, 8), np.uint8), r"label1.png: 10 × 8 pixels .* image.png has 8 × 10"),
        ("label1.png", np.zeros((8, 10, 3), np.uint8), "label1.png: mask has 3 components"),
    ],
)
def test_headers_that_do_not_fit_are_refused_by_the_check_and_by_loading(case_folder, name, values, words):
    if name == "image.tif":
        (case_folder / "c/image.png").unlink()
    write(case_folder / "c" / name, values)
    cases = read_cases(case_folder)
    with refused(words):
        check_cases(cases)
    with refused(words):
        cases[0].load_image()
        cases[0].load_masks()


def test_a_lossless_mask_with_more_than_two_values_is_refused(case_folder):
    mask = square()
    mask[2, 3] = 128
    write(case_folder / "c/label0.png", mask)
    with refused("label0.png: mask is not binary: 2 values beside 0"):
        read_cases(case_folder)[0].load_masks()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    file = write(tmp_path / f"c/image.{suffix}", noise)
    write(tmp_path / "c/label0.png", square((64, 64)))
    assert read_cases(tmp_path)[0].load_image().shape == (1, 64, 64)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with refused(f"image.{suffix}: (cannot be read|truncated)"):
        read_cases(tmp_path)[0].load_image()


def test_cases_with_different_numbers_of_channels_are_refused(case_folder):
    write(case_folder / "d/image_0.png", ramp())
    write(case_folder / "d/image_1.png", ramp())
    write(case_folder / "d/label0.png", square())
    with refused("/d: 2 channels, but 1 in c"):
        check_cases(read_cases(case_folder))
    with refused("No cases"):
        check_cases([])


def test_subjects_come_from_the_identity(case_folder):
    write(case_folder / "s/p7_slice3/image.png", ramp())
    write(case_folder / "s/p7_slice3/label0.png", square())
    assert [c.subject for c in read_cases(case_folder)] == ["c", "s/p7_slice3"]
    assert [c.subject for c in read_cases(case_folder / "s", r"(p\d+)_")] == ["p7"]
    with refused(r"subject_pattern '\(' is not a regular expression"):
        read_cases(case_folder, "(")
    with refused("/c: subject_pattern .* is not found in 'c'"):
        read_cases(case_folder, r"(p\d+)_")
    with refused("has 2 groups"):
        read_cases(case_folder, r"(p)(\d+)_")


def test_resizing_by_hand():
    mask = np.array([[[1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 0, 0]]], np.uint8)
    image = np.full((1, 4, 4), 0.25, np.float32)
    small_image, small = resized(image, mask, (2, 2))
    assert small.tolist() == [[[1, 0], [1, 1]]]  # shares 2/4, 1/4, 4/4, 2/4
    np.testing.assert_allclose(small_image, 0.25, rtol=1e-6)
    third = resized(image[:, :3, :3], mask[:, :3, :3], (2, 2))[1]
    assert third.tolist() == [[[1, 0], [1, 1]]]  # of 2.25: 1.5, 0.5 + 0, 1.5 of area, 1.5
    assert resized(image, mask, (8, 4))[1].tolist() == np.repeat(mask, 2, axis=1).tolist()
    same = resized(image, mask, (4, 4))
    assert same[0] is image and same[1] is mask


def test_resizing_labels_by_hand():
    """The label of the largest share of area, background among them; of equal shares the lowest, background last."""
    blocks = {
        (1, 1, 2, 0): 1,  # shares 2, 1 and 1 of background
        (2, 1, 2, 0): 2,
        (0, 0, 1, 2): 0,
        (1, 1, 2, 2): 1,
        (0, 2, 0, 2): 2,
        (1, 2, 3, 0): 1,
        (3, 2, 0, 0): 0,
        (3, 2, 3, 2): 2,
    }
    masks = np.array([np.reshape(block, (2, 2)) for block in blocks], np.uint8)
    image = np.zeros((1, 2, 2), np.float32)
    small = resized(image, masks, (1, 1))[1]
    assert small.dtype == np.uint8 and small[:, 0, 0].tolist() == list(blocks.values())
    larger = resized(image, masks, (4, 6))[1]
    np.testing.assert_array_equal(larger, masks.repeat(2, axis=1).repeat(3, axis=2))


@pytest.mark.parametrize("size", [(7, 9), (5, 31), (24, 24)])
def test_resizing_one_class_marks_what_is_at_least_half_covered(size):
    masks = (np.random.default_rng(0).random((3, 16, 18)) < 0.5).astype(np.uint8)
    fine = masks.repeat(size[0], axis=1).repeat(size[1], axis=2).astype(float)  # whole numbers of both pixels
    share = fine.reshape(3, size[0], 16, size[1], 18).mean(axis=(2, 4))
    np.testing.assert_array_equal(resized(np.zeros((1, 16, 18), np.float32), masks, size)[1], share >= 0.5 - 1e-9)


def test_label_maps_are_read_as_they_are(tmp_path):
    values = np.random.default_rng(1).integers(0, 3, (8, 10))
    write(tmp_path / "c/image.png", ramp())
    write(tmp_path / "c/label0.png", values.astype(np.uint8))
    write(tmp_path / "c/label1.tif", values.astype(np.uint16))
    write(tmp_path / "c/label2.png", np.zeros((8, 10), np.uint8))
    (case,) = read_folder(tmp_path, DataConfig(), (Label("core"), Label("halo")))
    masks = case.load_masks()
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks, np.stack([values, values, np.zeros_like(values)]))
    with refused("label0.png: mask is not binary: 2 values beside 0"):
        read_cases(tmp_path)[0].load_masks()

    write(tmp_path / "c/label1.tif", np.where(values == 2, 257, values).astype(np.uint16))  # 1 in eight bits
    with refused("label1.tif: mask holds the value 257, expected the labels 0 to 2"):
        read_cases(tmp_path, classes=2)[0].load_masks()
    write(tmp_path / "c/label3.jpg", np.zeros((8, 10), np.uint8))
    (tmp_path / "c/label1.tif").unlink()
    with refused("label3.jpg: JPEG blurs labels"):
        read_cases(tmp_path, classes=2)[0].load_masks()


def test_shrinking_an_image_keeps_its_mean_and_no_alias():
    stripes = np.tile(np.array([0, 1], np.float32), (1, 64, 32))
    small = resized(stripes, np.zeros((1, 64, 64), np.uint8), (16, 16))[0]
    np.testing.assert_allclose(small[0, 2:-2, 2:-2], 0.5, atol=0.02)


def test_lidc_crops():
    cases = read_cases(shared_path("data/lidc_crops"))
    assert len(cases) == 19 and {len(c.mask_files) for c in cases} == {4}
    assert check_cases(cases) == 1
    empty = Counter(int((~c.load_masks().any(axis=(1, 2))).sum()) for c in cases)
    assert empty[3] == 4  # the README of the data: four cases have three empty raters out of four
    assert {c.load_image().shape for c in cases} == {(1, 128, 128)}


@pytest.mark.slow
def test_bu_bil():
    cases = read_cases(shared_path("data/bu_bil"))
    assert len(cases) == 213
    assert Counter(c.group for c in cases) == {
        "fibroblasts": 33, "lu_melanoma": 43, "rabbit_aorta_mri": 24, "rabbit_smooth_muscle": 48,
        "rat_smooth_muscle": 24, "wm993_melanoma": 41,
    }  # fmt: skip
    assert sum(len(c.mask_files) for c in cases) == 1785
    assert Counter(len(c.mask_files) for c in cases) == {7: 108, 9: 35, 10: 68, 17: 2}
    assert check_cases(cases) == 1
    aorta = next(c for c in cases if c.identity == "rabbit_aorta_mri/TPre01")
    assert aorta.rater_names == tuple(f"crowd{i}" for i in range(1, 8))
    image, masks = aorta.load_image(), aorta.load_masks()
    assert image.shape == (1, 64, 64) and masks.shape == (7, 64, 64)
    assert re.match(r"Person\d", next(c for c in cases if c.group == "rat_smooth_muscle").rater_names[0])
    muscle = [c.load_masks() for c in cases if c.group == "rabbit_smooth_muscle"]
    assert sum(int((~m.any(axis=(1, 2))).sum()) for m in muscle) == 18

"""A folder for each rater: which masks belong to which image, and what is said of those that belong to none."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, load_case, recognised
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.volume.geometry import Geometry

RAMP = np.arange(80, dtype=np.uint8).reshape(8, 10)


def write(root: Path, *names: str, values: np.ndarray | None = None) -> None:
    """Images, or masks that differ from each other: an L whose long side tells the name's place in the call."""
    for k, name in enumerate(names):
        mask = np.zeros((8, 10), np.uint8)
        mask[1 : 3 + k, 2] = mask[1, 2:5] = 255
        picture = RAMP if name.split("/")[-2 if name.count("/") == 1 else 0].startswith("im") else mask
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(picture if values is None else values), str(root / name))


def read(folder: Path, labels=DEFAULT_LABELS, **config):
    return READERS["raters"](folder, DataConfig(**config), labels)


def told(cases) -> dict[str, dict[str, str]]:
    """File of each rater in each case."""
    return {c.identity: {r.name: r.path.parent.name + "/" + r.path.name for r in c.raters} for c in cases}


def refused(match: str):
    return pytest.raises(ValueError, match=rf"\A[^\n]*{match}[^\n]*\Z")


def test_images_and_masks_of_one_name(tmp_path):
    write(tmp_path, "images/p10.png", "images/p9.jpg", "images/p9_2.png")
    write(tmp_path, "rater_1/p9.png", "rater_1/p10.bmp", "rater_1/p9_2.png")
    write(tmp_path, "masks_anna/p9.tif", "masks_anna/p10.png", "masks_anna/p9_2.png")
    assert recognised(tmp_path) == ("raters", "a folder for each rater: images with anna, 1")
    cases = read(tmp_path)
    assert told(cases) == {
        "p9": {"anna": "masks_anna/p9.tif", "1": "rater_1/p9.png"},
        "p9_2": {"anna": "masks_anna/p9_2.png", "1": "rater_1/p9_2.png"},
        "p10": {"anna": "masks_anna/p10.png", "1": "rater_1/p10.bmp"},
    }
    assert [(c.subject, c.group, c.part) for c in cases] == [(name, "", "") for name in ("p9", "p9_2", "p10")]
    assert pickle.loads(pickle.dumps(cases)) == cases
    image, geometry, masks = load_case(cases[2], 1)
    np.testing.assert_array_equal(image[0, 0], RAMP)
    assert masks[:, 0].sum((1, 2)).tolist() == [3 + 2, 3 + 2]  # columns 2 to 4 of row 1, and rows 2 and 3
    assert geometry.spacing_mm == (1, 1, 1)
    assert read(tmp_path, size=(16, 20), spacing_mm=0.5)[2].load_image()[1].spacing_mm == (1, 1, 1)


@pytest.mark.parametrize(
    ("image", "folder", "mask"),
    [
        ("case1.png", "masks", "case1_mask.png"),
        ("case1.png", "rater_anna", "case1_anna.png"),
        ("case1.png", "masks_anna", "anna-case1.png"),
        ("case1.png", "rater_anna", "case1_anna_mask.png"),
        ("case1.png", "rater_anna", "case1_rater_anna.png"),
        ("image_001.png", "labels", "label_001.png"),
        ("001_image.png", "Segmentations", "001_segmentation.png"),
        ("ISIC_01.jpg", "groundtruth", "ISIC_01_Segmentation.png"),
        ("case1.png", "annotator1", "case1_lesion.png"),
        ("a.b.png", "Expert 2", "a.b_GT.bmp"),
    ],
)
def test_words_around_a_name(tmp_path, image, folder, mask):
    write(tmp_path, f"images/{image}", "images/other.png", f"{folder}/{mask}", f"{folder}/other.png")
    cases = read(tmp_path)
    assert LAYOUTS["raters"](tmp_path) is not None
    assert sorted(case.identity for case in cases) == sorted([image.rpartition(".")[0], "other"])
    assert {r.path.name for case in cases for r in case.raters} == {mask, "other.png"}


def test_a_number_behind_a_name_is_another_case_and_no_word(tmp_path, caplog):
    write(tmp_path, "images/case1.png", "images/case2.png", "rater_a/case1_3.png", "rater_a/case2.png")
    assert list(told(read(tmp_path))) == ["case2"]
    assert "1 mask(s) left out, as no image in" in caplog.text and "rater_a/case1_3.png." in caplog.text


def test_names_of_raters(tmp_path):
    write(tmp_path, "img/c.png")
    for name in ("masks", "Rater1", "labels_2", "seg-anna", "reader 3", "masks_2"):
        write(tmp_path, f"{name}/c.png")
    (case,) = read(tmp_path)
    assert set(case.rater_names) == {"masks", "Rater1", "2", "anna", "3", "masks_2"}  # 2 is taken


def test_raters_below_one_folder_of_masks(tmp_path):
    write(tmp_path, "images/c.png", "masks/anna/c.png", "masks/rater_ben/c.png")
    assert [case.rater_names for case in read(tmp_path)] == [("anna", "ben")]


def test_who_has_no_mask_did_not_read_and_an_empty_mask_is_one(tmp_path, caplog):
    write(tmp_path, *[f"images/{n}.png" for n in range(1, 7)], *[f"rater_a/{n}.png" for n in range(1, 6)])
    write(tmp_path, "rater_b/1.png", values=np.zeros((8, 10), np.uint8))
    cases = read(tmp_path)
    assert [case.rater_names for case in cases] == [("a", "b")] + [("a",)] * 4
    assert cases[0].load_masks().any((1, 2, 3)).tolist() == [True, False]
    assert "taken not to have read: b of 4 of 5 (2, 3, 4 and 1 more)." in caplog.text
    assert "1 image(s) left out, as no rater has a mask of their name: " in caplog.text
    assert "images/6.png." in caplog.text


def test_folders_below_the_images_and_above_them(tmp_path, caplog):
    write(tmp_path, "images/p1/s1.png", "images/p2/s1.png", "rater_a/p1/s1.png", "rater_a/p2/s1_mask.png")
    (tmp_path / "aorta").mkdir()
    for name in ("images", "rater_a"):
        (tmp_path / name).rename(tmp_path / "aorta" / name)
    write(tmp_path / "lung/train", "images/x.png", "masks/x.png")
    write(tmp_path / "lung", "test/images/y.png", values=RAMP)
    write(tmp_path / "lung/test", "masks/y.png")
    assert LAYOUTS["raters"](tmp_path).words == "a folder for each rater in aorta: images with a"
    cases = read(tmp_path, subject_pattern=r"(\w+)(?:/s\d)?$")
    assert [(c.identity, c.subject, c.group, c.part) for c in cases] == [
        ("aorta/p1/s1", "p1", "aorta", ""),
        ("aorta/p2/s1", "p2", "aorta", ""),
        ("lung/test/y", "y", "lung", "test"),
        ("lung/train/x", "x", "lung", "train"),
    ]
    with refused("x.png: subject_pattern .* is not found in 'lung/train/x'"):
        read(tmp_path, subject_pattern="(p|y)")
    assert not [line for line in caplog.messages if "subject of its own" in line]
    read(tmp_path)
    assert "where several show one patient, as aorta/p1/s1 may, say by dataset.subject_pattern which." in caplog.text


def test_parts_below_the_images(tmp_path):
    for part in ("train", "val"):
        write(tmp_path, f"images/{part}/x.png", f"labels/{part}/x.png")
    assert [(c.identity, c.part, c.group) for c in read(tmp_path)] == [
        ("train/x", "train", ""),
        ("val/x", "validation", ""),
    ]


def test_volumes_of_several_classes_and_segments(tmp_path):
    grid = Geometry((7, 6, 5), (0.5, 0.75, 2.5), (3.0, -4.0, 5.5), (0.8, -0.36, 0.48, 0.6, 0.48, -0.64, 0, 0.8, 0.6))
    image = np.random.default_rng(0).integers(-500, 500, grid.shape).astype(np.int16)
    mask = np.zeros(grid.shape, np.uint8)
    mask[1, 1:5, 2], mask[2, 4, 3:6] = 1, 2
    for name, values in (("images/p.nii.gz", image), ("rater_a/p.mha", mask), ("rater_b/p.nrrd", 0 * mask)):
        (tmp_path / name).parent.mkdir()
        sitk.WriteImage(grid.image(values), str(tmp_path / name))
    coded = grid.image(mask)
    for k, name in enumerate(("core", "halo")):
        for key, value in {"ID": name, "Name": name, "LabelValue": str(2 - k), "Layer": "0"}.items():
            coded.SetMetaData(f"Segment{k}_{key}", value)
    (tmp_path / "rater_c").mkdir()
    sitk.WriteImage(coded, str(tmp_path / "rater_c/p.seg.nrrd"))
    (case,) = read(tmp_path, (Label("core"), Label("halo")))
    values, geometry, masks = load_case(case, 2)
    np.testing.assert_array_equal(values, image[None])
    assert geometry.same_in_files(grid)
    np.testing.assert_array_equal(masks, [mask, 0 * mask, np.array([0, 2, 1], np.uint8)[mask]])
    with refused("rater_c/p.seg.nrrd is one rater's, but holds the segments core, halo: merge them"):
        read(tmp_path)


def test_dicom_series_are_folders_below_the_images(tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from dicom_files import write_series

    from AmbiguousSegLib.volume.io import read_volume

    for name in ("p1", "p2"):
        write_series(tmp_path / "images" / name)
    values, grid = read_volume(tmp_path / "images/p1")
    mask = np.zeros(grid.shape, np.uint8)
    mask[1, 1:4, 2] = mask[2, 3, 2:6] = 1
    (tmp_path / "rater_anna").mkdir()
    for name in ("p1", "p2_mask"):
        sitk.WriteImage(grid.image(mask), str(tmp_path / f"rater_anna/{name}.nii.gz"))
    first, second = read(tmp_path)
    assert (first.identity, second.identity, first.modality) == ("p1", "p2", "CT")
    np.testing.assert_array_equal(first.load_image()[0], values)
    np.testing.assert_array_equal(first.load_masks(), [mask])


def test_what_does_not_go_together_is_refused(tmp_path, caplog):
    with refused("no cases found; expected a folder images beside a folder for each rater"):
        read(tmp_path)
    write(tmp_path, "images/a.png", "images/b.png", "rater_x/c.png")
    with refused("no cases found"):
        read(tmp_path)
    assert "rater_x/c.png" in caplog.text and "images/a.png" in caplog.text
    write(tmp_path, "rater_x/a.png", "rater_x/a_mask.png")
    with refused("2 masks of rater 'x', expected one: rename or remove one of .*a.png, .*a_mask.png"):
        read(tmp_path)
    (tmp_path / "rater_x/a_mask.png").rename(tmp_path / "rater_x/a.bmp")
    with refused("rater_x/a.bmp and .*rater_x/a.png have one name; remove or rename one of them"):
        read(tmp_path)
    (tmp_path / "rater_x/a.bmp").unlink()
    write(tmp_path, "images/image_c.png", "images/c_image.png", "rater_x/mask_c.png")
    (tmp_path / "rater_x/c.png").unlink()
    with refused("mask_c.png fits the images c_image, image_c; give one of them another name"):
        read(tmp_path)
    (tmp_path / "images/c_image.png").unlink()
    write(tmp_path, "rater_x/a.png", values=np.zeros((8, 11), np.uint8))
    with refused(r"rater_x/a.png is not on the grid of a.png: size"):
        read(tmp_path)


def test_names_of_a_mac_are_composed(tmp_path):
    write(tmp_path, "images/cafe\u0301.png", "rater_x/caf\u00e9.png")
    assert list(told(read(tmp_path))) == ["caf\u00e9"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_what_else_lies_there_is_left_out(tmp_path, caplog):
    write(tmp_path, "images/a.png", "rater_x/a.png")
    for name in ("images/._a.png", "rater_x/.DS_Store", "rater_x/Thumbs.db", "rater_x/notes.txt"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "rater_x" / os.fsdecode(b"\xe9.png")).write_bytes(b"")
    (tmp_path / "rater_y").symlink_to(tmp_path / "rater_x")
    (tmp_path / "images/circle").symlink_to(tmp_path / "images")
    assert told(read(tmp_path)) == {"a": {"x": "rater_x/a.png", "y": "rater_y/a.png"}}
    assert "rater_x/notes.txt" in caplog.text and "rater_x/\\xe9.png is left out" in caplog.text
    assert ".DS_Store" not in caplog.text


def test_folders_that_only_look_like_it_are_not_recognised(tmp_path):
    write(tmp_path, "imagesTr/a.png", "labelsTr/a.png", "maskerade/a.png", "images_old/a.png")
    assert LAYOUTS["raters"](tmp_path) is None
    write(tmp_path / "yolo", "images/train/a.png", "images/val/b.png")
    (tmp_path / "yolo/labels/train").mkdir(parents=True)
    (tmp_path / "yolo/labels/train/a.txt").write_text("0 .5 .5 .1 .1", encoding="utf-8")
    assert LAYOUTS["raters"](tmp_path / "yolo") is None
    write(tmp_path / "yolo", "masks/train/a.png")
    assert LAYOUTS["raters"](tmp_path / "yolo") is not None

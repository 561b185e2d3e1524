"""One case in every format: the image and the masks of its raters come back voxel by voxel, on a turned grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.file_case import FileCase
from AmbiguousSegLib.data.readers import READERS, load_case, recognised
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.volume.geometry import Geometry

TURN = (0.8, -0.36, 0.48, 0.6, 0.48, -0.64, 0.0, 0.8, 0.6)  # rows perpendicular, columns too; det +1
GRID = Geometry((7, 6, 5), (0.5, 0.75, 2.5), (3.0, -4.0, 5.5), TURN)
IMAGE = np.random.default_rng(0).integers(-500, 500, GRID.shape).astype(np.int16)
CLASSES = (Label("core"), Label("halo"))


def corner(z: int, y: int, x: int) -> np.ndarray:
    """A mask like no mirror image of itself: an L of x + y - 1 voxels in a slice, and one in the next."""
    mask = np.zeros(GRID.shape, np.uint8)
    mask[z, 1 : 1 + y, 2] = 1
    mask[z, 1, 2 : 2 + x] = 1
    mask[z + 1, 4, 5] = 1
    return mask


ANNA, BEN, NOBODY = corner(1, 4, 3), corner(2, 2, 4), np.zeros(GRID.shape, np.uint8)


def put(path: Path, values: np.ndarray, grid: Geometry = GRID, header: dict[str, str] | None = None) -> Path:
    image = grid.image(values)
    for key, value in (header or {}).items():
        image.SetMetaData(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def segments(*names: str, layers: bool = False) -> dict[str, str]:
    """Header of a Slicer segmentation; ``layers``: each segment in a layer of its own."""
    entries = {}
    for k, name in enumerate(names):
        entries |= {f"Segment{k}_ID": f"s{k}", f"Segment{k}_Name": name, f"Segment{k}_Layer": str(k if layers else 0)}
        entries[f"Segment{k}_LabelValue"] = "1" if layers else str(k + 1)
    return entries


def read(folder: Path, labels=DEFAULT_LABELS, kind: str = "folder", **config) -> list[FileCase]:
    assert recognised(folder)[0] == kind
    return list(READERS[kind](folder, DataConfig(kind=kind, **config), labels))


def check(case: FileCase, masks: dict[str, np.ndarray], classes: int = 1) -> None:
    values, geometry, found = load_case(case, classes)
    np.testing.assert_array_equal(values, IMAGE[None])
    assert geometry.same_in_files(GRID)
    assert case.rater_names == tuple(masks)
    np.testing.assert_array_equal(found, list(masks.values()))


@pytest.mark.parametrize("end", ["nii.gz", "nii", "nrrd", "nhdr", "mha", "mhd", "hdr"])
def test_a_volume_for_each_rater(tmp_path, end):
    put(tmp_path / f"p7/image.{end}", IMAGE)
    for name, mask in (("anna", ANNA), ("ben", BEN), ("nobody", NOBODY)):
        put(tmp_path / f"p7/rater_{name}.{end}", mask)
    (case,) = read(tmp_path)
    check(case, {"anna": ANNA, "ben": BEN, "nobody": NOBODY})
    assert int(case.load_masks()[0].sum()) == 7 and case.modality == ""


def test_formats_may_be_mixed_and_classes_are_label_maps(tmp_path):
    both = np.where(BEN > 0, 2, ANNA).astype(np.uint8)
    put(tmp_path / "image.mha", IMAGE)
    put(tmp_path / "mask_anna.nii.gz", both)
    put(tmp_path / "seg_ben.nrrd", BEN * 2)
    (case,) = read(tmp_path, CLASSES)
    check(case, {"anna": both, "ben": BEN * 2}, 2)


@pytest.mark.parametrize("end", ["png", "bmp", "tif", "jpg", "jpeg"])
def test_pictures_for_each_rater(tmp_path, end):
    picture, mask = np.arange(30 * 20, dtype=np.int64) % 251, np.zeros((30, 20), np.uint8)
    mask[3:21, 4:9] = mask[18:21, 4:15] = 255
    for name, values in (("image", picture.reshape(30, 20).astype(np.uint8)), ("label0", mask)):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"{name}.{end}"))
    (case,) = read(tmp_path)
    values, geometry, masks = load_case(case, 1)
    np.testing.assert_allclose(values[0, 0], picture.reshape(30, 20), atol=90 if "j" in end else 0)
    np.testing.assert_array_equal(masks[0, 0], mask > 0)
    assert geometry.size == (20, 30, 1) and int(masks.sum()) == 18 * 5 + 3 * 6


def test_a_stack_of_pages_is_a_volume(tmp_path):
    for name, values in (("image", IMAGE.astype(np.uint8)), ("label", ANNA)):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"{name}.tif"))
    (case,) = read(tmp_path)
    np.testing.assert_array_equal(case.load_masks(), [ANNA])


def test_segments_of_one_file_are_raters_beside_one_class(tmp_path):
    put(tmp_path / "p7/image.nii.gz", IMAGE)
    put(tmp_path / "p7/label.seg.nrrd", np.where(BEN > 0, 2, ANNA).astype(np.uint8), header=segments("Dr. A", "Ben"))
    (case,) = read(tmp_path)
    check(case, {"Dr. A": ANNA * (BEN == 0), "Ben": BEN})


def test_segments_may_overlap_and_cover_a_part_of_the_grid(tmp_path):
    part = Geometry((5, 5, 4), GRID.spacing_mm, tuple(GRID.to_mm((2, 1, 1)).tolist()), GRID.direction)
    here = np.s_[1:5, 1:6, 2:7]
    both = ANNA | BEN
    layers = np.stack([ANNA[here], both[here]], -1)
    image = sitk.GetImageFromArray(layers, isVector=True)
    image.SetSpacing(part.spacing_mm), image.SetOrigin(part.origin_mm), image.SetDirection(part.direction)
    for key, value in segments("Anna", "Ben", layers=True).items():
        image.SetMetaData(key, value)
    put(tmp_path / "image.nrrd", IMAGE)
    sitk.WriteImage(image, str(tmp_path / "Segmentation.seg.nrrd"))
    assert both[here].sum() == both.sum()
    (case,) = read(tmp_path)
    check(case, {"Anna": ANNA, "Ben": both})


def test_segments_named_as_labels_are_classes_of_the_files_rater(tmp_path):
    put(tmp_path / "image.nrrd", IMAGE)
    for rater, names in (("anna", ("halo", "core")), ("ben", ("core", "halo"))):
        values = np.where(BEN > 0, 2, ANNA).astype(np.uint8)
        put(tmp_path / f"rater_{rater}.seg.nrrd", values, header=segments(*names))
    (case,) = read(tmp_path, CLASSES)
    only_anna = ANNA * (BEN == 0)
    check(case, {"anna": 2 * only_anna + BEN, "ben": only_anna + 2 * BEN}, 2)
    put(tmp_path / "rater_ben.seg.nrrd", ANNA, header=segments("core", "else"))
    with pytest.raises(ValueError, match=r"\A[^\n]*rater_ben.seg.nrrd: The segments 'else' do not have the name"):
        read(tmp_path, CLASSES)


def test_a_single_segment_is_the_rater_that_its_file_names(tmp_path):
    put(tmp_path / "a/image.nrrd", IMAGE)
    put(tmp_path / "a/rater_anna.seg.nrrd", ANNA, header=segments("lesion"))
    put(tmp_path / "a/rater_ben.seg.nrrd", BEN, header=segments("lesion"))
    put(tmp_path / "b/image.nrrd", IMAGE)
    put(tmp_path / "b/label.seg.nrrd", BEN, header=segments("Ben"))
    first, second = read(tmp_path)
    check(first, {"anna": ANNA, "ben": BEN})
    check(second, {"Ben": BEN})


@pytest.mark.parametrize("other", [True, False])
def test_several_segments_in_one_raters_file_are_not_guessed(tmp_path, other):
    put(tmp_path / "image.nrrd", IMAGE)
    name = "label.seg.nrrd" if other else "rater_anna.seg.nrrd"
    put(tmp_path / name, np.where(BEN > 0, 2, ANNA).astype(np.uint8), header=segments("lesion 1", "lesion 2"))
    if other:
        put(tmp_path / "label1.nrrd", BEN)
    with pytest.raises(ValueError, match=rf"\A[^\n]*{name} is one rater's, but holds the segments lesion 1, lesion 2"):
        read(tmp_path)


def test_masks_on_another_grid_are_refused_before_pixels_are_read(tmp_path):
    put(tmp_path / "image.nrrd", IMAGE)
    moved = Geometry(GRID.size, GRID.spacing_mm, (3.0, -4.0, 6.5), TURN)
    put(tmp_path / "label.nii.gz", ANNA, moved)
    with pytest.raises(ValueError, match=r"\A[^\n]*label.nii.gz is not on the grid of image.nrrd: origin"):
        read(tmp_path)
    put(tmp_path / "image_2.nrrd", IMAGE, moved)
    with pytest.raises(ValueError, match=r"is not on the grid"):
        read(tmp_path)


@pytest.fixture
def dicom_case(tmp_path):
    """A case whose image is a DICOM series; its folder, files of the series and grid."""
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from dicom_files import write_series

    files = write_series(tmp_path / "p7/image", slices=4, SeriesDescription="chest")
    from AmbiguousSegLib.volume.io import read_volume

    return tmp_path / "p7", files, *read_volume(tmp_path / "p7/image")


def test_a_dicom_series_with_masks_of_other_formats(dicom_case):
    folder, _, values, grid = dicom_case
    mask = np.zeros(grid.shape, np.uint8)
    mask[1, 1:4, 2] = mask[2, 3, 2:6] = 1
    put(folder / "rater_anna.nii.gz", mask, grid)
    put(folder / "rater_ben.seg.nrrd", mask, grid, segments("lesion"))
    (case,) = read(folder.parent)
    assert (case.identity, case.modality, case.rater_names) == ("p7", "CT", ("anna", "ben"))
    found, geometry, masks = load_case(case, 1)
    np.testing.assert_array_equal(found, values)
    assert geometry.same_grid(grid)
    np.testing.assert_array_equal(masks, [mask, mask])


def test_dicom_segmentations_are_raters(dicom_case):
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    from AmbiguousSegLib.volume.dicom_seg import write_dicom_seg

    folder, files, _, grid = dicom_case
    masks = np.zeros((2, *grid.shape), np.uint8)
    masks[0, 1, 1:4, 2] = masks[0, 2, 3, 2:6] = masks[1, 3, 0, 1:3] = 1
    told = {"model_name": "m", "software_version": "1"}
    write_dicom_seg(folder / "label.dcm", [("Anna", masks[0]), ("Ben", masks[1])], grid, files, [Label()], **told)
    (case,) = read(folder)
    assert case.rater_names == ("Anna", "Ben")
    np.testing.assert_array_equal(case.load_masks(), masks)
    (folder / "label.dcm").unlink()
    for name, mask in zip(("anna", "ben"), masks):
        write_dicom_seg(folder / f"rater_{name}", [("lesion", mask)], grid, files, [Label()], **told)  # no ending
    (case,) = read(folder)
    assert case.rater_names == ("anna", "ben")
    np.testing.assert_array_equal(case.load_masks(), masks)


def test_dicom_structure_sets_are_raters(dicom_case):
    from structure_files import write_structures

    folder, _, _, grid = dicom_case
    corners = [(1.6, 0.6), (4.4, 0.6), (4.4, 1.4), (2.4, 1.4), (2.4, 3.4), (1.6, 3.4)]
    write_structures(folder / "label.dcm", grid, [("GTV-1vis-1", [(1, corners)]), ("GTV-1vis-2", [])])
    expected = np.zeros((2, *grid.shape), np.uint8)
    expected[0, 1, 1:4, 2] = expected[0, 1, 1, 2:5] = 1
    (case,) = read(folder)
    assert case.rater_names == ("GTV-1vis-1", "GTV-1vis-2")
    np.testing.assert_array_equal(case.load_masks(), expected)


def test_slices_of_a_series_belong_into_a_folder(dicom_case):
    folder, files, _, grid = dicom_case
    for file in files:
        file.rename(folder / f"image{file.name}")
    (folder / "image").rmdir()
    put(folder / "label.nrrd", np.zeros(grid.shape, np.uint8), grid)
    with pytest.raises(ValueError, match=r"p7: 4 DICOM files image000.dcm, .* and 1 more; put the files"):
        read(folder)

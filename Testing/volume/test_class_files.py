"""Files of several classes: written, read back by other programs, and read as what other programs wrote."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume import io, segments, writing
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((9, 8, 7), (0.6, 0.8, 2.5), (-10.0, 20.0, 5.5), (0.0, -1.0, 0, 1.0, 0, 0, 0, 0, 1.0))
CORE, HALO, RIM = Label("core", (0.9, 0.3, 0.2)), Label("halo", (0.2, 0.6, 1.0), "a~b^1^c~d"), Label("rim")
LABELS, NAMES = (CORE, HALO, RIM), ("core", "halo", "rim")


def some_label_map():
    """Two classes beside each other; the third is missing."""
    label_map = np.zeros(GRID.shape, np.uint8)
    label_map[1:6, 2:7, 1:8] = 2
    label_map[2:4, 3:6, 3:5] = 1
    return label_map


def save(path, array, geometry=GRID):
    sitk.WriteImage(geometry.image(array), str(path))
    return path


def save_segments(path, named_masks):
    """A ``.seg.nrrd`` with a layer for each mask, as Slicer writes overlapping ones."""
    image = sitk.Compose([GRID.image(mask) for _, mask in named_masks])
    for k, (name, _) in enumerate(named_masks):
        for key, value in {"ID": f"s{k}", "Name": name, "Layer": str(k), "LabelValue": "1"}.items():
            image.SetMetaData(f"Segment{k}_{key}", value)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "Dr. A.seg.nrrd"
    writing.write_segmentation(path, some_label_map(), GRID, LABELS, NAMES)
    return path


# Segmentations


def test_a_segmentation_by_simpleitk(written):
    image = sitk.ReadImage(str(written))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), some_label_map())
    assert Geometry.of(image).same_grid(GRID, 1e-9) and image.GetNumberOfComponentsPerPixel() == 1
    found = [
        [image.GetMetaData(f"Segment{k}_{key}") for key in ("ID", "Name", "LabelValue", "Layer", "Extent", "Color")]
        for k in range(3)
    ]
    assert found == [
        ["core", "core", "1", "0", "3 4 3 5 2 3", "0.9 0.3 0.2"],
        ["halo", "halo", "2", "0", "1 7 2 6 1 5", "0.2 0.6 1"],
        ["rim", "rim", "3", "0", "0 -1 0 -1 0 -1", "0.9 0.3 0.2"],
    ]
    assert image.GetMetaData("Segment1_Tags") == "TerminologyEntry:a~b^1^c~d|"
    assert not image.HasMetaDataKey("Segment3_ID")


def test_a_segmentation_by_slicerio(tmp_path):
    slicerio = pytest.importorskip("slicerio")
    path = tmp_path / "s.seg.nrrd"
    writing.write_segmentation(path, some_label_map(), GRID, (CORE, RIM))
    read = slicerio.read_segmentation(str(path))
    np.testing.assert_array_equal(read["voxels"].transpose(2, 1, 0), some_label_map())  # slicerio has x, y, z order
    found = [(s["id"], s["name"], s["labelValue"], s["layer"]) for s in read["segments"]]
    assert found == [("Segment_1", "core", 1, 0), ("Segment_2", "rim", 2, 0)]
    np.testing.assert_allclose([s["color"] for s in read["segments"]], [CORE.color, RIM.color])
    assert read["segments"][0]["terminology"]["type"] == ["SCT", "52988006", "Lesion"]
    by_name = slicerio.extract_segments(read, [("rim", 5)])
    np.testing.assert_array_equal(by_name["voxels"].transpose(2, 1, 0), np.where(some_label_map() == 2, 5, 0))


def test_a_segmentation_by_slicer(written):
    slicer = pytest.importorskip("slicer")
    if not hasattr(slicer, "vtkMRMLSegmentationStorageNode"):
        pytest.skip("this Slicer has no segmentation nodes")
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(written))
    assert storage.ReadData(node)
    read = node.GetSegmentation()
    assert [read.GetNthSegment(k).GetName() for k in range(read.GetNumberOfSegments())] == list(NAMES)
    np.testing.assert_allclose(read.GetSegment("halo").GetColor(), HALO.color)
    assert read.GetNumberOfLayers("Binary labelmap") == 1
    # Saved again by Slicer, it is still the same rater.
    again = written.with_name("again.seg.nrrd")
    storage.SetFileName(str(again))
    assert storage.WriteData(node)
    ((name, label_map),) = segments.read_raters(again, GRID, NAMES)
    assert name == "again"
    np.testing.assert_array_equal(label_map, some_label_map())


def test_a_segmentation_of_classes_is_one_rater_named_as_its_file(written):
    ((name, label_map),) = segments.read_raters(written, GRID, NAMES)
    assert name == "Dr. A" and label_map.dtype == np.uint8
    np.testing.assert_array_equal(label_map, some_label_map())
    ((_, turned),) = segments.read_raters(written, None, ("rim", "core", "halo"))  # by name, not by value
    np.testing.assert_array_equal(turned, np.array([0, 2, 3, 1], np.uint8)[some_label_map()])


def test_segments_of_a_part_of_the_grid_are_placed(tmp_path):
    core, halo = (some_label_map() == k for k in (1, 2))
    image = sitk.ReadImage(str(save_segments(tmp_path / "whole.seg.nrrd", [("halo", halo), ("core", core)])))
    part = image[1:9, 2:7, 1:6]
    for key in image.GetMetaDataKeys():
        if key.startswith("Segment"):
            part.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(part, str(tmp_path / "part.seg.nrrd"))
    ((name, label_map),) = segments.read_raters(tmp_path / "part.seg.nrrd", GRID, NAMES)
    assert name == "part"
    np.testing.assert_array_equal(label_map, some_label_map())
    ((_, cut),) = segments.read_raters(tmp_path / "part.seg.nrrd", None, NAMES)
    np.testing.assert_array_equal(cut, some_label_map()[1:6, 2:7, 1:9])
    elsewhere = Geometry(GRID.size, GRID.spacing_mm, (0.0, 0.0, 0.0), GRID.direction)
    with pytest.raises(ValueError, match=r"part\.seg\.nrrd does not lie on the grid"):
        segments.read_raters(tmp_path / "part.seg.nrrd", elsewhere, NAMES)


def test_overlapping_classes_are_refused_with_both_names(tmp_path):
    core = some_label_map() == 1
    path = save_segments(tmp_path / "Dr. B.seg.nrrd", [("core", core), ("halo", core | (some_label_map() == 2))])
    with pytest.raises(ValueError, match=rf"Dr\. B\.seg\.nrrd: core and halo overlap in {core.sum()} voxels") as error:
        segments.read_raters(path, GRID, NAMES)
    assert "\n" not in str(error.value)
    both = segments.read_raters(path, GRID, NAMES, "raters")
    assert [name for name, _ in both] == ["core", "halo"]


def test_other_segments_are_raters_of_the_first_label_and_that_is_told(tmp_path, caplog):
    core, halo = (some_label_map() == k for k in (1, 2))
    path = save_segments(tmp_path / "two.seg.nrrd", [("Dr. A", core), ("Dr. B", core | halo)])
    with caplog.at_level(logging.WARNING):
        found = segments.read_raters(path, GRID, NAMES)
    assert [name for name, _ in found] == ["Dr. A", "Dr. B"] and "a rater who marks core alone" in caplog.text
    for (_, label_map), mask in zip(found, (core, core | halo)):
        np.testing.assert_array_equal(label_map, mask)
    caplog.clear()
    assert [name for name, _ in segments.read_raters(path, GRID, ["lesion"])] == ["Dr. A", "Dr. B"]
    assert not caplog.text


@pytest.mark.parametrize(
    ("names", "segments_are", "message"),
    [
        (["core", "Dr. B"], "auto", r"mixed\.seg\.nrrd: The segments 'Dr\. B' do not bear"),
        (["core", "core"], "auto", r"mixed\.seg\.nrrd: Two segments are named 'core'"),
        (["Dr. A", "Dr. B"], "classes", r"mixed\.seg\.nrrd: The segments 'Dr\. A', 'Dr\. B' do not bear"),
    ],
)
def test_mixtures_are_refused_with_the_file_and_the_names(tmp_path, names, segments_are, message):
    masks = [some_label_map() == k for k in (1, 2)]
    path = save_segments(tmp_path / "mixed.seg.nrrd", list(zip(names, masks)))
    with pytest.raises(ValueError, match=message):
        segments.read_raters(path, GRID, NAMES, segments_are)
    assert len(segments.read_raters(path, GRID, NAMES, "raters")) == 2


# Label volumes


@pytest.mark.parametrize("name", ["Dr. A.nii.gz", "Dr. A.nrrd", "Dr. A.mha"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_a_label_volume_is_one_rater_of_classes(tmp_path, name, kind):
    path = save(tmp_path / name, some_label_map().astype(kind))
    np.testing.assert_array_equal(io.read_label_map(path, GRID, 3), some_label_map())
    np.testing.assert_array_equal(io.read_label_map(path, classes=2), some_label_map())
    ((rater, label_map),) = segments.read_raters(path, GRID, NAMES)
    assert rater == "Dr. A" and label_map.dtype == np.uint8
    np.testing.assert_array_equal(label_map, some_label_map())


@pytest.mark.parametrize("top", [1, 255])
def test_one_class_is_any_one_positive_value(tmp_path, top):
    mask = some_label_map() == 2
    path = save(tmp_path / "m.nii.gz", mask.astype(np.uint8) * top)
    found = io.read_label_map(path, GRID)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, mask)
    with pytest.raises(ValueError, match="not a binary mask"):
        io.read_label_map(save(tmp_path / "two.nii.gz", some_label_map()), GRID)


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        (3, np.uint8, r"\(0, 1, 2, 3\)"),
        (255, np.uint8, r"\(0, 1, 2, 255\)"),
        (-1, np.int16, r"\(-1, 0, 1, 2\)"),
        (0.5, np.float32, r"\(0, 0.5, 1, 2\)"),
        (np.nan, np.float32, r"\(0, 1, 2, nan\)"),
    ],
)
def test_other_values_are_refused(tmp_path, value, kind, told):
    array = some_label_map().astype(kind)
    array[0, 0, 0] = value
    path = save(tmp_path / "l.nrrd", array)
    with pytest.raises(
        ValueError, match=rf"l\.nrrd is not a label map of 2 classes: it holds 4 values {told}"
    ) as error:
        io.read_label_map(path, GRID, 2)
    assert "1 to 2 for the classes" in str(error.value) and "\n" not in str(error.value)


def test_grids_colours_and_segments_that_do_not_fit(tmp_path, written):
    other = Geometry(GRID.size, GRID.spacing_mm, (0.0, 0.0, 0.0), GRID.direction)
    with pytest.raises(ValueError, match="does not lie on the grid"):
        io.read_label_map(save(tmp_path / "l.nrrd", some_label_map(), other), GRID, 2)
    rgb = np.repeat(some_label_map()[0][..., None], 3, -1)
    rgb[0, 0] = (0, 1, 2)
    sitk.WriteImage(sitk.GetImageFromArray(rgb, isVector=True), str(tmp_path / "l.png"))
    with pytest.raises(ValueError, match="3 colours or layers that differ"):
        io.read_label_map(tmp_path / "l.png", classes=2)
    with pytest.raises(ValueError, match="told by their names; read it with read_raters"):
        io.read_label_map(written, GRID, 3)

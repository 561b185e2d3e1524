"""Segments of Slicer's files: layers, labels and places as Slicer writes them."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume import io, segments, writing
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((9, 8, 7), (0.6, 0.8, 2.5), (-10.0, 20.0, 5.5), (0.0, -1.0, 0, 1.0, 0, 0, 0, 0, 1.0))


def blocks(n, shape=GRID.shape):
    """Masks that overlap, each other than the others, in the middle of the grid."""
    masks = np.zeros((n, *shape), bool)
    for k, mask in enumerate(masks):
        mask[2:4, 1 + k : 4 + k, 2:5] = True
    return masks


def write_layers(path, layers, entries, start=(0, 0, 0)):
    """A ``.seg.nrrd`` byte by byte: layers uint8 ``(L, Z, Y, X)``, the first axis a list, as Slicer writes them."""
    axes = np.array(GRID.direction).reshape(3, 3) * np.array(GRID.spacing_mm)
    origin = GRID.to_mm(np.array(start))
    vectors = " ".join("(" + ",".join(f"{v:.17g}" for v in axes[:, k]) + ")" for k in range(3))
    count, *shape = layers.shape
    header = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {count} {shape[2]} {shape[1]} {shape[0]}",
        f"space directions: none {vectors}",
        "kinds: list domain domain domain",
        "encoding: raw",
        "space origin: (" + ",".join(f"{v:.17g}" for v in origin) + ")",
        *(f"Segment{k}_{key}:={value}" for k, entry in enumerate(entries) for key, value in entry.items()),
    ]
    data = np.ascontiguousarray(np.moveaxis(layers, 0, -1)).tobytes()
    path.write_bytes("\n".join(header).encode() + b"\n\n" + data)


def segment(name, layer, value):
    return {"ID": f"id_{name}", "Name": name, "Layer": layer, "LabelValue": value}


def test_overlapping_segments_in_layers(tmp_path):
    masks = blocks(3)
    layers = np.stack([masks[0] * 1, np.maximum(masks[1] * 2, 0)]).astype(np.uint8)
    layers[0][~masks[0] & masks[2]] = 7  # shares a layer with the first, so that it lacks what both mark
    path = tmp_path / "three.seg.nrrd"
    write_layers(path, layers, [segment("Dr. Ä", 0, 1), segment("B", 1, 2), segment("C", 0, 7)])
    found, grid, part = segments.read_segments(path)
    assert list(found) == ["Dr. Ä", "B", "C"] and grid.same_grid(GRID) and part
    for name, mask in zip(found, (masks[0], masks[1], masks[2] & ~masks[0])):
        np.testing.assert_array_equal(found[name], mask)


def test_without_layer_and_label_each_segment_is_a_layer(tmp_path):
    masks = blocks(2)
    path = tmp_path / "old.seg.nrrd"
    write_layers(path, masks.astype(np.uint8), [{"ID": "a", "Name": "A"}, {"ID": "b", "Name": "A"}])
    found, *_ = segments.read_segments(path)
    assert list(found) == ["A", "A (2)"]
    np.testing.assert_array_equal(list(found.values()), masks)
    masks = blocks(3)
    write_layers(path, masks.astype(np.uint8), [{"ID": k, "Name": name} for k, name in enumerate(["A (3)", "A", "A"])])
    found, *_ = segments.read_segments(path)
    assert list(found) == ["A (3)", "A", "A (3) (3)"]
    np.testing.assert_array_equal(list(found.values()), masks)


def test_segment_of_a_layer_that_is_not_there(tmp_path):
    write_layers(tmp_path / "s.seg.nrrd", blocks(2).astype(np.uint8), [segment("A", 5, 1)])
    with pytest.raises(ValueError, match="'A' is in layer 5, but the file has 2"):
        segments.read_segments(tmp_path / "s.seg.nrrd")


@pytest.mark.parametrize(("layer", "value"), [("x", "1"), ("0", "1.0"), ("", "1")])
def test_layer_and_label_that_are_no_integers(tmp_path, layer, value):
    write_layers(tmp_path / "s.seg.nrrd", blocks(2).astype(np.uint8), [segment("A", layer, value)])
    with pytest.raises(ValueError, match=r"s\.seg\.nrrd: segment 'A' has the layer .* expected integers"):
        segments.read_segments(tmp_path / "s.seg.nrrd")


def test_a_name_that_is_not_utf_8(tmp_path):
    path = tmp_path / "s.seg.nrrd"
    write_layers(path, blocks(1).astype(np.uint8), [segment("Rene?", 0, 1)])
    path.write_bytes(path.read_bytes().replace(b"Name:=Rene?", b"Name:=Ren\xe9 "))
    assert [name.strip() for name in segments.read_segments(path).masks] == ["René"]


def test_without_segments_nobody_has_marked_nothing(tmp_path):
    path = tmp_path / "none.seg.nrrd"
    write_layers(path, np.zeros_like(blocks(1), np.uint8), [])
    with pytest.raises(ValueError, match="none.seg.nrrd holds no segment"):
        segments.read_segments(path)
    write_layers(path, np.zeros_like(blocks(1), np.uint8), [segment("A", 0, 1)])
    assert not segments.read_segments(path).masks["A"].any()


def test_our_own_segmentation(tmp_path):
    mask = blocks(1)[0]
    writing.write_segmentation(tmp_path / "s.seg.nrrd", mask, GRID, [Label("lesion 3")])
    found, grid, _part = segments.read_segments(tmp_path / "s.seg.nrrd")
    assert list(found) == ["lesion 3"] and grid.same_grid(GRID)
    np.testing.assert_array_equal(found["lesion 3"], mask)


@pytest.mark.parametrize("name", ["Dr. B.nii.gz", "Dr. B.nrrd", "Dr. B.mha", "Dr. B.nii"])
def test_a_label_volume_is_one_mask_named_as_its_file(tmp_path, name):
    mask = blocks(1)[0]
    sitk.WriteImage(GRID.image(mask), str(tmp_path / name))
    found, grid, part = segments.read_segments(tmp_path / name)
    assert list(found) == ["Dr. B"] and grid.same_grid(GRID) and not part
    np.testing.assert_array_equal(found["Dr. B"], mask)


def test_a_volume_of_several_labels_is_refused(tmp_path):
    sitk.WriteImage(GRID.image((blocks(1)[0] * 2 + blocks(2)[1]).astype(np.uint8)), str(tmp_path / "l.nii.gz"))
    with pytest.raises(ValueError, match="not a binary mask"):
        segments.read_segments(tmp_path / "l.nii.gz")


def test_a_part_of_the_grid_is_placed(tmp_path):
    mask = blocks(1)[0]
    path = tmp_path / "cut.seg.nrrd"
    write_layers(path, mask[None, 2:5, 1:6, 2:7].astype(np.uint8), [segment("A", 0, 1)], start=(2, 1, 2))
    masks, grid, _part = segments.read_segments(path)
    (cut,) = masks.values()
    np.testing.assert_array_equal(io.placed_on(GRID, cut, grid), mask)
    np.testing.assert_array_equal(io.read_mask(path, GRID), mask)
    assert io.placed_on(GRID, cut, grid, part=False) is None
    assert io.placed_on(GRID, cut & False, grid, part=False) is None


def test_only_a_2d_file_is_flat(tmp_path):
    flat = sitk.GetImageFromArray(blocks(1)[0, 2].astype(np.uint8))
    for name in ("f.png", "f.nrrd", "f.tif"):
        sitk.WriteImage(flat, str(tmp_path / name))
        assert io.is_flat(tmp_path / name)
    slice_image = GRID.image(blocks(1)[0])[:, :, 2:3]  # tells where it lies
    for name in ("v.nrrd", "v.nii.gz"):
        sitk.WriteImage(slice_image, str(tmp_path / name))
        assert not io.is_flat(tmp_path / name)
    assert not io.is_flat(tmp_path)


def test_what_would_move_or_be_cut_off_is_not_placed():
    mask = np.ones((2, 2, 2), bool)

    def grid_from(index, spacing=GRID.spacing_mm):
        return Geometry((2, 2, 2), spacing, tuple(GRID.to_mm(np.array(index, float))), GRID.direction)

    assert io.placed_on(GRID, mask, grid_from((7, 6, 5))).sum() == 8
    for grid in (
        grid_from((0.4, 0, 0)),
        grid_from((-1, 0, 0)),
        grid_from((8, 0, 0)),
        grid_from((0, 0, 0), (0.6, 0.8, 2.6)),
    ):
        assert io.placed_on(GRID, mask, grid) is None
        assert not io.placed_on(GRID, ~mask, grid).any()  # an empty mask is empty on any grid


def test_segments_that_slicer_saves(tmp_path):
    slicer = pytest.importorskip("slicer")
    if not hasattr(slicer, "vtkMRMLSegmentationStorageNode"):
        pytest.skip("this Slicer has no segmentation nodes")
    from vtk.util.numpy_support import numpy_to_vtk

    masks = [*blocks(3), np.zeros(GRID.shape, bool)]
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.GetSegmentation().SetConversionParameter("Reference image geometry", GRID.slicer_text())
    for k, mask in enumerate(masks):
        image = slicer.vtkOrientedImageData()
        slicer.vtkSegmentationConverter.DeserializeImageGeometry(GRID.slicer_text(), image, True)
        voxels = numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=True)
        image.GetPointData().SetScalars(voxels)
        entry = slicer.vtkSegment()
        entry.SetName(f"rater {k}")
        entry.AddRepresentation("Binary labelmap", image)
        node.GetSegmentation().AddSegment(entry)
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "raters.seg.nrrd"))
    assert storage.WriteData(node)
    found, grid, _part = segments.read_segments(tmp_path / "raters.seg.nrrd")
    assert list(found) == [f"rater {k}" for k in range(4)]
    for mask, own in zip(masks, found.values()):
        np.testing.assert_array_equal(io.placed_on(GRID, own, grid), mask)


@pytest.mark.parametrize("label", [0, -1])
def test_a_segment_that_would_be_the_background_is_refused(tmp_path, label):
    path = tmp_path / "wrong.seg.nrrd"
    write_layers(path, blocks(1).astype(np.uint8), [segment("A", 0, label)])
    with pytest.raises(ValueError, match=f"segment 'A' has the label {label}, expected 1 or more"):
        segments.read_segments(path)

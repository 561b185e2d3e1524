"""Files read and written, checked with other readers of the same formats."""

from __future__ import annotations

import errno
import shutil
import struct
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from shared_data import shared_path

from AmbiguousSegLib.files import said
from AmbiguousSegLib.labels import LESION_TERMINOLOGY, Label
from AmbiguousSegLib.plotting.pictures import write_png
from AmbiguousSegLib.volume import io, writing
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((8, 7, 6), (1.0, 2.0, 3.0), (10.0, -20.0, 30.0), (0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0))
RNG = np.random.default_rng(7)
PICTURE = RNG.integers(0, 256, (5, 9), dtype=np.uint8)


def some_mask(shape=GRID.shape):
    mask = np.zeros(shape, bool)
    mask[1:4, 3:6, 2:7] = RNG.random((3, 3, 5)) < 0.6
    mask[1, 3, 2] = mask[3, 5, 6] = True  # so that the bounding box is known
    return mask


def save(path, array, geometry=None, vector=False):
    image = sitk.GetImageFromArray(array, isVector=vector) if geometry is None else geometry.image(array)
    sitk.WriteImage(image, str(path))
    return path


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message and len(message) < 500
    return message


# Reading


@pytest.mark.parametrize("name", ["v.nrrd", "v.nii.gz", "v.nii", "v.mha"])
def test_volume_formats_keep_voxels_and_grid(tmp_path, name):
    array = RNG.normal(size=GRID.shape).astype(np.float32)
    channels, geometry = io.read_volume([save(tmp_path / name, array, GRID)])
    np.testing.assert_array_equal(channels, array[None])
    assert channels.dtype == np.float32
    assert geometry.same_grid(GRID, 1e-4)


@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.bmp"])
def test_grey_picture_is_a_slice_of_1_mm_pixels(tmp_path, name):
    channels, geometry = io.read_volume(save(tmp_path / name, PICTURE))
    np.testing.assert_array_equal(channels[0, 0], PICTURE)
    assert geometry == Geometry((9, 5, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_colour_picture_gives_one_channel_per_component(tmp_path, suffix, kind):
    rgb = RNG.integers(0, np.iinfo(kind).max, (5, 9, 3), dtype=kind)
    channels, _ = io.read_volume(save(tmp_path / f"p.{suffix}", rgb, vector=True))
    np.testing.assert_array_equal(channels[:, 0], np.moveaxis(rgb, -1, 0))


def test_alpha_is_dropped_where_opaque_and_refused_where_not(tmp_path):
    rgba = RNG.integers(0, 256, (5, 9, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    channels, _ = io.read_volume(save(tmp_path / "opaque.png", rgba, vector=True))
    np.testing.assert_array_equal(channels[:, 0], np.moveaxis(rgba[..., :3], -1, 0))
    rgba[2, 2, 3] = 254
    with pytest.raises(ValueError, match="transparent"):
        io.read_image(save(tmp_path / "clear.png", rgba, vector=True))


def test_print_resolution_of_a_jpeg_is_not_its_spacing(tmp_path):
    path = save(tmp_path / "p.jpg", np.full((5, 9), 100, np.uint8))
    data = bytearray(path.read_bytes())
    jfif = data.index(b"JFIF\0")
    data[jfif + 7 : jfif + 12] = b"\x01" + struct.pack(">HH", 72, 72)  # density in dots per inch
    path.write_bytes(data)
    assert sitk.ReadImage(str(path)).GetSpacing()[0] == pytest.approx(25.4 / 72)
    assert io.read_image(path).GetSpacing() == (1.0, 1.0, 1.0)


def test_one_time_point_is_a_volume_and_several_are_refused(tmp_path):
    volume = GRID.image(RNG.normal(size=GRID.shape).astype(np.float32))
    sitk.WriteImage(sitk.JoinSeries([volume]), str(tmp_path / "one.nrrd"))
    sitk.WriteImage(sitk.JoinSeries([volume, volume]), str(tmp_path / "two.nrrd"))
    assert Geometry.of(io.read_image(tmp_path / "one.nrrd")).same_grid(GRID)
    with pytest.raises(ValueError, match="time point") as error:
        io.read_image(tmp_path / "two.nrrd")
    one_line(error)


def test_channels_must_share_a_grid(tmp_path):
    array = RNG.normal(size=GRID.shape).astype(np.float32)
    moved = Geometry(GRID.size, (1.0, 2.0, 3.5), GRID.origin_mm, GRID.direction)
    a, b = save(tmp_path / "a.nrrd", array, GRID), save(tmp_path / "b.nrrd", array + 1, GRID)
    c = save(tmp_path / "c.nrrd", array, moved)
    channels, _ = io.read_volume([b, a])
    np.testing.assert_array_equal(channels, [array + 1, array])
    with pytest.raises(ValueError, match="spacing") as error:
        io.read_volume([a, b, c])
    message = one_line(error)
    assert "a.nrrd" in message and "c.nrrd" in message and "b.nrrd" not in message
    with pytest.raises(ValueError, match="No image"):
        io.read_volume([])


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (-np.inf, "NaN or inf")])
def test_values_that_are_no_numbers_are_refused(tmp_path, value, words):
    array = np.zeros(GRID.shape, np.float32)
    array[2, 2, 2] = value
    with pytest.raises(ValueError, match=words) as error:
        io.read_volume(save(tmp_path / "bad.nrrd", array, GRID))
    assert "bad.nrrd" in one_line(error)


def test_constant_and_overflowing_channels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="flat.nrrd holds the single value 3 "):
        io.read_volume(save(tmp_path / "flat.nrrd", np.full(GRID.shape, 3, np.int16), GRID))
    huge = RNG.normal(size=GRID.shape) * 1e300
    with pytest.raises(ValueError, match="infinite"):
        io.read_volume(save(tmp_path / "huge.nrrd", huge, GRID))
    rgb = RNG.integers(0, 256, (5, 9, 3), dtype=np.uint8)
    rgb[..., 1] = 0
    with pytest.raises(ValueError, match="component 2 of 3"):
        io.read_volume(save(tmp_path / "rgb.png", rgb, vector=True))


@pytest.mark.parametrize("name", ["v.nrrd", "v.nii.gz", "v.nii", "v.mha", "p.png", "p.tif", "p.jpg", "p.bmp"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.03])
def test_cut_off_files_are_refused_in_one_line(tmp_path, name, share):
    array = RNG.integers(0, 256, (40, 50) if name[0] == "p" else (20, 30, 40), dtype=np.uint8)
    path = save(tmp_path / name, array)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError) as error:
        io.read_image(path)
    assert name in one_line(error)


def test_what_is_no_image_is_refused_in_one_line(tmp_path):
    for name, content in (("t.txt", "hello"), ("t.nrrd", "hello"), ("empty.png", "")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=name) as error:
            io.read_image(tmp_path / name)
        one_line(error)
    with pytest.raises(FileNotFoundError, match="missing.nrrd") as error:
        io.read_image(tmp_path / "missing.nrrd")
    one_line(error)
    with pytest.raises(ValueError, match="0 DICOM series"):
        io.read_image(tmp_path)


def test_warnings_of_itk_are_off_only_while_reading(tmp_path, capfd):
    with pytest.raises(ValueError):
        io.read_image(tmp_path)  # GDCM warns of a folder without series
    assert capfd.readouterr().err == ""
    assert sitk.ProcessObject.GetGlobalWarningDisplay()


# DICOM


def test_dicom_folder_is_one_volume():
    image = io.read_image(shared_path("data/ct_head_dicom"))
    assert image.GetSize() == (64, 64, 93)
    np.testing.assert_allclose(image.GetSpacing(), (3.2, 3.2, 1.5))
    single = io.read_image(shared_path("data/ct_head_dicom") / "CTHead1.dcm")
    assert single.GetSize() == (64, 64, 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(single)[0], sitk.GetArrayFromImage(image)[0])


def test_missing_slice_is_refused(tmp_path):
    for file in shared_path("data/ct_head_dicom").glob("*.dcm"):
        if file.name not in ("CTHead40.dcm", "CTHead41.dcm"):
            shutil.copy(file, tmp_path)
    with pytest.raises(ValueError, match="from 1.5 to 4.5 mm") as error:
        io.read_image(tmp_path)
    one_line(error)


def dicom_slice(path, series, position, number):
    image = sitk.GetImageFromArray(RNG.integers(0, 1000, (6, 5)).astype(np.int16))
    image = sitk.JoinSeries(image)
    tags = {
        "0008|0060": "CT",
        "0020|000d": "1.2.3",
        "0020|000e": series,
        "0020|0013": str(number),
        "0020|0032": "\\".join(map(str, position)),
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0008|0018": f"{series}.{number}",
    }
    for key, value in tags.items():
        image.SetMetaData(key, value)
    image.SetOrigin(position)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)


def test_several_series_are_listed(tmp_path):
    for series in ("1.2.3.4", "1.2.3.5"):
        for k in range(3):
            dicom_slice(tmp_path / f"{series}_{k}.dcm", series, (0.0, 0.0, 2.0 * k), k)
    with pytest.raises(ValueError, match="holds 2 DICOM series") as error:
        io.read_image(tmp_path)
    message = one_line(error)
    assert "1.2.3.4" in message and "1.2.3.5" in message and "folder of its own" in message


@pytest.mark.parametrize(("shift", "tilted"), [(0.0, False), (0.5, True)])
def test_tilted_gantry_is_refused(tmp_path, shift, tilted):
    for k in range(4):
        dicom_slice(tmp_path / f"{k}.dcm", "1.2.3.4", (0.0, shift * k, 2.0 * k), k)
    if tilted:
        with pytest.raises(ValueError, match="gantry"):
            io.read_image(tmp_path)
    else:
        assert io.read_image(tmp_path).GetSpacing()[2] == pytest.approx(2.0)


# Masks


@pytest.mark.parametrize("top", [1, 255])
@pytest.mark.parametrize("fill", ["some", "none", "all"])
def test_binary_masks(tmp_path, top, fill):
    mask = {"some": some_mask(), "none": np.zeros(GRID.shape, bool), "all": np.ones(GRID.shape, bool)}[fill]
    path = save(tmp_path / "m.nrrd", mask.astype(np.uint8) * top, GRID)
    read = io.read_mask(path, GRID)
    assert read.dtype == bool
    np.testing.assert_array_equal(read, mask)


def test_mask_with_other_values_is_refused(tmp_path):
    labels = some_mask().astype(np.int16)
    labels[0, 0, 0] = 2
    with pytest.raises(ValueError, match=r"3 values \(0, 1, 2\)") as error:
        io.read_mask(save(tmp_path / "m.nrrd", labels, GRID))
    one_line(error)
    with pytest.raises(ValueError, match=r"2 values \(1, 2\)"):
        io.read_mask(save(tmp_path / "m.nrrd", some_mask().astype(np.uint8) + 1, GRID))
    with pytest.raises(ValueError, match="not a binary mask"):
        io.read_mask(save(tmp_path / "m.nrrd", -some_mask().astype(np.int16), GRID))


def test_jpeg_mask_needs_a_threshold_and_then_has_no_halo(tmp_path):
    mask = np.zeros((64, 64), bool)
    mask[19:45, 22:41] = True
    path = save(tmp_path / "m.jpg", mask.astype(np.uint8) * 255)
    with pytest.raises(ValueError, match="threshold=0.5"):
        io.read_mask(path)
    np.testing.assert_array_equal(io.read_mask(path, threshold=0.5)[0], mask)
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0).sum() > mask.sum()  # what > 0 would have given
    faint = save(tmp_path / "faint.jpg", np.full((8, 8), 1, np.uint8))
    with pytest.raises(ValueError, match="threshold=0.5"):
        io.read_mask(faint)
    assert not io.read_mask(faint, threshold=0.5).any()


@pytest.mark.parametrize(("kind", "half"), [(np.uint8, 127.5), (np.uint16, 32767.5), (np.float32, 0.5)])
def test_threshold_is_a_share_of_full_scale(tmp_path, kind, half):
    below, above = (0.4999, 0.5001) if kind == np.float32 else (half - 0.5, half + 0.5)
    array = np.full(GRID.shape, below, kind)
    array[1, 2, 3] = above
    read = io.read_mask(save(tmp_path / "m.nrrd", array, GRID), threshold=0.5)
    assert np.argwhere(read).tolist() == [[1, 2, 3]]
    with pytest.raises(ValueError, match="share of full scale"):
        io.read_mask(tmp_path / "m.nrrd", threshold=127)


def test_colour_mask_counts_if_its_colours_agree(tmp_path):
    rgb = np.repeat((PICTURE > 128)[..., None], 3, -1).astype(np.uint8) * 255
    np.testing.assert_array_equal(io.read_mask(save(tmp_path / "m.png", rgb, vector=True))[0], PICTURE > 128)
    rgb[..., 2] = 0
    with pytest.raises(ValueError, match="3 colours"):
        io.read_mask(save(tmp_path / "m.png", rgb, vector=True))


def test_mask_of_another_grid_is_refused(tmp_path):
    wider = Geometry((9, 7, 6), GRID.spacing_mm, GRID.origin_mm, GRID.direction)
    path = save(tmp_path / "m.nrrd", np.zeros(wider.shape, np.uint8), wider)
    with pytest.raises(ValueError, match=r"size \(8, 7, 6\) against \(9, 7, 6\)") as error:
        io.read_mask(path, GRID)
    one_line(error)


def test_real_rater_masks_and_image():
    case = sorted(shared_path("data/lidc_crops").iterdir())[0]
    _, geometry = io.read_volume(next(case.glob("image_*.jpg")))
    for path in sorted(case.glob("label*.jpg")):
        stored = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        stored = stored if stored.ndim == 2 else stored[..., 0]
        np.testing.assert_array_equal(io.read_mask(path, geometry, threshold=0.5)[0], stored > 127)


# Writing


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16, np.float32, np.float64])
def test_write_volume_keeps_type_and_values(tmp_path, kind):
    array = (RNG.normal(size=GRID.shape) * 50 if kind is not bool else some_mask()).astype(kind)
    writing.write_volume(tmp_path / "new folder" / "v.nrrd", array, GRID)
    image = sitk.ReadImage(str(tmp_path / "new folder" / "v.nrrd"))
    read = sitk.GetArrayFromImage(image)
    assert read.dtype == (np.uint8 if kind is bool else kind)
    np.testing.assert_array_equal(read, array)
    assert Geometry.of(image).same_grid(GRID, 1e-9)


def test_what_cannot_be_written_is_refused_before_the_file_is_touched(tmp_path):
    mask = some_mask()
    for call in (
        lambda: writing.write_volume(tmp_path / "v.nii.gz", mask, GRID),
        lambda: writing.write_volume(tmp_path / "v.nrrd", mask.astype(np.float16), GRID),
        lambda: writing.write_volume(tmp_path / "v.nrrd", mask[1:], GRID),
        lambda: writing.write_segmentation(tmp_path / "s.nrrd", mask, GRID, [Label()]),
        lambda: writing.write_segmentation(tmp_path / "s.seg.nrrd", mask.astype(np.int16), GRID, [Label()]),
        lambda: writing.write_segmentation(tmp_path / "s.seg.nrrd", mask.astype(np.uint8) * 2, GRID, [Label()]),
        lambda: writing.write_segmentation(tmp_path / "s.seg.nrrd", mask, GRID, []),
        lambda: writing.write_segmentation(tmp_path / "s.seg.nrrd", mask, GRID, [Label()], [""]),
        lambda: writing.write_segmentation(tmp_path / "s.seg.nrrd", mask, GRID, [Label()], ["a", "b"]),
        lambda: writing.write_segmentation(tmp_path / "s.seg.nrrd", mask, GRID, [Label("a"), Label("b")], ["a", "a"]),
        lambda: writing.write_segmentation(tmp_path / "s.seg.nrrd", mask[1:], GRID, [Label()]),
    ):
        with pytest.raises(ValueError) as error:
            call()
        one_line(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [OSError, RuntimeError])
def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, failure):
    path = tmp_path / "v.nrrd"
    writing.write_volume(path, some_mask(), GRID)
    before = path.read_bytes()

    def full_disk(image, name, **options):
        with open(name, "wb") as file:
            file.write(b"half")
        raise failure("No space left on device")

    monkeypatch.setattr(writing.sitk, "WriteImage", full_disk)
    with pytest.raises(OSError, match="No space left") as error:
        writing.write_volume(path, ~some_mask(), GRID)
    one_line(error)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no limit to the size of a file")
@pytest.mark.parametrize("name", ["v.nrrd", "v.seg.nrrd", "v.nii", "v.nii.gz", "p.png"])
def test_a_full_disk_is_told_in_the_systems_words(tmp_path, monkeypatch, name):
    """A limit to the size of files ends writing where a full disk does; SimpleITK's words name no reason."""
    import resource

    grid = Geometry((64, 64, 20), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    noise = RNG.integers(0, 2, (20, 64, 64), dtype=np.uint8)
    ways = {
        "v.nrrd": lambda path: writing.write_volume(path, noise, grid),
        "v.seg.nrrd": lambda path: writing.write_segmentation(path, noise, grid, [Label()]),
        "p.png": lambda path: write_png(path, RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError) as error:
            ways.get(name, lambda path: writing.write_nifti(path, noise, grid))(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.errno == errno.EFBIG
    assert said(error.value) == f"{tmp_path / name}: file too large; check path, permission and space."
    assert list(tmp_path.iterdir()) == []


# .seg.nrrd, as other programs see it

NAME, COLOR, ID = "Läsion 3: a=b | 50 %", (0.1, 0.2, 0.3), "Sample_03"


@pytest.fixture(params=["some", "none"])
def segmentation(request, tmp_path):
    mask = some_mask() if request.param == "some" else np.zeros(GRID.shape, bool)
    path = tmp_path / "s.seg.nrrd"
    writing.write_segmentation(path, mask, GRID, [Label(NAME, COLOR)], [ID])
    return path, mask


def test_segmentation_by_own_reader(segmentation):
    path, mask = segmentation
    np.testing.assert_array_equal(io.read_mask(path, GRID), mask)
    image = sitk.ReadImage(str(path))
    assert image.GetMetaData("Segment0_Extent") == ("2 6 3 5 1 3" if mask.any() else "0 -1 0 -1 0 -1")


def test_segmentation_by_slicerio(segmentation):
    slicerio = pytest.importorskip("slicerio")
    path, mask = segmentation
    read = slicerio.read_segmentation(str(path))
    np.testing.assert_array_equal(read["voxels"].transpose(2, 1, 0), mask)  # slicerio has x, y, z order
    (segment,) = read["segments"]
    ascii_name = NAME.encode("ascii", "ignore").decode()  # pynrrd leaves other letters out
    assert (segment["id"], segment["name"], segment["labelValue"], segment["layer"]) == (ID, ascii_name, 1, 0)
    np.testing.assert_allclose(segment["color"], COLOR)
    assert segment["terminology"]["category"] == ["SCT", "49755003", "Morphologically Altered Structure"]
    assert segment["terminology"]["type"] == ["SCT", "52988006", "Lesion"]
    np.testing.assert_allclose(read["ijkToLPS"][:3, 3], GRID.origin_mm)


def test_segmentation_by_slicer(segmentation, tmp_path):
    slicer = pytest.importorskip("slicer")
    if not hasattr(slicer, "vtkMRMLSegmentationStorageNode"):
        pytest.skip("this Slicer has no segmentation nodes")
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    path, mask = segmentation
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    read = node.GetSegmentation()
    assert [read.GetNthSegmentID(k) for k in range(read.GetNumberOfSegments())] == [ID]
    segment = read.GetSegment(ID)
    assert segment.GetName() == NAME
    np.testing.assert_allclose(segment.GetColor(), COLOR)
    entry = vtk.reference("")
    assert segment.GetTag("TerminologyEntry", entry) and str(entry) == LESION_TERMINOLOGY
    labelmap = segment.GetRepresentation("Binary labelmap")
    seen = np.zeros_like(mask)
    x0, x1, y0, y1, z0, z1 = labelmap.GetExtent()
    if x1 >= x0:
        voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(z1 - z0 + 1, y1 - y0 + 1, x1 - x0 + 1)
        seen[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1] = voxels == 1
    np.testing.assert_array_equal(seen, mask)
    # Saved again by Slicer, it is still the same mask on the whole grid (an empty segment has no grid there).
    again = tmp_path / "again.seg.nrrd"
    storage.SetFileName(str(again))
    assert storage.WriteData(node)
    assert read.GetConversionParameter("Reference image geometry") == GRID.slicer_text()
    assert sitk.ReadImage(str(again)).GetSize() == (GRID.size if mask.any() else (1, 1, 1))
    np.testing.assert_array_equal(io.read_mask(again, GRID), mask)


def test_cropped_segmentation_is_placed_and_a_shifted_one_refused(tmp_path):
    mask = some_mask()
    image = GRID.image(mask)
    image.SetMetaData("Segment0_ID", "a")
    cropped = image[2:7, 3:6, 1:4]
    for key in image.GetMetaDataKeys():
        cropped.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(cropped, str(tmp_path / "c.seg.nrrd"))
    np.testing.assert_array_equal(io.read_mask(tmp_path / "c.seg.nrrd", GRID), mask)
    cropped.SetOrigin(image.TransformContinuousIndexToPhysicalPoint((2.4, 3.0, 1.0)))
    sitk.WriteImage(cropped, str(tmp_path / "c.seg.nrrd"))
    with pytest.raises(ValueError, match="does not lie on the grid"):
        io.read_mask(tmp_path / "c.seg.nrrd", GRID)

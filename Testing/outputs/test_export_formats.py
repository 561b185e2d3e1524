"""Exported files read back by another reader; complete or absent."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import COLUMNS, ROWS, SLICES, write_series

from AmbiguousSegLib import __version__
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.outputs import export_formats as export
from AmbiguousSegLib.outputs.export_formats import DICOM_FILE, FORMATS, export_masks, output_format
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_label_map, read_mask, read_volume
from AmbiguousSegLib.volume.segments import read_raters

GRID = Geometry((12, 10, 5), (0.5, 0.5, 2.0), (3.0, -4.0, 5.0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1.0))
LABEL = Label("nodule", (0.2, 0.4, 0.6))
CLASSES = [Label("core", (0.9, 0.3, 0.2)), Label("GD+ halo", (0.2, 0.6, 1.0))]
SUFFIXES = {"seg_nrrd": (".seg.nrrd", ".nrrd"), "nifti": (".nii.gz", ".nii.gz")}
FILES = list(SUFFIXES)


@pytest.fixture
def masks():
    values = np.random.default_rng(0).random((2, *GRID.shape)) < 0.3
    return [("sample_01", "nodule 1", values[0]), ("consensus", "nodule (consensus)", values[1])]


@pytest.fixture
def maps():
    return {"mean": np.random.default_rng(1).random(GRID.shape, np.float32)}


def named(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("form", FILES)
def test_every_file_reads_back(tmp_path, masks, maps, form):
    of_mask, of_map = SUFFIXES[form]
    written = export_masks(tmp_path / "a" / "b", form, masks, maps, GRID, [LABEL])
    expected = [f"sample_01{of_mask}", f"consensus{of_mask}", f"mean{of_map}"]
    assert [path.name for path in written] == expected and named(tmp_path / "a" / "b") == sorted(expected)
    for path, (_, _, mask) in zip(written, masks):
        image = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), mask)
        assert Geometry.of(image).same_grid(GRID)
    image = sitk.ReadImage(str(written[2]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), maps["mean"])
    assert image.GetPixelID() == sitk.sitkFloat32 and Geometry.of(image).same_grid(GRID)


def test_segmentations_carry_title_colour_and_terminology(tmp_path, masks):
    written = export_masks(tmp_path, "seg_nrrd", masks, {}, GRID, [LABEL])
    image = sitk.ReadImage(str(written[1]))
    assert image.GetMetaData("Segment0_Name") == "nodule (consensus)"
    assert image.GetMetaData("Segment0_ID") == "consensus"
    assert image.GetMetaData("Segment0_Color") == "0.2 0.4 0.6"
    assert LABEL.terminology in image.GetMetaData("Segment0_Tags")


def test_maps_alone(tmp_path, maps):
    written = export_masks(tmp_path, "nifti", [], maps, GRID, [LABEL])
    assert [path.name for path in written] == ["mean.nii.gz"]


# Several classes


@pytest.fixture
def label_maps():
    values = np.random.default_rng(0).integers(0, 3, (2, *GRID.shape), dtype=np.uint8)
    return [("sample_01", "sample 1", values[0]), ("consensus", "consensus", values[1])]


def test_each_class_is_a_segment_of_its_own(tmp_path, label_maps, maps):
    written = export_masks(tmp_path, "seg_nrrd", label_maps, maps, GRID, CLASSES)
    assert [path.name for path in written] == ["sample_01.seg.nrrd", "consensus.seg.nrrd", "mean.nrrd"]
    for path, (stem, _, label_map) in zip(written, label_maps):
        ((name, read),) = read_raters(path, GRID, ["core", "GD+ halo"])
        assert name == stem
        np.testing.assert_array_equal(read, label_map)
        image = sitk.ReadImage(str(path))
        found = [[image.GetMetaData(f"Segment{k}_{key}") for key in ("ID", "Name", "Color")] for k in range(2)]
        assert found == [["core", "core", "0.9 0.3 0.2"], ["gd__halo", "GD+ halo", "0.2 0.6 1"]]


def test_a_nifti_holds_the_numbers_of_the_classes(tmp_path, label_maps):
    written = export_masks(tmp_path, "nifti", label_maps, {}, GRID, CLASSES)
    for path, (_, _, label_map) in zip(written, label_maps, strict=True):
        np.testing.assert_array_equal(read_label_map(path, GRID, 2), label_map)
        assert sitk.ReadImage(str(path)).GetPixelID() == sitk.sitkUInt8


def test_a_dicom_segmentation_has_a_segment_for_each_mask_and_class(tmp_path):
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    import pydicom

    files, volume, geometry = series(tmp_path / "ct")
    label_map = (volume > 500).astype(np.uint8) + (volume > 800)
    masks = [("s1", "sample 1", label_map), ("s2", "sample 2", np.minimum(label_map, 1))]
    notes = []
    (path,) = export_masks(tmp_path / "out", "dicom", masks, {}, geometry, CLASSES, files, on_note=notes.append)
    names = [item.SegmentLabel for item in pydicom.dcmread(path).SegmentSequence]
    assert names == ["sample 1, core", "sample 1, GD+ halo", "sample 2, core", "sample 2, GD+ halo"]
    assert notes == ["Empty, so segments without a slice, which other software may not list: sample 2, GD+ halo."]


# A new format


def test_a_format_is_one_function(tmp_path, masks, maps):
    @output_format("raw", "Bytes as they are (.raw)", ".raw")
    def raw(content):
        for stem, _, mask in content.masks:
            yield f"{stem}.raw", mask.astype(np.uint8).tofile
        yield (
            "labels.txt",
            lambda path: path.write_text(" ".join(label.name for label in content.labels), encoding="utf-8"),
        )

    try:
        assert FORMATS["raw"] is raw and list(FORMATS)[:3] == ["seg_nrrd", "nifti", "dicom"]
        asked = []
        written = export_masks(tmp_path / "out", "raw", masks, maps, GRID, [LABEL], on_file=asked.append)
        assert [path.name for path in written] == asked == ["sample_01.raw", "consensus.raw", "labels.txt"]
        for path, (_, _, mask) in zip(written, masks):
            np.testing.assert_array_equal(np.fromfile(path, np.uint8).reshape(GRID.shape), mask)
        assert written[2].read_text(encoding="utf-8") == "nodule"
        with pytest.raises(FileExistsError, match=r"sample_01\.raw exists"):
            export_masks(tmp_path / "out", "raw", masks, maps, GRID, [LABEL])
    finally:
        FORMATS.unregister("raw")


def test_formats_have_titles_and_suffixes():
    assert [FORMATS[name].title for name in FORMATS][:3] == [
        "Slicer segmentation (.seg.nrrd)",
        "NIfTI (.nii.gz)",
        "DICOM SEG",
    ]
    assert [FORMATS[name].suffix for name in FORMATS][:3] == [".seg.nrrd", ".nii.gz", ".dcm"]
    with pytest.raises(ValueError, match="Unknown output format 'png'; known: seg_nrrd, nifti, dicom"):
        export_masks("nowhere", "png", [], {}, GRID, [LABEL])


# DICOM


def series(folder):
    files = write_series(folder)
    volume, geometry = read_volume(folder)
    return files, volume[0], geometry


def test_a_dicom_segmentation_holds_the_masks_and_tells_what_it_does_not(tmp_path):
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    import pydicom

    files, volume, geometry = series(tmp_path / "ct")
    masks = [("s1", "sample 1", volume > 500), ("s2", "sample 2", volume > 2000)]
    notes = []
    written = export_masks(
        tmp_path / "out", "dicom", masks, {"mean": volume}, geometry, [LABEL], files, "tiny", on_note=notes.append
    )
    assert written == [tmp_path / "out" / DICOM_FILE] and named(tmp_path / "out") == [DICOM_FILE]
    segmentation = pydicom.dcmread(written[0])
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["sample 1", "sample 2"]
    assert segmentation.SegmentSequence[0].SegmentAlgorithmName == "tiny"
    assert segmentation.SoftwareVersions == __version__
    sources = {d.SOPInstanceUID: d.pixel_array > 500 for d in map(pydicom.dcmread, files)}
    items = segmentation.PerFrameFunctionalGroupsSequence
    assert len(items) == SLICES
    for item, frame in zip(items, segmentation.pixel_array, strict=True):
        assert item.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1
        uid = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_array_equal(frame.astype(bool), sources[uid])
    assert len(notes) == 2 and "sample 2" in notes[0] and "sample 1" not in notes[0]
    assert "left out: mean" in notes[1]


def test_unless_it_is_asked_for_a_note_is_a_warning(tmp_path, caplog):
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    files, volume, geometry = series(tmp_path / "ct")
    with caplog.at_level(logging.WARNING):
        export_masks(
            tmp_path / "out", "dicom", [("s", "s", volume > 500)], {"100% mean": volume}, geometry, [LABEL], files
        )
    assert "left out: 100% mean" in caplog.text


def test_dicom_needs_its_series(tmp_path, masks):
    with pytest.raises(ValueError, match=r"read from a DICOM series is exported as \.seg\.nrrd or \.nii\.gz"):
        export_masks(tmp_path / "out", "dicom", masks, {}, GRID, [LABEL])
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    files, _, _ = series(tmp_path / "ct")
    with pytest.raises(ValueError, match="3 files, the volume 5 slices"):
        export_masks(tmp_path / "out", "dicom", masks, {}, GRID, [LABEL], files)
    assert named(tmp_path) == ["000.dcm", "001.dcm", "002.dcm", "ct"]


# What is there already, and what fails


@pytest.mark.parametrize("form", FILES)
def test_an_earlier_file_is_kept_unless_told(tmp_path, masks, maps, form):
    of_mask, of_map = SUFFIXES[form]
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for name in (f"mean{of_map}", f"consensus{of_mask}"):
        (tmp_path / name).write_text("earlier", encoding="utf-8")
        with pytest.raises(FileExistsError, match=f"{name} exists"):
            export_masks(tmp_path, form, masks, maps, GRID, [LABEL])
        assert named(tmp_path) == sorted(["notes.txt", name])
        export_masks(tmp_path, form, masks, maps, GRID, [LABEL], overwrite=True)
        assert np.array_equal(read_mask(tmp_path / f"consensus{of_mask}", GRID), masks[1][2])
        for other in tmp_path.glob("*.nrrd"), tmp_path.glob("*.nii.gz"):
            for path in other:
                path.unlink()
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("form", "failing"),
    [
        ("seg_nrrd", "write_segmentation"),
        ("seg_nrrd", "write_volume"),
        ("nifti", "write_nifti"),
        ("dicom", "write_dicom_seg"),
    ],
)
def test_a_full_disk_leaves_everything_as_it_was(tmp_path, monkeypatch, form, failing, overwrite):
    """The last file of the kind fails, after the others were written."""
    geometry = Geometry((COLUMNS, ROWS, SLICES), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    mask = np.ones(geometry.shape, bool)
    arguments = [form, [("a", "a", mask), ("b", "b", mask)], {"mean": mask.astype(np.float32)}, geometry, [LABEL]]
    folder = tmp_path / "new" / "out"
    before = {}
    if overwrite:
        folder.mkdir(parents=True)
        for name in ("a.seg.nrrd", "a.nii.gz", DICOM_FILE):
            (folder / name).write_text("earlier", encoding="utf-8")
        before = dict.fromkeys(("a.seg.nrrd", "a.nii.gz", DICOM_FILE), "earlier")
    write, left = getattr(export, failing), [1 if failing == "write_segmentation" else 2]

    def full(path, *rest, **options):
        left[0] -= 1
        if failing in ("write_volume", "write_dicom_seg") or left[0] < 0:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(path, *rest, **options)

    monkeypatch.setattr(export, failing, full)
    with pytest.raises(OSError, match="No space left"):
        export_masks(folder, *arguments, source_files=["x"], overwrite=overwrite)
    if overwrite:
        assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == before
    else:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "stems", "of_maps", "message"),
    [
        ("seg_nrrd", [], [], "nothing to export"),
        ("dicom", [], ["mean"], "nothing to export"),
        ("seg_nrrd", ["../a"], [], "cannot be the name of a file"),
        ("nifti", ["a:b"], [], "cannot be the name of a file"),
        ("dicom", [""], [], "'' cannot be the name of a file"),
        ("seg_nrrd", ["a", "A"], [], "would be named A.seg.nrrd"),
        ("nifti", ["mean"], ["mean"], "would be named mean.nii.gz"),
    ],
)
def test_names_that_make_no_files_are_refused(tmp_path, form, stems, of_maps, message):
    mask = np.ones(GRID.shape, bool)
    maps = {name: mask.astype(np.float32) for name in of_maps}
    with pytest.raises(ValueError, match=message) as error:
        export_masks(tmp_path / "out", form, [(s, s, mask) for s in stems], maps, GRID, [LABEL], ["x"])
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_mask_may_share_its_name_with_a_map_where_suffixes_differ(tmp_path, maps, masks):
    written = export_masks(tmp_path, "seg_nrrd", [("mean", "mean", masks[0][2])], maps, GRID, [LABEL])
    assert [path.name for path in written] == ["mean.seg.nrrd", "mean.nrrd"]

"""Segments read back frame by frame: each must mark what was marked in the very instance that the frame names."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from dicom_files import ALONG_ROW, COLUMNS, DOWN_COLUMN, ROWS, SLICES, STRAIGHT, write_series
from shared_data import shared_path
from skimage.color import rgb2lab

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume.dicom_seg import write_dicom_seg
from AmbiguousSegLib.volume.io import read_volume

pytest.importorskip("highdicom", reason="highdicom is not installed")
import highdicom
import pydicom

LESION = Label(color=(1.0, 0.5, 0.0))
NAMED = {"model_name": "tiny", "software_version": "1.2.3"}
BETWEEN = {"low": (100, 400), "middle": (300, 600), "high": (950, 1000)}  # low and middle overlap


def between(values, name):
    low, high = BETWEEN[name]
    return (values >= low) & (values < high)


def written(folder, files, target, masks=None, labels=(LESION,), geometry=None, **options):
    """Segmentation of ``files`` on the grid that SimpleITK reads from their folder."""
    volume, grid = read_volume(folder)
    masks = [(name, between(volume[0], name)) for name in BETWEEN] if masks is None else masks
    empty = write_dicom_seg(target, masks, geometry or grid, files, labels, **NAMED | options)
    return pydicom.dcmread(target), empty


def frames_of(segmentation):
    """Segment number, source instance, position and pixels of each frame."""
    pixels = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for item, frame in zip(segmentation.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        segment = (item if "SegmentIdentificationSequence" in item else shared).SegmentIdentificationSequence[0]
        source = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = item.PlanePositionSequence[0].ImagePositionPatient
        yield segment.ReferencedSegmentNumber, source, [float(v) for v in position], frame.astype(bool)


def agrees(segmentation, files, thresholds=BETWEEN):
    """Each frame is the threshold of the pixels in the instance it names; every other slice holds nothing."""
    sources = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, files)}
    names = [item.SegmentLabel for item in segmentation.SegmentSequence]
    assert names == list(thresholds)
    seen = {}
    for number, uid, position, frame in frames_of(segmentation):
        source = sources[uid]
        np.testing.assert_allclose(position, [float(v) for v in source.ImagePositionPatient], atol=1e-6)
        low, high = thresholds[names[number - 1]]
        np.testing.assert_array_equal(frame, (source.pixel_array >= low) & (source.pixel_array < high))
        assert (number, uid) not in seen
        seen[number, uid] = frame.any()
    for number, name in enumerate(names, start=1):
        low, high = thresholds[name]
        for uid, source in sources.items():
            marked = ((source.pixel_array >= low) & (source.pixel_array < high)).any()
            assert seen.get((number, uid), False) == marked
    return sum(seen.values())


# Geometry


@pytest.mark.parametrize("axes", [STRAIGHT, (ALONG_ROW, DOWN_COLUMN)], ids=["straight", "oblique"])
@pytest.mark.parametrize("backwards", [False, True])
def test_every_frame_marks_what_was_marked_in_its_instance(tmp_path, axes, backwards):
    files = write_series(tmp_path / "ct", axes, backwards)
    segmentation, empty = written(tmp_path / "ct", files, tmp_path / "seg.dcm")
    assert agrees(segmentation, files) >= 2 * SLICES and empty == []
    assert segmentation.SegmentsOverlap == "YES"
    plane = segmentation.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose([float(v) for v in plane], np.concatenate(axes))
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(v) for v in measures.PixelSpacing] == [0.8, 0.6]
    assert (float(measures.SliceThickness), float(measures.SpacingBetweenSlices)) == (2.0, pytest.approx(2.5))


def test_the_order_of_the_files_is_of_no_matter(tmp_path):
    files = write_series(tmp_path / "ct")
    shuffled = [files[2], files[0], files[1]]
    segmentation, _ = written(tmp_path / "ct", shuffled, tmp_path / "seg.dcm")
    agrees(segmentation, files)


def test_a_volume_stored_from_the_last_slice_to_the_first(tmp_path):
    files = write_series(tmp_path / "ct")
    volume, grid = read_volume(tmp_path / "ct")
    direction = np.array(grid.direction).reshape(3, 3) * [1, 1, -1]
    turned = replace(
        grid, origin_mm=tuple(grid.to_mm((0, 0, SLICES - 1)).tolist()), direction=tuple(direction.ravel().tolist())
    )
    masks = [(name, between(volume[0], name)[::-1]) for name in BETWEEN]
    segmentation, _ = written(tmp_path / "ct", files, tmp_path / "seg.dcm", masks, geometry=turned)
    agrees(segmentation, files)


def test_a_real_series(tmp_path):
    folder = shared_path("data/ct_head_dicom")
    thresholds = {"bone": (300, 4000), "soft tissue": (-100, 500)}
    volume, _ = read_volume(folder)
    masks = [(name, (volume[0] >= low) & (volume[0] < high)) for name, (low, high) in thresholds.items()]
    files = sorted(folder.iterdir())
    segmentation, empty = written(folder, files, tmp_path / "seg.dcm", masks)
    assert agrees(segmentation, files, thresholds) > 93 and empty == []
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    assert "FrameOfReferenceUID" not in sources[0]  # so that one is made, the same each time
    again, _ = written(folder, files, tmp_path / "again.dcm", masks)
    assert segmentation.FrameOfReferenceUID == again.FrameOfReferenceUID != ""
    assert segmentation.StudyInstanceUID == sources[0].StudyInstanceUID
    assert segmentation.SeriesInstanceUID not in (sources[0].SeriesInstanceUID, again.SeriesInstanceUID)


def test_another_reader_gets_the_volume_back(tmp_path):
    files = write_series(tmp_path / "ct", backwards=True)
    volume, grid = read_volume(tmp_path / "ct")
    written(tmp_path / "ct", files, tmp_path / "seg.dcm")
    read = highdicom.seg.segread(tmp_path / "seg.dcm").get_volume()
    segments = read.array.astype(bool)
    corner = np.rint(grid.to_index(np.array(read.position))).astype(int)  # of highdicom's first voxel
    step = np.sign(np.array(read.direction) @ np.array(grid.direction).reshape(3, 3)[:, ::-1]).diagonal()
    assert tuple(corner[:2]) == (0, 0) and abs(step[0]) == 1
    ordered = segments if corner[2] == 0 else segments[::-1]
    for k, name in enumerate(BETWEEN):
        np.testing.assert_array_equal(ordered[..., k], between(volume[0], name))


@pytest.mark.parametrize("marked", [[], [3], [0, 2], [1, 6], [2, 4, 6], [0, 1, 5], [4, 5], list(range(7))])
@pytest.mark.parametrize("segments", [1, 2])
def test_the_slices_are_spaced_as_the_series_whichever_are_marked(tmp_path, marked, segments):
    files = write_series(tmp_path / "ct", slices=7, SpacingBetweenSlices=9.0)  # what the files say is of no matter
    mask = np.zeros((7, ROWS, COLUMNS), bool)
    mask[marked, 1, 2:4] = True
    masks = [(f"mask {number}", mask) for number in range(segments)]
    segmentation, _ = written(tmp_path / "ct", files, tmp_path / "seg.dcm", masks)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5)
    gaps = bool(marked) and marked[-1] - marked[0] >= len(marked)
    assert ("DimensionOrganizationType" in segmentation) == (segments == 1 and len(marked) > 1 and not gaps)
    read = highdicom.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=False, rescale_fractional=False)
    np.testing.assert_allclose(read.spacing, [2.5, 0.8, 0.6])
    assert read.array.shape[0] == (marked[-1] - marked[0] + 1 if marked else 1)
    assert [int(n) for n in read.array.astype(bool).sum((0, 1, 2))] == [2 * len(marked)] * segments


# Description


def test_segments_say_what_they_are_and_who_made_them(tmp_path):
    files = write_series(tmp_path / "ct")
    region = "SCT^39607008^Lung~SCT^7771000^Left"
    kinds = "SCT^49755003^Morphologically Altered Structure~SCT^27925004^Nodule~SCT^24028007^Right"
    label = Label(color=(1.0, 0.5, 0.0), terminology=f"a~{kinds}~b~{region}")
    segmentation, _ = written(tmp_path / "ct", files, tmp_path / "seg.dcm", labels=[label])
    tracking = set()
    for number, segment in enumerate(segmentation.SegmentSequence, start=1):
        assert segment.SegmentNumber == number and segment.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("tiny", "1.2.3")
        assert segment.SegmentAlgorithmName == "tiny"
        kind, place = segment.SegmentedPropertyTypeCodeSequence[0], segment.AnatomicRegionSequence[0]
        codes = [
            segment.SegmentedPropertyCategoryCodeSequence[0],
            *(kind, kind.SegmentedPropertyTypeModifierCodeSequence[0]),
            *(place, place.AnatomicRegionModifierSequence[0]),
        ]
        spoken = [f"{c.CodingSchemeDesignator}^{c.CodeValue}^{c.CodeMeaning}" for c in codes]
        assert spoken == f"{kinds}~{region}".split("~")
        stored = np.array(segment.RecommendedDisplayCIELabValue)
        lightness, a, b = stored[0] / 65535 * 100, *(stored[1:] / 65535 * 255 - 128)
        np.testing.assert_allclose([lightness, a, b], rgb2lab([[label.color]])[0, 0], atol=0.5)
        assert segment.TrackingID == segment.SegmentLabel
        tracking.add(segment.TrackingUID)
    assert len(tracking) == len(BETWEEN)
    assert segmentation.SoftwareVersions == "1.2.3" and "research use only" in segmentation.SeriesDescription
    assert segmentation.SegmentationType == "BINARY" and segmentation.Modality == "SEG"


def test_the_default_terminology_has_neither_modifier_nor_region(tmp_path):
    segmentation, _ = written(tmp_path / "ct", write_series(tmp_path / "ct"), tmp_path / "seg.dcm")
    segment = segmentation.SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
    assert "AnatomicRegionSequence" not in segment
    assert "SegmentedPropertyTypeModifierCodeSequence" not in segment.SegmentedPropertyTypeCodeSequence[0]


def test_names_that_the_series_cannot_spell(tmp_path):
    files = write_series(tmp_path / "ct", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    masks = [("結節 1", np.ones((SLICES, ROWS, COLUMNS), bool))]
    segmentation, _ = written(tmp_path / "ct", files, tmp_path / "seg.dcm", masks)
    assert segmentation.SegmentSequence[0].SegmentLabel == "結節 1"
    assert str(segmentation.PatientName) == "Müller^Jörg"


def test_an_anonymised_series_lacks_what_may_be_empty(tmp_path):
    absent = dict.fromkeys(
        (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
            "FrameOfReferenceUID",
            "SliceThickness",
        )
    )
    files = write_series(tmp_path / "ct", **absent)
    segmentation, _ = written(tmp_path / "ct", files, tmp_path / "seg.dcm")
    agrees(segmentation, files)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == 2.5
    assert not segmentation.PatientName and not segmentation.StudyDate and segmentation.FrameOfReferenceUID


# Several classes


def by_segment(segmentation, slices):
    """Marked voxels of each segment by its name, bool ``(Z, Y, X)``; the files are in the order of the slices."""
    names = [item.SegmentLabel for item in segmentation.SegmentSequence]
    found = {name: np.zeros((len(slices), ROWS, COLUMNS), bool) for name in names}
    for number, source, _, frame in frames_of(segmentation):
        found[names[number - 1]][slices.index(source)] = frame
    return found


def test_each_class_of_each_mask_is_a_segment_with_its_own_colour_and_terminology(tmp_path):
    files = write_series(tmp_path / "ct")
    slices = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    nodule = "a~SCT^49755003^Morphologically Altered Structure~SCT^27925004^Nodule~^^~b~^^~^^"
    labels = [Label("core", (0.9, 0.3, 0.2)), Label("halo", (0.1, 0.6, 1.0), nodule)]
    first = np.random.default_rng(0).integers(0, 3, (SLICES, ROWS, COLUMNS), dtype=np.uint8)
    second = np.where(first == 1, 1, 0).astype(np.uint8)  # no halo
    masks = [("sample 1", first), ("consensus", second)]
    segmentation, empty = written(tmp_path / "ct", files, tmp_path / "seg.dcm", masks, labels)
    found = by_segment(segmentation, slices)
    assert list(found) == ["sample 1, core", "sample 1, halo", "consensus, core", "consensus, halo"]
    for (name, mask), number in zip(found.items(), (1, 2, 1, 2)):
        expected = (first if name.startswith("sample") else second) == number
        np.testing.assert_array_equal(mask, expected)
    assert empty == ["consensus, halo"]
    for segment, label in zip(segmentation.SegmentSequence, labels * 2, strict=True):
        kind = segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning
        assert kind == ("Lesion" if label.name == "core" else "Nodule")
        stored = np.array(segment.RecommendedDisplayCIELabValue)
        lab = [stored[0] / 65535 * 100, *(stored[1:] / 65535 * 255 - 128)]
        np.testing.assert_allclose(lab, rgb2lab([[label.color]])[0, 0], atol=0.5)


def test_one_class_is_a_segment_of_the_masks_name_whatever_its_type(tmp_path):
    files = write_series(tmp_path / "ct")
    mask = np.random.default_rng(1).random((SLICES, ROWS, COLUMNS)) < 0.4
    stored = []
    for array in (mask, mask.astype(np.uint8)):
        segmentation, _ = written(tmp_path / "ct", files, tmp_path / "seg.dcm", [("sample 1", array)])
        assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["sample 1"]
        stored.append(segmentation.PixelData)
    assert stored[0] == stored[1]


def test_a_name_with_its_class_is_cut_to_what_dicom_holds(tmp_path):
    files = write_series(tmp_path / "ct")
    labels = [Label("core"), Label("the part around it " * 4)]
    mask = np.ones((SLICES, ROWS, COLUMNS), np.uint8)
    segmentation, _ = written(tmp_path / "ct", files, tmp_path / "seg.dcm", [("sample 1", mask)], labels)
    names = [item.SegmentLabel for item in segmentation.SegmentSequence]
    assert names == ["sample 1, core", "sample 1, " + ("the part around it " * 4)[:53] + "…"] and len(names[1]) == 64


# Empty masks


def test_an_empty_mask_is_a_segment_without_frames_and_is_named(tmp_path):
    files = write_series(tmp_path / "ct")
    one, none = np.zeros((2, SLICES, ROWS, COLUMNS), bool)
    one[1, 2, 3] = True
    segmentation, empty = written(
        tmp_path / "ct", files, tmp_path / "seg.dcm", [("first", none), ("one", one), ("last", none)]
    )
    assert empty == ["first", "last"]
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["first", "one", "last"]
    ((number, source, _, frame),) = frames_of(segmentation)
    assert number == 2 and np.argwhere(frame).tolist() == [[2, 3]]
    assert source == pydicom.dcmread(files[1]).SOPInstanceUID
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert list(read.segment_numbers) == [1, 2, 3]


def test_if_nothing_is_marked_one_empty_slice_is_kept(tmp_path):
    none = np.zeros((SLICES, ROWS, COLUMNS), bool)
    files = write_series(tmp_path / "ct")
    segmentation, empty = written(tmp_path / "ct", files, tmp_path / "seg.dcm", [("a", none), ("b", none)])
    assert empty == ["a", "b"]
    frames = list(frames_of(segmentation))
    assert [number for number, *_ in frames] == [1, 2] and not any(frame.any() for *_, frame in frames)


# What is refused


def refused(tmp_path, files, message, error=ValueError, **options):
    with pytest.raises(error, match=message) as caught:
        written(tmp_path / "ct", files, tmp_path / "out" / "seg.dcm", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"origin_mm": (11.0, -20.0, 30.0)}, "000.dcm does not lie on the volume's grid"),
        ({"spacing_mm": (0.62, 0.8, 2.5)}, "corners differ by up to 0.19"),
        ({"spacing_mm": (0.6, 0.8, 3.0)}, "does not lie on the volume's grid"),
        ({"direction": (0.8, 0.6, 0, 0.6, -0.8, 0, 0, 0, 1.0)}, "does not lie on the volume's grid"),
        ({"size": (ROWS, COLUMNS, SLICES)}, "has 5 × 7 pixels, the volume's slices 7 × 5"),
        ({"size": (COLUMNS, ROWS, SLICES + 1)}, "The series has 3 files, the volume 4 slices"),
    ],
)
def test_a_volume_that_is_not_this_series_on_its_own_grid(tmp_path, change, message):
    files = write_series(tmp_path / "ct")
    geometry = replace(read_volume(tmp_path / "ct")[1], **change)
    masks = [("a", np.ones(geometry.shape, bool))]
    refused(tmp_path, files, message, masks=masks, geometry=geometry)


def test_files_that_are_no_series_of_slices(tmp_path):
    files = write_series(tmp_path / "ct")
    refused(tmp_path, [files[0], files[1], files[1]], "lie at the same place")
    other = write_series(tmp_path / "other")
    refused(tmp_path, [files[0], files[1], other[2]], "belong to several series")
    (tmp_path / "text.dcm").write_text("just text, long enough to hold no preamble" * 9, encoding="utf-8")
    refused(tmp_path, [files[0], files[1], tmp_path / "text.dcm"], "text.dcm is not a DICOM file")
    placeless = write_series(tmp_path / "placeless", ImagePositionPatient=None)
    refused(tmp_path, [files[0], files[1], placeless[2]], "ImagePositionPatient is missing")
    for name, value in {"PixelSpacing": 0.8, "ImageOrientationPatient": [1.0, 0.0]}.items():
        short = write_series(tmp_path / name, **{name: value})
        refused(tmp_path, [files[0], files[1], short[2]], rf"{name}/002.dcm: {name} must be \d numbers, got")
    letters = write_series(tmp_path / "letters")[0]
    letters.write_bytes(letters.read_bytes().replace(b"\\-20.0\\", b"\\-2x.0\\"))
    refused(tmp_path, [letters, files[1], files[2]], "letters/000.dcm: ImagePositionPatient must be 3 numbers")
    several = write_series(tmp_path / "several", NumberOfFrames=1)
    refused(tmp_path, [files[0], files[1], several[2]], "several frames in one file")
    refused(tmp_path, [files[0], files[1], tmp_path / "none.dcm"], "none.dcm", FileNotFoundError)


def test_what_highdicom_refuses_is_one_line(tmp_path):
    refused(tmp_path, write_series(tmp_path / "ct", PatientSex="X"), "no DICOM segmentation can be made")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": []}, "at least one mask"),
        ({"masks": [("a", np.ones((SLICES, ROWS, COLUMNS), np.int16))]}, "label map is uint8"),
        ({"masks": [("a", np.full((SLICES, ROWS, COLUMNS), 2, np.uint8))]}, "values up to 1, got .* up to 2"),
        ({"masks": [("a", np.ones((SLICES, COLUMNS, ROWS), bool))]}, r"must be a label map of shape \(3, 5, 7\)"),
        ({"masks": [("", np.ones((SLICES, ROWS, COLUMNS), bool))]}, "got ''"),
        ({"masks": [("a" * 65, np.ones((SLICES, ROWS, COLUMNS), bool))]}, "1 to 64 characters"),
        ({"masks": [("a\\b", np.ones((SLICES, ROWS, COLUMNS), bool))]}, "without backslashes"),
        ({"model_name": ""}, "1 to 64 characters"),
        ({"labels": []}, "1 to 255 labels, got 0"),
        ({"labels": [Label(terminology="lesion")]}, "Expected a Slicer TerminologyEntry"),
        ({"labels": [Label(terminology="a~^^~SCT^1^b~^^~c~^^~^^")]}, "Expected a Slicer TerminologyEntry"),
    ],
)
def test_masks_and_names_that_do_not_fit(tmp_path, options, message):
    refused(tmp_path, write_series(tmp_path / "ct"), message, **options)


def test_without_highdicom_it_says_what_to_install(tmp_path, monkeypatch):
    files = write_series(tmp_path / "ct")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    refused(tmp_path, files, "needs highdicom.*pip install highdicom", ImportError)


def test_with_an_old_highdicom_it_says_so(tmp_path, monkeypatch):
    files = write_series(tmp_path / "ct")
    monkeypatch.delattr(highdicom.color.CIELabColor, "from_rgb")
    refused(tmp_path, files, "0.27 or later, found", ImportError)


def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch):
    files = write_series(tmp_path / "ct")
    target = tmp_path / "seg.dcm"
    target.write_bytes(b"earlier")

    def full(self, name, **_):
        name.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(highdicom.seg.Segmentation, "save_as", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path / "ct", files, target)
    assert target.read_bytes() == b"earlier" and sorted(p.name for p in tmp_path.iterdir()) == ["ct", "seg.dcm"]

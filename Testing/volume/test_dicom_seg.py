"""Segments read back frame by frame: each must mark what was marked in the very instance that the frame names."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
from dicom_files import ALONG_ROW, COLUMNS, DOWN_COLUMN, ROWS, SLICES, STRAIGHT, write_series
from shared_data import shared_path
from skimage.color import rgb2lab

from AmbiguousSegLib.volume.dicom_seg import write_dicom_seg
from AmbiguousSegLib.volume.io import LESION_TERMINOLOGY, read_channels

pytest.importorskip("highdicom", reason="highdicom is not installed")
import highdicom  # noqa: E402
import pydicom  # noqa: E402


@dataclass(frozen=True)
class Label:
    color: tuple[float, float, float] = (1.0, 0.5, 0.0)
    terminology: str = LESION_TERMINOLOGY


NAMED = {"model_name": "tiny", "software_version": "1.2.3"}
BETWEEN = {"low": (100, 400), "middle": (300, 600), "high": (950, 1000)}  # low and middle overlap


def between(values, name):
    low, high = BETWEEN[name]
    return (values >= low) & (values < high)


def written(folder, files, target, masks=None, label=Label(), geometry=None, **options):
    """Segmentation of ``files`` on the grid that SimpleITK reads from their folder."""
    volume, grid = read_channels(folder)
    masks = [(name, between(volume[0], name)) for name in BETWEEN] if masks is None else masks
    empty = write_dicom_seg(target, masks, geometry or grid, files, label, **NAMED | options)
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
    volume, grid = read_channels(tmp_path / "ct")
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
    volume, _ = read_channels(folder)
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
    volume, grid = read_channels(tmp_path / "ct")
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
    label = Label(terminology=f"a~{kinds}~b~{region}")
    segmentation, _ = written(tmp_path / "ct", files, tmp_path / "seg.dcm", label=label)
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
        ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")
        + ("AccessionNumber", "FrameOfReferenceUID", "SliceThickness")
    )
    files = write_series(tmp_path / "ct", **absent)
    segmentation, _ = written(tmp_path / "ct", files, tmp_path / "seg.dcm")
    agrees(segmentation, files)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == 2.5
    assert not segmentation.PatientName and not segmentation.StudyDate and segmentation.FrameOfReferenceUID


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
    geometry = replace(read_channels(tmp_path / "ct")[1], **change)
    masks = [("a", np.ones(geometry.shape, bool))]
    refused(tmp_path, files, message, masks=masks, geometry=geometry)


def test_files_that_are_no_series_of_slices(tmp_path):
    files = write_series(tmp_path / "ct")
    refused(tmp_path, [files[0], files[1], files[1]], "lie at the same place")
    other = write_series(tmp_path / "other")
    refused(tmp_path, [files[0], files[1], other[2]], "belong to several series")
    (tmp_path / "text.dcm").write_text("just text, long enough to hold no preamble" * 9)
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
        ({"masks": [("a", np.ones((SLICES, ROWS, COLUMNS), np.uint8))]}, "must be bool"),
        ({"masks": [("a", np.ones((SLICES, COLUMNS, ROWS), bool))]}, r"must be bool of shape \(3, 5, 7\)"),
        ({"masks": [("", np.ones((SLICES, ROWS, COLUMNS), bool))]}, "got ''"),
        ({"masks": [("a" * 65, np.ones((SLICES, ROWS, COLUMNS), bool))]}, "1 to 64 characters"),
        ({"masks": [("a\\b", np.ones((SLICES, ROWS, COLUMNS), bool))]}, "without backslashes"),
        ({"model_name": ""}, "1 to 64 characters"),
        ({"label": Label(color=(255, 0, 0))}, r"in \[0, 1\]"),
        ({"label": Label(terminology="lesion")}, "Expected a Slicer TerminologyEntry"),
        ({"label": Label(terminology="a~^^~SCT^1^b~^^~c~^^~^^")}, "Expected a Slicer TerminologyEntry"),
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

"""DICOM read by the place, orientation and rescale of each slice; what makes no volume is refused by name."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

pydicom = pytest.importorskip("pydicom")
from dicom_kinds import COLUMNS, ROWS, enhanced, generate_uid, group, pixels, slice_file, stack  # noqa: E402
from shared_data import shared_path  # noqa: E402

from AmbiguousSegLib.volume import dicom_files, dicom_headers, dicom_reading, io  # noqa: E402


@pytest.fixture(params=["pydicom", "SimpleITK"])
def reader(request, monkeypatch):
    """Both readers of single slices."""
    if request.param == "SimpleITK":
        for module in (dicom_files, dicom_headers, dicom_reading):
            monkeypatch.setattr(module, "has_pydicom", lambda: False)
    return request.param


def refused(path, words, **options):
    with pytest.raises(ValueError, match=words) as error:
        io.read_volume(path, **options)
    message = str(error.value)
    assert "\n" not in message and "Errno" not in message and len(message) < 900
    return message


# Values

SCALES = {
    "slope of 1 first, fractions later": lambda k: {"slope": 1 if k == 0 else 0.37 + 0.05 * k},
    "intercept from the second slice": lambda k: {"intercept": 0 if k == 0 else -1024},
    "wider from slice to slice": lambda k: {"slope": 1 + 30 * k, "intercept": -40000 * k},
    "unsigned first, signed later": lambda k: (
        {"intercept": -1024} if k == 0 else {"stored": pixels(k, -1024, 3000), "signed": True}
    ),
    "tiny slopes": lambda k: {"slope": 0.00037 * (k + 1)},
    "all bits": lambda k: {"stored": pixels(k, 0, 65536), "intercept": -1000.5},
}


@pytest.mark.parametrize("name", SCALES)
def test_each_slice_is_rescaled_by_its_own_header(tmp_path, reader, name):
    expected = stack(tmp_path, per=SCALES[name])
    volume, grid = io.read_volume(tmp_path)
    assert volume.dtype == np.float32 and grid.spacing_mm == (0.75, 0.5, 2.0)
    np.testing.assert_array_equal(volume[0], expected.astype(np.float32))


def test_bits_that_are_not_stored_are_no_value(tmp_path):
    stored = pixels(1, 0, 4096)
    slice_file(tmp_path / "a.dcm", stored | 0xF000, 0.0, "1.2.3", BitsStored=12, HighBit=11)  # an overlay above
    np.testing.assert_array_equal(io.read_volume(tmp_path / "a.dcm")[0][0, 0], stored)
    slice_file(tmp_path / "b.dcm", stored, 0.0, "1.2.3", BitsStored=12, HighBit=11, PixelRepresentation=1)
    np.testing.assert_array_equal(io.read_volume(tmp_path / "b.dcm")[0][0, 0], (stored + 2048) % 4096 - 2048)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless"])
def test_compressed_slices_are_the_same(tmp_path, syntax):
    scale = SCALES["wider from slice to slice"]
    expected = stack(tmp_path / "plain", per=scale)
    (tmp_path / "packed").mkdir()
    for file in (tmp_path / "plain").iterdir():
        d = pydicom.dcmread(file)
        try:
            d.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
        except (NotImplementedError, RuntimeError) as error:
            pytest.skip(f"no encoder here: {error}")
        d.save_as(tmp_path / "packed" / file.name, enforce_file_format=True)
    np.testing.assert_array_equal(io.read_volume(tmp_path / "packed")[0][0], expected.astype(np.float32))


@pytest.mark.parametrize("codec", ["JPEG2000", "JPEG"])
def test_slices_that_simpleitk_compresses_are_rescaled_exactly(tmp_path, codec):
    """JPEG here is lossless, of 16 bits."""
    stored = np.random.default_rng(5).integers(0, 4000, (64, 64), dtype=np.uint16)
    image = sitk.JoinSeries(sitk.GetImageFromArray(stored))
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(codec)
    writer.Execute(image)
    d = pydicom.dcmread(tmp_path / "a.dcm")
    if not d.file_meta.TransferSyntaxUID.is_compressed:
        pytest.skip("this SimpleITK wrote it uncompressed")
    d.RescaleSlope, d.RescaleIntercept = "0.37", "-12.5"
    d.save_as(tmp_path / "a.dcm")
    expected = (stored * 0.37 - 12.5).astype(np.float32)
    np.testing.assert_array_equal(io.read_volume(tmp_path / "a.dcm")[0][0, 0], expected)


def test_the_real_series_is_as_simpleitk_reads_it(reader):
    folder = shared_path("data/ct_head_dicom")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    other = sitk.ReadImage(names)
    image = io.read_image(folder)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(other))
    for method in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(image, method)(), getattr(other, method)(), atol=1e-6)


def test_monochrome1_turns_what_has_no_meaning_of_its_own_and_leaves_hounsfield_units(tmp_path, reader):
    values = stack(tmp_path / "ct", per=lambda k: {"intercept": -1024, "PhotometricInterpretation": "MONOCHROME1"})
    np.testing.assert_array_equal(io.read_volume(tmp_path / "ct")[0][0], values)
    plain = {"RescaleSlope": None, "RescaleIntercept": None, "Modality": "DX", "BitsStored": 12, "HighBit": 11}
    slice_file(tmp_path / "a.dcm", pixels(3), 0.0, "1.2", PhotometricInterpretation="MONOCHROME1", **plain)
    np.testing.assert_array_equal(io.read_volume(tmp_path / "a.dcm")[0][0, 0], 4095 - pixels(3))
    slice_file(tmp_path / "b.dcm", pixels(3), 0.0, "1.2", PhotometricInterpretation="MONOCHROME2", **plain)
    np.testing.assert_array_equal(io.read_volume(tmp_path / "b.dcm")[0][0, 0], pixels(3))
    inverted = {"intercept": -1024, "PhotometricInterpretation": "MONOCHROME1"}
    stack(tmp_path / "inverted", per=lambda k: inverted | {"stored": 65535 - pixels(k)})
    assert "MONOCHROME2" in refused(tmp_path / "inverted", "s000.dcm is CT of MONOCHROME1")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RescaleSlope": "0"}, "RescaleSlope is 0"),
        ({"PixelSpacing": [0.0, 1.0]}, "PixelSpacing is 0 1 mm, expected two positive"),
        ({"PixelSpacing": [-0.5, 1.0]}, "PixelSpacing is -0.5 1 mm"),
        ({"PixelSpacing": None}, "tells no PixelSpacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "two perpendicular unit vectors"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}, "mosaic"),
        ({"Rows": 60000, "Columns": 60000}, "declares 7,200,000,000 bytes|take|pixels"),
        ({"PixelData": None}, "holds no pixels"),
        ({"BitsStored": 0}, "BitsStored is 0 of 16 bits allocated"),
        ({"BitsStored": 17}, "BitsStored is 17 of 16 bits allocated"),
        ({"BitsAllocated": 12, "BitsStored": 12}, "expected 1 up to 8, 16, 32 or 64"),
    ],
)
def test_a_slice_that_says_something_impossible_is_named(tmp_path, changes, words):
    stack(tmp_path, per=lambda k: changes if k == 2 else {})
    assert "s002.dcm" in refused(tmp_path / "s002.dcm", words)


@pytest.mark.parametrize("number", ["nan", "inf", "x"])
@pytest.mark.parametrize("name", ["PixelSpacing", "ImagePositionPatient", "RescaleSlope"])
def test_numbers_that_are_none_are_refused(tmp_path, name, number, reader):
    stack(tmp_path)
    path = tmp_path / "s002.dcm"
    data = path.read_bytes()
    tag = {"PixelSpacing": b"\x28\x00\x30\x00DS", "ImagePositionPatient": b"\x20\x00\x32\x00DS"}.get(
        name, b"\x28\x00\x53\x10DS"
    )
    at = data.index(tag) + 6
    length = int.from_bytes(data[at : at + 2], "little")
    parts = data[at + 2 : at + 2 + length].count(b"\\") + 1
    text = b"\\".join([number.encode()] + [b"1"] * (parts - 1))
    text += b" " * (len(text) % 2)
    path.write_bytes(data[:at] + len(text).to_bytes(2, "little") + text + data[at + 2 + length :])
    assert f"s002.dcm: {name} is" in refused(tmp_path, name)


def test_one_slice_is_as_thick_as_it_says(tmp_path, reader):
    path = slice_file(tmp_path / "a.dcm", pixels(0), 0.0, "1.2.3", SliceThickness=5)
    assert io.read_volume(path)[1].spacing_mm == (0.75, 0.5, 5.0)


# Which slices make a volume


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]}, "orientation -1 0 0 0 -1 0, the other slices 1 0 0 0 1 0"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "orientation"),
        ({"ImageOrientationPatient": [np.cos(0.02), np.sin(0.02), 0, -np.sin(0.02), np.cos(0.02), 0]}, "orientation"),
        ({"PixelSpacing": [0.5, 0.8]}, "pixel spacing 0.5 0.8, the other slices 0.5 0.75"),
        ({"stored": np.ones((9, COLUMNS))}, f"9 × {COLUMNS} pixels, the other slices {ROWS}"),
    ],
)
@pytest.mark.parametrize("odd", [0, 3])
def test_a_slice_of_another_plane_is_named(tmp_path, reader, changes, words, odd):
    stack(tmp_path, per=lambda k: changes if k == odd else {})
    assert f"s00{odd}.dcm" in refused(tmp_path, words)


def test_slices_that_turn_slowly_are_refused_and_rounded_cosines_are_not(tmp_path):
    def turned(angle):
        return [np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0]

    stack(tmp_path / "slowly", per=lambda k: {"ImageOrientationPatient": turned(0.02 * k)})
    refused(tmp_path / "slowly", "orientation")
    rounded = [float(f"{v:.4f}") for v in turned(0.1)]
    stack(tmp_path / "rounded", per=lambda k: {"ImageOrientationPatient": rounded if k % 2 else turned(0.1)})
    assert io.read_volume(tmp_path / "rounded")[0].shape == (1, 5, ROWS, COLUMNS)


def test_two_series_are_listed_and_one_is_chosen(tmp_path, reader):
    first, second = generate_uid(), generate_uid()
    a = stack(tmp_path, series=first, prefix="a")
    b = stack(tmp_path, series=second, prefix="b", per=lambda k: {"stored": pixels(9 + k), "SeriesDescription": "lung"})
    message = refused(tmp_path, "holds 2 DICOM series, expected one")
    assert first in message and second in message and "lung" in message and "--series UID" in message
    np.testing.assert_array_equal(io.read_volume(tmp_path, series=first)[0][0], a)
    np.testing.assert_array_equal(io.read_volume(tmp_path, series=second)[0][0], b)
    assert first in refused(tmp_path, "none of them 9.9", series="9.9")
    channels, _ = io.read_volume([tmp_path / "a000.dcm", tmp_path / "a000.dcm"])
    assert len(channels) == 2
    refused([tmp_path / "a000.dcm", tmp_path / "a001.dcm"], "None of .* holds the series", series="9.9")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("EchoTime", (4.6, 9.2)),
        ("EchoNumbers", (1, 2)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("AcquisitionNumber", (1, 2)),
        ("TriggerTime", (0, 40)),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])),
    ],
)
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_volumes_of_one_series_are_told_apart_by_what_differs(tmp_path, reader, name, values, shift):
    """At the same places, or between each other."""
    if shift and name == "TriggerTime":
        pytest.skip("times differ within a volume, too")
    uid = generate_uid()
    a = stack(tmp_path, series=uid, prefix="a", per=lambda k: {name: values[0]})
    b = stack(tmp_path, 5, uid, "b", lambda k: {name: values[1], "stored": pixels(50 + k), "z": 2.0 * k + shift})
    told = [" ".join(v) if isinstance(v, list) else f"{v:g}" for v in values]
    message = refused(tmp_path, "several volumes")
    assert all(f"{uid},{name}={value} (5)" in message for value in told)
    for value, expected in zip(told, (a, b)):
        volume, grid = io.read_volume(tmp_path, series=f"{uid},{name}={value}")
        np.testing.assert_array_equal(volume[0], expected)
        assert grid.spacing_mm[2] == 2.0
    assert told[1] in refused(tmp_path, "no slice of series", series=f"{uid},{name}=77")


def test_two_acquisitions_between_each_other_are_noticed_by_their_numbers(tmp_path, reader):
    uid = generate_uid()
    a = stack(tmp_path, series=uid, prefix="a", per=lambda k: {"InstanceNumber": k + 1})
    stack(tmp_path, 5, uid, "b", lambda k: {"InstanceNumber": k + 6, "stored": pixels(50 + k), "z": 2.0 * k + 1})
    refused(tmp_path, "run through the volume 2 times")
    np.testing.assert_array_equal(io.read_volume(tmp_path, series=f"{uid},pass=1")[0][0], a)
    assert io.read_volume(tmp_path, series=uid)[1].size == (COLUMNS, ROWS, 10)


@pytest.mark.parametrize("numbers", [(5, 4, 3, 2, 1), (1, 1, 1, 1, 1), (7, 3, 9, 1, 4), (1, 3, 5, 2, 4)])
def test_numbers_of_right_series_are_of_no_matter(tmp_path, numbers):
    expected = stack(tmp_path, per=lambda k: {"InstanceNumber": numbers[k], "AcquisitionNumber": k // 2})
    np.testing.assert_array_equal(io.read_volume(tmp_path)[0][0], expected)


def test_copies_of_a_slice_are_named(tmp_path, reader):
    stack(tmp_path)
    shutil.copy(tmp_path / "s002.dcm", tmp_path / "z.dcm")
    assert "z.dcm" in refused(tmp_path, r"s002.dcm and .* at the same place \(copies of one\)")


# Folders


def test_hidden_files_other_files_and_links(tmp_path, reader):
    expected = stack(tmp_path / "elsewhere")
    folder = tmp_path / "scan"
    shutil.copytree(tmp_path / "elsewhere", folder)
    shutil.copy(folder / "s001.dcm", folder / "._s001.dcm")
    (folder / ".DS_Store").write_bytes(b"\0" * 200)
    (folder / "readme.txt").write_text("hello")
    (folder / "DICOMDIR").write_bytes((folder / "s001.dcm").read_bytes())
    (folder / "tree").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "s003.dcm").unlink()
    (folder / "s003.dcm").symlink_to(tmp_path / "elsewhere" / "s003.dcm")
    (folder / "again.dcm").symlink_to(folder / "s002.dcm")
    (folder / "loop").symlink_to(folder)
    np.testing.assert_array_equal(io.read_volume(folder)[0][0], expected)
    (folder / "gone.dcm").symlink_to(tmp_path / "nothing")
    assert "gone.dcm" in refused(folder, "link to nothing")


@pytest.mark.parametrize("content", [b"", b"\0" * 4000, b"<html>no such scan</html>"])
@pytest.mark.parametrize("name", ["s000.dcm", "s004.DCM", "s002.ima"])
def test_a_slice_that_does_not_begin_as_dicom_is_not_left_out(tmp_path, reader, name, content):
    """At the end of a series nothing else would tell that a slice is missing."""
    stack(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).write_bytes(content)
    assert f"({len(content)} bytes)" in refused(tmp_path, f"{name} is named as DICOM and does not begin so")


def test_names_that_are_not_utf_8(tmp_path, reader):
    expected = stack(tmp_path)
    (tmp_path / "s001.dcm").rename(tmp_path / os.fsdecode(b"s\xe91.dcm"))
    if reader == "pydicom":
        np.testing.assert_array_equal(io.read_volume(tmp_path)[0][0], expected)
    else:
        assert "s\\xe91.dcm" in refused(tmp_path, "not UTF-8")


# Several frames in a file

PLACES = [(0, 0, 2.0 * k) for k in range(5)]
STORED = np.stack([pixels(k) for k in range(5)])


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 3, 1, 4, 2]])
@pytest.mark.parametrize("slopes", [None, [0.5, 1.5, 2, 3.7, 4]])
def test_frames_are_put_in_their_places_and_rescaled_by_their_own(tmp_path, order, slopes):
    own = None if slopes is None else [slopes[k] for k in order]
    path = enhanced(tmp_path / "e.dcm", STORED[order], [PLACES[k] for k in order], own)
    volume, grid = io.read_volume(path)
    expected = STORED * np.reshape(slopes or [1.0] * 5, (5, 1, 1)) - 1024
    np.testing.assert_array_equal(volume[0], expected.astype(np.float32))
    assert grid.spacing_mm == (0.75, 0.5, 2.0) and grid.origin_mm == (0, 0, 0)
    np.testing.assert_array_equal(io.read_volume(tmp_path)[0], volume)  # its folder


def test_frames_that_make_no_volume_are_refused(tmp_path):
    path = tmp_path / "e.dcm"
    enhanced(path, STORED[[0, 1, 3, 4]], [PLACES[k] for k in (0, 1, 3, 4)])
    refused(path, "missing, doubled or unevenly spaced .*frame 2")
    enhanced(path, STORED, [(0, 1.5 * k, 2 * k) for k in range(5)])
    refused(path, "tilted gantry")
    enhanced(path, STORED[[0, 1, 2, 3, 4, 0]], [*PLACES, PLACES[0]])
    refused(path, "frame 1, and .*frame 6, lie at the same place")
    turned = {"PlaneOrientationSequence": group(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])}
    enhanced(path, STORED, PLACES, per=lambda k: turned if k == 3 else {})
    refused(path, "frame 4, has the orientation")
    finer = {"PixelMeasuresSequence": group(PixelSpacing=[0.4, 0.6], SliceThickness=2)}
    enhanced(path, STORED, PLACES, per=lambda k: finer if k == 3 else {})
    refused(path, "frame 4, has the pixel spacing")
    d = pydicom.dcmread(enhanced(path, STORED, PLACES))
    del d.PerFrameFunctionalGroupsSequence
    d.save_as(path)
    refused(path, "holds 5 frames and tells the place of 0")
    d.NumberOfFrames = 2**31 - 1
    d.GridFrameOffsetVector = [0, 1]
    d.save_as(path)
    refused(path, "GridFrameOffsetVector")


def test_phases_of_a_file_are_chosen_by_what_differs(tmp_path):
    def phase(k):
        return {"FrameContentSequence": group(TemporalPositionIndex=1 + k // 5, StackID="1")}

    path = enhanced(tmp_path / "e.dcm", np.concatenate([STORED, STORED[::-1]]), PLACES * 2, per=phase)
    uid = pydicom.dcmread(path).SeriesInstanceUID
    assert f"{uid},TemporalPositionIndex=2 (5)" in refused(path, "several volumes")
    volume, _ = io.read_volume(path, series=f"{uid},TemporalPositionIndex=2")
    np.testing.assert_array_equal(volume[0], STORED[::-1] - 1024)


def test_several_frames_without_pydicom_say_what_to_install(tmp_path, monkeypatch):
    path = enhanced(tmp_path / "e.dcm", STORED, PLACES)
    for module in (dicom_files, dicom_headers, dicom_reading):
        monkeypatch.setattr(module, "has_pydicom", lambda: False)
    refused(path, "5 frames, which need pydicom .*pip install pydicom")


def test_damaged_files_are_refused_in_one_line(tmp_path):
    stack(tmp_path)
    data = (tmp_path / "s001.dcm").read_bytes()
    for share in (0.99, 0.8, 0.5, 0.3):
        (tmp_path / "s001.dcm").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ValueError) as error:
            io.read_volume(tmp_path)
        assert "\n" not in str(error.value)

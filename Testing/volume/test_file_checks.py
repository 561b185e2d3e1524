"""What is checked before a file is read: kind, name, declared sizes, checksums, spacings, units, NaN."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.volume import file_checks, io, segments, writing
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.headers import read_header

RNG = np.random.default_rng(11)
SHAPE = (4, 5, 6)
VALUES = RNG.normal(size=SHAPE).astype(np.float32)


def refused(path, words, error=ValueError, read=io.read_image):
    with pytest.raises(error, match=words) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and "Errno" not in message and len(message) < 500
    return message


def nifti(path, array=VALUES, axes=((1, 0, 0), (0, 1, 0), (0, 0, 2)), pixdim=(1, 1, 2), order="<", **changes):
    """A NIfTI file byte by byte, its matrix ``axes`` in RAS by columns of the voxel axes."""
    kind = {"f4": 16, "f8": 64, "i2": 4, "u1": 2}[array.dtype.str[1:]]
    size, slope = array.shape[::-1], changes.get("slope", 0)
    dim = changes.get("dim", (len(size), *size, *[1] * (7 - len(size))))
    pixdim = (1, *pixdim, *[0] * (7 - len(pixdim)))
    rows = np.concatenate([np.array(axes, float).T, np.array([[10.0], [20], [30]])], axis=1).ravel()
    h = bytearray(352)
    struct.pack_into(f"{order}i", h, 0, 348)
    struct.pack_into(f"{order}8h", h, 40, *dim)
    struct.pack_into(f"{order}2h", h, 70, kind, array.itemsize * 8)
    struct.pack_into(f"{order}8f", h, 76, *pixdim)
    struct.pack_into(f"{order}3f", h, 108, 352, slope, 0)
    h[123] = changes.get("units", 2)
    struct.pack_into(f"{order}2h", h, 252, 0, 1)
    struct.pack_into(f"{order}12f", h, 280, *rows)
    h[344:348] = b"n+1\0"
    data = bytes(h) + array.astype(array.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.name.endswith("gz") else data)
    return path


def nrrd(path, extra=(), data=None, **fields):
    entries = {
        "type": "float",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "6 5 4",
        "space directions": "(1,0,0) (0,1,0) (0,0,2)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(0,0,0)",
    } | {name.replace("_", " "): value for name, value in fields.items()}
    lines = ["NRRD0004", *(f"{name}: {value}" for name, value in entries.items() if value is not None), *extra]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + (VALUES.tobytes() if data is None else data))
    return path


# What is no file to read


def test_what_is_no_file_on_disk_is_refused_without_waiting(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.nrrd")
    refused(tmp_path / "pipe.nrrd", "pipe.nrrd is a FIFO, expected a file")
    (tmp_path / "link.nii").symlink_to(tmp_path / "pipe.nrrd")
    refused(tmp_path / "link.nii", "a FIFO")
    refused("/dev/zero", "a device")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        server.bind("s.nrrd")
        refused(tmp_path / "s.nrrd", "a socket")
    for read in (io.read_mask, segments.read_segments, io.read_volume):
        refused(tmp_path / "pipe.nrrd", "a FIFO", read=read)


def test_what_is_not_there_is_said_without_a_number(tmp_path):
    refused(tmp_path / "gone.nrrd", "gone.nrrd does not exist", FileNotFoundError)
    (tmp_path / "link.nrrd").symlink_to(tmp_path / "gone.nrrd")
    refused(tmp_path / "link.nrrd", r"link.nrrd \(a link to .*gone.nrrd\) does not exist", FileNotFoundError)
    (tmp_path / "file").write_bytes(b"")
    refused(tmp_path / "file" / "v.nrrd", "not a directory|Not a directory", NotADirectoryError)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.nrrd")
    nrrd(tmp_path / "v.nrrd").rename(path)
    assert "M\\xfcller.nrrd" in refused(path, "not UTF-8.*rename")
    assert "M\\xfcller.nrrd" in refused(path, "not UTF-8.*rename", read=io.is_flat)


# Sizes


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_a_nifti_that_declares_terabytes_is_refused_before_it_is_read(tmp_path, name):
    path = nifti(tmp_path / name, dim=(3, 30000, 30000, 3000, 1, 1, 1, 1))
    refused(path, "declares 10.8 TB of voxels, the file holds")
    refused(nifti(tmp_path / name, dim=(3, -5, 5, 4, 1, 1, 1, 1)), "damaged")


def test_nrrd_and_meta_image_that_declare_terabytes_are_refused_before_they_are_read(tmp_path):
    sizes = "30000 30000 3000"
    refused(nrrd(tmp_path / "v.nrrd", sizes=sizes), "declares 10.8 TB")
    refused(nrrd(tmp_path / "v.nrrd", sizes=sizes, encoding="gzip", data=gzip.compress(b"0" * 999)), "declares 10.8 TB")
    text = "ObjectType = Image\nNDims = 3\nDimSize = {}\nElementType = MET_FLOAT\n{}ElementDataFile = LOCAL\n"
    for packed in ("", "CompressedData = True\n"):
        (tmp_path / "v.mha").write_bytes(text.format(sizes, packed).encode() + VALUES.tobytes())
        refused(tmp_path / "v.mha", "declares 10.8 TB")


def test_more_than_memory_can_take_is_refused(tmp_path, monkeypatch):
    path = nrrd(tmp_path / "v.nrrd")
    monkeypatch.setattr(file_checks, "memory_bytes", lambda: 400.0)
    refused(path, "declares 120 voxels, which take 480 bytes; this process has 400 bytes")


# Checksums


def flips(data, start, count=60):
    for _ in range(count):
        place = int(RNG.integers(start, len(data)))
        yield bytes(data[:place]) + bytes([data[place] ^ (1 << int(RNG.integers(8)))]) + bytes(data[place + 1 :])


@pytest.mark.parametrize("name", ["v.nrrd", "v.nii.gz", "v.mha", "v.seg.nrrd"])
def test_a_changed_bit_of_compressed_data_is_noticed(tmp_path, name):
    """All flips are refused, or change nothing that is read: names and times in the head of a gzip stream."""
    grid = Geometry((30, 20, 10), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    values = RNG.integers(0, 2, grid.shape).astype(np.uint8)
    path = tmp_path / name
    if name == "v.seg.nrrd":
        from AmbiguousSegLib.labels import Label

        writing.write_segmentation(path, values, grid, [Label()])
    else:
        sitk.WriteImage(grid.image(values), str(path), useCompression=True)
    data = path.read_bytes()
    start = {"v.nii.gz": 0, "v.mha": data.index(b"LOCAL\n") + 6 if b"LOCAL\n" in data else 0}.get(
        name, data.index(b"\n\n") + 2 if b"\n\n" in data else 0
    )
    noticed = 0
    for changed in flips(data, start):
        path.write_bytes(changed)
        told = ""
        try:
            read = sitk.GetArrayFromImage(io.read_image(path))
        except ValueError as error:
            told = str(error)
        if told:
            noticed += 1
            assert "\n" not in told and path.name in told
        else:
            np.testing.assert_array_equal(read, values)
    assert noticed >= 50


def test_data_beside_its_header_is_checked_too(tmp_path):
    packed = bytearray(gzip.compress(VALUES.tobytes(), mtime=0))
    packed[40] ^= 4
    (tmp_path / "v.raw.gz").write_bytes(packed)
    refused(nrrd(tmp_path / "v.nhdr", data=b"", encoding="gzip", data_file="v.raw.gz"), "v.raw.gz is damaged")
    packed = bytearray(zlib.compress(VALUES.tobytes()))
    packed[-1] ^= 4
    (tmp_path / "v.zraw").write_bytes(packed)
    (tmp_path / "v.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_FLOAT\nCompressedData = True\n"
        "ElementDataFile = v.zraw\n"
    )
    refused(tmp_path / "v.mhd", "v.zraw is damaged")


def test_a_meta_image_without_what_it_needs_is_refused_in_one_line_alone(tmp_path, capfd):
    text = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    for name in ("DimSize", "ElementType", "ElementDataFile"):
        (tmp_path / "v.mha").write_bytes(text.replace(name, "Other").encode() + VALUES.tobytes())
        refused(tmp_path / "v.mha", "v.mha is no readable MetaImage: it needs")
    (tmp_path / "v.mhd").write_text(text.replace("LOCAL", "gone.raw"))
    refused(tmp_path / "v.mhd", "v.mhd names .*gone.raw for its voxels, which does not exist; put the file beside it")
    assert capfd.readouterr().err == ""


# Numbers


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("kind", "order"), [("f4", "<"), ("f8", "<"), ("f4", ">"), ("f8", ">")])
def test_nan_and_infinity_in_nifti_are_refused(tmp_path, name, value, kind, order):
    array = VALUES.astype(kind)
    path = nifti(tmp_path / name, array, order=order)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(io.read_image(path)), array)
    array[3, 4, 5] = value  # the last voxel
    refused(nifti(path, array, order=order), f"{name} holds NaN or infinite")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_pair_of_header_and_voxels_is_checked_too(tmp_path, ending):
    def write(array):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"v.img{ending}"))

    write(VALUES)
    for name in (f"v.img{ending}", f"v.hdr{ending}"):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(io.read_image(tmp_path / name)), VALUES)
    changed = VALUES.copy()
    changed[0, 0, 0] = np.nan
    write(changed)
    for name in (f"v.img{ending}", f"v.hdr{ending}"):
        refused(tmp_path / name, "v.img.* holds NaN")


def test_integers_of_nifti_that_look_like_nan_are_right(tmp_path):
    array = np.full(SHAPE, 0x7F80, np.int16)
    assert (sitk.GetArrayFromImage(io.read_image(nifti(tmp_path / "v.nii", array))) == 0x7F80).all()


@pytest.mark.parametrize("number", [0.0, -1.0, np.nan, np.inf])
def test_spacings_that_are_none_are_refused(tmp_path, number):
    refused(nifti(tmp_path / "v.nii", pixdim=(1, number, 2)), "v.nii: the spacing is .*expected positive")
    refused(
        nrrd(tmp_path / "v.nrrd", space=None, space_directions=None, space_origin=None, spacings=f"1 {number} 2"),
        "v.nrrd: the spacing of axis 2 is",
    )
    text = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementSpacing = 1 {} 2\nElementType = MET_FLOAT\n"
    (tmp_path / "v.mha").write_bytes((text.format(number) + "ElementDataFile = LOCAL\n").encode() + VALUES.tobytes())
    refused(tmp_path / "v.mha", "v.mha: ElementSpacing is")


@pytest.mark.parametrize("vector", ["(0,0,0)", "(nan,nan,nan)", "(inf,0,0)"])
def test_space_directions_that_give_no_spacing_are_refused(tmp_path, vector):
    refused(nrrd(tmp_path / "v.nrrd", space_directions=f"{vector} (0,1,0) (0,0,2)"), "v.nrrd: the space direction")


def test_units_other_than_mm_are_named(tmp_path):
    for unit in ("um", "cm", "m", "pixel"):
        units = f'"mm" "{unit}" "mm"'
        refused(nrrd(tmp_path / "v.nrrd", space_units=units), f"lengths are in '{unit}', expected mm")
        refused(
            nrrd(
                tmp_path / "v.nrrd", space=None, space_directions=None, space_origin=None, spacings="1 1 2", units=units
            ),
            f"lengths are in '{unit}', expected mm",
        )
    assert io.read_image(nrrd(tmp_path / "v.nrrd", space_units='"mm" "mm" "mm"')).GetSpacing() == (1.0, 1.0, 2.0)


@pytest.mark.parametrize(("unit", "millimetres"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_units_of_nifti_are_converted(tmp_path, unit, millimetres):
    image = io.read_image(nifti(tmp_path / "v.nii", units=unit))
    np.testing.assert_allclose(image.GetSpacing(), np.array([1, 1, 2]) * millimetres)
    np.testing.assert_allclose(image.GetOrigin(), np.array([-10, -20, 30]) * millimetres)


# Grids


def test_the_second_version_of_nifti_is_named(tmp_path):
    (tmp_path / "v.nii").write_bytes(struct.pack("<i8s", 540, b"n+2\0\r\n\x1a\n") + bytes(600))
    refused(tmp_path / "v.nii", "v.nii is NIfTI-2, expected NIfTI-1")


def test_sheared_volumes_are_refused_and_rounded_matrices_read(tmp_path, monkeypatch):
    sheared = ((1, 0, 0), (0, 1, 0), (0.6, 0, 1.9078784))
    refused(nifti(tmp_path / "v.nii", axes=sheared), "v.nii is sheared.*resample")
    for shear in (5e-5, 2e-4, 9e-4):
        axes = ((1, 0, 0), (0, 1, 0), (2 * shear, 0, 2))
        grid = Geometry.of(io.read_image(nifti(tmp_path / "v.nii", axes=axes)))
        np.testing.assert_allclose(grid.to_mm((2, 3, 3)), (-12 - 6 * shear, -23, 36), atol=1e-4)
    assert "ITK_NIFTI_SFORM_PERMISSIVE" not in os.environ
    monkeypatch.setenv("ITK_NIFTI_SFORM_PERMISSIVE", "OFF")  # of somebody else
    io.read_image(tmp_path / "v.nii")
    assert os.environ["ITK_NIFTI_SFORM_PERMISSIVE"] == "OFF"
    refused(nrrd(tmp_path / "v.nrrd", space_directions="(1,0,0) (0,1,0) (0.6,0,1.9)"), "v.nrrd: .*sheared")


def test_a_matrix_that_is_none_or_contradicts_the_spacing_is_refused(tmp_path):
    refused(nifti(tmp_path / "v.nii", axes=((0, 0, 0), (0, 1, 0), (0, 0, 2))), "matrix .* expected finite axes")
    refused(nifti(tmp_path / "v.nii", axes=((np.nan, 0, 0), (0, 1, 0), (0, 0, 2))), "matrix .* expected finite axes")
    refused(nifti(tmp_path / "v.nii", pixdim=(1, 1, 3)), "voxels of 1 × 1 × 2 mm, its pixdim of 1 × 1 × 3 mm")


@pytest.mark.parametrize("angles", [(7.3, (1, 2, 0.5)), (0.37, (1, 0.3, 0.1)), (64, (3, 1, 2))])
def test_cosines_of_four_digits_and_a_nifti_mask_are_one_grid(tmp_path, angles):
    """A scan with rounded direction cosines, as DICOM writes them, and a rater's mask of the same grid as NIfTI."""
    turn, axis = np.radians(angles[0]), np.array(angles[1]) / np.linalg.norm(angles[1])
    cross = np.cross(np.eye(3), axis)
    exact = np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross
    rounded = np.round(exact, 4)
    scan = Geometry((512, 512, 6), (0.7, 0.7, 1.0), (-180.0, 30, 12), tuple(rounded.ravel().tolist()))
    mask = np.zeros(scan.shape, np.uint8)
    mask[2, 200:210, 100:140] = 1
    sitk.WriteImage(scan.image(mask), str(tmp_path / "m.nii.gz"))
    np.testing.assert_array_equal(io.read_mask(tmp_path / "m.nii.gz", scan), mask.astype(bool))
    moved = Geometry(scan.size, scan.spacing_mm, (-180.0 + 0.2 * 0.7, 30, 12), scan.direction)
    with pytest.raises(ValueError, match="does not lie on the grid"):
        io.read_mask(tmp_path / "m.nii.gz", moved)


def test_a_header_of_a_million_lines_is_refused_before_simpleitk_reads_it(tmp_path):
    """For SimpleITK each line costs as many steps as there are before it: 40,000 take 17 s."""
    lines = "".join(f"Segment{k}_ID:=s\n" for k in range(1_000_000)).encode()
    whole = nrrd(tmp_path / "v.nrrd").read_bytes()
    place = whole.index(b"\n") + 1
    for name in ("v.nrrd", "v.seg.nrrd"):
        (tmp_path / name).write_bytes(whole[:place] + lines + whole[place:])
        refused(tmp_path / name, "its header does not end within 10,000 lines")
        with pytest.raises(ValueError, match="does not end within 10,000 lines"):
            read_header(tmp_path / name)
    (tmp_path / "v.mha").write_bytes(b"ObjectType = Image\n" + b"Comment = a\n" * 100_000)
    refused(tmp_path / "v.mha", "its header does not end within 10,000 lines")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dim": (9, 6, 5, 4, 1, 1, 1, 1)}, "declares 9 axes .* copy or download it again"),
        ({"dim": (3, 6, -5, 4, 1, 1, 1, 1)}, "copy or download it again"),
        ({"units": 5}, "unknown unit 5; correct xyzt_units"),
    ],
)
def test_a_nifti_header_that_cannot_be_true_is_refused_with_what_to_do(tmp_path, change, words):
    refused(nifti(tmp_path / "v.nii", **change), words)


@pytest.mark.parametrize("magic", [b"ni1\0", b"abc\0", bytes(4)])
def test_a_nifti_that_is_not_marked_as_one_is_refused(tmp_path, magic):
    """SimpleITK takes it for Analyze, which has no matrix, and reads it without a word."""
    data = bytearray(nifti(tmp_path / "v.nii").read_bytes())
    data[344:348] = magic
    (tmp_path / "v.nii").write_bytes(bytes(data))
    refused(tmp_path / "v.nii", "is no NIfTI of one file")


def slices(folder):
    """The slices of ``VALUES``, a file each; their names."""
    names = [f"s{k}.raw" for k in range(4)]
    for name, one in zip(names, VALUES):
        (folder / name).write_bytes(one.tobytes())
    return names


def several(folder, form, listed):
    """A header of NRRD or MetaImage whose voxels lie in several files."""
    if form == "nhdr":
        path = nrrd(folder / "v.nhdr", [f"data file: {listed[0]}", *listed[1:]], b"")
        path.write_bytes(path.read_bytes().rstrip() + b"\n")
        return path
    head = "NDims = 3\nDimSize = 6 5 4\nElementSpacing = 1 1 2\nElementType = MET_FLOAT\nElementDataFile = "
    (folder / "v.mhd").write_text(head + "\n".join(listed) + "\n")
    return folder / "v.mhd"


@pytest.mark.parametrize("form", ["nhdr", "mhd"])
@pytest.mark.parametrize("pattern", [False, True])
def test_voxels_in_several_files_are_read_and_each_is_checked(tmp_path, form, pattern):
    names = slices(tmp_path)
    path = several(tmp_path, form, ["s%d.raw 0 3 1"] if pattern else ["LIST", *names])
    assert np.array_equal(io.read_volume(path)[0][0], VALUES)
    (tmp_path / names[2]).unlink()
    refused(path, "s2.raw for its voxels, which does not exist; put the file beside it")
    os.mkfifo(tmp_path / names[2])  # SimpleITK would wait for it
    refused(path, "which is no file on disk")


@pytest.mark.parametrize("form", ["nhdr", "mhd"])
def test_a_pattern_of_a_million_files_is_refused(tmp_path, form):
    refused(several(tmp_path, form, ["s%06d.raw 0 999999 1"]), "names 1,000,000 files of voxels")
    refused(several(tmp_path, form, ["s%n.raw 0 9 1"]), "is no pattern")
    refused(several(tmp_path, form, ["/dev/zero"]), "/dev/zero for its voxels, which is no file on disk")


def test_each_of_several_compressed_files_agrees_with_its_checksum(tmp_path):
    names = slices(tmp_path)
    for name, one in zip(names, VALUES):
        (tmp_path / name).write_bytes(gzip.compress(one.tobytes()))
    path = nrrd(tmp_path / "v.nhdr", ["data file: LIST", *names], b"", encoding="gzip")
    path.write_bytes(path.read_bytes().rstrip() + b"\n")
    assert np.array_equal(io.read_volume(path)[0][0], VALUES)
    data = bytearray((tmp_path / names[1]).read_bytes())
    data[-6] ^= 1
    (tmp_path / names[1]).write_bytes(bytes(data))
    refused(path, "s1.raw is damaged")


def test_a_negative_skip_that_nrrd_does_not_know_is_refused(tmp_path):
    assert np.array_equal(io.read_volume(nrrd(tmp_path / "v.nrrd", byte_skip="-1"))[0][0], VALUES)
    refused(nrrd(tmp_path / "v.nrrd", byte_skip="-7"), "byte skip is below -1")


@pytest.mark.parametrize("dimensions", ["99", "2", "", "x"])
def test_a_metaimage_whose_dimensions_contradict_its_sizes_is_refused(tmp_path, dimensions):
    """ITK writes beyond its memory where NDims is larger than it has room for."""
    header = f"ObjectType = Image\nNDims = {dimensions}\nDimSize = 4 4 2\nElementType = MET_UCHAR\n"
    (tmp_path / "a.mha").write_bytes(header.encode() + b"ElementDataFile = LOCAL\n" + bytes(range(32)))
    with pytest.raises(ValueError, match="a.mha: NDims is .*, but DimSize gives 3 number"):
        io.read_image(tmp_path / "a.mha")

"""Volumes as NIfTI: what the file holds, and that one which was not written whole is told."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from shared_data import REPOSITORY

from AmbiguousSegLib.volume import writing
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((8, 7, 6), (1.0, 2.0, 3.0), (10.0, -20.0, 30.0), (0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0))
RNG = np.random.default_rng(7)


@pytest.mark.parametrize("name", ["v.nii.gz", "v.nii"])
@pytest.mark.parametrize("kind", ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_nifti_keeps_voxels_type_and_grid(tmp_path, name, kind):
    array = (100 * RNG.random(GRID.shape) - (50 if kind == "bool" else 0)).clip(0).astype(kind)
    writing.write_nifti(tmp_path / name, array, GRID)
    read = sitk.ReadImage(str(tmp_path / name))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), array)
    assert sitk.GetArrayFromImage(read).dtype == ("u1" if kind == "bool" else kind)
    assert Geometry.of(read).same_grid(GRID, 1e-4)
    # A second reading of the header by the standard: length 348, sizes at byte 42, sform in RAS from byte 280.
    data = (tmp_path / name).read_bytes()
    data = gzip.decompress(data) if name.endswith("gz") else data
    assert struct.unpack_from("<i", data, 0)[0] == 348 and struct.unpack_from("<3h", data, 42) == GRID.size
    rows = np.array(struct.unpack_from("<12f", data, 280)).reshape(3, 4)
    corner = GRID.to_mm((3, 4, 5)) * (-1, -1, 1)
    np.testing.assert_allclose(rows @ (3, 4, 5, 1), corner, atol=1e-4)


def test_nifti_replaces_an_earlier_file(tmp_path):
    array = RNG.normal(size=GRID.shape).astype(np.float32)
    (tmp_path / "v.nii.gz").write_bytes(b"earlier")
    writing.write_nifti(tmp_path / "v.nii.gz", array, GRID)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "v.nii.gz"))), array)
    assert [p.name for p in tmp_path.iterdir()] == ["v.nii.gz"]


def cut_off(path, image):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_to_nothing(path, image):
    path.write_bytes(b"")


def one_other_voxel(path, image):
    image[2, 3, 4] = image[2, 3, 4] + 1
    sitk.WriteImage(image, str(path))


def elsewhere(path, image):
    image.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(image, str(path))


def full(path, image):
    raise RuntimeError("WriteImage: no space\nERROR: ImageIO(0x1): could not write")


@pytest.mark.parametrize("name", ["v.nii.gz", "v.nii"])
@pytest.mark.parametrize("spoil", [cut_off, cut_to_nothing, one_other_voxel, elsewhere, full])
def test_a_nifti_that_was_not_written_whole_is_an_error_and_leaves_the_earlier_one(tmp_path, monkeypatch, name, spoil):
    array = RNG.normal(size=GRID.shape).astype(np.float32)
    (tmp_path / name).write_bytes(b"earlier")
    write = sitk.WriteImage

    def spoilt(image, target, **options):
        write(image, target, **options)
        monkeypatch.setattr(sitk, "WriteImage", write)
        spoil(Path(target), sitk.Image(image))

    monkeypatch.setattr(sitk, "WriteImage", spoilt)
    with pytest.raises(OSError, match=f"{name} (could not be written|does not hold)") as error:
        writing.write_nifti(tmp_path / name, array, GRID)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == b"earlier"


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_nifti_on_a_disk_that_is_full_is_an_error(tmp_path):
    """In a process whose files may not grow beyond 20 kB: SimpleITK itself reports nothing there."""
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from AmbiguousSegLib.volume import writing\n"
        "from AmbiguousSegLib.volume.geometry import Geometry\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"
        "grid = Geometry((40, 30, 20), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))\n"
        "try:\n"
        "    writing.write_nifti(sys.argv[1], np.random.default_rng(0).random(grid.shape, np.float32), grid)\n"
        "except OSError as error:\n"
        "    print('refused', error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "v.nii.gz"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert run.stdout.startswith("refused"), run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("v.nrrd", np.zeros(GRID.shape), r"ends in .nii.gz or .nii, got .*v.nrrd"),
        ("v.nii", np.zeros(GRID.size), "does not fit a grid"),
        ("v.nii", np.zeros(GRID.shape, np.float16), "NIfTI does not hold float16"),
        ("v.nii", np.full(GRID.shape, np.nan), "take NaN and infinite values for 0"),
    ],
)
def test_what_nifti_cannot_hold_is_refused(tmp_path, name, array, message):
    with pytest.raises(ValueError, match=message):
        writing.write_nifti(tmp_path / name, array, GRID)
    assert list(tmp_path.iterdir()) == []

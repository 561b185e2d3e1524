"""Headers alone say of a file what reading it whole says."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.headers import read_header
from AmbiguousSegLib.volume.image import components_of, read_image
from AmbiguousSegLib.volume.segments import segment_names

VALUES = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(np.uint8)
TURN = (0.8, -0.36, 0.48, 0.6, 0.48, -0.64, 0.0, 0.8, 0.6)


def volume():
    image = sitk.GetImageFromArray(VALUES)
    image.SetDirection(TURN)
    image.SetSpacing((0.5, 0.75, 2.5))
    image.SetOrigin((3, -4, 5.5))
    return image


def plane():
    image = sitk.GetImageFromArray(VALUES[0])
    image.SetDirection((0, -1, 1, 0))
    image.SetSpacing((0.5, 0.75))
    image.SetOrigin((3, -4))
    return image


def colours(n):
    alpha = [np.full_like(VALUES[0], 255)] * (n == 4)
    return sitk.GetImageFromArray(np.stack([*VALUES[:3], *alpha], -1), isVector=True)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        *[(f"v.{end}", volume()) for end in ("nii.gz", "nii", "hdr", "nrrd", "nhdr", "mha", "mhd", "tif")],
        *[(f"p.{end}", plane()) for end in ("nii.gz", "nrrd", "mha", "png", "jpg", "tif", "bmp")],
        *[(f"c.{end}", colours(3)) for end in ("nrrd", "png", "tif", "bmp", "jpg")],
        *[(f"a.{end}", colours(4)) for end in ("nrrd", "png", "tif")],
        ("t.nii.gz", sitk.JoinSeries([volume()])),
    ],
)
def test_header_and_image_agree(tmp_path, name, image):
    sitk.WriteImage(image, str(tmp_path / name))
    whole, header = read_image(tmp_path / name), read_header(tmp_path / name)
    assert header.geometry.same_grid(Geometry.of(whole), 1e-6)
    assert header.channels == len(components_of(whole))
    assert header.segments is None and segment_names(tmp_path / name) is None


def test_a_matrix_that_is_not_exactly_orthonormal(tmp_path):
    path = tmp_path / "v.nii.gz"
    sitk.WriteImage(volume(), str(path))
    plain = tmp_path / "v.nii"
    sitk.WriteImage(volume(), str(plain))
    data = bytearray(plain.read_bytes())
    rows = np.frombuffer(data, "<f4", 12, 280).copy()
    rows[1] += 3e-4 * 0.75
    data[280:328] = rows.tobytes()
    plain.write_bytes(bytes(data))
    assert read_header(plain).geometry == Geometry.of(read_image(plain))


def test_what_is_no_image_is_refused_in_one_line(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    (tmp_path / "x.nii.gz").write_bytes(b"\x1f\x8b")
    sitk.WriteImage(sitk.JoinSeries([volume(), volume()]), str(tmp_path / "t.nii"))
    for name, words in (
        ("x.png", "not a readable image"),
        ("x.nii.gz", "cut off"),
        ("t.nii", "expected a 2-D or 3-D"),
    ):
        with pytest.raises(ValueError, match=rf"\A[^\n]*{name}[^\n]*{words}[^\n]*\Z"):
            read_header(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere.png does not exist"):
        read_header(tmp_path / "nowhere.png")

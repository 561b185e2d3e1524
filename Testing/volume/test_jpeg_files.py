"""JPEG: turned by EXIF, progressive, of four colours, cut off. Pillow writes, and decodes what is compared."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from AmbiguousSegLib.volume.image import components_of, read_image
from AmbiguousSegLib.volume.io import is_flat
from AmbiguousSegLib.volume.jpeg_files import jpeg_header

ROWS, COLUMNS = 40, 64
RAMP = np.add.outer(np.arange(ROWS) * 2, np.arange(COLUMNS) * 2).astype(np.uint8)
RAMP[5:12, 8:20] = 250  # so that no turn looks like another
RGB = np.stack([RAMP, RAMP[::-1], np.full_like(RAMP, 90)], -1)


def saved(path, array, mode=None, **options):
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, quality=95, subsampling=0, **options)
    return path


def values(path):
    return np.stack([part[0] for part in components_of(read_image(path))], -1).squeeze()


def exif(turn):
    entry = Image.Exif()
    entry[0x112] = turn
    return entry


@pytest.mark.parametrize("array", [RAMP, RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize("progressive", [False, True])
def test_values_are_those_that_another_decoder_gives(tmp_path, array, progressive):
    path = saved(tmp_path / "p.jpg", array, progressive=progressive)
    np.testing.assert_allclose(values(path), np.array(Image.open(path)), atol=1)
    np.testing.assert_allclose(values(path).astype(int), array, atol=12)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_stands_upright_as_its_exif_says(tmp_path, turn, suffix):
    path = saved(tmp_path / f"p.{suffix}", RAMP, exif=exif(turn))
    upright = np.array(ImageOps.exif_transpose(Image.open(path)))
    assert upright.shape == ((ROWS, COLUMNS) if turn < 5 else (COLUMNS, ROWS))
    np.testing.assert_allclose(values(path), upright, atol=1)
    assert is_flat(path)


def test_the_eight_turns_by_hand(tmp_path):
    """Rows and columns of the upright picture: what EXIF says lies at the stored picture's first row and column."""
    stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    upright = {1: [[1, 2, 3], [4, 5, 6]], 2: [[3, 2, 1], [6, 5, 4]], 3: [[6, 5, 4], [3, 2, 1]]}
    upright |= {4: [[4, 5, 6], [1, 2, 3]], 5: [[1, 4], [2, 5], [3, 6]], 6: [[4, 1], [5, 2], [6, 3]]}
    upright |= {7: [[6, 3], [5, 2], [4, 1]], 8: [[3, 6], [2, 5], [1, 4]]}
    for turn, true in upright.items():
        np.testing.assert_array_equal(values(saved(tmp_path / "p.png", stored, exif=exif(turn))), true)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "content",
    [b"", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0" + bytes(range(80))],
)
def test_exif_that_cannot_be_read_turns_nothing(tmp_path, content):
    path = saved(tmp_path / "p.jpg", RAMP, exif=b"Exif\0\0" + content)
    np.testing.assert_allclose(values(path), np.array(Image.open(path)), atol=1)


def test_four_colours_are_refused(tmp_path):
    path = saved(tmp_path / "p.jpg", RGB, "CMYK")
    with pytest.raises(ValueError, match=r"p\.jpg holds four colours \(CMYK, for printing\), expected.*; save it as"):
        read_image(path)


@pytest.mark.parametrize(("at", "byte", "told"), [(1, 0xC3, "code 0xc3, 8 bits"), (4, 12, "code 0xc0, 12 bits")])
def test_kinds_that_are_not_read_are_named(tmp_path, at, byte, told):
    content = bytearray(saved(tmp_path / "p.jpg", RAMP).read_bytes())
    content[content.index(b"\xff\xc0") + at] = byte
    (tmp_path / "p.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=f"is a JPEG of a kind that is not read \\({told}\\).*save it as PNG"):
        read_image(tmp_path / "p.jpg")


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("progressive", [False, True])
def test_what_is_cut_off_is_refused(tmp_path, share, progressive):
    path = saved(tmp_path / "p.jpg", RAMP, progressive=progressive)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="cut off"):
        read_image(path)


def test_a_size_that_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    content = bytearray(saved(tmp_path / "p.jpg", RAMP).read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "p.jpg").write_bytes(content)
    monkeypatch.setattr("AmbiguousSegLib.volume.file_checks.memory_bytes", lambda: 6e9)
    with pytest.raises(ValueError, match="declares 4,294,836,225 voxels, which take 17.2 GB"):
        read_image(tmp_path / "p.jpg")


def test_a_jpeg_under_another_name_is_read_as_what_it_is(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "JPEG", quality=95, exif=exif(3))
    (tmp_path / "p.png").write_bytes(buffer.getvalue())
    np.testing.assert_allclose(values(tmp_path / "p.png").astype(int), RAMP[::-1, ::-1], atol=12)
    assert jpeg_header(tmp_path / "p.png").turn == 3

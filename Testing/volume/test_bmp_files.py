"""BMP: depths, palettes, either order of rows."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from picture_bytes import bmp, packed_rows
from PIL import Image

from AmbiguousSegLib.volume.image import components_of, read_image
from AmbiguousSegLib.volume.io import read_mask

GREYS = np.arange(256).repeat(3).reshape(256, 3)
MASKS = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def written(tmp_path, content):
    path = tmp_path / "p.bmp"
    path.write_bytes(content)
    return path


def values(path, **options):
    return np.stack([part[0] for part in components_of(read_image(path, **options))], -1).squeeze()


def rows_of(stored, bits):
    return [row.tobytes() for row in packed_rows(stored, bits)]


@pytest.mark.parametrize(("header", "upward"), [(12, True), (40, True), (40, False)])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_palettes(tmp_path, bits, upward, header):
    rng = np.random.default_rng(bits)
    stored, palette = rng.integers(0, 1 << bits, (5, 11, 1)), rng.integers(0, 256, (1 << bits, 3))
    path = written(tmp_path, bmp(rows_of(stored, bits), bits, palette, upward, header, size=(11, 5)))
    np.testing.assert_array_equal(values(path), palette[stored[..., 0]])
    np.testing.assert_array_equal(values(path, labels=True), stored[..., 0])


def test_a_palette_of_greys_is_grey_and_its_numbers_are_labels(tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (5, 7, 1))
    path = written(tmp_path, bmp(rows_of(stored, 8), 8, GREYS, size=(7, 5)))
    np.testing.assert_array_equal(values(path), stored[..., 0])


@pytest.mark.parametrize("white_first", [False, True])
def test_a_black_and_white_mask(tmp_path, white_first):
    marked = np.zeros((6, 9), bool)
    marked[2:4, 3:8] = True
    palette = [(255,) * 3, (0,) * 3] if white_first else [(0,) * 3, (255,) * 3]
    stored = (marked != white_first).astype(np.uint8)
    path = written(tmp_path, bmp(rows_of(stored[..., None], 1), 1, palette, size=(9, 6)))
    np.testing.assert_array_equal(values(path), 255 * marked)
    if white_first:
        with pytest.raises(ValueError, match="a higher number is a darker grey"):
            read_mask(path)
    else:
        np.testing.assert_array_equal(read_mask(path)[0], marked)


@pytest.mark.parametrize("upward", [True, False])
@pytest.mark.parametrize("bits", [24, 32])
def test_colours(tmp_path, bits, upward):
    rgb = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    stored = rgb[..., ::-1] if bits == 24 else np.concatenate([rgb[..., ::-1], np.zeros((5, 7, 1), np.uint8)], -1)
    path = written(tmp_path, bmp([row.tobytes() for row in stored], bits, upward=upward, size=(7, 5)))
    np.testing.assert_array_equal(values(path), rgb)  # what the fourth byte holds is not stated, so it says nothing


@pytest.mark.parametrize("opacity", [255, 254])
def test_an_alpha_channel_is_dropped_where_opaque_and_refused_where_not(tmp_path, opacity):
    rgb = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    stored = np.concatenate([rgb[..., ::-1], np.full((5, 7, 1), 255, np.uint8)], -1)
    stored[2, 2, 3] = opacity
    content = bmp([row.tobytes() for row in stored], 32, header=108, packing=3, masks=MASKS, size=(7, 5))
    if opacity == 255:
        np.testing.assert_array_equal(values(written(tmp_path, content)), rgb)
    else:
        with pytest.raises(ValueError, match="partly transparent"):
            read_image(written(tmp_path, content))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_what_pillow_writes(tmp_path, mode):
    rgb = np.random.default_rng(2).integers(0, 256, (9, 13, 3)).astype(np.uint8)
    picture = Image.fromarray(rgb).convert(mode)
    picture.save(tmp_path / "p.bmp")
    true = np.array(picture.convert("RGB" if mode == "P" else "L" if mode == "1" else mode))
    np.testing.assert_array_equal(values(tmp_path / "p.bmp"), true)


@pytest.mark.parametrize(("bits", "packing"), [(8, 1), (16, 0), (32, 3), (2, 0)])
def test_what_is_not_read_is_named(tmp_path, bits, packing):
    path = written(tmp_path, bmp([bytes(28)] * 5, bits, packing=packing, masks=bytes(16), size=(7, 5)))
    with pytest.raises(ValueError, match=rf"\({bits} bits for each pixel, packing {packing}\).*save it as PNG"):
        read_image(path)


def test_what_is_cut_off_or_declares_too_much_is_refused(tmp_path):
    whole = bmp([bytes(7)] * 5, 8, GREYS, size=(7, 5))
    for content in (whole[:-1], whole[:40], whole[:600], whole[:18] + struct.pack("<i", 30) + whole[22:]):
        with pytest.raises(ValueError, match="cut off"):
            read_image(written(tmp_path, content))
    with pytest.raises(ValueError, match=r"which take 40 GB|cut off"):
        read_image(written(tmp_path, whole[:18] + struct.pack("<ii", 100_000, 100_000) + whole[26:]))

"""PNG: every type and depth, as written by the tests' own writer of chunks."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from picture_bytes import chunk, png

from AmbiguousSegLib.volume.image import components_of, read_image
from AmbiguousSegLib.volume.io import read_mask
from AmbiguousSegLib.volume.png_files import png_header

SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
KINDS = [(0, bits) for bits in (1, 2, 4, 8, 16)] + [(c, bits) for c in (2, 4, 6) for bits in (8, 16)]


def written(tmp_path, content, name="p.png"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def values(path, **options):
    """``(H, W)`` or ``(H, W, C)``."""
    parts = [part[0] for part in components_of(read_image(path, **options))]
    return parts[0] if len(parts) == 1 else np.stack(parts, -1)


def random_samples(colour, bits, shape=(9, 13)):
    stored = np.random.default_rng(colour * 100 + bits).integers(0, 1 << bits, (*shape, SAMPLES[colour]))
    if colour in (4, 6):
        stored[..., -1] = (1 << bits) - 1
    return stored


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "bits"), KINDS)
def test_every_type_and_depth_has_its_values(tmp_path, colour, bits, interlaced):
    stored = random_samples(colour, bits)
    path = written(tmp_path, png(stored, bits, colour, interlaced=interlaced, filters=(0, 1, 2, 3, 4), parts=3))
    true = stored[..., : 3 if colour in (2, 6) else 1]
    read = values(path)
    assert read.dtype == (np.uint16 if bits == 16 else np.uint8)
    scale = 255 // ((1 << bits) - 1) if bits < 8 else 1  # 4 bits: 0, 17, … 255
    np.testing.assert_array_equal(read, np.squeeze(true * scale))
    np.testing.assert_array_equal(values(path, labels=True), np.squeeze(true))
    header = png_header(path)
    assert (header.upright_shape, header.components, header.bits) == ((1, 9, 13), true.shape[-1], bits)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_colours_is_rgb_in_an_image_and_numbers_in_a_mask(tmp_path, bits, interlaced):
    rng = np.random.default_rng(bits)
    stored, palette = rng.integers(0, 1 << bits, (6, 11, 1)), rng.integers(0, 256, (1 << bits, 3)).astype(np.uint8)
    path = written(tmp_path, png(stored, bits, 3, [(b"PLTE", palette.tobytes())], interlaced, (0, 2, 4)))
    np.testing.assert_array_equal(values(path), palette[stored[..., 0]])
    np.testing.assert_array_equal(values(path, labels=True), stored[..., 0])
    assert png_header(path).components == 3


def test_a_palette_of_greys_is_grey(tmp_path):
    stored, greys = np.arange(12).reshape(3, 4, 1), np.array([0, 10, 20, 30, 45, 60, 90, 120, 150, 200, 201, 255])
    entries = [(b"PLTE", np.repeat(greys, 3).astype(np.uint8).tobytes())]
    path = written(tmp_path, png(stored, 4, 3, entries))
    np.testing.assert_array_equal(values(path), greys.reshape(3, 4))
    np.testing.assert_array_equal(values(path, labels=True), stored[..., 0])
    assert png_header(path).components == 1


def test_a_mask_whose_numbers_and_greys_contradict_each_other_is_refused(tmp_path):
    stored = np.zeros((4, 4, 1), int)
    stored[1:3, 1:3] = 1
    white_first = written(tmp_path, png(stored, 8, 3, [(b"PLTE", bytes([255] * 3 + [0] * 3))]))
    np.testing.assert_array_equal(values(white_first), 255 * (1 - stored[..., 0]))
    with pytest.raises(ValueError, match=r"p\.png has a palette in which a higher number is a darker grey.*save it"):
        read_mask(white_first)
    black_first = written(tmp_path, png(stored, 8, 3, [(b"PLTE", bytes([0] * 3 + [255] * 3))]))
    np.testing.assert_array_equal(read_mask(black_first)[0], stored[..., 0] == 1)


def test_a_pixel_without_a_colour_is_refused(tmp_path):
    path = written(tmp_path, png(np.array([[[0], [2]]]), 8, 3, [(b"PLTE", bytes([0] * 3 + [255] * 3))]))
    with pytest.raises(ValueError, match="a pixel has the colour number 2, its palette holds 2 colours"):
        read_image(path)


@pytest.mark.parametrize(("colour", "bits"), [kind for kind in KINDS if kind[0] in (4, 6)])
def test_what_is_partly_transparent_is_refused(tmp_path, colour, bits):
    stored = random_samples(colour, bits)
    stored[3, 3, -1] = 0
    with pytest.raises(ValueError, match=r"p\.png is partly transparent.*save it without"):
        read_image(written(tmp_path, png(stored, bits, colour)))


@pytest.mark.parametrize(("colour", "bits"), [kind for kind in KINDS if kind[0] in (0, 2)])
def test_a_transparent_colour_matters_where_it_occurs(tmp_path, colour, bits):
    stored = random_samples(colour, bits)
    stored[stored == 1] = 0  # no sample is 1 now
    clear = [(b"tRNS", struct.pack(f">{SAMPLES[colour]}H", *[1] * SAMPLES[colour]))]
    path = written(tmp_path, png(stored, bits, colour, clear))
    np.testing.assert_array_equal(values(path, labels=True), np.squeeze(stored))
    stored[2, 2] = 1
    with pytest.raises(ValueError, match="partly transparent"):
        read_image(written(tmp_path, png(stored, bits, colour, clear)))


def test_transparent_entries_of_a_palette_matter_in_an_image_where_they_are_used(tmp_path):
    palette = [(b"PLTE", bytes(range(9)))]
    stored = np.array([[[0], [1], [1]]])
    used = written(tmp_path, png(stored, 8, 3, [*palette, (b"tRNS", bytes([0, 255]))]))
    with pytest.raises(ValueError, match="partly transparent"):
        read_image(used)
    np.testing.assert_array_equal(values(used, labels=True), [[0, 1, 1]])  # an index is not transparent
    unused = written(tmp_path, png(stored, 8, 3, [*palette, (b"tRNS", bytes([255, 255, 0]))]))
    np.testing.assert_array_equal(values(unused), [[[0, 1, 2], [3, 4, 5], [3, 4, 5]]])


@pytest.mark.parametrize(("colour", "bits"), KINDS)
def test_hints_for_screens_change_nothing(tmp_path, colour, bits):
    stored, n = random_samples(colour, bits), SAMPLES[colour]
    hints = [(b"sBIT", bytes([max(1, bits // 2)] * n)), (b"gAMA", struct.pack(">I", 100_000))]
    hints += [(b"bKGD", struct.pack(f">{min(n, 3)}H", *[1] * min(n, 3))), (b"pHYs", struct.pack(">IIB", 10, 20, 1))]
    path = written(tmp_path, png(stored, bits, colour, hints))
    np.testing.assert_array_equal(values(path, labels=True), np.squeeze(stored[..., : n - (colour in (4, 6))]))
    assert read_image(path).GetSpacing() == (1, 1, 1)


def test_an_animation_is_refused_and_one_frame_is_not(tmp_path):
    stored = random_samples(0, 8)
    for frames in (1, 2):
        path = written(tmp_path, png(stored, 8, 0, [(b"acTL", struct.pack(">II", frames, 0))]))
        if frames == 1:
            np.testing.assert_array_equal(values(path), stored[..., 0])
        else:
            with pytest.raises(ValueError, match="is animated, with 2 pictures; save the one that is meant"):
                read_image(path)


def test_every_cut_and_every_changed_byte_of_the_pixels_is_noticed(tmp_path):
    whole = png(random_samples(0, 8), 8, 0)
    for length in (20, 30, 40, len(whole) - 20, len(whole) - 12, len(whole) - 1):
        with pytest.raises(ValueError, match="cut off"):
            read_image(written(tmp_path, whole[:length]))
    start = whole.index(b"IDAT") + 4
    for at in range(start, len(whole) - 16, 7):
        changed = bytearray(whole)
        changed[at] ^= 4
        with pytest.raises(ValueError, match="a checksum does not agree"):
            read_image(written(tmp_path, bytes(changed)))


def test_pixels_that_are_missing_are_noticed_though_every_checksum_agrees(tmp_path):
    whole = png(random_samples(0, 8), 8, 0)
    head = whole[: whole.index(b"IDAT") - 4]
    short = zlib.compress(bytes(14 * 5))  # of nine rows
    path = written(tmp_path, head + chunk(b"IDAT", short) + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match="cut off"):
        read_image(path)


def test_a_bomb_is_refused_before_its_pixels_are_unpacked(tmp_path):
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    path = written(tmp_path, b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    with pytest.raises(ValueError, match="its header declares 10 GB of voxels"):
        read_image(path)


def test_half_a_million_chunks_take_a_moment_only(tmp_path):
    stored = random_samples(0, 8)
    whole = png(stored, 8, 0)
    at = whole.index(b"IDAT") - 4
    path = written(tmp_path, whole[:at] + chunk(b"IDAT", b"") * 100_000 + whole[at:])
    np.testing.assert_array_equal(values(path), stored[..., 0])


@pytest.mark.parametrize(
    "head", [(9, 9, 3, 0, 0, 0, 0), (9, 9, 8, 1, 0, 0, 0), (9, 9, 8, 0, 0, 0, 7), (0, 9, 8, 0, 0, 0, 0)]
)
def test_a_header_that_cannot_be_is_refused(tmp_path, head):
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *head)), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")]
    with pytest.raises(ValueError, match="is damaged"):
        read_image(written(tmp_path, b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)))

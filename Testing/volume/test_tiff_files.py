"""TIFF: every way to lay out and pack samples, by tifffile, Pillow, SimpleITK and the tests' own writer."""

from __future__ import annotations

import io
import lzma
import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from picture_bytes import packed_rows, tiff, tiff_tags
from PIL import Image

from AmbiguousSegLib.volume.image import components_of, read_image
from AmbiguousSegLib.volume.io import is_flat, read_mask
from AmbiguousSegLib.volume.tiff_files import tiff_header

ROWS, COLUMNS = 37, 53


def values(path, **options):
    parts = components_of(read_image(path, **options))
    return np.stack(parts, -1)[0].squeeze()


def written(tmp_path, content):
    path = tmp_path / "p.tif"
    path.write_bytes(content)
    return path


def samples(kind, colours=1):
    rng = np.random.default_rng(7)
    shape = (ROWS, COLUMNS) if colours == 1 else (ROWS, COLUMNS, colours)
    if np.dtype(kind).kind == "f":
        return rng.normal(0, 1000, shape).astype(kind)
    smooth = np.add.outer(np.arange(ROWS) * 300, np.arange(COLUMNS) * 200)
    smooth = smooth if colours == 1 else np.stack([smooth * (k + 1) for k in range(colours)], -1)
    return (smooth + rng.integers(0, 9, shape)).astype(kind)


KINDS = ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64"]


@pytest.mark.parametrize("layout", ["strips", "tiles"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_type_in_strips_and_tiles(tmp_path, kind, order, layout):
    true = samples(kind)
    more = {"tile": (16, 32)} if layout == "tiles" else {"rowsperstrip": 5}
    tifffile.imwrite(tmp_path / "p.tif", true.astype(np.dtype(kind).newbyteorder(order)), byteorder=order, **more)
    read = values(tmp_path / "p.tif")
    assert read.dtype == ("float32" if kind == "float16" else kind)
    np.testing.assert_array_equal(read, true)


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 4}])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("kind", "compression"), [("uint8", None), ("uint16", "zlib"), ("float32", "lzma")])
def test_colours_side_by_side_or_one_after_the_other(tmp_path, kind, planar, layout, compression):
    true = samples(kind, 3)
    stored = true if planar == "contig" else np.moveaxis(true, -1, 0)
    options = {"photometric": "rgb", "planarconfig": planar, "compression": compression}
    tifffile.imwrite(tmp_path / "p.tif", stored, bigtiff=planar == "separate", **options, **layout)
    np.testing.assert_array_equal(values(tmp_path / "p.tif"), true)
    assert tiff_header(tmp_path / "p.tif").components == 3


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32"])
def test_white_is_zero(tmp_path, kind):
    true = samples(kind)
    highest = np.iinfo(kind).max
    tifffile.imwrite(tmp_path / "p.tif", highest - true, photometric="miniswhite")
    np.testing.assert_array_equal(values(tmp_path / "p.tif"), true)


def test_white_is_zero_of_what_has_no_white_is_refused(tmp_path):
    for kind in ("int16", "float32"):
        tifffile.imwrite(tmp_path / "p.tif", samples(kind), photometric="miniswhite")
        with pytest.raises(ValueError, match="which do not make a picture of kind 0"):
            read_image(tmp_path / "p.tif")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("colour", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
def test_samples_of_few_and_odd_bits(tmp_path, bits, colour, order):
    stored = np.random.default_rng(bits).integers(0, 1 << bits, (ROWS, COLUMNS, 1))
    rows = packed_rows(stored, bits)
    strips = [rows[k : k + 10].tobytes() for k in range(0, ROWS, 10)]
    path = written(tmp_path, tiff([(tiff_tags(COLUMNS, ROWS, bits, colour, rows=10), strips)], order))
    true = (stored if colour == 1 else (1 << bits) - 1 - stored)[..., 0]
    np.testing.assert_array_equal(values(path, labels=True), true)
    np.testing.assert_array_equal(values(path), true * (255 // ((1 << bits) - 1)) if bits < 8 else true)


def test_bits_from_the_lowest_on(tmp_path):
    stored = np.random.default_rng(0).integers(0, 2, (ROWS, COLUMNS, 1))
    rows = np.packbits(stored[..., 0].astype(np.uint8), axis=1, bitorder="little")
    path = written(tmp_path, tiff([(tiff_tags(COLUMNS, ROWS, 1, t266=(3, [2])), [rows.tobytes()])]))
    np.testing.assert_array_equal(values(path, labels=True), stored[..., 0])


@pytest.mark.parametrize(
    "compression", ["group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw", "tiff_adobe_deflate", None]
)
def test_black_and_white_by_pillow(tmp_path, compression):
    marked = np.zeros((ROWS, COLUMNS), bool)
    marked[10:20, 5:30], marked[25, 3] = True, True
    Image.fromarray(marked).save(tmp_path / "p.tif", compression=compression)
    np.testing.assert_array_equal(read_mask(tmp_path / "p.tif")[0], marked)
    np.testing.assert_array_equal(values(tmp_path / "p.tif"), 255 * marked)


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_packed_by_pillow(tmp_path, mode, compression, predictor):
    true = samples("uint16" if mode == "I;16" else "uint8", 3 if mode == "RGB" else 1)
    info = {317: predictor} if compression != "packbits" else {}
    Image.fromarray(true).save(tmp_path / "p.tif", compression=compression, tiffinfo=info)
    np.testing.assert_array_equal(values(tmp_path / "p.tif"), true)


@pytest.mark.parametrize("compressor", ["LZW", "Deflate", "PackBits"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("colours", [1, 3])
def test_packed_by_simpleitk(tmp_path, compressor, kind, colours):
    true = samples(kind, colours)
    image = sitk.GetImageFromArray(true, isVector=colours == 3)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "p.tif"))
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(image)
    np.testing.assert_array_equal(values(tmp_path / "p.tif"), true)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("colours", [1, 3])
def test_the_predictor_of_floats(tmp_path, kind, order, colours):
    true = samples(kind, 3)[..., :colours]
    size = true.dtype.itemsize
    byte_planes = true.astype(f">f{size}").view(np.uint8).reshape(ROWS, COLUMNS * colours, size).swapaxes(1, 2)
    flat = byte_planes.reshape(ROWS, -1, colours).astype(int)
    differences = np.diff(flat, axis=1, prepend=0).astype(np.uint8)
    tags = tiff_tags(COLUMNS, ROWS, 8 * size, 1 if colours == 1 else 2, colours, 8)
    tags |= {317: (3, [3]), 339: (3, [3] * colours)}
    path = written(tmp_path, tiff([(tags, [zlib.compress(differences.tobytes())])], order))
    np.testing.assert_array_equal(values(path), np.squeeze(true))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "uint32"])
def test_the_predictor_of_integers_wraps_around(tmp_path, kind, order):
    true = np.random.default_rng(3).integers(np.iinfo(kind).min, np.iinfo(kind).max, (ROWS, COLUMNS, 3)).astype(kind)
    stored = np.diff(true.astype(np.int64), axis=1, prepend=0).astype(kind).astype(np.dtype(kind).newbyteorder(order))
    bits = 8 * true.dtype.itemsize
    tags = tiff_tags(COLUMNS, ROWS, bits, 2, 3, 8, t317=(3, [2]), t339=(3, [2 if kind[0] == "i" else 1] * 3))
    path = written(tmp_path, tiff([(tags, [zlib.compress(stored.tobytes())])], order))
    np.testing.assert_array_equal(values(path), true)


def test_jpeg_within_tiff_as_pillow_decodes_it(tmp_path):
    true = samples("uint8", 3)
    for array in (true, true[..., 0]):
        Image.fromarray(array).save(tmp_path / "p.tif", compression="jpeg", quality=95)
        np.testing.assert_allclose(values(tmp_path / "p.tif"), np.array(Image.open(tmp_path / "p.tif")), atol=2)


@pytest.mark.parametrize("colour", [2, 6])
def test_jpeg_of_rgb_and_of_ycbcr_is_told_apart_by_the_tags(tmp_path, colour):
    flat = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    buffer = io.BytesIO()
    stored = Image.fromarray(flat) if colour == 2 else Image.fromarray(flat).convert("YCbCr")
    Image.merge("RGB", stored.split()).save(buffer, "JPEG", quality=98, subsampling=0, keep_rgb=True)
    body = buffer.getvalue()
    mark = body.index(b"\xff\xee")
    plain = body[:mark] + body[mark + 2 + int.from_bytes(body[mark + 2 : mark + 4], "big") :]  # says nothing by itself
    path = written(tmp_path, tiff([(tiff_tags(16, 16, 8, colour, 3, 7), [plain])]))
    np.testing.assert_allclose(values(path).astype(int), flat, atol=3)


@pytest.mark.parametrize("wide", [1, 256, 257])
def test_a_palette(tmp_path, wide):
    rng = np.random.default_rng(wide)
    colours, stored = rng.integers(0, 256, (256, 3)), rng.integers(0, 256, (ROWS, COLUMNS))
    tags = tiff_tags(COLUMNS, ROWS, 8, 3, t320=(3, (colours.T * wide).ravel().tolist()))
    path = written(tmp_path, tiff([(tags, [stored.astype(np.uint8).tobytes()])]))
    read = values(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, colours[stored])
    np.testing.assert_array_equal(values(path, labels=True), stored)
    greys = tiff_tags(COLUMNS, ROWS, 8, 3, t320=(3, [n * wide for n in range(256)] * 3))
    np.testing.assert_array_equal(
        values(written(tmp_path, tiff([(greys, [stored.astype(np.uint8).tobytes()])]))), stored
    )


def test_a_palette_of_16_bits_keeps_them(tmp_path):
    colours = np.random.default_rng(0).integers(0, 65536, (256, 3))
    stored = np.arange(256).reshape(16, 16)
    tags = tiff_tags(16, 16, 8, 3, t320=(3, colours.T.ravel().tolist()))
    read = values(written(tmp_path, tiff([(tags, [stored.astype(np.uint8).tobytes()])])))
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, colours[stored])


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_stands_upright(tmp_path, turn):
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    upright = {1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.T}
    upright |= {6: stored.T[:, ::-1], 7: stored.T[::-1, ::-1], 8: stored.T[::-1]}
    tifffile.imwrite(tmp_path / "p.tif", stored, extratags=[(274, "H", 1, turn, True)])
    np.testing.assert_array_equal(values(tmp_path / "p.tif"), upright[turn])
    assert tiff_header(tmp_path / "p.tif").upright_shape == (1, *upright[turn].shape)


@pytest.mark.parametrize("extra", [None, 0, 1, 2])
@pytest.mark.parametrize("colours", [1, 3])
def test_alpha_is_dropped_where_opaque_and_refused_where_not(tmp_path, colours, extra):
    true = samples("uint16", 3)[..., :colours]
    for opacity in (65535, 65534):
        alpha = np.full((ROWS, COLUMNS, 1), 65535, np.uint16)
        alpha[5, 5] = opacity
        tags = tiff_tags(COLUMNS, ROWS, 16, 1 if colours == 1 else 2, colours + 1)
        tags |= {} if extra is None else {338: (3, [extra])}
        stored = np.concatenate([true, alpha], -1)
        path = written(tmp_path, tiff([(tags, [stored.astype("<u2").tobytes()])]))
        if colours == 1 and extra == 0:  # of grey values, a sample that is said to be no opacity is a channel
            np.testing.assert_array_equal(values(path), stored)
        elif opacity == 65535:
            np.testing.assert_array_equal(values(path), np.squeeze(true))
        else:
            with pytest.raises(ValueError, match="partly transparent"):
                read_image(path)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        (tiff_tags(8, 8, 8, 5, 4), "holds CMYK, for printing, expected grey values, RGB or a palette"),
        (tiff_tags(8, 8, 8, 8, 3), r"holds CIE L\*a\*b\*"),
        (tiff_tags(8, 8, 8, 32803), "the raw pixels of a camera"),
        (tiff_tags(8, 8, 8, 6, 3), "colours of kind 6"),
        (tiff_tags(8, 8, 8, 2, 5), "has 5 numbers for each pixel"),
        (tiff_tags(8, 8, 8, 2, 1), "has 1 numbers for each pixel"),
        (tiff_tags(8, 8, 8, 1, 1, 50000), "is compressed by Zstandard, which is not read; save it with LZW"),
        (tiff_tags(8, 8, 8, 1, 1, 6), "JPEG of the old kind"),
        (tiff_tags(8, 8, 8, 1, 1, 777), "a method of number 777"),
        (tiff_tags(8, 8, 24), "has pixels of 24 bits, format 1"),
        (tiff_tags(8, 8, 64) | {339: (3, [6])}, "has pixels of 64 bits, format 6"),
        (tiff_tags(8, 8, 8, 2, 3) | {258: (3, [5, 6, 5])}, "has pixels of 5 and 6 bits"),
        (tiff_tags(8, 8, 8) | {317: (3, [3])}, "a predictor for floats, but holds none"),
        (tiff_tags(8, 8, 4) | {317: (3, [2])}, "has the predictor 2, which is not read"),
        (tiff_tags(8, 8, 8, 3) | {320: (3, [1] * 12)}, "its palette has 12 numbers"),
        ({k: v for k, v in tiff_tags(8, 8).items() if k != 262}, "does not say which of its values is white"),
        (tiff_tags(8, 8) | {33629: (4, [1])}, "is a stack of MetaMorph"),
        (tiff_tags(8, 8) | {254: (4, [4])}, "has a page that marks transparency"),
        (tiff_tags(8, 8) | {322: (3, [16]), 323: (3, [0])}, "its parts are of 16 × 0 pixels"),
        (tiff_tags(8, 8) | {322: (4, [1 << 20]), 323: (4, [1 << 20])}, "its parts are of 1048576 × 1048576 pixels"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, tags, told):
    path = written(tmp_path, tiff([(tags, [bytes(64)])]))
    with pytest.raises(ValueError, match=f"p\\.tif .*{told}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["raw", "zlib", "lzw", "lzma", "jpeg", "tiles"])
def test_what_is_cut_off_or_damaged_is_refused(tmp_path, how):
    true = samples("uint8")
    packers = {"raw": (1, bytes), "zlib": (8, zlib.compress), "lzma": (34925, lzma.compress)}
    if how in packers:
        number, pack = packers[how]
        whole = tiff([(tiff_tags(COLUMNS, ROWS, compression=number), [pack(true.tobytes())])])
    else:
        tifffile.imwrite(tmp_path / "w.tif", true, tile=(16, 16) if how == "tiles" else None)
        if how != "tiles":
            Image.fromarray(true).save(tmp_path / "w.tif", compression="tiff_lzw" if how == "lzw" else "jpeg")
        whole = (tmp_path / "w.tif").read_bytes()
    for length in (9, 60, len(whole) // 2, len(whole) - 40):
        with pytest.raises(ValueError, match=r"cut off|damaged"):
            read_image(written(tmp_path, whole[:length]))


def test_packed_data_that_ends_too_early_is_refused_though_the_file_is_whole(tmp_path):
    true = samples("uint8")
    for number, body in (
        (1, true.tobytes()[:-1]),
        (8, zlib.compress(true.tobytes()[:-1])),
        (5, b"\x80\x00"),
        (7, b"\xff\xd8"),
    ):
        path = written(tmp_path, tiff([(tiff_tags(COLUMNS, ROWS, compression=number), [body])]))
        with pytest.raises(ValueError, match=r"cut off|damaged"):
            read_image(path)


def test_pages_that_lead_back_or_are_without_number_are_refused(tmp_path):
    loop = bytearray(tiff([(tiff_tags(4, 4), [bytes(16)])]))
    entries = struct.unpack_from("<H", loop, 8)[0]
    loop[10 + 12 * entries : 14 + 12 * entries] = struct.pack("<I", 8)
    with pytest.raises(ValueError, match="its pages lead back to an earlier one"):
        read_image(written(tmp_path, bytes(loop)))
    empty = b"".join(struct.pack("<HI", 0, 8 + 6 * (k + 1)) for k in range(100_000))
    with pytest.raises(ValueError, match="it has more than 65,536 pages"):
        read_image(written(tmp_path, b"II*\0" + struct.pack("<I", 8) + empty))


def test_tags_that_say_more_than_the_file_holds_are_refused(tmp_path):
    long = tiff([(tiff_tags(4, 4) | {273: (4, [8] * 3)}, [bytes(16)])]).replace(
        struct.pack("<HHI", 273, 4, 3), struct.pack("<HHI", 273, 4, 300_000_000)
    )
    with pytest.raises(ValueError, match="its tags hold more than the whole file"):
        read_image(written(tmp_path, long))
    with pytest.raises(ValueError, match="has 65,535 tags"):
        read_image(written(tmp_path, b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(99)))


def test_bombs_are_refused_before_anything_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("AmbiguousSegLib.volume.file_checks.memory_bytes", lambda: 6e9)
    path = written(tmp_path, tiff([(tiff_tags(100_000, 100_000, compression=8), [zlib.compress(bytes(9999))])]))
    with pytest.raises(ValueError, match="declares 10,000,000,000 voxels, which take 40 GB"):
        read_image(path)
    many = tiff_tags(30_000, 30_000, rows=1) | {322: (3, [16]), 323: (3, [16])}
    with pytest.raises(ValueError, match="of 3,515,625 parts of its pixels 1 are listed"):
        read_image(written(tmp_path, tiff([(many, [bytes(256)])])))


def test_smaller_copies_of_a_picture_are_left_out(tmp_path):
    true = samples("uint8")
    small = tiff_tags(COLUMNS // 2, ROWS // 2) | {254: (4, [1])}
    pages = [(tiff_tags(COLUMNS, ROWS), [true.tobytes()]), (small, [bytes((COLUMNS // 2) * (ROWS // 2))])]
    path = written(tmp_path, tiff(pages))
    np.testing.assert_array_equal(values(path), true)
    assert is_flat(path)

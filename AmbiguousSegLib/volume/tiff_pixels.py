"""Pixels of one page of a TIFF: its strips or tiles, unpacked and put in their places."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from AmbiguousSegLib.volume.file_checks import cut_off, shown
from AmbiguousSegLib.volume.jpeg_files import decoded_jpeg
from AmbiguousSegLib.volume.library_words import libtiff_words
from AmbiguousSegLib.volume.picture_header import DECODER_ERRORS, PictureHeader, damaged
from AmbiguousSegLib.volume.tiff_tags import Tags

JPEG = 7
_NONE, _LZW, _PACKBITS = 1, 5, 32773
_FAX = (2, 3, 4)
_DEFLATE, _LZMA = (8, 32946), 34925
_NAMES = {6: "JPEG of the old kind", 34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000", 34887: "LERC"}
_NAMES |= {
    50000: "Zstandard",
    34926: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
    32809: "ThunderScan",
}
_MOST_BLOCKS, _MOST_TILE = 1 << 20, 1 << 24
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _Packed(NamedTuple):
    """How the samples of a page are packed; ``each`` are those of a pixel that lie together."""

    order: str
    bits: int
    form: str
    each: int
    compression: int
    predictor: int
    reversed: bool
    tags: Tags

    @property
    def kind(self) -> np.dtype:
        """Type of a sample as stored."""
        return np.dtype(f"{self.order}{self.form}{max(1, -(-self.bits // 8))}")


def page_samples(path: Path, order: str, page: Tags, header: PictureHeader, samples: int) -> np.ndarray:
    """Samples as stored, ``(rows, columns, S)``, of one page of ``samples``.

    Raises:
        ValueError: cut off or damaged, or packed in a way that is not read. ImportError: without Pillow, where needed.
    """
    _, rows, columns = header.shape
    planar = page.get(284, (1,))[0] == 2 and samples > 1
    packed = _Packed(
        order,
        header.bits,
        header.form,
        1 if planar else samples,
        page.get(259, (_NONE,))[0],
        page.get(317, (1,))[0],
        page.get(266, (1,))[0] == 2,
        page,
    )
    _check_packing(path, packed)
    tiled = 322 in page
    width = page[322][0] if tiled else columns
    height = page.get(323, (0,))[0] if tiled else min(page.get(278, (rows,))[0], rows)
    if width < 1 or height < 1 or width * height > max(_MOST_TILE, 4 * rows * columns):
        raise ValueError(
            f"{shown(path)} is damaged: its parts are of {width} × {height} pixels; copy or save it again."
        )
    across, down = -(-columns // width), -(-rows // height)
    count = across * down * (samples if planar else 1)
    offsets = page.get(324, page.get(273, ()))
    lengths = page.get(325, page.get(279, ()))
    if not lengths and packed.compression == _NONE:
        lengths = (_row_bytes(packed, width) * height,) * len(offsets)
    if count > _MOST_BLOCKS or min(len(offsets), len(lengths)) < count:
        raise ValueError(
            f"{shown(path)} is damaged: of {count:,} parts of its pixels {min(len(offsets), len(lengths)):,} are "
            "listed; copy or save it again."
        )
    size = path.stat().st_size
    result = np.empty((rows, columns, samples), packed.kind.newbyteorder("="))
    with open(path, "rb") as file:
        for number in range(count):
            first, block = divmod(number, across * down)
            j, i = divmod(block, across)
            there = result[j * height : (j + 1) * height, i * width : (i + 1) * width, first : first + packed.each]
            wanted = height if tiled else there.shape[0]
            if offsets[number] + lengths[number] > size:
                raise cut_off(path)
            file.seek(offsets[number])
            values = _unpacked(path, file.read(lengths[number]), (wanted, width), packed)
            there[...] = values[: there.shape[0], : there.shape[1]]
    return result


def _check_packing(path: Path, packed: _Packed) -> None:
    """ValueError for what is not unpacked here, named."""
    known = (_NONE, _LZW, _PACKBITS, _LZMA, JPEG, *_FAX, *_DEFLATE)
    whole = packed.bits in (8, 16, 32, 64)
    if packed.compression not in known:
        name = _NAMES.get(packed.compression, f"a method of number {packed.compression}")
        raise ValueError(
            f"{shown(path)} is compressed by {name}, which is not read; save it with LZW, or uncompressed."
        )
    if packed.predictor not in (1, 2, 3) or (packed.predictor > 1 and not whole):
        raise ValueError(f"{shown(path)} has the predictor {packed.predictor}, which is not read; save it without.")
    if packed.predictor == 3 and packed.form != "f":
        raise ValueError(f"{shown(path)} has a predictor for floats, but holds none; save it again.")
    if packed.compression == JPEG and (packed.bits != 8 or packed.form != "u" or packed.each not in (1, 3)):
        raise ValueError(
            f"{shown(path)} is JPEG of {packed.bits} bits, expected 8 bits of grey or RGB; save it as PNG."
        )
    if packed.compression in _FAX and (packed.bits != 1 or packed.each != 1):
        raise ValueError(f"{shown(path)} is a fax of {packed.bits} bits, expected black and white; save it as PNG.")


def _row_bytes(packed: _Packed, width: int) -> int:
    return -(-width * packed.each * packed.bits // 8)


def _unpacked(path: Path, raw: bytes, shape: tuple[int, int], packed: _Packed) -> np.ndarray:
    """Samples ``(rows, columns, each)`` of one strip or tile."""
    rows, columns = shape
    if packed.compression == JPEG:
        return decoded_jpeg(path, _jpeg(raw, packed), shape, packed.each)
    if packed.reversed:
        raw = raw.translate(_REVERSED)
    if packed.compression in _FAX:
        options: list[tuple[int, int]] = [(tag, packed.tags[tag][0]) for tag in (292, 293) if tag in packed.tags]
        fax = _tiff(raw, columns, rows, 1, packed.compression, options)
        return _by_pillow(path, fax, columns, rows).astype(np.uint8)
    length = _row_bytes(packed, columns)
    data = _bytes_of(path, raw, packed.compression, length, rows)
    if len(data) < length * rows:
        raise cut_off(path)
    if packed.bits not in (8, 16, 32, 64):
        bits = np.unpackbits(np.frombuffer(data, np.uint8, length * rows).reshape(rows, length), axis=1)
        bits = bits[:, : columns * packed.each * packed.bits].reshape(rows, columns, packed.each, packed.bits)
        native = packed.kind.newbyteorder("=")
        return (bits * (1 << np.arange(packed.bits)[::-1]).astype(native)).sum(-1, dtype=native)
    if packed.predictor == 3:
        return _floats(data, (rows, columns, packed.each), packed)
    integers = packed.kind if packed.predictor == 1 else np.dtype(f"{packed.order}u{packed.kind.itemsize}")
    values = np.frombuffer(data, integers, rows * columns * packed.each).reshape(rows, columns, packed.each)
    if packed.predictor == 2:  # differences of neighbours; sums wrap around
        native = integers.newbyteorder("=")
        values = np.cumsum(values.astype(native), axis=1, dtype=native).view(packed.kind.newbyteorder("="))
    return values


def _floats(data: bytes, shape: tuple[int, int, int], packed: _Packed) -> np.ndarray:
    """Undo the predictor of floats: rows of all highest bytes, then all next ones, as differences of neighbours."""
    rows, columns, each = shape
    size = packed.kind.itemsize
    stored = np.frombuffer(data, np.uint8, rows * columns * each * size).reshape(rows, -1, each)
    planes = np.cumsum(stored, axis=1, dtype=np.uint8).reshape(rows, size, columns * each)
    values = np.ascontiguousarray(planes.swapaxes(1, 2)).view(f">f{size}")
    return values.reshape(shape)


def _bytes_of(path: Path, raw: bytes, compression: int, length: int, rows: int) -> bytes:
    """Bytes that hold ``rows`` rows of ``length`` bytes; more than needed are not unpacked."""
    try:
        if compression == _NONE:
            return raw
        if compression in _DEFLATE:
            return zlib.decompressobj().decompress(raw, length * rows)
        if compression == _LZMA:
            return lzma.LZMADecompressor().decompress(raw, length * rows)
    except (zlib.error, lzma.LZMAError) as error:
        raise damaged(path) from error
    tiff = _tiff(raw, length, rows, 8, compression, [])
    return _by_pillow(path, tiff, length, rows).tobytes()


def _tiff(raw: bytes, width: int, height: int, bits: int, compression: int, more: list[tuple[int, int]]) -> bytes:
    """A TIFF of one strip of grey values, whose compressed bytes are ``raw``: for a decoder that needs a whole file."""
    tags = [(256, width), (257, height), (258, bits), (259, compression), (262, 1), (273, 0), (277, 1), (278, height)]
    tags = sorted([*tags, (279, len(raw)), *more])
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + raw


def _jpeg(raw: bytes, packed: _Packed) -> bytes:
    """A whole JPEG of a strip or tile: with the tables of the page, and a mark that tells RGB and YCbCr apart."""
    tables = bytes(packed.tags.get(347, ()))
    colour = 1 if packed.tags.get(262, (1,))[0] == 6 else 0
    mark = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(4) + bytes([colour])
    return b"\xff\xd8" + (mark if packed.each == 3 else b"") + tables[2:-2] + raw[2:]


def _by_pillow(path: Path, content: bytes, columns: int, rows: int) -> np.ndarray:
    """The one sample for each pixel, ``(rows, columns, 1)``, of such a TIFF by Pillow."""
    try:
        from PIL import TiffImagePlugin
    except ImportError as error:
        raise ImportError(f"{shown(path)}: this TIFF needs Pillow, which is missing; pip install Pillow.") from error
    try:
        with libtiff_words() as words, TiffImagePlugin.TiffImageFile(io.BytesIO(content)) as picture:
            samples = np.array(picture).reshape(rows, columns, 1)
    except DECODER_ERRORS as error:
        raise damaged(path) from error
    if words:
        raise damaged(path)
    return samples

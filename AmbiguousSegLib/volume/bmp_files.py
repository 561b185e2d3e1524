"""BMP: its header and its samples as stored."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from AmbiguousSegLib.volume.file_checks import cut_off, shown
from AmbiguousSegLib.volume.picture_header import PictureHeader, true_values

HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_PLAIN, _MASKED = 0, 3
_USUAL_MASKS = (0xFF0000, 0xFF00, 0xFF)  # of red, green and blue


@dataclass(frozen=True, eq=False)
class _Layout:
    """Header, and how the pixels lie in the file: from which byte, of how many bits, the lowest row first or last."""

    header: PictureHeader
    offset: int
    pixel_bits: int
    upward: bool


def bmp_header(path: Path) -> PictureHeader:
    """Header of a BMP; ValueError for one that is cut off, or whose pixels are stored in a way that is not read."""
    return _layout(path).header


def bmp_values(path: Path, labels: bool) -> np.ndarray:
    """Values as ``true_values``; ValueError as ``bmp_header``, or for more declared than the file holds."""
    layout = _layout(path)
    header, bits = layout.header, layout.pixel_bits
    header.check_size(path, None, compressed=False)
    _, rows, columns = header.shape
    stride = (columns * bits + 31) // 32 * 4
    if path.stat().st_size - layout.offset < stride * rows:
        raise cut_off(path)
    raw = np.fromfile(path, np.uint8, stride * rows, offset=layout.offset).reshape(rows, stride)
    if layout.upward:
        raw = raw[::-1]
    stored: np.ndarray
    if bits < 8:
        single = np.unpackbits(raw, axis=1)[:, : columns * bits].reshape(rows, columns, bits)
        stored = np.packbits(single, axis=-1) >> (8 - bits)
    else:
        pixels = raw[:, : columns * bits // 8].reshape(rows, columns, -1)
        stored = pixels[..., [2, 1, 0, 3][: header.samples]] if header.samples > 1 else pixels
    return true_values(header, stored[None], labels, path)


def _layout(path: Path) -> _Layout:
    with open(path, "rb") as file:
        data = file.read(14 + 124 + 4 * 256)
    size, offset = int.from_bytes(data[2:6], "little"), int.from_bytes(data[10:14], "little")
    length = int.from_bytes(data[14:18], "little")
    if len(data) < 14 + length or path.stat().st_size < size:
        raise cut_off(path)
    packing, colours = _PLAIN, 0
    masks: tuple[int, ...] = ()
    if length == 12:
        columns, rows, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        columns, rows, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
        colours = int.from_bytes(data[46:50], "little")
        masks = struct.unpack_from("<4I", data.ljust(70, b"\0"), 54)
    if bits not in (1, 4, 8, 24, 32) or not (packing == _PLAIN or (bits == 32 and masks[:3] == _USUAL_MASKS)):
        raise ValueError(
            f"{shown(path)} is a BMP of a kind that is not read ({bits} bits for each pixel, packing {packing}), "
            "expected 1, 4, 8, 24 or 32 bits, not compressed; save it as PNG."
        )
    alpha = packing == _MASKED and length >= 56 and masks[3] == 0xFF000000
    palette = None
    if bits <= 8:
        wide = 3 if length == 12 else 4
        count = min(colours or 1 << bits, 1 << bits)
        entries = data[14 + length : 14 + length + wide * count]
        palette = np.frombuffer(entries[: len(entries) // wide * wide], np.uint8).reshape(-1, wide)[:, 2::-1]
    header = PictureHeader(
        kind="BMP",
        shape=(1, abs(rows), columns),
        samples=1 if palette is not None else 3 + alpha,
        bits=min(bits, 8),
        palette=palette,
        alpha=alpha,
    )
    return _Layout(header, offset, bits, upward=rows > 0)

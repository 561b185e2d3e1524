"""JPEG: what its markers say, and its samples as decoded."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from AmbiguousSegLib.volume.file_checks import cut_off, shown
from AmbiguousSegLib.volume.picture_header import DECODER_ERRORS, PictureHeader, damaged, true_values
from AmbiguousSegLib.volume.tiff_tags import exif_turn

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that give size and components
_READ = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, by Huffman's code
_JFIF, _ADOBE = 0xE0, 0xEE
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a body


def jpeg_header(path: Path) -> PictureHeader:
    """Header of a JPEG; ValueError for one that is cut off, of four colours (CMYK), lossless or of 12 bits."""
    return _header(path, path.read_bytes())[0]


def jpeg_values(path: Path, labels: bool) -> np.ndarray:
    """Values as ``true_values``; ValueError as ``jpeg_header``, and for more declared than memory can take."""
    data = path.read_bytes()
    header, plain = _header(path, data)
    header.check_size(path, None, compressed=False)
    scan = data.rfind(b"\xff\xda")
    if scan < 0 or data.rfind(b"\xff\xd9") < scan:  # decoders fill with grey what is missing after a scan
        raise cut_off(path)
    return true_values(header, decoded_jpeg(path, plain, header.shape[1:], header.samples)[None], labels, path)


def decoded_jpeg(path: Path, data: bytes, shape: tuple[int, int], samples: int) -> np.ndarray:
    """Samples, uint8 ``(rows, columns, S)``, of a whole JPEG by Pillow, which says nothing on standard error.

    Raises:
        ValueError: it cannot be decoded, or is of another shape than expected. ImportError: without Pillow.
    """
    try:
        from PIL import JpegImagePlugin
    except ImportError as error:
        raise ImportError(f"{shown(path)}: JPEG needs Pillow, which is missing; pip install Pillow.") from error
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as picture:
            if picture.size == shape[::-1] and len(picture.getbands()) == samples:
                return np.array(picture).reshape(*shape, samples)
    except DECODER_ERRORS as error:
        raise damaged(path) from error
    raise damaged(path)


def _header(path: Path, data: bytes) -> tuple[PictureHeader, bytes]:
    """The header, and the JPEG without what programs add to it, but for the word on its colours."""
    at, turn, kept = 2, 1, [data[:2]]
    while True:
        start = data.find(b"\xff", at)
        if start < 0:
            raise cut_off(path)
        at = start + 1
        if at >= len(data) or data[at] in (0x00, 0xFF):
            if at >= len(data):
                raise cut_off(path)
            continue
        marker = data[at]
        first, at = at - 1, at + 1
        if marker in _ALONE:
            continue
        body = data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")]
        if marker == 0xE1 and body[:6] == b"Exif\0\0":
            turn = exif_turn(body[6:])
        if marker in _FRAMES:
            break
        if marker in (0xD9, 0xDA):
            raise ValueError(f"{shown(path)} is damaged: its size is not given before its pixels; copy it again.")
        at += 2 + len(body)
        if not 0xE0 <= marker <= 0xEF or marker in (_JFIF, _ADOBE):
            kept.append(data[first:at])
    if len(body) < 6:
        raise cut_off(path)
    bits, samples = body[0], body[5]
    rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if marker not in _READ or bits != 8:
        raise ValueError(
            f"{shown(path)} is a JPEG of a kind that is not read (code {marker:#x}, {bits} bits), expected baseline or "
            "progressive JPEG of 8 bits; save it as PNG or TIFF."
        )
    if samples not in (1, 3):
        kinds = {2: "two components", 4: "four colours (CMYK, for printing)"}
        raise ValueError(
            f"{shown(path)} holds {kinds.get(samples, f'{samples} components')}, expected grey values, or red, green "
            "and blue; save it as an RGB or grey picture."
        )
    header = PictureHeader("JPEG", (1, rows, columns), samples, bits, turn=turn)
    return header, b"".join(kept) + data[first:]

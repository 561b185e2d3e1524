"""JPEG: what its markers say, and its samples as decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.volume.file_checks import cut_off, shown
from AmbiguousSegLib.volume.itk_errors import one_line_errors
from AmbiguousSegLib.volume.picture_header import PictureHeader, true_values
from AmbiguousSegLib.volume.tiff_tags import exif_turn

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that give size and components
_READ = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, by Huffman's code
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a body


def jpeg_header(path: Path) -> PictureHeader:
    """Header of a JPEG; ValueError for one that is cut off, of four colours (CMYK), lossless or of 12 bits."""
    return _header(path, path.read_bytes())


def jpeg_values(path: Path, labels: bool) -> np.ndarray:
    """Values as ``true_values``; ValueError as ``jpeg_header``, and for more declared than memory can take."""
    data = path.read_bytes()
    header = _header(path, data)
    header.check_size(path, None, compressed=False)
    scan = data.rfind(b"\xff\xda")
    if scan < 0 or data.rfind(b"\xff\xd9") < scan:  # decoders fill with grey what is missing after a scan
        raise cut_off(path)
    with one_line_errors(path):
        stored = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="JPEGImageIO"))
    return true_values(header, stored.reshape(*header.shape, header.samples), labels, path)


def _header(path: Path, data: bytes) -> PictureHeader:
    at, turn = 2, 1
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
        at += 1
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
    return PictureHeader("JPEG", (1, rows, columns), samples, bits, turn=turn)

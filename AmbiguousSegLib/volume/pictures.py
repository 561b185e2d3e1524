"""Pictures (PNG, JPEG, TIFF, BMP): the one way by which all doors read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.volume import bmp_files, jpeg_files, png_files, tiff_files
from AmbiguousSegLib.volume.file_checks import check_file, shown
from AmbiguousSegLib.volume.picture_header import PictureHeader
from AmbiguousSegLib.volume.tiff_tags import is_tiff

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_NOT_READ = {  # how files begin that are taken for pictures
    b"GIF8": "a GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xffO\xffQ": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "a picture of Photoshop",
    b"%PDF": "a PDF",
    b"v/1\x01": "OpenEXR",
}


class _Format(NamedTuple):
    header: Callable[[Path], PictureHeader]
    values: Callable[[Path, bool], np.ndarray]


_PNG = _Format(png_files.png_header, png_files.png_values)
_JPEG = _Format(jpeg_files.jpeg_header, jpeg_files.jpeg_values)
_BMP = _Format(bmp_files.bmp_header, bmp_files.bmp_values)
_TIFF = _Format(tiff_files.tiff_header, tiff_files.tiff_values)


def is_picture(path: Path) -> bool:
    """Whether a file begins as pictures do that are read here, whatever its name."""
    return _format_of(path) is not None


def read_picture(path: Path, labels: bool = False) -> sitk.Image:
    """A picture as a 3-D image of pixels of 1 mm, upright, with its values as ``picture_header.true_values`` says.

    Args:
        labels: the file holds labels: of a palette they are the numbers of its colours, of few bits what is stored.

    Raises:
        ValueError: what cannot be read rightly, with the reason: transparency, CMYK, animation, pages that are no
            stack, a packing that is not read, a file that is damaged or cut off, no picture at all. One line.
        ImportError: what only Pillow unpacks, without Pillow.
    """
    found = _format_of(path)
    if found is None:
        raise ValueError(f"{shown(path)} is no PNG, JPEG, TIFF or BMP; save it as one of them.")
    values = found.values(path, labels)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    return sitk.GetImageFromArray(values, isVector=values.ndim == 4)


def picture_header(path: Path) -> PictureHeader:
    """What a picture's header says, without its pixels; ValueError for what ``read_picture`` refuses by it."""
    check_file(path)
    found = _format_of(path)
    if found is None:
        raise ValueError(f"{shown(path)} is no PNG, JPEG, TIFF or BMP; save it as one of them.")
    return found.header(path)


def check_kind(path: Path) -> None:
    """ValueError for a file that is a picture or document of a kind that nothing here reads, by how it begins."""
    with open(path, "rb") as file:
        head = file.read(16)
    name = next((name for begin, name in _NOT_READ.items() if head.startswith(begin)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        name = "WebP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif"):
        name = "HEIC or AVIF"
    if name is not None:
        raise ValueError(f"{shown(path)} is {name}, which is not read; save it as PNG or TIFF.")
    if path.suffix.lower() in SUFFIXES and not is_tiff(head):  # else SimpleITK would try, and talk to the terminal
        raise ValueError(
            f"{shown(path)} is not a readable image: it does not begin as PNG, JPEG, TIFF or BMP do; is it complete, "
            "and an image?"
        )


def _format_of(path: Path) -> _Format | None:
    with open(path, "rb") as file:
        head = file.read(18)
    if head.startswith(png_files.SIGNATURE):
        return _PNG
    if head.startswith(b"\xff\xd8\xff"):
        return _JPEG
    if is_tiff(head):
        return None if tiff_files.is_lsm(path) else _TIFF
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in bmp_files.HEADER_SIZES:
        return _BMP
    return None

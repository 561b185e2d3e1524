"""TIFF: what its tags say of it, and its values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.picture_header import PictureHeader, true_values
from AmbiguousSegLib.volume.tiff_pixels import JPEG, page_samples
from AmbiguousSegLib.volume.tiff_planes import Planes, planes_of
from AmbiguousSegLib.volume.tiff_tags import DESCRIPTION, ORIENTATION, Tags, tiff_pages

_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _GREY: 1, _RGB: 3, _PALETTE: 1, _YCBCR: 3}
_REFUSED = {4: "a transparency mask", 5: "CMYK, for printing", 8: "CIE L*a*b*", 32803: "the raw pixels of a camera"}
_FORMS = {1: "u", 2: "i", 3: "f", 4: "u"}
_BITS = {"u": (*range(1, 17), 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}
_KIND, _BITS_TAG, _COLOUR, _SAMPLES, _PLANAR, _FORMAT, _EXTRA, _MAP = 254, 258, 262, 277, 284, 339, 338, 320
_TOLD = (256, 257, _BITS_TAG, _COLOUR, ORIENTATION, _SAMPLES, _EXTRA, _FORMAT)  # in which pages must agree
_FORM_WORDS = {"u": "numbers", "i": "numbers with a sign", "f": "floats"}
_LSM, _METAMORPH = 34412, range(33628, 33632)


@dataclass(frozen=True, eq=False)
class _File:
    """Order of bytes, tags of the pages, what they are, and the header of the whole."""

    order: str
    pages: list[Tags]
    planes: Planes
    header: PictureHeader


def is_lsm(path: Path) -> bool:
    """Whether it is a file of a Zeiss microscope, for which SimpleITK has a reader of its own."""
    try:
        return any(_LSM in page for page in tiff_pages(path, 1)[1])
    except ValueError:  # damaged, which is told when it is read
        return False


def tiff_header(path: Path) -> PictureHeader:
    """Header of a TIFF; ValueError for what ``tiff_values`` refuses, as far as it is seen without the pixels."""
    return _open(path).header


def tiff_values(path: Path, labels: bool) -> np.ndarray:
    """Values as ``true_values``: pages are slices, or what OME or ImageJ say they are.

    Raises:
        ValueError: pages that differ, or are points of time; colours other than grey, RGB and palettes; a packing that
            is not read; cut off or damaged. ImportError: LZW, PackBits, fax and JPEG without Pillow.
    """
    file = _open(path)
    header = file.header
    header.check_size(path, None, compressed=False)
    slices, channels = file.planes.pages.shape
    each = header.samples // channels
    stored: np.ndarray | None = None
    for z in range(slices):
        for c in range(channels):
            page = page_samples(path, file.order, file.pages[file.planes.pages[z, c]], header, each)
            if stored is None:
                stored = np.empty((*header.shape, header.samples), page.dtype)
            stored[z, ..., c * each : (c + 1) * each] = page
    if stored is None:
        raise ValueError(f"{shown(path)} holds no page; copy or save it again.")
    if file.planes.scale is not None:
        slope, offset = file.planes.scale
        stored = stored * np.float32(slope) + np.float32(offset)
    return true_values(header, stored, labels, path)


def _open(path: Path) -> _File:
    order, pages = tiff_pages(path)
    if any(tag in page for page in pages[:1] for tag in _METAMORPH):
        raise ValueError(f"{shown(path)} is a stack of MetaMorph, which is not read; save it as a plain or OME TIFF.")
    if any(page.get(_KIND, (0,))[0] & 4 for page in pages):
        raise ValueError(f"{shown(path)} has a page that marks transparency, which is not read; save it without.")
    pages = [page for page in pages if not page.get(_KIND, (0,))[0] & 1] or pages[:1]  # no smaller copies
    if not pages:
        raise ValueError(f"{shown(path)} holds no page; copy or save it again.")
    for number, page in enumerate(pages, start=1):
        if any(page.get(tag) != pages[0].get(tag) for tag in _TOLD):
            sizes = " and ".join(f"{p.get(256, '?')[0]} × {p.get(257, '?')[0]}" for p in (pages[0], page))
            raise ValueError(
                f"{shown(path)} has {len(pages)} pages that are no stack: page {number} is of another kind than the "
                f"first ({sizes} pixels); save the one that is meant as a file of its own."
            )
    header = _header(path, pages[0])
    description = pages[0].get(DESCRIPTION, ("",))[0]
    planes = planes_of(path, description if isinstance(description, str) else "", len(pages), header.samples)
    slices, channels = planes.pages.shape
    if channels > 1 and (header.samples > 1 or header.palette is not None):
        raise ValueError(f"{shown(path)} holds {channels} channels that are coloured themselves; save one of them.")
    if channels > 1 or slices > 1:
        told = dict(vars(header), shape=(slices, *header.shape[1:]), samples=header.samples * channels)
        header = PictureHeader(**told)
    return _File(order, pages, planes, header)


def _header(path: Path, page: Tags) -> PictureHeader:
    samples = page.get(_SAMPLES, (1,))[0]
    bits, forms = set(page.get(_BITS_TAG, (1,))), set(page.get(_FORMAT, (1,)))
    form = _FORMS.get(next(iter(forms)), "")
    if len(bits) > 1 or len(forms) > 1 or next(iter(bits)) not in _BITS.get(form, ()):
        raise ValueError(
            f"{shown(path)} has pixels of {' and '.join(map(str, sorted(bits)[:3]))} bits, format "
            f"{' and '.join(map(str, sorted(forms)[:3]))}, which are not read; save it in 8 or 16 bits, or as floats."
        )
    colour = page.get(_COLOUR, (None,))[0]
    if colour not in _COLOURS or (colour == _YCBCR and page.get(259, (1,))[0] != JPEG):
        found = {None: "does not say which of its values is white"}
        other = _REFUSED.get(colour, f"colours of kind {colour}")
        raise ValueError(
            f"{shown(path)} {found.get(colour, f'holds {other}')}, expected grey values, RGB or a palette; save it so."
        )
    extra = page.get(_EXTRA, ())
    further = samples - _COLOURS[colour]
    # One sample more is opacity: by its tag, or where a colour picture does not say what else it is.
    alpha = further == 1 and (not extra or extra[-1] in (1, 2) or colour == _RGB)
    channels = colour == _GREY and further > 0 and len(extra) == further and not any(extra)
    grey_only = colour in (_WHITE_IS_ZERO, _PALETTE)
    if (further and not alpha and not channels) or further < 0 or (grey_only and (further or form != "u")):
        raise ValueError(
            f"{shown(path)} has {samples} {_FORM_WORDS[form]} for each pixel, which do not make a picture of kind "
            f"{colour}; save it as grey values or RGB."
        )
    return PictureHeader(
        kind="TIFF",
        shape=(1, page.get(257, (0,))[0], page.get(256, (0,))[0]),
        samples=samples,
        bits=next(iter(bits)),
        form=form,
        palette=_palette(path, page, next(iter(bits))) if colour == _PALETTE else None,
        alpha=alpha,
        white_is_zero=colour == _WHITE_IS_ZERO,
        turn=_turn(page),
    )


def _turn(page: Tags) -> int:
    turn = page.get(ORIENTATION, (1,))[0]
    return turn if turn in range(1, 9) else 1


def _palette(path: Path, page: Tags, bits: int) -> np.ndarray:
    """Colours as uint8 where they are those of 8 bits, which are stored times 256 or 257; else uint16."""
    stored = np.array(page.get(_MAP, ()), np.uint16)
    if bits > 16 or len(stored) != 3 << bits:
        raise ValueError(f"{shown(path)} is damaged: its palette has {len(stored)} numbers; save it again.")
    colours = stored.reshape(3, -1).T
    high, low = colours >> 8, colours & 255
    if not high.any():  # some programs write them so
        return low.astype(np.uint8)
    return high.astype(np.uint8) if ((low == 0) | (low == high)).all() else colours

"""PNG: what its chunks say, and its samples as stored."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.volume.file_checks import cut_off, inflated, shown
from AmbiguousSegLib.volume.itk_errors import one_line_errors
from AmbiguousSegLib.volume.picture_header import DECODER_ERRORS, PictureHeader, damaged, true_values
from AmbiguousSegLib.volume.tiff_tags import exif_turn

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
# A row of pixels of two bytes each is, byte for byte, one of a grey and its alpha: so Pillow, which would cut 16 bits
# to 8, gives both bytes. Likewise one of four bytes. Greys of few bits, which it would scale, are read as numbers of
# colours.
_READ_AS = {(0, 16): (4, 8), (4, 8): (4, 8), (4, 16): (6, 8), (2, 8): (2, 8), (6, 8): (6, 8)}


@dataclass(frozen=True, eq=False)
class _Chunks:
    """Width, height, bits, colour type and interlacing; the chunks of the types that count, by type."""

    size: tuple[int, int]
    bits: int
    colour: int
    interlaced: int
    data: dict[bytes, list[bytes]]

    def one(self, name: bytes) -> bytes | None:
        return b"".join(self.data[name]) if name in self.data else None


def png_header(path: Path) -> PictureHeader:
    """Header of a PNG; ValueError if it is damaged, cut off or animated."""
    return _header(path, _read_chunks(path))


def png_values(path: Path, labels: bool) -> np.ndarray:
    """Values as ``true_values``.

    Raises:
        ValueError: cut off, damaged, animated, transparent; more declared than can be. ImportError: without Pillow.
    """
    chunks = _read_chunks(path)
    header = _header(path, chunks)
    header.check_size(path, sum(map(len, chunks.data.get(b"IDAT", ()))), compressed=True)
    if inflated(path, io.BytesIO(b"".join(chunks.data.get(b"IDAT", ())))) < _length(chunks):
        raise cut_off(path)  # Pillow would fill with 0
    return true_values(header, _samples(path, chunks)[None], labels, path)


def _header(path: Path, chunks: _Chunks) -> PictureHeader:
    palette, clear, opacity = None, None, None
    hint = chunks.one(b"tRNS")
    if chunks.colour == 3:
        colours = chunks.one(b"PLTE") or b""
        palette = np.frombuffer(colours[: len(colours) // 3 * 3], np.uint8).reshape(-1, 3)
        if hint is not None:
            opacity = np.full(len(palette), 255, np.uint8)
            given = np.frombuffer(hint, np.uint8)[: len(palette)]
            opacity[: len(given)] = given
    elif hint is not None and chunks.colour in (0, 2) and len(hint) >= 2 * _SAMPLES[chunks.colour]:
        clear = struct.unpack(f">{_SAMPLES[chunks.colour]}H", hint[: 2 * _SAMPLES[chunks.colour]])
    frames = chunks.one(b"acTL")
    if frames is not None and len(frames) >= 4 and int.from_bytes(frames[:4], "big") > 1:
        number = int.from_bytes(frames[:4], "big")
        raise ValueError(f"{shown(path)} is animated, with {number} pictures; save the one that is meant.")
    exif = chunks.one(b"eXIf")
    return PictureHeader(
        kind="PNG",
        shape=(1, chunks.size[1], chunks.size[0]),
        samples=_SAMPLES[chunks.colour],
        bits=chunks.bits,
        palette=palette,
        opacity=opacity,
        clear=clear,
        alpha=chunks.colour in (4, 6),
        turn=1 if exif is None else exif_turn(exif),
    )


def _read_chunks(path: Path) -> _Chunks:
    """Chunks with their checksums verified; those that say nothing of the pixels are passed over."""
    data: dict[bytes, list[bytes]] = {}
    with open(path, "rb") as file:
        file.seek(len(SIGNATURE))
        while b"IEND" not in data:
            head = file.read(8)
            if len(head) < 8:
                raise cut_off(path)
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            if name not in (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"eXIf", b"IDAT", b"IEND"):
                if name[:1].isupper():  # a letter that says: not to be read without knowing it
                    raise ValueError(f"{shown(path)} is damaged: {name!r} is no part of a PNG; copy it again.")
                file.seek(length + 4, io.SEEK_CUR)
                continue
            body, check = file.read(length), file.read(4)
            if len(body) < length or len(check) < 4:
                raise cut_off(path)
            if zlib.crc32(name + body) != int.from_bytes(check, "big"):
                raise ValueError(f"{shown(path)} is damaged: a checksum does not agree; copy or download it again.")
            data.setdefault(name, []).append(body)
    start = b"".join(data.get(b"IHDR", ()))
    if len(start) != 13:
        raise ValueError(f"{shown(path)} is damaged: it lacks a header; copy or download it again.")
    columns, rows, bits, colour, packing, filtering, interlaced = struct.unpack(">IIBBBBB", start)
    if bits not in _DEPTHS.get(colour, ()) or packing or filtering or interlaced > 1:
        raise ValueError(
            f"{shown(path)} is damaged: there is no PNG with {bits} bits of colour type {colour}; copy it again."
        )
    return _Chunks((columns, rows), bits, colour, interlaced, data)


def _samples(path: Path, chunks: _Chunks) -> np.ndarray:
    """Samples as stored: uint8 or uint16 ``(rows, columns, S)``."""
    columns, rows = chunks.size
    if chunks.colour in (2, 6) and chunks.bits == 16:
        return _by_simpleitk(path, _plain(chunks, chunks.colour, chunks.bits)).reshape(rows, columns, -1)
    try:
        from PIL import PngImagePlugin
    except ImportError as error:
        raise ImportError(f"{shown(path)}: PNG needs Pillow, which is missing; pip install Pillow.") from error
    colour, bits = _READ_AS.get((chunks.colour, chunks.bits), (3, chunks.bits))
    try:
        with PngImagePlugin.PngImageFile(io.BytesIO(_plain(chunks, colour, bits))) as picture:
            values = np.array(picture)
    except DECODER_ERRORS as error:
        raise damaged(path) from error
    values = values.reshape(rows, columns, -1)
    if chunks.bits == 16:
        return np.ascontiguousarray(values).view(">u2").astype(np.uint16)
    return values


def _length(chunks: _Chunks) -> int:
    """Bytes of the rows of pixels, each with one more in front."""
    columns, rows = chunks.size
    passes = _ADAM7 if chunks.interlaced else [(0, 0, 1, 1)]
    sizes = [(len(range(y, rows, dy)), len(range(x, columns, dx))) for y, x, dy, dx in passes]
    return sum(h * (1 + -(-w * _SAMPLES[chunks.colour] * chunks.bits // 8)) for h, w in sizes if w)


def _plain(chunks: _Chunks, colour: int, bits: int) -> bytes:
    """A PNG of these pixels alone, said to be of another type, without what decoders act on by themselves."""
    start = struct.pack(">IIBBBBB", *chunks.size, bits, colour, 0, 0, chunks.interlaced)
    parts = [(b"IHDR", start)]
    if colour == 3:
        parts.append((b"PLTE", bytes(range(1 << bits)) * 3 if bits < 8 else bytes(768)))
    parts += [(b"IDAT", body) for body in chunks.data.get(b"IDAT", ())]
    parts.append((b"IEND", b""))
    joined = (
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big") for name, body in parts
    )
    return SIGNATURE + b"".join(joined)


def _by_simpleitk(path: Path, content: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.png"
        plain.write_bytes(content)
        with one_line_errors(path):
            return sitk.GetArrayFromImage(sitk.ReadImage(str(plain)))

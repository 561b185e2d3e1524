"""Pictures as bytes by writers of the tests' own, with every freedom that the formats give. No library is asked."""

from __future__ import annotations

import struct
import zlib

import numpy as np

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(samples, bits, colour, extra=(), interlaced=False, filters=(0,), parts=1):
    """A PNG of samples ``(H, W, S)``; rows take the filters in turn, ``extra`` are chunks before the pixels."""
    height, width = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [samples]
    raw = b"".join(filtered(packed_rows(p, bits), max(1, p.shape[2] * bits // 8), filters) for p in passes if p.size)
    body = zlib.compress(raw)
    step = -(-len(body) // parts)
    chunks = [(b"IDAT", body[k : k + step]) for k in range(0, len(body), step)]
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    listed = [(b"IHDR", head), *extra, *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in listed)


def packed_rows(samples, bits):
    """Bytes of each row, ``(H, n)`` uint8, the highest bit first."""
    flat = samples.reshape(len(samples), -1)
    if bits == 16:
        return np.ascontiguousarray(flat.astype(">u2")).view(np.uint8)
    if bits == 8:
        return flat.astype(np.uint8)
    planes = (flat[..., None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(planes.reshape(len(flat), -1).astype(np.uint8), axis=1)


def filtered(rows, pixel, filters):
    """Rows as PNG stores them: a number for the filter, then the differences that it makes."""
    before, out = np.zeros(rows.shape[1], int), b""
    for number, row in enumerate(rows.astype(int)):
        left = np.concatenate([np.zeros(pixel, int), row[:-pixel]])
        corner = np.concatenate([np.zeros(pixel, int), before[:-pixel]])
        guess = left + before - corner
        near = [abs(guess - left), abs(guess - before), abs(guess - corner)]
        paeth = np.where(
            (near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], before, corner)
        )
        kind = filters[number % len(filters)]
        taken = (0, left, before, (left + before) // 2, paeth)[kind]
        out += bytes([kind]) + ((row - taken) % 256).astype(np.uint8).tobytes()
        before = row
    return out


def tiff(pages, order="<", big=False):
    """A TIFF whose pages are pairs of tags, ``{number: (type, values)}``, and strips or tiles, bytes each.

    The tags of offsets and lengths follow from the strips; of tiles where there is a tag 322.
    """
    q, wide = ("Q", 8) if big else ("I", 4)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    out, at = bytearray(head), len(head)
    codes = {1: "B", 2: "s", 3: "H", 4: "I", 7: "B", 12: "d", 16: "Q"}
    for k, (tags, strips) in enumerate(pages):
        tiled = 322 in tags
        tags = dict(tags)
        tags.setdefault(324 if tiled else 273, (16 if big else 4, [0] * len(strips)))
        tags.setdefault(325 if tiled else 279, (4, [len(s) for s in strips]))
        length = (8 if big else 2) + len(tags) * (12 + 2 * wide - 4 if big else 12) + wide
        place = at + length
        blobs, starts = b"", []
        for strip in strips:
            starts.append(place + len(blobs))
            blobs += strip
        if not any(tags[324 if tiled else 273][1]):
            tags[324 if tiled else 273] = (16 if big else 4, starts)
        entries = b""
        for tag, (kind, values) in sorted(tags.items()):
            code = codes[kind]
            raw = values if code == "s" else struct.pack(f"{order}{len(values)}{code}", *values)
            count = len(values)
            if len(raw) > wide:
                entries += struct.pack(f"{order}HH{q}{q}", tag, kind, count, place + len(blobs))
                blobs += raw
            else:
                entries += struct.pack(f"{order}HH{q}", tag, kind, count) + raw.ljust(wide, b"\0")
        following = at + length + len(blobs) if k < len(pages) - 1 else 0
        out += struct.pack(f"{order}{'Q' if big else 'H'}", len(tags)) + entries + struct.pack(f"{order}{q}", following)
        out += blobs
        at += length + len(blobs)
    return bytes(out)


def tiff_tags(width, height, bits=8, colour=1, samples=1, compression=1, rows=None, **more):
    """The usual tags of a page; ``more`` are named ``t317=(type, values)``."""
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [compression])}
    tags |= {262: (3, [colour]), 277: (3, [samples]), 278: (4, [rows or height])}
    return tags | {int(name[1:]): value for name, value in more.items()}


def bmp(rows, bits, palette=(), upward=True, header=40, packing=0, masks=b"", size=None):
    """A BMP of rows of bytes (the upper one first) that are not padded yet; ``palette`` of red, green and blue."""
    padded = [row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows]
    width, height = size
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
        colours = b"".join(bytes([b, g, r]) for r, g, b in palette)
    else:
        info = struct.pack(
            "<IiiHHIIiiII", header, width, height if upward else -height, 1, bits, packing, 0, 1, 1, len(palette), 0
        )
        info += masks.ljust(header - 40, b"\0") if header > 40 else masks
        colours = b"".join(bytes([b, g, r, 0]) for r, g, b in palette)
    body = b"".join(reversed(padded) if upward else padded)
    offset = 14 + len(info) + len(colours)
    return struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset) + info + colours + body

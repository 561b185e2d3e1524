"""The cases of ``bad_inputs.py``: by door and kind, what is made, what is called, and what must come of it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bad_inputs_files import (
    BASE_SUFFIX,
    BYTES,
    DICOM,
    PICTURES,
    SHAPE,
    SIZE,
    SURELY_BAD,
    VOLUMES,
    disc,
    flipped,
    meta,
    nifti,
    nrrd,
    png_bomb,
    second_reading,
    volume,
    write,
    zeros_deflated,
    zeros_gzipped,
)
from picture_bytes import png, tiff, tiff_tags

REFUSED, READ, EITHER = "refused", "read", "either"
HUGE = 100_000


@dataclass
class Call:
    """What a case calls, and what must come of it.

    Attributes:
        words: of the command line; of the worker, the lines that it is sent.
        expect: REFUSED, READ (right), or EITHER.
        names: the message must hold one of these.
        check: after an exit code of 0: what was read wrongly, or None.
        out: what may be written to.
        limit_bytes: of a file that is written: a full disk.
        told: after an exit code of 0, this must be in the output: a file that was left out.
        partly: exit code 1 with some of the data done is allowed (prepare, batch).
    """

    words: list[Any]
    expect: str = REFUSED
    names: tuple[str, ...] = ()
    check: Callable[[], str | None] | None = None
    out: Path | None = None
    limit_bytes: int | None = None
    partly: bool = False
    told: str = ""


Make = Callable[[Path, np.random.Generator], Call]


@dataclass
class Case:
    """``make`` is called with an empty folder and random numbers of its own."""

    door: str
    kind: str
    title: str
    make: Make = field(repr=False)


def all_cases(base: Path, seed: int) -> list[Case]:
    """Every case, in a fixed order."""
    rng = np.random.default_rng(seed)
    sources = (volumes, headers, pictures, dicom, places, options, models, layouts, lidc, configs, resumed, compared)
    return [case for source in (*sources, imported, batches, requests) for case in source(base, rng)]


# ------------------------------------------------------------------------------------------------------- sample


def sample(base: Path, out: Path, *volumes: Path | str, model: str = "model", more: Sequence[str] = ()) -> list[str]:
    words = ["sample", *map(str, volumes), "--model", str(base / model), "--samples", "2", "--device", "cpu"]
    return [*words, "--out", str(out), *more]


def same_values(path: Path, original: Path | None = None, truth: np.ndarray | None = None) -> str | None:
    """What ``read_volume`` gives against the second reader, the original or the truth."""
    from AmbiguousSegLib.volume.io import read_volume

    values = read_volume(path)[0].astype(float)
    expected = truth if truth is not None else second_reading(path)
    if expected is None and original is not None:
        expected = read_volume(original)[0].astype(float)
    if expected is None:
        return "read, but no other reader here can say whether rightly"
    if expected.shape != values.shape:
        return f"read with shape {values.shape}, the file holds {expected.shape}"
    wrong = int((~np.isclose(values, expected, rtol=1e-6, atol=1e-4)).sum())
    return f"{wrong} of {values.size} values read wrongly" if wrong else None


def volumes(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Bytes of valid files spoiled at random."""
    chosen = [(name, kind) for name in (*VOLUMES, *PICTURES) for kind in BYTES]
    for name, kind in chosen:
        if kind in SURELY_BAD and rng.random() < 0.6:
            continue

        def make(place: Path, rng: np.random.Generator, name: str = name, kind: str = kind) -> Call:
            file = place / name
            shutil.copy(base / name, file)
            beside = BASE_SUFFIX.get(name)
            if beside:
                shutil.copy(base / beside, place / beside)
            spoiled = place / beside if beside and rng.random() < 0.5 and kind not in SURELY_BAD else file
            spoiled.write_bytes(BYTES[kind](spoiled.read_bytes(), rng))
            model = "model3" if name in ("colour.png", "palette.png") else "model"
            expect = REFUSED if kind in SURELY_BAD else EITHER
            names = (name, beside or name)
            return Call(
                sample(base, place / "out", file, model=model), expect, names, lambda: same_values(file, base / name)
            )

        yield Case("sample", kind, name, make)
    for name in ("ct.nrrd", "ct.nii.gz", "grey.png", "grey.tif", "ct.mha", "grey.jpg"):
        for ending in (".nii", ".png", ".nrrd", ".txt", ".tif", ".nii.gz", ""):
            if rng.random() < 0.6 or name.endswith(ending or "-"):
                continue

            def make(place: Path, rng: np.random.Generator, name: str = name, ending: str = ending) -> Call:
                file = place / f"scan{ending}"
                shutil.copy(base / name, file)

                def check() -> str | None:
                    return same_values(file, truth=second_reading(base / name))

                return Call(sample(base, place / "out", file), EITHER, (file.name,), check)

            yield Case("sample", "wrong suffix", f"{name} as {ending or 'no suffix'}", make)


def made(
    base: Path, title: str, name: str, data: Callable[[np.ndarray], bytes], expect: str = REFUSED, **more: Any
) -> Case:
    """A file of a maker; the truth, where it is read, is what ``truth`` makes of the values."""
    truth, kind, model = more.get("truth"), more.get("kind", "header"), more.get("model", "model")

    def make(place: Path, rng: np.random.Generator) -> Call:
        values, file = volume(rng), place / name
        file.write_bytes(data(values))
        check = None if truth is None else lambda: same_values(file, truth=truth(values))
        return Call(sample(base, place / "out", file, model=model), expect, (name,), check)

    return Case("sample", kind, title, make)


def headers(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """NIfTI, NRRD and MetaImage whose headers or values cannot be true."""

    def real(v: np.ndarray) -> np.ndarray:
        return v[None].astype(float)

    f32 = np.float32
    yield made(base, "NIfTI as it should be", "a.nii", nifti, READ, truth=real)
    yield made(base, "NRRD as it should be", "a.nrrd", nrrd, READ, truth=real)
    yield made(base, "MetaImage as it should be", "a.mha", meta, READ, truth=real)
    for word, bad in (("NaN", np.nan), ("infinity", np.inf)):

        def with_bad(v: np.ndarray, bad: float = bad) -> np.ndarray:
            out = v.astype(f32)
            out[2, 3, 4] = bad
            return out

        for maker, name in ((nifti, "a.nii"), (nrrd, "a.nrrd"), (meta, "a.mha")):
            yield made(base, f"{word} in {name}", name, lambda v, m=maker, w=with_bad: m(w(v)), kind="NaN")
        gz = lambda v, w=with_bad: gzip.compress(nifti(w(v)))
        yield made(base, f"{word} in .nii.gz", "a.nii.gz", gz, kind="NaN")
    for text, fields in {
        "spacing 0": {"pixdim": (1, 0, 1, 2, 1, 1, 1, 1), "sform_code": 0, "qform_code": 1},
        "spacing NaN": {"pixdim": (1, float("nan"), 1, 2, 1, 1, 1, 1), "sform_code": 0, "qform_code": 1},
        "spacing negative": {"pixdim": (1, -1, 1, 2, 1, 1, 1, 1), "sform_code": 0, "qform_code": 1},
        "spacing 0 in sform": {"srow_x": (0, 0, 0, 0)},
        "NaN in sform": {"srow_x": (float("nan"), 0, 0, 0)},
        "sheared": {"srow_x": (1, 0.3, 0, 0)},
        "unknown unit": {"xyzt_units": 5},
        "slope NaN": {"scl_slope": float("nan")},
        "slope infinite": {"scl_slope": float("inf")},
        "intercept infinite": {"scl_inter": float("inf")},
        "slope huge": {"scl_slope": 3e38},
        "dim 0 is 0": {"dim": (0, 18, 20, 5, 1, 1, 1, 1)},
        "dim 0 is 9": {"dim": (9, 18, 20, 5, 1, 1, 1, 1)},
        "size 0": {"dim": (3, 0, 20, 5, 1, 1, 1, 1)},
        "size negative": {"dim": (3, -18, 20, 5, 1, 1, 1, 1)},
        "declared 32767 cubed": {"dim": (3, 32767, 32767, 32767, 1, 1, 1, 1)},
        "four dimensions": {"dim": (4, 18, 10, 5, 2, 1, 1, 1)},
        "unknown type": {"datatype": 77},
        "type RGB": {"datatype": 128, "bitpix": 24, "dim": (3, 6, 20, 5, 1, 1, 1, 1)},
        "type complex": {"datatype": 32, "bitpix": 64, "dim": (3, 18, 5, 5, 1, 1, 1, 1)},
        "bits and type differ": {"bitpix": 8},
        "offset NaN": {"vox_offset": float("nan")},
        "offset negative": {"vox_offset": -400.0},
        "offset huge": {"vox_offset": 1e12},
        "header size 540": {"sizeof_hdr": 540},
        "wrong magic": {"magic": b"abc\0"},
        "magic of a pair": {"magic": b"ni1\0"},
    }.items():
        expect = (
            EITHER
            if text in ("bits and type differ", "type RGB", "slope NaN", "spacing negative", "four dimensions")
            else REFUSED
        )
        truth = real if text == "bits and type differ" else None
        yield made(base, f"NIfTI: {text}", "a.nii", lambda v, f=fields: nifti(v, **f), expect, truth=truth)
    for unit, _factor in ((1, 1000), (3, 0.001)):
        yield made(base, f"NIfTI: unit {unit}", "a.nii", lambda v, u=unit: nifti(v, xyzt_units=u), EITHER, truth=real)
    for text, fields in {
        "spacing 0": {"space_directions": "(0,0,0) (0,1,0) (0,0,2)"},
        "spacing NaN": {"space_directions": "(nan,0,0) (0,1,0) (0,0,2)"},
        "sheared": {"space_directions": "(1,0.4,0) (0,1,0) (0,0,2)"},
        "centimetres": {"space_units": '"cm" "cm" "cm"'},
        "spacings NaN": {"space": None, "space_directions": None, "space_origin": None, "spacings": "nan 1 1"},
        "spacings 0": {"space": None, "space_directions": None, "space_origin": None, "spacings": "0 1 1"},
        "sizes huge": {"sizes": f"{HUGE} {HUGE} 5"},
        "sizes beyond 64 bits": {"sizes": f"{2**63} 2 2"},
        "sizes 0": {"sizes": "0 20 5"},
        "sizes negative": {"sizes": "-18 20 5"},
        "sizes words": {"sizes": "many more others"},
        "two sizes": {"sizes": "18 20"},
        "dimension 17": {"dimension": "17"},
        "dimension 4 with sizes of 3": {"dimension": "4"},
        "type block": {"type": "block", "block_size": "4"},
        "unknown type": {"type": "quad"},
        "unknown encoding": {"encoding": "zstd"},
        "encoding gzip, raw inside": {"encoding": "gzip"},
        "encoding hex, raw inside": {"encoding": "hex"},
        "encoding ascii, raw inside": {"encoding": "ascii"},
        "encoding bzip2, raw inside": {"encoding": "bzip2"},
        "byte skip beyond the end": {"byte_skip": "999999999"},
        "line skip beyond the end": {"line_skip": "999999999"},
        "byte skip negative": {"byte_skip": "-7"},
        "data of a device": {"data_file": "/dev/zero"},
        "data of itself": {"data_file": "a.nrrd"},
        "data not there": {"data_file": "missing.raw"},
        "data by a pattern of a million": {"data_file": "s%06d.raw 0 999999 1"},
        "unknown field": {"no such field": "7"},
        "kinds of colour": {"kinds": "RGB-color domain domain"},
    }.items():
        expect = EITHER if text in ("centimetres", "unknown field", "kinds of colour", "data of itself") else REFUSED
        truth = real if text in ("centimetres", "unknown field") else None
        yield made(base, f"NRRD: {text}", "a.nrrd", lambda v, f=fields: nrrd(v, **f), expect, truth=truth)
    listed = "\n".join(f"slice{k}.raw" for k in range(10**6)).encode()
    yield made(
        base, "NRRD: a list of a million files", "a.nrrd", lambda v: nrrd(v, listed, data_file="LIST"), kind="bomb"
    )
    yield made(base, "NRRD: a line of 50 MB", "a.nrrd", lambda v: b"NRRD0004\n" + b"x" * 50_000_000, kind="bomb")
    million = b"NRRD0004\n" + b"# comment\n" * 10**6
    yield made(
        base, "NRRD: a million comments", "a.nrrd", lambda v: million + nrrd(v)[9:], EITHER, truth=real, kind="bomb"
    )
    gzipped = lambda v: nrrd(v, zeros_gzipped(20 << 30), encoding="gzip")
    yield made(base, "NRRD: 20 GB of zeros behind gzip, few declared", "a.nrrd", gzipped, EITHER, kind="bomb")
    large = lambda v: nrrd(v, zeros_gzipped(20 << 30), encoding="gzip", sizes=f"{HUGE} {HUGE} 1")
    yield made(base, "NRRD: 20 GB of zeros behind gzip, declared", "a.nrrd", large, kind="bomb")
    yield made(
        base,
        "NIfTI: 20 GB of zeros behind gzip, few declared",
        "a.nii.gz",
        lambda v: gzip.compress(nifti(v)) + zeros_gzipped(20 << 30),
        EITHER,
        truth=real,
        kind="bomb",
    )
    packed = lambda v: (
        gzip.compress(nifti(v[:, :1, :1], dim=(3, 30000, 30000, 12, 1, 1, 1, 1))) + zeros_gzipped(20 << 30)
    )
    yield made(base, "NIfTI: 20 GB of zeros behind gzip, declared", "a.nii.gz", packed, kind="bomb")
    zlibbed = lambda v: meta(v, zeros_deflated(20 << 30), CompressedData="True", CompressedDataSize="20000000")
    yield made(base, "MetaImage: 20 GB of zeros behind zlib, few declared", "a.mha", zlibbed, EITHER, kind="bomb")
    for text, fields in {
        "spacing 0": {"ElementSpacing": "0 1 2"},
        "spacing NaN": {"ElementSpacing": "nan 1 2"},
        "spacing negative": {"ElementSpacing": "-1 1 2"},
        "NDims 99": {"NDims": "99"},
        "NDims 0": {"NDims": "0"},
        "sizes huge": {"DimSize": f"{HUGE} {HUGE} 5"},
        "sizes negative": {"DimSize": "-18 20 5"},
        "sizes words": {"DimSize": "a b c"},
        "matrix of zeros": {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
        "matrix of words": {"TransformMatrix": "x y z x y z x y z"},
        "unknown type": {"ElementType": "MET_QUAD"},
        "said compressed, raw inside": {"CompressedData": "True"},
        "text in place of binary": {"BinaryData": "False"},
        "data of a device": {"ElementDataFile": "/dev/zero"},
        "data not there": {"ElementDataFile": "missing.raw"},
        "data by a pattern of a million": {"ElementDataFile": "s%06d.raw 0 999999 1"},
        "data of itself": {"ElementDataFile": "a.mha"},
        "negative channels": {"ElementNumberOfChannels": "-2"},
        "a million channels": {"ElementNumberOfChannels": "1000000"},
    }.items():
        expect = EITHER if text in ("data of itself",) else REFUSED
        yield made(base, f"MetaImage: {text}", "a.mha", lambda v, f=fields: meta(v, **f), expect)


def exif(data: bytes, orientation: int) -> bytes:
    """A JPEG with the tag that says how it was held."""
    body = b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 1, orientation) + bytes(4)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def pictures(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """PNG, JPEG, TIFF and BMP of every kind."""

    def picture(
        title: str, name: str, data: bytes, expect: str = REFUSED, truth: np.ndarray | None = None, **more: Any
    ) -> Case:
        def make(place: Path, _rng: np.random.Generator) -> Call:
            (place / name).write_bytes(data)
            check = None if expect == REFUSED else lambda: same_values(place / name, truth=truth)
            return Call(
                sample(base, place / "out", place / name, model=more.get("model", "model")), expect, (name,), check
            )

        return Case("sample", more.get("kind", "picture"), title, make)

    grey = rng.integers(0, 256, (20, 18, 1))
    true = grey[None, None, ..., 0].astype(float)
    rgba = rng.integers(0, 256, (20, 18, 4))
    yield picture(
        "PNG with alpha", "a.png", png(rgba, 8, 6), EITHER, np.moveaxis(rgba[..., :3], -1, 0)[:, None], model="model3"
    )
    opaque = np.concatenate([rgba[..., :3], np.full((20, 18, 1), 255)], -1)
    yield picture(
        "PNG with alpha, opaque",
        "a.png",
        png(opaque, 8, 6),
        EITHER,
        np.moveaxis(opaque[..., :3], -1, 0)[:, None],
        model="model3",
    )
    yield picture("PNG, grey and alpha", "a.png", png(np.concatenate([grey, rgba[..., :1]], -1), 8, 4), EITHER, true)
    yield picture("PNG with tRNS", "a.png", png(grey, 8, 0, [(b"tRNS", b"\0\7")]), EITHER, true)
    yield picture("PNG interlaced", "a.png", png(grey, 8, 0, interlaced=True), EITHER, true)
    grey_palette = [(b"PLTE", bytes(v for k in range(256) for v in (k, k, k)))]
    yield picture("PNG with a grey palette", "a.png", png(grey, 8, 3, grey_palette), EITHER, true)
    yield picture("PNG of 1 bit", "a.png", png(grey % 2, 1, 0), EITHER)
    for size in (HUGE, 2**31 - 1, 0):
        yield picture(f"PNG declared {size} × {size}", "a.png", png_bomb(size, size, b"x\x9c"), kind="bomb")
    yield picture("PNG: 10 GB of zeros", "a.png", png_bomb(HUGE, HUGE, zeros_deflated(10 << 30)), kind="bomb")
    yield picture("PNG: 10 GB of zeros, few declared", "a.png", png_bomb(18, 20, zeros_deflated(10 << 30)), kind="bomb")
    chunks = png(grey, 8, 0, [(b"tEXt", b"k\0v")] * 100_000)
    yield picture("PNG of 100,000 texts", "a.png", chunks, EITHER, true, kind="bomb")
    ztext = png(grey, 8, 0, [(b"zTXt", b"k\0\0" + zeros_deflated(1 << 30))])
    yield picture("PNG with a text of 1 GB", "a.png", ztext, EITHER, true, kind="bomb")
    spoiled = bytearray(png(grey, 8, 0))
    spoiled[spoiled.index(b"IDAT") + 9] ^= 4
    yield picture("PNG, a bit of the pixels", "a.png", bytes(spoiled))
    for orientation in (2, 3, 6, 8, 9):
        yield picture(
            f"JPEG turned ({orientation})", "a.jpg", exif((base / "grey.jpg").read_bytes(), orientation), EITHER
        )
    flat = grey.astype(np.uint8).tobytes()
    yield picture("TIFF white is zero", "a.tif", tiff([(tiff_tags(18, 20, colour=0), [flat])]), EITHER, 255 - true)
    yield picture(
        "TIFF turned", "a.tif", tiff([(tiff_tags(18, 20, t274=(3, [3])), [flat])]), EITHER, true[..., ::-1, ::-1]
    )
    yield picture(
        "TIFF of two pages", "a.tif", tiff([(tiff_tags(18, 20), [flat])] * 2), EITHER, np.concatenate([true, true], 1)
    )
    sizes = tiff([(tiff_tags(18, 20), [flat]), (tiff_tags(9, 20), [flat[:180]])])
    yield picture("TIFF of two pages of two sizes", "a.tif", sizes)
    tiled = tiff_tags(18, 20, t322=(4, [16]), t323=(4, [16]))
    tiles = []
    padded = np.zeros((32, 32), np.uint8)
    padded[:20, :18] = grey[..., 0]
    for y in (0, 16):
        tiles += [padded[y : y + 16, x : x + 16].tobytes() for x in (0, 16)]
    tiled.pop(278)
    yield picture("TIFF tiled", "a.tif", tiff([(tiled, tiles)]), EITHER, true)
    planar = tiff_tags(18, 20, colour=2, samples=3, t284=(3, [2]))
    planes = [rgba[..., k].astype(np.uint8).tobytes() for k in range(3)]
    yield picture(
        "TIFF planar",
        "a.tif",
        tiff([(planar, planes)]),
        EITHER,
        np.moveaxis(rgba[..., :3], -1, 0)[:, None],
        model="model3",
    )
    one_bit = np.packbits((grey[..., 0] % 2).astype(np.uint8), axis=1).tobytes()
    yield picture("TIFF of 1 bit", "a.tif", tiff([(tiff_tags(18, 20, bits=1), [one_bit])]), EITHER, (true % 2))
    yield picture("TIFF declared 100000 × 100000", "a.tif", tiff([(tiff_tags(HUGE, HUGE), [flat])]), kind="bomb")
    blocks = tiff_tags(1000, 10**6, rows=1)
    blocks |= {273: (4, [8] * 10**6), 279: (4, [1] * 10**6)}
    yield picture("TIFF of a million strips", "a.tif", tiff([(blocks, [flat])]), kind="bomb")
    loop = bytearray(tiff([(tiff_tags(18, 20), [flat])]))
    entries = struct.unpack_from("<H", loop, 8)[0]
    struct.pack_into("<I", loop, 10 + 12 * entries, 8)
    yield picture("TIFF whose pages go in a circle", "a.tif", bytes(loop), EITHER, true, kind="bomb")
    many = tiff([(tiff_tags(18, 20), [flat])] * 5000)
    yield picture("TIFF of 5,000 pages", "a.tif", many, EITHER, np.repeat(true, 5000, 1), kind="bomb")
    for name, tag, value in (
        ("width 0", 256, 0),
        ("33 bits", 258, 33),
        ("unknown compression", 259, 60000),
        ("unknown colour", 262, 99),
        ("9 samples", 277, 9),
        ("strips elsewhere", 273, 10**9),
    ):
        tags = tiff_tags(18, 20) | {tag: (4 if tag in (256, 273) else 3, [value])}
        yield picture(f"TIFF: {name}", "a.tif", tiff([(tags, [flat])]))
    head = bytearray((base / "grey.bmp").read_bytes())
    struct.pack_into("<ii", head, 18, HUGE, HUGE)
    yield picture("BMP declared 100000 × 100000", "a.bmp", bytes(head), kind="bomb")
    for name, data in (
        ("GIF", b"GIF89a" + bytes(60)),
        ("WebP", b"RIFF\x24\0\0\0WEBPVP8 " + bytes(30)),
        ("PDF", b"%PDF-1.7\n" + bytes(90)),
        ("ZIP", zipped({"a.txt": b"1"})),
        ("gzip", gzip.compress(b"1" * 90)),
    ):
        yield picture(f"{name} as PNG", "a.png", data, kind="wrong suffix")


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def dicom(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Series of slices, files of several frames, and folders around them."""
    if not DICOM:
        return
    import pydicom
    from dicom_kinds import enhanced, pixels, stack

    def series(
        title: str,
        build: Callable[[Path], Any],
        expect: str = REFUSED,
        names: Sequence[str] = (),
        more: Sequence[str] = (),
    ) -> Case:
        def make(place: Path, rng: np.random.Generator) -> Call:
            folder = place / "scan"
            truth = build(folder)
            check = (
                (lambda: same_values(folder, truth=truth[None].astype(float)))
                if isinstance(truth, np.ndarray)
                else None
            )
            return Call(sample(base, place / "out", folder, more=more), expect, ("scan", *names), check)

        return Case("sample", "DICOM", title, make)

    def changed(k: int, **more: Any) -> Callable[[int], dict]:
        return lambda j: more if j == k else {}

    def with_file(name: str, data: bytes) -> Callable[[Path], Any]:
        def build(folder: Path) -> Any:
            truth = stack(folder)
            (folder / name).write_bytes(data)
            return truth

        return build

    yield series("as it should be", stack, READ)
    yield series(
        "slope and intercept for each slice",
        lambda f: stack(f, per=lambda k: {"slope": 1 + k / 3, "intercept": -1024 + 7 * k}),
        READ,
    )
    yield series(
        "later slices need a wider type", lambda f: stack(f, per=lambda k: {"slope": 1.0 if k < 2 else 40.0}), READ
    )
    yield series("signed after unsigned", lambda f: stack(f, per=lambda k: {"signed": k > 2}), EITHER)
    yield series("a slice missing", lambda f: (stack(f, 7), (f / "s003.dcm").unlink()) and None)
    yield series("a position repeated", lambda f: stack(f, per=changed(2, z=2.0)))
    yield series(
        "a slice of other orientation", lambda f: stack(f, per=changed(2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
    )
    yield series("a slice of other pixel spacing", lambda f: stack(f, per=changed(2, PixelSpacing=[0.6, 0.75])))
    yield series("a slice of other size", lambda f: stack(f, per=changed(2, stored=np.arange(20).reshape(4, 5))))
    for word, value in (("0", 0), ("NaN", "NaN"), ("negative", -1), ("absent", None)):
        spacing = None if value is None else [value, 0.75]
        yield series(
            f"pixel spacing {word}",
            lambda f, s=spacing: stack(f, per=lambda k: {"PixelSpacing": s}),
            REFUSED if value is not None else EITHER,
        )
    yield series("no position", lambda f: stack(f, per=lambda k: {"ImagePositionPatient": None}))
    yield series("no orientation", lambda f: stack(f, per=lambda k: {"ImageOrientationPatient": None}))
    yield series("a slice without pixels", lambda f: stack(f, per=changed(2, PixelData=None)), names=("s002",))
    yield series(
        "a slice of fewer pixels than declared",
        lambda f: stack(f, per=changed(2, PixelData=b"\0\0" * 7)),
        names=("s002",),
    )
    yield series("declared 65535 × 65535", lambda f: stack(f, per=lambda k: {"Rows": 65535, "Columns": 65535}))
    yield series("bits that cannot be", lambda f: stack(f, per=lambda k: {"BitsStored": 40}))
    yield series(
        "colour", lambda f: stack(f, per=lambda k: {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}), EITHER
    )
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    yield series("white is zero", lambda f: (stack(f, per=lambda k: inverted), None)[1], EITHER)
    yield series("an unknown transfer syntax", lambda f: _resyntaxed(f, stack, "1.2.3.4"))
    yield series("JPEG 2000 by name, raw inside", lambda f: _resyntaxed(f, stack, "1.2.840.10008.1.2.4.90"))
    yield series("slope 0", lambda f: stack(f, per=lambda k: {"slope": 0}))
    yield series("slope infinite", lambda f: stack(f, per=lambda k: {"RescaleSlope": "1e400"}))
    yield series("slope a word", lambda f: _patched(f, stack, b"RescaleSlope"), EITHER)

    def two(folder: Path) -> np.ndarray:
        stack(folder, series="1.2.3.4.5", prefix="a")
        return stack(folder, series="1.2.3.4.6", prefix="b", per=lambda k: {"stored": pixels(90 + k)})

    yield series("two series", lambda f: two(f) is None)
    yield series("two series, one chosen", two, READ, more=("--series", "1.2.3.4.6"))
    yield series(
        "two series, one chosen that is not there",
        lambda f: two(f) is None,
        names=("1.2.3",),
        more=("--series", "1.2.3"),
    )
    yield series("two series, the choice empty", lambda f: two(f) is None, names=("--series",), more=("--series", ""))
    for name in ("._s000.dcm", ".DS_Store", "Thumbs.db", "readme.txt", "DICOMDIR", "s999.dcm"):
        expect = EITHER if name in ("DICOMDIR", "s999.dcm", "readme.txt", "Thumbs.db") else READ
        yield series(f"{name} beside the slices", with_file(name, b"\0\5\x16\7" + bytes(200)), expect, (name,))
    yield series("an empty folder", lambda f: f.mkdir())
    yield series("a folder of texts", lambda f: (f.mkdir(), (f / "a.txt").write_text("a")) and None)

    def place_times(f: Path, places: Sequence[float], **more: Any) -> Path:
        f.mkdir()
        return enhanced(
            f / "e.dcm", np.stack([pixels(k) for k in range(len(places))]), [(0, 0, z) for z in places], **more
        )

    def frames(folder: Path) -> np.ndarray:
        place_times(folder, [0, 2, 4, 6])
        return np.stack([pixels(k) for k in range(4)]) - 1024.0

    def backwards(folder: Path) -> np.ndarray:
        place_times(folder, [6, 4, 2, 0])
        return np.stack([pixels(k) for k in range(4)])[::-1] - 1024.0

    def sloped(folder: Path) -> np.ndarray:
        place_times(folder, [0, 2, 4], slopes=[1, 2, 5])
        return np.stack([pixels(k) * s for k, s in enumerate((1.0, 2.0, 5.0))]) - 1024

    yield series("frames in one file", frames, READ)
    yield series("frames backwards", backwards, READ)
    yield series("frames of their own slopes", sloped, READ)
    yield series("frames with a gap", lambda f: place_times(f, [0, 2, 6, 8]) and None)
    yield series("frames repeated", lambda f: place_times(f, [0, 2, 0, 2]) and None)
    yield series(
        "frames without places",
        lambda f: place_times(f, [0, 2, 4], per=lambda k: {"PlanePositionSequence": None}) and None,
        EITHER,
    )

    def declared(folder: Path) -> None:
        file = place_times(folder, [0, 2, 4])
        d = pydicom.dcmread(file)
        d.NumberOfFrames = 10**6
        d.save_as(file)

    yield series("a million frames declared", declared)
    for kind in (
        "truncated",
        "zero length",
        "one bit flipped",
        "bit of the beginning flipped",
        "16 bits flipped",
        "text",
        "random bytes",
    ):
        for _ in range(2):

            def make(place: Path, rng: np.random.Generator, kind: str = kind) -> Call:
                folder = place / "scan"
                stack(folder)
                file = folder / f"s00{int(rng.integers(5))}.dcm"
                file.write_bytes(BYTES[kind](file.read_bytes(), rng))

                def check() -> str | None:
                    files = [pydicom.dcmread(f, force=True) for f in sorted(folder.glob("*.dcm"))]
                    try:
                        planes = [
                            (
                                float(d.ImagePositionPatient[2]),
                                d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept),
                            )
                            for d in files
                        ]
                        truth = np.stack([plane for _, plane in sorted(planes, key=lambda one: one[0])])
                    except Exception:
                        return "read, but not by pydicom"
                    return same_values(folder, truth=truth[None])

                return Call(sample(base, place / "out", folder), EITHER, (file.name, "scan"), check)

            yield Case("sample", kind, "a slice of a DICOM series", make)


def _resyntaxed(folder: Path, stack: Callable, syntax: str) -> None:
    import pydicom

    stack(folder)
    for file in folder.glob("*.dcm"):
        d = pydicom.dcmread(file)
        data = file.read_bytes()
        old = str(d.file_meta.TransferSyntaxUID).encode()
        new = syntax.encode().ljust(len(old) + len(old) % 2, b"\0")[: len(old) + len(old) % 2]
        file.write_bytes(data.replace(old.ljust(len(new), b"\0"), new, 1))


def _patched(folder: Path, stack: Callable, _name: bytes) -> None:
    stack(folder, per=lambda k: {"slope": 1.2345})
    for file in folder.glob("*.dcm"):
        file.write_bytes(file.read_bytes().replace(b"1.2345", b"1.23x5"))


def places(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Paths that are no files, and outputs that cannot be written."""

    def at(title: str, build: Callable[[Path], Path], names: Sequence[str] = (), expect: str = REFUSED) -> Case:
        def make(place: Path, _rng: np.random.Generator) -> Call:
            path = build(place)
            return Call(
                sample(base, place / "out", path),
                expect,
                (path.name, *names),
                lambda: same_values(path, base / "ct.nrrd"),
            )

        return Case("sample", "no plain file", title, make)

    def fifo(p: Path) -> Path:
        os.mkfifo(p / "a.nrrd")
        return p / "a.nrrd"

    def sock(p: Path) -> Path:
        here = os.getcwd()
        os.chdir(p)  # names of sockets are short
        socket.socket(socket.AF_UNIX).bind("a.nrrd")
        os.chdir(here)
        return p / "a.nrrd"

    def link(p: Path, to: str, name: str = "a.nrrd") -> Path:
        os.symlink(to, p / name)
        return p / name

    def circle(p: Path) -> Path:
        (p / "scan").mkdir()
        os.symlink("..", p / "scan" / "up")
        return p / "scan"

    def latin(p: Path) -> Path:
        name = os.fsdecode(b"scan_\xe9.nrrd")
        shutil.copy(base / "ct.nrrd", p / name)
        return p / name

    yield at("FIFO", fifo)
    yield at("socket", sock)
    yield at("/dev/zero", lambda p: Path("/dev/zero"), ("/dev/zero",))
    yield at("/dev/null", lambda p: Path("/dev/null"))
    yield at("link to /dev/zero", lambda p: link(p, "/dev/zero"))
    yield at("link to nothing", lambda p: link(p, "nowhere.nrrd"))
    yield at("link to itself", lambda p: link(p, "a.nrrd"))
    yield at("link to a volume", lambda p: link(p, str(base / "ct.nrrd")), expect=READ)
    yield at("folder in a circle", circle)
    yield at("folder named as a file", lambda p: ((p / "a.nrrd").mkdir(), p / "a.nrrd")[1])
    yield at("nothing there", lambda p: p / "gone.nrrd")
    yield at("below a file", lambda p: (shutil.copy(base / "ct.nrrd", p / "a"), p / "a" / "b.nrrd")[1])
    yield at("a name that is not UTF-8", latin, ("scan_",))
    yield at("a name of 300 characters", lambda p: p / ("x" * 300 + ".nrrd"), ("xxx",))
    yield at("a name with a line break", lambda p: p / "a\nb.nrrd", ("b.nrrd", "a"))
    yield at("a name of a zero", lambda p: Path("a\0b.nrrd"), ("a",))
    yield at("a segmentation", lambda p: base / "rater.seg.nrrd", expect=EITHER)
    yield at("a model", lambda p: base / "model")
    yield at("weights", lambda p: base / "model" / "model.safetensors")

    def out(
        title: str, build: Callable[[Path], tuple[Path, list[str]]], expect: str = REFUSED, limit: int | None = None
    ) -> Case:
        def make(place: Path, _rng: np.random.Generator) -> Call:
            target, more = build(place)
            named = ("--out", os.fsencode(target.name).decode("utf-8", "backslashreplace") or "--out", "out")
            if limit is not None:
                named += ("space",)
            return Call(sample(base, target, base / "ct.nrrd", more=more), expect, named, None, target, limit)

        return Case("sample", "output", title, make)

    def earlier(p: Path, name: str) -> tuple[Path, list[str]]:
        (p / "out").mkdir()
        (p / "out" / name).write_text("mine")
        return p / "out", []

    yield out("a file", lambda p: (shutil.copy(base / "ct.nrrd", p / "out"), (p / "out", []))[1])
    yield out("below a file", lambda p: (shutil.copy(base / "ct.nrrd", p / "o"), (p / "o" / "out", []))[1])
    yield out("/dev/null", lambda p: (Path("/dev/null"), []))
    yield out("below /proc", lambda p: (Path("/proc/nobody/out"), []))
    yield out("a link to nothing", lambda p: (link(p, "nowhere", "out"), []), EITHER)
    yield out("a link to itself", lambda p: (link(p, "out", "out"), []))
    yield out("a name of 300 characters", lambda p: (p / ("o" * 300), []))
    yield out("empty", lambda p: (Path(), []), EITHER)
    yield out("holds an earlier result", lambda p: earlier(p, "samples.json"))
    yield out(
        "a folder of the name of a result",
        lambda p: ((p / "out" / "mean.nrrd").mkdir(parents=True), (p / "out", ["--overwrite"]))[1],
    )
    yield out("not UTF-8", lambda p: (p / os.fsdecode(b"out_\xe9"), []), EITHER)
    yield out("a zero in its name", lambda p: (Path("out\0"), []))
    for limit in (0, 200, 2000, 20_000):
        yield out(
            f"the disk is full after {limit} bytes of a file",
            lambda p: (p / "out", []),
            EITHER if limit > 2000 else REFUSED,
            limit,
        )


def options(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Values that no option takes, and several volumes that do not fit."""
    huge = str(2**70)
    for option, values in {
        "--region": [
            "nan 1 0 1 0 1",
            "0 inf 0 5 0 5",
            "5 0 0 5 0 5",
            "900 950 0 5 0 5",
            "0 0 0 0 0 0",
            "a b c d e f",
            "1 2 3",
            "1e300 1e308 0 1 0 1",
        ],
        "--slices": ["9 12", "3 1", "-2 1", "0 99", "a b", f"0 {huge}", "0.5 2"],
        "--samples": ["0", "-1", "100000000", huge, "many", "1.5", ""],
        "--seed": ["-1", huge, "x"],
        "--steps": ["0", "-3", "100000", huge],
        "--sampler": ["leap", ""],
        "--sampler-option": ["eta", "eta=nan", "eta=-1", "=3", "nope=1", "eta=word"],
        "--grid": ["none"],
        "--quality": ["best of all"],
        "--coherence-mm": ["nan", "-1", "x"],
        "--batch-size": ["0", "-1", huge],
        "--spacing-mm": ["0", "nan", "inf", "-1", "1e300", "1e-300"],
        "--device": ["cuda:99", "tpu", "", "cpu:7"],
        "--model": ["nobody", "", "/dev/null", os.fsdecode(b"m\xe9"), "a\0b"],
        "--nonsense": ["1"],
    }.items():
        for value in values:

            def make(place: Path, _rng: np.random.Generator, option: str = option, value: str = value) -> Call:
                words = value.split() if option in ("--region", "--slices") else [value]
                file = base / ("grey.png" if option == "--spacing-mm" else "ct.nrrd")
                allowed = {
                    ("--batch-size", huge),
                    ("--sampler-option", "eta=-1"),
                    ("--spacing-mm", "1e-300"),
                    ("--coherence-mm", "x"),
                }
                names = (
                    option,
                    option.strip("-").replace("-", "_"),
                    option.strip("-"),
                    *(w for w in words if w),
                    "ample",
                )
                expect = EITHER if (option, value) in allowed else REFUSED
                return Call(sample(base, place / "out", file, more=[option, *words]), expect, names)

            yield Case("sample", f"option {option}", value or "empty", make)

    def several(
        title: str,
        build: Callable[[Path], list[Path]],
        names: Sequence[str],
        model: str = "model3",
        expect: str = REFUSED,
    ) -> Case:
        def make(place: Path, _rng: np.random.Generator) -> Call:
            return Call(sample(base, place / "out", *build(place), model=model), expect, tuple(names))

        return Case("sample", "several volumes", title, make)

    def other(p: Path, **fields: Any) -> Path:
        (p / "b.nii").write_bytes(nifti(volume(np.random.default_rng(1)), **fields))
        return p / "b.nii"

    ct = base / "ct.nrrd"
    yield several("another spacing", lambda p: [ct, other(p, srow_z=(0, 0, 3, 0)), ct], ["b.nii"])
    yield several("another origin", lambda p: [ct, other(p, srow_z=(0, 0, 2, 9)), ct], ["b.nii"])
    yield several(
        "another size",
        lambda p: [ct, ct, write(p / "c.nrrd", volume(np.random.default_rng(2), (5, 20, 17)))],
        ["c.nrrd"],
    )
    yield several("one is missing", lambda p: [ct, ct, p / "gone.nrrd"], ["gone.nrrd"])
    yield several("one is cut off", lambda p: [ct, ct, _cut(base / "ct.nii.gz", p / "cut.nii.gz")], ["cut.nii.gz"])
    yield several("one too few", lambda p: [ct, ct], ["channel", "red"])
    yield several("one too many", lambda p: [ct, ct], ["channel", "CT"], "model")
    yield several("a picture among them", lambda p: [ct, ct, base / "grey.png"], ["grey.png"])
    yield several(
        "a constant one", lambda p: [ct, ct, write(p / "flat.nrrd", np.zeros(SHAPE, np.int16))], ["flat.nrrd"]
    )
    yield several("colour for one channel", lambda p: [base / "colour.png"], ["colour.png", "channel"], "model")
    yield several("three that fit", lambda p: [ct, ct, ct], [], expect=READ)


def _cut(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    return target


# ------------------------------------------------------------------------------------------------- --model, train

DEEP = "[" * 100_000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 10)}]\n" for k in range(10)
)


def weights_of(folder: Path, change: Callable[[dict], dict | None]) -> None:
    """The weights changed, and their checksum with them."""
    from safetensors.torch import load_file, save

    file, _about = folder / "model.safetensors", folder / "model.json"
    tensors = load_file(file)
    data = save(change(tensors) or tensors)
    file.write_bytes(data)
    resealed(folder, data)


def resealed(folder: Path, data: bytes) -> None:
    about = folder / "model.json"
    content = json.loads(about.read_text())
    content["weights_sha256"] = hashlib.sha256(data).hexdigest()
    about.write_text(json.dumps(content))


def models(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Folders of models, through ``sample`` and ``train --from``."""
    import torch

    def described(change: Callable[[dict], Any]) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            content = json.loads((folder / "model.json").read_text())
            change(content)
            (folder / "model.json").write_text(json.dumps(content))

        return spoil

    def put(*keys: str, value: Any) -> Callable[[Path], None]:
        def change(content: dict) -> None:
            for key in keys[:-1]:
                content = content[key]
            content[keys[-1]] = value

        return described(change)

    def first(tensors: dict) -> str:
        return sorted(name for name, t in tensors.items() if t.dim() > 1)[0]

    def text(data: bytes) -> Callable[[Path], None]:
        return lambda folder: (folder / "model.json").write_bytes(data) and None

    def raw(make: Callable[[bytes], bytes], seal: bool = True) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            data = make((folder / "model.safetensors").read_bytes())
            (folder / "model.safetensors").write_bytes(data)
            if seal:
                resealed(folder, data)

        return spoil

    def header(change: Callable[[dict], Any]) -> Callable[[bytes], bytes]:
        def make(data: bytes) -> bytes:
            length = struct.unpack_from("<Q", data)[0]
            content = json.loads(data[8 : 8 + length])
            change(content)
            head = json.dumps(content).encode()
            return struct.pack("<Q", len(head)) + head + data[8 + length :]

        return make

    kinds: dict[str, Callable[[Path], Any]] = {
        "NaN": lambda f: weights_of(f, lambda t: t[first(t)].view(-1)[3:4].fill_(float("nan")) is None),
        "infinity": lambda f: weights_of(f, lambda t: t[first(t)].view(-1)[3:4].fill_(float("inf")) is None),
        "a shape": lambda f: weights_of(f, lambda t: t | {first(t): t[first(t)][..., :1].contiguous()}),
        "integers": lambda f: weights_of(f, lambda t: t | {first(t): t[first(t)].int()}),
        "float64": lambda f: weights_of(f, lambda t: t | {first(t): t[first(t)].double()}),
        "bfloat16": lambda f: weights_of(f, lambda t: t | {first(t): t[first(t)].bfloat16()}),
        "complex": lambda f: weights_of(f, lambda t: t | {first(t): t[first(t)].to(torch.complex64)}),
        "one missing": lambda f: weights_of(f, lambda t: {k: v for k, v in t.items() if k != first(t)}),
        "one more": lambda f: weights_of(f, lambda t: t | {"more": torch.zeros(3)}),
        "none": lambda f: weights_of(f, lambda t: {"only": torch.zeros(1)}),
        "bit flipped": raw(lambda d: flipped(d, np.random.default_rng(3), len(d) // 2), False),
        "cut off": raw(lambda d: d[: len(d) // 2], False),
        "cut off, sealed": raw(lambda d: d[: len(d) // 2]),
        "empty, sealed": raw(lambda d: b""),
        "header of 2**60 bytes": raw(lambda d: struct.pack("<Q", 2**60) + d[8:]),
        "header nested": raw(lambda d: struct.pack("<Q", 100_000) + DEEP.encode() + d[8:]),
        "shape of 2**40": raw(header(lambda h: h[next(k for k in h if k != "__metadata__")].update(shape=[2**40]))),
        "places that overlap": raw(
            header(lambda h: h[next(k for k in h if k != "__metadata__")].update(data_offsets=[0, 2**50]))
        ),
        "weights missing": lambda f: (f / "model.safetensors").unlink(),
        "weights a folder": lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()),
        "weights a FIFO": lambda f: ((f / "model.safetensors").unlink(), os.mkfifo(f / "model.safetensors")),
        "weights /dev/zero": lambda f: (
            (f / "model.safetensors").unlink(),
            os.symlink("/dev/zero", f / "model.safetensors"),
        ),
        "weights of a terabyte": lambda f: os.truncate(f / "model.safetensors", 2**40),
        "no description": lambda f: (f / "model.json").unlink(),
        "description a FIFO": lambda f: ((f / "model.json").unlink(), os.mkfifo(f / "model.json")),
        "description /dev/zero": lambda f: ((f / "model.json").unlink(), os.symlink("/dev/zero", f / "model.json")),
        "description empty": text(b""),
        "description nested": text(DEEP.encode()),
        "description of a terabyte": lambda f: os.truncate(f / "model.json", 2**40),
        "description in UTF-16": lambda f: (f / "model.json").write_bytes(
            (f / "model.json").read_text().encode("utf-16")
        ),
        "description cut off": lambda f: os.truncate(f / "model.json", 300),
        "description a list": text(b"[1, 2]"),
        "format 99": put("format_version", value=99),
        "method unknown": put("method", value="gan"),
        "method a list": put("method", value=["cimd"]),
        "no labels": put("labels", value=[]),
        "labels a word": put("labels", value="lesion"),
        "a label without a name": put("labels", value=[{"name": ""}]),
        "channels none": put("preprocessing", "channels", value=[]),
        "channels two": put("preprocessing", "channels", value=["a", "b"]),
        "size huge": put("preprocessing", "size", value=[10**6, 10**6]),
        "size 0": put("preprocessing", "size", value=[0, 0]),
        "size beyond 64 bits": put("preprocessing", "size", value=[2**70, 16]),
        "spacing NaN": put("preprocessing", "spacing_mm", value=float("nan")),
        "spacing 0": put("preprocessing", "spacing_mm", value=0),
        "plane unknown": put("preprocessing", "plane", value="oblique"),
        "rule unknown": put("preprocessing", "intensity", value={"rule": "magic"}),
        "window upside down": put("preprocessing", "intensity", value={"rule": "window", "low": 5.0, "high": 1.0}),
        "channels of the network a million": put("method_config", "unet", "model_channels", value=10**6),
        "channels of the network 7": put("method_config", "unet", "model_channels", value=7),
        "levels of the network 60": put("method_config", "unet", "channel_mult", value=[1] * 60),
        "blocks a million": put("method_config", "unet", "num_res_blocks", value=10**6),
        "steps of the schedule 10**9": put("method_config", "schedule", "steps", value=10**9),
        "steps of the schedule -1": put("method_config", "schedule", "steps", value=-1),
        "sampler unknown": put("sampling", "name", value="none"),
        "sampler steps 0": put("sampling", "steps", value=0),
        "inputs a word": put("inputs", value="CT"),
        "card a number": put("card", value=7),
        "unknown key": put("more", value=7),
    }
    train_too = (
        "NaN",
        "a shape",
        "integers",
        "cut off",
        "no description",
        "description nested",
        "weights a FIFO",
        "size huge",
        "channels two",
        "description /dev/zero",
        "channels of the network a million",
    )
    for title, spoil in kinds.items():
        for door in ("sample", "train") if title in train_too else ("sample",):

            def make(
                place: Path, _rng: np.random.Generator, spoil: Callable = spoil, door: str = door, title: str = title
            ) -> Call:
                shutil.copytree(base / "model", place / "net")
                spoil(place / "net")
                if door == "sample":
                    words = sample(base, place / "out", base / "ct.nrrd")
                    words[words.index("--model") + 1] = str(place / "net")
                else:
                    words = ["train", "--config", str(base / "from.yaml"), "--data", str(base / "data" / "folder")]
                    words += ["--from", str(place / "net"), "--out", str(place / "out"), "--device", "cpu"]
                expect = EITHER if (door, title) == ("train", "size huge") else REFUSED  # the configuration has its own
                return Call(words, expect, ("net", "model.json", "model.safetensors"))

            yield Case(door, "model" if door == "sample" else "--from", title, make)


def configs(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Configurations of ``train``."""
    good = yaml.safe_load((base / "config.yaml").read_text())

    def put(path: str, value: Any) -> str:
        content = json.loads(json.dumps(good))
        *way, last = path.split(".")
        place = content
        for key in way:
            place = place.setdefault(key, {})
        place[last] = value
        return yaml.safe_dump(content)

    kinds: dict[str, str | bytes] = {
        "anchors": BOMB,
        "anchors in a section": "dataset:\n" + "".join(f"  {line}\n" for line in BOMB.splitlines()),
        "anchors as labels": BOMB + "labels: *k\n",
        "anchors in a circle": "dataset: &a\n  size: *a\n",
        "nested lists": DEEP,
        "nested mappings": "{a: " * 5000,
        "nested blocks": "\n".join(" " * k + "a:" for k in range(2000)),
        "a Python object": "!!python/object/apply:os.system ['true']",
        "empty": "",
        "a list": "- 1\n- 2\n",
        "a word": "cimd",
        "binary": bytes(range(256)),
        "UTF-16": yaml.safe_dump(good).encode("utf-16"),
        "tabs": "dataset:\n\tsize: 3\n",
        "cut off": yaml.safe_dump(good)[:100] + "\n  - {",
        "two documents": "a: 1\n---\nb: 2\n",
        "a key twice": "seed: 1\nseed: 2\nmethod: cimd\nmethod: other\n",
        "keys that are numbers": "1: 2\n",
        "keys that are lists": "? [a, b]\n: 3\n",
        "a date": put("seed", "x").replace("seed: x", "seed: 2020-01-01"),
        "unknown section": put("modell", {}),
        "unknown key": put("dataset.sizes", [16, 16]),
        "a section a word": put("dataset", "folder"),
        "method unknown": put("method", "gan"),
        "method a number": put("method", 7),
        "method config a list": put("method_config", [1]),
    }
    for path, values in {
        "dataset.size": [[0, 0], [-16, 16], [16], "16", [1e9, 16], [10**9, 10**9], [15, 15], [float("nan"), 16]],
        "dataset.kind": ["unknown", 7, ""],
        "dataset.channels": [[], ["a", "b"], "CT", [7]],
        "dataset.plane": ["oblique", None],
        "dataset.spacing_mm": [0, -1, float("nan"), float("inf"), "big"],
        "dataset.intensity": [{"rule": "magic"}, {"rule": "window"}, {"rule": "window", "low": 9.0, "high": 1.0}, 7],
        "dataset.validation_fraction": [2, -1, float("nan"), 1.0],
        "dataset.subject_pattern": ["(", "case", "(a+)+$", "((x)"],
        "dataset.workers": [-1, 10**6],
        "optimisation.images": [0, -5, 2**70, "many"],
        "optimisation.batch_size": [0, -1, 2**70],
        "optimisation.learning_rate": [0, -1, float("nan"), float("inf"), "fast"],
        "optimisation.ema_decay": [2, float("nan")],
        "validation.every_images": [0, -1],
        "validation.samples": [0, -1],
        "method_config.unet.model_channels": [0, -8, 7, 10**6],
        "method_config.unet.channel_mult": [[], [0], [1] * 50, "x"],
        "method_config.unet.norm_groups": [0, 3],
        "method_config.schedule.steps": [0, -1, 10**9],
        "method_config.image_channels": [0, 5],
        "sampling.name": ["none"],
        "sampling.steps": [0, 10**9],
        "labels": [
            [],
            [{"name": ""}],
            [{"name": "a"}, {"name": "a"}],
            "a",
            [7],
            [{"name": "a", "color": [9, 9, 9]}],
            [{"name": "a"}] * 300,
        ],
        "seed": [-1, 2**70, "x"],
        "augmentation.rotate_degrees": [float("nan"), "much"],
        "checkpoint_every_images": [0, -1],
    }.items():
        for value in values:
            kinds[f"{path}: {value!r}"[:60]] = put(path, value)
    may = {
        "two documents": REFUSED,
        "a key twice": EITHER,
        "a date": EITHER,
        "dataset.subject_pattern: '(a+)+$'": EITHER,
    }
    may |= {
        "augmentation.rotate_degrees: nan": REFUSED,
        "dataset.plane: None": EITHER,
        "dataset.workers: 1000000": EITHER,
    }
    may |= {
        "checkpoint_every_images: 0": EITHER,
        "dataset.size: [1000000000.0, 16]": REFUSED,
        "labels: [{'name': 'a', 'color': [9, 9, 9]}]": REFUSED,
    }
    may |= {"dataset.kind: ''": REFUSED, "optimisation.learning_rate: 0": EITHER, "validation.every_images: 0": EITHER}
    for title, text in kinds.items():

        def make(place: Path, _rng: np.random.Generator, title: str = title, text: str | bytes = text) -> Call:
            file = place / "mine.yaml"
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
            words = [
                "train",
                "--config",
                str(file),
                "--data",
                str(base / "data" / "folder"),
                "--out",
                str(place / "out"),
            ]
            key = title.partition(":")[0].rpartition(".")[2]
            about = {"validation_fraction": "Fractions", "intensity": "Intensity"}.get(key, key.partition(" ")[0])
            expect = may.get(title, REFUSED)
            return Call(
                [*words, "--device", "cpu"],
                expect,
                ("mine.yaml", key, key.replace("_", " "), about, about.capitalize()),
            )

        yield Case("train", "configuration", title, make)

    def path(title: str, build: Callable[[Path], Path]) -> Case:
        def make(place: Path, _rng: np.random.Generator) -> Call:
            file = build(place)
            words = [
                "train",
                "--config",
                str(file),
                "--data",
                str(base / "data" / "folder"),
                "--out",
                str(place / "out"),
            ]
            return Call([*words, "--device", "cpu"], REFUSED, (file.name or "--config", "--config"))

        return Case("train", "no plain file", title, make)

    yield path("configuration a folder", lambda p: p)
    yield path("configuration /dev/zero", lambda p: Path("/dev/zero"))
    yield path("configuration a FIFO", lambda p: (os.mkfifo(p / "c.yaml"), p / "c.yaml")[1])
    yield path("configuration missing", lambda p: p / "gone.yaml")
    yield path("configuration empty name", lambda p: Path())
    yield path("configuration of a terabyte", lambda p: _sparse(p / "c.yaml"))
    for title, words in {
        "data missing": ["--data", "/nowhere/at/all"],
        "data /dev/zero": ["--data", "/dev/zero"],
        "data a volume": ["--data", str(base / "ct.nrrd")],
        "data an empty folder": ["--data", "EMPTY"],
        "data of a zero": ["--data", "a\0b"],
        "out a file": ["--out", str(base / "ct.nrrd")],
        "out below a file": ["--out", str(base / "ct.nrrd" / Path("x"))],
        "out below /proc": ["--out", "/proc/nobody/x"],
        "device unknown": ["--device", "tpu"],
        "key on the line unknown": ["--dataset.nope", "3"],
        "key on the line wrong": ["--dataset.size", "[[[["],
        "from nothing": ["--from", "nobody"],
        "resume a word": ["--resume=maybe"],
    }.items():

        def make(place: Path, _rng: np.random.Generator, words: list[str] = words) -> Call:
            (place / "EMPTY").mkdir()
            words = [str(place / "EMPTY") if word == "EMPTY" else word for word in words]
            line = ["train", "--config", str(base / "config.yaml"), "--data", str(base / "data" / "folder")]
            line += ["--out", str(place / "out"), "--device", "cpu", *words]
            named = (
                words[0].strip("-").partition(".")[2] or words[0].strip("-"),
                words[-1][-5:],
                words[0],
                "a",
                "/proc",
            )
            return Call(line, REFUSED, named)

        yield Case("train", "option", title, make)


def _sparse(path: Path, size: int = 2**40) -> Path:
    path.touch()
    os.truncate(path, size)
    return path


# ------------------------------------------------------------------------------------ data: train, plan, prepare …


CHANNELS = {"brats": "T1, T1ce, T2, FLAIR", "ms": "PD, FLAIR, MPRAGE, T2", "isic": "red, green, blue"}


def data_words(door: str, base: Path, place: Path, data: Path, layout: str) -> list[str]:
    """A call of each door that takes data."""
    out = str(place / "out")
    if door == "train":
        words = ["train", "--config", str(base / "config.yaml"), "--data", str(data), "--out", out, "--device", "cpu"]
        names = CHANNELS.get(layout, "")
        more = [f"--dataset.channels=[{names}]", f"--method_config.image_channels={names.count(',') + 1}"]
        return [*words, *more] if names else words
    if door == "plan":
        return ["plan", "--data", str(data), "--out", out + ".yaml", "--device", "cpu", "--images", "100"]
    if door == "prepare":
        return ["prepare", "--data", str(data), "--out", out]
    return [
        "evaluate",
        "--model",
        str(base / "model"),
        "--data",
        str(data),
        "--part",
        "all",
        "--samples",
        "2",
        "--no-figure",
        "--device",
        "cpu",
        "--out",
        out,
    ]


def same_cases(data: Path, original: Path) -> str | None:
    """Every case that is read, against the second reader of its files and against the original's case of its name."""
    from AmbiguousSegLib.data.config import DataConfig
    from AmbiguousSegLib.data.file_case import FileCase
    from AmbiguousSegLib.data.readers import read_all
    from AmbiguousSegLib.labels import DEFAULT_LABELS

    originals = {case.identity: case for case in read_all(original, DataConfig("auto"), DEFAULT_LABELS)}
    for case in read_all(data, DataConfig("auto"), DEFAULT_LABELS):
        values, masks = case.load_image()[0], case.load_masks()
        other = originals.get(case.identity)
        if (
            other is not None
            and np.array_equal(other.load_image()[0], values)
            and np.array_equal(other.load_masks(), masks)
        ):
            continue
        if not isinstance(case, FileCase):
            return f"{case.identity} is not read as it was written"
        seen = [second_reading(path) for path in case.images]
        if any(one is None for one in seen) or not np.allclose(np.concatenate(seen), values):
            return f"{case.identity}: the image is read wrongly"
        for rater, mask in zip(case.raters, masks):
            if rater.path is not None and rater.path.suffix in (".png", ".nii", ".gz"):
                stored = second_reading(rater.path)
                if stored is None or not np.array_equal(stored[0] > 0, mask > 0):
                    return f"{rater.path.name}: the mask is read wrongly"
    return None


LOST = ("FIFO", "a folder in place of a file", "link to nothing", "link to itself", "/dev/zero", "name not UTF-8")
ENDINGS = (".png", ".nii.gz", ".nii", ".nrrd", ".npz")


def layouts(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """One file of a folder of data spoiled, or something put beside."""
    names = ("folder", "list", "raters", "volumes", "nnunet", "brats", "ms", "isic", "npz")
    chances = {"prepare": 1.0, "train": 0.35, "plan": 0.2, "evaluate": 0.3}

    def spoiled(
        door: str, layout: str, kind: str, spoil: Callable[[Path, np.random.Generator], tuple[str, str]]
    ) -> Case:
        def make(place: Path, rng: np.random.Generator) -> Call:
            data = place / "data"
            shutil.copytree(base / "data" / layout, data)
            expect, name = spoil(data, rng)

            def check() -> str | None:
                return same_cases(data, base / "data" / layout)

            stem = name.partition(".")[0]
            names = tuple(n for n in (name, stem, Path(name).parent.name, "data") if n)
            told = stem if kind in LOST else ""
            words = data_words(door, base, place, data, layout)
            return Call(words, expect, names, check, partly=door == "prepare", told=told)

        return Case(door, kind, layout, make)

    def pick(data: Path, rng: np.random.Generator, what: str = "") -> Path:
        files = sorted(f for f in data.rglob("*") if f.is_file() and f.name.endswith(ENDINGS) and what in f.name)
        return files[int(rng.integers(len(files)))]

    def by_bytes(kind: str) -> Callable:
        def spoil(data: Path, rng: np.random.Generator) -> tuple[str, str]:
            file = pick(data, rng)
            file.write_bytes(BYTES[kind](file.read_bytes(), rng))
            return (REFUSED if kind in SURELY_BAD else EITHER), file.name

        return spoil

    def replaced(make: Callable[[Path], Any]) -> Callable:
        def spoil(data: Path, rng: np.random.Generator) -> tuple[str, str]:
            file = pick(data, rng)
            file.unlink()
            make(file)
            left_out = not os.path.lexists(file) or not file.is_file() or file.stat().st_size == 0
            return EITHER if left_out else REFUSED, file.name

        return spoil

    def beside(name: str, data_of: bytes | None = None) -> Callable:
        def spoil(data: Path, rng: np.random.Generator) -> tuple[str, str]:
            file = pick(data, rng)
            extra = file.parent / name.replace("NAME", file.name)
            extra.parent.mkdir(exist_ok=True)
            extra.write_bytes(file.read_bytes() if data_of is None else data_of)
            return EITHER if name.startswith("_") else READ, extra.name

        return spoil

    def circle(data: Path, rng: np.random.Generator) -> tuple[str, str]:
        os.symlink(data, pick(data, rng).parent / "loop", True)
        return READ, "loop"

    def latin(data: Path, rng: np.random.Generator) -> tuple[str, str]:
        file = pick(data, rng)
        file.rename(file.with_name(os.fsdecode(b"\xe9_") + file.name))
        return EITHER, file.name

    def swapped(data: Path, rng: np.random.Generator) -> tuple[str, str]:
        first, second = pick(data, rng), pick(data, rng)
        held = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(held)
        return EITHER, first.name

    def values(change: Callable[[Any], Any], which: str) -> Callable:
        def spoil(data: Path, rng: np.random.Generator) -> tuple[str, str]:
            import SimpleITK as sitk

            files = [f for f in data.rglob("*") if f.name.endswith((".png", ".nii", ".nii.gz", ".nrrd"))]
            masks = ("mask", "rater", "seg", "m0", "m1", "m2", "m3", "labelsTr")
            drawn = [
                f for f in files if any(word in str(f.relative_to(data)) for word in masks) and ".seg." not in f.name
            ]
            files = sorted(drawn if which == "mask" else [f for f in files if f not in drawn and ".seg." not in f.name])
            if not files:
                return EITHER, ""
            file = files[int(rng.integers(len(files)))]
            image = sitk.ReadImage(str(file))
            array = change(sitk.GetArrayFromImage(image))
            if file.suffix == ".png" and array.dtype.kind == "f":
                return EITHER, file.name
            new = sitk.GetImageFromArray(array, image.GetNumberOfComponentsPerPixel() > 1)
            if array.shape[: image.GetDimension()] == image.GetSize()[::-1]:
                new.CopyInformation(image)
            sitk.WriteImage(new, str(file))
            return REFUSED, file.name

        return spoil

    def nan(array: np.ndarray) -> np.ndarray:
        out = array.astype(np.float32)
        out.flat[7] = np.nan
        return out

    def several(array: np.ndarray) -> np.ndarray:
        out = array.copy()
        out.flat[:3] = (3, 9, 77)
        return out

    kinds: dict[str, Callable] = {kind: by_bytes(kind) for kind in BYTES}
    kinds |= {
        "FIFO": replaced(os.mkfifo),
        "a folder in place of a file": replaced(Path.mkdir),
        "link to nothing": replaced(lambda f: os.symlink("nowhere", f)),
        "link to itself": replaced(lambda f: os.symlink(f.name, f)),
        "/dev/zero": replaced(lambda f: os.symlink("/dev/zero", f)),
        "missing": replaced(lambda f: None),
        "a terabyte of zeros": replaced(_sparse),
        "hidden files": beside("._NAME"),
        "hidden folder": beside(".ipynb_checkpoints/NAME"),
        "trash": beside(".Trash/NAME"),
        ".DS_Store": beside(".DS_Store", b"\0\0\0\1Bud1"),
        "folder in a circle": circle,
        "name not UTF-8": latin,
        "swapped files": swapped,
        "another size": values(lambda a: a[..., :-3] if a.shape[-1] > 4 else a[:, :-3], "mask"),
        "values that are no labels": values(several, "mask"),
        "NaN": values(nan, "image"),
        "constant": values(lambda a: np.zeros_like(a), "image"),
    }
    for door, chance in chances.items():
        for layout in names:
            for kind, spoil in kinds.items():
                if door == "evaluate" and layout in ("isic", "brats", "ms"):
                    continue
                if rng.random() < chance * (0.5 if layout in ("brats", "ms", "isic") else 0.8):
                    yield spoiled(door, layout, kind, spoil)

    def text(layout: str, name: str, data: bytes) -> Iterator[Case]:
        def spoil(folder: Path, _rng: np.random.Generator) -> tuple[str, str]:
            (folder / name).write_bytes(data)
            return REFUSED, name

        for door in ("prepare", "train"):
            yield spoiled(door, layout, "list or description", spoil)

    deep = (DEEP + "]" * 100_000).encode()
    for layout, name in (("nnunet", "dataset.json"), ("npz", "cases.json")):
        for data in (
            b"",
            deep,
            b"{",
            b"7",
            b"null",
            b'"a"',
            b"[null]",
            b"\xff\xfe{}",
            b'{"a": 1e999}',
            ('{"a":' * 9999).encode(),
            b'[{"image": 7}]',
            b'[{"npz": 7}]',
            b'{"labels": 7, "channel_names": [], "file_ending": 3}',
            b'{"channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": -4}, "file_ending": ".nii.gz"}',
            b'[{"npz": "all.npz", "image": "nope", "raters": "masks"}]',
            b'[{"npz": "../../../etc/passwd", "image": "images", "raters": "masks"}]',
        ):
            yield from text(layout, name, data)
    for data in (
        b"",
        b"image\n",
        b"image,rater\n,\n",
        b"image,rater\nnope.png,nope.png\n",
        b"image;rater\ni0.png\n",
        b"a,b\n1,2\n",
        b'image,rater\n"i0.png,m0_0.png\n',
        b"image,image\ni0.png,i1.png\n",
        b"image,rater\ni0.png,i0.png\n",
        "image,rater\nü.png,m0_0.png\n".encode("latin-1"),
        b"image,rater\n\0,\0\n",
        b"image,rater\n" + b"i0.png,m0_0.png\n" * 3,
        b"image,rater\n" + b"x" * 300_000 + b",m\n",
        b"image,rater,part\ni0.png,m0_0.png,nowhere\n",
        b"image,rater,spacing\ni0.png,m0_0.png,-1\n",
    ):
        yield from text("list", "cases.csv", data)

    def array(title: str, change: Callable[[dict[str, np.ndarray]], Any]) -> Iterator[Case]:
        def spoil(data: Path, _rng: np.random.Generator) -> tuple[str, str]:
            arrays = dict(np.load(data / "all.npz"))
            change(arrays)
            np.savez(data / "all.npz", **arrays)
            return REFUSED, "all.npz"

        for door in ("prepare", "train"):
            yield spoiled(door, "npz", "arrays", spoil)

    yield from array("NaN", lambda a: a.update(images=np.full((4, SIZE, SIZE), np.nan, np.float32)))
    yield from array("objects", lambda a: a.update(patient=np.array([{}, [], 1, "x"], object)))
    yield from array("labels", lambda a: a.update(masks=a["masks"] * 77 + np.arange(16, dtype=np.uint8)))
    yield from array("length", lambda a: a.update(masks=a["masks"][:3]))
    yield from array("spacing", lambda a: a.update(spacing=np.zeros((4, 2))))
    yield from array("spacing NaN", lambda a: a.update(spacing=np.full((4, 2), np.nan)))
    yield from array("complex", lambda a: a.update(images=a["images"].astype(complex)))
    yield from array("words", lambda a: a.update(images=a["images"].astype(str)))
    yield from array("dates", lambda a: a.update(images=a["images"].astype("datetime64[D]")))
    yield from array("0-d", lambda a: a.update(images=np.array(3)))
    yield from array("absent", lambda a: a.pop("masks"))
    yield from array("negative", lambda a: a.update(masks=-a["masks"].astype(np.int16)))

    def npz(title: str, member: bytes, size: int | None = None) -> Iterator[Case]:
        def spoil(data: Path, _rng: np.random.Generator) -> tuple[str, str]:
            arrays = dict(np.load(data / "all.npz"))
            np.savez(data / "all.npz", **{k: v for k, v in arrays.items() if k != "images"})
            with zipfile.ZipFile(data / "all.npz", "a") as archive:
                archive.writestr("images.npy", member, zipfile.ZIP_DEFLATED)
            return REFUSED, "all.npz"

        for door in ("prepare", "train"):
            yield spoiled(door, "npz", "bomb", spoil)

    def npy(shape: str, kind: str = "<f4", data: bytes = b"") -> bytes:
        head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + data

    yield from npz("huge", npy("(4, 100000, 100000)"))
    yield from npz("beyond 64 bits", npy("(4, 99999999999, 99999999999)"))
    yield from npz("negative", npy("(4, -16, 16)"))
    yield from npz("nested", npy("(" * 5000))
    yield from npz("code", npy("__import__('os').getcwd()"))
    yield from npz("pickle", npy("(4,)", "|O", b"\x80\x04."))
    yield from npz("cut off", npy("(4, 16, 16)", data=bytes(99)))
    yield from npz("header of 60 kB", b"\x93NUMPY\x01\0\xff\xff" + b"{" * 65535)


def lidc(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """The outlines of LIDC-IDRI, which are XML."""
    if not DICOM:
        return

    def spoiled(
        door: str, kind: str, title: str, change: Callable[[bytes, np.random.Generator], bytes], expect: str
    ) -> Case:
        def make(place: Path, rng: np.random.Generator) -> Call:
            data = place / "data"
            shutil.copytree(base / "data" / "lidc", data)
            file = sorted(data.rglob("*.xml"))[int(rng.integers(2))]
            file.write_bytes(change(file.read_bytes(), rng))
            check = None if expect == EITHER else lambda: same_cases(data, base / "data" / "lidc")
            words = data_words(door, base, place, data, "lidc")
            return Call(words, expect, (file.name, file.parents[2].name), check, partly=door == "prepare")

        return Case(door, kind, f"lidc: {title}", make)

    def put(old: bytes, new: bytes) -> Callable[[bytes, np.random.Generator], bytes]:
        return lambda data, _rng: data.replace(old, new, 1)

    head = b'<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY a "%s">%s]>\n'
    laughs = head % (b"x" * 10, b"".join(b'<!ENTITY %c "%s">' % (98 + k, b"&%c;" % (97 + k) * 10) for k in range(12)))
    body = b'<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>&m;</ResponseHeader></LidcReadMessage>'
    outside = b'<!DOCTYPE a [<!ENTITY m SYSTEM "file:///etc/passwd">]>\n' + body
    large = head % (b"x" * 1_000_000, b'<!ENTITY m "&a;">') + body.replace(b"&m;", b"&m;" * 10_000)
    bombs = {"entities": laughs + body, "a file from outside": outside, "entities of a megabyte": large}
    nested = b'<LidcReadMessage xmlns="http://www.nih.gov">' + b"<a>" * 200_000
    bombs |= {"nested": nested, "an attribute of 30 MB": b'<LidcReadMessage a="' + b"x" * 30_000_000 + b'"/>'}
    words = {
        "coordinate huge": put(b"<xCoord>3<", b"<xCoord>999999999<"),
        "coordinate beyond 64 bits": put(b"<xCoord>3<", b"<xCoord>" + b"9" * 5000 + b"<"),
        "coordinate negative": put(b"<xCoord>3<", b"<xCoord>-5<"),
        "coordinate a word": put(b"<xCoord>3<", b"<xCoord>three<"),
        "coordinate NaN": put(b"<xCoord>3<", b"<xCoord>nan<"),
        "coordinate empty": put(b"<xCoord>3<", b"<xCoord><"),
        "coordinate missing": put(b"<xCoord>3</xCoord>", b""),
        "position NaN": put(b"<imageZposition>35.0<", b"<imageZposition>nan<"),
        "position elsewhere": put(b"<imageZposition>35.0<", b"<imageZposition>9999<"),
        "inclusion a word": put(b"<inclusion>TRUE<", b"<inclusion>PERHAPS<"),
        "slice unknown": lambda data, _rng: data.replace(b"<imageSOP_UID>1", b"<imageSOP_UID>9"),
        "series unknown": put(b"<SeriesInstanceUid>1.2.3", b"<SeriesInstanceUid>9.9.9"),
        "another root": put(b"LidcReadMessage", b"Something"),
        "not closed": put(b"</LidcReadMessage>", b""),
        "UTF-16 said": put(b"UTF-8", b"UTF-16"),
        "unknown encoding": put(b"UTF-8", b"klingon"),
    }
    for door in ("prepare", "train"):
        for kind, spoil in BYTES.items():
            yield spoiled(door, kind, kind, spoil, EITHER if "flip" in kind or "hole" in kind else REFUSED)
        for title, data in bombs.items():
            yield spoiled(door, "bomb", title, lambda _data, _rng, d=data: d, REFUSED)
        for title, change in words.items():
            expect = EITHER if title in ("coordinate negative", "position elsewhere", "position NaN") else REFUSED
            yield spoiled(door, "outlines", title, change, expect)


def resumed(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """``train --resume`` on a checkpoint that was damaged; ``base / "run"`` stopped before its end."""

    def resume(title: str, spoil: Callable[[Path, np.random.Generator], Any], expect: str = REFUSED) -> Case:
        def make(place: Path, rng: np.random.Generator) -> Call:
            shutil.copytree(base / "run", place / "run")
            spoil(place / "run" / "checkpoint.safetensors", rng)
            words = ["train", "--config", str(base / "config.yaml"), "--data", str(base / "data" / "folder")]
            words += ["--out", str(place / "run"), "--device", "cpu", "--resume", "--optimisation.images", "32"]

            def check() -> str | None:
                mine, right = (p / "run" / "model" / "model.safetensors" for p in (place, base / "right"))
                same = mine.read_bytes() == right.read_bytes()
                return None if same else "goes on to another model than the undamaged run"

            return Call(words, expect, ("checkpoint", "run"), check, place / "run")

        return Case("train", "resume", title, make)

    yield resume("as it should be", lambda f, r: None, READ)
    for kind, spoil in BYTES.items():
        for turn in range(3 if "flip" in kind else 1):
            yield resume(f"{kind} {turn + 1}", lambda f, r, s=spoil: f.write_bytes(s(f.read_bytes(), r)), REFUSED)

    def told(change: Callable[[dict], Any]) -> Callable:
        def spoil(file: Path, _rng: np.random.Generator) -> None:
            data = file.read_bytes()
            length = struct.unpack_from("<Q", data)[0]
            head = json.loads(data[8 : 8 + length])
            change(head)
            new = json.dumps(head).encode()
            file.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

        return spoil

    def meta_(**more: Any) -> Callable:
        return told(lambda h: h["__metadata__"].update(more))

    yield resume("no progress", told(lambda h: h["__metadata__"].pop("progress")))
    yield resume("progress a word", meta_(progress="word"))
    yield resume("progress a list", meta_(progress="[1]"))
    yield resume("progress of unknown keys", meta_(progress='{"epochs": 3}'))
    yield resume("progress negative", meta_(progress='{"images": -5, "best_images": null, "best_ged": null}'))
    yield resume("progress a text", meta_(progress='{"images": "many", "best_images": null, "best_ged": null}'))
    yield resume("progress nested", meta_(progress=DEEP))
    yield resume("configuration nested", meta_(config=DEEP))
    yield resume("configuration a list", meta_(config="[1]"))
    yield resume("configuration empty", meta_(config="{}"))
    yield resume("configuration without sampling", meta_(config='{"method": "cimd"}'))
    yield resume(
        "a tensor renamed",
        told(lambda h: h.update({"optimizer.x.y": h.pop(sorted(k for k in h if k.startswith("optimizer"))[0])})),
    )
    yield resume(
        "a tensor without a point",
        told(lambda h: h.update({"optimizer.7": h.pop(sorted(k for k in h if k.startswith("optimizer"))[0])})),
    )
    yield resume(
        "a tensor of the optimiser lost", told(lambda h: [h.pop(k) for k in sorted(h) if k.startswith("optimizer.0.")])
    )
    for title, put in {
        "a FIFO": os.mkfifo,
        "a folder": Path.mkdir,
        "/dev/zero": lambda f: os.symlink("/dev/zero", f),
        "a terabyte": _sparse,
    }.items():
        yield resume(title, lambda f, r, p=put: (f.unlink(), p(f)))


# ------------------------------------------------------------------------------------------ compare, import, batch


def compared(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """``compare``: results, and raters' files, spoiled."""

    def words(place: Path, results: Path, *raters: Path, more: Sequence[str] = ()) -> list[str]:
        return [
            "compare",
            str(results),
            "--raters",
            *map(str, raters),
            "--no-figure",
            "--out",
            str(place / "out"),
            *more,
        ]

    for name in ("rater.seg.nrrd", "rater.nrrd", "rater.nii.gz"):
        for kind, spoil in BYTES.items():

            def make(
                place: Path, rng: np.random.Generator, name: str = name, spoil: Callable = spoil, kind: str = kind
            ) -> Call:
                file = place / name
                file.write_bytes(spoil((base / name).read_bytes(), rng))

                def check() -> str | None:
                    from AmbiguousSegLib.volume.io import read_mask

                    same = np.array_equal(read_mask(file), read_mask(base / name))
                    return None if same else "another mask than was written"

                return Call(
                    words(place, base / "result", file), REFUSED if kind in SURELY_BAD else EITHER, (name,), check
                )

            yield Case("compare", kind, name, make)
    for title, values in {
        "another size": disc((5, 20, 17), 4),
        "two values": disc(SHAPE, 4) * np.uint8(3) + disc(SHAPE, 2),
        "NaN": np.where(disc(SHAPE, 4), np.nan, 0).astype(np.float32),
        "negative": -disc(SHAPE, 4).astype(np.int16),
    }.items():

        def make(place: Path, _rng: np.random.Generator, values: np.ndarray = values) -> Call:
            return Call(words(place, base / "result", write(place / "drawn.nrrd", values)), REFUSED, ("drawn.nrrd",))

        yield Case("compare", "masks", title, make)
    for title, raters in {
        "missing": ["gone.nrrd"],
        "the folder": ["."],
        "twice": ["rater.nrrd", "rater.nrrd"],
        "a picture": ["grey.png"],
        "a scan": ["ct.nrrd"],
    }.items():
        yield Case(
            "compare",
            "masks",
            title,
            lambda place, _rng, raters=raters: Call(
                words(place, base / "result", *(base / r for r in raters)), REFUSED, (*raters, "rater", base.name)
            ),
        )

    def result(title: str, spoil: Callable[[Path], Any], expect: str = REFUSED) -> Case:
        def make(place: Path, _rng: np.random.Generator) -> Call:
            shutil.copytree(base / "result", place / "result")
            spoil(place / "result")
            return Call(words(place, place / "result", base / "rater.nrrd"), expect, ("result", "sample"))

        return Case("compare", "results", title, make)

    def summary(change: Callable[[dict], Any]) -> Callable[[Path], Any]:
        def spoil(folder: Path) -> None:
            content = json.loads((folder / "samples.json").read_text())
            change(content)
            (folder / "samples.json").write_text(json.dumps(content))

        return spoil

    yield result("as they should be", lambda f: None, READ)
    yield result("nested", lambda f: (f / "samples.json").write_text(DEEP))
    yield result("empty", lambda f: (f / "samples.json").write_text(""))
    yield result("no summary", lambda f: (f / "samples.json").unlink())
    yield result("summary a FIFO", lambda f: ((f / "samples.json").unlink(), os.mkfifo(f / "samples.json")))
    yield result("summary a terabyte", lambda f: os.truncate(f / "samples.json", 2**40))
    yield result(
        "summary /dev/zero", lambda f: ((f / "samples.json").unlink(), os.symlink("/dev/zero", f / "samples.json"))
    )
    yield result("sample lost", lambda f: (f / "sample_01.seg.nrrd").unlink())
    yield result("sample cut off", lambda f: _cut(base / "result" / "sample_01.seg.nrrd", f / "sample_01.seg.nrrd"))
    yield result(
        "sample of another grid",
        lambda f: shutil.copy(base / "data" / "volumes" / "case0" / "rater_ben.seg.nrrd", f / "sample_01.seg.nrrd"),
        EITHER,  # it lies within the samples' grid, as Slicer crops segmentations
    )
    yield result("sample a FIFO", lambda f: ((f / "sample_01.seg.nrrd").unlink(), os.mkfifo(f / "sample_01.seg.nrrd")))
    for key, value in {
        "grid": 7,
        "samples": "two",
        "labels": "lesion",
        "seed": {"a": []},
        "sampler": [DEEP[:50]],
        "volume": None,
    }.items():
        yield result(
            f"{key} is {value!r}",
            summary(lambda c, k=key, v=value: c.update({k: v})),
            EITHER if key in ("seed", "sampler", "volume") else REFUSED,
        )
    yield result("size of the grid huge", summary(lambda c: c["grid"].update(size=[HUGE, HUGE, HUGE])))
    yield result("spacing of the grid NaN", summary(lambda c: c["grid"].update(spacing_mm=[float("nan"), 1, 1])))
    yield result("size of the grid words", summary(lambda c: c["grid"].update(size=["a", "b", "c"])))
    yield result("spacing of the grid words", summary(lambda c: c["grid"].update(spacing_mm=["a", "b", "c"])))
    yield result("direction of the grid words", summary(lambda c: c["grid"].update(direction_lps=["a"] * 9)))


def imported(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """``import``: checkpoints of others."""
    import torch

    def call(
        place: Path, file: Path, more: Sequence[str] = (), expect: str = REFUSED, names: Sequence[str] = ()
    ) -> Call:
        words = ["import", str(file), "--kind", "cimd", "--image-size", "32", "--out", str(place / "out"), *more]
        return Call(words, expect, (file.name, *names))

    for kind, spoil in BYTES.items():
        for turn in range(3 if "flip" in kind else 1):

            def make(place: Path, rng: np.random.Generator, spoil: Callable = spoil, kind: str = kind) -> Call:
                file = place / "ema.pt"
                file.write_bytes(spoil((base / "ema.pt").read_bytes(), rng))
                made = call(place, file, expect=REFUSED if kind in SURELY_BAD else EITHER)

                def check() -> str | None:
                    right = base / "imported" / "model.safetensors"
                    same = (place / "out" / "model.safetensors").read_bytes() == right.read_bytes()
                    return None if same else "other weights than were saved"

                made.check = check
                return made

            yield Case("import", kind, f"ema.pt {turn + 1}", make)

    def saved(title: str, content: Callable[[dict], Any]) -> Case:
        def make(place: Path, _rng: np.random.Generator) -> Call:
            torch.save(content(torch.load(base / "ema.pt", weights_only=True)), place / "mine.pt")
            return call(place, place / "mine.pt", names=("module", "blocks"))

        return Case("import", "content", title, make)

    def put(**tensors: Any) -> Callable[[dict], dict]:
        return lambda s: s | {k.replace("__", "."): v for k, v in tensors.items()}

    key = "module.input_blocks.0.0.weight"
    yield saved("empty", lambda s: {})
    yield saved("a list", lambda s: [1, 2])
    yield saved("a number", lambda s: 7)
    yield saved("a tensor", lambda s: torch.zeros(3))
    yield saved("numbers for tensors", lambda s: dict.fromkeys(s, 1))
    yield saved("keys that are numbers", lambda s: dict(enumerate(s.values())))
    yield saved("NaN", lambda s: s | {key: torch.full_like(s[key], float("nan"))})
    yield saved("integers", lambda s: s | {key: s[key].int()})
    yield saved("one missing", lambda s: {k: v for k, v in s.items() if k != key})
    yield saved("one of no dimension", lambda s: s | {key: torch.tensor(1.0)})
    yield saved("one of 9 dimensions", lambda s: s | {key: torch.zeros([1] * 9)})
    yield saved("one empty", lambda s: s | {key: torch.zeros(0, 5, 3, 3)})
    yield saved("one too many", lambda s: s | {"module.more.weight": torch.zeros(3)})
    yield saved("one of a million axes", lambda s: s | {"module.input_blocks.999999.0.weight": torch.zeros(3)})
    yield saved("sparse", lambda s: s | {key: s[key].to_sparse()})
    yield saved("quantised", lambda s: s | {key: torch.quantize_per_tensor(s[key], 0.1, 0, torch.qint8)})
    yield saved("on no device", lambda s: s | {key: s[key].to("meta")})
    yield saved("expanded to a terabyte", lambda s: s | {key: torch.zeros(1).expand(2**38)})
    yield saved("another network", lambda s: torch.nn.Linear(3, 4).state_dict())
    yield saved("nested", lambda s: {"a": {"b": {"c": s}}})
    for title, build in {
        "FIFO": lambda p: (os.mkfifo(p / "a.pt"), p / "a.pt")[1],
        "/dev/zero": lambda p: Path("/dev/zero"),
        "folder": lambda p: p,
        "missing": lambda p: p / "gone.pt",
        "a terabyte": lambda p: _sparse(p / "a.pt"),
        "safetensors": lambda p: base / "model" / "model.safetensors",
        "code": lambda p: _pickle(p / "a.pt"),
        "zip bomb": lambda p: _pt_bomb(p / "a.pt"),
    }.items():
        yield Case(
            "import",
            "no plain file",
            title,
            lambda place, _rng, build=build: call(place, build(place), names=("zero",)),
        )
    for option, values in {
        "--image-size": ["0", "-32", "31", "99999999"],
        "--num-heads": ["0", "-1", "7"],
        "--steps": ["0", "5", str(2**70)],
        "--image-channels": ["0", "9", "-1"],
        "--spacing-mm": ["nan", "0"],
        "--mask-levels": ["0 0", "nan 1"],
        "--intensity": ["magic", "window 9 1", "window nan 1", "window 1 2 3"],
        "--label": [""],
        "--channels": ["a b c"],
    }.items():
        for value in values:
            names = (
                option,
                option.strip("-").replace("-", "_"),
                option.strip("-"),
                option.strip("-").replace("-", " "),
                "size",
                "channels",
                "head",
                "name",
            )
            yield Case(
                "import",
                "option",
                f"{option} {value}",
                lambda place, _rng, o=option, v=value, n=names: call(
                    place, base / "ema.pt", [o, *(v.split() or [""])], names=n
                ),
            )


def _pickle(path: Path) -> Path:
    path.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    return path


def _pt_bomb(path: Path) -> Path:
    import torch

    torch.save({"a": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for name, data in files.items():
            if not name.endswith("data/0"):
                new.writestr(name, data)
                continue
            with new.open(name, "w", force_zip64=True) as member:
                for _ in range(40):
                    member.write(bytes(1 << 24))
    return path


def batches(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """``batch.py``: one bad input among good ones, whose results must be there; tables; options."""

    def study(title: str, kind: str, spoil: Callable[[Path, np.random.Generator], tuple[str, int]]) -> Case:
        """``spoil`` gives the bad file's name and how many good volumes remain."""

        def make(place: Path, rng: np.random.Generator) -> Call:
            folder = place / "in"
            folder.mkdir()
            for k in range(2):
                shutil.copy(base / "ct.nrrd", folder / f"good{k}.nrrd")
            name, bad = spoil(folder, rng)
            words = [
                str(folder),
                "--model",
                str(base / "model"),
                "--samples",
                "2",
                "--device",
                "cpu",
                "--out",
                str(place / "out"),
            ]

            def check() -> str | None:
                done = [(place / "out" / f"good{k}" / "samples.json").is_file() for k in range(2)]
                return None if all(done) else "the good volumes are not done"

            return Call(words, (REFUSED, EITHER)[bad], (name,), check, None, None, True)

        return Case("batch.py", kind, title, make)

    for name in ("ct.nii.gz", "ct.mha", "ct_raw.nii", "ct.nrrd"):
        for kind, change in BYTES.items():
            if kind in SURELY_BAD and rng.random() < 0.5:
                continue

            def spoil(
                folder: Path, rng: np.random.Generator, name: str = name, kind: str = kind, change: Callable = change
            ) -> tuple[str, int]:
                (folder / f"bad_{name}").write_bytes(change((base / name).read_bytes(), rng))
                return "bad_ct", int(kind not in SURELY_BAD)

            yield study(name, kind, spoil)
    for title, put in {
        "FIFO": lambda f: os.mkfifo(f / "bad.nrrd"),
        "link to nothing": lambda f: os.symlink("nowhere", f / "bad.nrrd"),
        "link to itself": lambda f: os.symlink("bad.nrrd", f / "bad.nrrd"),
        "/dev/zero": lambda f: os.symlink("/dev/zero", f / "bad.nrrd"),
        "a terabyte": lambda f: _sparse(f / "bad.nrrd"),
        "name not UTF-8": lambda f: shutil.copy(base / "ct.nrrd", f / os.fsdecode(b"bad\xe9.nrrd")),
    }.items():
        yield study(title, "no plain file", lambda f, r, p=put: (p(f), ("bad", 0))[1])
    for name in ("._good0.nrrd", ".DS_Store"):
        yield study(name, "hidden files", lambda f, r, n=name: ((f / n).write_bytes(b"\0\5\x16\7"), (n, 1))[1])
    yield study(
        "a segmentation",
        "segmentation",
        lambda f, r: (shutil.copy(base / "rater.seg.nrrd", f / "rater.seg.nrrd"), ("rater", 1))[1],
    )

    def table(title: str, data: bytes, expect: str = REFUSED) -> Case:
        def make(place: Path, _rng: np.random.Generator) -> Call:
            (place / "t.csv").write_bytes(data)
            shutil.copy(base / "ct.nrrd", place / "ct.nrrd")
            words = [
                str(place / "t.csv"),
                "--model",
                str(base / "model"),
                "--samples",
                "2",
                "--device",
                "cpu",
                "--out",
                str(place / "out"),
            ]
            return Call(words, expect, ("t.csv", "ct", "t"), None, None, None, True)

        return Case("batch.py", "table", title, make)

    for title, data in {
        "empty": b"",
        "header alone": b"CT\n",
        "no channel": b"name,seed\na,1\n",
        "semicolons": b"name;CT\na;ct.nrrd\n",
        "not UTF-8": b"CT\n\xe9.nrrd\n",
        "zeros": b"CT\n\0\n",
        "UTF-16": "CT\nct.nrrd\n".encode("utf-16"),
        "too many cells": b"CT\nct.nrrd,2,3\n",
        "a missing cell": b"name,CT\na\n",
        "seed a word": b"CT,seed\nct.nrrd,x\n",
        "seed of 80 bits": b"CT,seed\nct.nrrd," + str(2**80).encode() + b"\n",
        "seed of 5000 digits": b"CT,seed\nct.nrrd," + b"9" * 5000 + b"\n",
        "seed superscript": "CT,seed\nct.nrrd,²\n".encode(),
        "slices reversed": b"CT,slice_first,slice_last\nct.nrrd,3,1\n",
        "slices beyond": b"CT,slice_first,slice_last\nct.nrrd,3,99\n",
        "name with a slash": b"CT,name\nct.nrrd,../a\n",
        "name of a zero": b"CT,name\nct.nrrd,a\0b\n",
        "name of 300 characters": b"CT,name\nct.nrrd," + b"n" * 300 + b"\n",
        "names alike": b"CT,name\nct.nrrd,a\nct.nrrd,A\n",
        "a missing file": b"CT\ngone.nrrd\n",
        "a cell of 200 kB": b"CT\n" + b"x" * 200_000 + b"\n",
        "quote open": b'CT\n"ct.nrrd\n',
        "a device": b"CT\n/dev/zero\n",
        "itself": b"CT\nt.csv\n",
    }.items():
        yield table(title, data)
    for title, words in {
        "model missing": ["--model", "nobody"],
        "samples 0": ["--samples", "0"],
        "samples 10**9": ["--samples", "1000000000"],
        "seed -1": ["--seed", "-1"],
        "steps 0": ["--steps", "0"],
        "sampler unknown": ["--sampler", "none"],
        "grid unknown": ["--grid", "none"],
        "spacing NaN": ["--spacing-mm", "nan"],
        "device unknown": ["--device", "tpu"],
        "out a file": ["--out", str(base / "ct.nii.gz")],
        "out below /proc": ["--out", "/proc/nobody/x"],
        "input missing": ["/nowhere/at/all.nrrd"],
        "input /dev/zero": ["/dev/zero"],
        "option unknown": ["--nonsense", "3"],
    }.items():

        def make(place: Path, _rng: np.random.Generator, words: list[str] = words, title: str = title) -> Call:
            line = [
                str(base / ("grey.png" if "spacing" in title else "ct.nrrd")),
                "--model",
                str(base / "model"),
                "--samples",
                "2",
                "--device",
                "cpu",
            ]
            line += ["--out", str(place / "out"), *words] if words[0] != "--out" else words
            named = (
                words[0].strip("-"),
                words[0].strip("-").replace("-", "_"),
                words[-1],
                title.partition(" ")[0],
                words[-1][:5],
            )
            return Call(line, REFUSED, named, None, None, None, True)

        yield Case("batch.py", "option", title, make)


# ----------------------------------------------------------------------------------------------- the worker's door


def requests(base: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Lines that the worker is sent; a good job follows where it goes on."""

    def good(place: Path) -> dict[str, Any]:
        place.mkdir(exist_ok=True)
        np.save(place / "ct.npy", volume(np.random.default_rng(4), SHAPE))
        geometry = {"size": list(SHAPE[::-1]), "spacing_mm": [1.0, 1.0, 2.0], "origin_mm": [0.0, 0.0, 0.0]}
        geometry["direction"] = [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0]
        arguments = {"model": str(base / "model"), "device": "cpu", "channels": ["ct.npy"], "geometry": geometry}
        arguments |= {
            "samples": 2,
            "first_sample": 0,
            "seed": 0,
            "sampler": None,
            "slice_range": None,
            "region": None,
            "pointing": None,
            "refine": None,
        }
        return {
            "type": "job",
            "job": 1,
            "folder": str(place),
            "kind": "sample",
            "arguments": arguments | {"modality": "", "picture": False},
        }

    def job(title: str, change: Callable[[dict, Path], Any], kind: str = "request", expect: str = REFUSED) -> Case:
        def make(place: Path, _rng: np.random.Generator) -> Call:
            message = good(place)
            new = change(message, place)
            message = new if isinstance(new, dict) else message
            lines = [json.dumps(message), json.dumps(good(place / "second") | {"job": 2})]
            return Call(lines, expect, ())

        return Case("worker", kind, title, make)

    def arg(key: str, value: Any, expect: str = REFUSED) -> Case:
        return job(f"{key} is {value!r}"[:60], lambda m, p: m["arguments"].update({key: value}), expect=expect)

    yield job("as it should be", lambda m, p: None, expect=READ)
    for key, values in {
        "model": ["", "nobody", 7, None, "/dev/zero", "a\0b", ["x"]],
        "device": ["tpu", "", 7, None, "cuda:99"],
        "channels": [[], ["gone.npy"], "ct.npy", [7], ["../../etc/passwd"], ["ct.npy", "ct.npy"], None, ["/dev/zero"]],
        "geometry": [None, 7, {}, {"size": [HUGE] * 3}, []],
        "samples": [0, -1, 10**12, "two", None, 1.5, True, 2**70],
        "first_sample": [-1, "x", None, 2**70],
        "seed": [-1, 2**70, "x", None, 1.5],
        "sampler": [7, {"name": "none"}, {"steps": 0}, {"name": "ddim", "steps": 10**9}, {"more": 1}, "ddim"],
        "slice_range": [[3, 1], [0, 99], [0], ["a", "b"], 7, [None, None], [0.5, 2.5], [-1, 2]],
        "region": [
            [[0, 0, 0]],
            [[float("nan")] * 3, [1, 1, 1]],
            [["a"] * 3, ["b"] * 3],
            7,
            [[900] * 3, [950] * 3],
            [[5] * 3, [0] * 3],
            [[0, 0], [1, 1]],
        ],
        "modality": [7, None],
        "picture": ["x", None],
    }.items():
        for value in values:
            yield arg(key, value, EITHER if key in ("modality", "picture") else REFUSED)
    for key in ("size", "spacing_mm", "origin_mm", "direction"):
        for value in ([], "x", [0, 0, 0], [float("nan")] * 3, [HUGE] * 3, None, ["a"] * 9):
            expect = (
                EITHER
                if (key, value) in (("origin_mm", [0, 0, 0]), ("origin_mm", [HUGE] * 3), ("spacing_mm", [HUGE] * 3))
                else REFUSED
            )
            yield job(
                f"geometry.{key} is {value!r}"[:60],
                lambda m, p, k=key, v=value: m["arguments"]["geometry"].update({k: v}),
                expect=expect,
            )
    yield job("an argument is missing", lambda m, p: m["arguments"].pop("seed") is None)
    yield job("an unknown kind", lambda m, p: m.update(kind="paint"))
    yield job("a folder that is not there", lambda m, p: m.update(folder="/nowhere/at/all"))
    yield job("arguments a list", lambda m, p: m.update(arguments=[]), expect="ends")
    yield job("arguments nothing", lambda m, p: m.update(arguments=None), expect="ends")
    yield job("kind a list", lambda m, p: m.update(kind=[]), expect="ends")
    yield job("kind absent", lambda m, p: m.pop("kind") is None, expect="ends")
    yield job("folder a number", lambda m, p: m.update(folder=7), expect="ends")
    yield job("job a word", lambda m, p: m.update(job="x"), expect="ends")
    arrays: dict[str, Callable[[], np.ndarray]] = {
        "another shape": lambda: np.zeros((5, 20, 17), np.int16),
        "objects": lambda: np.array([{}, []], object),
        "complex": lambda: np.zeros(SHAPE, complex),
        "words": lambda: np.full(SHAPE, "x"),
        "NaN": lambda: np.full(SHAPE, np.nan, np.float32),
        "one value": lambda: np.zeros(SHAPE, np.int16),
    }
    for title, array in arrays.items():
        yield job(
            f"channel of {title}",
            lambda m, p, a=array: np.save(p / "ct.npy", a(), allow_pickle=True),
            "arrays",
            EITHER if title == "one value" else REFUSED,
        )
    head = b"\x93NUMPY\x01\0"
    for title, data in {
        "empty": b"",
        "text": b"text",
        "cut off": head
        + struct.pack("<H", 70)
        + b"{'descr': '<i2', 'fortran_order': False, 'shape': (5, 20, 18), }".ljust(69)
        + b"\n1234",
        "nested": head + struct.pack("<H", 60000) + b"(" * 60000,
        "huge": head
        + struct.pack("<H", 80)
        + b"{'descr': '<i2', 'fortran_order': False, 'shape': (100000, 100000, 100000), }".ljust(79)
        + b"\n",
    }.items():
        yield job(f"channel file {title}", lambda m, p, d=data: (p / "ct.npy").write_bytes(d) and None, "arrays")
    for kind, arguments in {
        "modes": {"masks": [], "classes": 1, "cut": 0.5},
        "compare": {
            "samples": [],
            "raters": [],
            "sample_names": [],
            "rater_names": [],
            "labels": ["a"],
            "geometry": {},
        },
        "export": {
            "masks": [],
            "maps": {},
            "geometry": {},
            "folder": "",
            "form": "x",
            "labels": [],
            "source_files": [],
            "model_name": "",
            "overwrite": False,
        },
        "estimate": {"model": "nobody", "device": "cpu"},
    }.items():
        yield job(f"{kind} of nothing", lambda m, p, k=kind, a=arguments: m | {"kind": k, "arguments": a})
    entry = {"file": "gone.npy", "start": [0, 0, 0], "shape": [5, 20, 18]}
    for title, change in {
        "file gone": {},
        "start negative": {"file": "m.npy", "start": [-3, 0, 0]},
        "start beyond": {"file": "m.npy", "start": [99, 0, 0]},
        "shape huge": {"file": "m.npy", "shape": [HUGE] * 3},
        "shape words": {"file": "m.npy", "shape": ["a", "b", "c"]},
        "shape absent": {"file": "m.npy", "shape": None},
        "file a number": {"file": 7},
    }.items():

        def masks(m: dict, p: Path, change: dict = change) -> dict:
            np.save(p / "m.npy", np.ones((2, 3, 4), np.uint8))
            return m | {"kind": "modes", "arguments": {"masks": [entry | change] * 2, "classes": 1, "cut": 0.5}}

        yield job(f"mask: {title}", masks, "masks", EITHER if title == "shape huge" else REFUSED)

    def line(title: str, data: bytes) -> Case:
        return Case("worker", "no message", title, lambda place, _rng: Call([data], "ends", ()))

    for title, data in {
        "no JSON": b"hello",
        "nested": DEEP.encode(),
        "a list": b"[1]",
        "a type unknown": b'{"type": "x"}',
        "no type": b"{}",
        "not UTF-8": b"\xff\xfe\n",
        "a job of nothing": b'{"type": "job"}',
        "a folder that is a number": b'{"type": "folder", "folder": 7}',
        "a cancel of nothing": b'{"type": "cancel"}',
        "a cancel of a list": b'{"type": "cancel", "job": []}',
    }.items():
        yield line(title, data)

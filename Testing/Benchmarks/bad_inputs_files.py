"""Small valid inputs of ``bad_inputs.py``, what spoils them, and a second reader that says what a file holds."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import yaml
from picture_bytes import png, tiff, tiff_tags
from tiny_models import randomised, tiny_cimd
from tiny_training import METHODS as TINY
from tiny_training import SIZE

from AmbiguousSegLib.description import Card
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.model import Model, save_model
from AmbiguousSegLib.networks.unet import UNet, UNetConfig
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing
from AmbiguousSegLib.volume.writing import write_segmentation

DICOM = importlib.util.find_spec("pydicom") is not None
PILLOW = importlib.util.find_spec("PIL") is not None
TIFFFILE = importlib.util.find_spec("tifffile") is not None
PYNRRD = importlib.util.find_spec("nrrd") is not None
SHAPE, SPACING = (5, 20, 18), (1.0, 1.0, 2.0)
VOLUMES = (
    "ct.nrrd",
    "ct_raw.nrrd",
    "ct.nii.gz",
    "ct_raw.nii",
    "ct.mha",
    "ct_raw.mha",
    "float.nii.gz",
    "ct.nhdr",
    "ct.mhd",
)
PICTURES = ("grey.png", "grey16.png", "colour.png", "grey.jpg", "grey.bmp", "grey.tif", "palette.png")
BASE_SUFFIX = {"ct.nhdr": "ct.raw.gz", "ct.mhd": "ct.raw"}
CONFIG = {
    "method": "cimd",
    "method_config": TINY["cimd"],
    "dataset": {
        "size": [SIZE, SIZE],
        "intensity": {"rule": "minmax", "low": None, "high": None},
        "validation_fraction": 0.25,
        "test_fraction": 0.0,
    },
    "optimisation": {"images": 16, "batch_size": 4, "learning_rate": 1e-3},
    "validation": {"every_images": 16, "cases": 1, "samples": 2},
    "sampling": {"name": "ddim", "steps": 2},
    "seed": 5,
}


# ---------------------------------------------------------------------------------------------- valid inputs


def volume(rng: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Hounsfield units, int16."""
    return rng.integers(-1000, 1000, shape).astype(np.int16)


def disc(shape: tuple[int, ...], radius: float) -> np.ndarray:
    """A mask, uint8 ``(Z, Y, X)``."""
    y, x = np.indices(shape[1:])
    inside = np.hypot(y - shape[1] / 2, x - shape[2] / 2) < radius
    return np.broadcast_to(inside, shape).astype(np.uint8)


def image_of(values: np.ndarray, spacing: tuple[float, ...] = SPACING) -> sitk.Image:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing[: image.GetDimension()])
    return image


def write(path: Path, values: np.ndarray, compress: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image_of(values), str(path), compress)
    return path


def make_base(base: Path, seed: int) -> None:
    """Everything valid that cases are made of."""
    rng = np.random.default_rng(seed)
    ct = volume(rng)
    base.mkdir(parents=True)
    for name in VOLUMES:
        values = ct.astype(np.float32) if name.startswith("float") else ct
        write(base / name, values, name in ("ct.nrrd", "ct.mha", "ct.nhdr"))
    grey = rng.integers(0, 256, (20, 18, 1)).astype(np.uint8)
    (base / "grey.png").write_bytes(png(grey, 8, 0))
    (base / "grey16.png").write_bytes(png(rng.integers(0, 60000, (20, 18, 1)), 16, 0))
    (base / "colour.png").write_bytes(png(rng.integers(0, 256, (20, 18, 3)), 8, 2))
    palette = b"PLTE", bytes(rng.integers(0, 256, 768).astype(np.uint8))
    (base / "palette.png").write_bytes(png(grey, 8, 3, [palette]))
    for name in ("grey.jpg", "grey.bmp"):
        sitk.WriteImage(sitk.GetImageFromArray(grey[..., 0]), str(base / name))
    (base / "grey.tif").write_bytes(tiff([(tiff_tags(18, 20), [grey.tobytes()])]))
    grid = Geometry(SHAPE[::-1], SPACING, (0.0,) * 3, tuple(np.eye(3).ravel()))
    write_segmentation(base / "rater.seg.nrrd", disc(SHAPE, 5), grid, [Label("anna")])
    write(base / "rater.nrrd", disc(SHAPE, 4), True)
    write(base / "rater.nii.gz", disc(SHAPE, 4))
    for name, channels in (("model", 1), ("model3", 3)):
        names = ("CT",) if channels == 1 else ("red", "green", "blue")
        how = Preprocessing(names, "axial", None, (SIZE, SIZE), 2, Intensity("minmax"))
        save_model(
            Model(randomised(tiny_cimd(channels, SIZE)), how, SamplerSettings("ddim", 2), Card("tiny")), base / name
        )
    network = UNet(UNetConfig(32, 5, 2, 32, (1, 2), 1, (16,)))
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, base / "ema.pt")
    (base / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    from_model = {key: value for key, value in CONFIG.items() if not key.startswith("method")}
    (base / "from.yaml").write_text(yaml.safe_dump(from_model), encoding="utf-8")
    if DICOM:
        from dicom_kinds import stack

        stack(base / "dicom")
        from lidc_files import nodule, readings, rectangle, roi, write_ct

        for k in (1, 2):
            place, series = base / "data" / "lidc" / f"LIDC-IDRI-000{k}" / "study" / "series", f"1.2.3.{k}"
            slices = write_ct(place, series, f"LIDC-IDRI-000{k}")
            drawn = [nodule(f"n{r}", roi(rectangle(3, 4, 12 + r, 15), slices[2], 35.0)) for r in range(3)]
            (place / "069.xml").write_text(readings(series, *drawn), encoding="utf-8")
    make_layouts(base / "data", rng)


def make_layouts(base: Path, rng: np.random.Generator) -> None:
    """A folder of four cases and two raters for each reader."""
    shape = (1, SIZE, SIZE)
    for k in range(4):
        image = (rng.integers(0, 100, shape[1:]) + 120 * disc(shape, 4)[0]).astype(np.uint8)
        masks = [disc(shape, 3 + r)[0] * 255 for r in range(2)]
        scan, drawn = volume(rng, (3, SIZE, SIZE)), [disc((3, SIZE, SIZE), 3 + r) for r in range(2)]
        for layout, ending in (("folder", "png"), ("list", "png"), ("raters", "png")):
            place = base / layout
            image_at = {"folder": f"case{k}/image", "list": f"i{k}", "raters": f"images/p{k}"}[layout]
            mask_at = {"folder": f"case{k}/rater_{{}}", "list": f"m{k}_{{}}", "raters": f"rater_{{}}/p{k}"}[layout]
            write(place / f"{image_at}.{ending}", image)
            for r, mask in enumerate(masks):
                write(place / f"{mask_at.format(r)}.{ending}", mask)
        write(base / "volumes" / f"case{k}" / "image.nii.gz", scan)
        write(base / "volumes" / f"case{k}" / "rater_anna.nrrd", drawn[0], True)
        grid = Geometry((SIZE, SIZE, 3), SPACING, (0.0,) * 3, tuple(np.eye(3).ravel()))
        write_segmentation(base / "volumes" / f"case{k}" / "rater_ben.seg.nrrd", drawn[1], grid, [Label("ben")])
        write(base / "nnunet" / "imagesTr" / f"c_{k:03d}_0000.nii.gz", scan)
        write(base / "nnunet" / "labelsTr" / f"c_{k:03d}.nii.gz", drawn[0])
        for ending in ("t1", "t1ce", "t2", "flair"):
            write(base / "brats" / f"B{k}" / f"B{k}_{ending}.nii.gz", volume(rng, (3, SIZE, SIZE)))
        write(base / "brats" / f"B{k}" / f"B{k}_seg.nii.gz", drawn[0] * np.uint8(1 + k % 2))
        for ending in ("pd_pp", "flair_pp", "mprage_pp", "t2_pp"):
            write(base / "ms" / f"training{k:02d}" / f"training{k:02d}_01_{ending}.nii", volume(rng, (3, SIZE, SIZE)))
        for r in (1, 2):
            write(base / "ms" / f"training{k:02d}" / f"training{k:02d}_01_mask{r}.nii", drawn[r - 1])
        colour = rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
        for place, values in ((f"ISIC_000000{k}.png", colour), (f"ISIC_000000{k}_segmentation.png", masks[0])):
            (base / "isic").mkdir(exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(values, values.ndim == 3), str(base / "isic" / place))
    rows = "".join(f"i{k}.png,m{k}_0.png,m{k}_1.png,s{k}\n" for k in range(4))
    (base / "list" / "cases.csv").write_text(f"image,rater_0,rater_1,subject\n{rows}", encoding="utf-8")
    about = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": 1}, "numTraining": 4}
    about["file_ending"] = ".nii.gz"
    (base / "nnunet" / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    (base / "npz").mkdir()
    stacks = {"images": volume(rng, (4, SIZE, SIZE)), "masks": np.stack([disc((4, SIZE, SIZE), r) for r in (3, 4)], 1)}
    np.savez_compressed(base / "npz" / "all.npz", patient=np.array(list("abcd")), spacing=np.ones((4, 2)), **stacks)
    entry = {"npz": "all.npz", "image": "images", "raters": "masks", "subject": "patient", "spacing": "spacing"}
    (base / "npz" / "cases.json").write_text(json.dumps([entry]), encoding="utf-8")


# ------------------------------------------------------------------------------------------------- what spoils


def truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(len(data) * rng.uniform(0.02, 0.98))]


def flipped(data: bytes, rng: np.random.Generator, first: int = 0, last: int | None = None, flips: int = 1) -> bytes:
    out = bytearray(data)
    for _ in range(flips):
        place = int(rng.integers(first, min(len(out), last or len(out))))
        out[place] ^= 1 << int(rng.integers(8))
    return bytes(out)


BYTES = {
    "truncated": truncated,
    "zero length": lambda data, rng: b"",
    "one bit flipped": flipped,
    "bit of the beginning flipped": lambda data, rng: flipped(data, rng, 0, 400),
    "16 bits flipped": lambda data, rng: flipped(data, rng, flips=16),
    "text": lambda data, rng: b"This is not what its name says.\n" * 20,
    "random bytes": lambda data, rng: rng.bytes(len(data)),
    "a hole of zeros": lambda data, rng: data[: len(data) // 2] + bytes(len(data) // 4) + data[len(data) * 3 // 4 :],
    "a page of HTML": lambda data, rng: b"<!DOCTYPE html><html><body>404: not found</body></html>\n",
}
SURELY_BAD = ("zero length", "text", "random bytes", "a page of HTML")


def zeros_deflated(size: int, raw: bool = False) -> bytes:
    """About ``size`` zeros by deflate, made in no time: a block of them over and over."""
    packer, block = zlib.compressobj(9, zlib.DEFLATED, -15 if raw else 15), 1 << 24
    first = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (size // block - 1) + packer.flush(zlib.Z_FINISH)


def zeros_gzipped(size: int) -> bytes:
    """Members of gzip, one after the other."""
    member = gzip.compress(bytes(1 << 24), 9)
    return member * (size >> 24)


def png_bomb(width: int, height: int, body: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def nifti(values: np.ndarray, **fields: object) -> bytes:
    """A NIfTI by a writer of its own; ``fields`` of its header are laid over."""
    kinds = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64}
    shape = values.shape[::-1]
    head = {
        **{"sizeof_hdr": 348, "dim": (len(shape), *shape, *([1] * (7 - len(shape))))},
        **{"datatype": kinds[values.dtype.name], "bitpix": 8 * values.itemsize, "pixdim": (1, *SPACING, 1, 1, 1, 1)},
        **{"vox_offset": 352.0, "scl_slope": 1.0, "scl_inter": 0.0, "xyzt_units": 2, "qform_code": 0, "sform_code": 1},
        **{"srow_x": (1, 0, 0, 0), "srow_y": (0, 1, 0, 0), "srow_z": (0, 0, 2, 0), "magic": b"n+1\0"},
    } | fields
    out = bytearray(352)
    places = {"sizeof_hdr": (0, "i"), "dim": (40, "8h"), "datatype": (70, "h"), "bitpix": (72, "h")}
    places |= {"pixdim": (76, "8f"), "vox_offset": (108, "f"), "scl_slope": (112, "f"), "scl_inter": (116, "f")}
    places |= {"xyzt_units": (123, "B"), "qform_code": (252, "h"), "sform_code": (254, "h"), "srow_x": (280, "4f")}
    places |= {"srow_y": (296, "4f"), "srow_z": (312, "4f"), "magic": (344, "4s")}
    for name, value in head.items():
        at, form = places[name]
        struct.pack_into("<" + form, out, at, *(value if isinstance(value, tuple) else (value,)))
    return bytes(out) + values.tobytes()


def nrrd(values: np.ndarray, body: bytes | None = None, **fields: str) -> bytes:
    """A NRRD by a writer of its own; ``fields`` with ``_`` for blanks are laid over, None takes one away."""
    kinds = {"uint8": "uchar", "int16": "short", "float32": "float", "float64": "double"}
    head = {
        **{"type": kinds[values.dtype.name], "dimension": "3", "space": "left-posterior-superior"},
        **{"sizes": " ".join(map(str, values.shape[::-1])), "space directions": "(1,0,0) (0,1,0) (0,0,2)"},
        **{"kinds": "domain domain domain", "endian": "little", "encoding": "raw", "space origin": "(0,0,0)"},
    } | {key.replace("_", " "): value for key, value in fields.items()}
    lines = "".join(f"{key}: {value}\n" for key, value in head.items() if value is not None)
    return f"NRRD0004\n{lines}\n".encode() + (values.tobytes() if body is None else body)


def meta(values: np.ndarray, body: bytes | None = None, **fields: str) -> bytes:
    """A MetaImage by a writer of its own."""
    kinds = {"int16": "MET_SHORT", "float32": "MET_FLOAT"}
    head = {
        **{"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False"},
        **{"CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0"},
        **{"ElementSpacing": "1 1 2", "DimSize": " ".join(map(str, values.shape[::-1]))},
        **{"ElementType": kinds[values.dtype.name], "ElementDataFile": "LOCAL"},
    }
    last = fields.pop("ElementDataFile", head.pop("ElementDataFile"))
    lines = "".join(f"{key} = {value}\n" for key, value in (head | fields).items() if value is not None)
    data = b"" if last != "LOCAL" else values.tobytes() if body is None else body
    return f"{lines}ElementDataFile = {last}\n".encode() + data


# ----------------------------------------------------------------------------------------------- second reader


def second_reading(path: Path) -> np.ndarray | None:
    """What a file holds by another reader, float64 ``(C, Z, Y, X)``; None if none here can tell."""
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            return _nifti_values(path)
        if name.endswith((".nrrd", ".nhdr")) and PYNRRD:
            import nrrd as pynrrd

            values, head = pynrrd.read(str(path), index_order="C")
            return values[None].astype(float) if values.ndim == 3 and head["dimension"] == 3 else None
        if name.endswith((".mha", ".mhd")):
            return _meta_values(path)
        if name.endswith((".tif", ".tiff")) and TIFFFILE:
            import tifffile

            with tifffile.TiffFile(path) as file:
                page = file.pages[0]
                values = page.asarray().astype(float)
                if page.photometric == 0:
                    values = 2**page.bitspersample - 1 - values
            return _channels(values)
        if name.endswith((".png", ".jpg", ".bmp")) and PILLOW:
            from PIL import Image, ImageOps

            with Image.open(path) as picture:
                turned = ImageOps.exif_transpose(picture)
                turned = turned.convert("RGB") if turned.mode == "P" else turned
                return _channels(np.asarray(turned).astype(float))
    except Exception:
        return None
    return None


def _channels(values: np.ndarray) -> np.ndarray:
    return values[None, None] if values.ndim == 2 else np.moveaxis(values, -1, 0)[:, None]


def _nifti_values(path: Path) -> np.ndarray | None:
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    order = "<" if struct.unpack_from("<h", data, 40)[0] in range(1, 8) else ">"
    dim = struct.unpack_from(f"{order}8h", data, 40)
    kind = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}[
        struct.unpack_from(f"{order}h", data, 70)[0]
    ]
    offset, slope, inter = struct.unpack_from(f"{order}3f", data, 108)
    shape = dim[1 : 1 + dim[0]][::-1]
    stored = np.frombuffer(data, order + kind, int(np.prod(shape)), int(offset)).reshape(shape).astype(float)
    values = stored if slope == 0 or not np.isfinite([slope, inter]).all() else stored * slope + inter
    return values.reshape(1, *values.shape[-3:]) if values.ndim >= 3 and values.size == np.prod(shape[-3:]) else None


def _meta_values(path: Path) -> np.ndarray | None:
    data = path.read_bytes()
    end = data.index(b"\n", data.index(b"ElementDataFile")) + 1
    head = dict(line.split(" = ") for line in data[:end].decode("latin-1").splitlines())
    body = data[end:] if head["ElementDataFile"] == "LOCAL" else (path.parent / head["ElementDataFile"]).read_bytes()
    body = zlib.decompress(body) if head.get("CompressedData") == "True" else body
    kind = {"MET_SHORT": "i2", "MET_FLOAT": "f4", "MET_UCHAR": "u1", "MET_USHORT": "u2"}[head["ElementType"]]
    shape = tuple(map(int, head["DimSize"].split()))[::-1]
    order = ">" if head.get("BinaryDataByteOrderMSB", "False") == "True" else "<"
    return np.frombuffer(body, order + kind, int(np.prod(shape))).reshape(1, *shape).astype(float)

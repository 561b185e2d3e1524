"""What a NIfTI file says that SimpleITK does not pass on: NaN, sheared or missing grids, sizes and checksums."""

from __future__ import annotations

import math
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from AmbiguousSegLib.volume.file_checks import check_declared, cut_off, gunzipped, shown
from AmbiguousSegLib.volume.geometry import FILE_TOLERANCE, ORTHONORMAL_TOLERANCE

_BLOCK, _LONGEST = 1 << 22, 540  # bytes: read at once; of a header
_FLOATS = {16: "f4", 64: "f8"}  # data types by their codes
_UNITS = (0, 1, 2, 3)  # of length: not said, which is mm, metre, mm, micron; SimpleITK makes mm of them
_ITK_SHEAR = 5e-5  # SimpleITK reads matrices whose columns are perpendicular to about 1e-4
_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"  # environment: read a NIfTI whose matrix is not exactly orthonormal

_ENVIRONMENT = threading.RLock()


@dataclass(frozen=True)
class NiftiHeader:
    """Entries of a header.

    Attributes:
        direction: row-major 3×3, columns of unit length in LPS, where the matrix (sform) is not exactly orthonormal,
            so that SimpleITK refuses it: it lies within the tolerance of ``Geometry``. None: SimpleITK's is right.
    """

    order: str
    shape: tuple[int, ...]
    kind: int
    voxel_bytes: float
    start: int
    direction: tuple[float, ...] | None


def is_nifti(path: Path) -> bool:
    """True for a file of NIfTI by its name: ``.nii``, or ``.hdr`` and ``.img`` where the header says so."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return True
    header, data = _pair(path)
    if header is None or not header.is_file() or not data.is_file():
        return False
    with _opened(header) as blocks:
        return next(blocks, b"")[344:348] == b"ni1\0"


def _pair(path: Path) -> tuple[Path | None, Path]:
    """Files of header and of voxels; None and the file for a name that is neither's."""
    found = re.fullmatch(r"(.*)\.(hdr|img)(\.gz)?", path.name, re.IGNORECASE)
    if found is None:
        return None, path
    names = [f"{found[1]}.{kind}{found[3] or ''}" for kind in ("hdr", "img")]
    return path.with_name(names[0]), path.with_name(names[1])


@contextmanager
def permissive(header: NiftiHeader | None) -> Iterator[None]:
    """Have SimpleITK read the file of this header, if there is one, though its matrix is not exactly orthonormal.

    It knows no other way than the environment, which is then as it was. Files may be read by several threads: those
    that need no permission are read the same with it, and those that need it wait for each other.
    """
    if header is None or header.direction is None:
        yield
        return
    with _ENVIRONMENT:
        before = os.environ.get(_PERMISSIVE)
        os.environ[_PERMISSIVE] = "ON"
        try:
            yield
        finally:
            os.environ.pop(_PERMISSIVE)
            if before is not None:
                os.environ[_PERMISSIVE] = before


@contextmanager
def _opened(path: Path, size: int = _BLOCK) -> Iterator[Iterator[bytes]]:
    """Blocks of what a file holds, unpacked if it is a gzip stream."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield gunzipped(path, file, size) if packed else _blocks(file, size)


def nifti_header(path: Path) -> NiftiHeader:
    """Header of a NIfTI file, no voxel of which is read; ValueError as ``check_nifti`` raises for headers."""
    head = _pair(path)[0] or path
    with _opened(head, _LONGEST) as blocks:
        return _header(head, next(blocks, b""))


def check_nifti(path: Path) -> NiftiHeader:
    """Header of a NIfTI file whose grid is one and whose voxels are all there and finite, each byte read once.

    Raises:
        ValueError: not NIfTI; more declared than the file can hold; a spacing that is not positive; a sheared matrix,
            or one that contradicts the spacing; a file cut off or not agreeing with its checksum (gzip); NaN or
            infinity among floats, which SimpleITK would read as 0. One line.
    """
    head, data = _pair(path)
    with _opened(head or path) as blocks:
        first = next(blocks, b"")
        header = _header(head or path, first)
        if head is None:
            _check_rest(path, header, chain([first], blocks))
            return header
    header = replace(header, start=0)
    with _opened(data) as blocks:
        _check_rest(data, header, blocks)
    return header


def _check_rest(path: Path, header: NiftiHeader, blocks: Iterator[bytes]) -> None:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    held = path.stat().st_size - (0 if packed else header.start)
    check_declared(path, math.prod(header.shape), header.voxel_bytes, max(held, 0), packed)
    _check_voxels(path, header, blocks)


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while block := file.read(size):
        yield block


def _header(path: Path, data: bytes) -> NiftiHeader:
    """Parsed from the first bytes: offsets of nifti1.h."""
    for order in "<>":
        size = struct.unpack(f"{order}i", data[:4])[0] if len(data) >= 4 else 0
        if size in (348, 540):
            break
    else:
        raise ValueError(f"{shown(path)} is not NIfTI: its header does not begin as one; is it complete?")
    if len(data) < size:
        raise cut_off(path)
    if size == 540:
        raise ValueError(f"{shown(path)} is NIfTI-2, expected NIfTI-1, which SimpleITK reads; convert it.")
    dim = struct.unpack_from(f"{order}8h", data, 40)
    kind, bits = struct.unpack_from(f"{order}2h", data, 70)
    pixdim = struct.unpack_from(f"{order}8f", data, 76)
    start, slope, intercept = struct.unpack_from(f"{order}3f", data, 108)
    (code,) = struct.unpack_from(f"{order}h", data, 254)
    rows = struct.unpack_from(f"{order}12f", data, 280)
    if not 1 <= dim[0] <= 7 or min(dim[1 : 1 + dim[0]]) < 1 or bits < 1 or not math.isfinite(start) or start < 0:
        raise ValueError(
            f"{shown(path)} is damaged: its header declares {dim[0]} axes of {dim[1:8]}, {bits} bits a voxel, from "
            f"byte {start:g}; copy or download it again."
        )
    magic, pair = data[344:348], _pair(path)[0] is not None
    if magic != (b"ni1\0" if pair else b"n+1\0"):
        raise ValueError(
            f"{shown(path)} is no NIfTI of {'two files' if pair else 'one file'}: its header is marked {magic!r}; copy "
            "it again, or convert it."
        )
    if (unit := data[123] & 7) not in _UNITS:
        raise ValueError(f"{shown(path)}: lengths are in the unknown unit {unit}; correct xyzt_units in its header.")
    shape = dim[1 : 1 + dim[0]]
    spacing = pixdim[1 : 1 + min(3, dim[0])]
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(
            f"{shown(path)}: the spacing is {_text(spacing)}, expected positive numbers; correct pixdim in its header."
        )
    if math.isinf(slope) or (math.isfinite(slope) and slope != 0 and not math.isfinite(intercept)):
        raise ValueError(
            f"{shown(path)}: values are to be scaled by {slope:g} and moved by {intercept:g}; correct scl_slope."
        )
    direction = _direction(path, np.reshape(rows, (3, 4)), shape, spacing) if code > 0 else None
    return NiftiHeader(order, shape, kind, bits / 8, int(start), direction)


def _direction(path: Path, sform: np.ndarray, shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple | None:
    """``NiftiHeader.direction``; ValueError for a matrix that is sheared or is of another spacing."""
    axes = sform[:, :3].astype(float)
    lengths = np.linalg.norm(axes, axis=0)
    if not np.isfinite(sform).all() or not lengths.all():
        raise ValueError(
            f"{shown(path)}: its matrix (sform) is {_text(sform.ravel())}, expected finite axes; correct its header."
        )
    for size, length, distance in zip(shape, lengths, spacing):
        if abs(length - distance) * (size - 1 or 1) > FILE_TOLERANCE * distance:
            raise ValueError(
                f"{shown(path)}: its matrix (sform) has voxels of {_text(lengths)}, its pixdim of {_text(spacing)}; "
                "correct the header."
            )
    unit = axes / lengths
    shear = np.abs(unit.T @ unit - np.eye(3)).max()
    if shear > ORTHONORMAL_TOLERANCE:
        degrees = np.degrees(np.arcsin(min(shear, 1)))
        raise ValueError(
            f"{shown(path)} is sheared: axes of its matrix (sform) are up to {degrees:.2g}° from perpendicular; "
            "resample it onto a rectangular grid."
        )
    return tuple((unit * [[-1], [-1], [1]]).ravel().tolist()) if shear > _ITK_SHEAR else None


def _check_voxels(path: Path, header: NiftiHeader, blocks: Iterator[bytes]) -> None:
    """Every byte is read, so that gzip's checksum is verified; floats must be finite."""
    needed = math.ceil(math.prod(header.shape) * header.voxel_bytes)
    kind = np.dtype(header.order + _FLOATS[header.kind]) if header.kind in _FLOATS else None
    skipped, seen, rest = header.start, 0, b""
    for block in blocks:
        data = block[skipped:] if skipped < len(block) else b""
        skipped = max(0, skipped - len(block))
        data = data[: max(0, needed - seen)]
        seen += len(data)
        if kind is None:
            continue
        data = rest + data
        whole = len(data) // kind.itemsize * kind.itemsize
        rest = data[whole:]
        if not np.isfinite(np.frombuffer(data[:whole], kind)).all():
            raise ValueError(f"{shown(path)} holds NaN or infinite values; replace them before use.")
    if seen < needed:
        raise cut_off(path)


def _text(numbers: object) -> str:
    return " × ".join(f"{float(n):.6g}" for n in np.ravel(np.asarray(numbers, float))) + " mm"

"""What can be said of a file before it is read: whether it is one, and whether what it declares can be true."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from AmbiguousSegLib.files import check_file, check_name, shown, size_text

__all__ = ["check_declared", "check_file", "check_name", "cut_off", "gunzipped", "inflated", "memory_bytes", "shown"]
__all__ += ["size_text"]

_BLOCK = 1 << 22
_DEFLATE_RATIO = 1040  # no stream of deflate is more than 1,032 times smaller than what it holds
_OVERHEAD = 65_536


def memory_bytes() -> float:
    """Memory that this process may fill: of the machine or, if smaller, its own limit; infinity if unknown."""
    limits = [math.inf]
    with suppress(AttributeError, ValueError, OSError):  # Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        import resource
    except ImportError:
        return min(limits)
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min([*limits, own if own != resource.RLIM_INFINITY else math.inf])


def check_declared(path: Path | str, voxels: int, voxel_bytes: float, held: int | None, compressed: bool) -> None:
    """ValueError for a header that declares more than the file can hold or memory can take.

    Args:
        voxels: declared number; each of ``voxel_bytes``.
        held: bytes of the file that are left for them; None: not known.
        compressed: by deflate.
    """
    declared = voxels * voxel_bytes
    if held is not None and declared > held * (_DEFLATE_RATIO if compressed else 1) + (_OVERHEAD if compressed else 0):
        raise ValueError(
            f"{shown(path)} is cut off or damaged: its header declares {size_text(declared)} of voxels, the file holds "
            f"{size_text(held)}{' compressed' if compressed else ''}; copy or download it again."
        )
    needed = voxels * max(voxel_bytes, 4.0)  # they are computed with as float32
    if needed > memory_bytes():
        raise ValueError(
            f"{shown(path)} declares {voxels:,} voxels, which take {size_text(needed)}; this process has "
            f"{size_text(memory_bytes())}. Crop or resample it first."
        )


def cut_off(path: Path | str) -> ValueError:
    """The error to raise for a file that ends before its data does."""
    return ValueError(f"{shown(path)} is cut off: data is missing at its end. Copy or download it again.")


def _damaged(path: Path | str) -> ValueError:
    told = "its compressed data does not agree with its checksum"
    return ValueError(f"{shown(path)} is damaged: {told}. Copy or download it again.")


def gunzipped(path: Path | str, stream: BinaryIO, size: int = _BLOCK) -> Iterator[bytes]:
    """Blocks of what a gzip stream holds, its checksums verified at its end; ValueError where they do not agree."""
    try:
        with gzip.GzipFile(fileobj=stream) as unpacked:
            while block := unpacked.read(size):
                yield block
    except EOFError as error:
        raise cut_off(path) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path) from error


def inflated(path: Path | str, stream: BinaryIO) -> int:
    """Number of bytes that a zlib stream (MetaImage) holds, its checksum verified; ValueError as ``gunzipped``."""
    unpacking, total = zlib.decompressobj(), 0
    try:
        while not unpacking.eof and (block := unpacking.unconsumed_tail or stream.read(_BLOCK)):
            total += len(unpacking.decompress(block, _BLOCK))
    except zlib.error as error:
        raise _damaged(path) from error
    if not unpacking.eof:
        raise cut_off(path)
    return total

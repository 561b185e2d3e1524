"""Arrays of ``.npz`` files: their headers, and their values, of which each process holds a few."""

from __future__ import annotations

import lzma
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from AmbiguousSegLib.volume.file_checks import check_declared, check_file, shown
from AmbiguousSegLib.volume.npy_file import HEADER_ERRORS

_ARRAYS_HELD = 8  # images and masks of four files


@dataclass(frozen=True)
class ArrayHeader:
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def held_array(file: Path, name: str) -> np.ndarray:
    """``read_array``, once in each process for as long as the file does not change; the last eight are held."""
    check_file(file)
    return _held(file, file.stat().st_mtime_ns, name)


@lru_cache(maxsize=_ARRAYS_HELD)
def _held(file: Path, _changed: int, name: str) -> np.ndarray:
    return read_array(file, name)


def array_headers(file: Path) -> dict[str, ArrayHeader]:
    """Shape and type of each array of a file, by its name; ValueError, FileNotFoundError as ``read_array``."""
    check_file(file)
    with _one_line(file), zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        return {name: _header(archive, name) for name in names}


def _header(archive: zipfile.ZipFile, name: str) -> ArrayHeader:
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return ArrayHeader(shape, dtype)


def read_array(file: Path, name: str) -> np.ndarray:
    """An array, which cannot be written to, checked by the checksum of the archive.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: not an ``.npz``, or damaged; pickled objects; more declared than the file can hold or memory take.
    """
    check_file(file)
    with _one_line(file), zipfile.ZipFile(file) as archive:
        header, member = _header(archive, name), archive.getinfo(f"{name}.npy")
        if not header.dtype.hasobject:
            held, compressed = member.compress_size, member.compress_type != zipfile.ZIP_STORED
            check_declared(file, math.prod(header.shape), header.dtype.itemsize, held, compressed)
        with archive.open(f"{name}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            stream.read()  # to the end, where the checksum is compared
    if array.shape != header.shape:
        raise ValueError(f"{shown(file)} has changed while it was read; start again.")
    array.setflags(write=False)
    return array


@contextmanager
def _one_line(file: Path) -> Iterator[None]:
    """What zip files and numpy say of damage, in one line that names the file."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        KeyError,
        RuntimeError,
        ValueError,
        struct.error,
    ) as error:
        if str(error).startswith(shown(file)):
            raise
        told = re.sub(r" on line .*", "", " ".join(str(error).split()))
        raise ValueError(
            f"{shown(file)} cannot be read as .npz: {told[:200]}; save it anew with numpy.savez, without objects."
        ) from error
    except OSError as error:
        if error.errno is not None:  # not of the file's content
            raise
        raise ValueError(
            f"{shown(file)} cannot be read as .npz: its compressed data is damaged; copy it again."
        ) from error
    except HEADER_ERRORS as error:
        raise ValueError(
            f"{shown(file)} cannot be read as .npz: the header of an array is none of numpy's; save it anew with "
            "numpy.savez, without objects."
        ) from error

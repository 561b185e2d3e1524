"""A job's private folder: what the worker reads and writes lies there, and nowhere else."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

PREFIX = "AmbiguousSeg-"
SLAB_BYTES = 2 * 2**20  # written within a few milliseconds, even where the array must be put in order first


def make() -> Path:
    """New empty folder in the system's temporary folder. Raises OSError."""
    return Path(tempfile.mkdtemp(prefix=PREFIX))


def check(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError for a key that is no file name, or an array that a ``.npy`` file cannot hold safely."""
    for name, array in arrays.items():
        if not name or Path(name).name != name or array.dtype.hasobject:
            raise ValueError(f"Expected file names with plain arrays, got {name!r} with {array.dtype}.")


def write(folder: Path, arrays: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Write arrays as ``.npy``, slab by slab: each ``next`` takes milliseconds, whatever the size, order and dtype.

    Raises:
        OSError: no space or no permission.
    """
    for name, array in arrays.items():
        native = array.dtype.newbyteorder("=")
        header = {"descr": np.lib.format.dtype_to_descr(native), "fortran_order": False, "shape": array.shape}
        with (folder / name).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            slabs = np.nditer(
                array,
                flags=["external_loop", "buffered", "zerosize_ok"],
                op_flags=[["readonly", "contig"]],
                op_dtypes=[native],
                order="C",
                casting="equiv",
                buffersize=max(1, SLAB_BYTES // max(1, native.itemsize)),
            )
            for slab in slabs:
                file.write(slab)
                yield


def remove(folder: Path) -> None:
    """Remove the folder with all that is in it; what the system does not let go is named in the log."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        log.warning("Folder %s could not be removed; delete it by hand.", folder)

"""Arrays on their way into a job's folder, in pieces that keep nobody waiting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from AmbiguousSegBridge.worker.messages import check_file_names

SLAB_BYTES = 2 * 2**20  # written within a few milliseconds, even where the array must be put in order first


def check(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError for a key that is no file name, or an array that a ``.npy`` file cannot hold safely."""
    check_file_names(*arrays)
    for name, array in arrays.items():
        if array.dtype.hasobject or not name.endswith(".npy"):
            raise ValueError(f"Expected plain arrays for files .npy, got {name!r} with {array.dtype}.")


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

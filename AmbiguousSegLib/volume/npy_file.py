"""Arrays of ``.npy`` files, whatever lies there, with errors of one line."""

from __future__ import annotations

import math
from pathlib import Path
from tokenize import TokenError

import numpy as np

from AmbiguousSegLib.files import check_file, said, shown

HEADER_ERRORS = (SyntaxError, TokenError, RecursionError, TypeError, OverflowError, MemoryError)
"""What numpy lets through besides ValueError where the header of an array, which it reads as Python, is none."""


def read_npy(path: Path | str) -> np.ndarray:
    """The array of real numbers in a file, not yet read: its values are as they are asked for, and not to be changed.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as ``check_file``; not such a file, cut off, or of anything but
            real numbers.
    """
    check_file(path)
    try:
        with np.errstate(over="ignore"):  # of sizes, which are compared below
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (*HEADER_ERRORS, ValueError, EOFError) as error:
        told = "" if isinstance(error, HEADER_ERRORS) else f" ({said(error)[:100].partition('. ')[0]})"
        raise ValueError(f"{shown(path)} is no array that can be read{told}; write it anew with numpy.save.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        kind = array.dtype if isinstance(array, np.ndarray) else "an archive"
        raise ValueError(f"{shown(path)} holds {kind}, expected real numbers; write it anew with numpy.save.")
    if math.prod(array.shape) * array.dtype.itemsize > Path(path).stat().st_size:
        raise ValueError(f"{shown(path)} is no array that can be read: it is cut off; write it anew with numpy.save.")
    return array

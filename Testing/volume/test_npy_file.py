"""Arrays of ``.npy`` files that others wrote, or that are none."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from AmbiguousSegLib.volume.npy_file import read_npy

VALUES = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def raw(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("kind", ["?", "i1", "<u2", ">i4", "<f4", ">f8", "<f2"])
def test_real_numbers_are_read_as_they_are(tmp_path, kind):
    np.save(tmp_path / "a.npy", VALUES.astype(kind))
    found = read_npy(tmp_path / "a.npy")
    assert found.dtype == kind and np.array_equal(found, VALUES.astype(kind))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no array"),
        (b"text", "no array"),
        (raw(b"(" * 5000), "no array"),
        (raw(b"{" * 60_000), "no array"),
        (raw(b"{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }\n", b"1234"), "no array"),
        (raw(b"{'descr': '<i2', 'fortran_order': False, 'shape': (100000, 100000, 100000), }\n"), "no array"),
        (raw(b"{'descr': '<i2', 'fortran_order': False, 'shape': (99999999999, 99999999999), }\n"), "no array"),
        (raw(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"\x80\x04."), "no array"),
        (raw(b"{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }\n", bytes(8)), "complex64, expected real"),
        (raw(b"{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }\n", bytes(4)), "expected real numbers"),
        (raw(b"{'descr': '<M8[D]', 'fortran_order': False, 'shape': (1,), }\n", bytes(8)), "expected real numbers"),
    ],
)
def test_what_is_no_array_of_real_numbers_is_refused_in_one_line(tmp_path, data, words):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(ValueError, match=words) as error:
        read_npy(tmp_path / "a.npy")
    told = str(error.value)
    assert told.startswith(str(tmp_path / "a.npy")) and "\n" not in told and len(told) < 300 and "0x" not in told


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="is a FIFO"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_npy(tmp_path / "b.npy")
    np.savez(tmp_path / "c.npy.npz", a=VALUES)
    with pytest.raises(ValueError, match="an archive"):
        read_npy(tmp_path / "c.npy.npz")

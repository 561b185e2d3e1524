"""What the headers of NRRD and MetaImage say that SimpleITK does not pass on: units, spacings, sizes, checksums."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import BinaryIO

from AmbiguousSegLib.volume.file_checks import check_declared, cut_off, gunzipped, inflated, shown

_BYTES = {
    1: ("char", "int8"),
    2: ("short", "int16"),
    4: ("int", "int32", "float"),
    8: ("long long", "longlong", "int64"),
}
_META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_NO_SPACE = ("list", "vector", "point", "stub", "scalar", "complex")  # and what ends in -color, -vector, …
_UNITS_MM = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "")
_LONGEST_HEADER = 1 << 24
_MOST_LINES = 10_000  # of a header: for SimpleITK each costs as many steps as there are before it


def check_nrrd(path: Path) -> None:
    """Check what an NRRD header declares and, compressed by gzip, the checksum of its data.

    Raises:
        ValueError: units other than mm; a spacing that is 0, negative or NaN along an axis of space; more declared than
            the file can hold; compressed data that is cut off or does not agree with its checksum. One line.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"NRRD":
            return  # SimpleITK says what it is instead
        fields = _fields(path, file)
        _check_units(path, fields)
        _check_spacing(path, fields)
        if any(skip < -1 for skip in _whole_numbers(fields.get("byte skip", fields.get("byteskip", "")))):
            raise ValueError(f"{shown(path)}: byte skip is below -1, which NRRD does not know; correct its header.")
        sizes, voxel = _whole_numbers(fields.get("sizes", "")), _bytes_of(fields.get("type", ""))
        if not sizes or min(sizes) < 1 or voxel is None:
            return  # SimpleITK names what is wrong
        encoding = fields.get("encoding", "").lower()
        name = fields.get("data file", fields.get("datafile"))
        listed = [] if name is None else _data_files(path, name, file)
        if not listed and name is not None:
            raise ValueError(f"{shown(path)} lists no file of voxels; copy it again with all its files.")
        if name is None:
            held = path.stat().st_size - file.tell() if encoding in _ENCODINGS else None
            check_declared(path, math.prod(sizes), voxel, held, encoding != "raw")
            if encoding in ("gzip", "gz"):
                _check_gzip(path, file, math.prod(sizes) * voxel, fields)
            return
    for data in listed:
        check_data_file(path, data)
    check_declared(path, math.prod(sizes), voxel, None, False)
    needed = math.prod(sizes) * voxel // len(listed)  # each file holds as much
    for data in listed:
        held = data.stat().st_size if encoding in _ENCODINGS else None
        check_declared(data, math.prod(sizes) // len(listed), voxel, held, encoding != "raw")
        if encoding in ("gzip", "gz"):
            with open(data, "rb") as file:
                _check_gzip(data, file, needed, fields)


_ENCODINGS = ("raw", "gzip", "gz")


def _data_files(path: Path, name: str, file: BinaryIO) -> list[Path]:
    """Files of voxels that a header names: one, a list behind it (where ``file`` is), or a pattern of numbers."""
    names: list[str] = [name]
    count = 1
    if name.upper().startswith("LIST"):
        names = [line.strip() for line in file.read(_LONGEST_HEADER).decode("utf-8", "replace").splitlines()]
        names = [line for line in names if line]
        count = len(names)
    elif "%" in name:
        form, *words = name.rsplit(maxsplit=3)
        numbers = _whole_numbers(" ".join(words))
        if len(numbers) != 3 or not numbers[2] or re.fullmatch(r"[^%]*%0?\d{0,3}d[^%]*", form) is None:
            raise ValueError(f"{shown(path)}: {name!r} is no pattern of files as 's%03d.raw 1 9 1' is; correct it.")
        first, last, step = numbers
        found = range(first, last + (1 if step > 0 else -1), step)
        count, names = len(found), [form % number for number in found[:_MOST_LINES]]
    if count > _MOST_LINES:
        raise ValueError(
            f"{shown(path)} names {count:,} files of voxels, more than {_MOST_LINES:,}; write it as one file."
        )
    return [path.parent / one for one in names]


def check_data_file(path: Path, data: Path) -> None:
    """ValueError unless the file of voxels that a header names is one on disk: SimpleITK would wait for a FIFO."""
    if not data.is_file():
        kind = "is no file on disk" if data.exists() else "does not exist"
        raise ValueError(f"{shown(path)} names {shown(data)} for its voxels, which {kind}; put the file beside it.")


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """Fields of the header by name in lower case; the file is then at its data."""
    file.readline()
    fields: dict[str, str] = {}
    lines = 0
    while line := file.readline(_LONGEST_HEADER):
        lines += 1
        text = line.decode("utf-8", "replace").strip()
        if not text:
            break
        name, colon, value = text.partition(":")
        if colon and not text.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
        if name.strip().lower() in ("data file", "datafile") and value.strip().upper().startswith("LIST"):
            break  # the names follow
        if file.tell() > _LONGEST_HEADER or lines > _MOST_LINES:
            raise _endless(path)
    return fields


def _endless(path: Path) -> ValueError:
    return ValueError(
        f"{shown(path)} is damaged: its header does not end within {_MOST_LINES:,} lines or {_LONGEST_HEADER >> 20} "
        "MB; copy or download it again."
    )


def check_header_length(path: Path) -> None:
    """ValueError for an NRRD whose header has more lines than SimpleITK reads in a moment."""
    with open(path, "rb") as file:
        if file.read(4) == b"NRRD":
            _fields(path, file)


def _check_gzip(path: Path, file: BinaryIO, needed: int, fields: dict[str, str]) -> None:
    for _ in range(max(0, *_whole_numbers(fields.get("line skip", "0")), 0)):
        file.readline()
    if sum(map(len, gunzipped(path, file))) < needed:
        raise cut_off(path)


def _check_units(path: Path, fields: dict[str, str]) -> None:
    space = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    axes = re.findall(r'"([^"]*)"', fields.get("units", "")) if "space directions" not in fields else []
    kinds = fields.get("kinds", "").split()
    axes = [unit for k, unit in enumerate(axes) if not (k < len(kinds) and _no_space(kinds[k]))]
    for unit in (*space, *axes):
        if unit.strip().lower() not in _UNITS_MM:
            raise ValueError(
                f"{shown(path)}: lengths are in {unit!r}, expected mm; convert it, or correct units in its header."
            )


def _no_space(kind: str) -> bool:
    return kind.lower() in _NO_SPACE or kind.lower().endswith(("-color", "-vector", "-matrix")) or kind == "time"


def _check_spacing(path: Path, fields: dict[str, str]) -> None:
    kinds, sizes = fields.get("kinds", "").split(), fields.get("sizes", "").split()
    for k, number in enumerate(fields.get("spacings", "").split()):
        try:
            spacing = float(number)
        except ValueError:
            continue  # SimpleITK names it
        free = _no_space(kinds[k]) if k < len(kinds) else len(sizes) > 3 and k == 0
        if not (spacing > 0 and math.isfinite(spacing)) and not (free and math.isnan(spacing)):
            raise ValueError(
                f"{shown(path)}: the spacing of axis {k + 1} is {number}, expected a positive one; correct it."
            )
    for text in re.findall(r"\(([^)]*)\)", fields.get("space directions", "")):
        try:
            vector = [float(number) for number in text.split(",")]
        except ValueError:
            continue
        if not all(map(math.isfinite, vector)) or not any(vector):
            raise ValueError(
                f"{shown(path)}: the space direction ({text}) gives no positive spacing; correct its header."
            )


def _bytes_of(kind: str) -> int | None:
    """Of a voxel, by the many names that NRRD has for its types: "unsigned short int", "uint16_t", "ushort"."""
    plain = re.sub(r"^(unsigned |signed |u(?=[a-z]))", "", kind)
    plain = re.sub(r"( int|_t)$", "", plain)
    return 8 if kind == "double" else next((size for size, names in _BYTES.items() if plain in names), None)


def _whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split() if re.fullmatch(r"-?\d+", part)]


def check_meta_image(path: Path) -> None:
    """As ``check_nrrd``, for MetaImage (``.mha``, ``.mhd``), whose compressed data has a checksum of zlib."""
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(65_536), b"")):
            if number > _MOST_LINES or file.tell() > _LONGEST_HEADER:
                raise _endless(path)
            name, _, value = line.decode("utf-8", "replace").partition("=")
            fields[name.strip()] = value.strip()
            if name.strip() == "ElementDataFile":
                break
        start = file.tell()
    for name in ("ElementSpacing", "ElementSize"):
        numbers = fields.get(name, "").split()
        if name == "ElementSize" and "ElementSpacing" in fields:
            break
        if any(not _is_positive(number) for number in numbers):
            raise ValueError(
                f"{shown(path)}: {name} is {' × '.join(numbers)}, expected positive numbers; correct its header."
            )
    sizes = _whole_numbers(fields.get("DimSize", ""))
    voxel = _META_BYTES.get(re.sub(r"^MET_U?|_ARRAY$", "", fields.get("ElementType", "")))
    channels = (_whole_numbers(fields.get("ElementNumberOfChannels", "1")) or [1])[0]
    source = fields.get("ElementDataFile", "")
    data = path if source.upper() == "LOCAL" else path.parent / source
    if not sizes or min(sizes) < 1 or voxel is None or not source:  # SimpleITK would say it on standard error
        raise ValueError(
            f"{shown(path)} is no readable MetaImage: it needs DimSize, ElementType and ElementDataFile, got "
            f"{', '.join(repr(fields.get(name, '')) for name in ('DimSize', 'ElementType', 'ElementDataFile'))}."
        )
    if fields.get("NDims", "") != str(len(sizes)):  # SimpleITK reads more numbers than it has room for, and crashes
        raise ValueError(
            f"{shown(path)}: NDims is {fields.get('NDims', '')!r}, but DimSize gives {len(sizes)} number(s); correct "
            "its header."
        )
    if source.upper().startswith("LIST") or "%" in source:
        with open(path, "rb") as file:
            file.seek(start)
            for one in _data_files(path, source, file):
                check_data_file(path, one)
        return
    check_data_file(path, data)
    skip = start if data == path else 0
    packed = fields.get("CompressedData", "").lower() in ("true", "1")
    check_declared(path, math.prod(sizes) * channels, voxel, data.stat().st_size - skip, packed)
    if packed:
        with open(data, "rb") as file:
            file.seek(skip)
            if inflated(data, file) < math.prod(sizes) * channels * voxel:
                raise cut_off(data)


def _is_positive(number: str) -> bool:
    try:
        return 0 < float(number) < math.inf
    except ValueError:
        return True  # SimpleITK names it

"""The reader "list": cases that a file lists, CSV or JSON: files of images and masks, or arrays in ``.npz`` files.

The list is the data itself, or ``cases.csv``, ``cases.tsv`` or ``cases.json`` in the data folder. Paths in it are
relative to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Case, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.arrays import read_arrays
from AmbiguousSegLib.layouts.json_file import read_json
from AmbiguousSegLib.volume.file_checks import shown

_SUFFIXES = (".csv", ".tsv", ".json")
NAMES = tuple(f"cases{suffix}" for suffix in _SUFFIXES)


@LAYOUTS.register("list")
def recognise(folder: Path) -> Layout | None:
    """A file ``.csv``, ``.tsv`` or ``.json``, or a folder with ``cases.csv``, ``cases.tsv`` or ``cases.json``."""
    if folder.suffix.lower() in _SUFFIXES and folder.is_file():
        return Layout(f"list of cases {shown(folder.name)}")
    found = [name for name in NAMES if (folder / name).is_file()]
    return Layout(f"folder with the list of cases {', '.join(found)}") if found else None


@READERS.register("list")
def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[Case]:
    """All cases of a list, in its order.

    Raises:
        FileNotFoundError, ValueError: no list, or several; what it says cannot be read, or does not fit.
    """
    file = _list_in(folder)
    entries = read_json(file)
    entries = [entries] if isinstance(entries, dict) else entries
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{shown(file)} must hold an object for each case or .npz file, in a list; correct it.")
    cases: list[Case] = []
    for number, entry in enumerate(entries, start=1):
        try:
            cases += read_arrays(entry, file.parent, config, len(labels))
        except ValueError as error:
            raise ValueError(f"{shown(file)}, entry {number}: {error}") from error
    return cases


def _list_in(folder: Path) -> Path:
    if not folder.is_dir():
        return folder
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) != 1:
        there = f"holds {', '.join(file.name for file in found)}" if found else "holds no list"
        raise ValueError(f"{shown(folder)} {there}, expected one of {', '.join(NAMES)}; name the list itself as data.")
    return found[0]

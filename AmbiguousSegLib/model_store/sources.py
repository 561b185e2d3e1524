"""What a model is installed from, a folder or a zip: its files, looked at before anything is written.

A file from elsewhere may be anything. What is not known to belong to a model is refused by name, links are never
followed, and no name of the source becomes a path.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import IO

from AmbiguousSegLib.description import DESCRIPTION_FILE, WEIGHTS_FILE
from AmbiguousSegLib.files import check_file, check_name, shown, size_text

NOTES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "README.md", "README.txt")  # kept beside the model
LONGEST_NAME = 64
_MOST_BYTES = {WEIGHTS_FILE: 20_000_000_000, DESCRIPTION_FILE: 10_000_000, **dict.fromkeys(NOTES, 1_000_000)}
_MOST_FOLD = 100  # weights shrink to a half at best; a file that unpacks to more is made to fill a disk
_MOST_FILES = 100
_PASSED_OVER = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}  # what systems leave behind
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}


@dataclass(frozen=True)
class SourceFile:
    """A file of a source: its name without a folder, how many bytes it says to have, and what opens it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


@contextmanager
def opened(source: Path) -> Iterator[tuple[str, list[SourceFile]]]:
    """Name that a source gives its model, which is not checked yet, and the model's files; open during the block.

    Raises:
        FileNotFoundError, PermissionError: nothing there that can be read.
        ValueError: neither a folder nor a zip, missing files, or some that no model has. One line.
    """
    if source.is_dir():
        yield source.resolve().name, _checked(source, _of_folder(source))
        return
    check_file(source)
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(
            f"{shown(source)} is no zip that can be read ({error}), expected one, or a folder, with {DESCRIPTION_FILE} "
            f"and {WEIGHTS_FILE}; download or copy it again."
        ) from error
    with archive:
        folder, files = _of_zip(source, archive)
        yield folder or source.stem, _checked(source, files)


def checked_name(name: str) -> str:
    """A name by which a model can be stored on every system.

    Raises:
        ValueError: one that is empty, too long, a device of Windows, begins or ends oddly, or holds what no file's
            name holds everywhere.
    """
    check_name(name)
    wrong = ""
    if not 0 < len(name) <= LONGEST_NAME:
        wrong = f"it has {len(name)} characters, expected 1 to {LONGEST_NAME}"
    elif not name.isprintable() or re.search(r'[<>:"/\\|?*]', name):
        wrong = 'it holds a line break, another character that cannot be seen, or one of < > : " / \\ | ? *'
    elif name[0] in ".-~ " or name[-1] in ". ":
        wrong = "it begins with a dot, a dash, a tilde or a space, or ends with a dot or a space"
    elif name.split(".")[0].rstrip().upper() in _DEVICES:
        wrong = "it is a device of Windows"
    if wrong:
        raise ValueError(f"{name[: 2 * LONGEST_NAME]!r} cannot be the name of a model: {wrong}; give another name.")
    return name


def _of_folder(folder: Path) -> list[SourceFile]:
    files = []
    for entry in os.scandir(folder):
        if entry.name in _PASSED_OVER:
            continue
        if entry.is_symlink() or not entry.is_file(follow_symlinks=False):
            kind = "a link" if entry.is_symlink() else "a folder" if entry.is_dir() else "no file on disk"
            raise _odd(folder, entry.name, f"is {kind}")
        path = Path(entry.path)
        files.append(SourceFile(entry.name, path.stat().st_size, partial(FileIO, path)))
    return files


def _of_zip(source: Path, archive: zipfile.ZipFile) -> tuple[str, list[SourceFile]]:
    """Name of the one folder that holds the files, empty where there is none, and the files."""
    files, folders, entries = [], set(), archive.infolist()
    if len(entries) > _MOST_FILES:
        raise ValueError(f"{shown(source)} holds {len(entries)} files, a model has a few; install the model alone.")
    for entry in entries:
        name = entry.orig_filename  # as it is written; Python cuts it at the character of number 0
        parts = name.rstrip("/").split("/")
        if not name.isprintable() or "\\" in name or ":" in name or {"", ".", ".."} & set(parts):
            raise _odd(source, name, "has a name that leads out of the zip, or that no file has")
        if not _PASSED_OVER.isdisjoint(parts):
            continue
        kind = stat.S_IFMT(entry.external_attr >> 16)  # 0: made on a system without such kinds
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise _odd(source, name, "is a link or a device")
        if entry.is_dir():
            continue
        if entry.flag_bits & 1:
            raise _odd(source, name, "is encrypted")
        if entry.file_size > _MOST_FOLD * max(entry.compress_size, 1):
            raise _odd(source, name, f"would unpack to {size_text(entry.file_size)}")
        folders.add("/".join(parts[:-1]))
        files.append(SourceFile(parts[-1], entry.file_size, partial(archive.open, entry)))
    if len(folders) > 1:
        raise ValueError(
            f"{shown(source)} has files in several folders ({', '.join(sorted(map(repr, folders))[:3])}), expected one "
            "model in one folder; install each model by itself."
        )
    return "".join(folders).rpartition("/")[2], files


def _checked(source: Path, files: Iterable[SourceFile]) -> list[SourceFile]:
    """The files, the description first, if they are those of one model."""
    found: dict[str, SourceFile] = {}
    for file in files:
        if file.name not in _MOST_BYTES:
            raise _odd(source, file.name, "belongs to no model")
        if file.name in found:
            raise _odd(source, file.name, "is there twice")
        if file.size > _MOST_BYTES[file.name]:
            most = size_text(_MOST_BYTES[file.name])
            raise _odd(source, file.name, f"has {size_text(file.size)}, more than the {most} that it may have")
        found[file.name] = file
    missing = [name for name in (DESCRIPTION_FILE, WEIGHTS_FILE) if name not in found]
    if missing:
        raise ValueError(
            f"{shown(source)} holds no model: {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing; choose the folder or zip that holds both files."
        )
    return sorted(found.values(), key=lambda file: (file.name != DESCRIPTION_FILE, file.size))


def _odd(source: Path, name: str, what: str) -> ValueError:
    expected = ", ".join((DESCRIPTION_FILE, WEIGHTS_FILE, *NOTES))
    return ValueError(f"{shown(source)} was not installed: {name!r} {what}; it may hold {expected}, and nothing else.")

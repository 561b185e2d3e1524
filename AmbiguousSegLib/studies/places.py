"""Results of a case that are whole or not there, in one rename, and what a killed process left is put in order.

Everything is made in a folder ``.writing-OWNER`` within the study's folder, whose name tells the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from AmbiguousSegLib.files import shown
from AmbiguousSegLib.studies.locks import WRITING, remove_stale
from AmbiguousSegLib.studies.owners import Owner

_NEW, _OLD = "new", "old"


@contextlib.contextmanager
def whole_case(out: Path, name: str) -> Iterator[Path]:
    """An empty folder that becomes ``out/name`` when the block ends well, and is gone when it does not.

    Files in an earlier ``out/name`` stay in it, unless there are new ones of their names. The lock of the case is held
    by whoever calls this.

    Raises:
        OSError: it cannot be made or renamed. NotADirectoryError: ``out/name`` is a file.
    """
    target = out / name
    if os.path.lexists(target) and not target.is_dir():
        raise NotADirectoryError(f"{shown(target)} is a file; remove it, or choose another --out.")
    with _work(out) as work:
        (work / _NEW).mkdir()
        yield work / _NEW
        if target.exists():
            (work / _OLD).mkdir()
            target.rename(work / _OLD / name)
        try:
            (work / _NEW).rename(target)
        finally:
            _put_back(work, out)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file of a study, or of a case of one: all of it or nothing, wherever the process is killed.

    Raises:
        OSError: the folder has vanished, no space or no permission.
    """
    with _work(path.parent) as work:
        (work / path.name).write_bytes(data)
        os.replace(work / path.name, path)


def sweep(out: Path, names: Sequence[str] = ()) -> None:
    """Put in order what processes that are gone have left in a study's folder, and in those of the cases ``names``."""
    if not out.is_dir():
        return
    remove_stale(out)
    for folder in (out, *(out / name for name in names)):
        for work in list(folder.glob(f"{WRITING}*")) if folder.is_dir() else []:
            owner = Owner.parse(work.name.removeprefix(WRITING))
            if owner is None or not owner.gone:
                continue
            mine = folder / f"{WRITING}{Owner.this()}"
            with contextlib.suppress(OSError):  # another process was faster
                work.rename(mine)
                _put_back(mine, folder)
                shutil.rmtree(mine)


@contextlib.contextmanager
def _work(folder: Path) -> Iterator[Path]:
    work = folder / f"{WRITING}{Owner.this()}"
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put_back(work: Path, out: Path) -> None:
    """What was moved aside for a new result, into that, or where it was if there is none."""
    for old in (work / _OLD).iterdir() if (work / _OLD).is_dir() else ():
        target = out / old.name
        with contextlib.suppress(OSError):
            if not target.exists():
                old.rename(target)
                continue
        for entry in old.iterdir():
            if not os.path.lexists(target / entry.name):
                entry.rename(target / entry.name)

"""A case that one process at a time may do, whatever the file system.

A lock is a folder with one empty file in it, whose name tells the process that holds it. It is made elsewhere and
renamed to its place, which fails if one is there: so it is never without its owner, wherever a process is killed. If
that process has ended without letting go (killed, a power cut), the next one on the same machine removes it; of a
process on another machine nobody can tell, and a person has to.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from AmbiguousSegLib.studies.owners import Owner

SUFFIX, WRITING = ".lock", ".writing-"


class HeldError(Exception):
    """Another process has the lock."""

    def __init__(self, path: Path, owner: Owner | None) -> None:
        who = "another process" if owner is None else owner.in_words
        super().__init__(f"is being done by {who}; if that has ended, remove {path}")


def lock_of(folder: Path, name: str) -> Path:
    """What locks a case of a study's folder."""
    return folder / f".{name}{SUFFIX}"


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock until the block ends.

    Raises:
        HeldError: another process has it. OSError: it cannot be made.
    """
    me = Owner.this()
    made = path.with_name(f"{WRITING}{me}")
    made.mkdir()
    try:
        (made / str(me)).touch()
        if not _placed(made, path):
            raise HeldError(path, _owner_of(path))
        try:
            yield
        finally:
            _let_go(path, me)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def remove_stale(folder: Path) -> None:
    """Let go of all locks in a folder whose processes are gone."""
    for path in folder.glob(f".*{SUFFIX}"):
        _removed_if_stale(path)


def _placed(made: Path, path: Path) -> bool:
    """Whether the folder could take the place of the lock."""
    for last in (False, True):
        try:
            made.rename(path)  # over an empty folder, too, which is one that is just being let go of
            return True
        except OSError:
            if not path.is_dir():
                if last:
                    raise
                continue
            if last or not _removed_if_stale(path):
                return False
    return False


def _removed_if_stale(path: Path) -> bool:
    """Whether there was a lock that nobody held any more."""
    owner = _owner_of(path)
    if owner is not None and not owner.gone:
        return False
    if owner is not None:
        _let_go(path, owner)  # this one's alone: whoever has put another in its place meanwhile keeps that
        return True
    with contextlib.suppress(OSError):
        path.rmdir()  # only if it is empty
        return True
    return False


def _let_go(path: Path, owner: Owner) -> None:
    with contextlib.suppress(OSError):  # whoever else found it stale was faster, or its folder has vanished
        (path / str(owner)).unlink()
        path.rmdir()


def _owner_of(path: Path) -> Owner | None:
    with contextlib.suppress(OSError):
        for entry in path.iterdir():
            return Owner.parse(entry.name)
    return None

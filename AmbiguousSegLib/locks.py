"""A folder that one process at a time may work in."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

_PLACE = 2**20  # of the byte that is locked: far beyond the text, which others may then read, on Windows too


@contextlib.contextmanager
def only_one(folder: Path, file: str) -> Iterator[None]:
    """Hold ``folder`` for this process until the block ends, by a lock on ``file`` in it. Both are made if needed.

    The system holds the lock and lets go of it when the process ends, however it does; the text in the file only says
    who has it. So a process id that was given to another process misleads nobody.

    Raises:
        BlockingIOError: somebody has it, this process included; who, is said.
        OSError: no permission, or a disk that knows no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _take(descriptor):
            raise BlockingIOError(f"{folder} is in use by {_holder(path)}; wait for it, or take another folder.")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
            _release(descriptor)
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        said = json.loads(path.read_bytes())
        return f"process {said['pid']} on {said['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> bool:
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True

    def _release(descriptor: int) -> None:
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

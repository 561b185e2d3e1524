"""Folders for jobs: what the worker reads and writes lies there, and nowhere else; no dead process leaves one.

Each is held by the process that has made it, by a lock that the system lets go of with the process: who can take the
lock, removes what was left. A process id would say less, as the system gives it away again.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from AmbiguousSegLib.locks import only_one

log = logging.getLogger(__name__)

PREFIX, OWNER = "AmbiguousSeg-", "owner.lock"
TRIES = 3


class JobFolder:
    """A new empty folder in the system's temporary folder, which is this process's until ``remove``.

    Raises:
        OSError: no space, no permission.
    """

    def __init__(self) -> None:
        for left in reversed(range(TRIES)):
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            try:
                with ExitStack() as held:
                    held.enter_context(only_one(self.path, OWNER))
                    if not (self.path / OWNER).exists():
                        raise BlockingIOError(f"{self.path} was swept away.")
                    self._held = held.pop_all()
                return
            except OSError as error:
                shutil.rmtree(self.path, ignore_errors=True)
                if left == 0 or not isinstance(error, BlockingIOError):  # else a sweep came before the lock
                    raise

    def remove(self) -> None:
        """Remove the folder with all that is in it; what the system does not let go is named in the log."""
        self._held.close()  # first: Windows removes no file that is open
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.exists():
            log.warning("Folder %s could not be removed; delete it by hand.", self.path)


def checked(folder: str, temporary: Path) -> Path:
    """The path of a folder as ``JobFolder`` makes them in ``temporary``, there or not; ValueError for any other."""
    try:
        path = Path(folder).resolve()
        if path.parent == temporary.resolve() and path.name.startswith(PREFIX):
            return path
    except (OSError, ValueError, RuntimeError):  # a character of number 0; links in a circle
        pass
    raise ValueError(f"Expected a folder {PREFIX}… of this program in {temporary}, got {folder[:200]!r}.")


def is_owned(folder: Path) -> bool:
    """Whether a process has made it, which may have ended; false as soon as somebody has begun to remove it."""
    return (folder / OWNER).is_file()


def sweep(temporary: Path) -> None:
    """Remove the folders in ``temporary`` whose processes have died; whose owner is not known stay."""
    for found in sorted(temporary.glob(f"{PREFIX}*")):
        try:
            folder = checked(str(found), temporary)
            if not is_owned(folder):
                continue
            with only_one(folder, OWNER):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError):  # in use, another user's, or not made by this program
            continue
        shutil.rmtree(folder, ignore_errors=True)  # on Windows the lock could not go as long as it was held
        log.info("Removed %s, which a process left that has ended.", folder)

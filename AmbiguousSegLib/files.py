"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Temporary name beside ``path``, renamed to it when the block ends well and removed when it does not.

    The temporary name keeps the suffixes of ``path`` (``.seg.nrrd``), by which writers choose their format. The parent
    folder is made if needed.

    Raises:
        OSError: from writing or renaming (no space, no permission); ``path`` is then as it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(6)}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_together(folder: Path | str, write: Callable[[Path], Sequence[str]]) -> list[Path]:
    """Files that belong together: all are complete before the first takes its place in ``folder``.

    Args:
        folder: is made if needed.
        write: writes the files into the temporary folder it is given and returns their names, in the order in which
            they take their places; files of those names are replaced.

    Returns:
        The files in ``folder``, in that order.

    Raises:
        What ``write`` raises, and OSError from renaming; nothing half-written remains, nor a folder made for it.
    """
    folder = Path(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as temporary:
            names = list(write(Path(temporary)))
            for name in names:
                os.replace(Path(temporary) / name, folder / name)
    except BaseException:
        for place in made:  # only folders that are ours and empty again
            if place.exists() and not any(place.iterdir()):
                place.rmdir()
        raise
    return [folder / name for name in names]

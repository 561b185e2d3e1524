"""Files: whether something is one that can be read, and writing so that a reader never meets half of one."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class _Work:
    """What must be undone if files do not all take their places: folders made for them, and moves, from and to."""

    made: list[Path] = field(default_factory=list)
    moves: list[tuple[Path, Path]] = field(default_factory=list)

    def move(self, source: Path, target: Path) -> None:
        self.moves.append((source, target))  # before it is done: an interruption must not fall in between
        os.replace(source, target)


_NO_MEMORY = ("not enough memory: you", "can't allocate memory", "CUDA out of memory")  # as torch says it
_lock = threading.RLock()  # held while files take their places
_under_way: dict[Path, _Work] = {}  # by temporary file or folder
_removed: set[Path] = set()  # by remove_unfinished; a thread that still writes must not make them again


def said(error: Exception, less: str = "sample fewer, or a region or fewer slices") -> str:
    """What an exception says, in one line; of the system's, without its number: "f.nrrd: no such file or directory".

    Of memory that was not there, by whoever asked for it, how much it was and what to do.

    Args:
        less: what needs less memory.
    """
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        asked = re.search(r"allocate ([\d.]+ ?[KMGT]?i?(?:B|bytes))", str(error))
        amount = asked[1] if asked else ""
        if amount.endswith(" bytes"):
            amount = size_text(float(amount.removesuffix(" bytes")))
        told = f" ({amount} were asked for)" if amount else ""
        return f"there is not enough memory{told}; {less}."
    if isinstance(error, OSError) and error.strerror:
        told = error.strerror[:1].lower() + error.strerror[1:]
        name = "" if error.filename is None else shown(error.filename)
        return f"{name}: {told}; check path, permission and space." if name else f"{told}; check permission and space."
    return " ".join(str(error).split())


def shown(path: Path | str) -> str:
    """A path for messages: bytes that are not UTF-8 as ``\\xe9``, so that it can be printed everywhere."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_file(path: Path | str) -> None:
    """One line for what is no readable file, before anything is read from it.

    Raises:
        FileNotFoundError, PermissionError: nothing there, a link to nothing, no permission.
        ValueError: a FIFO, device or socket, which would be waited for; a name that is not UTF-8, on which SimpleITK
            ends the process.
    """
    try:
        mode = Path(path).stat().st_mode
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no path: it holds the character of number 0; correct it.") from error
    except FileNotFoundError as error:
        link = f" (a link to {shown(Path(path).readlink())})" if Path(path).is_symlink() else ""
        raise FileNotFoundError(f"{shown(path)}{link} does not exist; check the path.") from error
    except OSError as error:
        raise type(error)(f"{shown(path)} cannot be opened ({error.strerror}); check path and permission.") from error
    if stat.S_ISDIR(mode):
        raise ValueError(f"{shown(path)} is a folder, expected a file.")
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise ValueError(f"{shown(path)} is {kind}, expected a file on disk; copy the data to a file.")
    check_name(path)
    try:
        open(path, "rb").close()
    except OSError as error:
        raise type(error)(f"{shown(path)} cannot be opened ({error.strerror}); check its permission.") from error


def check_name(path: Path | str) -> None:
    """ValueError for a name that is not UTF-8, or holds the character of number 0."""
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r} is no path: it holds the character of number 0; correct it.")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{shown(path)}: the name is not UTF-8, as it must be; rename it.") from error


def size_text(size: float) -> str:
    """Bytes in words: "3.2 GB"."""
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Temporary name beside ``path``, renamed to it when the block ends well and removed when it does not.

    The temporary name keeps the suffixes of ``path`` (``.seg.nrrd``), by which writers choose their format. The parent
    folder is made if needed.

    Raises:
        OSError: from writing or renaming (no space, no permission); ``path`` is then as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(6)}.{path.name}")
    with _lock:
        if not _removed.isdisjoint(path.parents):
            raise OSError(f"{path} was not written: this process is about to end.")
        path.parent.mkdir(parents=True, exist_ok=True)
        _under_way[temporary] = _Work()
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with _lock:
            _under_way.pop(temporary, None)
        temporary.unlink(missing_ok=True)


def write_together(
    folder: Path | str, write: Callable[[Path], Sequence[str]], surplus: Sequence[str] = ()
) -> list[Path]:
    """Files that belong together: all are complete before the first takes its place in ``folder``.

    What they replace is moved aside first, and back if one of them cannot take its place (on Windows, when another
    program has an earlier one open).

    Args:
        folder: is made if needed.
        write: writes the files into the temporary folder it is given and returns their names, in the order in which
            they take their places; files of those names are replaced.
        surplus: names of files in ``folder`` that go when the new ones come, as those of an earlier result.

    Returns:
        The files in ``folder``, in that order.

    Raises:
        What ``write`` raises, and OSError from renaming; nothing half-written remains, nor a folder made for it.
    """
    folder = Path(folder)
    temporary = folder / f".writing-{secrets.token_hex(6)}"
    new, old = temporary / "new", temporary / "old"
    work = _Work(made=[place for place in (folder, *folder.parents) if not place.exists()])
    try:
        with _lock:
            _under_way[temporary] = work
            folder.mkdir(parents=True, exist_ok=True)
            new.mkdir(parents=True)
            old.mkdir()
        names = list(write(new))
        name = ""
        with _lock:
            try:
                for name in dict.fromkeys([*names, *surplus]):
                    if (folder / name).is_file():  # a folder of that name stays; no file can replace it
                        work.move(folder / name, old / name)
                for name in names:
                    work.move(new / name, folder / name)
            except OSError as error:
                told = f"{folder / name} cannot be replaced ({error.strerror}); does another program have it open?"
                raise OSError(told) from error
            work.made.clear()
            work.moves.clear()  # all are in place; the old ones may go
    finally:
        with _lock:
            _under_way.pop(temporary, None)
            undone = _undo(temporary, work)
        if not undone:
            raise OSError(f"{folder} is incomplete, as a file there is in use; the earlier files are in {old}.")
    return [folder / name for name in names]


def remove_unfinished() -> None:
    """Remove the temporary files and folders that this process has under way; files they were to replace are back.

    For a process that is about to end at once (``os._exit``) while other threads write; their writing fails. Windows
    keeps what is open.
    """
    with _lock:
        for temporary in list(_under_way):
            _removed.add(temporary)
            _undo(temporary, _under_way.pop(temporary))


def _undo(temporary: Path, work: _Work) -> bool:
    """Move files back and remove what is temporary; False, and it is kept, if a file cannot be moved back."""
    undone = True
    while work.moves:
        source, target = work.moves.pop()
        if not os.path.lexists(source):  # else it was never moved
            try:
                os.replace(target, source)
            except OSError:
                undone = False
    if undone:
        with suppress(OSError):  # under another name first, so that no thread adds a file while others are removed
            temporary = temporary.rename(temporary.with_name(f"{temporary.name}.removed"))
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # a file, of replacing
        for place in work.made:
            with suppress(OSError):  # not empty: others write there, too
                place.rmdir()
    return undone

"""The models there are: list, install, verify and remove them.

Whatever reads weights does it in steps of a few milliseconds, so that a window that shows them stays alive: a generator
gives the share that is done, in [0, 1], and returns what was found. Closing it before its end leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from AmbiguousSegLib.description import DESCRIPTION_FILE, WEIGHTS_FILE, ModelDescription, read_description
from AmbiguousSegLib.files import said, shown, size_text
from AmbiguousSegLib.model_store.sources import SourceFile, checked_name, opened
from AmbiguousSegLib.resources import bundled_models, installed_models, models_folder

BUNDLED, INSTALLED, FOLDER = "bundled", "installed", "folder"
_BLOCK = 1 << 20  # bytes that are read at once: some milliseconds
_UNFINISHED = ".unfinished-"
_FORGOTTEN_S = 86_400.0  # an installation that has not moved for a day was killed

T = TypeVar("T")
Steps = Generator[float, None, T]
"""Work in steps: gives the share done, in [0, 1], and returns a T."""


class NameTakenError(ValueError):
    """Another model of this name is installed; ``name`` is that of the model, ``folder`` where it is."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(f"Another model {name!r} is installed in {folder}; replace it, or give this one another name.")
        self.name, self.folder = name, folder


@dataclass(frozen=True)
class StoredModel:
    """A model that can be chosen.

    Attributes:
        name: by which it is chosen; of a folder elsewhere its path.
        folder: where it is.
        source: ``BUNDLED``, ``INSTALLED`` or ``FOLDER``.
        description: what it says of itself; None where that cannot be read.
        problem: why it cannot, in one line; empty otherwise. The weights are not read for it.
    """

    name: str
    folder: Path
    source: str
    description: ModelDescription | None
    problem: str = ""


def list_models(folders: Sequence[Path] = ()) -> list[StoredModel]:
    """The bundled models, those that were installed, and those of ``folders``; without reading any weights."""
    found = [_stored(folder.name, folder, BUNDLED) for folder in bundled_models()]
    found += [_stored(folder.name, folder, INSTALLED) for folder in installed_models()]
    return found + [_stored(str(folder), folder, FOLDER) for folder in folders]


def finish(steps: Steps[T], tell: Callable[[float], None] = lambda _share: None) -> T:
    """Take all steps at once; what they return. ``tell`` is called with the share done."""
    while True:
        try:
            tell(next(steps))
        except StopIteration as end:
            return end.value


def verification(folder: Path) -> Steps[str]:
    """Read a model's weights: why they cannot be used, in one line; nothing if ``model.json`` names just these."""
    try:
        description = read_description(folder)
        with (folder / WEIGHTS_FILE).open("rb") as weights:
            checksum = yield from _hashed(weights, description.weights_bytes)
    except (OSError, ValueError) as error:
        return said(error)
    return "" if checksum == description.weights_sha256 else _other_weights(folder / WEIGHTS_FILE)


def installation(source: Path, name: str | None = None, replace: bool = False) -> Steps[StoredModel]:
    """Copy a model into the user's folder of models, whole or not at all, and check its weights on the way.

    A model that was there with the same description is installed again, which repairs it.

    Args:
        source: a folder or a zip with ``model.json`` and ``model.safetensors``.
        name: by which it shall be known; None: that of the folder.
        replace: whether another model of that name may go.

    Raises:
        NameTakenError: it may not.
        ValueError: no model, files that belong to no model, weights that are not those that the description names, a
            name that cannot be, or one of a bundled model. One line; nothing was changed.
        OSError: nothing there, no space, no permission.
    """
    store = models_folder()
    with opened(source) as (own_name, files):
        name = checked_name(own_name if name is None else name)
        target = _place(name)
        store.mkdir(parents=True, exist_ok=True)
        _sweep(store)
        temporary = store / f"{_UNFINISHED}{secrets.token_hex(6)}"
        temporary.mkdir()
        try:
            yield from _copied(source, files, temporary, None if replace else target)
            _take_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):
                store.rmdir()  # empty: it was made for nothing
    return _stored(target.name, target, INSTALLED)


def remove(name: str) -> None:
    """Remove an installed model.

    Raises:
        ValueError: no installed model has this name; the message lists those that have.
        OSError: its files are in use, or no permission; it is still there.
    """
    folder = {folder.name: folder for folder in installed_models()}.get(name)
    if folder is None:
        known = ", ".join(folder.name for folder in installed_models()) or "none"
        raise ValueError(f"{name!r} is no installed model and was not removed (installed: {known}).")
    aside = folder.with_name(f"{_UNFINISHED}{secrets.token_hex(6)}")  # at once, for whoever lists the models meanwhile
    _renamed(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)  # what is open on Windows goes with the next installation


def _stored(name: str, folder: Path, source: str) -> StoredModel:
    try:
        return StoredModel(name, folder, source, read_description(folder))
    except (OSError, ValueError) as error:
        return StoredModel(name, folder, source, None, said(error))


def _place(name: str) -> Path:
    """Where a model of this name is, or will be; names that differ only in case are one, as on Windows and macOS."""
    if any(folder.name.casefold() == name.casefold() for folder in bundled_models()):
        raise ValueError(f"{name!r} is the name of a bundled model; give this one another name.")
    there = [folder for folder in installed_models() if folder.name.casefold() == name.casefold()]
    return there[0] if there else models_folder() / name


def _copied(source: Path, files: Sequence[SourceFile], folder: Path, kept: Path | None) -> Steps[None]:
    """Copy the files, the description first, and check that they are a model; ``kept``: one that may not go."""
    total, done, checksum = sum(file.size for file in files), 0, ""
    free = shutil.disk_usage(folder).free
    if total > free:
        raise OSError(
            f"{shown(source)} needs {size_text(total)}, {size_text(free)} are free where {folder.parent} is; remove "
            "something there."
        )
    for file in files:
        try:
            with file.open() as read, (folder / file.name).open("xb") as written:
                steps = _hashed(read, file.size, written)
                try:
                    while True:
                        yield (done + next(steps) * file.size) / max(total, 1)
                except StopIteration as end:
                    checksum = end.value if file.name == WEIGHTS_FILE else checksum
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{shown(source)} is damaged ({said(error)}); download or copy it again.") from error
        done += file.size
        if file.name == DESCRIPTION_FILE and kept is not None and _is_another(kept, folder / file.name):
            raise NameTakenError(kept.name, kept)
    try:
        description = read_description(folder)
    except ValueError as error:
        raise ValueError(str(error).replace(str(folder), shown(source))) from error
    if checksum != description.weights_sha256:
        raise ValueError(_other_weights(source))


def _hashed(read: IO[bytes], size: int, copy: IO[bytes] | None = None) -> Steps[str]:
    """Checksum of ``size`` bytes, after which the file must end; they are copied on the way."""
    checksum, done = hashlib.sha256(), 0
    while block := read.read(_BLOCK):
        done += len(block)
        if done > size:
            break
        checksum.update(block)
        if copy is not None:
            copy.write(block)
        yield done / size
    if done != size:
        raise ValueError(
            f"A file has {'more' if done > size else 'fewer'} than the {size:,} bytes that it says to have."
        )
    return checksum.hexdigest()


def _is_another(folder: Path, description: Path) -> bool:
    """Whether a model is there that is described otherwise; one whose description is lost counts as another."""
    try:
        return (folder / DESCRIPTION_FILE).read_bytes() != description.read_bytes()
    except FileNotFoundError:
        return folder.exists()


def _take_place(temporary: Path, target: Path) -> None:
    """Rename a finished folder to its name; what was there goes, and comes back if that fails."""
    aside = None
    if target.exists():
        aside = target.with_name(f"{_UNFINISHED}{secrets.token_hex(6)}")
        _renamed(target, aside)
    try:
        _renamed(temporary, target)
    except OSError:
        if aside is not None:
            os.replace(aside, target)
        raise
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def _renamed(folder: Path, name: Path) -> None:
    try:
        os.replace(folder, name)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be renamed ({error.strerror}); check permission, and whether a program has it open."
        ) from error


def _sweep(store: Path) -> None:
    """Remove what killed installations left."""
    for folder in store.glob(f"{_UNFINISHED}*"):
        if time.time() - folder.stat().st_mtime > _FORGOTTEN_S:
            shutil.rmtree(folder, ignore_errors=True)


def _other_weights(place: Path) -> str:
    return (
        f"{shown(place)}: the weights are not those that {DESCRIPTION_FILE} names (their sha256 is another): they were "
        "damaged, or belong to another model; download or copy the model again."
    )

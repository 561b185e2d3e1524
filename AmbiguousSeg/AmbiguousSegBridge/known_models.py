"""The models that the panels offer: bundled ones, and folders that the user has chosen before."""

from __future__ import annotations

import json
from pathlib import Path

import slicer

from AmbiguousSegLib.description import DESCRIPTION_FILE, WEIGHTS_FILE, ModelDescription, read_description
from AmbiguousSegLib.resources import bundled_models, find_model, installed_models

MODEL_FOLDERS = "AmbiguousSeg/ModelFolders"  # of the user, in the application's settings

_read: dict[Path, tuple[list[tuple[int, int]], ModelDescription]] = {}  # by folder; with time and size of its files


def describe(name: str) -> ModelDescription:
    """Description of a model by name or folder (empty: the default one), read again only where its files have changed.

    Raises:
        OSError, ValueError: it is not there or cannot be read.
    """
    folder = find_model(name or None)
    try:
        stats = [(folder / name).stat() for name in (DESCRIPTION_FILE, WEIGHTS_FILE)]
    except OSError:
        return read_description(folder)  # which says what is missing
    state = [(stat.st_mtime_ns, stat.st_size) for stat in stats]
    if folder not in _read or _read[folder][0] != state:
        _read[folder] = state, read_description(folder)
    return _read[folder][1]


def model_names(chosen: str) -> list[str]:
    """Names of bundled models, then folders; the one that is chosen is among them."""
    names = [folder.name for folder in [*bundled_models(), *installed_models()]] + remembered_folders()
    return list(dict.fromkeys([*names, chosen]))


def remember(folder: str) -> None:
    """Offer a model's folder from now on, in later sessions, too."""
    slicer.app.settings().setValue(MODEL_FOLDERS, json.dumps(list(dict.fromkeys([*remembered_folders(), folder]))))


def remembered_folders() -> list[str]:
    """Folders that the user has chosen before, those that still exist."""
    try:
        folders = json.loads(slicer.app.settings().value(MODEL_FOLDERS, "[]"))
    except (TypeError, ValueError):  # written by another version
        return []
    return [folder for folder in folders if Path(folder).is_dir()]

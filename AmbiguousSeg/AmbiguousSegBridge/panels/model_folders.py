"""Folders of models that the user chose where they lie, remembered in the application's settings."""

from __future__ import annotations

import json
from pathlib import Path

import slicer

SETTING = "AmbiguousSeg/ModelFolders"


def remembered_folders() -> list[Path]:
    """Those that still exist, in the order in which they were chosen."""
    try:
        folders = json.loads(slicer.app.settings().value(SETTING, "[]"))
    except (TypeError, ValueError):  # written by another version
        return []
    return [Path(folder) for folder in folders if Path(folder).is_dir()]

"""The one place where tests look for data that is not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
VARIABLE = "AMBIGUOUSSEG_SHARED"


def shared_path(relative: str) -> Path:
    """``relative`` below ``$AMBIGUOUSSEG_SHARED`` (by default ``../shared``); skips the test if it is absent."""
    path = Path(os.environ.get(VARIABLE, REPOSITORY.parent / "shared")) / relative
    if not path.exists():
        pytest.skip(f"{relative} is not part of the repository; set {VARIABLE} to the folder that holds it")
    return path

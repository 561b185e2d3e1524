"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import one_thread, write_cases  # noqa: F401 (for every test here)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Folder of drawn cases."""
    return write_cases(tmp_path_factory.mktemp("data") / "cases")

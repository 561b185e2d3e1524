"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import write_cases


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Folder of drawn cases."""
    return write_cases(tmp_path_factory.mktemp("data") / "cases")

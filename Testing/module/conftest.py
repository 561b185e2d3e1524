"""The module as a user has it: the real .ui and the real worker, in the stand-in of the Slicer application."""

from __future__ import annotations

import tempfile

import pytest
from module_driver import Driver
from SlicerHost.fixtures import slicer_host  # noqa: F401


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Where ``Driver.sampled`` keeps what it has sampled."""
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture
def driver(slicer_host, tmp_path, scenes, monkeypatch):  # noqa: F811
    """The module opened in a new scene; temporary folders lie in ``tmp_path / "temporary"``."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for pace in (
        "scene.checksums.READING_S",
        "scene.upkeep.COUNTING_S",
    ):  # one call does all, however busy the machine is
        monkeypatch.setattr(f"AmbiguousSegBridge.{pace}", 600.0)
    return Driver(slicer_host, tmp_path / "temporary", scenes)

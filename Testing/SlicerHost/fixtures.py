"""pytest fixtures of the stand-in: ``from SlicerHost.fixtures import slicer_host  # noqa: F401``."""

from __future__ import annotations

import pytest

from SlicerHost import dialogs, errors, lifecycle


@pytest.fixture
def slicer_host():
    """The stand-in with a new scene (``lifecycle``).

    Afterwards modules are unloaded, as when Slicer quits; an exception in a slot, observer or timer that the test has
    not taken (``errors.take``) fails it, and so does an expected question that was not asked.
    """
    lifecycle.install()
    try:
        yield lifecycle
        unasked = dialogs.unasked()
        lifecycle.unload_all()
        errors.check()
        assert not unasked, f"Never asked: {unasked}"
    finally:
        lifecycle.uninstall()

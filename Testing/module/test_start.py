"""What the module does when Slicer loads it, at its start or later."""

from __future__ import annotations

import pytest
import slicer
from AmbiguousSegBridge.scene import sample_data
from shared_data import REPOSITORY
from SlicerHost.scripted import ModuleParent


@pytest.mark.parametrize(("window", "times"), [(None, 0), (object(), 1)])
def test_a_module_added_to_a_running_slicer_registers_its_sample_data_at_once(driver, monkeypatch, window, times):
    """At Slicer's start there is no window yet when modules are made; ``startupCompleted`` follows."""
    import AmbiguousSeg

    registered = []
    monkeypatch.setattr(sample_data, "register", lambda: registered.append(True))
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: window)
    AmbiguousSeg.AmbiguousSeg(ModuleParent(REPOSITORY / "AmbiguousSeg" / "AmbiguousSeg.py"))
    driver.settle()
    assert len(registered) == times
    slicer.app.startupCompleted.emit()
    assert len(registered) == times + 1

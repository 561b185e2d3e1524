"""The interpreter of the worker: PythonSlicer has Slicer's packages, but no application."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def slicer_python() -> Path | None:
    """PythonSlicer of the Slicer that runs, which another on the PATH must not replace; None outside of Slicer."""
    app = getattr(sys.modules.get("slicer"), "app", None)
    if app is None:
        return None
    own = [Path(app.slicerHome) / "bin" / name for name in ("PythonSlicer", "PythonSlicer.exe")]
    found = next((path for path in own if path.is_file()), None) or shutil.which("PythonSlicer")
    return Path(found) if found else None


def find_python() -> Path:
    """PythonSlicer, and outside of Slicer this interpreter.

    Raises:
        FileNotFoundError: neither.
    """
    if found := slicer_python():
        return found
    if not Path(sys.executable or "").name.lower().startswith("python"):  # it may be Slicer's own program
        raise FileNotFoundError("PythonSlicer was found neither in Slicer's folder nor on the PATH.")
    return Path(sys.executable)

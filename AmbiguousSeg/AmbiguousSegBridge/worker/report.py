"""What a job tells while it runs, and what is told when it fails; in the worker process."""

from __future__ import annotations

import errno
import math
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from AmbiguousSegLib.files import said

if TYPE_CHECKING:
    from AmbiguousSegLib.volume.crops import Crop  # loads NumPy, whose absence this file must be able to tell

PROGRESS_EVERY_S = 0.05  # more often nobody sees
LESS_MEMORY = (
    "Choose a region of interest or fewer slices, sample fewer at a time, close other programs, or choose the device "
    "CPU."
)
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


class Cancelled(Exception):
    """The job was cancelled."""


class Report:
    """What a job tells while it runs.

    Args:
        folder: of the job.
        send: takes a message's type and content.
        cancelled: whether the job is to stop.
    """

    def __init__(self, folder: Path, send: Callable[[str, dict[str, Any]], None], cancelled: Callable[[], bool]):
        self._folder, self._send, self._cancelled = folder, send, cancelled
        self._last = -math.inf

    def check(self) -> None:
        """Raises Cancelled."""
        if self._cancelled():
            raise Cancelled

    def progress(self, share: float, **more: Any) -> None:
        """Tell the share done and what else there is to say, at most every ``PROGRESS_EVERY_S``. Raises Cancelled."""
        self.check()
        now = time.monotonic()
        if now - self._last >= PROGRESS_EVERY_S or share >= 1:
            self._last = now
            self._send("progress", {"share": share, **more})

    def sample(self, index: int, crop: Crop) -> None:
        """Hand over a finished sample."""
        file = f"sample_{index:06d}.npy"
        self._send("sample", {"index": index, "file": file, **crop.save(self._folder / file)})


def failure_of(error: Exception) -> dict[str, Any]:
    """The parts of a ``Failure``, and "fatal" if the process cannot go on afterwards."""
    kind, message, remedy = _explained(error)
    return {
        "kind": kind,
        "message": message,
        "remedy": remedy,
        "details": "".join(traceback.format_exception(error)),
        "fatal": "CUDA error" in str(error) or "device-side assert" in str(error),  # the context is lost
    }


def missing_package(error: Exception) -> dict[str, Any]:
    """The parts of a ``Failure`` for a package that is missing or cannot be loaded, whatever it raised."""
    return {**failure_of(ImportError(str(error), name=getattr(error, "name", None))), **_details(error)}


def _details(error: Exception) -> dict[str, str]:
    return {"details": "".join(traceback.format_exception(error))}


def _explained(error: Exception) -> tuple[str, str, str]:
    """Kind, message and remedy."""
    text = str(error).strip()
    line = text.partition("\n")[0] or type(error).__name__
    # Without PyTorch there is no such error.
    out_of_memory = getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)
    if isinstance(error, (MemoryError, out_of_memory)) or any(sign in text for sign in NO_MEMORY):
        return "out_of_memory", f"There is not enough memory: {line}", LESS_MEMORY
    if isinstance(error, ImportError):
        package = (error.name or "").partition(".")[0]
        if package == "torch" or (not package and "torch" in text):
            remedy = "Install PyTorch (uninstall it first if it is there) in the module PyTorch Utils, then restart."
            return "missing_package", f"PyTorch cannot be loaded: {line}", remedy
        remedy = f"Run: PythonSlicer -m pip install --force-reinstall {package or 'scikit-image'}"
        return "missing_package", f"A package cannot be loaded: {line}", remedy
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "bad_input", said(error), "Make space on the disk, then try again."
    if isinstance(error, (ValueError, OSError)):
        return "bad_input", said(error) or line, ""
    return "internal", f"{type(error).__name__}: {line}", "Try again; if it happens again, report it with the details."

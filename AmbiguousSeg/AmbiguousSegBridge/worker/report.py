"""What a job tells while it runs, and what is told when it fails; in the worker process."""

from __future__ import annotations

import errno
import math
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from AmbiguousSegBridge.worker.messages import Failed, Failure, MaskFile, Progress, Sample
from AmbiguousSegLib.device_faults import explain
from AmbiguousSegLib.files import said

if TYPE_CHECKING:
    from AmbiguousSegLib.volume.crops import Crop

PROGRESS_EVERY_S = 0.05  # more often nobody sees


class Stopped(Exception):
    """The job was cancelled."""


class Report:
    """What a job tells while it runs.

    Args:
        job: its number.
        folder: of the job.
        send: takes a message.
        cancelled: whether the job is to stop.
    """

    def __init__(self, job: int, folder: Path, send: Callable[[Any], None], cancelled: Callable[[], bool]):
        self._job, self._folder, self._send, self._cancelled = job, folder, send, cancelled
        self._last = -math.inf

    def check(self) -> None:
        """Raises Stopped."""
        if self._cancelled():
            raise Stopped

    def progress(self, share: float, **more: Any) -> None:
        """Tell the share done and more of ``Progress``, at most every ``PROGRESS_EVERY_S``. Raises Stopped."""
        self.check()
        now = time.monotonic()
        if now - self._last >= PROGRESS_EVERY_S or share >= 1:
            self._last = now
            self._send(Progress(self._job, min(1.0, max(0.0, share)), **more))

    def sample(self, index: int, crop: Crop) -> None:
        """Hand over a finished sample."""
        self._send(Sample(self._job, index, mask_file(self._folder, f"sample_{index:06d}.npy", crop)))


def mask_file(folder: Path, file: str, crop: Crop) -> MaskFile:
    """Write a mask into the job's folder."""
    crop.save(folder / file)
    return MaskFile.of(file, crop)


def failed(job: int | None, error: Exception, loading: bool = False) -> Failed:
    """The end of a job by an exception; ``loading``: of all jobs, by a package that cannot be loaded."""
    told = ImportError(str(error), name=getattr(error, "name", None)) if loading and not explain(error) else error
    kind, message, remedy, fatal = _explained(told)
    return Failed(job, Failure(kind, message, remedy, "".join(traceback.format_exception(error))), fatal)


def _explained(error: Exception) -> tuple[str, str, str, bool]:
    """Kind, message, remedy, and whether the process cannot go on."""
    if fault := explain(error):
        return fault.kind, fault.message, fault.remedy, fault.fatal
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, ImportError):
        package = (error.name or "").partition(".")[0]
        if package == "torch" or (not package and "torch" in str(error)):
            remedy = "Install PyTorch (uninstall it first if it is there) in the module PyTorch Utils, then restart."
            return "missing_package", f"PyTorch cannot be loaded: {line}", remedy, False
        remedy = f"Run: PythonSlicer -m pip install --force-reinstall {package or 'scikit-image'}"
        return "missing_package", f"A package cannot be loaded: {line}", remedy, False
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "bad_input", said(error), "Make space on the disk, then try again.", False
    if isinstance(error, (ValueError, OSError)):
        return "bad_input", said(error) or line, "", False
    remedy = "Try again; if it happens again, report it with the details."
    return "internal", f"{type(error).__name__}: {line}", remedy, False

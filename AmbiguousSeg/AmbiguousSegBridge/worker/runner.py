"""Long work as the panels see it: a job is started, its listener hears of it, and it can be cancelled.

Who does the work, and where, is behind ``Runner``; ``client.WorkerRunner`` is the one that modules use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from AmbiguousSegBridge.worker.messages import Failure, MaskFile
from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.volume.crops import Crop


@dataclass(frozen=True)
class Job:
    """Work for a runner.

    Attributes:
        kind: "sample", "estimate", "modes", "compare" or "export"; see ``arguments.py``.
        arguments: plain JSON types.
        arrays: by file name. Each is written as ``.npy`` into the job's private folder; it must stay unchanged until
            the job has ended.
        lasting: what it does lies outside of the job's folder: if it has finished before it was stopped, that is told.
    """

    kind: str
    arguments: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    lasting: bool = False


def _ignore(*_: Any) -> None:
    """Default of a listener's parts."""


Steps = Iterator[None]  # work in pieces of some milliseconds


@dataclass(frozen=True)
class Listener:
    """What hears of a job, in the thread of the GUI. Just one of ``finished``, ``failed`` and ``cancelled`` is called.

    This one may return the rest of what it has to do as steps, which are done between other events.

    Attributes:
        progress: called with {"share": 0…1}; a job "sample" adds "seconds_left" (None at first), "slices" of the
            volume that are sampled, "slices_done" of them in the sample under way, "samples" and "samples_done".
        sample: called with the number and the mask of each finished sample.
        finished: called with the result and the job's folder; the files that the result names lie there during the
            call and its steps only.
        failed: called with the reason.
        cancelled: called when the job has stopped after ``Runner.cancel`` or ``Runner.stop``.
    """

    progress: Callable[[dict[str, Any]], None] = _ignore
    sample: Callable[[int, Crop], None] = _ignore
    finished: Callable[[dict[str, Any], Path], Steps | None] = _ignore
    failed: Callable[[Failure], Steps | None] = _ignore
    cancelled: Callable[[], Steps | None] = _ignore


class Runner(Protocol):
    """Does jobs one after the other. After a failure the next job finds everything fresh."""

    def start(self, job: Job, listener: Listener) -> int:
        """Put a job in line and return its number. The listener is never called from inside."""

    def cancel(self, number: int) -> None:
        """Cancel a job, waiting or running; one that has ended, or never was, is passed over."""

    def stop(self) -> None:
        """End all jobs (each is cancelled) and whatever works on them. Jobs may be started again afterwards."""

    @property
    def about(self) -> dict[str, Any] | None:
        """What the worker says of itself, the fields of ``messages.Ready``; None until one has told."""


def crops_argument(prefix: str, crops: Sequence[Crop]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Masks as input of a job: entries {"file", "start", "shape"} for its arguments, and its arrays.

    Args:
        prefix: first part of the file names; other arrays of the job have other names.
    """
    arrays = {f"{prefix}_{number:04d}.npy": crop.voxels for number, crop in enumerate(crops)}
    return [to_dict(MaskFile.of(file, crop)) for file, crop in zip(arrays, crops)], arrays

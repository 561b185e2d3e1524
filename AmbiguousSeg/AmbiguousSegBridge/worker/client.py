"""The runner that modules use: jobs are done by a persistent worker process, ``Scripts/worker.py``.

Nothing here blocks, but for ``stop``: Qt's events are only noted down, and a timer does one small step at a time (one
message, one slab of an array, one ending or step of an ending). Listeners are called as the last thing of a step, so
that an exception in one of them leaves everything in order.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt

from AmbiguousSegBridge.worker import arrays, messages
from AmbiguousSegBridge.worker.job_folder import JobFolder
from AmbiguousSegBridge.worker.link import WorkerLink, garbage, not_started, weakly
from AmbiguousSegBridge.worker.messages import Cancel, Failed, Finished, Folder, Progress, Ready, Sample, Start
from AmbiguousSegBridge.worker.python import find_python
from AmbiguousSegBridge.worker.runner import Failure, Job, Listener, Steps
from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.volume.crops import Crop

log = logging.getLogger(__name__)

WORKER = Path(__file__).resolve().parents[2] / "Scripts" / "worker.py"


@dataclass
class _Task:
    number: int
    job: Job
    listener: Listener
    folder: JobFolder | None = None
    writing: Iterator[None] | None = None
    sent: bool = False
    cancelling: bool = False

    def clear(self) -> None:
        """Leave nothing on the disk."""
        if self.writing is not None:
            self.writing.close()
        if self.folder is not None:
            self.folder.remove()


class WorkerRunner:
    """See ``runner.Runner``. The worker is started with the first job and stays; ``stop`` ends it.

    Args:
        python: interpreter; None: Slicer's, or outside of Slicer the one that runs this.
        script: None: the module's own worker.
        environment: variables that the worker has besides those of this process.
        patience_ms: how long a worker may take to stop a job that was cancelled; after that it is killed.
    """

    def __init__(
        self,
        python: Path | None = None,
        script: Path | None = None,
        environment: Mapping[str, str] | None = None,
        patience_ms: int = 3000,
    ) -> None:
        self._python, self._script, self._environment = python, script or WORKER, dict(environment or {})
        self._about: dict[str, Any] | None = None
        self._numbers = 0
        self._waiting: deque[_Task] = deque()
        self._endings: deque[tuple[Steps, _Task]] = deque()  # of tasks that are over but for these steps
        self._current: _Task | None = None
        self._worker: WorkerLink | None = None
        self._late = False  # whether patience was prolonged once
        self._steps, self._patience = qt.QTimer(), qt.QTimer()
        self._steps.setInterval(0)
        self._patience.setInterval(patience_ms)
        self._patience.setSingleShot(True)
        self._steps.connect("timeout()", weakly(self._step))
        self._patience.connect("timeout()", weakly(self._on_patience))

    def __del__(self) -> None:
        if getattr(self, "_worker", None) is not None or getattr(self, "_endings", ()):
            self.stop()

    @property
    def about(self) -> dict[str, Any] | None:
        """See ``Runner.about``."""
        return self._about

    def start(self, job: Job, listener: Listener) -> int:
        """See ``Runner.start``.

        Raises:
            ValueError: arrays that cannot be written, too many arguments. TypeError: other than plain JSON types.
        """
        arrays.check(job.arrays)
        messages.encode(Start(self._numbers + 1, job.kind, dict(job.arguments)))
        self._numbers += 1
        self._waiting.append(_Task(self._numbers, job, listener))
        self._steps.start()
        return self._numbers

    def cancel(self, number: int) -> None:
        """See ``Runner.cancel``; the listener hears of it later."""
        for task in (self._current, *self._waiting):
            if task is None or task.number != number or task.cancelling:
                continue
            task.cancelling = True
            if task.sent:
                self._worker.send(Cancel(number))
            if task.sent or (task is self._current and self._worker.pid is None):  # starting may take for ever, too
                self._late = False
                self._patience.start()
            self._steps.start()

    def stop(self) -> None:
        """See ``Runner.stop``. Waits until the worker has ended, which takes milliseconds, at most three seconds."""
        tasks = [task for task in (self._current, *self._waiting) if task is not None]
        worker, self._worker, self._current = self._worker, None, None
        endings, self._endings = self._endings, deque()
        self._waiting.clear()
        self._steps.stop()
        self._patience.stop()
        with ExitStack() as last:  # all of them are called, even if one raises
            for task in reversed(tasks):
                last.callback(lambda task=task: deque(task.listener.cancelled() or (), maxlen=0))
            for task in tasks:
                last.callback(task.clear)
            if worker is not None:
                last.callback(worker.stop)
            for steps, task in reversed(endings):  # first: the worker takes all folders with it
                last.callback(task.clear)
                last.callback(deque, steps, 0)

    def _on_patience(self) -> None:
        worker, task = self._worker, self._current
        starting = worker is not None and worker.pid is None and task is None
        if not starting and (task is None or not task.cancelling):
            return
        if not self._late and worker.answers():  # it was this process that was busy
            self._late = True
            self._patience.start()
            return
        log.warning("The worker does not stop; it is killed.")
        worker.fail(Failure("killed", "The worker did not stop when it was told to."))

    def _step(self) -> None:
        """The next thing that is to be done; none takes long, and only the last thing of each calls a listener."""
        worker, task = self._worker, self._current
        if worker is not None and worker.lines:
            self._read(worker.lines.popleft())
        elif worker is not None and worker.gone:
            self._on_exit()
        elif any(waiting.cancelling for waiting in self._waiting):
            cancelled = next(waiting for waiting in self._waiting if waiting.cancelling)
            self._waiting.remove(cancelled)
            self._notify(cancelled, cancelled.listener.cancelled)
        elif self._endings:
            self._go_on_ending()
        elif task is None and self._waiting and (worker is None or worker.verdict is None):
            self._begin()
        elif task is not None and task.cancelling and not task.sent:
            self._end(task.listener.cancelled)
        elif task is not None and task.writing is not None:
            self._write()
        elif task is not None and not task.sent and worker.ready:
            task.sent = True
            worker.send(Start(task.number, task.job.kind, dict(task.job.arguments)))
        else:
            self._steps.stop()

    def _begin(self) -> None:
        task = self._current = self._waiting.popleft()
        if self._worker is None:
            try:
                command = [str(self._python or find_python()), str(self._script), tempfile.gettempdir()]
            except FileNotFoundError as error:
                self._fail(not_started(error))
                return
            self._worker = WorkerLink(command, self._environment, self._steps.start)
        try:
            task.folder = JobFolder()
        except OSError as error:
            self._fail(_cannot_write(error))
            return
        self._worker.send(Folder(task.number, str(task.folder.path)))
        task.writing = arrays.write(task.folder.path, task.job.arrays)

    def _write(self) -> None:
        try:
            next(self._current.writing)
        except StopIteration:
            self._current.writing = None
        except OSError as error:
            self._fail(_cannot_write(error))

    def _read(self, line: bytes) -> None:
        worker, task, crop = self._worker, self._current, None
        try:
            message = messages.decode(line, messages.FROM_WORKER)
            if (number := getattr(message, "job", None)) is None:
                if isinstance(message, Ready) and worker.pid is not None:  # its process is killed by what it says
                    raise ValueError("a worker that is ready again")
            elif task is None or not task.sent or number != task.number:
                raise ValueError(f"{type(message).__name__} of job {number}, which is not under way")
            if isinstance(message, Sample):
                file = task.folder.path / message.mask.file
                crop = Crop.load(file, vars(message.mask))
                file.unlink()
        except messages.OtherVersion:
            worker.fail(Failure("internal", "The worker is of another version than the module.", "Restart Slicer."))
        except (ValueError, OSError) as error:
            worker.fail(garbage(error))
        else:
            self._hear(message, crop)

    def _hear(self, message: Any, crop: Crop | None) -> None:
        """What follows of a message; ``crop``: the mask of a sample."""
        worker, task = self._worker, self._current
        if isinstance(message, Ready):
            worker.pid, self._about = message.pid, to_dict(message)
            self._patience.stop()
        elif isinstance(message, Failed):
            if message.job is None or message.fatal:
                worker.fail(message.failure)
            else:
                self._fail(message.failure)
        elif isinstance(message, (Progress, Sample)):
            if task.cancelling:
                return
            if crop is not None:
                task.listener.sample(message.index, crop)
            else:
                told = to_dict(message)
                del told["job"]
                task.listener.progress(told)
        elif isinstance(message, Finished) and (task.job.lasting or not task.cancelling):
            self._end(lambda: task.listener.finished(message.result, task.folder.path))
        else:
            self._end(task.listener.cancelled)

    def _on_exit(self) -> None:
        worker, self._worker = self._worker, None
        failure = worker.failure()
        log.info("The worker has ended: %s", failure.message)
        if self._current is not None:
            self._fail(failure)

    def _fail(self, failure: Failure) -> None:
        task = self._current
        self._end(task.listener.cancelled if task.cancelling else lambda: task.listener.failed(failure))

    def _end(self, tell: Callable[[], Steps | None]) -> None:
        """The current job is over: its listener is told, and its folder removed."""
        task, self._current = self._current, None
        if task.sent:
            self._patience.stop()
        self._steps.start()
        self._notify(task, tell)

    def _notify(self, task: _Task, tell: Callable[[], Steps | None]) -> None:
        steps = None
        try:
            steps = tell()
        finally:
            if steps is None:
                task.clear()
            else:
                self._endings.append((steps, task))
                self._steps.start()

    def _go_on_ending(self) -> None:
        (steps, task), ended = self._endings.popleft(), object()
        self._notify(task, lambda: None if next(steps, ended) is ended else steps)


def _cannot_write(error: OSError) -> Failure:
    remedy = "Make space there, or set the variable TMPDIR (Windows: TEMP) to another folder and restart Slicer."
    return Failure("bad_input", f"The temporary folder cannot be written to: {error}", remedy)

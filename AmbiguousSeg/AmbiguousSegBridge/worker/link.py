"""One worker process seen from the GUI: started, read, written to, ended, and why it has ended."""

from __future__ import annotations

import logging
import os
import signal
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import qt

from AmbiguousSegBridge.worker import messages
from AmbiguousSegBridge.worker.messages import Failure

log = logging.getLogger(__name__)

LOG_BYTES, LOG_LINES = 64 * 2**10, 200
STOP_MS, KILL_MS = 1000, 2000
LAUNCHER_SAYS, WORKER_SAYS = b"exit abnormally", b"Fatal Python error"
SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows ends a process at once by whatever signal
REPORT = "Try again; if it happens again, report it with the details."


class WorkerLink:
    """A worker process; it is started at once.

    Args:
        command: program and arguments.
        environment: variables besides those of this process.
        news: called when something has arrived or the process has gone, from within Qt's events.

    Attributes:
        lines: what has arrived and is still to be read; whoever reads takes lines away.
        pid: to be set as soon as the worker has told it; the process started may be no more than a launcher.
        gone: whether the process has ended, or could not be started.
        verdict: why it is being ended, or could not be started; nothing that it says counts any more.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], news: Callable[[], None]) -> None:
        self.lines: deque[bytes] = deque()
        self.pid: int | None = None
        self.gone = False
        self.verdict: Failure | None = None
        self._command, self._news = command, news
        self._pieces, self._log = messages.Lines(), b""
        self._process = qt.QProcess()
        self._process.connect("readyReadStandardOutput()", weakly(self._on_output))
        self._process.connect("readyReadStandardError()", weakly(self._on_log))
        self._process.connect("errorOccurred(QProcess::ProcessError)", weakly(self._on_error))
        self._process.connect("finished(int,QProcess::ExitStatus)", weakly(self._on_end))
        if environment:
            variables = qt.QProcessEnvironment.systemEnvironment()
            for name, value in environment.items():
                variables.insert(name, value)
            self._process.setProcessEnvironment(variables)
        self._process.start(command[0], command[1:])

    @property
    def ready(self) -> bool:
        """Whether it can be given work."""
        return self.pid is not None and self.verdict is None and not self.gone

    def send(self, message: Any) -> None:
        """Write to its standard input; what comes too late is lost."""
        if not self.gone:
            self._process.write(messages.encode(message))

    def answers(self) -> bool:
        """Whether there is something from it that is still to be read."""
        self._process.waitForReadyRead(1)  # what lies in the pipe has not been noticed yet if this process was busy
        return bool(self.lines)

    def fail(self, failure: Failure) -> None:
        """It is of no more use, for this reason: kill it."""
        self.verdict = self.verdict or failure
        self.lines.clear()
        self.kill()

    def kill(self) -> None:
        """Kill worker and launcher: PythonSlicer alone would leave the worker behind."""
        if self._process.state() == qt.QProcess.NotRunning:
            return
        if self.pid is not None:
            try:
                os.kill(self.pid, SIGKILL)
            except OSError as error:  # it has just ended by itself
                log.debug("Worker %d: %s", self.pid, error)
        self._process.kill()

    def stop(self) -> None:
        """End it, and wait until it has ended (a few seconds at most)."""
        if self._process.state() == qt.QProcess.NotRunning:
            return
        self._process.closeWriteChannel()  # at which the worker ends, whatever it is doing
        if not self._process.waitForFinished(STOP_MS):
            self.kill()
            self._process.waitForFinished(KILL_MS)

    def failure(self) -> Failure:
        """Why it has gone, with the last lines of its log."""
        failure = self.verdict or self._failure_of_exit()
        text = "\n".join(self._log.decode("utf-8", "replace").splitlines()[-LOG_LINES:])
        return Failure(failure.kind, failure.message, failure.remedy, failure.details or text)

    def _on_output(self) -> None:
        data = _bytes(self._process.readAllStandardOutput())
        if self.verdict is None:
            try:
                self.lines += self._pieces.feed(data)
            except messages.NotAMessage as error:
                self.fail(garbage(error))
        self._news()

    def _on_log(self) -> None:
        self._log = (self._log + _bytes(self._process.readAllStandardError()))[-LOG_BYTES:]

    def _on_error(self) -> None:
        if self._process.error() == qt.QProcess.FailedToStart:  # all other errors are followed by "finished"
            self.verdict = not_started(f"{self._command[0]}: {self._process.errorString()}")
            self.gone = True
            self._news()

    def _on_end(self) -> None:
        self.gone = True
        self._on_log()
        self._on_output()

    def _failure_of_exit(self) -> Failure:
        code, crashed = self._process.exitCode(), self._process.exitStatus() == qt.QProcess.CrashExit
        # Slicer's launcher ends with 1 whatever signal ended the worker, and says so in the log. Of the other signals
        # the worker says so, too.
        launched = code == 1 and LAUNCHER_SAYS in self._log and WORKER_SAYS not in self._log
        if os.name == "posix" and ((crashed and code == signal.SIGKILL) or code == 128 + signal.SIGKILL or launched):
            return Failure(
                "killed",
                "The worker was ended from outside; systems do that to programs that take too much memory.",
                "Choose a region of interest or fewer slices, sample fewer at a time, or close other programs.",
            )
        how = f"signal {code}" if crashed and os.name == "posix" else f"exit code {code}"
        return Failure("crashed", f"The worker ended unexpectedly ({how}).", REPORT)


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A bound method that does not keep its object alive; it takes no arguments, so that none has to be converted."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        bound = reference()
        if bound is not None:
            bound()

    return call


def garbage(what: object) -> Failure:
    """What arrived was no message."""
    return Failure("garbage", f"The worker sent something that cannot be understood. {what}", REPORT)


def not_started(what: object) -> Failure:
    """There is no worker."""
    return Failure("not_started", f"The worker could not be started. {what}", "Reinstall Slicer and the extension.")


def _bytes(data: Any) -> bytes:
    """Of a QByteArray; PythonQt gives text or bytes, by its version."""
    content = data.data()
    return content.encode("utf-8", "surrogateescape") if isinstance(content, str) else bytes(content)

"""The worker process: jobs from standard input, messages to standard output, arrays in the folder of each job.

It says ``Ready`` when it has loaded what it needs, and goes on after a job that failed. It ends, whatever it is doing,
when its standard input is closed: no worker outlives the program that started it.

Exit codes: 0 input closed, 2 the input was no message, 3 a package is missing, 4 a device is lost.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import platform
import queue
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from AmbiguousSegBridge.worker import job_folder, messages
from AmbiguousSegBridge.worker.messages import Cancel, Cancelled, Finished, Folder, Ready, Start
from AmbiguousSegBridge.worker.report import Report, Stopped, failed

log = logging.getLogger("AmbiguousSeg.worker")

INPUT_CLOSED, BAD_INPUT, MISSING_PACKAGE, DEVICE_LOST = 0, 2, 3, 4
NICENESS = 5  # the windows come first
PATIENCE_S = 10
REMOVALS = 20  # a folder may be written to while it is removed


class Connection:
    """The process's end of standard input and output, which from then on belong to the messages alone.

    What libraries print goes to standard error, where the log is; what they read is empty. Input is read by a thread
    of its own: it sees the other side die while the main thread computes.

    Args:
        temporary: where the folders of jobs are.
    """

    def __init__(self, temporary: Path) -> None:
        self.jobs: queue.Queue[tuple[Start, Path]] = queue.Queue()
        self._temporary = temporary
        self._folders: dict[int, Path] = {}
        self._cancelled: set[int] = set()
        self._output = open(os.dup(1), "wb")  # noqa: SIM115  (for as long as the process lives)
        self._input = open(os.dup(0), "rb")  # noqa: SIM115
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # a DLL that looks at its standard input would wait for the thread below (Windows)
        os.close(nothing)
        sys.stdout = sys.stderr
        self._reader = threading.Thread(target=self._read, name="input", daemon=True)
        self._reader.start()

    def send(self, message: Any) -> None:
        """Say it to the client. Errors as ``messages.encode``."""
        self.write(messages.encode(message))

    def write(self, line: bytes) -> None:
        """Say what is encoded already."""
        try:
            self._output.write(line)
            self._output.flush()
        except OSError:  # nobody listens any more: the thread will find the input closed, and end the process
            self._reader.join(PATIENCE_S)
            self._leave(INPUT_CLOSED)

    def cancelled(self, job: int) -> bool:
        """Whether it is to stop."""
        return job in self._cancelled

    def _read(self) -> None:
        code, why = BAD_INPUT, ""
        try:
            while line := self._input.readline(messages.LONGEST_LINE + 1):
                if not line.endswith(b"\n"):
                    raise messages.not_a_message(line, "a line without end")
                self._take(messages.decode(line, messages.TO_WORKER))
            code = INPUT_CLOSED
        except OSError:  # on Windows this is how the other side's death is told
            code = INPUT_CLOSED
        except Exception as error:  # a folder of somebody else's, too: whoever sends that is not our client
            why = f"Standard input cannot be understood. {error}"
        finally:  # a thread that is gone would never see the input end
            self._leave(code, why)

    def _take(self, message: Folder | Start | Cancel) -> None:
        if isinstance(message, Folder):
            self._folders = {job: folder for job, folder in self._folders.items() if folder.exists()}
            folder = job_folder.checked(message.folder, self._temporary)
            if job_folder.is_owned(folder):  # else the job was cancelled, and will not be started
                self._folders[message.job] = folder
        elif isinstance(message, Cancel):
            self._cancelled.add(message.job)
        elif message.job in self._folders:
            self.jobs.put((message, self._folders[message.job]))
        else:
            raise ValueError(f"Job {message.job} has no folder.")

    def _leave(self, code: int, why: str = "") -> None:
        """End at once, whatever the main thread does; nobody else is left to remove what is half done."""
        try:
            files = sys.modules.get("AmbiguousSegLib.files")
            if files is not None:
                files.remove_unfinished()
            for folder in self._folders.values():
                for _ in range(REMOVALS):
                    shutil.rmtree(folder, ignore_errors=True)
                    if not folder.exists():
                        break
            if why:
                log.error("%s", why)
        finally:
            os._exit(code)


def introduce() -> Ready:
    """Load what jobs need, and say what is here.

    Raises:
        Exception: of any kind, from a package that is missing or broken.
    """
    import torch

    import AmbiguousSegLib.inference.estimate
    import AmbiguousSegLib.inference.volume_sampling  # noqa: F401
    from AmbiguousSegLib.devices import device_note, devices_here

    torch.zeros(1).numpy()  # fails if PyTorch was built for another NumPy
    here = platform.python_version(), torch.__version__, tuple(devices_here()), device_note()
    return Ready(messages.PROTOCOL, os.getpid(), *here)


def run(connection: Connection, start: Start, folder: Path) -> bool:
    """Do one job and tell how it ended; False if the process cannot go on."""
    from AmbiguousSegBridge.worker.jobs import do

    fatal = False
    try:
        report = Report(start.job, folder, connection.send, lambda: connection.cancelled(start.job))
        report.check()
        ending = messages.encode(Finished(start.job, do(start.kind, start.arguments, folder, report)))
    except Stopped:
        ending = messages.encode(Cancelled(start.job))
    except Exception as error:  # whatever is wrong with one job must not end the worker
        log.exception("Job %d (%s) failed", start.job, start.kind)
        failure = failed(start.job, error)
        ending, fatal = messages.encode(failure), failure.fatal
    free_cache()
    connection.write(ending)
    return not fatal


def free_cache() -> None:
    """Give back what a job left behind; other programs use the graphics memory as well."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:  # the context is lost, which the job's failure says already
            log.warning("%s", error)


def main(introduction: Callable[[], Ready] = introduce) -> int:
    """Serve until there is a reason to end, and return the exit code; argument 1: the folder of the jobs' folders."""
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is meant for the client
    temporary = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir())
    connection = Connection(temporary)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        hello = introduction()
    except Exception as error:  # broken packages raise what they like
        log.exception("A package is missing or broken")
        connection.send(failed(None, error, loading=True))
        return MISSING_PACKAGE
    threading.Thread(target=job_folder.sweep, args=[temporary], name="sweep", daemon=True).start()
    connection.send(hello)
    while run(connection, *connection.jobs.get()):
        pass
    return DEVICE_LOST

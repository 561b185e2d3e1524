"""The process that computes for the module AmbiguousSeg: ``PythonSlicer worker.py``, started by the module itself.

It reads jobs from standard input and writes messages to standard output, one JSON object per line
(``AmbiguousSegBridge/worker/messages.py``); arrays lie as ``.npy`` in the folder that a job names. It says "ready" when
it has loaded what it needs. It goes on after a job that failed, and ends, whatever it is doing, when its standard input
is closed: no worker outlives the program that started it.

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
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where AmbiguousSegBridge is

from AmbiguousSegBridge.worker import messages

log = logging.getLogger("AmbiguousSeg.worker")

INPUT_CLOSED, BAD_INPUT, MISSING_PACKAGE, DEVICE_LOST = 0, 2, 3, 4
NICENESS = 5  # the windows come first
PATIENCE_S = 10
REMOVALS = 20  # a folder may be written to while it is removed


class Connection:
    """The process's end of standard input and output, which from then on belong to the messages alone.

    What libraries print goes to standard error, where the log is; what they read is empty. Input is read by a thread
    of its own: it sees the other side die while the main thread computes.
    """

    def __init__(self) -> None:
        self.jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled: set[int] = set()
        self._folders: list[Path] = []
        self._output = open(os.dup(1), "wb")  # noqa: SIM115  (for as long as the process lives)
        self._input = open(os.dup(0), "rb")  # noqa: SIM115
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # a DLL that looks at its standard input would wait for the thread below (Windows)
        os.close(nothing)
        sys.stdout = sys.stderr
        self._reader = threading.Thread(target=self._read, name="input", daemon=True)
        self._reader.start()

    def send(self, kind: str, content: dict[str, Any]) -> None:
        try:
            self._output.write(messages.encode({"type": kind, **content}))
            self._output.flush()
        except OSError:  # nobody listens any more: the thread will find the input closed, and end the process
            self._reader.join(PATIENCE_S)
            self._leave(INPUT_CLOSED)

    def cancelled(self, number: int) -> bool:
        return number in self._cancelled

    def _read(self) -> None:
        try:
            for line in self._input:
                message = messages.decode_request(line)
                if message["type"] == "folder":  # before anything is written to it
                    self._folders = [folder for folder in self._folders if folder.exists()]
                    self._folders.append(Path(message["folder"]))
                elif message["type"] == "job":
                    self.jobs.put(message)
                else:
                    self._cancelled.add(message["job"])
        except messages.NotAMessage:
            log.exception("Expected messages on standard input")
            self._leave(BAD_INPUT)
        except OSError:  # on Windows this is how the other side's death is told
            self._leave(INPUT_CLOSED)
        self._leave(INPUT_CLOSED)

    def _leave(self, code: int) -> None:
        """End at once, whatever the main thread does; nobody else is left to remove what is half done."""
        files = sys.modules.get("AmbiguousSegLib.files")
        if files is not None:
            files.remove_unfinished()
        for folder in self._folders:
            for _ in range(REMOVALS):
                shutil.rmtree(folder, ignore_errors=True)
                if not folder.exists():
                    break
        os._exit(code)


def introduce() -> dict[str, Any]:
    """Load what jobs need, and say what is here.

    Raises:
        Exception: of any kind, from a package that is missing or broken.
    """
    import torch

    import AmbiguousSegLib.inference.estimate
    import AmbiguousSegLib.inference.volume_sampling  # noqa: F401

    try:
        torch.zeros(1).numpy()
    except RuntimeError as error:
        raise ImportError(
            f"PyTorch {torch.__version__} was built for another NumPy (the Intel build for macOS always is: install "
            "the Apple-silicon build of Slicer)",
            name="torch",
        ) from error
    return {
        "protocol": messages.PROTOCOL,
        "pid": os.getpid(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "devices": devices(),
    }


def devices() -> list[dict[str, Any]]:
    """CPU and GPUs: "name", "title", "free_bytes" (None where the system does not tell)."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [{"name": "cpu", "title": f"CPU, {cores} cores", "free_bytes": free_memory()}]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        try:
            free = torch.cuda.mem_get_info(index)[0]
        except RuntimeError as error:  # in use by another program alone, or out of order
            log.warning("GPU %d is left out: %s", index, error)
            continue
        found.append({"name": f"cuda:{index}", "title": torch.cuda.get_device_name(index), "free_bytes": free})
    if torch.backends.mps.is_available():
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        found.append({"name": "mps", "title": "Apple GPU", "free_bytes": free})
    return found


def free_memory() -> int | None:
    """Bytes that programs can still get; None on systems other than Linux."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024 * kilobytes[0] if kilobytes else None


def run(connection: Connection, message: dict[str, Any]) -> bool:
    """Do one job and tell how it ended; False if the process cannot go on."""
    from AmbiguousSegBridge.worker.arguments import given
    from AmbiguousSegBridge.worker.jobs import JOBS
    from AmbiguousSegBridge.worker.report import Cancelled, Report, failure_of

    number, folder, kind = message["job"], Path(message["folder"]), message["kind"]

    def send(what: str, content: dict[str, Any]) -> None:
        connection.send(what, {"job": number, **content})

    fatal = False
    try:
        if kind not in JOBS:
            raise ValueError(f"Unknown job {kind!r}; known: {', '.join(JOBS)}.")
        report = Report(folder, send, lambda: connection.cancelled(number))
        report.check()
        ending = "finished", {"result": JOBS[kind](given(kind, message["arguments"]), folder, report)}
    except Cancelled:
        ending = "cancelled", {}
    except Exception as error:  # whatever is wrong with one job must not end the worker
        log.exception("Job %d (%s) failed", number, kind)
        failure = failure_of(error)
        fatal = failure["fatal"]
        ending = "error", failure
    free_cache()
    send(*ending)
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


def main(introduction: Callable[[], dict[str, Any]] = introduce) -> int:
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    faulthandler.enable()
    connection = Connection()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        hello = introduction()
    except Exception as error:  # broken packages raise what they like
        log.exception("A package is missing or broken")
        from AmbiguousSegBridge.worker.report import missing_package

        connection.send("error", missing_package(error))
        return MISSING_PACKAGE
    connection.send("ready", hello)
    while run(connection, connection.jobs.get()):
        pass
    return DEVICE_LOST


if __name__ == "__main__":
    os._exit(main())  # without the destructors of libraries that are broken or still at work

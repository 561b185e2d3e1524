"""The worker with jobs that go wrong in every way, for the tests of the runner.

With FAULTS=quick it does not load PyTorch, so that it starts at once; with FAULTS=stuck it never gets ready, with
FAULTS=garbage it writes something else first, with FAULTS=older it is one of another version, with FAULTS=deaf it is
quick, but reads its input late.
"""

from __future__ import annotations

import builtins
import ctypes
import faulthandler
import os
import sys
import time
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "AmbiguousSeg"))

from AmbiguousSegBridge.worker import jobs, server
from AmbiguousSegBridge.worker.messages import PROTOCOL, Ready

from AmbiguousSegLib.files import write_together
from AmbiguousSegLib.volume.crops import Crop

FAULTS = os.environ.get("FAULTS", "")
messages_to = os.dup(1)  # before the worker takes it for itself


def exits(arguments, _folder, _report):
    print("last words", file=sys.stderr, flush=True)
    os._exit(arguments.code)


def segfaults(_arguments, _folder, _report):
    faulthandler._sigsegv()


def kills_itself(_arguments, _folder, _report):
    os.kill(os.getpid(), 9)


def writes(arguments, _folder, report):
    os.write(messages_to, arguments.bytes.encode("latin-1"))
    return waits(arguments, _folder, report)


def prints(_arguments, _folder, _report):
    """What a careless library does, from Python, from C and from the file descriptor."""
    print("printed", flush=True)
    os.write(1, b"written to 1\n")
    if os.name == "posix":
        libc = ctypes.CDLL(None)
        libc.puts(b"put by C")
        libc.fflush(None)
    return {"read": sys.stdin.read()}


def waits(_arguments, _folder, report):
    """Until it is cancelled."""
    while True:
        report.progress(0.5)
        time.sleep(0.001)


def hangs(_arguments, _folder, report):
    """And does not hear that it is cancelled."""
    report.progress(0.5)
    while True:
        time.sleep(0.001)


def raises(arguments, _folder, _report):
    if arguments.error == "torch":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity …")
    raise getattr(builtins, arguments.error)(*arguments.values)


def sums(_arguments, folder, _report):
    """What arrived: dtype, shape and sum of each array."""
    arrays = {path.name: np.load(path) for path in sorted(folder.glob("*.npy"))}
    return {name: [a.dtype.str, list(a.shape), float(a.sum(dtype=np.float64))] for name, a in arrays.items()}


def answers(_arguments, folder, report):
    """A sample, a file, a result."""
    mask = np.zeros((4, 5, 6), bool)
    mask[1:3, 2, 3:] = True
    report.sample(7, Crop.of(mask))
    np.save(folder / "answer.npy", np.arange(3))
    return {"file": "answer.npy", "folder": str(folder)}


def exports(arguments, _folder, report):
    """Files for the user, of which the last is never ready."""

    def write(place):
        (place / "first.txt").write_text("ready", encoding="utf-8")
        report.progress(0.5)
        while True:
            time.sleep(0.001)

    write_together(Path(arguments.folder), write)


def tells_nothing_plain(_arguments, _folder, _report):
    """A result that JSON cannot hold."""
    return {"value": np.float32(1)}


NEW = {
    exits: {"code": int},
    writes: {"bytes": str},
    raises: {"error": str, "values": tuple[Any, ...]},
    exports: {"folder": str},
    **{job: {} for job in (segfaults, kills_itself, prints, waits, hangs, sums, answers, tells_nothing_plain)},
}
for function, fields in NEW.items():
    jobs.JOBS[function.__name__] = make_dataclass(function.__name__, fields.items(), frozen=True), function


def introduce():
    if FAULTS == "stuck":
        time.sleep(600)
    if FAULTS == "garbage":
        os.write(messages_to, b"Welcome to Python!\n")
    if FAULTS == "older":
        return Ready(PROTOCOL - 1, os.getpid(), "", "", (), "")
    if FAULTS in ("quick", "deaf"):
        return Ready(PROTOCOL, os.getpid(), "", "", (), "")
    return server.introduce()


def read_late(connection, read=server.Connection._read):
    time.sleep(0.3)
    read(connection)


if __name__ == "__main__":
    if FAULTS == "deaf":
        server.Connection._read = read_late
    os._exit(server.main(introduce))

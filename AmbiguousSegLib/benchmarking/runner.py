"""Cells made one after another in this process, or several at a time in processes of their own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import torch

from AmbiguousSegLib.benchmarking.cell import Cell, StoppedError, make
from AmbiguousSegLib.files import replacing, said
from AmbiguousSegLib.training.signals import stop_signals

log = logging.getLogger(__name__)

ERROR_FILE = "error.txt"
_STOPPED = 3  # exit code of a process whose training a signal ended
_POLL_S, _GRACE_S = 1.0, 60.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_cells(cells: Sequence[Cell], jobs: int = 1, make_cell: Callable[[Cell], None] = make) -> bool:
    """Make every cell that is not done; one that fails leaves its reason in ``ERROR_FILE``, and the others go on.

    Args:
        jobs: how many at a time, each in a process of its own with its share of the processors; 1: in this process.
        make_cell: can be sent to another process.

    Returns:
        False: a signal ended it before all were tried.
    """
    left = [cell for cell in cells if not cell.done]
    if len(left) < len(cells):
        log.info("%d of %d cells are done already.", len(cells) - len(left), len(cells))
    if jobs > 1:
        return _in_processes(left, jobs, make_cell)
    return all(_attempt(cell, make_cell) for cell in left)


def failure(cell: Cell) -> str:
    """Why a cell failed, in one line; empty: it did not."""
    path = cell.folder / ERROR_FILE
    if cell.done or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]


def _attempt(cell: Cell, make_cell: Callable[[Cell], None]) -> bool:
    """Make a cell; False if it was stopped."""
    log.info("%s", cell)
    path = cell.folder / ERROR_FILE
    path.unlink(missing_ok=True)
    began = time.monotonic()
    try:
        make_cell(cell)
    except StoppedError as stopped:
        log.info("%s", stopped)
        return False
    except Exception as error:  # whatever it is, it must not lose the other cells
        _note_failure(cell, f"{said(error, 'make the network or the batch smaller')}", traceback.format_exc())
    else:
        log.info("%s: done in %.0f s", cell, time.monotonic() - began)
    return True


def _note_failure(cell: Cell, reason: str, details: str) -> None:
    log.error("%s failed: %s", cell, reason)
    with replacing(cell.folder / ERROR_FILE) as temporary:
        temporary.write_text(f"{reason}\n\n{details}", encoding="utf-8")


def _in_process(cell: Cell, make_cell: Callable[[Cell], None], threads: int) -> None:
    """What a process of its own does; its exit code says whether it was stopped."""
    logging.basicConfig(level=logging.INFO, format=f"{cell}: %(message)s", stream=sys.stderr)
    torch.set_num_threads(threads)
    if not _attempt(cell, make_cell):
        sys.exit(_STOPPED)


class _Parent:
    """Is asked by a signal to stop."""

    stopping = False


def _in_processes(cells: Sequence[Cell], jobs: int, make_cell: Callable[[Cell], None]) -> bool:
    context = multiprocessing.get_context("spawn")
    threads = max(1, _processors() // jobs)
    left, running, parent = list(cells), dict[BaseProcess, Cell](), _Parent()
    with stop_signals(parent):
        try:
            while (left and not parent.stopping) or running:
                while left and len(running) < jobs and not parent.stopping:
                    cell = left.pop(0)
                    process: BaseProcess = context.Process(target=_in_process, args=(cell, make_cell, threads))
                    with _environment(threads):
                        process.start()
                    running[process] = cell
                if parent.stopping:
                    _end(list(running))
                wait([process.sentinel for process in running], timeout=_POLL_S)
                for ended in [process for process in running if not process.is_alive()]:
                    ended.join()
                    _check_end(running.pop(ended), ended.exitcode or 0, parent)
        finally:
            _end(list(running))
    return not parent.stopping


def _check_end(cell: Cell, code: int, parent: _Parent) -> None:
    if code == _STOPPED:
        parent.stopping = True
    elif code and not cell.done and not parent.stopping:
        _note_failure(cell, f"its process ended with code {code}; was there not enough memory?", "")


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to save and end; those that do not are ended."""
    for process in processes:
        process.terminate()  # a training saves its state first, where there are signals
    for process in processes:
        process.join(_GRACE_S)
        if process.is_alive():
            process.kill()
            process.join()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Libraries of linear algebra of a process that is started now take so many threads."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

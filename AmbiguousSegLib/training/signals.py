"""SIGTERM and Ctrl-C as a request to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any, Protocol


class Stoppable(Protocol):
    """What stops soon after ``stopping`` is set."""

    stopping: bool


@contextlib.contextmanager
def stop_signals(run: Stoppable) -> Iterator[None]:
    """SIGTERM and Ctrl-C ask the run to stop; a second Ctrl-C ends it at once. Earlier handlers come back after it."""

    def stop(number: int, frame: Any) -> None:
        if run.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        run.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

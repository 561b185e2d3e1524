"""Processes that share a volume, played by threads of one: what they tell each other needs no network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from AmbiguousSegLib.inference.shared_drawing import Sharing


class Together:
    """The processes of a run as threads of one."""

    def __init__(self, count: int) -> None:
        self.count, self.meeting, self.said = count, threading.Barrier(count), {}
        self.counters, self.lock = {}, threading.Lock()


class Thread:
    """Process ``rank`` of ``Together``, as ``AmbiguousSegLib.processes.Processes``."""

    def __init__(self, together: Together, rank: int) -> None:
        self._together, self.rank, self.count, self._rounds = together, rank, together.count, 0

    @property
    def first(self):
        return self.rank == 0

    def take(self, parts):
        self._rounds += 1
        while True:
            with self._together.lock:
                number = self._together.counters.get(self._rounds, 0)
                self._together.counters[self._rounds] = number + 1
            if number >= parts:
                return
            yield number

    def gathered(self, value):
        self._together.meeting.wait()
        self._together.said[self.rank] = value
        self._together.meeting.wait()
        return [self._together.said[rank] for rank in range(self.count)]

    def agreed(self, value):
        return self.gathered(value)[0]


def results_of(count: int, folder: Path, work: Callable[[Sharing], Any]) -> list[Any]:
    """What ``work`` gives in each of ``count`` processes."""
    together, results = Together(count), {}

    def run(rank: int) -> None:
        results[rank] = work(Sharing(Thread(together, rank), folder))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(count)]

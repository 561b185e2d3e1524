"""Several processes that share one piece of work, as ``torchrun`` starts them: who does what, and what they agree on.

Nothing here matters to a process that was started alone: ``processes_of_run`` gives None where the variables of
``torchrun`` are missing, without importing torch. What the processes tell each other is a few bytes, over gloo,
whatever they compute on.
"""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch.distributed as dist

_T = TypeVar("_T")
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_MEETING = datetime.timedelta(minutes=30)
_WAITING = datetime.timedelta(days=2)  # for the slowest part; a process that ends is noticed at once


class PeerError(RuntimeError):
    """Another process of the run has ended before the work was done."""


class Processes:
    """This process among those of a run; made by ``processes_of_run``.

    Whatever is called on it is called by all processes, in the same order.

    Attributes:
        rank: number of this process, from 0; the first one speaks and writes.
        count: of all processes.
    """

    def __init__(self, rank: int, count: int, store: dist.Store) -> None:
        self.rank, self.count, self._store, self._rounds = rank, count, store, 0

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def take(self, parts: int) -> Iterator[int]:
        """Numbers below ``parts`` that no other process takes; whoever is free takes the next one."""
        self._rounds += 1
        key = f"taken in round {self._rounds}"
        while True:
            with _peers():
                number = self._store.add(key, 1) - 1
            if number >= parts:
                return
            yield number

    def agreed(self, value: _T) -> _T:
        """What the first process gave, on all of them."""
        import torch.distributed as dist

        values = [value]
        with _peers():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def gathered(self, value: _T) -> list[_T]:
        """What each process gave, in their order, on all of them; waits until all are here."""
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        with _peers():
            dist.all_gather_object(values, value)
        return values

    def first_to_tell(self) -> bool:
        """Whether no other process has asked this yet: of several that notice the same, one says so."""
        with suppress(RuntimeError):  # where the process is gone that kept the answer, each says so
            return self._store.add("told", 1) == 1
        return True


@contextmanager
def processes_of_run() -> Iterator[Processes | None]:
    """The processes among which ``torchrun`` started this one, until the block ends; None if it did not.

    Raises:
        ValueError: some of the variables of ``torchrun`` alone, or numbers that cannot be.
        PeerError: within the block, where another process ends, or ``torchrun`` ends this one for that reason; of
            those that are left one raises it, the others ``SystemExit``.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        yield None
        return
    import torch.distributed as dist

    rank, count = _numbers()
    with _peers():
        store, _, _ = next(dist.rendezvous("env://", rank, count, timeout=_MEETING))
        meeting = dist.PrefixStore("run", store)
        dist.init_process_group("gloo", store=meeting, rank=rank, world_size=count, timeout=_WAITING)
    processes = Processes(rank, count, dist.PrefixStore("work", store))

    def ended(number: int, frame: Any) -> None:
        raise PeerError(_told("torchrun ends this process, as it does when another one of the run has ended"))

    before = signal.signal(signal.SIGTERM, ended)
    try:
        yield processes
    except PeerError as error:
        if processes.first_to_tell():
            raise
        raise SystemExit(1) from error
    finally:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


def _numbers() -> tuple[int, int]:
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ValueError(
            f"RANK and WORLD_SIZE are set, but not {', '.join(missing)}; start by torchrun, or unset them."
        )
    try:
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except ValueError:
        rank, count = -1, 0
    if not 0 <= rank < count:
        got = f"{os.environ['RANK']!r} of {os.environ['WORLD_SIZE']!r}"
        raise ValueError(f"RANK must be a number from 0 to below WORLD_SIZE, got {got}; start by torchrun.")
    return rank, count


@contextmanager
def _peers() -> Iterator[None]:
    """What gloo says when a connection breaks, in words."""
    try:
        yield
    except PeerError:
        raise
    except RuntimeError as error:
        raise PeerError(_told("Another process of this run has ended, or cannot be reached")) from error


def _told(what: str) -> str:
    return f"{what}; what is finished is kept, and the same command goes on from there."

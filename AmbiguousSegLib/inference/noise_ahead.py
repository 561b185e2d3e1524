"""Noise made in a thread while the device computes: the same numbers as ``RowNoise``, there when they are asked for.

What the next batch will ask for is what the last one asked for: draws and shapes follow from method and sampler. The
generators of numpy leave Python's lock alone while they fill an array.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from AmbiguousSegLib.diffusion.noise import RowNoise

_AHEAD = 3  # draws that wait, each of one batch

Rows = tuple[tuple[int, int], ...]
Ask = tuple[str, int, tuple[int, ...]]  # kind of numbers, draw and shape


class NoiseAhead:
    """Makes the noise of batches that follow each other.

    Args:
        seed, slice_period: as ``RowNoise``.
        device: to which the numbers go; for a CUDA GPU they are copied from pinned memory, without waiting.
    """

    def __init__(self, seed: int, device: torch.device, slice_period: float) -> None:
        self._seed, self.device, self._slice_period = seed, device, slice_period
        self._thread = ThreadPoolExecutor(1)
        self._asked: list[Ask] = []
        self._plan: deque[tuple[Rows, Ask]] = deque()
        self._waiting: dict[tuple[Rows, Ask], Future[torch.Tensor]] = {}

    def of(self, rows: Sequence[tuple[int, int]], following: Sequence[tuple[int, int]]) -> RowNoise:
        """Noise of a batch, and as far as is known already that of the one that follows."""
        script, self._asked = self._asked, []
        wanted = [(tuple(each), ask) for each in (rows, following) if each for ask in script]
        self._waiting = {key: made for key, made in self._waiting.items() if key in wanted}
        self._plan = deque(key for key in wanted if key not in self._waiting)
        self._go_on()
        return _Waiting(self, rows, self._seed, self._slice_period)

    def take(self, rows: Rows, ask: Ask) -> torch.Tensor:
        """The numbers of one draw, on the device."""
        self._asked.append(ask)
        key = (rows, ask)
        made = self._waiting.pop(key, None)
        if made is None and key in self._plan:
            self._plan.remove(key)
        self._go_on()
        numbers = self._made(rows, ask) if made is None else made.result()
        return numbers.to(self.device, non_blocking=True)

    def close(self) -> None:
        """End the thread; what waits is dropped."""
        self._thread.shutdown(cancel_futures=True)

    def _go_on(self) -> None:
        while self._plan and len(self._waiting) < _AHEAD:
            key = self._plan.popleft()
            self._waiting[key] = self._thread.submit(self._made, *key)

    def _made(self, rows: Rows, ask: Ask) -> torch.Tensor:
        kind, draw, shape = ask
        numbers = getattr(RowNoise(self._seed, rows, slice_period=self._slice_period), kind)(draw, shape)
        return numbers.pin_memory() if self.device.type == "cuda" else numbers


class _Waiting(RowNoise):
    def __init__(self, ahead: NoiseAhead, rows: Sequence[tuple[int, int]], seed: int, slice_period: float) -> None:
        super().__init__(seed, rows, device=ahead.device, slice_period=slice_period)
        self._ahead = ahead

    def normal(self, draw: int, shape: Sequence[int]) -> torch.Tensor:
        return self._ahead.take(tuple(self.rows), ("normal", draw, tuple(shape)))

    def uniform(self, draw: int, shape: Sequence[int] = ()) -> torch.Tensor:
        return self._ahead.take(tuple(self.rows), ("uniform", draw, tuple(shape)))

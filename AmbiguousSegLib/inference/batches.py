"""Drawing many masks with a method, in batches that fit the device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods.base import Method, Prepared

log = logging.getLogger(__name__)

KEPT_BYTES = 128 * 2**20  # of what was prepared of slices and waits for their further samples

Row = tuple[int, int]
OnBatchStep = Callable[[int, int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


def draw_masks(
    method: Method,
    image: Callable[[int], Tensor],
    slices: Sequence[int],
    samples: Sequence[int],
    seed: int,
    settings: SamplerSettings,
    batch_size: int,
    slice_period: float = 0.0,
    on_step: OnBatchStep | None = None,
) -> Iterator[tuple[Sequence[Row], Tensor]]:
    """Masks of every sample of every slice, batch by batch, so that no more than a batch of masks is ever held.

    Each slice is prepared once, and what came of it stays on the device for all its samples. Where ``KEPT_BYTES`` hold
    all slices, sample follows sample, each through all slices; otherwise as many slices as they hold are worked on, all
    their samples, and then the next ones.

    Args:
        method: in evaluation mode, on the device to use.
        image: gives the image of a slice, float32 ``(C, H, W)`` in [0, 1]; asked once for each slice.
        slices, samples: their numbers. The noise of a mask follows from its pair (slice, sample) and ``seed`` alone.
        batch_size: rows computed together; halved, with a warning, when the device runs out of memory.
        slice_period: see ``RowNoise``.
        on_step: called as ``on_step(rows_in_batch, step, total_steps)``; may raise to cancel.

    Yields:
        The pairs (slice, sample) of a batch and their values, float32 ``(B, K, H, W)`` on the CPU, as ``Method.sample``
        scales them.

    Raises:
        ValueError: ``batch_size`` below 1.
        RuntimeError: not even one row fits into the device's memory.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    device = next(method.parameters()).device
    batches = _Batches(device, batch_size, lambda: tuple(image(slices[0]).shape[1:]))
    kept: dict[int, Prepared] = {}

    def prepare(numbers: Sequence[int]) -> None:
        kept.update(zip(numbers, zip(*prepare_slices(method, image, numbers), strict=True), strict=True))

    def draw(rows: Sequence[Row]) -> Tensor:
        prepared = tuple(torch.stack(parts) for parts in zip(*(kept[number] for number, _ in rows), strict=True))
        noise = RowNoise(seed, rows, device=device, slice_period=slice_period)
        step = None if on_step is None else partial(on_step, len(rows))
        return method.sample(prepared, noise, settings, step).float().cpu()

    left = list(slices)
    while left:
        kept.clear()
        batches.first(left, prepare)
        block = left[: max(len(kept), KEPT_BYTES // max(1, _bytes(kept[left[0]])))]
        rows = [(number, sample) for sample in samples for number in block]
        done = 0
        while done < len(rows):
            wanted = dict.fromkeys(number for number, _ in rows[done : done + batches.size])
            while missing := [number for number in wanted if number not in kept]:
                batches.first(missing, prepare)
            batch, values = batches.first(rows[done : done + batches.size], draw)
            yield batch, values
            done += len(batch)
        left = left[len(block) :]


@torch.inference_mode()
def prepare_slices(method: Method, image: Callable[[int], Tensor], slices: Sequence[int]) -> Prepared:
    """``method.prepare`` of these slices, on its device, one row for each."""
    device = next(method.parameters()).device
    return method.prepare(torch.stack([image(number) for number in slices]).to(device))


def _bytes(prepared: Prepared) -> int:
    return sum(part.numel() * part.element_size() for part in prepared)


class _Batches:
    """Takes as many of some items at a time as the device's memory allows: ``size``, which only shrinks."""

    def __init__(self, device: torch.device, size: int, pixels: Callable[[], tuple[int, ...]]) -> None:
        self.size = size
        self._device, self._pixels = device, pixels

    def first(
        self, items: Sequence[Item], compute: Callable[[Sequence[Item]], Result]
    ) -> tuple[Sequence[Item], Result]:
        """The first of ``items``, as many as fit, and what ``compute`` makes of them."""
        while True:
            try:
                with torch.inference_mode():
                    return items[: self.size], compute(items[: self.size])
            except RuntimeError as error:
                # The CPU's allocator raises a plain RuntimeError.
                if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                    raise
            # Only here, after the exception and the tensors it held are gone, can their memory be given back.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            if self.size == 1:
                raise RuntimeError(
                    f"{self._device} has not enough memory for one mask of {self._pixels()} pixels; choose a region of "
                    "interest, or another device."
                )
            self.size = max(1, self.size // 2)
            log.warning("%s ran out of memory; going on with %d masks at a time.", self._device, self.size)

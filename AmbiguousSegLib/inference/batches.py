"""Drawing many masks with a method, in batches that fit the device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.computation import Computation
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
    computation: Computation | None = None,
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
        computation: see ``Computation``; None: its default.

    Yields:
        The pairs (slice, sample) of a batch and their values, float32 ``(B, K, H, W)`` on the CPU, as ``Method.sample``
        scales them.

    Raises:
        ValueError: ``batch_size`` below 1; a computation that cannot be; a method that gave something else than
            ``Method`` says, NaN or infinity.
        RuntimeError: not even one row fits into the device's memory.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    device, sizes = next(method.parameters()).device, set[tuple[int, ...]]()
    computation = computation or Computation()
    computation.check(method, device)
    batches = _Batches(device, batch_size, lambda: tuple(image(slices[0]).shape[1:]))
    kept: dict[int, Prepared] = {}

    def prepare(numbers: Sequence[int]) -> None:
        def measured(number: int) -> Tensor:
            sizes.add(tuple((pixels := image(number)).shape[1:]))
            return pixels

        with computation.autocast(device):
            made = prepare_slices(method, measured, numbers)
        kept.update(zip(numbers, zip(*made, strict=True), strict=True))

    def draw(batch: Sequence[Row]) -> Tensor:
        prepared = tuple(torch.stack(parts) for parts in zip(*(kept[number] for number, _ in batch), strict=True))
        noise = noises.of(batch, rows[done + len(batch) : done + 2 * len(batch)])
        step = None if on_step is None else partial(on_step, len(batch))
        with computation.autocast(device):
            return _checked(method, method.sample(prepared, noise, settings, step), batch, sizes)

    left, done, rows = list(slices), 0, list[Row]()
    with computation.applied(method), computation.noises(seed, device, slice_period) as noises:
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
    prepared = method.prepare(torch.stack([image(number) for number in slices]).to(device))
    if not isinstance(prepared, tuple) or not all(
        isinstance(p, Tensor) and p.shape[:1] == (len(slices),) for p in prepared
    ):
        parts = prepared if isinstance(prepared, (tuple, list)) else [prepared]
        got = ", ".join(str(tuple(p.shape)) if isinstance(p, Tensor) else type(p).__name__ for p in parts)
        raise ValueError(
            f"prepare of the method {method.name} must give a tuple of tensors with {len(slices)} rows, one per slice, "
            f"got {type(prepared).__name__} of {got or 'nothing'}; correct the method."
        )
    return prepared


def _checked(method: Method, values: Tensor, rows: Sequence[Row], sizes: set[tuple[int, ...]]) -> Tensor:
    """What a method drew for these rows, float32 on the CPU; ValueError unless it is values of all classes.

    No value that is no number is taken for background.
    """
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if (
        not isinstance(values, Tensor)
        or values.is_complex()
        or shape not in [(len(rows), method.classes, *size) for size in sizes]
    ):
        expected = " or ".join(str((len(rows), method.classes, *size)) for size in sorted(sizes))
        raise ValueError(
            f"sample of the method {method.name} must give real numbers of shape {expected} (rows, classes, H, W), got "
            f"{shape}{f' of {values.dtype}' if isinstance(values, Tensor) else ''}; correct the method."
        )
    values = values.float().cpu()
    wrong = ~torch.isfinite(values).flatten(1).all(1)
    if wrong.any():
        number, sample = rows[int(wrong.nonzero()[0])]
        raise ValueError(
            f"The method {method.name} gave NaN or infinite values for {int(wrong.sum())} of {len(rows)} masks, first "
            f"for sample {sample} of slice {number}; check the model's weights and the image, or sample on the CPU."
        )
    return values


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

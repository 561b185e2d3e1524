"""Drawing many masks with a method, in batches that fit the device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep, SamplerSettings
from AmbiguousSegLib.methods.base import Method

log = logging.getLogger(__name__)

Row = tuple[int, int]
OnBatchStep = Callable[[int, int, int], None]


def draw_masks(
    method: Method,
    image: Callable[[int], Tensor],
    rows: Sequence[Row],
    seed: int,
    settings: SamplerSettings,
    batch_size: int,
    slice_period: float = 0.0,
    on_step: OnBatchStep | None = None,
) -> Iterator[tuple[Sequence[Row], Tensor]]:
    """Masks for ``rows``, batch by batch, so that no more than a batch is ever held.

    Args:
        method: in evaluation mode, on the device to use.
        image: gives the image of a slice, float32 ``(C, H, W)`` in [0, 1]; asked once per run of equal slices.
        rows: pairs (slice, sample); the noise of a mask follows from its pair and ``seed`` alone.
        batch_size: rows computed together; halved, with a warning, when the device runs out of memory.
        slice_period: see ``RowNoise``.
        on_step: called as ``on_step(rows_in_batch, step, total_steps)``; may raise to cancel.

    Yields:
        The rows of a batch and their values, float32 ``(B, H, W)`` on the CPU: 0 background, 1 lesion, 0.5 the border.

    Raises:
        ValueError: ``batch_size`` below 1.
        RuntimeError: not even one row fits into the device's memory.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    device = next(method.parameters()).device
    current: tuple[int, Tensor] | None = None
    done = 0
    while done < len(rows):
        batch = rows[done : done + batch_size]
        images = []
        for slice_index, _ in batch:
            if current is None or current[0] != slice_index:
                current = (slice_index, image(slice_index))
            images.append(current[1])
        noise = RowNoise(seed, batch, device=device, slice_period=slice_period)

        def step(number: int, total: int, size: int = len(batch)) -> None:
            if on_step is not None:
                on_step(size, number, total)

        values = _values(method, torch.stack(images), noise, settings, step)
        if values is None:
            if batch_size == 1:
                raise RuntimeError(
                    f"{device} has not enough memory for one mask of {tuple(images[0].shape[1:])} pixels; choose a "
                    "region of interest, or another device."
                )
            batch_size = max(1, batch_size // 2)
            log.warning("%s ran out of memory; going on with %d masks at a time.", device, batch_size)
            continue
        yield batch, values
        done += len(batch)


def _values(
    method: Method, images: Tensor, noise: RowNoise, settings: SamplerSettings, on_step: OnStep
) -> Tensor | None:
    """Values of a batch, float32 ``(B, H, W)`` on the CPU; None if the device ran out of memory."""
    try:
        with torch.inference_mode():
            return method.sample(images.to(noise.device), noise, settings, on_step)[:, 0].float().cpu()
    except RuntimeError as error:
        # The CPU's allocator raises a plain RuntimeError.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
    # Only here, after the exception and the tensors it held are gone, can their memory be given back.
    if noise.device.type == "cuda":
        torch.cuda.empty_cache()
    return None

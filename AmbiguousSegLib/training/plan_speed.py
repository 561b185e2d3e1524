"""How fast a network trains and samples on this machine: tried for a few seconds, on random data."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from AmbiguousSegLib.data.transforms import AugmentationConfig, draw_augmentation
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import Batch, Method, build_method

_STEPS = 2  # of the sampling that is timed


@dataclass(frozen=True)
class Speed:
    """What a network does on a device.

    Attributes:
        trained_per_s: images a second in training.
        evaluated_per_s: evaluations of the network a second in sampling.
        prepared_per_s: training items that one process varies in a second.
        memory_mb: that the process has in use, or the GPU; nan: unknown.
    """

    trained_per_s: float
    evaluated_per_s: float
    prepared_per_s: float
    memory_mb: float


SpeedOf = Callable[[dict[str, Any], tuple[int, int], int], Speed]
"""Called with the ``method_config`` of CIMD, the size of the slices and the batch."""


def measured_speed(device: str, seconds: float = 6.0) -> SpeedOf:
    """What measures a network on this device, as ``devices.choose_device`` names it, in about so many seconds."""

    def measure(config: dict[str, Any], size: tuple[int, int], batch: int) -> Speed:
        where = choose_device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            method = build_method("cimd", config)
            image = torch.rand(batch, method.image_channels, *size)
            mask = (torch.rand(batch, method.classes, *size) > 0.5).float()
        method.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trained = _training(method, Batch(image.to(where), mask.to(where)), seconds / 2)
        evaluated = _sampling(method.eval(), image.to(where), seconds / 3)
        prepared = _preparing(image[0].numpy(), mask[0].numpy(), seconds / 6)
        return Speed(trained, evaluated, prepared, _memory_bytes(where) / 1e6)

    return measure


def _training(method: Method, batch: Batch, seconds: float) -> float:
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-6)
    where, rows = batch.image.device, len(batch.image)
    noise = RowNoise(0, [(row, 0) for row in range(rows)], TRAINING, where)
    bfloat16 = where.type == "cuda" and torch.cuda.is_bf16_supported()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(where.type, torch.bfloat16, enabled=bfloat16):
            loss = method(batch, noise)["loss"]
        loss.backward()
        optimizer.step()
        float(loss.detach())  # waits for the device, as the trainer does

    return rows * _per_second(step, seconds)


def _sampling(method: Method, image: torch.Tensor, seconds: float) -> float:
    rows = len(image)
    noise = RowNoise(0, [(row, 0) for row in range(rows)], TRAINING, image.device)
    settings = SamplerSettings("dpm++2m", _STEPS)

    @torch.inference_mode()
    def sample() -> None:
        method.sample(method.prepare(image), noise, settings).sum().item()

    return rows * _STEPS * _per_second(sample, seconds)


def _preparing(image: np.ndarray, mask: np.ndarray, seconds: float) -> float:
    config = AugmentationConfig(True, 180.0, 0.15, 0.15, 0.15, 0.05)
    rng = np.random.default_rng(0)
    return _per_second(lambda: draw_augmentation(config, rng)(image, mask), seconds)


def _per_second(work: Callable[[], Any], seconds: float) -> float:
    """Of the faster quarter of the times: what else the machine does just now says little about the next hours.

    The first time is slow, and counts only where it takes all the time there is.
    """
    marks = [time.perf_counter()]
    while len(marks) < 2 or marks[-1] - marks[0] < seconds:
        work()
        marks.append(time.perf_counter())
    times = np.diff(marks)
    return 1 / float(np.percentile(times[1:] if len(times) > 1 else times, 25))


def _memory_bytes(where: torch.device) -> float:
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where)
    pages = Path("/proc/self/statm")
    if sys.platform != "linux" or not pages.exists():
        return math.nan
    import resource

    return int(pages.read_text().split()[1]) * resource.getpagesize()

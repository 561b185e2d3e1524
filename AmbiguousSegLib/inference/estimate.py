"""How long sampling will take, and how much memory: a few network evaluations are timed, the rest is arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import numpy as np
import torch

from AmbiguousSegLib.diffusion.samplers import SamplerSettings
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, fitting_batch_size
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.preprocessing import Intensity, PreparedVolume

_TIMED_EVALUATIONS = 3
_ENOUGH_SECONDS = 0.4  # a slow network is timed once


@dataclass(frozen=True)
class Estimate:
    """What sampling takes.

    Attributes:
        seconds: for all samples.
        memory_bytes: on a GPU what the network takes there at its peak; elsewhere what the process takes beside its
            libraries.
        slices: slices of the volume that are sampled.
        evaluations: network evaluations, each of a batch of slices.
        device: such as "cpu" or "cuda:0".
    """

    seconds: float
    seconds_per_sample: float
    memory_bytes: int
    slices: int
    evaluations: int
    device: str


class _Enough(Exception):
    """Ends the timed run."""


def estimate(
    model: Model, geometry: Geometry, request: SampleRequest, on_evaluation: Callable[[], None] | None = None
) -> Estimate:
    """Time and memory that ``sample_volume`` will take for a volume on the grid ``geometry``.

    A batch of the size that sampling uses is evaluated two to four times, on an image of zeros; the first time is
    left out, because it warms the network up (so that sampling itself starts warm). Reading and writing one slice is
    timed as well.

    What it does not know: whether other programs will take the processor or the graphics memory meanwhile, or a
    laptop will slow down when it gets hot; smaller last batches count by their share, although a GPU may need as long
    for them as for full ones; loading and checking the volume is left out. On a CPU the memory is the sum of the
    volume as float32, the masks, the weights and the images and noise of one batch: what the network's layers hold
    in between is not in it, and neither is the copy that a percentile rule sorts. On a GPU the memory is measured,
    after the same first evaluation.

    Args:
        model: on the device to use.
        geometry: grid of the volume; its voxels are not needed.
        request: as for ``sample_volume``.
        on_evaluation: called after each evaluation; may raise to cancel.

    Raises:
        ValueError: slice range or region that do not fit.
        RuntimeError: not even one slice fits into the device's memory.
    """
    prepared = without_voxels(model, geometry, request)
    settings = request.sampler or model.sampling
    steps = settings.steps if model.method.samples_by_steps else 1
    slices = len(prepared.slice_indices)
    rows = [(z, k) for k in range(request.samples) for z in prepared.slice_indices]
    batch = rows[: request.batch_size or fitting_batch_size(model, prepared)]

    def check() -> None:
        _wait_for(model.device)
        if on_evaluation is not None:
            on_evaluation()

    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    one_row = _time_evaluation(model, prepared, batch, settings, check) * steps + _time_slice(prepared)
    if model.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(model.device)
    else:
        memory = _host_memory(model, geometry, request.samples, len(batch) * math.prod(prepared.canvas))
    seconds = len(rows) * one_row
    return Estimate(
        seconds=seconds,
        seconds_per_sample=seconds / request.samples,
        memory_bytes=memory,
        slices=slices,
        evaluations=steps * math.ceil(len(rows) / len(batch)),
        device=str(model.device),
    )


def without_voxels(model: Model, geometry: Geometry, request: SampleRequest) -> PreparedVolume:
    """What sampling will see of a volume on this grid: zeros that take no memory.

    Raises:
        ValueError: slice range or region that do not fit.
    """
    window = replace(model.preprocessing, intensity=Intensity("window", 0.0, 1.0))
    zeros = np.broadcast_to(np.float32(0), (len(window.channels), *geometry.shape))
    return window.prepare(zeros, geometry, request.slice_range, request.region)


def _time_evaluation(
    model: Model,
    prepared: PreparedVolume,
    batch: list[tuple[int, int]],
    settings: SamplerSettings,
    check: Callable[[], None],
) -> float:
    """Seconds of one network evaluation for one row of a batch, with what the sampler does between two."""
    settings = replace(settings, steps=min(settings.steps, 1 + _TIMED_EVALUATIONS))
    ends: list[float] = []
    seconds_per_row: list[float] = []

    def step(rows: int, *_: int) -> None:
        check()
        ends.append(perf_counter())
        if len(ends) > 1:
            seconds_per_row.append((ends[-1] - ends[-2]) / rows)
        if len(ends) > _TIMED_EVALUATIONS or (seconds_per_row and ends[-1] - ends[0] > _ENOUGH_SECONDS):
            raise _Enough

    while True:  # once for a diffusion model of enough steps
        try:
            for _ in draw_masks(model.method, prepared.image, batch, 0, settings, len(batch), on_step=step):
                pass
        except _Enough:
            return median(seconds_per_row)


def _time_slice(prepared: PreparedVolume) -> float:
    """Seconds to read one slice for the network and to bring one mask back."""
    seconds = []
    for _ in range(2):
        start = perf_counter()
        (prepared.restore(prepared.image(prepared.slice_indices[0])[0]) > 0.5).numpy()
        seconds.append(perf_counter() - start)
    return min(seconds)


def _host_memory(model: Model, geometry: Geometry, samples: int, batch_pixels: int) -> int:
    channels = len(model.preprocessing.channels)
    weights = sum(t.numel() * t.element_size() for t in model.method.state_dict().values())
    return weights + math.prod(geometry.size) * (4 * channels + samples) + 4 * batch_pixels * (channels + 2)


def _wait_for(device: torch.device) -> None:
    """A GPU computes behind the program's back; only when it has caught up does a clock say anything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

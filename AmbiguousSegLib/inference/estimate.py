"""How long sampling will take, and how much memory: a few network evaluations are timed, the rest is arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import numpy as np
import torch

from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.dense_crf import DenseCRF
from AmbiguousSegLib.inference.batches import KEPT_BYTES, draw_masks, prepare_slices
from AmbiguousSegLib.inference.computation import Computation
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, fitting_batch_size
from AmbiguousSegLib.label_maps import label_map_of
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.field_of_view import check_pointed, window_at
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.prepared import PreparedVolume
from AmbiguousSegLib.volume.preprocessing import Intensity

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
    left out, because it warms the network up (so that sampling itself starts warm). Reading and preparing a slice,
    refining a mask, and writing it, are timed as well.

    What it does not know: whether other programs will take the processor or the graphics memory meanwhile, or a
    laptop will slow down when it gets hot; smaller last batches count by their share, although a GPU may need as long
    for them as for full ones; loading and checking the volume is left out. On a CPU the memory is the sum of the
    volume as float32, the masks, the weights, what is kept of the slices, and input, noise and values of one batch:
    what the network's layers hold in between is not in it, and neither is the copy that a percentile rule sorts. On a
    GPU the memory is measured, after the same first evaluation.

    Args:
        model: on the device to use.
        geometry: grid of the volume; its voxels are not needed.
        request: as for ``sample_volume``.
        on_evaluation: called after each evaluation; may raise to cancel.

    Raises:
        ValueError: slice range, region or point that do not fit.
        RuntimeError: not even one slice fits into the device's memory.
    """
    prepared = without_voxels(model, geometry, request)
    settings = request.sampler or model.sampling
    steps = settings.steps if model.method.samples_by_steps else 1
    slices = len(prepared.slice_indices)
    rows = request.samples * slices
    batch_size = min(rows, request.batch_size or fitting_batch_size(model, prepared))

    def check() -> None:
        _wait_for(model.device)
        if on_evaluation is not None:
            on_evaluation()

    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    fitting, evaluation = _time_evaluation(model, prepared, batch_size, settings, request.computation, check)
    reading, writing, slice_bytes = _time_slice(model, prepared, min(fitting, slices))
    if model.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(model.device)
    else:
        kept = min(slices * slice_bytes, max(KEPT_BYTES, batch_size * slice_bytes))
        memory = kept + _host_memory(model, geometry, request.samples, batch_size, slice_bytes, prepared.canvas)
    seconds = slices * reading + rows * (steps * evaluation + writing + _time_refining(model, prepared, request))
    return Estimate(
        seconds=seconds,
        seconds_per_sample=seconds / request.samples,
        memory_bytes=memory,
        slices=slices,
        evaluations=steps * math.ceil(rows / batch_size),
        device=str(model.device),
    )


def without_voxels(model: Model, geometry: Geometry, request: SampleRequest) -> PreparedVolume:
    """What sampling will see of a volume on this grid: zeros that take no memory.

    Around a point these are the slices of ``Pointing.likely_slices`` in the first window, whatever it will find.

    Raises:
        ValueError: slice range, region or point that do not fit; as ``check_pointed``.
    """
    plain = replace(model.preprocessing, intensity=Intensity("window", 0.0, 1.0))
    zeros = np.broadcast_to(np.float32(0), (len(plain.channels), *geometry.shape))
    if (pointing := request.pointing) is None:
        check_pointed(plain, geometry, request.region)
        return plain.prepare(zeros, geometry, request.slice_range, request.region)
    window = window_at(plain, geometry, pointing.point_mm, pointing.sizes(plain)[0])
    return plain.prepare(zeros, geometry, pointing.likely_slices(plain, geometry), window)


def _time_evaluation(
    model: Model,
    prepared: PreparedVolume,
    batch_size: int,
    settings: SamplerSettings,
    computation: Computation,
    check: Callable[[], None],
) -> tuple[int, float]:
    """Rows of a batch that fits, and seconds of one evaluation for one of them, with what the sampler does between."""
    # On the grid that takes any number of steps: which steps they are makes no difference to the time.
    settings = SamplerSettings(settings.name, min(settings.steps, 1 + _TIMED_EVALUATIONS), options=settings.options)
    slices = prepared.slice_indices[:batch_size]
    samples = range(math.ceil((1 + _TIMED_EVALUATIONS) * batch_size / len(slices)))  # enough, were it one step each
    ends: list[float] = []
    sizes: list[int] = []
    seconds_per_row: list[float] = []

    def step(rows: int, *_: int) -> None:
        check()
        ends.append(perf_counter())
        sizes.append(rows)
        if len(ends) > 1:
            seconds_per_row.append((ends[-1] - ends[-2]) / rows)
        if len(ends) > _TIMED_EVALUATIONS or (seconds_per_row and ends[-1] - ends[0] > _ENOUGH_SECONDS):
            raise _Enough

    with suppress(_Enough):
        arguments = (model.method, prepared.image, slices, samples, 0, settings, batch_size)
        for _ in draw_masks(*arguments, on_step=step, computation=computation):
            pass
    return sizes[-1], median(seconds_per_row)


def _time_slice(model: Model, prepared: PreparedVolume, count: int) -> tuple[float, float, int]:
    """Seconds to read and prepare a slice, ``count`` at once, and to bring a mask back; bytes that a slice leaves."""
    reading, writing = [], []
    for _ in range(2):
        start = perf_counter()
        made = prepare_slices(model.method, prepared.image, prepared.slice_indices[:count])
        _wait_for(model.device)
        middle = perf_counter()
        label_map_of(prepared.restore(torch.zeros(model.method.classes, *prepared.canvas)).numpy())
        reading.append((middle - start) / count)
        writing.append(perf_counter() - middle)
    return min(reading), min(writing), sum(part[0].numel() * part.element_size() for part in made)


def _time_refining(model: Model, prepared: PreparedVolume, request: SampleRequest) -> float:
    """Seconds to refine a mask, of an image of all intensities: the more there are, the longer it takes."""
    if request.refine is None:
        return 0.0
    height, width = (part.stop - part.start for part in prepared.inner)
    ramp = torch.linspace(0, 1, height * width).reshape(1, height, width)
    field = DenseCRF(ramp.expand(len(model.preprocessing.channels), -1, -1), request.refine)
    start = perf_counter()
    field.probabilities((ramp > 0.5).numpy().astype(np.uint8), model.method.classes)
    return perf_counter() - start


def _host_memory(
    model: Model, geometry: Geometry, samples: int, batch_size: int, slice_bytes: int, canvas: tuple[int, ...]
) -> int:
    weights = sum(t.numel() * t.element_size() for t in model.method.state_dict().values())
    row = slice_bytes + 4 * 2 * model.method.classes * math.prod(canvas)  # what was prepared, noise and values
    return weights + math.prod(geometry.size) * (4 * len(model.preprocessing.channels) + samples) + batch_size * row


def _wait_for(device: torch.device) -> None:
    """A GPU computes behind the program's back; only when it has caught up does a clock say anything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

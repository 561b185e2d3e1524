"""A model over a volume, slice by slice."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from AmbiguousSegLib import __version__
from AmbiguousSegLib.description import ONE_MASK
from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.inference.batches import Row, draw_masks
from AmbiguousSegLib.inference.calibrated import calibrated
from AmbiguousSegLib.inference.computation import Computation
from AmbiguousSegLib.inference.linking import link
from AmbiguousSegLib.inference.own_maps import own_maps
from AmbiguousSegLib.inference.point_sampling import Drawing, Pointing, sample_around
from AmbiguousSegLib.inference.refining import refined
from AmbiguousSegLib.inference.shared_drawing import SharedDrawing, Sharing
from AmbiguousSegLib.label_maps import label_map_of
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.field_of_view import check_pointed
from AmbiguousSegLib.volume.geometry import Geometry, Region, SliceAxes, Window
from AmbiguousSegLib.volume.input_check import check_inputs
from AmbiguousSegLib.volume.prepared import PreparedVolume

log = logging.getLogger(__name__)

DEFAULT_COHERENCE_MM = math.inf
_CPU_BATCH_PIXELS = 8 * 128 * 128  # beyond this a CPU gains nothing from larger batches
_GPU_MEMORY_SHARE = 0.8
_GPU_BATCH_ROWS = 64  # beyond this samples would only come later, all at once

OnProgress = Callable[[float], None]
OnSample = Callable[[int, np.ndarray], None]


@dataclass(frozen=True)
class SampleRequest:
    """What to sample.

    Attributes:
        samples: number of masks N, at least 1.
        first_sample: number of the first one: 8 samples and then 8 more from 8 are the same as 16.
        seed: everything random follows from it; in [0, 2⁶³).
        sampler: None: the model's own.
        slice_range: first and last slice, both included, counted as ``Preprocessing.prepare`` says; None: all.
        region: box in LPS mm outside of which nothing is marked; None: the whole volume. A model that is told where
            somebody pointed is told of its middle.
        pointing: in place of both: a place in the volume, around which the model's field of view is sampled, slice by
            slice outward until no sample goes on.
        coherence_mm: over what distance along the slice axis the noise turns into other noise. ``inf``: one choice
            for the whole sample, so that it is one coherent shape; 0: each slice chooses on its own.
        batch_size: slices × samples computed together; None: what fits the device.
        computation: what a GPU may compute otherwise, to be faster; recorded in the provenance.
        linked: whether the masks of neighbouring slices are paired anew at the end (``inference.linking``). Sample k
            then depends on how many samples there are, and more of them can not be added later; no slice's set of
            masks does. Not together with ``pointing``.
        refine: what moves the border of each sample to that of the image, in its slice and on the model's pixels,
            before it goes back onto the volume's grid (``inference.refining``); None: nothing does.

    Raises:
        ValueError: a number out of its range, or a sampler that ``samplers.check`` refuses.
    """

    samples: int = 8
    first_sample: int = 0
    seed: int = 0
    sampler: SamplerSettings | None = None
    slice_range: tuple[int, int] | None = None
    region: Region | None = None
    pointing: Pointing | None = None
    coherence_mm: float = DEFAULT_COHERENCE_MM
    batch_size: int | None = None
    computation: Computation = field(default_factory=Computation)
    linked: bool = False
    refine: DenseCRFConfig | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"The number of samples must be at least 1, got {self.samples}.")
        if self.first_sample < 0 or not 0 <= self.seed < 2**63:
            raise ValueError(
                f"first_sample must be 0 or more and seed in [0, 2**63), got {self.first_sample} and {self.seed}."
            )
        if self.pointing is not None:
            self.pointing.check_alone(self.slice_range, self.region)
            if self.linked:
                raise ValueError(
                    "Slices around a point cannot be linked: what is said of the window's border names samples as they "
                    "were drawn. Leave out linking, or give a region."
                )
        if not self.coherence_mm >= 0:
            raise ValueError(f"coherence_mm must be 0 or more, got {self.coherence_mm}.")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        if self.sampler is not None:
            samplers.check(self.sampler)


def sample_volume(
    model: Model,
    volume: np.ndarray,
    geometry: Geometry,
    request: SampleRequest,
    on_progress: OnProgress | None = None,
    on_sample: OnSample | None = None,
    *,
    modality: str = "",
    picture: bool = False,
    sharing: Sharing | None = None,
) -> SampleSet:
    """N plausible segmentations of a volume, on its own grid.

    Around a place (``request.pointing``, see ``point_sampling``) all samples are finished at the end, and "window" in
    the provenance says what was looked at.

    Beside the result, memory holds one batch of masks at a time, and what ``draw_masks`` keeps of the slices. In what
    the volume differs from what the model was trained on is logged before anything is sampled, and kept in the
    provenance as "input_warnings", a list of sentences; that a model draws nothing likewise, as "notes". What a
    calibrated model says of the samples is kept there, too, as "calibrated" (``calibrated_figures``).

    Args:
        model: on the device to use.
        volume: float32 ``(C, Z, Y, X)``, one volume per channel of the model, in its order.
        geometry: grid of ``volume``.
        on_progress: called with the share done, in (0, 1], after each network evaluation; may raise to cancel.
        on_sample: called with the number and the label map, uint8 ``(Z, Y, X)``, of each sample as it is finished: one
            after the other, or, of a volume too large for that, all towards the end; linked ones all at the end.
        modality, picture: what is known of the volume, as ``check_inputs`` takes it.
        sharing: of the slices among several processes, each of which gets the whole result; None: alone.

    Raises:
        ValueError: channels, slice range, region, point or sampler that do not fit; as ``check_pointed``.
        RuntimeError: not even one slice fits into the device's memory; another process has ended (``PeerError``).
    """
    if request.pointing is None:
        check_pointed(model.preprocessing, geometry, request.region)
    known = (modality, picture, request.region)
    warnings = check_inputs(model.inputs, volume, geometry, model.preprocessing, *known)
    notes = [f"{model.card.name}: {ONE_MASK}."] if model.method.deterministic else []
    for told in (*warnings, *notes):
        log.warning("%s", told)
    settings = request.sampler or model.sampling
    numbers = range(request.first_sample, request.first_sample + request.samples)
    masks = np.zeros((request.samples, *geometry.shape), np.uint8)
    tell = on_progress or (lambda _share: None)
    alone, preprocessing = partial(_Drawing, model, request, masks), model.preprocessing
    # Of what the masks follow from, the first process tells the others.
    identity = _identity(model, volume, geometry, request) if sharing is not None and sharing.processes.first else ""

    def drawing(prepared: PreparedVolume) -> Drawing:
        if sharing is None:
            return alone(prepared)
        return SharedDrawing(sharing, alone(prepared), f"{identity} {prepared.crop}", request.first_sample)

    def finished(number: int) -> None:
        if on_sample is not None:
            on_sample(number, masks[number - request.first_sample])

    if (pointing := request.pointing) is None:
        prepared = preprocessing.prepare(volume, geometry, request.slice_range, request.region)
        slices = prepared.slice_indices
        for z, k in drawing(prepared).draw(slices, tell):
            if z == slices[-1] and not request.linked:
                finished(k)
        if request.linked:
            seen = SliceAxes.of(geometry, preprocessing.plane).view(masks)
            link(seen[:, slices[0] : slices[-1] + 1], len(model.labels))
            for k in numbers:
                finished(k)
        part: dict[str, Any] = {"slice_range": [slices[0], slices[-1]], "region_lps_mm": _plain(request.region)}
    else:
        limits = preprocessing.limits(volume)

        def prepare(window: Window) -> PreparedVolume:
            return preprocessing.prepare(volume, geometry, None, window, limits, pointing.point_mm)

        ways = (masks, request.first_sample, prepare, drawing, tell)
        around = sample_around(pointing, preprocessing, geometry, *ways)
        for k in numbers:
            finished(k)
        prepared = around.prepared
        part = {"slice_range": list(around.slices), "region_lps_mm": _plain(around.region), "window": around.window}
    provenance = {**_provenance(model, settings, request, prepared), **part, "input_warnings": warnings}
    provenance |= {"notes": notes} if notes else {}
    point_mm, window_mm = (None, None) if pointing is None else (pointing.point_mm, part["window"]["asked_mm"])
    told_of = (point_mm, part["slice_range"], window_mm, request.refine is not None)
    provenance |= calibrated(model, settings, masks, geometry, *told_of)
    first, last = part["slice_range"]
    maps = own_maps(model, prepared, range(first, last + 1), request.computation)
    return SampleSet(masks, geometry, provenance, model.labels, maps)


class _Drawing:
    """Masks of one prepared volume, put into those of the run. A ``shared_drawing.Shareable``."""

    def __init__(self, model: Model, request: SampleRequest, masks: np.ndarray, prepared: PreparedVolume) -> None:
        self._model, self._request, self._masks, self._prepared = model, request, masks, prepared
        self.batch_size = request.batch_size or fitting_batch_size(model, prepared)
        # A CPU takes as much longer as there is more to draw; a GPU with room in its batch does not.
        self.at_once = 1 if model.device.type == "cpu" else max(1, self.batch_size // (2 * request.samples))

    def draw(self, slices: Sequence[int], tell: OnProgress) -> Iterator[Row]:
        """Draw the masks of these slices; gives the slice and the sample of each that is there.

        ``tell`` is called with the share done, in (0, 1], after each network evaluation.
        """
        request, prepared = self._request, self._prepared
        numbers = range(request.first_sample, request.first_sample + request.samples)
        total, done = len(slices) * len(numbers), 0

        def step(batch: int, number: int, steps: int) -> None:
            tell((done + batch * number / steps) / total)

        drawn = draw_masks(
            self._model.method,
            prepared.image,
            slices,
            numbers,
            request.seed,
            request.sampler or self._model.sampling,
            self.batch_size,
            slice_period=request.coherence_mm / prepared.slice_spacing_mm,
            on_step=step,
            computation=request.computation,
        )
        channels, inner = len(self._model.preprocessing.channels), prepared.inner
        for batch, values in refined(drawn, prepared.image, channels, inner, request.refine):
            # Continuous values are brought to the volume's grid before a class is chosen: borders stay smooth.
            for (z, k), value in zip(batch, prepared.restore(values).numpy(), strict=True):
                prepared.write(self._masks[k - request.first_sample], z, label_map_of(value))
                yield z, k
            done += len(batch)

    def masks_of(self, slice_index: int) -> np.ndarray:
        """The region of a slice in the masks of all samples: a view, uint8 ``(N, rows, columns)``."""
        return self._prepared.region_of(self._masks, slice_index)


def _identity(model: Model, volume: np.ndarray, geometry: Geometry, request: SampleRequest) -> str:
    """Text that two runs share if, and in effect only if, they give the same masks."""
    content = hashlib.sha256(np.ascontiguousarray(volume).data).hexdigest()
    names = (model.weights_sha256, model.method.name, model.method.config, model.preprocessing, model.sampling)
    return f"{__version__} {content} {geometry} {names} {replace(request, batch_size=None)}"


def fitting_batch_size(model: Model, prepared: PreparedVolume) -> int:
    """Rows that are computed together: on a GPU those of one sample if the memory holds them, elsewhere by pixels."""
    height, width = prepared.canvas
    if model.device.type != "cuda":
        return max(1, _CPU_BATCH_PIXELS // (height * width))
    one_step = SamplerSettings(model.sampling.name, steps=1, options=model.sampling.options)
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    first = prepared.slice_indices[0]
    for _ in draw_masks(model.method, prepared.image, [first], [0], 0, one_step, batch_size=1):
        pass
    needed = max(1, torch.cuda.max_memory_allocated(model.device) - before)
    free, _ = torch.cuda.mem_get_info(model.device)
    enough = max(_GPU_BATCH_ROWS, len(prepared.slice_indices))
    return max(1, min(enough, int(_GPU_MEMORY_SHARE * free / needed)))


def _provenance(
    model: Model, settings: SamplerSettings, request: SampleRequest, prepared: PreparedVolume
) -> dict[str, Any]:
    return {
        "software": f"AmbiguousSegLib {__version__}",
        "model": {
            "name": model.card.name,
            "method": model.method.name,
            "weights_sha256": model.weights_sha256,
            "intended_use": model.card.intended_use,
        },
        "seed": request.seed,
        "first_sample": request.first_sample,
        "sampler": asdict(settings) if model.method.samples_by_steps else None,
        "coherence_mm": None if math.isinf(request.coherence_mm) else request.coherence_mm,
        "linked": request.linked,
        "network_size": list(prepared.canvas),
        "computation": request.computation.in_json(model.device),
        **({} if request.refine is None else {"refinement": request.refine.in_json()}),
    }


def _plain(region: Region | None) -> list[list[float]] | None:
    return None if region is None else [list(corner) for corner in region]

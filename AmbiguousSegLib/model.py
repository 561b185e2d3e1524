"""A model on disk: a folder with ``model.safetensors`` and ``model.json``, which says all that sampling needs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from AmbiguousSegLib.calibration.parts import Calibration
from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.description import (
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    WEIGHTS_FILE,
    Card,
    ModelDescription,
    check_input_channels,
    read_description,
)
from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.diffusion.settings import FLOW, GAUSSIAN, SamplerSettings
from AmbiguousSegLib.files import replacing, size_text
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label, check_labels
from AmbiguousSegLib.methods import Method, build_method, count_weights
from AmbiguousSegLib.quality import QualityPreset, check_qualities
from AmbiguousSegLib.volume.inputs import Inputs
from AmbiguousSegLib.volume.preprocessing import Preprocessing

_SLACK_BYTES = 1_000_000  # of names, and for small networks to be compared weight by weight
_STORED = (torch.float16, torch.float32)


@dataclass
class Model:
    """A method with all that ties it to images and to people.

    Attributes:
        method: on any device.
        preprocessing: how it wants its slices.
        sampling: default sampler.
        card: what it says of itself.
        labels: of the values 1 to K of its masks, one for each class of the method.
        qualities: what the qualities mean for it, by the value of a ``Quality``; see ``quality.sampler_of``.
        weights_sha256: of the weights' file; empty for a model that was never saved.
        inputs: what the images were like that it was trained on; None: unknown.
        calibrations: what its samples are worth, at most one for each sampler.

    Raises:
        ValueError: parts that do not fit each other, or a sampler that there is not.
    """

    method: Method
    preprocessing: Preprocessing
    sampling: SamplerSettings = field(default_factory=SamplerSettings)
    card: Card = field(default_factory=Card)
    labels: tuple[Label, ...] = DEFAULT_LABELS
    qualities: dict[str, QualityPreset] = field(default_factory=dict)
    weights_sha256: str = ""
    inputs: Inputs | None = None
    calibrations: tuple[Calibration, ...] = ()

    def __post_init__(self) -> None:
        channels = self.preprocessing.network_channels
        if channels != self.method.image_channels:
            raise ValueError(
                f"The method reads {self.method.image_channels} channels, preprocessing gives {channels} (with the map "
                "of a point, where point_sigma_mm is set); correct one of them."
            )
        if self.preprocessing.size_multiple % self.method.size_multiple:
            raise ValueError(
                f"Preprocessing.size_multiple {self.preprocessing.size_multiple} must be a multiple of the network's "
                f"{self.method.size_multiple}."
            )
        check_labels(self.labels)
        check_input_channels(self.inputs, self.preprocessing)
        if len(self.labels) != self.method.classes:
            raise ValueError(
                f"The method distinguishes {self.method.classes} class(es), but there are {len(self.labels)} label(s), "
                f"{', '.join(label.name for label in self.labels)}; give one label for each class."
            )
        check_qualities(self.qualities, self.method.samples_by_steps)
        if self.method.samples_by_steps:
            for settings in (self.sampling, *(quality.sampling for quality in self.qualities.values())):
                if settings is not None:
                    samplers.check(settings, self.method.sampler_family)

    def to(self, device: torch.device | str) -> Model:
        """Moves the method; returns itself."""
        self.method.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the method is."""
        return next(self.method.parameters()).device

    @property
    def training_steps(self) -> int | None:
        """Steps of the diffusion schedule; None for a method that has none: one of one pass, or a flow."""
        scheduled = self.method.samples_by_steps and self.method.sampler_family != FLOW
        return self.method.config.schedule.steps if scheduled else None


def save_model(model: Model, folder: Path | str, half: bool = False) -> None:
    """Write ``model`` to ``folder``: the weights, and the description that names their checksum.

    Args:
        half: store floating-point weights in half the bits (float16); they are computed with in float32 again.

    Raises:
        OSError: no space or no permission; no half-written file remains.
    """
    folder = Path(folder)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.method.state_dict().items()}
    if half:
        state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    weights = save_tensors(state)
    description = {
        "format_version": FORMAT_VERSION,
        "labels": [to_dict(label) for label in model.labels],
        "method": model.method.name,
        "samples_by_steps": model.method.samples_by_steps,
        **({"deterministic": True} if model.method.deterministic else {}),
        # Only where it has another: earlier versions, which know no other, read all models that they can sample.
        **({} if model.method.sampler_family == GAUSSIAN else {"sampler_family": model.method.sampler_family}),
        "method_config": to_dict(model.method.config),
        "preprocessing": to_dict(model.preprocessing),
        "sampling": to_dict(model.sampling),
        "qualities": {name: to_dict(quality) for name, quality in model.qualities.items()},
        **({} if model.inputs is None else {"inputs": to_dict(model.inputs)}),
        "card": to_dict(model.card),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **({"calibrations": [to_dict(one) for one in model.calibrations]} if model.calibrations else {}),
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    # Both are complete under temporary names before either takes its place.
    with replacing(folder / DESCRIPTION_FILE) as description_path, replacing(folder / WEIGHTS_FILE) as weights_path:
        weights_path.write_bytes(weights)
        description_path.write_text(text, encoding="utf-8")


def load_model(folder: Path | str, device: str | torch.device = "cpu") -> Model:
    """Model in evaluation mode on ``device``.

    Raises:
        FileNotFoundError: no model in ``folder``.
        ValueError: not a model description, one of a later format, an unknown method or key, weights that were
            changed, truncated or belong to another network. One line each.
    """
    folder = Path(folder)
    description = read_description(folder)
    try:
        _check_sizes(description)
        method = build_method(description.method, description.method_config)
        if method.samples_by_steps != description.samples_by_steps:
            raise ValueError(
                f"samples_by_steps is {description.samples_by_steps}, but for the method {description.method} it is "
                f"{method.samples_by_steps}; correct it."
            )
        if method.deterministic != description.deterministic:
            raise ValueError(
                f"deterministic is {description.deterministic}, but for the method {description.method} and its "
                f"settings it is {method.deterministic}; correct it."
            )
        if method.sampler_family != description.sampler_family:
            raise ValueError(
                f"sampler_family is {description.sampler_family}, but for the method {description.method} it is "
                f"{method.sampler_family}; correct it."
            )
        model = Model(
            method,
            description.preprocessing,
            description.sampling,
            description.card,
            description.labels,
            description.qualities,
            description.weights_sha256,
            description.inputs,
            description.calibrations,
        )
    except ValueError as error:
        raise ValueError(f"{folder / DESCRIPTION_FILE}: {error}") from error
    _load_weights(method, folder / WEIGHTS_FILE, description.weights_sha256)
    # Convolutions over channels-last memory are up to a third faster, on CPUs too.
    method.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def _check_sizes(description: ModelDescription) -> None:
    """ValueError for a network that the weights beside its description cannot be of, before memory is taken."""
    weights, held = count_weights(description.method, description.method_config), description.weights_bytes
    if 2 * weights > held + _SLACK_BYTES or held > 16 * weights + _SLACK_BYTES:  # of 16 bits; of complex128
        raise ValueError(
            f"its network has {weights:,} weights, and {WEIGHTS_FILE} {size_text(held)}, which cannot be; copy the "
            "model again."
        )


def _load_weights(method: Method, path: Path, expected_sha256: str) -> None:
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected_sha256:
        raise ValueError(
            f"{path}: the weights are not those that {DESCRIPTION_FILE} names (sha256 {digest[:12]}…, expected "
            f"{expected_sha256[:12]}…); the file was changed or truncated, copy the model again."
        )
    try:
        state = load_tensors(data)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file: {error}") from error
    stored = next((name for name, t in state.items() if t.is_floating_point() and t.dtype not in _STORED), None)
    if stored is not None:
        raise ValueError(
            f"{path}: {stored} is {state[stored].dtype}, expected float16 or float32; save the model again."
        )
    load_state(method, state, path)


def load_state(method: torch.nn.Module, state: dict[str, torch.Tensor], origin: Path | str) -> None:
    """Strict loading with one line that says what differs.

    Raises:
        ValueError: missing or surplus tensors, other shapes, integers in place of floating-point numbers or the other
            way round, NaN or infinity.
    """
    own = method.state_dict()
    problems = [
        *(f"{name} is missing" for name in own if name not in state),
        *(f"{name} is not part of the network" for name in state if name not in own),
        *(
            f"{name} has shape {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in state and own[name].shape != state[name].shape
        ),
    ]
    if problems:
        more = f" and {len(problems) - 1} more differences" if len(problems) > 1 else ""
        raise ValueError(
            f"{origin}: weights of another architecture: {problems[0]}{more}; take those that belong to it."
        )
    for name, tensor in state.items():
        if tensor.is_floating_point() != own[name].is_floating_point() or tensor.is_complex():
            raise ValueError(
                f"{origin}: {name} is {tensor.dtype}, expected {own[name].dtype} as in the network; save it again."
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            count = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f"{origin}: {count} of {tensor.numel()} weights of {name} are NaN or infinite, expected finite ones; "
                "take an earlier copy, or train again."
            )
    method.load_state_dict(state)

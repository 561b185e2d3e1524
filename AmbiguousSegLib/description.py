"""What a model folder says of its model in ``model.json``, read without its weights and without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from AmbiguousSegLib.calibration.parts import Calibration, with_calibration
from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.settings import FAMILIES, FLOW, GAUSSIAN, SamplerSettings
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.labels import Label, check_labels
from AmbiguousSegLib.quality import QualityPreset, check_qualities
from AmbiguousSegLib.text_files import read_json
from AmbiguousSegLib.volume.inputs import Inputs
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

FORMAT_VERSION = 2
WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"
ONE_MASK = "all samples of an image are the same mask, as the method draws nothing"
"""What is told of a model whose method is ``deterministic``, behind its name."""
INTENDED_USE = "Research use only; not a medical device and not for clinical decisions."


@dataclass(frozen=True)
class Card:
    """What a model says of itself.

    Attributes:
        name, description: for people.
        training: data, licence, images seen, configuration; plain JSON types.
        metrics: figures by their keys in ``metrics.figures``, and "protocol", how they were measured; plain JSON types.
        intended_use: statement shown with every result.
        limits: what the model does not know, a sentence each.
    """

    name: str = "unnamed"
    description: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    intended_use: str = INTENDED_USE
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelDescription:
    """All that can be said of a model before its weights are read: format 2 of ``model.json``.

    Attributes:
        labels: of the values 1 to K of its masks, in order.
        method: its name in ``methods.METHODS``; ``method_config`` are the fields of that method's ``Config``.
        samples_by_steps: whether sampling runs a sampler, so that sampler, steps and quality can be chosen.
        preprocessing: how it wants its slices.
        sampling: default sampler.
        card: what it says of itself.
        weights_sha256: of the file of the weights.
        qualities: what the qualities mean for this model, by the value of a ``Quality``; see ``quality.sampler_of``.
        inputs: what the images were like that it was trained on; None: unknown, and nothing can be checked.
        sampler_family: which samplers it takes, one of ``diffusion.settings.FAMILIES``.
        calibrations: what its samples are worth, at most one for each sampler.
        deterministic: whether all samples of an image are the same mask.
        folder, weights_bytes: where it was read, and how large the weights are; not part of the file.
    """

    labels: tuple[Label, ...]
    method: str
    samples_by_steps: bool
    method_config: dict[str, Any]
    preprocessing: Preprocessing
    sampling: SamplerSettings
    card: Card
    weights_sha256: str
    qualities: dict[str, QualityPreset] = field(default_factory=dict)
    inputs: Inputs | None = None
    sampler_family: str = GAUSSIAN
    calibrations: tuple[Calibration, ...] = ()
    deterministic: bool = False
    folder: Path = Path()
    weights_bytes: int = 0

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_input_channels(self.inputs, self.preprocessing)
        check_qualities(self.qualities, self.samples_by_steps)
        if self.sampler_family not in FAMILIES:
            raise ValueError(f"sampler_family must be one of {', '.join(FAMILIES)}, got {self.sampler_family!r}.")
        _ = self.training_steps  # a schedule that is wrong is refused here

    @property
    def training_steps(self) -> int | None:
        """Steps of the diffusion schedule; None for a method that has none: one of one pass, or a flow."""
        if not self.samples_by_steps or self.sampler_family == FLOW:
            return None
        return from_dict(ScheduleConfig, self.method_config.get("schedule", {}), "method_config.schedule").steps

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input channels, in order."""
        return self.preprocessing.channels

    @property
    def plane(self) -> str:
        """Of the slices: ``axial``, ``coronal``, ``sagittal`` or ``stored``."""
        return self.preprocessing.plane

    @property
    def spacing_mm(self) -> float | None:
        """Edge of the network's square pixels; None: each slice is stretched to ``size``."""
        return self.preprocessing.spacing_mm

    @property
    def size(self) -> tuple[int, int]:
        """Least height and width in pixels of what the network sees."""
        return self.preprocessing.size

    @property
    def intensity(self) -> str:
        """How stored values are scaled, in one line of words."""
        rules = self.preprocessing.intensity
        if isinstance(rules, Intensity):
            return rules.words()
        return "; ".join(f"{channel}: {rule.words()}" for channel, rule in zip(self.channels, rules))


def check_input_channels(inputs: Inputs | None, preprocessing: Preprocessing) -> None:
    """ValueError unless what a model was trained on has as many channels as it reads."""
    if inputs is not None and len(inputs.channels) != len(preprocessing.channels):
        raise ValueError(
            f"inputs.channels describes {len(inputs.channels)} channel(s), preprocessing names "
            f"{len(preprocessing.channels)}; describe each, or leave inputs out."
        )


def read_description(folder: Path | str) -> ModelDescription:
    """What ``model.json`` says, of format 2 or 1, and how large the weights are, which are not read.

    Whether the weights fit shows on loading.

    Raises:
        FileNotFoundError: no model in ``folder``, or no weights beside its description.
        ValueError: not a model description, one of another format, an unknown, missing or ill-typed key. One line.
    """
    folder = Path(folder)
    path, weights = folder / DESCRIPTION_FILE, folder / WEIGHTS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: no model here; expected a folder with {DESCRIPTION_FILE} and {WEIGHTS_FILE}."
        )
    try:
        content = read_json(path, nan=True)
        version = content.pop("format_version")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a model description; expected one JSON object with a format_version, copy the model again."
        ) from error
    if type(version) is not int or version not in (1, FORMAT_VERSION):
        raise ValueError(
            f"{path}: format version {version!r}, this software reads versions 1 and {FORMAT_VERSION}; update the "
            "software, or save the model again with the version it was made by."
        )
    try:
        description = from_dict(ModelDescription, _lifted(content) if version == 1 else content, "")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not weights.is_file():
        wrong = "are no file on disk" if weights.exists() else "are missing"
        raise FileNotFoundError(f"{weights}: the weights {wrong} beside {DESCRIPTION_FILE}; copy the model again.")
    return replace(description, folder=folder, weights_bytes=weights.stat().st_size)


def write_calibration(folder: Path | str, calibration: Calibration) -> ModelDescription:
    """Put a calibration into the description of the model in ``folder``, in place of an earlier one of its sampler.

    The weights and all else in the description stay as they are. Returns the new description.

    Raises:
        FileNotFoundError, ValueError: as ``read_description``; a description of format 1, which has no place for it.
        OSError: no space or no permission; the earlier description remains.
    """
    path = Path(folder) / DESCRIPTION_FILE
    calibrations = with_calibration(read_description(folder).calibrations, calibration)
    content = read_json(path, nan=True)
    if content["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path}: a description of format {content['format_version']} has no place for a calibration, expected "
            f"{FORMAT_VERSION}; save the model again with this version."
        )
    content["calibrations"] = [to_dict(one) for one in calibrations]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return read_description(folder)


def _lifted(content: dict[str, Any]) -> dict[str, Any]:
    """Format 1 as format 2: one label, in the card; a method that samples by steps is one that has a schedule.

    Raises:
        ValueError: a key of format 2, which would be lost.
    """
    keys = ("labels", "samples_by_steps", "qualities", "inputs", "sampler_family", "calibrations", "deterministic")
    newer = [key for key in keys if key in content]
    if newer:
        raise ValueError(
            f"{newer[0]} is no key of format version 1, but of {FORMAT_VERSION}; write a description in one of them."
        )
    config, card, sampling = (content.get(key) for key in ("method_config", "card", "sampling"))
    lifted = {**content, "samples_by_steps": isinstance(config, Mapping) and "schedule" in config, "labels": [{}]}
    if isinstance(card, Mapping):
        lifted["labels"] = [card.get("label", {})]
        lifted["card"] = {key: value for key, value in card.items() if key != "label"}
    if sampling is not None:
        lifted["sampling"] = to_dict(SamplerSettings.from_json(sampling, "sampling"))
    return lifted

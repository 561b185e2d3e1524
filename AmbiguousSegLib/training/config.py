"""Training configuration: frozen dataclasses, one YAML file per experiment."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from AmbiguousSegLib.configuration import check_field, from_dict, to_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.transforms import AugmentationConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings, lift_eta
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label, check_labels
from AmbiguousSegLib.methods import method_config

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32", "bfloat16")
LEARNING_RATES = ("constant", "cosine")


@dataclass(frozen=True)
class OptimisationConfig:
    """How it is trained; progress is counted in images seen, so that it means the same on any number of processes.

    Attributes:
        images: images to see in all.
        batch_size: global batch, over all processes.
        microbatch: rows that a process handles at once; gradients add up over them. None: its whole share.
        learning_rate: of Adam, after ``warmup_images``.
        schedule: "constant", or "cosine" down to 0 at ``images``.
        weight_decay: of Adam (decoupled).
        gradient_clip: largest norm of the gradient, or None.
        ema_decay: of the averaged weights, which are the ones kept; reached gradually.
        precision: "float32", "bfloat16", or "auto": bfloat16 on GPUs that have it, float32 elsewhere.
    """

    images: int = 1_000_000
    batch_size: int = 16
    microbatch: int | None = None
    learning_rate: float = 1e-4
    schedule: str = "constant"
    warmup_images: int = 0
    weight_decay: float = 0.0
    gradient_clip: float | None = 1.0
    ema_decay: float = 0.9999
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_field(self, self.images >= 1, "images", "at least 1")
        check_field(self, self.batch_size >= 1, "batch_size", "at least 1")
        check_field(self, self.microbatch is None or self.microbatch >= 1, "microbatch", "at least 1, or null")
        check_field(self, 0 < self.learning_rate < math.inf, "learning_rate", "positive")
        check_field(self, self.schedule in LEARNING_RATES, "schedule", f"one of {', '.join(LEARNING_RATES)}")
        check_field(self, self.warmup_images >= 0, "warmup_images", "0 or more")
        check_field(self, 0 <= self.weight_decay < math.inf, "weight_decay", "0 or more")
        check_field(self, self.gradient_clip is None or self.gradient_clip > 0, "gradient_clip", "positive, or null")
        check_field(self, 0 <= self.ema_decay < 1, "ema_decay", "in [0, 1)")
        check_field(self, self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class ValidationConfig:
    """Held-out check that picks the model kept: the lowest mean GED.

    Attributes:
        every_images: how often, in images seen.
        cases: how many held-out cases, the first of the validation part; None: all.
        samples: masks per case.
        raters: masks per phantom case that play the raters (folders: all there are).
        estimator: of GED: "v" or "u".
    """

    every_images: int = 50_000
    cases: int | None = 64
    samples: int = 8
    raters: int = 16
    estimator: str = "u"

    def __post_init__(self) -> None:
        check_field(self, self.every_images >= 1, "every_images", "at least 1")
        check_field(self, self.cases is None or self.cases >= 1, "cases", "at least 1, or null")
        check_field(self, self.samples >= 2, "samples", "at least 2: a single mask has no spread")
        check_field(self, self.raters >= 1, "raters", "at least 1")
        check_field(self, self.estimator in ("v", "u"), "estimator", "'v' or 'u'")


@dataclass(frozen=True)
class CardConfig:
    """What the model folder says of the model, shown to whoever samples with it; ``half_weights`` stores its weights
    as float16, in half the space."""

    name: str = "unnamed"
    description: str = ""
    training_data: str = ""
    licence: str = "not stated"
    half_weights: bool = False


@dataclass(frozen=True)
class TrainingConfig:
    """One experiment.

    Attributes:
        method: key of ``methods.METHODS``; ``method_config`` are the fields of its ``Config``, of which ``classes``
            follows from the labels.
        labels: of the values 1 to K of the raters' masks, in order.
        sampling: default sampler of the model, also used for validation.
        checkpoint_every_images: how often the state for resuming is written, besides validations and the end.
        tensorboard: also write TensorBoard events.
        seed: of initial weights, order of items, noise and augmentation.
    """

    method: str = "cimd"
    method_config: dict[str, Any] = field(default_factory=dict)
    labels: tuple[Label, ...] = DEFAULT_LABELS
    card: CardConfig = field(default_factory=CardConfig)
    dataset: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    sampling: SamplerSettings = field(default_factory=SamplerSettings)
    checkpoint_every_images: int = 50_000
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_field(self, self.checkpoint_every_images >= 1, "checkpoint_every_images", "at least 1")
        check_field(self, 0 <= self.seed < 2**63, "seed", "0 or more, and below 2**63")
        check_labels(self.labels)
        if self.dataset.point is not None:
            varied = ("gain", "offset", "blur", "sharpen", "dark_corners")
            changed = {name: getattr(self.augmentation, name) for name in varied}
            if any(changed.values()):
                got = ", ".join(f"{name} {value:g}" for name, value in changed.items() if value)
                raise ValueError(
                    f"augmentation.{', '.join(varied[:-1])} and {varied[-1]} change the map of the point with the "
                    f"image, got {got}; leave them at 0 where dataset.point is set."
                )
        classes = self.method_config.get("classes", len(self.labels))
        if classes != len(self.labels):
            named = ", ".join(label.name for label in self.labels)
            raise ValueError(
                f"method_config.classes is {classes}, but there are {len(self.labels)} label(s), {named}; leave it "
                "out, it follows from labels."
            )
        if classes > 1:
            object.__setattr__(self, "method_config", {**self.method_config, "classes": classes})


def completed(config: TrainingConfig) -> TrainingConfig:
    """The same with the defaults of its method spelt out, so that a run is the same however it was described.

    Raises:
        ValueError: as ``methods.method_config``.
    """
    return replace(config, method_config=to_dict(method_config(config.method, config.method_config)))


def of_today(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A whole configuration that was stored, under today's names: what it could not name yet has its default.

    Raises:
        ValueError, TypeError, AttributeError: settings that are unknown here.
    """
    return to_dict(completed(from_dict(TrainingConfig, lifted(stored, quiet=True), "")))


def lifted(config: Mapping[str, Any], quiet: bool = False) -> dict[str, Any]:
    """A configuration as plain types, whole or in part, with what earlier versions called otherwise under its new name.

    Each is told in one warning, unless ``quiet``.

    Raises:
        ValueError: something under its old name and its new one.
    """
    new = dict(config)
    card, sampling = new.get("card"), new.get("sampling")
    if isinstance(card, Mapping) and "label" in card:
        if "labels" in new:
            raise ValueError("card.label is now called labels; give labels alone.")
        new["card"] = {key: value for key, value in card.items() if key != "label"}
        new["labels"] = [{"name": card["label"]}]
        _note_old_name(quiet, "card.label", f"write labels: [{{name: {card['label']}}}]")
    if isinstance(sampling, Mapping) and "eta" in sampling:
        new["sampling"] = lift_eta(sampling)
        needed = "options" in new["sampling"]
        _note_old_name(
            quiet, "sampling.eta", f"write sampling.options: {{eta: {sampling['eta']}}}" if needed else "leave it out"
        )
    return new


def _note_old_name(quiet: bool, old: str, remedy: str) -> None:
    if not quiet:
        log.warning("%s is an old name, which the next version will not read; %s.", old, remedy)

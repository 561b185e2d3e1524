"""What network a plan trains, for how long, and how it is checked on the way. Rules with their reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.data.split import split_cases
from AmbiguousSegLib.training.plan_intensity import Choice
from AmbiguousSegLib.training.plan_speed import SpeedOf

if TYPE_CHECKING:
    from AmbiguousSegLib.data.readers import Case

# Widths of the levels from 32 to 256 pixels; the lowest is 6 to 11 pixels wide, and has attention.
_WIDTHS = {3: [1, 2, 4], 4: [1, 2, 4, 4], 5: [1, 1, 2, 4, 4], 6: [1, 1, 2, 2, 4, 4]}
_BATCH_CPU, _BATCH_GPU = 16, 64
_WIDTH_CPU, _WIDTH_GPU = 16, 32
_STEPS, _SAMPLES, _VALIDATIONS, _VALIDATION_CASES = 4, 8, 10, 64
# On the real nodules GED fell from .307 at 8,000 images to .220 at 16,000 and .214 at 32,000; on 150 images of BU-BIL
# it still fell at 24,000, which is 160 times each.
_FEW_IMAGES, _ENOUGH_IMAGES, _MOST_IMAGES, _LEAST_EPOCHS, _MOST_EPOCHS = 16_000, 32_000, 2_000_000, 20, 500
_FEW_SUBJECTS = 6  # of fewer, none is kept for a test
_MINUTES, _MOST_OVER = 60.0, 2.0  # where no time is asked for; how much longer it may take for _LEAST_EPOCHS
_FULL_USE = 0.9  # of the time asked for: the rest is for reading data and writing files


@dataclass(frozen=True)
class Machine:
    """What trains.

    Attributes:
        device: "cpu", "cuda" or "mps".
        cores: that this process may use.
        minutes: that the training may take; None: an hour, or what a training needs at least.
        speed: measures how fast a network trains here.
        images: how many to train on whatever the time; None: as many as fit in it.
    """

    device: str
    cores: int
    minutes: float | None
    speed: SpeedOf
    images: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"The minutes that a training may take must be positive, got {self.minutes}.")
        if self.images is not None and self.images < 1:
            raise ValueError(f"The number of images to train on must be at least 1, got {self.images}.")

    @property
    def gpu(self) -> bool:
        """Whether it has one."""
        return self.device != "cpu"


@dataclass(frozen=True)
class Run:
    """Choices about network and training, and what they are expected to need."""

    choices: tuple[Choice, ...]
    minutes: float
    memory_mb: float


def network(size: Sequence[int], channels: int, gpu: bool) -> dict[str, Any]:
    """``method_config`` of a diffusion model for slices of this size: the network of the presets, by level.

    As many levels as bring the longer side to 6 to 11 pixels.
    """
    side = max(size)
    levels = min(max(round(math.log2(side / 8)) + 1, min(_WIDTHS)), max(_WIDTHS))
    return {
        "image_channels": channels,
        "unet": {
            "image_size": side,
            "model_channels": _WIDTH_GPU if gpu else _WIDTH_CPU,
            "channel_mult": _WIDTHS[levels],
            "num_res_blocks": 1,
            "attention_sizes": [side >> (levels - 1)],
            "num_heads": 4,
            "use_scale_shift_norm": True,
            "norm_groups": 8,
        },
        "schedule": {"kind": "linear", "steps": 1000},
        "prediction": "x0",
        "variance": "posterior",
        "mask_levels": [-1.0, 1.0],
        "beta_ambiguity": 0.0,
    }


def plan_split(seen: Sequence[Inspection]) -> tuple[list[Choice], list[Inspection], list[Inspection]]:
    """Fractions of the split, and what was seen in the cases that are then for training and for validation.

    Parts that the data states are used; otherwise the fewer subjects there are, the more of them train.

    Raises:
        ValueError: as ``split_cases``.
    """
    stated = {case.part for case in seen if case.part}
    subjects = len({case.subject for case in seen if case.part in ("", "train")})
    told = f"{subjects} subject{'s' * (subjects != 1)} to train on"
    if subjects < 3:
        validation, why = 0.0, f"{told}, none can be spared: the last averaged weights are kept"
    else:
        validation, why = 0.1 if subjects >= 100 else 0.15 if subjects >= 10 else 0.2, told
    test = 0.0 if stated or subjects < _FEW_SUBJECTS else validation
    if stated:
        why_test = f"the data states the parts: {', '.join(sorted(stated))}"
    else:
        why_test = why if test else f"{told}: too few to keep some for a test"
    if "validation" in stated:
        validation, why = 0.0, why_test
    choices: list[Choice] = [
        ("dataset.validation_fraction", validation, why),
        ("dataset.test_fraction", test, why_test),
    ]
    config = DataConfig(validation_fraction=validation, test_fraction=test)
    split = split_cases(config, cast("Sequence[Case]", seen))  # it looks at subjects, groups and parts
    train, held_out = (cast("list[Inspection]", list(part)) for part in (split.train, split.validation))
    return choices, train, held_out


def plan_run(
    method: dict[str, Any],
    size: tuple[int, int],
    classes: int,
    items: int,
    validation: int,
    machine: Machine,
) -> Run:
    """Settings ``optimisation``, ``validation``, ``checkpoint_every_images`` and ``dataset.workers``.

    Args:
        method: ``method_config``.
        items: slices to train on.
        validation: held-out slices.
    """
    batch = _BATCH_GPU if machine.gpu else _BATCH_CPU
    workers = min(8, max(machine.cores - 1, 1)) if machine.gpu else 0
    speed = machine.speed(method | ({"classes": classes} if classes > 1 else {}), size, batch)
    cases = min(validation, _VALIDATION_CASES)
    checks_s = _VALIDATIONS * cases * _SAMPLES * _STEPS / speed.evaluated_per_s
    # Without workers, items are prepared in turns with the steps; with them, beside these.
    image_s = 1 / speed.trained_per_s, 1 / speed.prepared_per_s
    per_s = 1 / (max(image_s[0], image_s[1] / workers) if workers else sum(image_s))
    images, why = _images(items, per_s, checks_s, machine, batch)
    expected = (images / per_s + checks_s) / _FULL_USE / 60
    every = max(batch, images // _VALIDATIONS)
    steps = images / batch
    choices: list[Choice] = [
        ("dataset.workers", workers, "beside the GPU" if workers else "the network needs all cores"),
        ("optimisation.images", images, why),
        ("optimisation.batch_size", batch, "what keeps a GPU busy" if machine.gpu else "as the presets"),
        ("optimisation.learning_rate", 1e-3, "as the presets for networks this small"),
        ("optimisation.schedule", "cosine", "down to 0 at the end, where the model is best"),
        ("optimisation.warmup_images", min(3200, max(batch, images // 20)), "a twentieth of the run, at most 3200"),
        ("optimisation.ema_decay", 0.999 if steps < 20_000 else 0.9999, f"{steps:,.0f} updates"),
        ("validation.every_images", every, f"{_VALIDATIONS} times in all"),
        (
            "validation.cases",
            _VALIDATION_CASES,
            f"of {validation} held-out slices" if validation else "none is held out",
        ),
        ("validation.samples", _SAMPLES, "enough for the estimate of GED without bias"),
        ("validation.estimator", "u", "its expectation does not depend on the number of samples"),
        ("checkpoint_every_images", every, "what a crash can cost at most"),
    ]
    return Run(tuple(choices), expected, speed.memory_mb)


def _images(items: int, per_s: float, checks_s: float, machine: Machine, batch: int) -> tuple[int, str]:
    if machine.images is not None:
        return max(machine.images, batch), f"as asked for; each of {items} slices {machine.images / items:.0f} times"
    minutes = _MINUTES if machine.minutes is None else machine.minutes
    fit = (60 * minutes * _FULL_USE - checks_s) * per_s
    why = f"{minutes:g} minutes at {per_s:.3g} images a second on {machine.device}"
    most = min(max(_MOST_EPOCHS * items, _ENOUGH_IMAGES), _MOST_IMAGES)
    least = _FEW_IMAGES if machine.minutes is None else 1000
    if machine.minutes is None and fit < _LEAST_EPOCHS * items < _MOST_OVER * fit:
        least = max(least, _LEAST_EPOCHS * items)
    if fit > most:
        fit, why = most, f"more than {most:,} of {items} slices would hardly help"
    elif fit < least:
        fit, why = least, f"{why} are fewer than {least:,}, which a training needs"
    fit = round(fit)
    images = fit // 1000 * 1000 if fit >= 20_000 else fit // 100 * 100
    if images < _FEW_IMAGES:
        why += f"; fewer than {_FEW_IMAGES:,} are rarely enough: give it more time"
    return images, f"{why}; each of {items} slices {images / items:.0f} times"

"""CPU seconds as a number of images: a few steps are timed, and the number is then fixed for the run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from AmbiguousSegLib.benchmarking.file import Budget
from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.text_files import read_json
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.training.dataset import TrainingData
from AmbiguousSegLib.training.trainer import Trainer

FILE = "budget.json"
_WARM_UP, _FEWEST, _MOST = 2, 10, 5000  # steps before the timing, and steps timed at least and in all
_SHARE = 0.02  # of the budget that is timed

Clock = Callable[[], float]


@dataclass(frozen=True)
class Allowance:
    """Images that a cell is trained on, and where they come from: images a CPU second, or None: given as such."""

    images: int
    images_per_cpu_second: float | None = None


def allowance(
    folder: Path, budget: Budget, data: TrainingData, device: torch.device, clock: Clock = time.process_time
) -> Allowance:
    """The images of a cell, measured once and kept in ``folder``, so that a run that is resumed stays the same.

    Args:
        clock: CPU seconds of this process.

    Raises:
        ValueError: a note in ``folder`` that is damaged.
    """
    if budget.images is not None:
        return Allowance(budget.images)
    if (folder / FILE).exists():
        return from_dict(Allowance, read_json(folder / FILE), FILE)
    if budget.cpu_seconds is None:
        raise ValueError("The budget has neither images nor cpu_seconds; give one.")
    speed = images_per_cpu_second(data, device, budget.cpu_seconds, clock)
    size = data.config.optimisation.batch_size
    found = Allowance(max(1, int(speed * budget.cpu_seconds / size)) * size, speed)
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(to_dict(found)) + "\n", encoding="utf-8")
    return found


def images_per_cpu_second(data: TrainingData, device: torch.device, seconds: float, clock: Clock) -> float:
    """Speed of the first steps of a training that is thrown away: updates with the data they need, no validation.

    Timed after ``_WARM_UP`` steps, for ``_SHARE`` of ``seconds`` and ``_FEWEST`` steps at least.
    """
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="speed_") as place:
        timed = replace(data, config=_without_pauses(data.config), held_out=data.held_out[:1])
        trainer = Trainer(timed, Path(place) / "run", device)

        def on_progress(images: int, total: int, losses: dict[str, float]) -> None:
            times.append(clock())
            steps = len(times) - 1 - _WARM_UP
            trainer.stopping = steps >= _FEWEST and times[-1] - times[_WARM_UP] >= _SHARE * seconds

        trainer.run(on_progress)
    spent = times[-1] - times[_WARM_UP]
    if spent <= 0:
        raise ValueError(f"{len(times)} steps took no CPU time that can be measured; give the budget in images.")
    return (len(times) - 1 - _WARM_UP) * data.config.optimisation.batch_size / spent


def _without_pauses(config: TrainingConfig) -> TrainingConfig:
    """The same without validations and checkpoints on the way, for as many steps as are timed at most."""
    endless = 2**40
    optimisation = replace(config.optimisation, images=_MOST * config.optimisation.batch_size)
    validation = replace(config.validation, every_images=endless)
    return replace(config, optimisation=optimisation, validation=validation, checkpoint_every_images=endless)

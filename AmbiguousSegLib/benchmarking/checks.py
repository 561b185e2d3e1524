"""What the systems of a benchmark must keep to, checked before the first is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.diffusion.settings import FLOW
from AmbiguousSegLib.diffusion.step_grids import steps_of
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.training.config import TrainingConfig

_JUDGED = (
    *("kind", "size", "spacing_mm", "plane", "leave_out", "subject_pattern", "split_file"),
    *("validation_fraction", "test_fraction", "split_seed", "phantom_seed"),
)
"""Of a dataset: what the masks follow from that a system is judged on."""


def check_sampler(config: TrainingConfig, own: Mapping[str, object]) -> None:
    """ValueError for a sampler that the method cannot take, more steps than its schedule has, or a grid for a flow.

    Args:
        config: completed.
        own: what the benchmark's file says of this system's sampler; a grid of what lies below is meant for others.
    """
    method = METHODS[config.method]
    if not method.samples_by_steps:
        return
    samplers.check(config.sampling, method.sampler_family)
    if method.sampler_family != FLOW:
        steps_of(config.sampling.grid, config.method_config["schedule"]["steps"], config.sampling.steps)
    elif "grid" in own:
        raise ValueError(
            f"sampling.grid is {own['grid']!r}, but the method {config.method} is a flow, which has no grid of "
            "training steps; leave grid out."
        )


def check_same_data(file: str | Path, systems: Mapping[str, TrainingConfig]) -> None:
    """ValueError for systems, by name, that would be judged on different masks."""
    (first, expected), *others = ((name, _judged(config)) for name, config in systems.items())
    for name, judged in others:
        for key, value in judged.items():
            if value != expected[key]:
                raise ValueError(
                    f"{file}: {key} is {expected[key]!r} in {first} and {value!r} in {name}, but all systems are "
                    "judged on the same masks; give it in base alone."
                )


def _judged(config: TrainingConfig) -> dict[str, object]:
    settings = {f"dataset.{key}": getattr(config.dataset, key) for key in _JUDGED}
    return {**settings, "labels": [label.name for label in config.labels]}

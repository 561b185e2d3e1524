"""Named choices between speed and faithfulness of sampling, and the sampler that each stands for; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from AmbiguousSegLib.diffusion.settings import CATEGORICAL, FLOW, GAUSSIAN, SamplerSettings


class Quality(Enum):
    """How much computation a sample is worth, by the name in files and on command lines; ``_MEANINGS`` has the rest.

    The names of the members are the format of saved scenes.
    """

    FAST = "fast"
    BALANCED = "balanced"
    PAPER = "paper"

    def label(self) -> str:
        """For people; Slicer shows it in the selector."""
        return _TITLES[self]

    def in_words(self) -> str:
        """For help texts: "fast 10 steps of dpm++2m"."""
        meaning = _MEANINGS[GAUSSIAN][self]
        return f"{self.value} {meaning.steps or 'all'} steps of {meaning.sampler}"


class _Meaning(NamedTuple):
    """What is sampled with where a model says nothing else; steps None: all of the schedule."""

    sampler: str
    steps: int | None


_TITLES = {Quality.FAST: "Fast", Quality.BALANCED: "Balanced", Quality.PAPER: "As in the paper"}

# By family of the samplers. What samplers and steps do to the samples of a perfect model:
# Testing/Benchmarks/sampler_spread.md.
_MEANINGS = {
    GAUSSIAN: {
        Quality.FAST: _Meaning("dpm++2m", 10),
        Quality.BALANCED: _Meaning("dpm++2m", 25),
        Quality.PAPER: _Meaning("ddpm", None),  # ancestral sampling at every step, as the papers do
    },
    CATEGORICAL: {
        Quality.FAST: _Meaning("categorical", 10),
        Quality.BALANCED: _Meaning("categorical", 25),
        Quality.PAPER: _Meaning("categorical", None),
    },
    FLOW: {
        Quality.FAST: _Meaning("euler", 4),
        Quality.BALANCED: _Meaning("midpoint", 10),
        Quality.PAPER: _Meaning("midpoint", 100),  # in place of the papers' adaptive solver, whose steps nobody knows
    },
}


@dataclass(frozen=True)
class QualityPreset:
    """What a quality means for one model, and what was measured with it there.

    Attributes:
        sampling: sampler, steps and grid.
        ged_u: GED², unbiased, against the raters of held-out cases; 0 is best. None: not measured.
        spread_ratio: spread of the samples over that of the raters, E d(S, S') / E d(Y, Y'); 1 is best. None: not
            measured.
    """

    sampling: SamplerSettings
    ged_u: float | None = None
    spread_ratio: float | None = None


def sampler_of(
    quality: Quality,
    training_steps: int | None,
    qualities: Mapping[str, QualityPreset] | None = None,
    family: str = GAUSSIAN,
) -> SamplerSettings | None:
    """Sampler that a quality stands for: the model's own choice, else one for any model.

    For any model, what ``_MEANINGS`` says, on the trailing grid and with no more steps than the schedule has.

    Args:
        training_steps: steps of the model's diffusion schedule; None for a method that has none.
        qualities: of the model, by the value of a ``Quality``.
        family: of the model's samplers, one of ``diffusion.settings.FAMILIES``.

    Returns:
        None for a method that does not sample by steps: it has nothing to choose.

    Raises:
        ValueError: a schedule without steps.
    """
    if training_steps is None and family != FLOW:
        return None
    if training_steps is not None and training_steps < 1:
        raise ValueError(f"A schedule has at least 1 step, got {training_steps}.")
    if qualities and quality.value in qualities:
        return qualities[quality.value].sampling
    meaning = _MEANINGS[family][quality]
    limits = [steps for steps in (meaning.steps, training_steps) if steps is not None]
    return SamplerSettings(meaning.sampler, min(limits))

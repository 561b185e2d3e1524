"""Named choices between speed and faithfulness of sampling, and the sampler that each stands for; without torch."""

from __future__ import annotations

import math
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
        """For help texts: "fast 4 steps of dpm++2m"."""
        meaning = _MEANINGS[GAUSSIAN][self]
        return f"{self.value} {meaning.steps or 'all'} steps of {meaning.sampler}"


class _Meaning(NamedTuple):
    """What is sampled with where a model says nothing else; steps None: all of the schedule."""

    sampler: str
    steps: int | None


_TITLES = {Quality.FAST: "Fast", Quality.BALANCED: "Balanced", Quality.PAPER: "As in the paper"}

ONE_PASS = "one_pass"
"""Key of the only quality of a method that does not sample by steps."""

# By family of the samplers. What samplers and steps do to the samples of a perfect model:
# Testing/Benchmarks/sampler_spread.md; that four evaluations give what ten do: Testing/Benchmarks/phantom_model.md.
_MEANINGS = {
    GAUSSIAN: {
        Quality.FAST: _Meaning("dpm++2m", 4),
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
class Measured:
    """A figure that was measured, and its interval of 95 %.

    Attributes:
        value: the figure.
        interval_95: its lowest and highest value; None: not known.

    Raises:
        ValueError: a value that is no number, or that its interval does not hold.
    """

    value: float
    interval_95: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        low, high = (self.value, self.value) if self.interval_95 is None else self.interval_95
        if not -math.inf < low <= self.value <= high < math.inf:
            raise ValueError(
                f"A measured value must be a number within its interval_95, got {self.value} and {self.interval_95}; "
                "give the interval as [lowest, highest], or leave it out."
            )

    def __str__(self) -> str:
        """For people: "0.055 (0.051 to 0.059)"."""
        interval = "" if self.interval_95 is None else " ({:.3f} to {:.3f})".format(*self.interval_95)
        return f"{self.value:.3f}{interval}"


@dataclass(frozen=True)
class QualityPreset:
    """What a quality means for one model, and what was measured with it there.

    A figure is None where it was not measured, and a plain number where its interval is not known.

    Attributes:
        sampling: sampler, steps and grid; None for a method that does not sample by steps.
        ged_u: GED², unbiased, against the raters of held-out cases; 0 is best.
        spread_ratio: spread of the samples over that of the raters, E d(S, S') / E d(Y, Y'); 1 is best.
        mode_correlation: Pearson's, of a mode's frequency among the samples with its true probability, where that is
            known (``evaluation.mode_frequencies``); 1 is best.
        protocol: in words, what the figures and their intervals were measured on.
    """

    sampling: SamplerSettings | None = None
    ged_u: float | Measured | None = None
    spread_ratio: float | Measured | None = None
    mode_correlation: float | Measured | None = None
    protocol: str = ""

    def in_words(self) -> str:
        """What was measured: "GED u 0.055 (0.051 to 0.059), spread ratio 1.07"; empty where nothing was."""
        figures = (
            ("GED u", self.ged_u),
            ("spread ratio", self.spread_ratio),
            ("mode correlation", self.mode_correlation),
        )
        return ", ".join(
            f"{title} {figure}" if isinstance(figure, Measured) else f"{title} {figure:.3f}"
            for title, figure in figures
            if figure is not None
        )


def check_qualities(qualities: Mapping[str, QualityPreset], by_steps: bool) -> None:
    """ValueError unless a model may have these qualities, by the value of a ``Quality``.

    A method that does not sample by steps has one quality at most, ``ONE_PASS`` (or under any of the other names).
    """
    known = [*(quality.value for quality in Quality), *([] if by_steps else [ONE_PASS])]
    for name, preset in qualities.items():
        if name not in known:
            raise ValueError(f"Unknown quality qualities.{name}; known: {', '.join(known)}.")
        if by_steps and preset.sampling is None:
            raise ValueError(f"Missing key qualities.{name}.sampling; say what it is sampled with.")
    if not by_steps and len(qualities) > 1:
        raise ValueError(
            f"A method of one pass has one quality, got {', '.join(qualities)}; keep one, and name it {ONE_PASS}."
        )


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
    preset = (qualities or {}).get(quality.value)
    if preset is not None and preset.sampling is not None:
        return preset.sampling
    meaning = _MEANINGS[family][quality]
    limits = [steps for steps in (meaning.steps, training_steps) if steps is not None]
    return SamplerSettings(meaning.sampler, min(limits))

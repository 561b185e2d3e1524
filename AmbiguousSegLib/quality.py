"""Named choices between speed and faithfulness of sampling, and the sampler that each stands for; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from AmbiguousSegLib.diffusion.settings import SamplerSettings


class Quality(Enum):
    """How much computation a sample is worth; ``sampler_of`` says what each means."""

    FAST = "fast"
    BALANCED = "balanced"
    PAPER = "paper"

    def label(self) -> str:
        """For people."""
        return {"fast": "Fast", "balanced": "Balanced", "paper": "As in the paper"}[self.value]


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


_FEW_STEPS = {Quality.FAST: 10, Quality.BALANCED: 25}


def sampler_of(
    quality: Quality, training_steps: int | None, qualities: Mapping[str, QualityPreset] | None = None
) -> SamplerSettings | None:
    """Sampler that a quality stands for: the model's own choice, else one for any model.

    For any model, on the trailing grid and with no more steps than the schedule has:

    * ``FAST``: DPM-Solver++(2M) with 10 steps.
    * ``BALANCED``: DPM-Solver++(2M) with 25 steps.
    * ``PAPER``: DDPM's ancestral sampling at every training step, as the papers do; every grid is the same then.

    What samplers, steps and grids do to the samples of a perfect model was measured in
    Testing/Benchmarks/sampler_spread.md.

    Args:
        training_steps: steps of the model's diffusion schedule; None for a method that does not sample by steps.
        qualities: of the model, by the value of a ``Quality``.

    Returns:
        None for a method that does not sample by steps: it has nothing to choose.

    Raises:
        ValueError: a schedule without steps.
    """
    if training_steps is None:
        return None
    if training_steps < 1:
        raise ValueError(f"A schedule has at least 1 step, got {training_steps}.")
    if qualities and quality.value in qualities:
        return qualities[quality.value].sampling
    if quality is Quality.PAPER:
        return SamplerSettings("ddpm", training_steps)
    return SamplerSettings("dpm++2m", min(_FEW_STEPS[quality], training_steps))

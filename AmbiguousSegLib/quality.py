"""Named choices between speed and faithfulness of sampling."""

from __future__ import annotations

from enum import Enum


class Quality(Enum):
    """How much computation a sample is worth; ``sampler_of`` says what each means."""

    FAST = "fast"
    BALANCED = "balanced"
    PAPER = "paper"

    def label(self) -> str:
        """For people."""
        return {"fast": "Fast", "balanced": "Balanced", "paper": "As in the paper"}[self.value]


_FEW_STEPS = {Quality.FAST: 10, Quality.BALANCED: 25}


def sampler_of(quality: Quality, training_steps: int | None) -> tuple[str, int] | None:
    """Name of the sampler and number of steps, never more than the schedule has.

    What they do to the samples of a perfect model was measured in Testing/Benchmarks/sampler_spread.md (schedule of
    1000 steps; std is the standard deviation between samples):

    * ``FAST``, DPM-Solver++(2M) with 10 steps: frequencies are kept, but samples are too alike (0.78 of the true std).
    * ``BALANCED``, DPM-Solver++(2M) with 25 steps: from 20 on it keeps the spread (0.95 at 20, 1.00 at 50).
    * ``PAPER``, DDPM's ancestral sampling at every training step, as the papers do: spread 0.99, frequencies as true
      (the deterministic samplers end 1.3 points of a hundred short, however many steps they take).

    Args:
        training_steps: steps of the model's diffusion schedule; None for a method that does not sample by steps.

    Returns:
        None for such a method: it has nothing to choose.

    Raises:
        ValueError: a schedule without steps.
    """
    if training_steps is None:
        return None
    if training_steps < 1:
        raise ValueError(f"A schedule has at least 1 step, got {training_steps}.")
    if quality is Quality.PAPER:
        return "ddpm", training_steps
    return "dpm++2m", min(_FEW_STEPS[quality], training_steps)

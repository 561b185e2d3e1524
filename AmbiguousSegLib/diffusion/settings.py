"""How a diffusion model is sampled: plain settings, read without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DEFAULT_GRID = "trailing"


@dataclass(frozen=True)
class SamplerSettings:
    """How a diffusion model is sampled. Names are looked up where they are used, by ``samplers.check``.

    Attributes:
        name: of a sampler, see ``diffusion.samplers``: "ddpm", "ddim", "dpm++2m", "dpm++2m-sde", …
        steps: network evaluations; a subset of the training steps.
        grid: which subset, see ``diffusion.step_grids``: "trailing", "both_ends", …
        options: of the sampler, by the names of its keyword arguments, such as ``{"eta": 1.0}`` for "ddim".
    """

    name: str = "ddpm"
    steps: int = 50
    grid: str = DEFAULT_GRID
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"The number of sampling steps must be at least 1, got {self.steps}.")

    def __hash__(self) -> int:
        return hash((self.name, self.steps, self.grid, tuple(sorted(self.options.items()))))

    def in_words(self) -> str:
        """For tables: "ddim eta=1, 10 steps, trailing"."""
        options = "".join(
            f" {key}={value:g}" if isinstance(value, (int, float)) else f" {key}={value}"
            for key, value in sorted(self.options.items())
        )
        return f"{self.name}{options}, {self.steps} steps, {self.grid}"

"""How a diffusion model is sampled: plain settings, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from AmbiguousSegLib import configuration

DEFAULT_GRID = "trailing"
PAST_GRID = "both_ends"  # of settings that were written before grids had names

GAUSSIAN, CATEGORICAL, FLOW = "gaussian", "categorical", "flow"
FAMILIES = (GAUSSIAN, CATEGORICAL, FLOW)
"""What a sampler can sample: a Gaussian diffusion, one over labels, or a flow, which has no training steps."""


@dataclass(frozen=True)
class SamplerSettings:
    """How a diffusion model is sampled. Names are looked up where they are used, by ``samplers.check``.

    Attributes:
        name: of a sampler, see ``diffusion.samplers``: "ddpm", "ddim", "dpm++2m", "dpm++2m-sde", …
        steps: network evaluations; of a diffusion a subset of the training steps.
        grid: which subset, see ``diffusion.step_grids``: "trailing", "both_ends", … A flow has none.
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

    def in_words(self, family: str) -> str:
        """For tables: "ddim eta=1, 10 steps, trailing"; of a flow, which has no grid, "euler, 4 steps".

        Args:
            family: of the sampler, one of ``FAMILIES``.
        """
        options = "".join(
            f" {key}={value:g}" if isinstance(value, (int, float)) else f" {key}={value}"
            for key, value in sorted(self.options.items())
        )
        grid = "" if family == FLOW else f", {self.grid}"
        return f"{self.name}{options}, {self.steps} steps{grid}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "sampler") -> SamplerSettings:
        """Settings from plain JSON types, as jobs, results and models hold them.

        Also those of earlier versions: without a grid, whose steps had both ends, and with an "eta" beside the name.

        Args:
            where: dotted path of ``data`` in its file, for messages.

        Raises:
            ValueError: an unknown key or a value of the wrong type; the message names the key.
        """
        if isinstance(data, Mapping):
            data = {"grid": PAST_GRID, **lift_eta(data)}
        return configuration.from_dict(cls, data, where)


def lift_eta(data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a sampler with the "eta" that earlier versions had beside the name among the options.

    DDIM alone had a use for it, and 0 is what it does without.

    Raises:
        ValueError: "eta" beside "options", which no version wrote.
    """
    if "eta" in data and "options" in data:
        raise ValueError(f"eta is now one of the sampler's options; give options alone, got eta {data['eta']!r} too.")
    lifted = {key: value for key, value in data.items() if key != "eta"}
    if data.get("eta", 0) != 0 and data.get("name", "ddim") == "ddim":
        lifted["options"] = {"eta": data["eta"]}
    return lifted

"""Spread and mode frequencies that each sampler gives for a perfect model.

    python Testing/Benchmarks/sampler_spread.py

writes ``sampler_spread.md`` beside this file. The model is the exact posterior mean of a known distribution, so what is
off is the sampler's doing (and that of starting from N(0, 1), which the linear schedule reaches only nearly). Three
distributions of x_0:

- N(0.2, 0.5²) per pixel;
- one pixel that is −1 with probability 0.3 and +1 with probability 0.7;
- a field of 256 pixels that are all −1 (0.3) or all +1 (0.7). Every sampler here is linear in x and in the estimate,
  the estimate is the same at every pixel, and so the projection of the field on its direction, of length √256, is a
  single number that is −16 or +16: that number is what is simulated.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from AmbiguousSegLib.diffusion.noise import RowNoise  # noqa: E402
from AmbiguousSegLib.diffusion.process import at  # noqa: E402
from AmbiguousSegLib.diffusion.samplers import Denoised, SamplerSettings, run  # noqa: E402
from AmbiguousSegLib.diffusion.schedule import Schedule, ScheduleConfig, spaced_steps  # noqa: E402

TABLE = Path(__file__).with_suffix(".md")
STEPS = (10, 20, 50, 1000)
MEAN, STD, P_HIGH = 0.2, 0.5, 0.7
FIELD = 16.0  # √256
SAMPLES = 200_000

Posterior = Callable[[Schedule, Tensor, Tensor], tuple[Tensor, Tensor]]

# What the table calls a sampler: its settings, and the variance handed to it ("-" where it takes none).
ROWS: dict[str, tuple[str, float, str]] = {
    "DDPM, posterior variance β̃": ("ddpm", 0.0, "lower"),
    "DDPM, variance β": ("ddpm", 0.0, "upper"),
    "DDPM, exact variance": ("ddpm", 0.0, "exact"),
    "DDIM": ("ddim", 0.0, "-"),
    "DDIM, η = 1": ("ddim", 1.0, "-"),
    "DPM-Solver++(2M)": ("dpm++2m", 0.0, "-"),
    "DPM-Solver++(2M) SDE": ("dpm++2m-sde", 0.0, "-"),
}


def gaussian(schedule: Schedule, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """E[x_0 | x_t] and Var[x_0 | x_t] of N(MEAN, STD²): the product of two Gaussians."""
    abar = at(schedule.alphas_cumprod, index, x)
    total = abar * STD**2 + 1 - abar
    return MEAN + abar.sqrt() * STD**2 / total * (x - abar.sqrt() * MEAN), STD**2 * (1 - abar) / total


def two_modes(scale: float) -> Posterior:
    """The same for x_0 = ±``scale`` with P(+) = P_HIGH: the log-odds are 2·√ā·x·scale/(1 − ā) + log P/(1 − P)."""

    def posterior(schedule: Schedule, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        abar = at(schedule.alphas_cumprod, index, x)
        half_log_odds = abar.sqrt() * x * scale / (1 - abar) + 0.5 * math.log(P_HIGH / (1 - P_HIGH))
        sign = torch.tanh(half_log_odds)
        return scale * sign, scale**2 / torch.cosh(half_log_odds).square()

    return posterior


def draw(row: str, steps: int, posterior: Posterior, samples: int, seed: int) -> Tensor:
    """``samples`` numbers x_0, float64."""
    name, eta, variance = ROWS[row]
    schedule = ScheduleConfig("linear", 1000).build().respaced(spaced_steps(1000, steps))

    def denoise(x: Tensor, index: Tensor) -> Denoised:
        mean, spread = posterior(schedule, x, index)
        if variance == "upper":
            return Denoised(mean, at(np.log(schedule.betas), index, x))
        if variance == "exact":  # of p(x_{t−1} | x_t): that of q(x_{t−1} | x_t, x_0), and x_0 is uncertain itself
            coefficient = at(schedule.posterior_mean_coef1, index, x)
            return Denoised(mean, torch.log(at(schedule.posterior_variance, index, x) + coefficient**2 * spread))
        return Denoised(mean)

    noise = RowNoise(seed, [(0, 0)], dtype=torch.float64)
    return run(SamplerSettings(name, steps, eta), denoise, schedule, noise, (1, 1, samples)).flatten()


def spread(row: str, steps: int, samples: int, seed: int = 0) -> float:
    """Standard deviation of the samples over the true one; standard error 1/√(2·samples)."""
    return draw(row, steps, gaussian, samples, seed).std().item() / STD


def frequency_error(row: str, steps: int, scale: float, samples: int, seed: int = 0) -> float:
    """Share of samples in the + mode less the true share; standard error √(0.21/samples)."""
    return (draw(row, steps, two_modes(scale), samples, seed) > 0).double().mean().item() - P_HIGH


def figures(row: str, steps: int, samples: int, seed: int = 0) -> tuple[float, float, float]:
    """The three columns of the table."""
    return (
        spread(row, steps, samples, seed),
        frequency_error(row, steps, 1.0, samples, seed),
        frequency_error(row, steps, FIELD, samples, seed),
    )


def read_table() -> dict[tuple[str, int], tuple[float, float, float]]:
    """The stored table: (sampler, steps) to its three figures."""
    lines = [line.split("|")[1:-1] for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return {
        (row.strip(), int(steps)): (float(spread), float(pixel) / 100, float(field) / 100)
        for row, steps, spread, pixel, field in lines[2:]
    }


def named(table: dict[tuple[str, int], tuple[float, float, float]], wanted: Callable[[float], bool]) -> str:
    """The samplers whose spread is ``wanted``, with the numbers of steps at which it is."""
    parts = []
    for row in ROWS:
        steps = [str(n) for n in STEPS if wanted(table[row, n][0])]
        if steps:
            parts.append(f"{row} ({', '.join(steps)} steps)")
    return "; ".join(parts) if parts else "none"


def report(table: dict[tuple[str, int], tuple[float, float, float]]) -> str:
    """The table as Markdown, with the reading of it."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=TABLE.parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = [
        "# What a sampler does to spread and mode frequencies when the model is perfect",
        "",
        f"Made by `python Testing/Benchmarks/sampler_spread.py` at commit {commit or 'unknown'}, {date.today()}, CPU,",
        f"float64, {SAMPLES:,} samples a figure, seed 0; the machine does not enter. Linear schedule of 1000 steps, of",
        "which the sampler takes evenly spaced ones, both ends among them. Standard errors: spread "
        f"{1 / math.sqrt(2 * SAMPLES):.4f}, frequencies {100 * math.sqrt(0.21 / SAMPLES):.2f} points.",
        "",
        "std / true: x_0 ~ N(0.2, 0.5²). Error of the frequency, in points of a hundred: x_0 = +1 in 70 of 100 cases,",
        "else −1, for a single pixel and for a field of 256 pixels that share one sign.",
        "",
        "| sampler | steps | std / true | frequency error, one pixel | frequency error, field |",
        "|---|---|---|---|---|",
    ]
    for (row, steps), (std, pixel, field) in table.items():
        lines.append(f"| {row} | {steps} | {std:.4f} | {100 * pixel:+.2f} | {100 * field:+.2f} |")
    lines += [
        "",
        f"Understate the spread by more than 5 %: {named(table, lambda value: value < 0.95)}.",
        "",
        f"Overstate the spread by more than 5 %: {named(table, lambda value: value > 1.05)}.",
        "",
        "- DDIM and DDPM with β̃ shrink the spread of a perfect model with few steps; β widens it; only the",
        "  exact variance, which a learned variance aims at, is right for a Gaussian at any number of steps.",
        "- DPM-Solver++(2M) and its SDE form shrink it at 10 steps and keep it from 20 on. Their last step but one,",
        "  into t = 0, is of first order: it is the longest in log signal-to-noise ratio, and the second-order rule",
        "  overstated the spread there (1.39 and 1.67 at 10 steps).",
        "- The field's sign is settled near pure noise, where few steps lie: DDPM with β̃ or β and the SDE form favour",
        "  the frequent mode at 10 and 20 steps. The deterministic samplers end 1.3 points short of it however many",
        "  steps they take: the linear schedule ends at ā = 4·10⁻⁵, where 256 pixels still show a trace of their sign",
        "  that a start from N(0, 1) does not have. At 10 steps this and DDIM's own error of the other sign partly",
        "  cancel.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    table = {}
    for row in ROWS:
        for steps in STEPS:
            table[row, steps] = figures(row, steps, SAMPLES)
            print(row, steps, *(f"{value:.4f}" for value in table[row, steps]), flush=True)
    TABLE.write_text(report(table), encoding="utf-8")


if __name__ == "__main__":
    main()

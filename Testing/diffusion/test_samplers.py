"""Samplers against exact scores, against a second implementation, and against the table of their spread."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from Benchmarks import sampler_spread
from torch import Tensor

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import (
    SAMPLERS,
    Denoised,
    check,
    family_of,
    names_of,
    of_family,
    options_of,
    run,
)
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.diffusion.step_grids import both_ends, integer_stride, steps_of

LINEAR = ScheduleConfig("linear", 1000).build()
SHAPE = (1, 4, 4)
EVERY_SAMPLER = [
    ("ddpm", {}),
    *(("ddim", {"eta": eta}) for eta in (0.0, 0.5, 1.0)),
    ("dpm++2m", {}),
    ("dpm++2m-sde", {}),
]


# Spread and frequencies under the exact score


@pytest.mark.slow
def test_ddpm_at_every_step_keeps_the_spread():
    for row in ("DDPM, posterior variance β̃", "DDPM, variance β", "DDPM, exact variance"):
        assert sampler_spread.spread(row, "trailing", 1000, 20_000, seed=1) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("grid", sampler_spread.GRIDS)
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_exact_variance_is_right_at_any_number_of_steps(grid, steps):
    """p(x_{t−1} | x_t) of a Gaussian is a Gaussian: its mean and variance are all that sampling needs.

    The last step adds no noise, so that its x_t are right and what is returned is E[x_0 | x_t], whose variance is
    STD⁴·ā/(ā·STD² + 1 − ā): hardly less than STD² at t = 0, but much less at the first step of a coarse trailing grid.
    """
    x = sampler_spread.draw("DDPM, exact variance", grid, steps, sampler_spread.gaussian, 100_000, seed=2)
    assert x.mean().item() == pytest.approx(sampler_spread.MEAN, abs=4 * 0.5 / math.sqrt(100_000))
    signal = LINEAR.alphas_cumprod[steps_of(grid, 1000, steps)[0]] * sampler_spread.STD**2
    noise = 1 - LINEAR.alphas_cumprod[steps_of(grid, 1000, steps)[0]]
    expected = math.sqrt(signal / (signal + noise))
    assert x.std().item() / sampler_spread.STD == pytest.approx(expected, rel=4 / math.sqrt(200_000) + 1e-3)


@pytest.mark.parametrize("row", sampler_spread.ROWS)
@pytest.mark.parametrize("grid", sampler_spread.GRIDS)
@pytest.mark.parametrize("steps", [4, 10, 50])
def test_table_of_spread_and_frequencies_holds(row, grid, steps):
    """The committed figures, from other random numbers, within four standard errors of the difference."""
    samples = 20_000
    expected = sampler_spread.read_table()[row, grid, steps]
    got = sampler_spread.figures(row, grid, steps, samples, seed=3)
    both = math.sqrt(1 / samples + 1 / sampler_spread.SAMPLES)
    assert got[0] == pytest.approx(expected[0], rel=4 * both / math.sqrt(2))
    assert got[1:] == pytest.approx(expected[1:], abs=4 * math.sqrt(0.21) * both)


def test_table_is_complete():
    keys = itertools.product(sampler_spread.ROWS, sampler_spread.GRIDS, sampler_spread.STEPS)
    assert set(sampler_spread.read_table()) == set(keys)


@pytest.mark.parametrize("row", ["DDPM, exact variance", "DDIM", "DPM-Solver++(2M)", "DPM-Solver++(2M) SDE"])
def test_modes_keep_their_frequencies_at_enough_steps(row):
    samples = 40_000
    bias = 0.004  # of 100 steps and of the start from N(0, 1)
    got = sampler_spread.frequency_error(row, "trailing", 100, 1.0, samples, seed=4)
    assert abs(got) < 4 * math.sqrt(0.21 / samples) + bias


def test_field_projects_on_a_single_number():
    """The claim by which the table treats 256 pixels as one: here 4 pixels, sampled as pixels, and as one number."""
    schedule = LINEAR.respaced(steps_of("trailing", 1000, 20))
    noise = RowNoise(5, [(0, s) for s in range(50)], dtype=torch.float64)
    posterior = sampler_spread.two_modes(2.0)
    for name, options in EVERY_SAMPLER:

        def whole(x: Tensor, index: Tensor) -> Denoised:
            projected = x.sum((1, 2, 3), keepdim=True) / 2
            return Denoised((posterior(schedule, projected, index)[0] / 2).expand_as(x))

        def single(x: Tensor, index: Tensor) -> Denoised:
            return Denoised(posterior(schedule, x, index)[0])

        class Projected:
            def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
                return noise.normal(draw, (1, 2, 2)).sum((1, 2, 3), keepdim=True) / 2

        settings = SamplerSettings(name, 20, options=options)
        pixels = run(settings, whole, schedule, noise, (1, 2, 2)).sum((1, 2, 3)) / 2
        number = run(settings, single, schedule, Projected(), (1, 1, 1)).flatten()
        torch.testing.assert_close(pixels, number, rtol=1e-9, atol=1e-9)


# Second implementation: diffusers


def curved(x: Tensor, t: Tensor) -> Tensor:
    """Some smooth estimate of x_0 that depends on both arguments."""
    return torch.tanh(1.3 * x + 0.2 * torch.sin(t / 150.0) + 0.1 * x.roll(1, -1))


def ours(name: str, steps: np.ndarray, variance: float | None = None, **options: float) -> tuple[Tensor, RowNoise]:
    schedule = LINEAR.respaced(steps)
    noise = RowNoise(6, [(0, 0), (0, 1)], dtype=torch.float64)

    def denoise(x: Tensor, index: Tensor) -> Denoised:
        estimate = curved(x, torch.from_numpy(schedule.timesteps)[index].reshape(-1, 1, 1, 1))
        if variance is None:
            return Denoised(estimate)
        upper = torch.from_numpy(np.log(schedule.betas))[index]
        lower = torch.from_numpy(schedule.posterior_log_variance_clipped)[index]
        mixed = (variance + 1) / 2 * upper + (1 - variance) / 2 * lower
        return Denoised(estimate, mixed.reshape(-1, 1, 1, 1).expand_as(x))

    return run(SamplerSettings(name, len(steps), options=options), denoise, schedule, noise, SHAPE), noise


def theirs(scheduler, noise: RowNoise, extra, output=lambda x0: x0, pass_noise=None, before=lambda k: None) -> Tensor:
    scheduler.alphas_cumprod = torch.from_numpy(LINEAR.alphas_cumprod)  # theirs are float32
    x = noise.normal(0, SHAPE)
    for k, t in enumerate(scheduler.timesteps):
        if pass_noise is not None:
            pass_noise(noise.normal(k + 1, SHAPE))
        before(k)
        x = scheduler.step(output(curved(x, t)), t, x, **extra(noise.normal(k + 1, SHAPE))).prev_sample
    return x


@pytest.mark.parametrize("count", [10, 20, 50])
@pytest.mark.parametrize("variance", [None, -1.0, 0.3, 1.0])
def test_ddpm_is_that_of_diffusers(count, variance, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    steps = both_ends(1000, count)
    kind = "fixed_small" if variance is None else "learned_range"
    scheduler = diffusers.DDPMScheduler(prediction_type="sample", clip_sample=False, variance_type=kind)
    scheduler.set_timesteps(timesteps=steps[::-1].tolist())
    module = __import__("diffusers.schedulers.scheduling_ddpm", fromlist=["randn_tensor"])

    def output(x0):
        return x0 if variance is None else torch.cat([x0, torch.full_like(x0, variance)], dim=1)

    def pass_noise(z):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: z)

    got, noise = ours("ddpm", steps, variance=variance)
    expected = theirs(scheduler, noise, lambda z: {}, output, pass_noise)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [10, 20, 50])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_is_that_of_diffusers(count, eta):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(prediction_type="sample", clip_sample=False, timestep_spacing="leading")
    scheduler.set_timesteps(count)
    steps = integer_stride(1000, count)
    assert scheduler.timesteps.tolist() == steps[::-1].tolist()
    got, noise = ours("ddim", steps, eta=eta)
    expected = theirs(scheduler, noise, lambda z: {"eta": eta} | ({"variance_noise": z} if eta else {}))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("count", [10, 20, 50])
@pytest.mark.parametrize("stochastic", [False, True])
def test_dpm_solver_is_that_of_diffusers(count, stochastic):
    diffusers = pytest.importorskip("diffusers")
    steps = both_ends(1000, count)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="sample",
        trained_betas=LINEAR.betas,
        algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(timesteps=steps[::-1].tolist())
    abar = LINEAR.alphas_cumprod[steps[::-1]]  # in float64 instead of float32
    scheduler.sigmas = torch.from_numpy(np.append(np.sqrt((1 - abar) / abar), 0.0))
    got, noise = ours("dpm++2m-sde" if stochastic else "dpm++2m", steps)

    def before(k):
        if k == count - 2:  # the step into t = 0: first order, which is what it takes without a history
            scheduler.lower_order_nums = 0

    expected = theirs(scheduler, noise, lambda z: {"variance_noise": z} if stochastic else {}, before=before)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


# Relations that hold exactly


def test_ddim_with_full_noise_is_ddpm():
    steps = steps_of("trailing", 1000, 25)
    torch.testing.assert_close(ours("ddim", steps, eta=1.0)[0], ours("ddpm", steps)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), EVERY_SAMPLER)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_certain_model_is_believed(name, options, count):
    """An estimate that never changes is the result, and one step gives the estimate made from pure noise."""
    certain = RowNoise(7, [(0, 0), (0, 1)], dtype=torch.float64).normal(99, SHAPE)
    noise = RowNoise(8, [(0, 0), (0, 1)], dtype=torch.float64)
    schedule = LINEAR.respaced(steps_of("trailing", 1000, count))
    got = run(SamplerSettings(name, count, options=options), lambda x, i: Denoised(certain), schedule, noise, SHAPE)
    torch.testing.assert_close(got, certain, rtol=0, atol=1e-6)
    once = LINEAR.respaced(steps_of("trailing", 1000, 1))
    got = run(SamplerSettings(name, 1, options=options), lambda x, i: Denoised(torch.tanh(x)), once, noise, SHAPE)
    torch.testing.assert_close(got, torch.tanh(noise.normal(0, SHAPE)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), EVERY_SAMPLER)
def test_progress_and_draws(name, options):
    """One call after each evaluation; draw 0 is the start, draw k the noise of step k, none at the last step."""
    schedule, draws, progress = LINEAR.respaced(steps_of("trailing", 1000, 6)), [], []

    class Spy:
        def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
            draws.append(draw)
            return torch.zeros(2, *shape)

    def denoise(x: Tensor, index: Tensor) -> Denoised:
        assert index.tolist() == [5 - len(progress)] * 2
        return Denoised(x)

    settings = SamplerSettings(name, 6, options=options)
    run(settings, denoise, schedule, Spy(), SHAPE, lambda *step: progress.append(step))
    assert progress == [(k, 6) for k in range(1, 7)]
    assert draws == ([0] if name == "dpm++2m" or options.get("eta") == 0 else list(range(6)))

    class Cancelled(Exception):
        pass

    def cancel(step: int, total: int) -> None:
        if step == 3:
            raise Cancelled

    progress.clear()
    with pytest.raises(Cancelled):
        run(settings, lambda x, i: Denoised(x), schedule, Spy(), SHAPE, cancel)


def test_a_sampler_of_ones_own_is_one_function():
    """Registered where it stands, with options that are its keyword arguments: known at once, checked, and run."""

    @SAMPLERS.register("toy")
    def toy(denoise, schedule, noise, shape, *, gain: float = 1.0):
        x = noise.normal(0, shape)
        for i in reversed(range(len(schedule))):
            x = gain * denoise(x, torch.full((len(x),), i)).x0
        return x

    try:
        assert "toy" in SAMPLERS and options_of("toy") == {"gain": 1.0}
        settings, noise = SamplerSettings("toy", 3, options={"gain": 2.0}), RowNoise(0, [(0, 0)])
        schedule, seen = LINEAR.respaced(steps_of(settings.grid, 1000, 3)), []
        got = run(settings, lambda x, i: Denoised(x + i[0]), schedule, noise, SHAPE, lambda *step: seen.append(step))
        torch.testing.assert_close(got, 2 * (2 * (2 * (noise.normal(0, SHAPE) + 2) + 1)))
        assert seen == [(1, 3), (2, 3), (3, 3)]
        with pytest.raises(ValueError, match="The sampler toy has no option 'eta'; its options: gain"):
            check(SamplerSettings("toy", options={"eta": 1.0}))
        with pytest.raises(ValueError, match="already"):
            SAMPLERS.register("toy")(toy)
    finally:
        SAMPLERS.unregister("toy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "leap"}, "Unknown sampler 'leap'; known: .*ddpm, ddim, dpm[+][+]2m, dpm[+][+]2m-sde"),
        ({"grid": "leading"}, "Unknown step grid 'leading'"),
        ({"name": "ddpm", "options": {"eta": 1.0}}, "The sampler ddpm has no option 'eta'; its options: none"),
        ({"name": "ddim", "options": {"rho": 1.0}}, "no option 'rho'; its options: eta"),
        ({"name": "ddim", "options": {"eta": "1"}}, "option eta of the sampler ddim must be a finite number, got '1'"),
    ],
)
def test_settings_that_there_are_not_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check(SamplerSettings(**changes))


def test_a_sampler_is_of_one_family_and_a_method_takes_one():
    """A sampler that says nothing is one for Gaussian diffusion."""
    assert names_of("gaussian") == ["ddpm", "ddim", "dpm++2m", "dpm++2m-sde"]
    assert names_of("categorical") == ["categorical"] and family_of("categorical") == "categorical"
    check(SamplerSettings("categorical"), "categorical")
    check(SamplerSettings("categorical"))
    message = "The sampler ddim is of the family gaussian, but the method needs one of the family categorical; choose c"
    with pytest.raises(ValueError, match=message):
        check(SamplerSettings("ddim"), "categorical")
    with pytest.raises(ValueError, match="The sampler categorical is .*family gaussian; choose ddpm or ddim or dpm"):
        run(SamplerSettings("categorical", 2), lambda x, i: Denoised(x), LINEAR, RowNoise(0, [(0, 0)]), SHAPE)
    with pytest.raises(ValueError, match="must be one of gaussian, categorical, flow, got 'poisson'"):
        of_family("poisson")


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SamplerSettings(steps=0)
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\], got 1.5"):
        ours("ddim", steps_of("trailing", 1000, 3), eta=1.5)


def test_settings_in_words_tell_a_grid_where_there_is_one():
    assert SamplerSettings("ddim", 10, options={"eta": 1.0}).in_words("gaussian") == "ddim eta=1, 10 steps, trailing"
    assert SamplerSettings("categorical", 5, "both_ends").in_words("categorical") == "categorical, 5 steps, both_ends"
    assert SamplerSettings("euler", 4).in_words("flow") == "euler, 4 steps"

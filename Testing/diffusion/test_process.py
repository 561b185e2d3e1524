"""Equations of the diffusion process against each other, against brute force and against the published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from make_expected import normal
from scipy.stats import norm
from shared_data import shared_path
from torch.distributions import Normal, kl_divergence

from AmbiguousSegLib.diffusion import losses, process
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.step_grids import both_ends

LINEAR, COSINE = ScheduleConfig("linear", 1000).build(), ScheduleConfig("cosine", 1000).build()
INDEX = torch.tensor([0, 1, 250, 700, 900])


def draws() -> tuple[torch.Tensor, torch.Tensor]:
    """A mask and noise ``(5, 1, 4, 3)``, float64."""
    return torch.sign(normal(0, 5, 1, 4, 3)).double(), normal(1, 5, 1, 4, 3).double()


def column(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values)[INDEX].reshape(-1, 1, 1, 1)


def close(got, expected, atol=1e-6):
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=atol)


# The three parametrisations


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
def test_noising_is_a_rotation_of_mask_and_noise(schedule):
    """With cos φ = √ā: x_t = cos φ·x_0 + sin φ·ε and v = cos φ·ε − sin φ·x_0, one turned plane."""
    x0, noise = draws()
    cos, sin = column(np.sqrt(schedule.alphas_cumprod)), column(np.sqrt(1 - schedule.alphas_cumprod))
    x_t = process.q_sample(schedule, x0, INDEX, noise)
    v = process.target("v", schedule, x0, INDEX, noise)
    close(x_t, cos * x0 + sin * noise)
    close(v, cos * noise - sin * x0)
    close(x_t**2 + v**2, x0**2 + noise**2, atol=1e-5)
    close(cos * x_t - sin * v, x0)
    close(sin * x_t + cos * v, noise)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE.respaced(both_ends(1000, 950)), LINEAR.respaced(INDEX.numpy())])
@pytest.mark.parametrize("prediction", process.PREDICTIONS)
def test_a_perfect_output_gives_back_mask_and_noise(prediction, schedule):
    x0, noise = draws()
    index = INDEX if len(schedule) > 5 else torch.arange(5)
    x_t = process.q_sample(schedule, x0, index, noise)
    wanted = process.target(prediction, schedule, x0, index, noise)
    # rounding of the tables to float32 (6e-8) is magnified by √(1/ā)
    magnified = float(np.sqrt(1 / schedule.alphas_cumprod[index.numpy()].min()))
    estimate = process.x0_from(prediction, schedule, wanted, x_t, index)
    close(estimate, x0, atol=1e-6 * magnified)
    # and at low noise the way from x_0 to ε divides by √(1/ā − 1)
    steep = float(np.sqrt(1 / (1 / schedule.alphas_cumprod[index.numpy()] - 1)).max())
    close(process.epsilon_from_x0(schedule, x0, x_t, index), noise, atol=1e-6 * max(steep, magnified))


def test_targets():
    x0, noise = draws()
    assert process.target("epsilon", LINEAR, x0, INDEX, noise) is noise
    assert process.target("x0", LINEAR, x0, INDEX, noise) is x0


def test_tables_are_looked_up_per_row_and_rounded_once():
    values = np.array([0.1, 1 / 3, 2.0])
    got = process.at(values, torch.tensor([2, 0, 1, 0]), torch.zeros(4, 2, 5, dtype=torch.float64))
    assert got.dtype == torch.float64
    assert got[:, 0, 0].tolist() == values.astype(np.float32)[[2, 0, 1, 0]].tolist()


# The reverse step


def test_posterior_mean_by_brute_force():
    """Normalise q(x_{t−1}|x_0)·q(x_t|x_{t−1}) on a fine grid and take its mean and variance."""
    x0, x_t = 1.0, -0.3
    grid = np.linspace(-9, 9, 400_001)
    for t in (1, 20, 500, 999):
        before, beta = LINEAR.alphas_cumprod_prev[t], LINEAR.betas[t]
        log_density = norm.logpdf(grid, math.sqrt(before) * x0, math.sqrt(1 - before)) + norm.logpdf(
            x_t, math.sqrt(1 - beta) * grid, math.sqrt(beta)
        )
        density = np.exp(log_density - log_density.max())
        mean = (grid * density).sum() / density.sum()
        variance = ((grid - mean) ** 2 * density).sum() / density.sum()
        like = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        got = process.posterior_mean(LINEAR, x0 * like, x_t * like, torch.tensor([t]))
        assert got.item() == pytest.approx(mean, rel=1e-6, abs=1e-6)
        assert LINEAR.posterior_variance[t] == pytest.approx(variance, rel=1e-6)


def test_learned_range_interpolates_log_variances():
    upper, lower = column(np.log(LINEAR.betas)), column(LINEAR.posterior_log_variance_clipped)
    for v, weight in ((1.0, 1.0), (-1.0, 0.0), (0.0, 0.5), (3.0, 2.0)):  # not clamped beyond ±1
        got = process.learned_range_log_variance(LINEAR, torch.full((5, 1, 1, 1), v).double(), INDEX)
        close(got, weight * upper + (1 - weight) * lower)


# Likelihoods


def test_gaussian_kl_is_torchs():
    mean1, log1, mean2, log2 = normal(2, 4, 50).double()
    expected = kl_divergence(Normal(mean1, (0.5 * log1).exp()), Normal(mean2, (0.5 * log2).exp()))
    close(losses.gaussian_kl(mean1, log1, mean2, log2), expected, atol=1e-12)


def test_discretised_likelihoods_of_all_grey_values_sum_to_one():
    values = (torch.arange(256).double() / 127.5 - 1)[:, None]
    mean, log_scale = torch.tensor([-0.9, 0.1, 1.3]).double(), torch.tensor([-1.0, 0.5, -2.0]).double()
    probability = losses.discretised_log_likelihood(values, mean, log_scale).exp()
    close(probability.sum(0), torch.ones(3).double(), atol=1e-9)


def test_discretised_likelihood_is_that_of_a_normal():
    x = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0]).double()
    mean, scale = torch.tensor([-0.8, -0.2, 0.1, 0.2, 0.7]).double(), 0.3
    got = losses.discretised_log_likelihood(x, mean, torch.full_like(x, math.log(scale))).exp()
    low, high = (x - 1 / 255).numpy(), (x + 1 / 255).numpy()
    low[0], high[-1] = -np.inf, np.inf  # open at the ends
    expected = norm.cdf(high, mean.numpy(), scale) - norm.cdf(low, mean.numpy(), scale)
    np.testing.assert_allclose(got.numpy(), expected, rtol=5e-3)  # the tanh approximation


def test_discretised_likelihood_stays_finite():
    x, mean = torch.tensor([0.0, 1.0]), torch.tensor([9.0, -9.0])
    got = losses.discretised_log_likelihood(x, mean, torch.full((2,), -4.0))
    assert got.tolist() == pytest.approx([math.log(1e-12)] * 2, rel=1e-6)


def test_bound_is_the_kl_of_the_true_step_and_a_likelihood_at_the_end():
    x0, x_t = draws()
    mean, log_variance = normal(3, 5, 1, 4, 3).double(), -2 + 0.1 * normal(4, 5, 1, 4, 3).double()
    got = losses.vlb_term(LINEAR, x0, x_t, INDEX, mean, log_variance)
    nll = losses.discretised_log_likelihood(x0[0], mean[0], 0.5 * log_variance[0]).mean() / -math.log(2)
    assert got[0].item() == pytest.approx(nll.item())
    for row in range(1, 5):
        t = INDEX[row].item()
        c1, c2 = LINEAR.posterior_mean_coef1[t], LINEAR.posterior_mean_coef2[t]
        true = Normal(c1 * x0[row] + c2 * x_t[row], math.sqrt(LINEAR.posterior_variance[t]))
        expected = kl_divergence(true, Normal(mean[row], (0.5 * log_variance[row]).exp())).mean() / math.log(2)
        assert got[row].item() == pytest.approx(expected.item(), rel=1e-5)
    # zero for the true step itself
    true_mean = process.posterior_mean(LINEAR, x0, x_t, INDEX)
    exact = column(LINEAR.posterior_log_variance_clipped).expand_as(x0)
    assert losses.vlb_term(LINEAR, x0, x_t, INDEX, true_mean, exact)[1:].abs().max() < 1e-6


def test_golden_likelihood_table():
    data = torch.load(shared_path("golden/nll_kl_table.pt"), weights_only=True)
    got = losses.discretised_log_likelihood(data["x"], data["mean"], data["log_scale"])
    torch.testing.assert_close(got, data["log_prob"], rtol=0, atol=1e-12)
    got = losses.gaussian_kl(data["x"], data["log_scale"], data["mean"], data["log_scale"].flip(0))
    torch.testing.assert_close(got, data["kl"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("prefix", ["", "pm1_"])
def test_golden_noising_and_loss(prefix):
    """From the published network's stored output to its squared error, with equations alone."""
    data = torch.load(shared_path("golden/training_losses.pt"), weights_only=True)
    x0 = data["x_start"][:, 1:] * (2 if prefix else 1) - (1 if prefix else 0)
    x_t = process.q_sample(LINEAR, x0, data["t"], data["noise"])
    torch.testing.assert_close(x_t, data[f"{prefix}x_t"], rtol=0, atol=1e-12)
    output = data[f"{prefix}model_output_full"][:, :1].double()
    mse = ((output - process.target("epsilon", LINEAR, x0, data["t"], data["noise"])) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(mse, data[f"{prefix}mse"], rtol=0, atol=1e-6)

"""Diffusion over labels against sums over every path, and the reverse chain against the distribution of the data."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from AmbiguousSegLib.diffusion.categorical import divergence, log_posterior, marginal, one_hot
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import Denoised, run
from AmbiguousSegLib.diffusion.schedule import Schedule, ScheduleConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.diffusion.step_grids import steps_of

BETAS = np.array([0.1, 0.35, 0.02, 0.6])
SHORT = Schedule(BETAS, np.arange(4))


def step_matrix(beta: float, count: int) -> np.ndarray:
    return (1 - beta) * np.eye(count) + beta / count


def paths(count: int) -> np.ndarray:
    """P(x_1 … x_4 | x_0) of every path, ``(L,) * 5``, one factor for each step."""
    out = np.zeros((count,) * 5)
    for path in itertools.product(range(count), repeat=5):
        out[path] = np.prod([step_matrix(BETAS[i], count)[path[i], path[i + 1]] for i in range(4)])
    return out


def enumerated(count: int, earlier: int, later: int) -> np.ndarray:
    """P(x_earlier | x_later, x_0) by summing paths: ``[x_earlier, x_later, x_0]``."""
    out = np.zeros((count,) * 3)
    for path in itertools.product(range(count), repeat=5):
        out[path[earlier], path[later], path[0]] += PATHS[count][path]
    return out / out.sum(0, keepdims=True)


PATHS = {count: paths(count) for count in (2, 3)}


def posteriors(schedule: Schedule, index: int, count: int) -> np.ndarray:
    """What the library says: ``[x_earlier, x_later, x_0]``, all pairs as pixels of one image."""
    later, first = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
    x_t, x0 = one_hot(later[None], count), one_hot(first[None], count)
    return log_posterior(schedule, x_t, x0.log(), torch.tensor([index])).exp()[0].numpy()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("index", range(4))
def test_posterior_is_the_sum_over_all_paths(count, index):
    np.testing.assert_allclose(posteriors(SHORT, index, count), enumerated(count, index, index + 1), atol=2e-6)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("steps", [(0, 3), (1, 3), (0, 1, 3), (3,)])
def test_posterior_between_steps_far_apart_is_the_sum_over_all_paths(count, steps):
    schedule = SHORT.respaced(np.array(steps))
    for index, (earlier, later) in enumerate(itertools.pairwise((-1, *steps))):
        found = enumerated(count, earlier + 1, later + 1)
        np.testing.assert_allclose(posteriors(schedule, index, count), found, atol=2e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_an_unsure_network_mixes_the_posteriors(count):
    p = np.random.default_rng(0).dirichlet(np.ones(count))
    log_p = torch.tensor(p, dtype=torch.float32).log()[None, :, None, None].expand(1, count, 1, count)
    x_t = one_hot(torch.arange(count)[None, None], count)
    for index in range(4):
        got = log_posterior(SHORT, x_t, log_p, torch.tensor([index])).exp()[0, :, 0].numpy()
        np.testing.assert_allclose(got, enumerated(count, index, index + 1) @ p, atol=2e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_marginal_is_the_product_of_the_matrices(count):
    x0 = one_hot(torch.arange(count)[None, None], count).expand(4, -1, -1, -1)
    got = marginal(SHORT, x0, torch.arange(4))[:, :, 0].numpy()
    product = np.eye(count)
    for index, beta in enumerate(BETAS):
        product = step_matrix(beta, count) @ product
        np.testing.assert_allclose(got[index], product, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_divergence_by_brute_force(count):
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(count))
    log_p = torch.tensor(p, dtype=torch.float32).log()[None, :, None, None].expand(1, -1, count, count)
    later, first = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
    x_t, x0 = one_hot(later[None], count), one_hot(first[None], count)
    for index in range(4):
        q = enumerated(count, index, index + 1)
        mixed = np.log(q @ p)[:, :, None]
        expected = np.where(q > 1e-12, q * (np.log(np.maximum(q, 1e-300)) - mixed), 0).sum(0)
        got = divergence(SHORT, x0, x_t, log_p, torch.tensor([index]))[0].numpy()
        np.testing.assert_allclose(got, expected, atol=1e-5)
        if index == 0:
            np.testing.assert_allclose(got, np.broadcast_to(-np.log(p), got.shape), rtol=1e-5)


def test_gradients_are_finite_where_the_network_is_sure_and_wrong():
    logits = torch.tensor([200.0, -200.0]).reshape(1, 2, 1, 1).expand(4, -1, -1, -1).clone().requires_grad_()
    x0 = one_hot(torch.ones(4, 1, 1, dtype=torch.int64), 2)
    loss = divergence(SHORT, x0, x0, logits.log_softmax(1), torch.arange(4))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()
    assert (
        float(loss[0].detach()) == pytest.approx(400.0)
        and (logits.grad[:, 0] >= 0).all()
        and float(logits.grad[0, 0]) > 0.9
    )


# The reverse chain of two pixels whose labels hang together

DATA = np.array([[0.5, 0.1], [0.05, 0.35]])  # P(x_0 of the first pixel, of the second)


def exact_denoiser(schedule: Schedule):
    """log P(a pixel's x_0 | both pixels' x_t) of the two rows of a ``(B, 2, 2, W)`` state, by Bayes' rule."""

    def denoise(x: torch.Tensor, index: torch.Tensor) -> Denoised:
        kept = schedule.alphas_cumprod[int(index[0])]
        seen = torch.tensor(kept * np.eye(2) + (1 - kept) / 2, dtype=torch.float32)  # symmetric
        of_first, of_second = (torch.einsum("ds,bsw->bdw", seen, x[:, :, pixel]) for pixel in (0, 1))
        joint = torch.tensor(DATA, dtype=torch.float32)[None, :, :, None] * of_first[:, :, None] * of_second[:, None]
        joint = joint / joint.sum((1, 2), keepdim=True)
        return Denoised(torch.stack([joint.sum(2), joint.sum(1)], dim=2).log())

    return denoise


def reverse_chain(schedule: Schedule) -> np.ndarray:
    """Distribution over both pixels' labels at the end of the chain, every state followed, nothing drawn."""
    denoise, weights = exact_denoiser(schedule), np.full((2, 2), 0.25)
    states = one_hot(torch.tensor([[[0, 0, 1, 1], [0, 1, 0, 1]]]), 2)  # a column for each pair
    for i in reversed(range(len(schedule))):
        index = torch.tensor([i])
        p = log_posterior(schedule, states, denoise(states, index).x0, index).exp()[0].double().numpy()
        weights = np.einsum("w,aw,bw->ab", weights.reshape(-1), p[:, 0], p[:, 1])
    return weights


def test_the_exact_reverse_chain_makes_the_distribution_of_the_data():
    """A reverse step draws its pixels apart, so that it takes many; one pixel's own distribution takes any number."""
    full = ScheduleConfig("cosine", 1000).build()
    distances = []
    for count in (1, 10, 100, 1000):
        found = reverse_chain(full.respaced(steps_of("trailing", 1000, count)))
        np.testing.assert_allclose(found.sum(), 1, atol=1e-5)
        distances.append(0.5 * np.abs(found - DATA).sum())
    np.testing.assert_allclose(
        reverse_chain(full.respaced(np.array([999]))), np.outer(DATA.sum(1), DATA.sum(0)), atol=1e-4
    )
    assert distances[0] > 0.2 and distances[1] < 0.05 and distances[2] < 0.005 and distances[3] < 0.0005


def test_the_sampler_draws_from_the_reverse_chain():
    schedule = ScheduleConfig("cosine", 250).build().respaced(steps_of("trailing", 250, 8))
    width, noise, seen = 20_000, RowNoise(3, [(0, 0)]), []
    settings = SamplerSettings("categorical", 8, options={"draw_last": True})
    arguments = (
        exact_denoiser(schedule),
        schedule,
        noise,
        (2, 2, width),
        lambda *step: seen.append(step),
        "categorical",
    )
    drawn = run(settings, *arguments)
    assert seen == [(step, 8) for step in range(1, 9)] and (drawn.sum(1) == 1).all()
    found = torch.einsum("aw,bw->ab", drawn[0, :, 0], drawn[0, :, 1]).numpy() / width
    np.testing.assert_allclose(found, reverse_chain(schedule), atol=4 * 0.5 / width**0.5)


def test_the_last_step_takes_the_most_probable_label_unless_it_is_to_draw():
    once = ScheduleConfig("cosine", 250).build().respaced(np.array([249]))
    log_p = torch.tensor([0.3, 0.45, 0.25]).log()[None, :, None, None]

    def denoise(x: torch.Tensor, index: torch.Tensor) -> Denoised:
        return Denoised(log_p.expand_as(x))

    noise, shape = RowNoise(0, [(0, 0)]), (3, 1, 20_000)
    sure = run(SamplerSettings("categorical", 1), denoise, once, noise, shape, family="categorical")
    assert (sure.argmax(1) == 1).all()
    settings = SamplerSettings("categorical", 1, options={"draw_last": True})
    drawn = run(settings, denoise, once, noise, shape, family="categorical").mean((0, 2, 3))
    torch.testing.assert_close(drawn, log_p.exp().flatten(), atol=0.015, rtol=0)

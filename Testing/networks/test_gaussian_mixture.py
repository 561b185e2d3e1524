"""Mixtures of Gaussians against torch's densities, closed forms and quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from make_expected import normal
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from AmbiguousSegLib.networks.gaussian_mixture import chosen, component_draws, mixture_divergence, mixture_of


def mixture(logits: torch.Tensor, mean: torch.Tensor, sigma: torch.Tensor) -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean, sigma), 1))


def random_mixture(seed: int, rows: int = 2, components: int = 3, n: int = 2) -> MixtureSameFamily:
    mean, sigma = (
        normal(seed, rows, components, n).double(),
        (0.3 * normal(seed + 1, rows, components, n).double()).exp(),
    )
    return mixture(normal(seed + 2, rows, components).double(), 2 * mean, sigma)


def test_one_component_is_a_gaussian_in_expectation():
    """Hermite nodes in place of draws take the mean over a Gaussian exactly: the closed form."""
    q, p = (random_mixture(s, 1, 1, 1) for s in (0, 10))
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    draws = component_draws(mixture_of(q), torch.from_numpy(nodes).reshape(1, 5, 1, 1))
    got = sum(
        w * mixture_divergence(q, p, draws[:, [k]]).item() for k, w in enumerate(weights / math.sqrt(2 * math.pi))
    )
    expected = kl_divergence(*(Normal(m.location, m.scale) for m in (mixture_of(q), mixture_of(p)))).item()
    assert got == pytest.approx(expected, rel=1e-12)


def test_estimate_is_the_divergence_on_average():
    """Of two mixtures over one number, against the integral on a fine grid; within four standard errors."""
    q, p = (random_mixture(s, 1, 3, 1) for s in (20, 30))
    z = torch.linspace(-30, 30, 200_001).double()[:, None, None]
    log_q, log_p = q.log_prob(z)[:, 0], p.log_prob(z)[:, 0]
    expected = torch.trapezoid(log_q.exp() * (log_q - log_p), z[:, 0, 0]).item()
    draws = component_draws(mixture_of(q), normal(31, 1, 20_000, 3, 1).double())
    each = torch.cat([mixture_divergence(q, p, draws[:, k : k + 200]) for k in range(0, 20_000, 200)])
    assert expected > 0.1
    assert abs(each.mean().item() - expected) < 4 * each.std().item() / 10


def test_gradients_are_those_of_the_divergence_on_average():
    """Of the weights, means and deviations of q: against differences of the integral."""
    base = [
        t.requires_grad_()
        for t in (normal(1, 1, 2).double(), normal(2, 1, 2, 1).double(), torch.ones(1, 2, 1).double())
    ]
    p = random_mixture(40, 1, 2, 1)
    q = mixture(*base)
    z = torch.linspace(-30, 30, 100_001).double()[:, None, None]
    log_q, log_p = q.log_prob(z)[:, 0], p.log_prob(z)[:, 0]
    exact = torch.autograd.grad(torch.trapezoid(log_q.exp() * (log_q - log_p), z[:, 0, 0]), base)
    q = mixture(*base)
    estimates = []
    for part in range(50):
        draws = component_draws(mixture_of(q), normal(100 + part, 1, 400, 2, 1).double())
        estimates.append(torch.autograd.grad(mixture_divergence(q, p, draws).sum(), base, retain_graph=True))
    for number, expected in enumerate(exact):
        values = torch.stack([e[number] for e in estimates])
        error = values.std(0) / math.sqrt(len(values))
        assert ((values.mean(0) - expected).abs() <= 4 * error + 1e-12).all()


def test_nothing_separates_a_mixture_from_itself():
    q = random_mixture(50)
    draws = component_draws(mixture_of(q), normal(51, 2, 4, 3, 2).double())
    assert torch.equal(mixture_divergence(q, q, draws), torch.zeros(2).double())


def test_chosen_components_and_their_draws():
    parts = mixture_of(random_mixture(60))
    mean, sigma = chosen(parts, torch.tensor([2, 0]))
    for row, component in enumerate((2, 0)):
        assert torch.equal(mean[row], parts.location[row, component])
        assert torch.equal(sigma[row], parts.scale[row, component])
    noise = normal(61, 2, 4, 3, 2).double()
    assert torch.equal(
        component_draws(parts, noise)[1, 3, 2], parts.location[1, 2] + parts.scale[1, 2] * noise[1, 3, 2]
    )


def test_another_distribution_is_refused():
    with pytest.raises(TypeError, match="Expected a MixtureSameFamily, got Normal"):
        mixture_of(Normal(torch.zeros(1), torch.ones(1)))

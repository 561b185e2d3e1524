"""Draws from a mixture of Gaussians, and its divergence from another, both differentiable in all they depend on.

Bhat et al. (UNSURE 2022) draw one component with the Gumbel-softmax, whose relaxed choice blends the components: its
gradient is biased. Here an expectation over the mixture is summed over its few components, each with its weight and
with draws of its own: exact in the choice, and without bias in the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily


class Mixture(NamedTuple):
    """What a mixture of M diagonal Gaussians is made of: weights ``(B, M)``, means and deviations ``(B, M, N)``."""

    weights: Tensor
    location: Tensor
    scale: Tensor


def mixture_of(distribution: Distribution) -> Mixture:
    """The parts of a ``MixtureSameFamily``.

    Raises:
        TypeError: another distribution.
    """
    if not isinstance(distribution, MixtureSameFamily):
        raise TypeError(f"Expected a MixtureSameFamily, got {type(distribution).__name__}.")
    components = distribution.component_distribution
    return Mixture(distribution.mixture_distribution.probs, components.mean, components.stddev)


def component_draws(mixture: Mixture, noise: Tensor) -> Tensor:
    """z = μ + σ·ε of every component: ``(B, S, M, N)`` from standard normal ``noise`` of that shape."""
    return mixture.location[:, None] + mixture.scale[:, None] * noise


def mixture_divergence(q: Distribution, p: Distribution, draws: Tensor) -> Tensor:
    """Unbiased estimate ``(B,)`` of KL(q ‖ p) in nats: Σ_m π_m · mean over draws of log q(z) − log p(z), z ~ N_m.

    Args:
        q, p: mixtures over ``(B, N)``; ``p`` may be any distribution.
        draws: of ``component_draws`` from ``q``.
    """
    z = draws.permute(1, 2, 0, 3)
    ratio = (q.log_prob(z) - p.log_prob(z)).mean(0)  # (M, B)
    return (mixture_of(q).weights * ratio.T).sum(1)


def chosen(mixture: Mixture, component: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``(B, N)`` of the components numbered ``component`` ``(B,)``."""
    rows = torch.arange(len(component), device=component.device)
    return mixture.location[rows, component], mixture.scale[rows, component]

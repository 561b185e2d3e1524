"""Parts of a mixture of stochastic experts (Gao et al., ICLR 2023): who speaks, and with what accent."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from AmbiguousSegLib.networks.initialisation import orthogonal

_SIGMA_START = 1 / 8  # as in the published code
_SIGMA_FLOOR = 1e-8


class Gate(nn.Module):
    """A feature map ``(B, channels, H, W)`` to the logarithms of the experts' probabilities, ``(B, experts)``.

    A perceptron of two hidden layers over the mean of the map.
    """

    def __init__(self, channels: int, experts: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU()),
            nn.Linear(channels, experts, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """As the class says."""
        return self.layers(features.mean((2, 3))).float().log_softmax(1)


class ExpertCodes(nn.Module):
    """A normal distribution of codes for each expert, the same for all images: N(μₖ, σₖ²), learned.

    The means start on a regular grid in the unit cube.
    """

    def __init__(self, experts: int, latent_dim: int) -> None:
        super().__init__()
        side = 2
        while side**latent_dim < experts:
            side += 1
        grid = [[k // side**axis % side / (side - 1) for axis in range(latent_dim)] for k in range(experts)]
        self.mean = nn.Parameter(torch.tensor(grid, dtype=torch.float32))
        self.log_sigma = nn.Parameter(torch.full((experts, latent_dim), math.log(_SIGMA_START)))

    def forward(self, experts: Tensor, noise: Tensor) -> Tensor:
        """Codes μₖ + σₖ·ε, ``(*rows, latent_dim)``.

        Args:
            experts: int64 ``(*rows,)``, k.
            noise: standard normal numbers ``(*rows, latent_dim)``, ε.
        """
        return self.mean[experts] + (self.log_sigma[experts].exp() + _SIGMA_FLOOR) * noise.to(self.mean)


class CodeInjection(nn.Module):
    """Features and a code to K logits: the code shifts and scales the channels, 1×1 convolutions follow."""

    def __init__(self, channels: int, latent_dim: int, classes: int, layers: int) -> None:
        super().__init__()
        self.shift, self.scale = nn.Linear(latent_dim, channels), nn.Linear(latent_dim, channels)
        nn.init.ones_(self.scale.bias)
        widths = [channels] * layers + [classes]
        self.first = nn.Linear(widths[0], widths[1])  # of each pixel
        nn.init.orthogonal_(self.first.weight)
        rest: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths[1:]):
            rest += [nn.ReLU(), nn.Conv2d(inputs, outputs, 1)]
        self.rest = nn.Sequential(*rest)
        orthogonal(self.rest)

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """Logits of N codes for each row: ``(B, N, K, H, W)``.

        Args:
            features: ``(B, channels, H, W)``.
            codes: ``(B, N, latent_dim)``.
        """
        shift, scale = self.shift(codes), self.scale(codes)
        # W·((x + shift)·scale) + b: what the code does is folded into the first layer, so that no code needs a copy of
        # the features.
        weight = self.first.weight * scale[:, :, None]
        bias = (weight * shift[:, :, None]).sum(3) + self.first.bias
        x = torch.baddbmm(bias.flatten(1)[..., None], weight.flatten(1, 2), features.flatten(2))
        x = x.reshape(-1, self.first.out_features, *features.shape[2:])
        return self.rest(x).unflatten(0, codes.shape[:2]).float()

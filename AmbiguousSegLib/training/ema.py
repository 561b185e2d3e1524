"""Moving average of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged_model(model: nn.Module, decay: float) -> AveragedModel:
    """Average of the weights of ``model``, to be told of each update; in evaluation mode, without gradients.

    Its memory grows with the run: the decay is (1 + n)/(10 + n) after n updates, until it reaches ``decay``.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value.to(mean.dtype), weight)

    average: Any = AveragedModel(model, multi_avg_fn=update)
    return average.requires_grad_(False).eval()

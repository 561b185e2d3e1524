"""Moving average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged_model(model: nn.Module, decay: float) -> AveragedModel:
    """Average of the weights of ``model``, to be told of each update; in evaluation mode, without gradients.

    Its memory grows with the run: the decay is (1 + n)/(10 + n) after n updates, until it reaches ``decay``.
    """

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value.to(mean.dtype), weight)

    return AveragedModel(model, multi_avg_fn=update).requires_grad_(False).eval()

"""How the published Probabilistic U-Net, and with it CIMD's encoders, draws its weights before training.

PyTorch's own start shrinks what a stack of convolutions lets through: after twelve of them hardly anything is left of
the difference between two raters' masks. Source: the code that CIMD took its encoders from,
github.com/stefanknegt/Probabilistic-Unet-Pytorch, ``utils.init_weights`` and ``init_weights_orthogonal_normal``.
"""

from __future__ import annotations

from torch import nn

_BIAS_STD = 0.001


def kaiming_normal(module: nn.Module) -> None:
    """Draw anew all 2-D convolutions of ``module``: weights after He et al. 2015 (fan in, for ReLU), tiny biases."""
    for layer in _convolutions(module):
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        _draw_bias(layer)


def orthogonal(module: nn.Module) -> None:
    """Draw anew all 2-D convolutions of ``module``: orthogonal weights (Saxe et al. 2014), tiny biases."""
    for layer in _convolutions(module):
        nn.init.orthogonal_(layer.weight)
        _draw_bias(layer)


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _draw_bias(layer: nn.Conv2d) -> None:
    if layer.bias is not None:
        nn.init.trunc_normal_(layer.bias, std=_BIAS_STD, a=-2 * _BIAS_STD, b=2 * _BIAS_STD)

"""Residual-in-residual dense blocks against plain functional calls, and against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from make_expected import normal, seeded
from torch.nn import functional as F

from AmbiguousSegLib.networks.limits import MOST_CHANNELS
from AmbiguousSegLib.networks.rrdb import RRDB, DenseBlock, RRDBConfig, RRDBEncoder


def leaky(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def conv(x: torch.Tensor, weights: dict, name: str) -> torch.Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)


def dense(x: torch.Tensor, weights: dict, name: str) -> torch.Tensor:
    a = leaky(conv(x, weights, f"{name}.0"))
    b = leaky(conv(torch.cat([x, a], 1), weights, f"{name}.1"))
    c = leaky(conv(torch.cat([x, a, b], 1), weights, f"{name}.2"))
    d = leaky(conv(torch.cat([x, a, b, c], 1), weights, f"{name}.3"))
    return x + 0.2 * conv(torch.cat([x, a, b, c, d], 1), weights, f"{name}.4")


def rrdb(x: torch.Tensor, weights: dict, name: str) -> torch.Tensor:
    inner = x
    for block in range(3):
        inner = dense(inner, weights, f"{name}.dense.{block}.convolutions")
    return x + 0.2 * inner


def test_the_encoder_is_the_second_implementation():
    """ESRGAN's generator without upsampling: Wang et al. 2018, Fig. 3 and 4."""
    config = RRDBConfig(filters=5, growth=3, blocks=2)
    encoder = seeded(RRDBEncoder(config, in_channels=3, out_channels=7), 1).double()
    weights, image = encoder.state_dict(), normal(2, 2, 3, 12, 9).double()
    first = conv(image, weights, "first")
    trunk = conv(rrdb(rrdb(first, weights, "trunk.0"), weights, "trunk.1"), weights, "trunk.2")
    expected = conv(leaky(conv(first + trunk, weights, "joined")), weights, "last")
    got = encoder(image)
    assert got.shape == (2, 7, 12, 9) and float(expected.abs().mean()) > 0.01
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def set_by_hand(block: DenseBlock, rows: list[list[float]], biases: list[float]) -> None:
    """Only the middle of each 3×3 filter counts, so that every pixel is by itself."""
    for convolution, row, bias in zip(block.convolutions, rows, biases, strict=True):
        convolution.weight.data.zero_()
        convolution.weight.data[0, :, 1, 1] = torch.tensor(row)
        convolution.bias.data.fill_(bias)


@torch.no_grad()
def test_a_dense_block_by_hand():
    """x = 2: 2 − 4 = −2 → −.4; 2 + .4 = 2.4; 5 · (−.4) + 2.4 = .4; .4 − 2.4 = −2 → −.4; 2 + 10 · (−.4) = −2."""
    block = DenseBlock(1, 1)
    set_by_hand(block, [[1], [1, -1], [0, 5, 1], [0, 0, -1, 1], [1, 0, 0, 0, 10]], [-4, 0, 0, 0, 0])
    got = block(torch.full((1, 1, 4, 5), 2.0))
    torch.testing.assert_close(got, torch.full((1, 1, 4, 5), 2 + 0.2 * -2))
    # x = −5: −9 → −1.8; −5 + 1.8 = −3.2 → −.64; −9 − .64 = −9.64 → −1.928; .64 − 1.928 → −.2576; −5 − 2.576
    got = block(torch.full((1, 1, 4, 5), -5.0))
    torch.testing.assert_close(got, torch.full((1, 1, 4, 5), -5 + 0.2 * -7.576))


@torch.no_grad()
def test_both_residuals_are_scaled():
    """Where the last convolution copies its input, a dense block gives 1.2 times it, an RRDB 1 + .2 · 1.2³ times."""
    block = RRDB(1, 2)
    for part in block.dense:
        for convolution in part.convolutions:
            convolution.weight.data.zero_(), convolution.bias.data.zero_()
        part.convolutions[-1].weight.data[0, 0, 1, 1] = 1.0
    x = normal(3, 1, 1, 6, 6)
    torch.testing.assert_close(block.dense[0](x), 1.2 * x)
    torch.testing.assert_close(block(x), (1 + 0.2 * 1.2**3) * x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 0}, "at least 1, got 64, 32 and 0"),
        ({"growth": MOST_CHANNELS}, "takes at most"),
        ({"blocks": 65}, "65; make it smaller"),
    ],
)
def test_shapes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RRDBConfig(**changes)

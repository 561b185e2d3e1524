"""The parts of a mixture of experts, written out."""

from __future__ import annotations

import math

import pytest
import torch
from make_expected import normal, seeded
from torch.nn import functional as F

from AmbiguousSegLib.networks.experts import CodeInjection, ExpertCodes, Gate


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_code_shifts_and_scales_each_channel_before_the_layers(layers):
    net = seeded(CodeInjection(6, 3, 2, layers), 1).double()
    features, codes = normal(0, 2, 6, 4, 5).double(), normal(1, 2, 7, 3).double()
    shift, scale = (codes @ layer.weight.T + layer.bias for layer in (net.shift, net.scale))
    expected = torch.empty(2, 7, 2, 4, 5, dtype=torch.float64)
    for row in range(2):
        for n in range(7):
            x = (features[row] + shift[row, n, :, None, None]) * scale[row, n, :, None, None]
            x = (x.permute(1, 2, 0) @ net.first.weight.T + net.first.bias).permute(2, 0, 1)
            expected[row, n] = net.rest(x[None])[0]
    torch.testing.assert_close(net(features, codes).double(), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_gate_is_a_perceptron_over_the_mean():
    net, features = seeded(Gate(5, 4), 2).double(), normal(0, 3, 5, 2, 6).double()
    x = features.mean((2, 3))
    a, _, b, _, c = net.layers
    x = (x @ a.weight.T + a.bias).clip(min=0)
    x = (x @ b.weight.T + b.bias).clip(min=0) @ c.weight.T
    torch.testing.assert_close(net(features).double(), F.log_softmax(x, 1), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_codes_are_those_of_the_expert():
    codes = ExpertCodes(5, 2)
    assert [row.tolist() for row in codes.mean] == [[0, 0], [0.5, 0], [1, 0], [0, 0.5], [0.5, 0.5]]
    assert ExpertCodes(4, 2).mean.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert ExpertCodes(4, 1).mean.flatten().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    torch.testing.assert_close(codes.log_sigma.exp(), torch.full((5, 2), 1 / 8))
    codes.log_sigma[3] = torch.tensor([math.log(2.0), math.log(0.5)])
    got = codes(torch.tensor([[3], [1]]), torch.tensor([[[1.0, -1.0]], [[0.0, 8.0]]]))
    torch.testing.assert_close(got, torch.tensor([[[2.0, 0.0]], [[0.5, 1.0]]]))

"""The U-Net with blocks of several kinds against second implementations, and against the blocks that they contain."""

from __future__ import annotations

import pytest
import torch
from make_expected import normal, seeded
from torch import Tensor
from torch.nn import functional as F

from AmbiguousSegLib.networks.block_unet import (
    BLOCKS,
    AttentionGate,
    Block,
    BlockUNet,
    BlockUNetConfig,
    RecurrentConvolution,
)


def small(**changes) -> BlockUNetConfig:
    return BlockUNetConfig(**{"filters": (4, 6, 8), "growth": 6, "norm_groups": 2, **changes})


def convolved(x: Tensor, p: dict[str, Tensor], name: str) -> Tensor:
    """3 × 3 convolution, normalised in two groups, and ReLU, of the weights named."""
    y = F.conv2d(x, p[f"{name}.read.weight"], p[f"{name}.read.bias"], padding=1)
    return F.group_norm(y, 2, p[f"{name}.norm.weight"], p[f"{name}.norm.bias"]).clamp(min=0)


def test_forward_is_the_second_implementation():
    """Maxima of squares on the way down; on the way up each pixel becomes four, by a matrix for each of them."""
    network = seeded(BlockUNet(small(in_channels=2)), 1).double()
    p = network.state_dict()

    def block(x: Tensor, name: str) -> Tensor:
        return convolved(convolved(x, p, f"{name}.layers.0"), p, f"{name}.layers.1")

    def halved(x: Tensor) -> Tensor:
        return torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)

    def doubled(x: Tensor, name: str) -> Tensor:
        weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
        out = torch.zeros(len(x), weight.shape[1], 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype)
        for i in (0, 1):
            for j in (0, 1):
                out[:, :, i::2, j::2] = torch.einsum("co,bchw->bohw", weight[:, :, i, j], x) + bias[:, None, None]
        return out

    x = normal(2, 2, 2, 16, 12).double()
    top = block(x, "down.0")
    middle = block(halved(top), "down.1")
    bottom = block(halved(middle), "down.2")
    up = block(torch.cat([middle, doubled(bottom, "grow.0")], dim=1), "up.0")
    expected = block(torch.cat([top, doubled(up, "grow.1")], dim=1), "up.1")
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-12)
    assert expected.abs().mean() > 0.01
    assert small().size_multiple == 4


def test_a_recurrent_convolution_reads_what_it_gave():
    """Alom et al., Eq. 1 and 2, with t = 2 written out."""
    layer = seeded(RecurrentConvolution(3, 4, 2, 2), 3).double()
    p = layer.state_dict()
    x = normal(4, 2, 3, 8, 6).double()
    read = F.conv2d(x, p["read.weight"], p["read.bias"], padding=1)
    states = []
    for number in range(3):
        fed_back = F.conv2d(states[-1], p["again.0.weight"], padding=1) if number else 0
        y = F.group_norm(read + fed_back, 2, p["norm.weight"], p["norm.bias"])
        states.append(y.clamp(min=0))
    torch.testing.assert_close(layer(x), states[2], rtol=0, atol=1e-12)
    assert (states[2] - states[1]).abs().mean() > 0.01


@pytest.mark.parametrize(("block", "same"), [("recurrent", "plain"), ("recurrent_residual", "residual")])
def test_without_recurrences_a_recurrent_block_is_the_one_without(block, same):
    recurrent, other = BlockUNet(small(block=block, recurrences=0)), BlockUNet(small(block=same))
    assert [(n, p.shape) for n, p in recurrent.named_parameters()] == [
        (n, p.shape) for n, p in other.named_parameters()
    ]
    other.load_state_dict(seeded(recurrent, 2).state_dict())
    x = normal(5, 1, 1, 8, 8)
    assert torch.equal(recurrent(x), other(x))


def test_a_residual_block_adds_a_projection_of_what_it_read():
    residual, plain = seeded(Block(3, 4, small(block="residual")), 6).double(), Block(3, 4, small()).double()
    weights = residual.state_dict()
    projection = weights.pop("beside.weight"), weights.pop("beside.bias")
    plain.load_state_dict(weights)
    x = normal(7, 2, 3, 8, 6).double()
    torch.testing.assert_close(residual(x), F.conv2d(x, *projection) + plain(x), rtol=0, atol=1e-12)


def test_a_dense_block_reads_all_that_was_before():
    """c, c + g and c + 2 g channels are read, and c + 3 g brought to the width (Huang et al., section 3)."""
    block = seeded(Block(3, 8, small(block="dense", convolutions=3)), 8).double()
    assert [layer.read.in_channels for layer in block.layers] == [3, 3 + 6, 3 + 2 * 6]
    assert [layer.read.out_channels for layer in block.layers] == [6, 6, 6]
    assert (block.last.in_channels, block.last.out_channels) == (3 + 3 * 6, 8)
    p = block.state_dict()
    x = normal(9, 2, 3, 8, 6).double()
    first = convolved(x, p, "layers.0")
    second = convolved(torch.cat([x, first], 1), p, "layers.1")
    third = convolved(torch.cat([x, first, second], 1), p, "layers.2")
    expected = F.conv2d(torch.cat([x, first, second, third], 1), p["last.weight"], p["last.bias"])
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_a_gate_by_hand():
    """One pixel, two channels, one between: x = (1, 2), g = (3, 1), so that 0.5·1 − 1·2 + 1·3 + 0.5·1 + 0.25 = 2.25."""
    gate = AttentionGate(2).double()
    values = {"skip.weight": [0.5, -1.0], "signal.weight": [1.0, 0.5], "signal.bias": [0.25]}
    values |= {"alpha.weight": [2.0], "alpha.bias": [-4.0]}
    shapes = {name: p.shape for name, p in gate.named_parameters()}
    gate.load_state_dict({name: torch.tensor(v).reshape(shapes[name]) for name, v in values.items()})
    x, g = (torch.tensor(v, dtype=torch.float64).reshape(1, 2, 1, 1) for v in ([1.0, 2.0], [3.0, 1.0]))
    alpha = torch.sigmoid(torch.tensor(2 * 2.25 - 4.0, dtype=torch.float64))
    torch.testing.assert_close(gate(x, g), alpha * x, rtol=1e-12, atol=0)
    torch.testing.assert_close(gate(x, -g), torch.sigmoid(torch.tensor(-4.0, dtype=torch.float64)) * x)  # ReLU: 0


def test_with_open_gates_it_is_the_plain_network_and_closed_ones_hide_the_skips():
    gated, plain = seeded(BlockUNet(small(attention=True)), 4).double(), BlockUNet(small()).double()
    plain.load_state_dict({name: t for name, t in gated.state_dict().items() if not name.startswith("gates")})
    x = normal(11, 1, 1, 8, 8).double()
    assert (gated(x) - plain(x)).abs().max() > 1e-3
    with torch.no_grad():
        for gate in gated.gates:
            gate.alpha.weight.zero_()
            gate.alpha.bias.fill_(50.0)  # α is 1 to the last digit
    assert torch.equal(gated(x), plain(x))
    with torch.no_grad():
        for gate in gated.gates:
            gate.alpha.bias.fill_(-1000.0)
        for width, block in zip((6, 4), plain.up):  # of what an upper block reads, the skip comes first
            block.layers[0].read.weight[:, :width] = 0
    torch.testing.assert_close(gated(x), plain(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("attention", [False, True])
def test_a_row_does_not_depend_on_the_others(block, attention):
    network = seeded(BlockUNet(small(block=block, attention=attention)), 5).double()
    x = normal(12, 3, 1, 8, 12).double()
    together = network(x)
    assert together.shape == (3, 4, 8, 12)
    for row in range(3):
        torch.testing.assert_close(network(x[row, None])[0], together[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"in_channels": 0}, "positive integers.*in_channels=0"),
        ({"filters": ()}, "at least one filter"),
        ({"recurrences": -1}, "recurrences of 0 or more.*recurrences=-1"),
        ({"block": "round"}, "block must be one of plain, residual.*'round'"),
        ({"norm_groups": 3}, "norm_groups must be 0, or divide all filters"),
        ({"block": "dense", "growth": 5}, "growth of a dense block, got 2 and"),
        ({"convolutions": 65}, "at most 65,536 channels, and 64 blocks"),
        ({"recurrences": 65}, "at most 65,536 channels, and 64 blocks"),
    ],
)
def test_config_errors(changes, named):
    with pytest.raises(ValueError, match=named):
        small(**changes)

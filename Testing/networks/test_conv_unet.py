"""The plain U-Net against a second implementation with pooling and upsampling written out."""

from __future__ import annotations

import pytest
import torch
from make_expected import check, normal, seeded
from torch.nn import functional as F

from AmbiguousSegLib.networks.conv_unet import ConvUNet, ConvUNetConfig


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Bilinear ×2 along both axes: a new pixel lies a quarter from its old one, so 3/4 of it and 1/4 of the next."""
    for axis in (2, 3):
        size = x.shape[axis]
        before = x.index_select(axis, torch.arange(-1, size - 1).clamp(min=0))
        after = x.index_select(axis, torch.arange(1, size + 1).clamp(max=size - 1))
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim=axis + 1).flatten(axis, axis + 1)
    return x


def halved(x: torch.Tensor) -> torch.Tensor:
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def test_forward_is_the_second_implementation():
    config = ConvUNetConfig(in_channels=2, filters=(3, 5, 7), convolutions=2)
    network = seeded(ConvUNet(config), 1).double()
    p = network.state_dict()

    def block(x, name):
        for layer in (0, 2):
            x = F.conv2d(x, p[f"{name}.{layer}.weight"], p[f"{name}.{layer}.bias"], padding=1).clamp(min=0)
        return x

    x = normal(2, 2, 2, 16, 12).double()
    top = block(x, "down.0")
    middle = block(halved(top), "down.1")
    bottom = block(halved(middle), "down.2")
    up = block(torch.cat([doubled(bottom), middle], dim=1), "up.0")
    expected = block(torch.cat([doubled(up), top], dim=1), "up.1")
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-12)
    assert expected.abs().mean() > 0.01
    assert config.size_multiple == 4


def test_groups_of_channels_are_normalised_for_each_row_before_the_relu():
    config = ConvUNetConfig(in_channels=1, filters=(4,), convolutions=2, norm_groups=2)
    network = seeded(ConvUNet(config), 1).double()
    p = network.state_dict()
    x = normal(3, 2, 1, 6, 5).double()
    expected = x
    for layer in (0, 3):
        expected = F.conv2d(expected, p[f"down.0.{layer}.weight"], p[f"down.0.{layer}.bias"], padding=1)
        groups = expected.reshape(2, 2, 2, 6, 5)
        centred = groups - groups.mean((2, 3, 4), keepdim=True)
        scaled = centred / ((centred**2).mean((2, 3, 4), keepdim=True) + 1e-5).sqrt()
        weight, bias = (p[f"down.0.{layer + 1}.{name}"].reshape(-1, 1, 1) for name in ("weight", "bias"))
        expected = (scaled.reshape(2, 4, 6, 5) * weight + bias).clamp(min=0)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", [-1, 4])
def test_groups_must_divide_all_filters(groups):
    with pytest.raises(ValueError, match=rf"be 0, or divide all filters, got {groups} and \(8, 6\)"):
        ConvUNetConfig(filters=(8, 6), norm_groups=groups)


def test_stored_outputs():
    check("networks/expected/conv_unet.npz", 8e-7)  # measured: 3.3e-7


@pytest.mark.parametrize("changes", [{"in_channels": 0}, {"filters": ()}, {"filters": (8, 0)}, {"convolutions": 0}])
def test_config_errors(changes):
    with pytest.raises(ValueError, match=f"positive integers and at least one filter.*{next(iter(changes))}="):
        ConvUNetConfig(**changes)


def test_a_patch_of_pixels_is_one_place_of_the_levels():
    """Patch 2: the levels of a network that reads four times the channels at half the size; its answer is spread."""
    config = ConvUNetConfig(in_channels=3, filters=(4, 6), convolutions=1, patch=2)
    net = seeded(ConvUNet(config), 3)
    assert config.size_multiple == 4
    x = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    half = torch.stack([x[:, c, i::2, j::2] for c in range(3) for i in (0, 1) for j in (0, 1)], dim=1)
    inner = ConvUNet(ConvUNetConfig(in_channels=12, filters=(4, 6), convolutions=1))
    inner.load_state_dict({key: value for key, value in net.state_dict().items() if not key.startswith("spread")})
    coarse = torch.einsum("oc,bchw->bohw", net.spread.weight[:, :, 0, 0], inner(half)) + net.spread.bias[:, None, None]
    found = net(x)
    assert found.shape == (2, 4, 8, 12)
    for channel in range(4):
        for i in (0, 1):
            for j in (0, 1):
                expected = coarse[:, 4 * channel + 2 * i + j]
                torch.testing.assert_close(found[:, channel, i::2, j::2], expected)

"""Networks that only a mistake can ask for are refused before they are made."""

from __future__ import annotations

import pytest

from AmbiguousSegLib.networks.conv_unet import ConvUNetConfig
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoderConfig
from AmbiguousSegLib.networks.unet import UNetConfig


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (UNetConfig, {"model_channels": 32 * 10**6}),
        (UNetConfig, {"model_channels": 32_768, "channel_mult": (1, 4)}),
        (UNetConfig, {"num_res_blocks": 65}),
        (UNetConfig, {"in_channels": 65_537}),
        (GaussianEncoderConfig, {"filters": (2**40,)}),
        (GaussianEncoderConfig, {"filters": (4,) * 65}),
        (GaussianEncoderConfig, {"latent_dim": 10**9}),
        (GaussianEncoderConfig, {"components": 10**6}),
        (ConvUNetConfig, {"convolutions": 65}),
        (ConvUNetConfig, {"filters": (65_537,)}),
    ],
)
def test_a_giant_is_refused(config, changes):
    with pytest.raises(ValueError, match=f"{config.__name__} takes at most 65,536 channels, and 64 blocks"):
        config(**changes)


def test_the_largest_are_not():
    UNetConfig(model_channels=16_384, channel_mult=(1, 4), num_res_blocks=64, attention_sizes=())
    GaussianEncoderConfig(filters=(65_536,) * 64, convolutions=64)
    ConvUNetConfig(in_channels=65_536)

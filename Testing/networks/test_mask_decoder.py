"""The decoder of a mask from image and latent."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from AmbiguousSegLib.networks.mask_decoder import MaskDecoder, MaskDecoderConfig


@torch.no_grad()
def test_it_is_the_convolutions_it_says():
    torch.manual_seed(0)
    decoder = MaskDecoder(MaskDecoderConfig(5), 2, 3, 2).double()
    image, z = torch.randn(3, 2, 8, 12).double(), torch.randn(3, 3).double()
    blocks = image.reshape(3, 2, 2, 4, 3, 4).permute(0, 1, 3, 5, 2, 4).reshape(3, 32, 2, 3)
    layers = dict(decoder.named_parameters())

    def convolved(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, layers[f"{name}.weight"], layers[f"{name}.bias"], padding=1)

    x = convolved(convolved(blocks, "read.0").relu(), "read.2").relu()
    x = convolved(torch.cat([x, z[:, :, None, None] * torch.ones(3, 3, 2, 3)], dim=1), "draw.0").relu()
    expected = F.interpolate(convolved(x, "draw.2"), size=(8, 12), mode="bilinear")
    torch.testing.assert_close(decoder(image, z), expected.float())


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (9, 6), (3, 5)])
def test_sides_that_are_no_multiples_are_those_of_the_padded_image(size):
    torch.manual_seed(1)
    decoder = MaskDecoder(MaskDecoderConfig(4), 1, 2, 1)
    image, z = torch.rand(2, 1, *size), torch.randn(2, 2)
    padded = torch.zeros(2, 1, 12, 12)[..., : -(-size[0] // 4) * 4, : -(-size[1] // 4) * 4]
    padded[..., : size[0], : size[1]] = image
    torch.testing.assert_close(decoder(image, z), decoder(padded, z)[..., : size[0], : size[1]])


def test_a_width_of_nothing_is_refused():
    with pytest.raises(ValueError, match="MaskDecoderConfig.width must be at least 1, got 0"):
        MaskDecoderConfig(0)

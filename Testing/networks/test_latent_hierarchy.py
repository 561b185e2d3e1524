"""The networks of PHi-Seg: what they refuse, the sizes of their latents, and that rows do not know of each other."""

from __future__ import annotations

import pytest
import torch
from make_expected import normal, seeded
from torch.nn import functional as F

from AmbiguousSegLib.networks.latent_hierarchy import LEAST_SIGMA, LatentDecoder, LatentHierarchyConfig, LatentLadder

CONFIG = LatentHierarchyConfig(
    filters=(4, 4, 8, 8, 8), convolutions=1, latent_levels=3, latent_channels=2, norm_groups=2
)


@torch.no_grad()
def test_levels_stand_at_the_coarsest_resolutions():
    """Five resolutions of 32 pixels and three levels: 8, 4 and 2 pixels, and logits of the image's size."""
    ladder, decoder = LatentLadder(CONFIG, 1), LatentDecoder(CONFIG, 2)
    features = ladder.features(normal(0, 2, 1, 32, 32))
    assert [tuple(f.shape) for f in features] == [(2, 8, 8, 8), (2, 8, 4, 4), (2, 8, 2, 2)]
    latents, below = [], None
    for level in (2, 1, 0):
        below, _ = ladder.level(level, features[level], below)
        latents.insert(0, below)
    assert {tuple(x.shape) for x in decoder(latents)} == {(2, 2, 32, 32)}
    assert CONFIG.size_multiple == 16


@torch.no_grad()
def test_deviation_is_a_softplus_with_a_least_value():
    ladder = LatentLadder(CONFIG, 1).double()
    ladder.mean[2].weight.zero_(), ladder.sigma[2].weight.zero_()
    ladder.mean[2].bias.copy_(torch.tensor([3.0, -4.0])), ladder.sigma[2].bias.copy_(torch.tensor([1.5, -800.0]))
    mean, sigma = ladder.level(2, normal(0, 1, 8, 2, 2).double(), None)
    assert mean[0, :, 0, 0].tolist() == [3, -4]
    expected = F.softplus(torch.tensor([1.5, -800.0]).double()) + LEAST_SIGMA
    torch.testing.assert_close(sigma[0, :, 1, 1], expected)


@torch.no_grad()
def test_a_row_is_a_function_of_its_own_image():
    """Training mode, too: with normalisation over the batch it would not be."""
    ladder = seeded(LatentLadder(CONFIG, 1), 1).double().train()
    x = normal(0, 3, 1, 32, 32).double()
    together, alone = ladder.features(x), ladder.features(x[1:2])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filters": ()}, "latent_levels 4 for 0 filters"),
        ({"latent_levels": 6}, "latent_levels 6 for 5 filters; give at least as many filters"),
        ({"latent_channels": 0}, "positive integers.*latent_channels=0"),
        ({"filters": (6, 8, 8, 8, 8)}, "multiples of norm_groups, got .6, 8, 8, 8, 8. and 4"),
        ({"convolutions": 65}, "takes at most 65,536 channels, and 64 blocks"),
    ],
)
def test_config_errors_name_the_setting(changes, message):
    with pytest.raises(ValueError, match=message):
        LatentHierarchyConfig(**changes)

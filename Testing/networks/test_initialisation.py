"""How networks start: the published distributions of their weights, and that encoders tell raters apart with them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import kstest, truncnorm
from shared_data import REPOSITORY
from torch import nn

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.lung_phantom import phantom_case, window
from AmbiguousSegLib.methods import METHODS, build_method
from AmbiguousSegLib.networks.conv_unet import ConvUNet, ConvUNetConfig
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoder, GaussianEncoderConfig

PRESETS = REPOSITORY / "Resources" / "Presets"
STARTS, IMAGES, RATERS = 4, 3, 4


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def standardised(layers: list[nn.Conv2d], gain: float) -> np.ndarray:
    """All weights in units of the standard deviation √(gain / fan in)."""
    fans = [layer.weight[0].numel() for layer in layers]
    parts = [layer.weight.detach().flatten() * math.sqrt(n / gain) for layer, n in zip(layers, fans, strict=True)]
    return torch.cat(parts).numpy()


@pytest.mark.parametrize("part", ["encoder", "unet"])
def test_convolutions_are_kaiming_normal_with_tiny_biases(part):
    """Weights N(0, 2 / fan in) in every layer; biases normal, cut at two deviations of 0.001 (the published code)."""
    torch.manual_seed(0)
    encoder = GaussianEncoder(GaussianEncoderConfig(filters=(64, 64), convolutions=3))
    network = encoder if part == "encoder" else ConvUNet(ConvUNetConfig(filters=(64, 64), convolutions=3))
    layers = convolutions(network)
    for layer in layers:
        weights = standardised([layer], gain=2.0)
        assert weights.std() == pytest.approx(1, abs=4 / math.sqrt(2 * weights.size))
    assert kstest(standardised(layers, gain=2.0)[::29], "norm").pvalue > 0.001
    tiny = [layer for layer in layers if layer is not encoder.conv_layer]
    biases = torch.cat([layer.bias.detach() for layer in tiny]).numpy()
    assert kstest(biases / 0.001, truncnorm(-2, 2).cdf).pvalue > 0.001


def test_what_an_encoder_says_of_nothing_is_standard_normal():
    torch.manual_seed(1)
    biases = [GaussianEncoder(GaussianEncoderConfig(filters=(2,), convolutions=1)).conv_layer.bias for _ in range(60)]
    assert kstest(torch.cat(biases).detach().numpy(), "norm").pvalue > 0.001


def test_the_layers_that_join_features_and_latent_are_orthogonal():
    torch.manual_seed(2)
    settings = {"unet": {"filters": [8, 8], "convolutions": 1}, "encoder": {"filters": [4], "convolutions": 1}}
    layers = convolutions(build_method("probabilistic_unet", settings).combine)
    assert len(layers) == 3
    for layer in layers:
        rows = layer.weight[:, :, 0, 0]
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)
        assert layer.bias.abs().max() < 0.002


def disagreeing() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Phantom slices of which at least three of four raters differ, one of them marking over 200 pixels."""
    found, number = [], 0
    while len(found) < IMAGES:
        case = phantom_case(0, number)
        number += 1
        masks = np.asarray(case.draw_masks(np.random.default_rng(number), RATERS)).astype(np.float32)
        if len({mask.tobytes() for mask in masks}) >= 3 and masks.sum((1, 2)).max() > 200:
            found.append((torch.from_numpy(window(case.image)), torch.from_numpy(masks)[:, None]))
    return found


def spread_over_raters(config: GaussianEncoderConfig, channels: int, low: float) -> float:
    """Standard deviation of μ over the raters of an image, divided by σ: the root mean square of this over images,
    latent dimensions and random starts. ``low`` is the level that stands for background."""
    ratios = []
    for seed in range(STARTS):
        torch.manual_seed(seed)
        encoder = GaussianEncoder(replace(config, in_channels=channels + 1))
        for image, masks in disagreeing():
            seen = torch.cat([image.expand(RATERS, channels, *image.shape), low + (1 - low) * masks], dim=1)
            with torch.no_grad():
                posterior = encoder(seen)
            ratios.append(posterior.mean.std(0, unbiased=False) / posterior.stddev.mean(0))
    return torch.stack(ratios).square().mean().sqrt().item()


def encoders() -> dict[str, tuple[GaussianEncoderConfig, int, float]]:
    """Of every preset that has them, and of the ablation with full covariance."""
    found = {}
    for path in sorted(PRESETS.glob("*.yaml")):
        preset = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = from_dict(METHODS[preset["method"]].Config, preset["method_config"])
        if (
            isinstance(getattr(config, "encoder", None), GaussianEncoderConfig)
            and getattr(config, "beta_ambiguity", 1.0) > 0
        ):
            low = getattr(config, "mask_levels", (0.0, 1.0))[0]
            found[path.stem] = (config.encoder, config.image_channels, low)
    encoder, channels, low = found["lidc-cimd-128"]
    return found | {"ablations/cimd-fc": (replace(encoder, covariance="full"), channels, low)}


@pytest.mark.parametrize("name", encoders())
def test_at_the_start_an_encoder_tells_raters_apart(name):
    """At least 0.01; with PyTorch's own initialisation it was 1e-7 to 1e-3."""
    assert spread_over_raters(*encoders()[name]) >= 1e-2

"""The Probabilistic U-Net against a second, straightforward implementation of its loss and of its samples."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from make_expected import image_and_mask, seeded
from tiny_models import ignore_mask
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.methods.base import Batch
from AmbiguousSegLib.methods.probabilistic_unet import ProbabilisticUNet, ProbabilisticUNetConfig
from AmbiguousSegLib.networks.conv_unet import ConvUNetConfig
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoderConfig

LATENT = 3
ROWS = [(0, 0), (0, 1), (1, 0), (5, 2)]
ANY = SamplerSettings()


def method(limit: float | None = 5.0, beta: float = 10.0) -> ProbabilisticUNet:
    encoder = GaussianEncoderConfig(filters=(6, 8), convolutions=1, latent_dim=LATENT, log_sigma_limit=limit)
    unet = ConvUNetConfig(filters=(6, 8), convolutions=1)
    return seeded(ProbabilisticUNet(ProbabilisticUNetConfig(1, unet, encoder, 3, beta)), 5).double()


def gaussian(encoder, x: torch.Tensor, limit: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation ``(B, LATENT)``."""
    p = encoder.state_dict()
    h = F.relu(F.conv2d(x, p["encoder.layers.0.weight"], p["encoder.layers.0.bias"], padding=1))
    h = F.avg_pool2d(h, 2)
    h = F.relu(F.conv2d(h, p["encoder.layers.3.weight"], p["encoder.layers.3.bias"], padding=1)).mean((2, 3))
    out = h @ p["conv_layer.weight"][:, :, 0, 0].T + p["conv_layer.bias"]
    return out[:, :LATENT], out[:, LATENT:].clip(-limit, limit).exp()


def logits(net: ProbabilisticUNet, image: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Pixel by pixel a small perceptron over (features, latent)."""
    h = net.unet(image).permute(0, 2, 3, 1)
    h = torch.cat([h, z[:, None, None].expand(*h.shape[:3], LATENT)], dim=-1)
    layers = [layer for layer in net.combine if hasattr(layer, "weight")]
    assert len(layers) == 3
    for number, layer in enumerate(layers):
        h = h @ layer.weight[:, :, 0, 0].T + layer.bias
        h = h.clip(min=0) if number < 2 else h
    return h.permute(0, 3, 1, 2)


def test_loss_is_the_second_implementation():
    net, (image, mask) = method(), (t.double() for t in image_and_mask(16))
    noise = RowNoise(3, ROWS, TRAINING, dtype=torch.float64)
    q_mean, q_std = gaussian(net.posterior, torch.cat([image, mask], dim=1))
    p_mean, p_std = gaussian(net.prior, image)
    z = q_mean + q_std * noise.normal(0, (LATENT,))
    probability = 1 / (1 + torch.exp(-logits(net, image, z)))
    cross_entropy = -(mask * probability.log() + (1 - mask) * (1 - probability).log()).sum((1, 2, 3))
    kl = (p_std.log() - q_std.log() + (q_std**2 + (q_mean - p_mean) ** 2) / (2 * p_std**2) - 0.5).sum(1)
    got = net.training_loss(Batch(image, mask), noise)
    assert got["cross_entropy"].item() == pytest.approx(cross_entropy.mean().item(), rel=1e-5)
    assert got["divergence"].item() == pytest.approx(10 * kl.mean().item(), rel=1e-9)
    assert got["loss"].item() == pytest.approx((cross_entropy + 10 * kl).mean().item(), rel=1e-5)


def test_gradients_reach_every_network():
    net, (image, mask) = method(), (t.double() for t in image_and_mask(16))
    net(Batch(image, mask), RowNoise(3, ROWS, TRAINING, dtype=torch.float64))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_perfect_posterior_costs_nothing():
    """With a posterior that ignores the mask and equals the prior, the divergence is zero."""
    net, (image, mask) = method(), (t.double() for t in image_and_mask(16))
    ignore_mask(net.posterior, net.prior, "encoder.layers.0.weight")
    got = net.training_loss(Batch(image, mask), RowNoise(3, ROWS, TRAINING, dtype=torch.float64))
    assert got["divergence"].item() == pytest.approx(0, abs=1e-12)


@torch.no_grad()
def test_samples_come_from_the_prior_by_draw_zero():
    net, image = method(), image_and_mask(16)[0].double()
    noise, progress = RowNoise(4, ROWS, dtype=torch.float64), []
    mean, std = gaussian(net.prior, image)
    expected = torch.sigmoid(logits(net, image, mean + std * noise.normal(0, (LATENT,))))
    got = net.sample(net.prepare(image), noise, ANY, lambda *step: progress.append(step))
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)
    assert progress == [(1, 1)] and not net.samples_by_steps
    other = net.sample(net.prepare(image), RowNoise(5, ROWS, dtype=torch.float64), ANY)
    assert (got - other).abs().max() > 1e-3  # another latent, another mask


@torch.no_grad()
def test_samples_do_not_depend_on_their_batch():
    net, image = method(), image_and_mask(16)[0].double()

    def sampled(rows: slice) -> torch.Tensor:
        return net.sample(net.prepare(image[rows]), RowNoise(4, ROWS[rows], dtype=torch.float64), ANY)

    together, alone = sampled(slice(4)), torch.cat([sampled(slice(i, i + 1)) for i in range(4)])
    torch.testing.assert_close(alone, together, rtol=0, atol=6e-8)  # a unit in the last place of the float32 given


# The Generalized Probabilistic U-Net


def generalized(covariance: str) -> ProbabilisticUNet:
    encoder = GaussianEncoderConfig(2, (6, 8), 1, LATENT, covariance, 5.0, rank=2, components=3)
    unet = ConvUNetConfig(filters=(6, 8), convolutions=1)
    return seeded(ProbabilisticUNet(ProbabilisticUNetConfig(1, unet, encoder, mixture_draws=4)), 5).double()


def test_loss_of_low_rank_is_the_second_implementation():
    net, (image, mask) = generalized("low_rank"), (t.double() for t in image_and_mask(16))
    noise = RowNoise(3, ROWS, TRAINING, dtype=torch.float64)
    q, p = net.posterior(torch.cat([image, mask], dim=1)), net.prior(image)
    epsilon = noise.normal(0, (LATENT + 2,))
    z = q.loc + q.cov_diag.sqrt() * epsilon[:, :LATENT]
    z = z + torch.einsum("bnr,br->bn", q.cov_factor, epsilon[:, LATENT:])
    cross_entropy = F.binary_cross_entropy_with_logits(logits(net, image, z), mask, reduction="none").sum((1, 2, 3))
    full = [torch.distributions.MultivariateNormal(d.loc, d.covariance_matrix) for d in (q, p)]
    got = net.training_loss(Batch(image, mask), noise)
    assert got["cross_entropy"].item() == pytest.approx(cross_entropy.mean().item(), rel=1e-5)
    kl = torch.distributions.kl_divergence(*full).mean().item()
    assert got["divergence"].item() == pytest.approx(10 * kl, rel=1e-6)


def test_loss_of_a_mixture_is_summed_over_its_components():
    net, (image, mask) = generalized("mixture"), (t.double() for t in image_and_mask(16))
    noise = RowNoise(3, ROWS, TRAINING, dtype=torch.float64)
    q, p = net.posterior(torch.cat([image, mask], dim=1)), net.prior(image)
    weights, parts = q.mixture_distribution.probs, q.component_distribution
    epsilon = noise.normal(0, (4, 3, LATENT))
    cross_entropy, kl = torch.zeros(4).double(), torch.zeros(4).double()
    for component in range(3):
        z = parts.mean[:, component] + parts.stddev[:, component] * epsilon[:, 0, component]
        entropy = F.binary_cross_entropy_with_logits(logits(net, image, z), mask, reduction="none").sum((1, 2, 3))
        cross_entropy += weights[:, component] * entropy
        for draw in range(4):
            z = parts.mean[:, component] + parts.stddev[:, component] * epsilon[:, draw, component]
            kl += weights[:, component] * (q.log_prob(z) - p.log_prob(z)) / 4
    got = net.training_loss(Batch(image, mask), noise)
    assert got["cross_entropy"].item() == pytest.approx(cross_entropy.mean().item(), rel=1e-5)
    assert got["divergence"].item() == pytest.approx(10 * kl.mean().item(), rel=1e-9)


@pytest.mark.parametrize("covariance", ["low_rank", "mixture"])
def test_gradients_reach_every_network_of_the_generalized(covariance):
    net, (image, mask) = generalized(covariance), (t.double() for t in image_and_mask(16))
    net(Batch(image, mask), RowNoise(3, ROWS, TRAINING, dtype=torch.float64))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@torch.no_grad()
def test_samples_of_a_mixture_choose_a_component_by_draw_one():
    net, image = generalized("mixture"), image_and_mask(16)[0].double()
    prior, noise = net.prior(image), RowNoise(4, ROWS, dtype=torch.float64)
    parts, below = prior.component_distribution, prior.mixture_distribution.probs.cumsum(1)
    z = []
    for row, u in enumerate(noise.uniform(1)):
        k = int((u >= below[row, :-1]).sum())
        z.append(parts.mean[row, k] + parts.stddev[row, k] * noise.normal(0, (LATENT,))[row])
    expected = torch.sigmoid(logits(net, image, torch.stack(z)))
    got = net.sample(net.prepare(image), noise, ANY)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("covariance", ["low_rank", "mixture"])
def test_samples_of_the_generalized_do_not_depend_on_their_batch(covariance):
    net, image = generalized(covariance), image_and_mask(16)[0].double()

    def sampled(rows: slice) -> torch.Tensor:
        return net.sample(net.prepare(image[rows]), RowNoise(4, ROWS[rows], dtype=torch.float64), ANY)

    together, alone = sampled(slice(4)), torch.cat([sampled(slice(i, i + 1)) for i in range(4)])
    torch.testing.assert_close(alone, together, rtol=0, atol=6e-8)


@torch.no_grad()
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_image_networks_run_once_for_all_samples_of_a_slice(covariance):
    """16 samples: one pass of U-Net and prior, and each mask what both alone would give."""
    encoder = GaussianEncoderConfig(filters=(6, 8), convolutions=1, latent_dim=LATENT, covariance=covariance)
    unet = ConvUNetConfig(filters=(6, 8), convolutions=1)
    net = seeded(ProbabilisticUNet(ProbabilisticUNetConfig(1, unet, encoder)), 5)
    calls = {"unet": 0, "prior": 0, "combine": 0}
    for name in calls:
        getattr(net, name).register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    image = image_and_mask(16)[0][1]
    rows, values = zip(*draw_masks(net, lambda _: image, [7], range(16), 3, ANY, batch_size=5), strict=True)
    assert calls == {"unet": 1, "prior": 1, "combine": 4}
    prior = net.prior(image[None])
    for (number, sample), value in zip(itertools.chain(*rows), torch.cat(values), strict=True):
        noise = RowNoise(3, [(number, sample)]).normal(0, (LATENT,))
        scale = prior.scale_tril[0] if covariance == "full" else torch.diag(prior.stddev[0])
        z = prior.mean + noise @ scale.T
        torch.testing.assert_close(value[None], torch.sigmoid(logits(net, image[None], z)), rtol=0, atol=1e-6)


def test_two_classes_are_read_and_drawn():
    encoder = GaussianEncoderConfig(filters=(6, 8), convolutions=1, latent_dim=LATENT, log_sigma_limit=5.0)
    unet = ConvUNetConfig(filters=(6, 8), convolutions=1)
    net = seeded(ProbabilisticUNet(ProbabilisticUNetConfig(1, unet, encoder, classes=2)), 5)
    assert (net.classes, net.posterior.config.in_channels, net.prior.config.in_channels) == (2, 3, 1)
    image, mask = image_and_mask(16)
    both = torch.cat([mask, (1 - mask) * mask.roll(5, -1)], dim=1)
    net(Batch(image, both), RowNoise(3, ROWS, TRAINING))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    with torch.no_grad():
        values = net.sample(net.prepare(image), RowNoise(4, ROWS), ANY)
    assert values.shape == (4, 2, 16, 16) and values.min() > 0 and values.sum(1).max() < 1


def test_log_sigma_is_limited_where_it_would_overflow():
    image, mask = (t.double() for t in image_and_mask(16))
    noise, losses = RowNoise(3, ROWS, TRAINING, dtype=torch.float64), []
    for limit in (2.0, None):
        net = method(limit)
        net.prior.conv_layer.bias.data[LATENT:] -= 400  # a collapsed prior: σ = e⁻⁴⁰⁰ and 1/σ² = e⁸⁰⁰
        std = net.prior(image).stddev
        losses.append(net.training_loss(Batch(image, mask), noise)["loss"].item())
        if limit is not None:
            torch.testing.assert_close(std, torch.full_like(std, math.exp(-2)))
    assert math.isfinite(losses[0]) and not math.isfinite(losses[1])
    default = ProbabilisticUNetConfig().encoder
    assert default.log_sigma_limit == 5.0


def test_size_of_the_published_network():
    """5.0 million parameters at the published settings, counted by hand layer by layer."""

    def block(inputs: int, width: int) -> int:
        return 9 * inputs * width + width + 2 * (9 * width * width + width)

    widths = (32, 64, 128, 192)
    down = {inputs: sum(block(a, b) for a, b in zip((inputs, *widths), widths)) for inputs in (1, 2)}
    up = block(192 + 128, 128) + block(128 + 64, 64) + block(64 + 32, 32)
    heads = 2 * (192 * 12 + 12)
    combine = (38 * 32 + 32) + (32 * 32 + 32) + 33
    with torch.device("meta"):
        net = build_method("probabilistic_unet", {})
    assert sum(p.numel() for p in net.parameters()) == 2 * down[1] + down[2] + up + heads + combine == 4_998_393
    assert (net.image_channels, net.size_multiple) == (1, 8)


@pytest.mark.parametrize(
    "changes", [{"image_channels": 0}, {"combination_layers": 0}, {"mixture_draws": 0}, {"beta": -1.0}, {"classes": 0}]
)
def test_config_errors(changes):
    name, value = next(iter(changes.items()))
    with pytest.raises(ValueError, match=f"{name} ≥ .*got .*{value}"):
        ProbabilisticUNetConfig(**changes)

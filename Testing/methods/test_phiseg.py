"""PHi-Seg against a second implementation of its loss and samples, and its divergence against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from make_expected import image_and_mask, normal, seeded
from tiny_models import ignore_mask
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.methods import Batch, build_method
from AmbiguousSegLib.methods.phiseg import PHiSeg, PHiSegConfig, divergence, drawn, partial_sums
from AmbiguousSegLib.networks.latent_hierarchy import LatentHierarchyConfig

SMALL = LatentHierarchyConfig(filters=(4, 6, 8), convolutions=1, latent_levels=2, latent_channels=2, norm_groups=2)
ROWS = [(0, 0), (0, 1), (1, 0), (5, 2)]
ANY = SamplerSettings()


def method(classes: int = 1, **changes: float) -> PHiSeg:
    return seeded(PHiSeg(PHiSegConfig(network=SMALL, classes=classes, **changes)), 3).double()


def data(size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = image_and_mask(size)
    return image.double(), mask.double()


def hierarchy(net: PHiSeg, image, mask, noise):
    """Posterior, prior and latent of both levels, the coarser first, written out for two levels."""
    read, seen = net.posterior.features(torch.cat([image, mask - 0.5], 1)), net.prior.features(image)
    q1, p1 = net.posterior.level(1, read[1], None), net.prior.level(1, seen[1], None)
    z1 = q1[0] + q1[1] * noise.normal(1, (2, 4, 4))
    q0, p0 = net.posterior.level(0, read[0], z1), net.prior.level(0, seen[0], z1)
    z0 = q0[0] + q0[1] * noise.normal(0, (2, 8, 8))
    return (q1, p1, z1), (q0, p0, z0)


def test_loss_is_the_second_implementation():
    net, (image, mask) = method(beta=0.7, level_factor=3.0), data()
    noise = RowNoise(3, ROWS, TRAINING, dtype=torch.float64)
    (q1, p1, z1), (q0, p0, z0) = hierarchy(net, image, mask, noise)
    kl = [kl_divergence(*(Independent(Normal(*g), 3) for g in pair)) for pair in ((q0, p0), (q1, p1))]
    fine, coarse = net.decoder([z0, z1])
    bce = [
        F.binary_cross_entropy_with_logits(x, mask, reduction="none").sum((1, 2, 3)) for x in (coarse, coarse + fine)
    ]
    got = net.training_loss(Batch(image, mask), noise)
    assert got["cross_entropy"].item() == pytest.approx((bce[0] + bce[1]).mean().item(), rel=1e-9)
    assert got["divergence"].item() == pytest.approx(0.7 * (kl[0] + 3 * kl[1]).mean().item(), rel=1e-9)
    assert got["loss"].item() == pytest.approx(got["cross_entropy"].item() + got["divergence"].item(), rel=1e-12)


def test_the_published_weights_of_the_levels():
    """4^l of level l, 0 the finest, and β = 1; weight 1 for all cross-entropies."""
    config = PHiSegConfig()
    assert [config.beta * config.level_factor**level for level in range(5)] == [1, 4, 16, 64, 256]


def test_divergence_by_levels_is_that_of_the_joint():
    """A linear Gaussian of two levels: q(z₁)·q(z₀|z₁) and p alike are Gaussians over (z₀, z₁), whose divergence has a
    closed form. By levels it is KL(q₁‖p₁) + E over z₁ of KL(q₀|₁‖p₀|₁), the mean taken exactly by three nodes."""
    slope_q, slope_p, shift_q, shift_p = 0.8, -0.5, 0.3, 1.1
    m_q, m_p, s_q, s_p, c_q, c_p = 0.4, -0.2, 0.9, 1.3, 0.6, 0.7

    def joint(m: float, s: float, slope: float, shift: float, c: float) -> MultivariateNormal:
        mean = torch.tensor([shift + slope * m, m], dtype=torch.float64)
        covariance = [[c**2 + slope**2 * s**2, slope * s**2], [slope * s**2, s**2]]
        return MultivariateNormal(mean, torch.tensor(covariance, dtype=torch.float64))

    expected = kl_divergence(joint(m_q, s_q, slope_q, shift_q, c_q), joint(m_p, s_p, slope_p, shift_p, c_p)).item()

    def maps(value: float) -> torch.Tensor:
        return torch.full((1, 1, 1, 1), value, dtype=torch.float64)

    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    got = divergence((maps(m_q), maps(s_q)), (maps(m_p), maps(s_p))).item()
    for node, weight in zip(nodes, weights / math.sqrt(2 * math.pi), strict=True):
        z = m_q + s_q * node
        q, p = (maps(shift_q + slope_q * z), maps(c_q)), (maps(shift_p + slope_p * z), maps(c_p))
        got += weight * divergence(q, p).item()
    assert got == pytest.approx(expected, rel=1e-12)


def test_divergence_of_maps_is_that_of_torch():
    q, p = ((normal(s, 3, 2, 4, 5).double(), normal(s + 1, 3, 2, 4, 5).double().exp()) for s in (0, 2))
    expected = kl_divergence(*(Independent(Normal(*g), 3) for g in (q, p)))
    torch.testing.assert_close(divergence(q, p), expected, rtol=1e-12, atol=0)
    assert torch.equal(divergence(q, q), torch.zeros(3).double())


def test_posterior_that_ignores_the_mask_costs_nothing():
    net, (image, mask) = method(), data()
    ignore_mask(net.posterior, net.prior, "down.0.0.weight")
    got = net.training_loss(Batch(image, mask), RowNoise(3, ROWS, TRAINING, dtype=torch.float64))
    assert got["divergence"].item() == pytest.approx(0, abs=1e-12)


def test_sums_of_the_logits():
    parts = [normal(s, 2, 1, 4, 4).double() for s in range(3)]
    sums = partial_sums(parts)
    for got, expected in zip(sums, (parts[0] + parts[1] + parts[2], parts[1] + parts[2], parts[2]), strict=True):
        torch.testing.assert_close(got, expected)


@torch.no_grad()
def test_samples_come_from_the_prior_level_by_level():
    """The probability is the sigmoid of all levels' logits; the coarser level repeats each pixel 2×2 times."""
    net, (image, _) = method(), data()
    noise, progress = RowNoise(4, ROWS, dtype=torch.float64), []
    seen = net.prior.features(image)
    mean, sigma = net.prior.level(1, seen[1], None)
    z1 = mean + sigma * noise.normal(1, (2, 4, 4))
    mean, sigma = net.prior.level(0, seen[0], z1)
    z0 = mean + sigma * noise.normal(0, (2, 8, 8))
    fine, coarse = net.decoder([z0, z1])
    assert torch.equal(coarse, coarse[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    got = net.sample(net.prepare(image), noise, ANY, lambda *step: progress.append(step))
    torch.testing.assert_close(got, torch.sigmoid(fine + coarse), rtol=0, atol=1e-12)
    assert progress == [(1, 1)] and not net.samples_by_steps
    assert (got - net.sample(net.prepare(image), RowNoise(5, ROWS, dtype=torch.float64), ANY)).abs().max() > 1e-3


@torch.no_grad()
def test_both_levels_matter():
    """Another latent of one level alone gives another mask; a coarse one moves the finer level's prior too."""
    net, (image, _) = method(), data()
    noise, seen = RowNoise(4, ROWS, dtype=torch.float64), net.prior.features(image)
    z1, other = (drawn(net.prior.level(1, seen[1], None), 1, RowNoise(s, ROWS, dtype=torch.float64)) for s in (4, 9))
    means = [net.prior.level(0, seen[0], z)[0] for z in (z1, other)]
    assert (means[0] - means[1]).abs().max() > 1e-3
    z0 = drawn(net.prior.level(0, seen[0], z1), 0, noise)
    whole = [partial_sums(net.decode(z))[0] for z in ([z0, z1], [z0 + 1, z1], [z0, other])]
    assert min((whole[0] - x).abs().max() for x in whole[1:]) > 1e-3


@torch.no_grad()
def test_samples_do_not_depend_on_their_batch():
    net, (image, _) = method(), data()

    def sampled(rows: slice) -> torch.Tensor:
        return net.sample(net.prepare(image[rows]), RowNoise(4, ROWS[rows], dtype=torch.float64), ANY)

    together, alone = sampled(slice(4)), torch.cat([sampled(slice(i, i + 1)) for i in range(4)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_image_is_read_once_for_all_samples_of_a_slice():
    net, calls = seeded(PHiSeg(PHiSegConfig(network=SMALL)), 3), []
    net.prior.down[0].register_forward_hook(lambda *_: calls.append(1))
    image = image_and_mask(16)[0][1]
    values = [value for _, value in draw_masks(net, lambda _: image, [7], range(7), 3, ANY, batch_size=5)]
    assert len(calls) == 1
    alone = net.sample(net.prepare(image[None]), RowNoise(3, [(7, 6)]), ANY)
    torch.testing.assert_close(torch.cat(values)[6:], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
def test_gradients_reach_every_parameter(classes):
    net, (image, mask) = method(classes), data()
    masks = torch.cat([mask.roll(5 * k, -1) / classes for k in range(classes)], dim=1)
    net(Batch(image, masks), RowNoise(3, ROWS, TRAINING, dtype=torch.float64))["loss"].backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@torch.no_grad()
def test_several_classes_share_a_softmax():
    net, (image, _) = method(2), data()
    values = net.sample(net.prepare(image), RowNoise(4, ROWS, dtype=torch.float64), ANY)
    latents = [drawn(net.prior.level(1, net.prepare(image)[1], None), 1, RowNoise(4, ROWS, dtype=torch.float64))]
    latents.insert(
        0, drawn(net.prior.level(0, net.prepare(image)[0], latents[0]), 0, RowNoise(4, ROWS, dtype=torch.float64))
    )
    logits = sum(net.decoder(latents))
    whole = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).softmax(1)
    torch.testing.assert_close(values, whole[:, 1:], rtol=1e-12, atol=1e-14)


def test_a_few_steps_lower_the_loss_of_a_case():
    torch.manual_seed(0)
    net, (image, mask) = (
        build_method("phiseg", {"network": {"filters": [8, 8], "latent_levels": 2}}),
        image_and_mask(16),
    )
    optimizer, values = torch.optim.Adam(net.parameters(), 1e-2), []
    for step in range(40):
        loss = net(Batch(image, mask), RowNoise(step, ROWS, TRAINING))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.mean(values[-5:]) < 0.5 * np.mean(values[:3])


def test_half_precision_keeps_the_latents_and_the_loss_in_float32():
    net, (image, mask) = method().float(), image_and_mask(16)
    with torch.autocast("cpu", torch.bfloat16):
        losses = net(Batch(image, mask), RowNoise(3, ROWS, TRAINING))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    exact = net(Batch(image, mask), RowNoise(3, ROWS, TRAINING))
    assert losses["loss"].item() == pytest.approx(exact["loss"].item(), rel=0.05)


@pytest.mark.parametrize("changes", [{"image_channels": 0}, {"classes": 0}, {"beta": -1.0}, {"level_factor": 0.0}])
def test_config_errors(changes):
    name, value = next(iter(changes.items()))
    with pytest.raises(ValueError, match=f"{name} .*got .*{value}"):
        PHiSegConfig(**changes)

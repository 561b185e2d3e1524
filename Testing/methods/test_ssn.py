"""Stochastic segmentation networks: loss and draws against what their normal distribution says by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from make_expected import image_and_mask, normal, seeded
from tiny_models import check_batches
from torch.distributions import LowRankMultivariateNormal
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.label_maps import label_map_of
from AmbiguousSegLib.methods.base import Batch
from AmbiguousSegLib.methods.ssn import SSN, SSNConfig, cross_entropies, marginal
from AmbiguousSegLib.networks.conv_unet import ConvUNetConfig
from AmbiguousSegLib.networks.low_rank_normal import LowRankNormal

ROWS = [(0, 0), (0, 1), (1, 0), (5, 2)]
ANY = SamplerSettings()
RANK, DRAWS = 3, 6


def method(classes: int = 1) -> SSN:
    config = SSNConfig(
        1, ConvUNetConfig(filters=(6, 8), convolutions=1), RANK, DRAWS, single_weight=0.25, classes=classes
    )
    return seeded(SSN(config), 5).double()


def image_and_masks(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = (t.double() for t in image_and_mask(16))
    return image, torch.cat([mask, (1 - mask) * mask.roll(5, -1)], dim=1)[:, :classes]


def draws_by_hand(normals: LowRankNormal, noise: RowNoise, mirrored: int) -> list[torch.Tensor]:
    """Draw after draw, row after row, from the numbers of draws 0 and 1."""
    e1, e2 = noise.normal(0, (mirrored, RANK)), noise.normal(1, (mirrored, *normals.mean.shape[1:]))
    out = []
    for sign in (1, -1):
        for m in range(mirrored):
            shift = sum(e1[:, m, r, None, None, None] * normals.factor[:, r] for r in range(RANK))
            out.append(normals.mean + sign * (shift + normals.variance.sqrt() * e2[:, m]))
    return out


@pytest.mark.parametrize("classes", [1, 2])
def test_loss_is_the_log_of_the_mean_likelihood(classes):
    net, (image, mask) = method(classes), image_and_masks(classes)
    noise = RowNoise(3, ROWS, TRAINING, dtype=torch.float64)
    label = (mask * torch.arange(1, classes + 1)[:, None, None]).sum(1).long()
    surprise = torch.stack(
        [
            F.cross_entropy(F.pad(draw, (0, 0, 0, 0, 1, 0)), label, reduction="none").sum((1, 2))
            for draw in draws_by_hand(net.logits(image), noise, DRAWS // 2)
        ]
    )
    least = surprise.min(0).values  # so that no likelihood of 256 pixels is 0
    expected = least - (-(surprise - least)).exp().mean(0).log()
    got = net.training_loss(Batch(image, mask), noise)
    assert got["likelihood"].item() == pytest.approx(expected.mean().item(), rel=1e-10)
    assert got["single"].item() == pytest.approx(surprise.mean().item(), rel=1e-10)
    assert got["loss"].item() == pytest.approx((0.75 * expected.mean() + 0.25 * surprise.mean()).item(), rel=1e-10)
    assert got["likelihood"] < got["single"]
    got["loss"].backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().max() > 0 for p in net.parameters())


def test_marginal_likelihood_of_two_pixels_by_hand():
    """Two draws of two pixels, whose four probabilities are written out; and far beyond what an exponential holds."""
    probability = torch.tensor([[0.8, 0.3], [0.1, 0.4]], dtype=torch.float64)  # draw by pixel
    logits = torch.logit(probability).reshape(1, 2, 1, 1, 2)
    surprise = cross_entropies(logits, torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 2))
    expected = [[-math.log(0.8 * 0.7), -math.log(0.1 * 0.6)]]
    torch.testing.assert_close(surprise, torch.tensor(expected, dtype=torch.float64))
    assert marginal(surprise).item() == pytest.approx(-math.log((0.8 * 0.7 + 0.1 * 0.6) / 2), rel=1e-12)
    far = torch.tensor([[5000.0, 5000.0, 9000.0, 9000.0]])
    assert marginal(far).item() == pytest.approx(5000 + math.log(2), rel=1e-7)
    assert marginal(torch.full((1, 4), 7.0)).item() == pytest.approx(7.0, rel=1e-6)


def test_loss_estimates_the_likelihood_of_the_distribution():
    """One pixel: the mean of a sigmoid over a normal logit, by a fine sum over the normal."""
    mean, sd = 0.7, math.sqrt(1.3**2 + 0.4)
    grid = torch.linspace(-9, 9, 20001, dtype=torch.float64)
    weight = torch.exp(-(grid**2) / 2)
    expected = -math.log(((mean + sd * grid).sigmoid() * weight).sum() / weight.sum())
    pixel = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    ours = LowRankNormal(mean * pixel, 1.3 * pixel[:, None], 0.4 * pixel)
    noise, half = RowNoise(1, [(0, 0)], dtype=torch.float64), 20_000
    e1, e2 = noise.normal(0, (half, 1)), noise.normal(1, (half, 1, 1, 1))
    draws = ours.sample(torch.cat([e1, -e1], 1), torch.cat([e2, -e2], 1))
    got = marginal(cross_entropies(draws, pixel))
    assert got.item() == pytest.approx(expected, abs=0.01)


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 2])
def test_samples_are_the_classes_of_one_draw_of_the_logits(classes):
    net, (image, _) = method(classes), image_and_masks(classes)
    noise, progress = RowNoise(4, ROWS, dtype=torch.float64), []
    prepared = net.prepare(image)
    logits = draws_by_hand(LowRankNormal(*prepared), noise, 1)[0]
    got = net.sample(tuple(prepared), noise, ANY, lambda *step: progress.append(step))
    whole = F.pad(logits, (0, 0, 0, 0, 1, 0))
    torch.testing.assert_close(got, whole.softmax(1)[:, 1:], rtol=1e-10, atol=1e-12)
    assert progress == [(1, 1)] and not net.samples_by_steps
    for values, row in zip(got.numpy(), whole):
        assert (label_map_of(values) == row.argmax(0).numpy()).all()
    other = net.sample(prepared, RowNoise(5, ROWS, dtype=torch.float64), ANY)
    assert (got - other).abs().max() > 1e-3


@torch.no_grad()
def test_many_draws_are_those_of_torchs_distribution():
    """Means over 4,000 draws of a 2 × 2 image: within five standard errors of torch's mean and covariance."""
    net, n = method(), 4000
    net.head.log_variance.bias.fill_(-1.0)
    net.head.factor.weight.mul_(5)
    one = net.prepare(normal(0, 1, 1, 2, 2).double())
    many = LowRankNormal(*(part.expand(n, *part.shape[1:]) for part in one))
    draws = net.draw(many, RowNoise(2, [(0, i) for i in range(n)], dtype=torch.float64), first=3).flatten(1)
    factor = one[1].flatten(2).transpose(1, 2)
    expected = LowRankMultivariateNormal(one[0].flatten(1), factor, one[2].flatten(1))
    covariance, variance = expected.covariance_matrix[0], expected.variance[0]
    error = (variance / n).sqrt()
    assert ((draws.mean(0) - expected.mean[0]).abs() < 5 * error).all()
    error = ((variance[:, None] * variance + covariance**2) / n).sqrt()
    assert ((draws.T.cov() - covariance).abs() < 5 * error).all()
    assert (covariance - covariance.diag().diag()).abs().max() > 5 * error.max()  # not a distribution without any


def test_samples_do_not_depend_on_their_batch_and_the_network_runs_once_a_slice():
    net = method().float()
    check_batches(net, image_and_mask(16)[0], net.unet)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_channels": 0}, "image_channels ≥ 1.*got 0"),
        ({"rank": 0}, "rank ≥ 1.*got 1, 0"),
        ({"classes": 0}, "classes ≥ 1.*and 0"),
        ({"loss_samples": 7}, "loss_samples must be even.*7"),
        ({"loss_samples": 0}, "loss_samples must be even.*0"),
        ({"log_variance_limit": math.inf}, "log_variance_limit .*inf"),
        ({"single_weight": 1.0}, "single_weight .*1.0"),
        ({"rank": 10**6}, "at most 65,536"),
    ],
)
def test_config_errors(changes, named):
    with pytest.raises(ValueError, match=named):
        SSNConfig(**changes)


def test_energy_of_the_draws_to_the_raters_by_hand():
    net, (image, mask) = method(), image_and_masks(1)
    net.config = replace(net.config, loss="energy")
    raters = torch.stack([mask, mask.roll(2, -1), torch.zeros_like(mask)], dim=1)
    noise = RowNoise(3, ROWS, TRAINING, dtype=torch.float64)
    draws = [draw.sigmoid() for draw in draws_by_hand(net.logits(image), noise, DRAWS // 2)]

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        shared = (a * b).sum((1, 2, 3))
        return 1 - (shared + 1) / ((a + b).sum((1, 2, 3)) - shared + 1)

    cross = torch.stack([distance(s, y) for s in draws for y in raters.unbind(1)]).mean(0)
    apart = [(i, j) for i in range(DRAWS) for j in range(DRAWS) if (i - j) % (DRAWS // 2)]
    within = torch.stack([distance(draws[i], draws[j]) for i, j in apart]).mean(0)
    found = net.training_loss(Batch(image, mask, raters), noise)
    assert found["loss"].item() == pytest.approx((2 * cross - within).mean().item(), rel=1e-5)
    one = net.training_loss(Batch(image, mask), noise)["loss"]
    assert one.item() == net.training_loss(Batch(image, mask, mask[:, None]), noise)["loss"].item()


def test_without_a_diagonal_draws_lie_in_the_span_of_the_factor():
    net, (image, _) = method(), image_and_masks(1)
    net.config = replace(net.config, diagonal=False)
    logits = net.logits(image)
    assert not logits.variance.any()
    noise = RowNoise(3, ROWS, dtype=torch.float64)
    shift = (net.draw(logits, noise) - logits.mean).flatten(1)
    for row in range(len(ROWS)):
        factor = logits.factor[row].flatten(1)
        weights = torch.linalg.lstsq(factor.T, shift[row]).solution
        torch.testing.assert_close(weights, noise.normal(0, (1, RANK))[row, 0])
        torch.testing.assert_close(weights @ factor, shift[row])


def test_temperature_scales_the_deviation_of_draws():
    net, (image, _) = method(), image_and_masks(1)
    prepared, noise = net.prepare(image), RowNoise(3, ROWS, dtype=torch.float64)

    def logit(temperature: float) -> torch.Tensor:
        net.config = replace(net.config, temperature=temperature)
        return torch.logit(net.sample(prepared, noise, ANY))

    mean = prepared[0]
    torch.testing.assert_close(logit(0.0), mean)
    torch.testing.assert_close(logit(0.5) - mean, 0.5 * (logit(1.0) - mean))


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"loss": "ged"}, "SSNConfig.loss must be"),
        ({"loss": "energy", "loss_samples": 2}, "4 or more"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_settings_of_the_loss_that_cannot_be_are_refused(bad, told):
    with pytest.raises(ValueError, match=told):
        SSNConfig(**bad)


@pytest.mark.parametrize(("diagonal", "loss"), [(True, "likelihood"), (False, "likelihood"), (False, "energy")])
def test_every_weight_that_is_trained_has_a_gradient(diagonal, loss):
    """Distributed training waits for each of them."""
    (image, mask), noise = image_and_masks(1), RowNoise(3, ROWS, TRAINING, dtype=torch.float64)
    config = replace(method().config, diagonal=diagonal, loss=loss)
    net = seeded(SSN(config), 5).double()
    net.training_loss(Batch(image, mask), noise)["loss"].backward()
    assert [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None] == []
    assert net.head.log_variance.weight.requires_grad == diagonal

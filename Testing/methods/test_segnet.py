"""SegNet, Bayesian SegNet and aleatoric SegNet: losses, draws and maps against what they are by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from make_expected import image_and_mask, normal, seeded
from tiny_models import check_batches
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.label_maps import label_map_of
from AmbiguousSegLib.methods.base import Batch
from AmbiguousSegLib.methods.segnet import (
    UNCERTAINTIES,
    SegNetMethod,
    SegNetMethodConfig,
    expected_cross_entropy,
)
from AmbiguousSegLib.networks.segnet import SegNetConfig

ROWS = [(0, 0), (0, 1), (1, 0), (5, 2)]
ANY = SamplerSettings()
NETWORK = SegNetConfig(filters=(4, 6, 8), convolutions=(1, 1, 1), norm_groups=2)


def method(uncertainty: str, classes: int = 1, **changes) -> SegNetMethod:
    config = SegNetMethodConfig(1, NETWORK, uncertainty, **{"dropout_stages": 2, "classes": classes, **changes})
    return seeded(SegNetMethod(config), 5).double()


def image_and_masks(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = (t.double() for t in image_and_mask(16))
    return image, torch.cat([mask, (1 - mask) * mask.roll(5, -1)], dim=1)[:, :classes]


def label_of(mask: torch.Tensor) -> torch.Tensor:
    return (mask * torch.arange(1, 1 + mask.shape[1])[:, None, None]).sum(1).long()


def left_out(noise: RowNoise, number: int, x: torch.Tensor, share: float = 0.5) -> torch.Tensor:
    """Dropout by hand: what the draw says is 0, and the rest is made up for it."""
    kept = noise.uniform(number, x.shape[1:]).numpy() >= share
    return torch.from_numpy(np.where(kept, x.detach().numpy() / (1 - share), 0))


def dropper(noise: RowNoise):
    numbers = iter(range(99))
    return lambda x: left_out(noise, next(numbers), x)


@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
@pytest.mark.parametrize("classes", [1, 2])
def test_loss_is_the_mean_cross_entropy_and_reaches_every_weight(uncertainty, classes):
    """With what draws 0 to 3 leave out; with the mean of the softmax over the draws of the logits."""
    net, (image, mask) = method(uncertainty, classes, loss_samples=3), image_and_masks(classes)
    noise = RowNoise(3, ROWS, TRAINING, dtype=torch.float64)
    with torch.no_grad():
        found = net.network(image, dropper(noise) if uncertainty == "dropout" else None)
    if uncertainty == "aleatoric":
        mean, log_variance = found[:, :classes], found[:, classes:]
        standard = noise.normal(0, (3, classes, 16, 16))
        draws = [mean + (0.5 * log_variance).exp() * standard[:, t] for t in range(3)]
        probability = sum(F.pad(draw, (0, 0, 0, 0, 1, 0)).softmax(1) for draw in draws) / 3
        expected = F.nll_loss(probability.log(), label_of(mask))
    else:
        expected = F.cross_entropy(F.pad(found, (0, 0, 0, 0, 1, 0)), label_of(mask))
    got = net.training_loss(Batch(image, mask), noise)["loss"]
    assert got.item() == pytest.approx(expected.item(), rel=1e-10)
    got.backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().max() > 0 for p in net.parameters())


def test_aleatoric_loss_of_a_pixel_is_the_integral_over_its_logit():
    """−log of the mean of a sigmoid over a normal logit, by a fine sum; of two classes over the plane."""
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    weight = (-(grid**2) / 2).exp() / (-(grid**2) / 2).exp().sum()
    n, noise = 40_000, RowNoise(1, [(0, 0)], dtype=torch.float64)
    draws = 0.7 + 1.5 * noise.normal(0, (n, 1, 1, 1))
    mask = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    inside = ((0.7 + 1.5 * grid).sigmoid() * weight).sum().item()
    for target, probability in ((mask, inside), (0 * mask, 1 - inside)):
        assert expected_cross_entropy(draws, target).item() == pytest.approx(-math.log(probability), abs=0.01)
    mixed = expected_cross_entropy(draws, 0.25 * mask).item()
    assert mixed == pytest.approx(-0.25 * math.log(inside) - 0.75 * math.log(1 - inside), abs=0.01)
    mean, deviation = torch.tensor([0.5, -0.2]), torch.tensor([2.0, 1.0])
    a, b = mean[0] + deviation[0] * grid[:, None], mean[1] + deviation[1] * grid
    second = (b.exp() / (1 + a.exp() + b.exp()) * weight[:, None] * weight).sum().item()
    draws = mean.reshape(2, 1, 1) + deviation.reshape(2, 1, 1) * noise.normal(1, (n, 2, 1, 1))
    target = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    assert expected_cross_entropy(draws, target).item() == pytest.approx(-math.log(second), abs=0.01)


def test_without_a_deviation_the_aleatoric_loss_is_segnets():
    logits, (_, mask) = normal(3, 4, 2, 16, 16).double(), image_and_masks(2)
    found = expected_cross_entropy(logits[:, None].expand(4, 7, 2, 16, 16), mask)
    expected = F.cross_entropy(F.pad(logits, (0, 0, 0, 0, 1, 0)), label_of(mask), reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("uncertainty", ["none", "aleatoric"])
def test_without_dropout_all_samples_are_the_classes_of_the_largest_logits(uncertainty, classes):
    net, (image, _) = method(uncertainty, classes), image_and_masks(classes)
    prepared, progress = net.prepare(image), []
    got = net.sample(prepared, RowNoise(4, ROWS), ANY, lambda *step: progress.append(step))
    whole = F.pad(net.network(image)[:, :classes], (0, 0, 0, 0, 1, 0))
    torch.testing.assert_close(got, whole.softmax(1)[:, 1:], rtol=1e-10, atol=1e-12)
    assert progress == [(1, 1)] and not net.samples_by_steps and net.deterministic
    for values, row in zip(got.numpy(), whole):
        assert (label_map_of(values) == row.argmax(0).numpy()).all()
    assert torch.equal(net.sample(prepared, RowNoise(9, ROWS), ANY), got)


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 2])
def test_the_map_of_its_own_is_the_deviation_that_is_predicted(classes):
    net, (image, _) = method("aleatoric", classes, log_variance_limit=0.5), image_and_masks(classes)
    log_variance = net.network(image)[:, classes:].clamp(max=0.5)
    assert (log_variance == 0.5).any() and (log_variance < 0.5).any()
    maps = net.own_maps(net.prepare(image))
    assert set(maps) == set(net.own_map_names) == {"logit_deviation"}
    torch.testing.assert_close(maps["logit_deviation"], log_variance.exp().mean(1).sqrt(), rtol=1e-10, atol=0)
    for other in ("none", "dropout"):
        assert method(other).own_maps(method(other).prepare(image)) == {} and method(other).own_map_names == ()


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 2])
def test_bayesian_samples_are_of_one_draw_of_what_is_left_out(classes):
    net, (image, _) = method("dropout", classes), image_and_masks(classes)
    noise, progress = RowNoise(4, ROWS, dtype=torch.float64), []
    prepared = net.prepare(image)
    got = net.sample(prepared, noise, ANY, lambda *step: progress.append(step))
    logits = net.network(image, dropper(noise))
    torch.testing.assert_close(got, F.pad(logits, (0, 0, 0, 0, 1, 0)).softmax(1)[:, 1:], rtol=1e-10, atol=1e-12)
    assert progress == [(1, 1)] and not net.samples_by_steps and not net.deterministic
    assert torch.equal(net.sample(prepared, RowNoise(4, ROWS, dtype=torch.float64), ANY), got)
    other = net.sample(prepared, RowNoise(5, ROWS, dtype=torch.float64), ANY)
    assert (other - got).abs().amax((1, 2, 3)).min() > 1e-3
    one = tuple(part[:1].expand(4, *part.shape[1:]) for part in prepared)
    assert net.sample(one, noise, ANY).std(0).max() > 1e-3  # samples of one image differ


@torch.no_grad()
def test_what_is_left_out_is_the_stated_share_and_the_mean_stays():
    """4,000 rows of 12 numbers: means and shares within five standard errors; variances are x²·p / (1 − p)."""
    n, share = 4000, 0.3
    net, x = method("dropout", dropout=share), (1 + normal(1, 3, 2, 2).double().abs())
    dropped = net._drop(RowNoise(2, [(0, i) for i in range(n)], dtype=torch.float64))(x.expand(n, 3, 2, 2))
    assert ((dropped == 0).double().mean(0) - share).abs().max() < 5 * math.sqrt(share * (1 - share) / n)
    variance = x**2 * share / (1 - share)
    assert ((dropped.mean(0) - x).abs() < 5 * (variance / n).sqrt()).all()
    torch.testing.assert_close(dropped.var(0), variance, rtol=0.1, atol=0)


@torch.no_grad()
def test_the_mean_of_many_draws_is_that_of_all_that_can_be_left_out():
    """Two features, left out where they are one pixel and where they are four: 2¹⁰ draws, all written out."""
    network = SegNetConfig(filters=(2, 2), convolutions=(1, 1), norm_groups=0)
    net = seeded(SegNetMethod(SegNetMethodConfig(1, network, "dropout", dropout_stages=1)), 7).double()
    image, n = normal(3, 1, 1, 4, 4).double(), 2000
    head = net.prepare(image)
    assert head[0].shape == (1, 2, 1, 1)
    every = [[(bits >> i) & 1 for i in range(10)] for bits in range(2**10)]
    kept = 2 * torch.tensor(every, dtype=torch.float64)
    masks = iter([kept[:, :2].reshape(-1, 2, 1, 1), kept[:, 2:].reshape(-1, 2, 2, 2)])
    many = tuple(part.expand(2**10, *part.shape[1:]) for part in head)
    values = net.network.tail(many, lambda x: x * next(masks)).sigmoid()
    drawn = net.sample(
        tuple(part.expand(n, *part.shape[1:]) for part in head), RowNoise(1, [(0, i) for i in range(n)]), ANY
    )
    error = (values.var(0) / n).sqrt()
    assert ((drawn.mean(0) - values.mean(0)).abs() < 5 * error + 1e-12).all() and error.max() > 1e-4


@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
def test_samples_do_not_depend_on_their_batch_and_what_they_share_runs_once_a_slice(uncertainty):
    net = method(uncertainty).float()
    check_batches(net, image_and_mask(16)[0], net.network.down[0])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_channels": 0}, "image_channels ≥ 1.*got 0"),
        ({"loss_samples": 0}, "loss_samples ≥ 1.*got 1, 0"),
        ({"classes": 0}, "classes ≥ 1.*and 0"),
        ({"classes": 10**9}, "at most 65,536 channels.*got 2,000,000,000"),
        ({"image_channels": 10**9}, "at most 65,536 channels.*got 1,000,000,000"),
        ({"loss_samples": 10**9}, "at most 10,000.*got 1, 1000000000"),
        ({"log_variance_limit": 1e300}, "log_variance_limit must be a finite number, from -80 to 80"),
        ({"uncertainty": "some"}, "one of none, dropout, aleatoric, got 'some'"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"uncertainty": "dropout", "dropout_stages": 5}, "dropout_stages must be 1 to 4.*5 stages, got 5"),
        ({"uncertainty": "dropout", "dropout_stages": 0}, "dropout_stages must be 1 to 4.*got 0"),
        ({"log_variance_limit": math.inf}, "log_variance_limit must be a finite number.*got inf"),
    ],
)
def test_config_errors(changes, named):
    with pytest.raises(ValueError, match=named):
        SegNetMethodConfig(**changes)


def test_nothing_left_out_is_one_mask():
    assert method("dropout", dropout=0.0).deterministic

"""SegDiff: the sum of two encoders, the image's computed once, and the published way to sample."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import predictions_by_hand as by_hand
import pytest
import torch
from make_expected import image_and_mask, normal
from tiny_models import check_batches, randomised
from tiny_training import UNET

from AmbiguousSegLib.diffusion import losses, process
from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.computation import replayed
from AmbiguousSegLib.methods import Batch, build_method
from AmbiguousSegLib.methods.segdiff import SegDiff, SegDiffConfig
from AmbiguousSegLib.networks.unet import UNet

ENCODER = {"filters": 5, "growth": 3, "blocks": 2}
ROWS = [(0, 0), (0, 1), (1, 0), (2, 5)]
INDEX = torch.tensor([0, 7, 50, 99])


def fresh(**changes) -> SegDiff:
    return build_method("segdiff", {"unet": UNET, "encoder": ENCODER, **changes})


def method(**changes) -> SegDiff:
    return randomised(fresh(**changes))


def inputs(low: float = -1.0) -> tuple[torch.Tensor, ...]:
    image, mask = (tensor.double() for tensor in image_and_mask(16))
    return image, low + (1 - low) * mask, INDEX, normal(2, 4, 1, 16, 16).double()


def close(got: torch.Tensor, expected: torch.Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(got.detach(), expected.detach(), rtol=1e-6, atol=atol)


def abar_of(segdiff: SegDiff, index: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(segdiff.schedule.alphas_cumprod)[index].reshape(-1, 1, 1, 1)


# The network


@pytest.mark.parametrize("classes", [1, 2])
def test_the_u_net_goes_on_from_the_sum_of_both_encoders(classes):
    """A U-Net with the same weights, whose first convolution reads mask and G(I), of which it copies the latter."""
    segdiff = method(image_channels=3, classes=classes).double()
    image, x_t = normal(1, 4, 3, 16, 16).double(), normal(2, 4, classes, 16, 16).double()
    width = UNET["model_channels"]
    both = UNet(replace(segdiff.unet.config, in_channels=classes + width)).double()
    weights = segdiff.unet.state_dict()
    copied = torch.zeros(width, width, 3, 3, dtype=torch.float64)
    copied[range(width), range(width), 1, 1] = 1
    first = "input_blocks.0.0.weight"
    both.load_state_dict({**weights, first: torch.cat([weights[first], copied], dim=1)})
    features = segdiff.encoder(image)
    expected = both(torch.cat([x_t, features], dim=1), INDEX)
    got, v = segdiff._network(features, x_t, INDEX)
    assert v is None and got.shape == (4, classes, 16, 16)
    close(got, expected)
    without = segdiff.unet(x_t, INDEX)
    assert float((got - without).abs().mean()) > 0.01
    close(segdiff.unet(x_t, INDEX, None, torch.zeros_like(features)), without)


def test_an_untrained_network_predicts_zero():
    segdiff = fresh().double()
    image, x0, index, noise = inputs()
    close(segdiff.losses(image, x0, index, noise)["loss"], (noise**2).mean((1, 2, 3)))
    x_t = normal(3, 4, 1, 16, 16).double()
    denoised = segdiff.denoise(segdiff.encoder(image), x_t, index)
    close(denoised.x0, x_t / abar_of(segdiff, index).sqrt())


def test_without_more_the_settings_are_the_published_ones():
    config = SegDiffConfig()
    assert (config.schedule.kind, config.schedule.steps, config.prediction) == ("linear", 100, "epsilon")
    assert (config.variance, config.clip, config.mask_levels) == ("beta", False, (-1, 1))
    assert (config.encoder.filters, config.encoder.growth) == (64, 32)
    betas = fresh().schedule.betas
    assert (betas[0], betas[-1]) == pytest.approx((0.001, 0.2))  # of 1,000 steps 1e-4 to .02


# Training


@pytest.mark.parametrize("prediction", process.PREDICTIONS)
def test_the_loss_compares_the_output_with_its_target(prediction):
    segdiff = method(prediction=prediction).double()
    image, x0, index, noise = inputs()
    abar = abar_of(segdiff, index)
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    output = segdiff.unet(x_t, index, None, segdiff.encoder(image))
    target = by_hand.target(prediction, x0, noise, abar)
    terms = segdiff.losses(image, x0, index, noise)
    close(terms["loss"], ((output - target) ** 2).mean((1, 2, 3)))
    assert set(terms) == {"simple", "loss"}
    estimate = by_hand.estimate(prediction, output, x_t, abar)
    features = segdiff.encoder(image)
    close(segdiff.denoise(features, x_t, index).x0, estimate, atol=1e-4)  # tables are rounded to float32
    clipped = method(prediction=prediction, clip=True, mask_levels=(0.0, 1.0)).double()
    close(clipped.denoise(features, x_t, index).x0, estimate.clamp(0, 1), atol=1e-4)


def test_training_draws_its_timestep_and_noise_from_their_places():
    segdiff = method(mask_levels=(0.0, 1.0)).double()
    image, mask = (tensor.double() for tensor in image_and_mask(16))
    noise = RowNoise(4, ROWS, TRAINING, dtype=torch.float64)
    index = (noise.uniform(0) * 100).long()
    got = segdiff(Batch(image, mask), noise)
    close(got["loss"], segdiff.losses(image, mask, index, noise.normal(1, (1, 16, 16)))["loss"].mean())


def test_a_learned_variance_is_trained_by_the_bound_and_nothing_else_is():
    segdiff = method(variance="learned_range", lambda_vlb=0.002).double().requires_grad_(True)
    image, x0, index, noise = inputs()
    terms = segdiff.losses(image, x0, index, noise)
    close(terms["loss"], terms["simple"] + terms["vlb"])
    x_t = process.q_sample(segdiff.schedule, x0, index, noise)
    output, v = segdiff._network(segdiff.encoder(image), x_t, index)
    estimate = process.x0_from("epsilon", segdiff.schedule, output, x_t, index)
    mean = process.posterior_mean(segdiff.schedule, estimate, x_t, index)
    log_variance = process.learned_range_log_variance(segdiff.schedule, v, index)
    bound = losses.vlb_term(segdiff.schedule, x0, x_t, index, mean, log_variance)
    close(terms["vlb"], 0.002 * 100 * bound)
    terms["vlb"].sum().backward()
    gradient = segdiff.unet.out[2].weight.grad
    assert gradient[0].abs().max() == 0 and gradient[1].abs().max() > 0


def test_both_encoders_are_trained():
    segdiff = fresh()
    torch.nn.init.normal_(segdiff.unet.out[2].weight)  # which starts at 0, and lets nothing through
    image, mask = image_and_mask(16)
    segdiff.training_loss(Batch(image, mask), RowNoise(0, ROWS, TRAINING))["loss"].backward()
    assert all(parameter.grad is not None for parameter in segdiff.parameters())
    for weight in (segdiff.encoder.first.weight, segdiff.unet.input_blocks[0][0].weight):
        assert float(weight.grad.abs().max()) > 0


# Sampling


def test_sampling_is_the_published_procedure():
    """All steps with variance β_t and an estimate that is not clipped, written out in numpy."""
    segdiff = method(schedule={"steps": 25}).double()
    image, rows = normal(1, 2, 1, 16, 16).double(), [(0, 3), (4, 1)]
    noise = RowNoise(7, rows, dtype=torch.float64)
    betas = np.linspace(40 * 1e-4, 40 * 0.02, 25)
    abar = np.cumprod(1 - betas)
    features, x = segdiff.encoder(image), noise.normal(0, (1, 16, 16)).numpy()
    for t in reversed(range(25)):
        epsilon = segdiff.unet(torch.from_numpy(x), torch.full((2,), t), None, features).numpy()
        mean = (x - betas[t] / np.sqrt(1 - abar[t]) * epsilon) / np.sqrt(1 - betas[t])  # Ho et al. 2020, algorithm 2
        x = mean + (np.sqrt(betas[t]) * noise.normal(25 - t, (1, 16, 16)).numpy() if t else 0)
    got = segdiff.sample(segdiff.prepare(image), noise, SamplerSettings("ddpm", 25))
    np.testing.assert_allclose(got.numpy(), (x + 1) / 2, rtol=1e-4, atol=1e-4 * np.abs(x).max())
    assert len(np.unique(np.sign(x))) == 2


@pytest.mark.parametrize("variance", ["beta", "posterior", "learned_range"])
def test_the_variance_of_a_step_is_that_of_the_steps_taken(variance):
    """Ten of a hundred: what is handed to the sampler is log β, log β̃ or lies between them, of the ten."""
    segdiff = method(variance=variance)
    steps = np.arange(9, 100, 10)
    features, x, place = torch.zeros(1, 8, 16, 16), torch.randn(1, 1, 16, 16), torch.tensor([6])
    v = segdiff.denoise(features, x, torch.from_numpy(steps)[place]).log_variance
    respaced = segdiff.schedule.respaced(steps)
    upper, lower = np.log(respaced.betas[6]), np.log(respaced.posterior_variance[6])
    if variance == "posterior":
        assert v is None  # and the sampler takes β̃
        return
    got = process.learned_range_log_variance(respaced, v, place)
    share = (got.numpy() - lower) / (upper - lower)
    if variance == "beta":
        np.testing.assert_allclose(share, 1, atol=1e-5)
    else:
        assert share.std() > 0.01


class Recomputing(SegDiff):
    """Computes G(I) at every step, as the published code does."""

    def prepare(self, image):
        return (image,)

    def denoise(self, features, x_t, index):
        return super().denoise(self.encoder(features), x_t, index)


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++2m"])
def test_what_is_computed_once_is_what_each_step_would_compute(sampler):
    """Bit for bit."""
    segdiff = method(image_channels=3, clip=True)
    recomputing = Recomputing(segdiff.config).eval()
    recomputing.load_state_dict(segdiff.state_dict())
    image, settings, calls = normal(1, 4, 3, 16, 16), SamplerSettings(sampler, 6), []
    for one in (segdiff, recomputing):
        one.encoder.register_forward_hook(lambda *_: calls.append(1))
    once = segdiff.sample(segdiff.prepare(image), RowNoise(5, ROWS), settings)
    assert len(calls) == 1
    each = recomputing.sample(recomputing.prepare(image), RowNoise(5, ROWS), settings)
    assert len(calls) == 1 + 6
    assert torch.equal(once, each) and float(once.std()) > 0.01


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["ddpm", "dpm++2m"])
def test_masks_do_not_depend_on_their_batch_and_images_are_encoded_once(sampler):
    """Of two slices, in batches that go across both."""
    segdiff, image = method(image_channels=3, clip=True), normal(1, 3, 3, 16, 16).sigmoid()
    check_batches(segdiff, image, segdiff.encoder, SamplerSettings(sampler, 4), atol=1e-4)


@torch.no_grad()
def test_a_recorded_network_is_handed_all_it_reads():
    """As by a CUDA graph, which replays the U-Net for tensors of the same shapes."""
    segdiff, settings = method(), SamplerSettings("ddim", 3)
    prepared = segdiff.prepare(normal(1, 4, 1, 16, 16))
    plain, seen = segdiff.sample(prepared, RowNoise(5, ROWS), settings), []
    with replayed(segdiff.unet, lambda forward, arguments: seen.append(arguments) or forward):
        assert torch.equal(segdiff.sample(prepared, RowNoise(5, ROWS), settings), plain)
    ((x, _, condition, features),) = seen  # recorded once
    assert x.shape == (4, 1, 16, 16) and condition is None and torch.equal(features, prepared[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variance": "fixed"}, "variance must be one of beta, posterior, learned_range, got 'fixed'"),
        ({"prediction": "mask"}, "SegDiffConfig.prediction must be one of epsilon, x0, v, got 'mask'"),
        ({"mask_levels": (0.0, 2.0)}, "SegDiffConfig.mask_levels must be"),
        ({"classes": 0}, r"classes ≥ 1 and lambda_vlb ≥ 0 \(finite\), got 1, 0 and 0.001"),
        ({"lambda_vlb": math.nan}, r"lambda_vlb ≥ 0 \(finite\), got 1, 1 and nan"),
        ({"classes": 10**9}, "at most 65,536 channels"),
        ({"image_channels": 10**9}, "at most 65,536 channels"),
        ({"encoder": {"blocks": 0}}, "RRDBConfig takes filters, growth and blocks of at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fresh(**changes)

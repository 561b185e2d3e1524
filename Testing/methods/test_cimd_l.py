"""CIMD-L: its loss against closed forms, where its latent comes from, and what the latent is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from make_expected import image_and_mask, normal
from tiny_models import randomised

from AmbiguousSegLib.diffusion import process
from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.methods.base import Batch
from AmbiguousSegLib.methods.cimd_l import CIMDL, FEEDS, LATENT_DRAW, PRIORS, CIMDLConfig
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoderConfig
from AmbiguousSegLib.networks.unet import UNetConfig

UNET = UNetConfig(16, model_channels=8, channel_mult=(1, 2), num_res_blocks=1, attention_sizes=(), norm_groups=4)
ENCODER = GaussianEncoderConfig(filters=(4, 8), convolutions=1, latent_dim=3, log_sigma_limit=5.0)
INDEX = torch.tensor([0, 30, 500, 900])


def tiny(**changes: object) -> CIMDL:
    return randomised(CIMDL(CIMDLConfig(**{"unet": UNET, "encoder": ENCODER} | changes))).double()


def inputs() -> tuple[torch.Tensor, ...]:
    image, mask = (tensor.double() for tensor in image_and_mask(16))
    return image, 2 * mask - 1, INDEX, normal(2, 4, 1, 16, 16).double(), normal(3, 4, 3).double()


def close(got: torch.Tensor, expected: torch.Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("prediction", process.PREDICTIONS)
def test_the_loss_is_the_squared_error_with_z_of_amn_and_its_divergence_from_acn(prior, feed, prediction):
    method = tiny(prior=prior, feed=feed, prediction=prediction, beta=0.02)
    image, x0, index, noise, latent = inputs()
    abar = torch.from_numpy(method.schedule.alphas_cumprod)[index][:, None, None, None]
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    q = method.amn(torch.cat([image, x0], dim=1))
    seen = [image] if prior == "image" else [image, x_t, abar.sqrt().expand_as(x_t)]
    p = method.acn(torch.cat(seen, dim=1))
    z = q.mean + q.stddev * latent
    planes = z[:, :, None, None].expand(-1, -1, 16, 16)
    read = [image, x_t] if feed == "embedding" else [image, planes, x_t]
    output = method.unet(torch.cat(read, dim=1), index, None if feed == "channels" else z)
    target = {"epsilon": noise, "x0": x0, "v": abar.sqrt() * noise - (1 - abar).sqrt() * x0}[prediction]
    ratio = (q.variance / p.variance).log()
    nats = 0.5 * (q.variance / p.variance + (q.mean - p.mean) ** 2 / p.variance - 1 - ratio).sum(1).mean()
    got = method.losses(image, x0, index, noise, latent)
    close(got["simple"], ((output - target) ** 2).mean(), 1e-6)
    close(got["nats"], nats, 1e-6)
    close(got["loss"], got["simple"] + 0.02 * got["nats"])


def test_free_nats_cost_nothing_and_pull_at_nothing():
    method = tiny(beta=0.5).requires_grad_(True)
    nats = method.losses(*inputs())["nats"]
    method.config = replace(method.config, free_nats=2 * float(nats))
    got = method.losses(*inputs())
    close(got["divergence"], nats.detach())  # 0.5 of twice as many
    got["divergence"].backward()
    assert all(p.grad is None or not p.grad.any() for p in method.acn.parameters())


def test_the_denoising_loss_reaches_amn_through_the_latent():
    """What the paper's latents lack: z occurs in the squared error."""
    method = tiny(beta=0.0).requires_grad_(True)
    method.losses(*inputs())["simple"].backward()
    assert method.amn.conv_layer.weight.grad.abs().max() > 1e-6
    assert all(p.grad is None for p in method.acn.parameters())


def test_training_draws_its_numbers_from_their_places():
    method = tiny()
    image, mask = (tensor.double() for tensor in image_and_mask(16))
    noise = RowNoise(4, [(i, 0) for i in range(4)], TRAINING, dtype=torch.float64)
    index = (noise.uniform(0) * 1000).long()
    expected = method.losses(image, 2 * mask - 1, index, noise.normal(1, (1, 16, 16)), noise.normal(2, (3,)))
    got = method(Batch(image, mask), noise)
    assert set(got) == set(expected)
    for name, value in got.items():
        close(value, expected[name])


@torch.no_grad()
@pytest.mark.parametrize("covariance", ["diagonal", "full", "low_rank"])
def test_one_step_is_the_estimate_given_a_draw_of_the_prior(covariance):
    """By hand from the image's Gaussian: μ + L·ε with the ε of ``LATENT_DRAW``, and x_T of draw 0."""
    method, image = tiny(encoder=replace(ENCODER, covariance=covariance)), image_and_mask(16)[0].double()
    noise = RowNoise(3, [(i, 1) for i in range(4)], dtype=torch.float64)
    p, epsilon = method.acn(image), noise.normal(LATENT_DRAW, (5 if covariance == "low_rank" else 3,))
    factor = torch.linalg.cholesky(p.covariance_matrix) if covariance == "full" else torch.diag_embed(p.stddev)
    if covariance == "low_rank":
        factor = torch.cat([torch.diag_embed(p.cov_diag.sqrt()), p.cov_factor], dim=2)
    z = p.mean + (factor @ epsilon[:, :, None])[:, :, 0]
    last = torch.full((4,), 999)
    expected = (method.denoise(image, noise.normal(0, (1, 16, 16)), last, z) + 1) / 2
    close(method.sample(method.prepare(image), noise, SamplerSettings("dpm++2m", 1)), expected)


class CountedNoise:
    """Notes which draws are asked for."""

    def __init__(self, noise: RowNoise) -> None:
        self.noise, self.draws = noise, []

    def normal(self, draw, shape):
        self.draws.append(draw)
        return self.noise.normal(draw, shape)


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["ddpm", "dpm++2m-sde"])
def test_no_draw_is_used_twice_and_the_prior_of_a_step_draws_at_each(sampler):
    image = image_and_mask(16)[0].double()
    for prior, latents in (("image", 1), ("step", 5)):
        method = tiny(prior=prior)
        noise = CountedNoise(RowNoise(3, [(i, 0) for i in range(4)], dtype=torch.float64))
        method.sample(method.prepare(image), noise, SamplerSettings(sampler, 5))
        assert len(set(noise.draws)) == len(noise.draws)
        assert sorted(d for d in noise.draws if d >= LATENT_DRAW) == [LATENT_DRAW + k for k in range(latents)]


@torch.no_grad()
def test_a_latent_of_low_rank_is_drawn_with_its_own_number_of_normal_numbers(monkeypatch):
    method = tiny(encoder=replace(ENCODER, covariance="low_rank", rank=2))
    (image, mask), seen = (tensor.double() for tensor in image_and_mask(16)), []
    original = method._network
    monkeypatch.setattr(method, "_network", lambda *given: seen.append(given[3]) or original(*given))
    rows = [(i, 0) for i in range(4)]
    training = RowNoise(3, rows, TRAINING, dtype=torch.float64)
    method.training_loss(Batch(image, mask), training)
    sampling = RowNoise(3, rows, dtype=torch.float64)
    method.sample(method.prepare(image), sampling, SamplerSettings("ddim", 1))
    q, p = method.amn(torch.cat([image, 2 * mask - 1], dim=1)), method.acn(image)
    for z, of, epsilon in zip(seen, (q, p), (training.normal(2, (5,)), sampling.normal(LATENT_DRAW, (5,)))):
        close(z, of.mean + of.cov_diag.sqrt() * epsilon[:, :3] + (of.cov_factor @ epsilon[:, 3:, None])[:, :, 0])
    assert len(seen) == 2


@torch.no_grad()
@pytest.mark.parametrize("prior", PRIORS)
def test_samples_do_not_depend_on_their_batch(prior):
    method, image = tiny(prior=prior), image_and_mask(16)[0].double()
    rows = [(0, 0), (1, 5), (2, 0), (3, 7)]

    def sampled(chosen: list[int]) -> torch.Tensor:
        noise = RowNoise(1, [rows[i] for i in chosen], dtype=torch.float64)
        prepared = tuple(tensor[chosen] for tensor in method.prepare(image))
        return method.sample(prepared, noise, SamplerSettings("ddpm", 3))

    together = sampled([0, 1, 2, 3])
    alone = torch.cat([sampled([i]) for i in range(4)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-12)
    assert (together[0] - together[1]).abs().max() > 0.05


@torch.no_grad()
def test_two_classes_have_a_channel_each():
    method, image = tiny(classes=2), image_and_mask(16)[0].double()
    assert (method.unet.config.in_channels, method.unet.config.out_channels) == (1 + 3 + 2, 2)
    assert method.amn.config.in_channels == 3 and method.acn.config.in_channels == 1
    noise = RowNoise(0, [(i, 0) for i in range(4)], dtype=torch.float64)
    assert method.sample(method.prepare(image), noise, SamplerSettings("ddim", 2)).shape == (4, 2, 16, 16)


@pytest.mark.slow
def test_one_evaluation_draws_two_modes_with_their_frequencies():
    """A blank image has the left third in 10 of 32 masks and the right half in the others.

    Without the latent the estimate from pure noise is the mean of the two, the same in every sample.
    """
    torch.manual_seed(0)
    unet = UNetConfig(8, model_channels=16, channel_mult=(1, 2), num_res_blocks=1, attention_sizes=(), norm_groups=4)
    encoder = GaussianEncoderConfig(filters=(8,), convolutions=1, latent_dim=2, log_sigma_limit=5.0)
    method = CIMDL(CIMDLConfig(unet=unet, encoder=encoder, beta=0.02))
    modes = torch.zeros(2, 1, 8, 8)
    modes[0, :, :, :3], modes[1, :, :, 4:] = 1, 1
    batch = Batch(torch.zeros(32, 1, 8, 8), modes[(torch.arange(32) >= 10).long()])
    optimiser = torch.optim.Adam(method.parameters())
    for step in range(160):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / 160)
        optimiser.zero_grad()
        losses = method(batch, RowNoise(0, [(32 * step + i, 0) for i in range(32)], TRAINING))
        losses["loss"].backward()
        optimiser.step()
    with torch.no_grad():
        noise = RowNoise(1, [(0, i) for i in range(400)])
        prepared = method.eval().prepare(torch.zeros(400, 1, 8, 8))
        masks = method.sample(prepared, noise, SamplerSettings("ddim", 1)) > 0.5
    left, right = (((masks == (mode > 0.5)).flatten(1).float().mean(1) > 0.95).float().mean().item() for mode in modes)
    assert left + right > 0.9
    assert left == pytest.approx(10 / 32, abs=0.12)
    entropy = -sum(p * np.log(p) for p in (10 / 32, 22 / 32))
    assert float(losses["nats"]) > 0.9 * entropy  # what tells the modes apart is in z


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction": "eps"}, "CIMDLConfig.prediction must be one of epsilon, x0, v, got 'eps'"),
        ({"mask_levels": (0.0, 2.0)}, "CIMDLConfig.mask_levels must be"),
        ({"prior": "mask"}, "CIMDLConfig.prior must be one of image, step, got 'mask'"),
        ({"feed": "none"}, "CIMDLConfig.feed must be one of embedding, channels, both"),
        ({"beta": -1.0}, "beta ≥ 0"),
        ({"free_nats": -1.0}, "free_nats ≥ 0"),
        ({"classes": 0}, "classes ≥ 1"),
    ],
)
def test_config_errors_name_the_setting(changes, message):
    with pytest.raises(ValueError, match=message):
        CIMDLConfig(**changes)


def test_build_method():
    method = build_method(
        "cimd_l",
        {
            "image_channels": 2,
            "unet": {"image_size": 16, "model_channels": 32, "channel_mult": [1, 2], "attention_sizes": [8]},
        },
    )
    assert (method.name, method.image_channels, method.size_multiple, method.samples_by_steps) == ("cimd_l", 2, 2, True)
    assert method.unet.config.condition_dim == method.config.encoder.latent_dim == 6

"""What CIMD's settings mean, and that its samples follow from their seeds alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import predictions_by_hand as by_hand
import pytest
import torch
from make_expected import ENCODER, image_and_mask, normal, seeded, tiny_cimd
from torch.distributions import kl_divergence

from AmbiguousSegLib.diffusion import process
from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS, build_method
from AmbiguousSegLib.methods.base import Batch
from AmbiguousSegLib.methods.cimd import CIMD, CIMDConfig
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoderConfig
from AmbiguousSegLib.networks.unet import UNetConfig

INDEX = torch.tensor([0, 30, 500, 900])


def inputs(low: float = -1.0) -> tuple[torch.Tensor, ...]:
    image, mask = (tensor.double() for tensor in image_and_mask(32))
    return image, low + (1 - low) * mask, INDEX, normal(2, 4, 1, 32, 32).double()


def close(got: torch.Tensor, expected: torch.Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(got.detach(), expected.detach(), rtol=1e-6, atol=atol)


# Training


@pytest.mark.parametrize("prediction", process.PREDICTIONS)
def test_simple_loss_compares_the_output_with_its_target(prediction):
    method = tiny_cimd(prediction=prediction, variance="posterior", beta_ambiguity=0.0, mask_levels=(-1.0, 1.0))
    method.double()
    image, x0, index, noise = inputs()
    abar = torch.from_numpy(method.schedule.alphas_cumprod)[index][:, None, None, None]
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    output = method.unet(torch.cat([image, x_t], dim=1), index)
    target = by_hand.target(prediction, x0, noise, abar)
    terms = method.losses(image, x0, index, noise)
    close(terms["simple"], ((output - target) ** 2).mean((1, 2, 3)))
    assert set(terms) == {"simple", "loss"}
    # and the mask estimate of sampling is what that output stands for, clipped
    estimate = by_hand.estimate(prediction, output, x_t, abar)
    close(method.denoise(image, x_t, index).x0, estimate.clamp(-1, 1), atol=1e-5)


def test_weights_of_the_terms():
    plain = tiny_cimd().double()
    heavier = tiny_cimd(lambda_vlb=0.005, beta_ambiguity=0.003).double()
    a, b = plain.losses(*inputs(0.0)), heavier.losses(*inputs(0.0))
    close(b["simple"], a["simple"])
    close(b["vlb"], 5 * a["vlb"])
    close(b["ambiguity"], 3 * a["ambiguity"])
    close(b["loss"], b["simple"] + b["vlb"] + b["ambiguity"])
    assert "vlb" not in tiny_cimd(lambda_vlb=0.0).double().losses(*inputs(0.0))


def test_bound_trains_the_variance_only():
    method = tiny_cimd().double()
    method.losses(*inputs(0.0))["vlb"].sum().backward()
    gradient = method.unet.out[2].weight.grad
    assert gradient[0].abs().max() == 0 and gradient[1].abs().max() > 0


def test_without_ambiguity_there_are_no_encoders():
    """DDPM-Prob-Seg of the paper."""
    method = tiny_cimd(beta_ambiguity=0.0)
    assert method.amn is None and method.acn is None
    assert all(name.startswith("unet.") for name in method.state_dict())
    full = tiny_cimd()
    got, expected = method.double().losses(*inputs(0.0)), full.double().losses(*inputs(0.0))
    close(got["loss"], expected["simple"] + expected["vlb"])


@pytest.mark.parametrize("acn_input", ["mask", "noise"])
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_ambiguity_is_the_divergence_of_amn_from_acn(acn_input, covariance):
    """CIMD and CIMD-FC: closed form of KL(N_q ‖ N_p), with what ACN sees made by hand from the network's output."""
    encoder = replace(ENCODER, covariance=covariance)
    method = tiny_cimd(acn_input=acn_input, encoder=encoder, beta_ambiguity=0.01, mask_levels=(-1.0, 1.0)).double()
    image, x0, index, noise = inputs()
    abar = torch.from_numpy(method.schedule.alphas_cumprod)[index][:, None, None, None]
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    predicted = method.unet(torch.cat([image, x_t], dim=1), index)[:, :1]
    mask = ((x_t - (1 - abar).sqrt() * predicted) / abar.sqrt()).clamp(-1, 1)
    q = method.amn(torch.cat([image, x0], dim=1))
    p = method.acn(torch.cat([image, mask if acn_input == "mask" else predicted], dim=1))
    expected = []
    for row in range(4):
        if covariance == "full":
            s_q, s_p = (d.covariance_matrix[row].detach().numpy() for d in (q, p))
        else:
            s_q, s_p = (np.diag(d.variance[row].detach().numpy()) for d in (q, p))
        d = (p.mean - q.mean)[row].detach().numpy()
        logdet = np.linalg.slogdet(s_p)[1] - np.linalg.slogdet(s_q)[1]
        expected.append(0.5 * (np.trace(np.linalg.solve(s_p, s_q)) + d @ np.linalg.solve(s_p, d) - 6 + logdet))
    got = method.losses(image, x0, index, noise)["ambiguity"]
    np.testing.assert_allclose(got.detach().numpy(), 0.01 * np.array(expected), rtol=1e-5, atol=1e-8)
    assert kl_divergence(p, q)[0].item() != pytest.approx(expected[0], rel=1e-2)  # the other way round differs


@pytest.mark.parametrize("train_encoders", [False, True])
def test_encoders_change_in_a_step_or_stay_bitwise(train_encoders):
    method = tiny_cimd(train_encoders=train_encoders)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=0.1)
    image, mask = image_and_mask(32)
    method.training_loss(Batch(image, mask), RowNoise(0, [(i, 0) for i in range(4)], TRAINING))["loss"].backward()
    optimiser.step()
    for name, tensor in method.state_dict().items():
        frozen = not train_encoders and not name.startswith("unet.")
        assert torch.equal(tensor, before[name]) == frozen, name


def test_training_draws_its_timestep_and_noise_from_their_places():
    method = tiny_cimd(mask_levels=(-1.0, 1.0)).double()
    image, mask = (tensor.double() for tensor in image_and_mask(32))
    noise = RowNoise(4, [(i, 0) for i in range(4)], TRAINING, dtype=torch.float64)
    index = (noise.uniform(0) * 1000).long()
    per_item = method.losses(image, 2 * mask - 1, index, noise.normal(1, (1, 32, 32)))
    got = method(Batch(image, mask), noise)
    assert set(got) == set(per_item)
    for name, value in got.items():
        close(value, per_item[name].mean(), 1e-12)


def test_timesteps_are_uniform_over_the_whole_schedule():
    method, seen = tiny_cimd(), []
    method.losses = lambda image, x0, index, noise: seen.append(index) or {"loss": torch.zeros(len(index))}
    rows = 20_000
    batch = Batch(torch.zeros(rows, 1, 1, 1), torch.zeros(rows, 1, 1, 1))
    method.training_loss(batch, RowNoise(1, [(i, 0) for i in range(rows)], TRAINING))
    counts = torch.bincount(seen[0], minlength=1000).double()
    assert len(counts) == 1000
    assert ((counts - 20) ** 2 / 20).sum() < 999 + 4 * (2 * 999) ** 0.5  # χ² with 999 degrees of freedom


# Sampling

SMALL_SAMPLERS = [("ddpm", 6), ("ddim", 6), ("dpm++2m-sde", 6)]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("name", "steps"), SMALL_SAMPLERS)
def test_samples_do_not_depend_on_their_batch(name, steps):
    """In float64, where nothing but the sample is left to differ.

    A chain multiplies a relative change of 1e-7 of its first noise by 15 (ddpm), 51 (dpm++2m-sde) and 240 (ddim). Rows
    alone and together agree to 4e-13 at most, under every vector unit; in float32 they agreed to 1.2e-4.
    """
    method, image = tiny_cimd().double(), image_and_mask(32)[0].double()
    rows = [(0, 0), (1, 5), (2, 0), (3, 7)]

    def sampled(chosen: list[int]) -> torch.Tensor:
        noise = RowNoise(1, [rows[i] for i in chosen], dtype=torch.float64)
        return method.sample((image[chosen],), noise, SamplerSettings(name, steps))

    together, order = sampled([0, 1, 2, 3]), [2, 0, 3, 1]
    turned, alone = sampled(order)[torch.tensor(order).argsort()], torch.cat([sampled([i]) for i in range(4)])
    for other in (turned, alone):
        torch.testing.assert_close(other, together, rtol=0, atol=1e-12)
    assert (together[0] - together[1]).abs().max() > 0.1


@torch.no_grad()
def test_learned_variance_is_that_of_the_steps_taken():
    """At three steps β' is near 1: with v = 1 the variance added is β', not the β of the full schedule."""
    method = tiny_cimd(beta_ambiguity=0.0)
    method._network = lambda image, x_t, index: (torch.zeros_like(x_t), torch.ones_like(x_t))
    method.config = replace(method.config, prediction="x0")
    noise = RowNoise(2, [(0, 0)])
    steps, visited, denoise = [0, 500, 999], [], method.denoise
    method.denoise = lambda image, x_t, index: visited.append(x_t) or denoise(image, x_t, index)
    method.sample((torch.zeros(1, 1, 4, 4),), noise, SamplerSettings("ddpm", 3, "both_ends"))
    abar = method.schedule.alphas_cumprod[steps]
    beta = 1 - abar[2] / abar[1]
    mean = np.sqrt(abar[2] / abar[1]) * (1 - abar[1]) / (1 - abar[2]) * noise.normal(0, (1, 4, 4))
    close(visited[1], (mean + np.sqrt(beta) * noise.normal(1, (1, 4, 4))).float(), 1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("levels", "estimate"), [((0.0, 1.0), 1.0), ((-1.0, 1.0), 1.0), ((-1.0, 1.0), -1.0)])
def test_samples_are_on_the_scale_of_masks(levels, estimate):
    method = tiny_cimd(mask_levels=levels, prediction="x0", beta_ambiguity=0.0)
    method._network = lambda image, x_t, index: (torch.full_like(x_t, estimate), torch.zeros_like(x_t))
    got = method.sample((torch.zeros(1, 1, 4, 4),), RowNoise(0, [(0, 0)]), SamplerSettings("ddim", 3))
    close(got, torch.full_like(got, 1.0 if estimate == 1 else 0.0))


@pytest.mark.slow
def test_two_modes_are_learned_with_their_frequencies():
    """A blank image has the left third in 19 of 64 masks and the right half in the others."""
    torch.manual_seed(0)
    unet = UNetConfig(8, model_channels=16, channel_mult=(1, 2), num_res_blocks=1, attention_sizes=(), norm_groups=4)
    encoder = GaussianEncoderConfig(filters=(4,), convolutions=1, log_sigma_limit=5.0)
    method = CIMD(CIMDConfig(unet=unet, prediction="x0", variance="posterior", encoder=encoder))
    modes = torch.zeros(2, 1, 8, 8)
    modes[0, :, :, :3], modes[1, :, :, 4:] = 1, 1
    batch = Batch(torch.zeros(64, 1, 8, 8), modes[(torch.arange(64) >= 19).long()])
    optimiser = torch.optim.Adam(method.parameters())
    for step in range(150):
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 - step / 150)
        optimiser.zero_grad()
        method(batch, RowNoise(0, [(64 * step + i, 0) for i in range(64)], TRAINING))["loss"].backward()
        optimiser.step()
    with torch.no_grad():
        noise = RowNoise(1, [(0, i) for i in range(400)])
        masks = method.eval().sample((torch.zeros(400, 1, 8, 8),), noise, SamplerSettings("ddim", 10)) > 0.5
    left, right = (((masks == (mode > 0.5)).flatten(1).float().mean(1) > 0.95).float().mean().item() for mode in modes)
    assert left + right > 0.95
    assert left == pytest.approx(19 / 64, abs=0.12)


# Several classes


def test_one_class_keeps_its_channels_and_several_have_one_each():
    for classes, variance in ((1, "learned_range"), (3, "learned_range"), (3, "posterior")):
        method = tiny_cimd(classes=classes, variance=variance)
        predicted = 2 * classes if variance == "learned_range" else classes
        assert (method.unet.config.in_channels, method.unet.config.out_channels) == (1 + classes, predicted)
        assert method.amn.config.in_channels == method.acn.config.in_channels == 1 + classes
        assert method.classes == classes
    assert tiny_cimd(classes=1).state_dict().keys() == tiny_cimd(classes=3).state_dict().keys()


def test_losses_of_two_classes_are_means_over_their_channels():
    """A network that predicts the first class from its own channel alone, and likewise the second."""
    image, x0, index, noise = inputs()
    x0, noise = (torch.cat([t, t.flip(0).roll(3, -1)], dim=1) for t in (x0, noise))
    method = tiny_cimd(classes=2, beta_ambiguity=0.0, mask_levels=(-1.0, 1.0)).double()
    one = tiny_cimd(beta_ambiguity=0.0, mask_levels=(-1.0, 1.0)).double()
    single = one._network

    def network(image, x_t, index):
        parts = [single(image, x_t[:, k : k + 1], index) for k in range(2)]
        return tuple(torch.cat(part, dim=1) for part in zip(*parts, strict=True))

    method._network = network
    got = method.losses(image, x0, index, noise)
    alone = [one.losses(image, x0[:, k : k + 1], index, noise[:, k : k + 1]) for k in range(2)]
    for name in ("simple", "vlb", "loss"):
        close(got[name], (alone[0][name] + alone[1][name]) / 2)


@torch.no_grad()
def test_predictions_come_before_their_variances():
    method = tiny_cimd(classes=2)
    method.unet.forward = lambda x, timesteps: torch.arange(4.0).reshape(1, 4, 1, 1).expand(len(x), 4, 8, 8)
    prediction, v = method._network(torch.zeros(1, 1, 8, 8), torch.zeros(1, 2, 8, 8), torch.tensor([3]))
    assert prediction[0, :, 0, 0].tolist() == [0, 1] and v[0, :, 0, 0].tolist() == [2, 3]


@torch.no_grad()
def test_a_sample_of_two_classes_has_a_channel_for_each():
    """Where the network is certain of a class, its channel is 1 and the other 0; the noise of both is one draw."""
    method = tiny_cimd(classes=2, prediction="x0", beta_ambiguity=0.0, mask_levels=(-1.0, 1.0))
    certain = torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1)
    seen = []
    method._network = lambda image, x_t, index: seen.append(x_t) or (certain.expand_as(x_t), torch.zeros_like(x_t))
    noise = RowNoise(0, [(0, 0)])
    got = method.sample((torch.zeros(1, 1, 4, 4),), noise, SamplerSettings("ddim", 3))
    close(got, torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4))
    assert torch.equal(seen[0], noise.normal(0, (2, 4, 4)))


# Configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction": "eps"}, "CIMDConfig.prediction must be one of epsilon, x0, v, got 'eps'"),
        ({"variance": "fixed"}, "CIMDConfig.variance must be one of learned_range, posterior"),
        ({"acn_input": "latent"}, "CIMDConfig.acn_input must be one of mask, noise"),
        ({"mask_levels": (0.0, 255.0)}, r"CIMDConfig.mask_levels must be .* got \(0.0, 255.0\)"),
        ({"beta_ambiguity": -1.0}, "beta_ambiguity ≥ 0"),
        ({"image_channels": 0}, "image_channels ≥ 1"),
        ({"classes": 0}, "classes ≥ 1"),
    ],
)
def test_config_errors_name_the_setting(changes, message):
    with pytest.raises(ValueError, match=message):
        CIMDConfig(**changes)


def test_a_mixture_is_refused_as_an_encoder():
    config = replace(tiny_cimd().config, encoder=replace(ENCODER, covariance="mixture"))
    with pytest.raises(ValueError, match="closed form.*got encoder.covariance 'mixture'; choose 'diagonal', 'full'"):
        CIMD(replace(config, beta_ambiguity=0.1))
    assert CIMD(replace(config, beta_ambiguity=0.0)).amn is None


def test_build_method():
    config = {"unet": {"model_channels": 32, "channel_mult": [1, 2], "image_size": 16, "attention_sizes": [8]}}
    method = build_method("cimd", config | {"image_channels": 3})
    assert isinstance(method, METHODS["cimd"]) and method.name == "cimd"
    assert (method.image_channels, method.size_multiple, method.samples_by_steps) == (3, 2, True)
    assert method.unet.config.in_channels == 4 and method.amn.config.in_channels == 4
    with pytest.raises(ValueError, match="Unknown method 'medt'; known: .*cimd, .*probabilistic_unet"):
        build_method("medt", {})
    with pytest.raises(ValueError, match=r"Unknown key method_config\.unet\.width"):
        build_method("cimd", {"unet": {"width": 3}})


def test_seeded_rule_reaches_every_weight():
    """The oracle values above mean something only if no weight is left at its zero start."""
    assert all(p.abs().max() > 0 for p in seeded(tiny_cimd().unet, 1).parameters())


@torch.no_grad()
@pytest.mark.parametrize("levels", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 50), ("ddim", 25), ("dpm++2m", 25)])
def test_the_true_noise_of_two_masks_samples_these_masks(levels, sampler, steps, monkeypatch):
    """The best that can be predicted of ε, in closed form: what is left between the levels is the sampler's fault."""
    method = tiny_cimd(mask_levels=levels, beta_ambiguity=0.0).double()
    masks = torch.zeros(2, 1, 16, 16).double()
    masks[0, :, 4:8, 4:9] = masks[1, :, 2:10, 3:12] = 1
    known, abar = method.on_levels(masks), torch.from_numpy(method.schedule.alphas_cumprod)

    def network(image, x_t, index):
        a = abar[index][:, None, None, None]
        distance = ((x_t[:, None] - a.sqrt()[:, None] * known) ** 2).flatten(2).sum(2)
        posterior = (-distance / (2 * (1 - a[:, :, 0, 0]))).softmax(1)
        estimate = torch.einsum("bm,mchw->bchw", posterior, known)
        return (x_t - a.sqrt() * estimate) / (1 - a).sqrt(), torch.zeros_like(x_t)

    monkeypatch.setattr(method, "_network", network)
    noise = RowNoise(0, [(0, i) for i in range(16)], dtype=torch.float64)
    image = torch.zeros(16, 1, 16, 16).double()
    got = method.sample((image,), noise, SamplerSettings(sampler, steps)) > 0.5
    each = (got[:, None] == (masks > 0.5)).flatten(2).all(2)
    assert each.any(1).all() and each.any(0).all()

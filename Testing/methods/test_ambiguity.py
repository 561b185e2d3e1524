"""CIMD's readings: AMN's likelihood, the stopped Q, and the weights over t."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from make_expected import ENCODER, image_and_mask, normal, tiny_cimd
from torch.distributions import kl_divergence
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.methods.ambiguity import standard_normal_like, stopped
from AmbiguousSegLib.methods.base import Batch
from AmbiguousSegLib.methods.cimd import CIMDConfig
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoder

INDEX = torch.tensor([0, 30, 500, 900])


def inputs() -> tuple[torch.Tensor, ...]:
    image, mask = (tensor.double() for tensor in image_and_mask(32))
    return image, 2 * mask - 1, INDEX, normal(2, 4, 1, 32, 32).double()


def living(**changes: object):
    return tiny_cimd(ambiguity="likelihood", acn_input="mask", mask_levels=(-1.0, 1.0), **changes).double()


@pytest.mark.parametrize("covariance", ["diagonal", "full", "low_rank"])
def test_divergence_from_the_standard_normal_is_its_closed_form(covariance):
    encoder = GaussianEncoder(replace(ENCODER, covariance=covariance)).double()
    q = encoder(torch.cat(image_and_mask(32), dim=1).double())
    sigma = torch.diag_embed(q.variance) if covariance == "diagonal" else q.covariance_matrix
    trace = sigma.diagonal(dim1=1, dim2=2).sum(1)
    expected = 0.5 * (trace + (q.mean**2).sum(1) - 6 - torch.logdet(sigma))
    torch.testing.assert_close(kl_divergence(q, standard_normal_like(q)), expected)
    same = stopped(q)
    assert not same.mean.requires_grad and q.mean.requires_grad
    torch.testing.assert_close(kl_divergence(q, same), torch.zeros(4).double(), rtol=0, atol=1e-9)


def test_the_likelihood_is_the_evidence_bound_per_pixel():
    method = living(beta_prior=0.7)
    image, mask = (tensor.double() for tensor in image_and_mask(32))
    noise = RowNoise(4, [(i, 0) for i in range(4)], TRAINING, dtype=torch.float64)
    q = method.amn(torch.cat([image, 2 * mask - 1], dim=1))
    logits = method.likelihood.decoder(image, q.mean + q.stddev * noise.normal(2, (6,)))
    reconstruction = F.binary_cross_entropy_with_logits(logits.double(), mask, reduction="sum") / 4
    nats = 0.5 * (q.variance + q.mean**2 - 1 - q.variance.log()).sum(1).mean()
    got = method(Batch(image, mask), noise)
    expected = (reconstruction + 0.7 * nats) / 32**2
    torch.testing.assert_close(got["likelihood"], expected, rtol=1e-5, atol=1e-8)
    parts = sum(value for name, value in got.items() if name != "loss")
    torch.testing.assert_close(got["loss"], parts)


def test_the_likelihood_of_a_low_rank_has_as_many_numbers_as_a_draw_takes():
    method = living(encoder=replace(ENCODER, covariance="low_rank", rank=2))
    image, mask = (tensor.double() for tensor in image_and_mask(32))
    noise = RowNoise(4, [(i, 0) for i in range(4)], TRAINING, dtype=torch.float64)
    q, epsilon = method.amn(torch.cat([image, 2 * mask - 1], dim=1)), noise.normal(2, (8,))
    z = q.mean + q.cov_diag.sqrt() * epsilon[:, :6] + (q.cov_factor @ epsilon[:, 6:, None])[:, :, 0]
    logits = method.likelihood.decoder(image, z)
    reconstruction = F.binary_cross_entropy_with_logits(logits.double(), mask, reduction="sum") / 4
    sigma = q.covariance_matrix
    trace = sigma.diagonal(dim1=1, dim2=2).sum(1)
    nats = 0.5 * (trace + (q.mean**2).sum(1) - 6 - torch.logdet(sigma)).mean()
    got = method(Batch(image, mask), noise)["likelihood"]
    torch.testing.assert_close(got, (reconstruction + nats) / 32**2, rtol=1e-5, atol=1e-8)


def test_the_divergence_trains_acn_and_the_diffusion_alone_where_amn_has_a_likelihood():
    for method, reached in ((living(), False), (tiny_cimd(mask_levels=(-1.0, 1.0), acn_input="mask").double(), True)):
        method.losses(*inputs())["ambiguity"].sum().backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in method.amn.parameters()) == reached
        for part in (method.acn.conv_layer, method.unet.out[2]):
            assert part.weight.grad.abs().max() > 0


def test_the_likelihood_trains_amn_and_its_decoder_alone():
    method = living()
    image, mask = (tensor.double() for tensor in image_and_mask(32))
    noise = RowNoise(4, [(i, 0) for i in range(4)], TRAINING, dtype=torch.float64)
    method(Batch(image, mask), noise)["likelihood"].backward()
    trained = {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {"amn", "likelihood"}


def test_weights_over_time_are_the_signals_share_and_a_cut():
    """Against the unweighted term, at t = 0, 30, 500 and 900; ā from the schedule's own β."""
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[INDEX]
    plain = tiny_cimd().double().losses(*inputs())["ambiguity"].detach()
    for changes, weight in (
        ({"ambiguity_weight": "snr"}, abar),
        ({"ambiguity_t_max": 500}, np.array([1, 1, 1, 0])),
        ({"ambiguity_t_max": 499, "ambiguity_weight": "snr"}, abar * [1, 1, 0, 0]),
    ):
        got = tiny_cimd(**changes).double().losses(*inputs())["ambiguity"].detach()
        torch.testing.assert_close(got, plain * torch.from_numpy(weight), rtol=1e-6, atol=1e-12)


def test_sampling_needs_neither_likelihood_nor_encoders():
    assert living().prepare(torch.zeros(1, 1, 32, 32))[0].shape == (1, 1, 32, 32)
    names = {name.split(".")[0] for name in living().state_dict()}
    assert names == {"unet", "amn", "acn", "likelihood"}
    assert "likelihood" not in {name.split(".")[0] for name in living(beta_ambiguity=0.0).state_dict()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ambiguity": "both"}, "CIMDConfig.ambiguity must be one of divergence, likelihood"),
        ({"ambiguity_weight": "min"}, "CIMDConfig.ambiguity_weight must be one of uniform, snr"),
        ({"ambiguity_t_max": -1}, "CIMDConfig.ambiguity_t_max must be 0 or more, or null"),
        ({"beta_prior": -1.0}, "beta_prior ≥ 0"),
        ({"ambiguity": "likelihood", "train_encoders": False}, "set train_encoders to true"),
    ],
)
def test_config_errors_name_the_setting(changes, message):
    with pytest.raises(ValueError, match=message):
        CIMDConfig(**changes)

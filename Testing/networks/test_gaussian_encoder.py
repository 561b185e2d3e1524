"""Gaussian encoders against the published ones, and their distributions against closed forms."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from make_expected import ENCODER, check, normal, seeded
from shared_data import shared_path
from torch.distributions import (
    Categorical,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from AmbiguousSegLib.networks.gaussian_encoder import (
    GaussianEncoder,
    GaussianEncoderConfig,
    cholesky_factor,
    divergence,
    location_and_scale,
    reparametrised,
)


def test_golden_prior_and_posterior():
    state = torch.load(shared_path("golden/encoders_small_state.pt"), weights_only=True)
    data = torch.load(shared_path("golden/training_losses.pt"), weights_only=True)
    image = data["x_start"][:, :1]
    inputs = {"prior": data["model_output_eps"].double(), "posterior": data["x_start"][:, 1:]}
    for name, short in (("prior", "prior"), ("posterior", "post")):
        encoder = GaussianEncoder(ENCODER).double()
        encoder.load_state_dict({k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")})
        with torch.no_grad():
            got = encoder(torch.cat([image, inputs[name]], dim=1))
        torch.testing.assert_close(got.mean, data[f"{short}_mu"], rtol=0, atol=1e-6)
        torch.testing.assert_close(got.stddev, data[f"{short}_sigma"], rtol=0, atol=1e-6)


def test_full_size_has_the_published_parameters():
    expected = json.loads(shared_path("golden/cimd_encoders_keys.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        state = GaussianEncoder(GaussianEncoderConfig()).state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    assert shapes == expected["prior"] == expected["posterior"]
    assert sum(math.prod(shape) for shape in shapes.values()) == 1_368_108


def test_stored_outputs():
    check("networks/expected/gaussian_encoder.npz", 6e-7)  # measured: 2.3e-7


def test_odd_sizes_pool_over_the_pixels_that_exist():
    """Two blocks of one 1-channel convolution that copies its input: what is left is the pooling."""
    encoder = GaussianEncoder(GaussianEncoderConfig(in_channels=1, filters=(1, 1), convolutions=1, latent_dim=1))
    copy = torch.zeros(1, 1, 3, 3)
    copy[0, 0, 1, 1] = 1
    for layer in (encoder.encoder.layers[0], encoder.encoder.layers[3]):
        layer.weight.data, layer.bias.data = copy.clone(), torch.zeros(1)
    encoder.conv_layer.weight.data, encoder.conv_layer.bias.data = torch.ones(2, 1, 1, 1), torch.zeros(2)
    x = torch.tensor([[[[1.0, 3.0, 10.0], [5.0, 7.0, 20.0], [2.0, 4.0, 6.0]]]])
    # windows: {1, 3, 5, 7}, {10, 20}, {2, 4} and {6}: means 4, 15, 3, 6, and 7 over all
    got = encoder(x)
    assert got.mean.item() == pytest.approx(7)
    assert got.stddev.item() == pytest.approx(math.exp(7))


def test_outputs_are_mean_log_sigma_and_rows_below_the_diagonal():
    """With a zero weight the last convolution gives its bias, whatever is seen."""
    config = GaussianEncoderConfig(filters=(4,), convolutions=1, latent_dim=3, covariance="full")
    encoder = GaussianEncoder(config)
    encoder.conv_layer.weight.data.zero_()
    encoder.conv_layer.bias.data = torch.tensor([1.0, 2, 3, 0, math.log(2), math.log(3), 0.5, -1, 4])
    got = encoder(torch.rand(2, 2, 8, 8))
    assert got.mean.tolist() == [[1, 2, 3]] * 2
    expected = torch.tensor([[1.0, 0, 0], [0.5, 2, 0], [-1, 4, 3]])
    torch.testing.assert_close(got.scale_tril, expected.expand(2, 3, 3))
    torch.testing.assert_close(got.covariance_matrix[0], expected @ expected.T)


def test_cholesky_factor_is_that_of_its_covariance():
    log_diagonal, below = normal(0, 5, 6).double(), normal(1, 5, 15).double()
    factor = cholesky_factor(log_diagonal, below)
    torch.testing.assert_close(torch.linalg.cholesky(factor @ factor.mT), factor, rtol=1e-9, atol=1e-9)
    assert torch.equal(torch.diagonal(factor, dim1=1, dim2=2), log_diagonal.exp())


def random_full(seed: int, rows: int = 4, n: int = 5) -> MultivariateNormal:
    factor = cholesky_factor(0.3 * normal(seed, rows, n).double(), normal(seed + 1, rows, n * (n - 1) // 2).double())
    return MultivariateNormal(normal(seed + 2, rows, n).double(), scale_tril=factor)


def test_divergence_of_full_covariances_is_the_closed_form():
    q, p = random_full(0), random_full(10)
    got = kl_divergence(q, p)
    for row in range(4):
        s_q, s_p = q.covariance_matrix[row].numpy(), p.covariance_matrix[row].numpy()
        d = (p.loc - q.loc)[row].numpy()
        inverse = np.linalg.inv(s_p)
        logdet = np.linalg.slogdet(s_p)[1] - np.linalg.slogdet(s_q)[1]
        assert got[row].item() == pytest.approx(0.5 * (np.trace(inverse @ s_q) + d @ inverse @ d - 5 + logdet))


def test_full_with_nothing_below_the_diagonal_is_diagonal():
    mean, log_sigma = normal(20, 2, 3, 6).double()
    full = [
        MultivariateNormal(m, scale_tril=cholesky_factor(s, torch.zeros(3, 15).double()))
        for m, s in ((mean, log_sigma), (mean + 1, log_sigma / 2))
    ]
    diagonal = [Independent(Normal(m, s.exp()), 1) for m, s in ((mean, log_sigma), (mean + 1, log_sigma / 2))]
    torch.testing.assert_close(kl_divergence(*full), kl_divergence(*diagonal))
    noise = normal(21, 3, 6).double()
    torch.testing.assert_close(*(reparametrised(*location_and_scale(d[0]), noise) for d in (full, diagonal)))


def low_rank_encoder(bias: list[float]) -> GaussianEncoder:
    """Of N = 3 and rank 2, whose output is its bias whatever it reads."""
    config = GaussianEncoderConfig(filters=(4,), convolutions=1, latent_dim=3, covariance="low_rank", rank=2)
    encoder = GaussianEncoder(config).double()
    encoder.conv_layer.weight.data.zero_()
    encoder.conv_layer.bias.data = torch.tensor(bias).double()
    return encoder


def test_outputs_of_low_rank_are_mean_log_sigma_and_rows_of_p():
    got = low_rank_encoder([1, 2, 3, 0, math.log(2), math.log(3), 0.5, -1, 4, 2, 0, 1])(torch.rand(2, 2, 8, 8).double())
    p = torch.tensor([[0.5, -1], [4, 2], [0, 1]]).double()
    expected = torch.diag(torch.tensor([1.0, 4, 9]).double()) + p @ p.T
    assert got.mean.tolist() == [[1, 2, 3]] * 2
    torch.testing.assert_close(got.covariance_matrix, expected.expand(2, 3, 3))


def test_divergence_of_low_rank_is_that_of_the_whole_covariances():
    """Against NumPy's closed form of the N × N matrices, and torch's for full covariances."""
    low, full = [], []
    for seed in (40, 50):
        mean, p, d = (normal(seed + k, *shape).double() for k, shape in enumerate([(4, 6), (4, 6, 2), (4, 6)]))
        low.append(LowRankMultivariateNormal(mean, p, d.exp()))
        full.append(MultivariateNormal(mean, torch.diag_embed(d.exp()) + p @ p.mT))
    got = divergence(*low)
    torch.testing.assert_close(got, kl_divergence(*full), rtol=1e-10, atol=0)
    for row in range(4):
        s_q, s_p = (g.covariance_matrix[row].numpy() for g in full)
        d = (full[1].loc - full[0].loc)[row].numpy()
        inverse, logdet = np.linalg.inv(s_p), np.linalg.slogdet(s_p)[1] - np.linalg.slogdet(s_q)[1]
        assert got[row].item() == pytest.approx(0.5 * (np.trace(inverse @ s_q) + d @ inverse @ d - 6 + logdet))


def test_draws_of_low_rank_have_the_covariance():
    """z = μ + A·ε with ε of N + rank numbers: A·Aᵀ = D + P·Pᵀ, column by column as in the full case."""
    mean, p, d = (normal(60 + k, *shape).double() for k, shape in enumerate([(1, 5), (1, 5, 2), (1, 5)]))
    q = LowRankMultivariateNormal(mean, p, d.exp())
    location, scale = location_and_scale(q)
    unit = torch.cat([torch.zeros(1, 7), torch.eye(7)]).double()
    z = reparametrised(location.expand(8, -1), scale.expand(8, -1, -1), unit)
    a = (z[1:] - z[0]).T
    torch.testing.assert_close(z[0], q.loc[0])
    torch.testing.assert_close(a @ a.T, q.covariance_matrix[0])


def test_outputs_of_a_mixture_are_means_log_sigmas_and_logits():
    config = GaussianEncoderConfig(filters=(4,), convolutions=1, latent_dim=2, covariance="mixture", components=2)
    encoder = GaussianEncoder(config).double()
    encoder.conv_layer.weight.data.zero_()
    encoder.conv_layer.bias.data = torch.tensor([1, 2, -3, 4, 0, math.log(2), math.log(3), 0, 0, math.log(3)]).double()
    got = encoder(torch.rand(1, 2, 8, 8).double())
    z = normal(70, 5, 1, 2).double()
    density = 0.25 * Normal(torch.tensor([1.0, 2]), torch.tensor([1.0, 2])).log_prob(z).sum(-1).exp()
    density += 0.75 * Normal(torch.tensor([-3.0, 4]), torch.tensor([3.0, 1])).log_prob(z).sum(-1).exp()
    torch.testing.assert_close(got.log_prob(z).exp(), density)


def test_a_mixture_has_no_closed_form():
    parts = Independent(Normal(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)), 1)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros(1, 2)), parts)
    single = Independent(Normal(torch.zeros(1, 3), torch.ones(1, 3)), 1)
    for pair in ((mixture, single), (single, mixture)):
        with pytest.raises(ValueError, match="no closed form.*'mixture'; choose 'diagonal', 'full' or 'low_rank'"):
            divergence(*pair)


def test_reparametrised_has_the_covariance():
    q = random_full(30, rows=1)
    # A map ε → μ + A·ε is known by its values at 0 and at the unit vectors; its covariance is A·Aᵀ.
    unit = torch.cat([torch.zeros(1, 5), torch.eye(5)]).double()
    z = reparametrised(*location_and_scale(q.expand((6,))), unit)
    torch.testing.assert_close(z[0], q.loc[0])
    a = (z[1:] - z[0]).T
    torch.testing.assert_close(a @ a.T, q.covariance_matrix[0])
    many = reparametrised(*location_and_scale(q.expand((40000,))), normal(31, 40000, 5).double())
    scale = q.covariance_matrix[0].diagonal().sqrt()
    correlation = (many.T.cov() - q.covariance_matrix[0]) / scale / scale[:, None]
    assert correlation.abs().max() < 4 * math.sqrt(2 / 40000)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_log_sigma_limit(covariance):
    config = GaussianEncoderConfig(filters=(4,), latent_dim=2, covariance=covariance, log_sigma_limit=2.0)
    encoder = GaussianEncoder(config)
    encoder.conv_layer.weight.data.zero_()
    encoder.conv_layer.bias.data[:4] = torch.tensor([9.0, -9.0, 30.0, -1.5])
    encoder.conv_layer.bias.data[4:] = 0
    got = encoder(torch.rand(1, 2, 4, 4))
    torch.testing.assert_close(got.stddev, torch.tensor([[2.0, -1.5]]).exp())
    assert got.mean.tolist() == [[9, -9]]  # means are not limited


def test_half_precision_gives_a_float32_distribution():
    encoder = seeded(GaussianEncoder(ENCODER), 12)
    x = torch.rand(2, 2, 16, 16)
    got = encoder.bfloat16()(x.bfloat16())
    assert got.mean.dtype == got.stddev.dtype == torch.float32
    raw = encoder.conv_layer(encoder.encoder(x.bfloat16()).mean(dim=(2, 3), keepdim=True))[:, 6:, 0, 0]
    assert torch.equal(got.stddev, raw.float().exp())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"covariance": "banded"}, "covariance must be.*'banded'"),
        ({"latent_dim": 0}, "positive integers and at least one filter.*latent_dim=0"),
        ({"rank": 0}, "positive integers.*rank=0"),
        ({"components": 0}, "positive integers.*components=0"),
        ({"filters": ()}, "positive integers and at least one filter"),
        ({"filters": (8, 0)}, "positive integers and at least one filter"),
        ({"log_sigma_limit": 0.0}, "log_sigma_limit must be positive, got 0.0"),
    ],
)
def test_config_errors_name_the_setting(changes, message):
    with pytest.raises(ValueError, match=message):
        GaussianEncoderConfig(**changes)

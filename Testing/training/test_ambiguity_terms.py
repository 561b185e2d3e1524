"""The figures of the benchmark of AMN and ACN, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from Benchmarks import ambiguity_terms
from torch.distributions import Independent, MultivariateNormal, Normal

pytest.importorskip("jsonargparse", reason="training is not installed")


def test_bits_of_the_mask_count_the_gaussians_that_can_be_told_apart():
    """Eight far apart: 3 bits; all alike: 0; two heaps of four: 1."""
    generator = torch.Generator().manual_seed(0)
    for places, bits in ((torch.arange(8.0), 3.0), (torch.zeros(8), 0.0), (torch.arange(8.0) // 4, 1.0)):
        mean = 100 * places[:, None].expand(8, 2)
        diagonal = Independent(Normal(mean, torch.full_like(mean, 0.7)), 1)
        full = MultivariateNormal(mean, scale_tril=torch.tensor([[0.5, 0.0], [2.0, 0.3]]).expand(8, 2, 2))
        for q in (diagonal, full):
            assert ambiguity_terms.mask_bits(q, 16, generator) == pytest.approx(bits, abs=1e-5)


def test_bits_of_two_gaussians_that_overlap():
    """Against numerical integration of log q/q̄, for N(±1, 1)."""
    x = torch.linspace(-12, 12, 20_001).double()
    left, right = (torch.exp(-0.5 * (x - m) ** 2) / math.sqrt(2 * math.pi) for m in (-1, 1))
    exact = float(torch.trapezoid(left * torch.log2(2 * left / (left + right)), x))
    q = Independent(Normal(torch.tensor([[-1.0], [1.0]]).double(), torch.ones(2, 1).double()), 1)
    got = ambiguity_terms.mask_bits(q, 100_000, torch.Generator().manual_seed(1))
    assert got == pytest.approx(exact, abs=0.01)


def test_intervals_and_the_table():
    mean, half = ambiguity_terms.interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    run = dict.fromkeys(ambiguity_terms.COLUMNS, 0.5)
    lines = ambiguity_terms.table({"cimd": [run, run], "ddpm-prob-seg": [{**run, "kl": math.nan}]}).splitlines()
    assert len(lines) == 4 and "0.5 ± 0" in lines[2] and "| – |" in lines[3]


@torch.no_grad()
def test_acns_gaussian_of_a_step_is_that_of_the_loss():
    """What the benchmark takes for ACN's Gaussian gives the divergence that training weighs."""
    from make_expected import image_and_mask, normal, tiny_cimd
    from torch.distributions import kl_divergence

    from AmbiguousSegLib.diffusion import process

    image, mask = image_and_mask(32)
    index, epsilon = torch.tensor([0, 30, 500, 900]), normal(2, 4, 1, 32, 32)
    for acn_input in ("mask", "noise"):
        method = tiny_cimd(acn_input=acn_input, beta_ambiguity=0.01)
        x_t = process.q_sample(method.schedule, mask, index, epsilon)
        q, p = method.amn(torch.cat([image, mask], dim=1)), ambiguity_terms.prior_of(method, image, x_t, index)
        torch.testing.assert_close(method.losses(image, mask, index, epsilon)["ambiguity"], 0.01 * kl_divergence(q, p))

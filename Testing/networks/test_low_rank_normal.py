"""The normal of low rank against torch's own, and its draws as the linear map that they are."""

from __future__ import annotations

import math

import pytest
import torch
from make_expected import normal, seeded
from torch.distributions import LowRankMultivariateNormal

from AmbiguousSegLib.networks.low_rank_normal import VARIANCE_FLOOR, LowRankNormal, LowRankNormalHead

ROWS, RANK, SHAPE = 3, 4, (2, 3, 5)
SIZE = math.prod(SHAPE)


def distribution() -> LowRankNormal:
    mean, factor, log_variance = normal(0, ROWS, *SHAPE), normal(1, ROWS, RANK, *SHAPE), normal(2, ROWS, *SHAPE)
    return LowRankNormal(mean.double(), factor.double(), log_variance.double().exp())


def torchs(ours: LowRankNormal) -> LowRankMultivariateNormal:
    """The same over flat vectors."""
    return LowRankMultivariateNormal(
        ours.mean.flatten(1), ours.factor.flatten(2).transpose(1, 2), ours.variance.flatten(1)
    )


def test_draws_are_a_linear_map_whose_square_is_torchs_covariance():
    """Unit vectors in place of the noise give the columns of A in μ + A·ε: A·Aᵀ is the covariance, exactly."""
    ours, numbers = distribution(), RANK + SIZE
    unit = torch.eye(numbers, dtype=torch.float64).expand(ROWS, -1, -1)
    draws = ours.sample(unit[:, :, :RANK], unit[:, :, RANK:].unflatten(2, SHAPE))
    columns = (draws - ours.mean[:, None]).flatten(2).transpose(1, 2)
    covariance = torchs(ours).covariance_matrix
    torch.testing.assert_close(columns @ columns.transpose(1, 2), covariance, rtol=1e-12, atol=1e-12)
    at_zero = ours.sample(torch.zeros(ROWS, 1, RANK), torch.zeros(ROWS, 1, *SHAPE))
    assert torch.equal(at_zero[:, 0], ours.mean)
    directions, pixels = normal(3, ROWS, 6, RANK).double(), normal(4, ROWS, 6, *SHAPE).double()
    noise = torch.cat([directions, pixels.flatten(2)], dim=2)
    expected = ours.mean[:, None] + (noise @ columns.transpose(1, 2)).unflatten(2, SHAPE)
    torch.testing.assert_close(ours.sample(directions, pixels), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("classes", [1, 3])
def test_head_is_three_linear_maps_of_each_pixel(classes):
    head = seeded(LowRankNormalHead(6, classes, RANK, 5.0), 1).double()
    features = normal(0, 2, 6, 4, 5).double()
    pixels = features.permute(0, 2, 3, 1)

    def mapped(layer: torch.nn.Conv2d) -> torch.Tensor:
        return (pixels @ layer.weight[:, :, 0, 0].T + layer.bias).permute(0, 3, 1, 2)

    got = head(features)
    torch.testing.assert_close(got.mean, mapped(head.mean))
    torch.testing.assert_close(got.variance, mapped(head.log_variance).clamp(max=5).exp() + VARIANCE_FLOOR)
    torch.testing.assert_close(got.factor, mapped(head.factor).reshape(2, RANK, classes, 4, 5))


def test_variance_stays_within_its_bounds_and_float32():
    head = LowRankNormalHead(2, 1, 3, 2.0)
    with torch.no_grad():
        head.log_variance.weight.fill_(1.0)
        head.log_variance.bias.zero_()
        features = torch.tensor([500.0, -500.0]).reshape(2, 1, 1, 1).expand(2, 2, 1, 1)
        assert head(features).variance.flatten().tolist() == pytest.approx([math.exp(2) + 1e-5, 1e-5])
        got = head.to(torch.bfloat16)(features.to(torch.bfloat16))
    assert {part.dtype for part in got} == {torch.float32}

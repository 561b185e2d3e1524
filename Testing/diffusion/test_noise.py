"""Noise as a pure function of its address: who may not change it, and what it is distributed as."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.stats import chisquare, kstest

from AmbiguousSegLib.diffusion.noise import SAMPLING, TRAINING, RowNoise, philox

ROWS = [(40, 3), (0, 0), (40, 4), (7, 3)]


def test_pinned_numbers():
    """Results in models' cards and papers hang on these: a change of generator must not pass unseen."""
    got = RowNoise(2026, [(0, 0), (40, 3)]).normal(0, (4,))
    expected = [
        [0.390893519, 0.724700570, 0.567675829, 0.651715219],
        [-0.832768083, 0.0836719126, -0.380745769, 0.557160139],
    ]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)
    training = RowNoise(2026, [(5, 0)], TRAINING)
    np.testing.assert_allclose(training.uniform(0).numpy(), [0.530951321], rtol=1e-6)
    np.testing.assert_allclose(training.normal(1, (3,)).numpy(), [[-1.04281557, -1.10165215, 0.780050814]], rtol=1e-6)


def test_counter_and_key_are_the_documented_words():
    """numpy's Philox with key (seed, purpose) and counter (0, draw, slice, sample)."""
    expected = np.random.Generator(np.random.Philox(key=[9, 1], counter=[0, 5, 40, 3]))
    got = RowNoise(9, [(40, 3)], purpose=1).normal(5, (6,))
    np.testing.assert_array_equal(got[0].numpy(), expected.standard_normal(6, dtype=np.float32))


def test_a_row_is_the_same_in_any_batch_and_order():
    whole = RowNoise(1, ROWS).normal(2, (1, 8, 8))
    for order in itertools.permutations(range(4)):
        assert torch.equal(RowNoise(1, [ROWS[i] for i in order]).normal(2, (1, 8, 8)), whole[list(order)])
    for i, row in enumerate(ROWS):
        assert torch.equal(RowNoise(1, [row]).normal(2, (1, 8, 8))[0], whole[i])
    first = RowNoise(1, ROWS)
    for draw in (7, 0, 3):  # other draws before it change nothing
        first.normal(draw, (3,))
    first.uniform(2)
    assert torch.equal(first.normal(2, (1, 8, 8)), whole)


def test_every_word_of_the_address_matters():
    addresses = list(itertools.product((0, 1), (SAMPLING, TRAINING), (0, 1), (0, 1), (0, 1)))
    fields = [RowNoise(seed, [(a, b)], purpose).normal(draw, (400,))[0] for seed, purpose, draw, a, b in addresses]
    correlation = np.corrcoef(torch.stack(fields).numpy()) - np.eye(32)
    assert np.abs(correlation).max() < 4.5 / math.sqrt(400)


def test_large_addresses():
    top = 2**63 - 1
    fields = RowNoise(top, [(top, top), (top - 1, top)], top).normal(top, (400,))
    assert abs(np.corrcoef(fields.numpy())[0, 1]) < 0.2 and 0.85 < fields.std().item() < 1.15


def test_standard_normal():
    n = 400_000
    x = RowNoise(3, [(s, 0) for s in range(100)]).normal(0, (n // 100,)).double()
    assert abs(x.mean().item()) < 4 / math.sqrt(n)
    assert abs(x.var().item() - 1) < 4 * math.sqrt(2 / n)
    assert abs((x**3).mean().item()) < 4 * math.sqrt(15 / n)
    assert abs((x**4).mean().item() - 3) < 4 * math.sqrt(96 / n)
    neighbours = (x[:, 1:] * x[:, :-1]).mean().item()
    slices = (x[1:] * x[:-1]).mean().item()
    assert max(abs(neighbours), abs(slices)) < 4 / math.sqrt(n)


def test_uniform():
    x = RowNoise(4, [(i, 0) for i in range(5000)], TRAINING).uniform(0).numpy()
    assert 0 <= x.min() and x.max() < 1
    counts, _ = np.histogram(x, 10, (0, 1))
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # χ² with 9 degrees of freedom, p = 0.001


def test_uniform_fields_are_the_documented_stream():
    """numpy's own numbers of the row's stream; one number per row if no shape is given, as it was before fields."""
    noise = RowNoise(9, ROWS, purpose=1)
    for number, (a, b) in enumerate(ROWS):
        stream = np.random.Generator(np.random.Philox(key=[9, 1], counter=[0, 5, a, b]))
        expected = stream.random(12, dtype=np.float32)
        np.testing.assert_array_equal(noise.uniform(5, (3, 4))[number].flatten().numpy(), expected)
        assert noise.uniform(5)[number].item() == expected[0]


# Classes


def probabilities(pixels: int, rows: int = 1) -> torch.Tensor:
    """Four classes, the second impossible; the rest vary from pixel to pixel."""
    weights = torch.rand(rows, 4, pixels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights[:, 1] = 0
    return weights / weights.sum(1, keepdim=True)


def test_classes_follow_their_probabilities():
    p = torch.tensor([0.1, 0.0, 0.65, 0.25]).reshape(1, 4, 1).expand(1, 4, 20_000)
    counts = np.bincount(RowNoise(6, [(0, 0)]).categorical(2, p).flatten().numpy(), minlength=4)
    assert counts[1] == 0
    assert chisquare(counts[[0, 2, 3]], [2000, 13_000, 5000]).pvalue > 0.001
    # and where every pixel has its own: mean and variance of the number of pixels of each class
    p = probabilities(20_000)
    drawn = RowNoise(7, [(0, 0)]).categorical(2, p)
    for label in range(4):
        excess = (drawn == label).sum().item() - p[:, label].sum().item()
        assert abs(excess) <= 4 * (p[:, label] * (1 - p[:, label])).sum().sqrt().item()


def test_classes_are_the_inverse_distribution_function_of_one_uniform_number():
    p, noise = probabilities(500, len(ROWS)), RowNoise(8, ROWS, dtype=torch.float64)
    uniform, got = noise.uniform(3, (500,)).numpy(), noise.categorical(3, p).numpy()
    for row, pixel in itertools.product(range(len(ROWS)), range(500)):
        ends = np.cumsum(p[row, :, pixel].numpy())
        assert got[row, pixel] == np.searchsorted(ends, uniform[row, pixel], side="right")
    assert noise.categorical(3, 5 * p).numpy() == pytest.approx(got)  # only their ratios count


def test_classes_of_a_row_are_the_same_in_any_batch():
    p = probabilities(64, len(ROWS)).float().reshape(len(ROWS), 4, 8, 8)
    whole = RowNoise(1, ROWS).categorical(2, p)
    assert whole.dtype == torch.int64 and whole.shape == (len(ROWS), 8, 8)
    for number, row in enumerate(ROWS):
        assert torch.equal(RowNoise(1, [row]).categorical(2, p[number : number + 1])[0], whole[number])


def test_a_class_of_probability_zero_is_not_drawn_at_the_edges():
    """Whatever rounding leaves of the sum: uniform numbers just below 1 fall into the last class that is possible."""
    noise = RowNoise(1, [(0, 0)])
    below_one = torch.tensor([[0.0, 0.5, 1 - 2.0**-24]])
    noise.uniform = lambda draw, shape: below_one
    p = torch.tensor([0.0, 0.1, 0.2, 0.7 - 3e-7, 0.0]).reshape(1, 5, 1).expand(1, 5, 3)
    assert noise.categorical(0, p).tolist() == [[1, 3, 3]]


def test_dtype_is_a_conversion_of_the_same_bits():
    single, double = RowNoise(1, ROWS), RowNoise(1, ROWS, dtype=torch.float64)
    assert double.normal(0, (5,)).dtype == torch.float64
    assert torch.equal(single.normal(0, (5,)).double(), double.normal(0, (5,)))


# Along the slices


def fields(slices: list[float], period: float, pixels: int = 40_000) -> np.ndarray:
    return RowNoise(5, [(s, 2) for s in slices], slice_period=period).normal(0, (pixels,)).double().numpy()


def test_correlation_between_slices_is_the_cosine_of_their_angle():
    x = fields(list(range(9)), 4.0)
    for i, j in itertools.combinations(range(9), 2):
        # between anchors 0, 4 and 8 the weights are cos and sin of a quarter turn; only shared anchors correlate
        weights = np.zeros((2, 4))
        for row, s in enumerate((i, j)):
            weights[row, s // 4] += math.cos(s % 4 / 4 * math.pi / 2)
            weights[row, s // 4 + 1] += math.sin(s % 4 / 4 * math.pi / 2)
        expected = weights[0] @ weights[1]
        if i // 4 == j // 4:
            assert expected == pytest.approx(math.cos((j - i) / 4 * math.pi / 2))
        assert np.corrcoef(x[i], x[j])[0, 1] == pytest.approx(expected, abs=4.5 / math.sqrt(x.shape[1]))


def test_each_slice_is_standard_normal_whatever_the_period():
    for period in (0.0, 0.75, 3.0, 7.5, math.inf):
        x = fields([0, 1, 2, 5, 11], period)
        n = x.shape[1]
        assert np.abs(x.mean(1)).max() < 4.5 / math.sqrt(n)
        assert np.abs(x.var(1) - 1).max() < 4.5 * math.sqrt(2 / n)


def test_weights_are_cosine_and_sine_of_one_angle():
    """Unit variance exactly: a turned field is cos·(one field) + sin·(the next), both standard normal."""
    anchors = RowNoise(5, [(0, 2), (1, 2), (2, 2)]).normal(0, (100,)).numpy()
    x = RowNoise(5, [(s, 2) for s in (0, 1, 2, 3, 4)], slice_period=3.0).normal(0, (100,)).numpy()
    half = math.sqrt(3) / 2
    expected = [anchors[0], half * anchors[0] + anchors[1] / 2, anchors[0] / 2 + half * anchors[1], anchors[1]]
    np.testing.assert_allclose(x[:4], expected, atol=1e-6)
    np.testing.assert_allclose(x[4], half * anchors[1] + anchors[2] / 2, atol=1e-6)


@pytest.mark.parametrize("period", [0.0, 0.75, 3.0, 7.5, math.inf])
def test_each_slice_is_uniform_whatever_the_period(period):
    noise = RowNoise(5, [(s, 2) for s in (0, 1, 2, 5, 11)], slice_period=period)
    for uniform in noise.uniform(0, (20_000,)).numpy():
        assert 0 <= uniform.min() and uniform.max() < 1
        assert kstest(uniform, "uniform").pvalue > 0.001


def test_coherent_uniform_numbers_are_the_distribution_function_of_the_normal_ones():
    """So neighbouring slices make the same choices: of two fields of correlation r, Φ has (6/π)·arcsin(r/2)."""
    noise = RowNoise(5, [(s, 2) for s in range(5)], slice_period=4.0)
    uniform, normal = noise.uniform(3, (40_000,)).double().numpy(), noise.normal(3, (40_000,)).double().numpy()
    np.testing.assert_allclose(uniform, ndtr(normal), rtol=0, atol=1e-7)
    for apart in (1, 2, 3, 4):
        expected = 6 / math.pi * math.asin(math.cos(apart / 4 * math.pi / 2) / 2)
        assert np.corrcoef(uniform[0], uniform[apart])[0, 1] == pytest.approx(expected, abs=4.5 / math.sqrt(40_000))
    assert noise.uniform(3).shape == (5,)
    p = torch.tensor([0.3, 0.7]).reshape(1, 2, 1).expand(5, 2, 40_000)
    drawn = noise.categorical(3, p).double()
    assert torch.equal(drawn[0], (noise.uniform(3, (40_000,))[0] >= 0.3).double())
    assert (drawn[0] == drawn[1]).double().mean() > 0.8 > 0.65 > (drawn[0] == drawn[4]).double().mean()


def test_infinite_period_shares_one_field_and_zero_shares_none():
    shared = fields([0, 3, 500], math.inf)
    assert np.array_equal(shared[0], shared[1]) and np.array_equal(shared[0], shared[2])
    apart = fields([0, 1, 2], 0.0)
    assert np.abs(np.corrcoef(apart) - np.eye(3)).max() < 4.5 / math.sqrt(40_000)
    # samples stay apart at any period
    two = RowNoise(5, [(3, 0), (3, 1)], slice_period=math.inf).normal(0, (40_000,)).numpy()
    assert abs(np.corrcoef(two)[0, 1]) < 4.5 / math.sqrt(40_000)


# Refusals


def test_probabilities_have_a_row_for_each_row():
    with pytest.raises(ValueError, match="Probabilities of 1 rows do not fit noise of 4"):
        RowNoise(0, ROWS).categorical(0, torch.ones(1, 2, 3))


@pytest.mark.parametrize("value", [-1, 2**63])
def test_addresses_out_of_range_are_refused(value):
    for name, address in (
        ("seed", (value, 0, 0, 0, 0)),
        ("purpose", (0, value, 0, 0, 0)),
        ("draw", (0, 0, value, 0, 0)),
        ("row", (0, 0, 0, value, 0)),
        ("row", (0, 0, 0, 0, value)),
    ):
        with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 2\*\*63\), got {value}"):
            philox(*address)
    with pytest.raises(ValueError, match="seed must lie"):
        RowNoise(value, [(0, 0)]).normal(0, (1,))


@pytest.mark.parametrize("period", [-1.0, math.nan])
def test_slice_period_is_checked(period):
    with pytest.raises(ValueError, match=f"slice_period must be 0 or more, got {period}"):
        RowNoise(0, [(0, 0)], slice_period=period)

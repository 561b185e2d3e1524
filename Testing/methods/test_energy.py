"""The energy loss against loops over pairs, against the metric that it is named for, and as a score."""

import numpy as np
import pytest
import torch

from AmbiguousSegLib.methods.energy import energy, independent_pairs, soft_distances
from AmbiguousSegLib.metrics.distribution import ged


def soft(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distances_are_the_mean_of_the_classes_pair_by_pair():
    a, b = soft(0, 2, 3, 2, 5, 4), soft(1, 2, 4, 2, 5, 4)
    found = soft_distances(a, b)
    for row, i, j in np.ndindex(2, 3, 4):
        parts = []
        for k in range(2):
            p, q = a[row, i, k].numpy(), b[row, j, k].numpy()
            parts.append(1 - ((p * q).sum() + 1) / ((p + q - p * q).sum() + 1))
        assert found[row, i, j].item() == pytest.approx(np.mean(parts), abs=1e-12)


def test_two_empty_masks_are_alike_and_one_has_a_slope():
    empty, some = torch.zeros(1, 1, 1, 6, 6), torch.full((1, 1, 1, 6, 6), 0.1, requires_grad=True)
    assert soft_distances(empty, empty).item() == 0.0
    distance = soft_distances(some, empty)
    assert distance.item() == pytest.approx(1 - 1 / 4.6)
    distance.sum().backward()
    assert (some.grad > 0).all()


def test_of_large_masks_it_is_the_metric():
    rng = np.random.default_rng(0)
    squares = np.zeros((9, 300, 300), bool)
    for mask in squares:
        top, left, side = rng.integers(20, 60), rng.integers(20, 60), rng.integers(120, 200)
        mask[top : top + side, left : left + side] = True
    samples, raters = squares[:5], squares[5:]
    exact = ged(samples, raters, "u")
    a, b = (torch.from_numpy(part[None, :, None].astype(np.float32)) for part in (samples, raters))
    found = energy(a, b, ~torch.eye(5, dtype=torch.bool)).item()
    assert found == pytest.approx(2 * exact.cross - exact.within_samples, abs=1e-3)


def test_pairs_leave_out_a_draw_with_itself_and_with_its_mirror_image():
    expected = [[i % 3 != j % 3 for j in range(6)] for i in range(6)]
    assert independent_pairs(6).tolist() == expected


def test_the_raters_own_distribution_has_the_least_energy():
    """Two masks, drawn by a share p of raters; samples that are drawn by a share q: the least of q is p."""
    masks = torch.zeros(2, 1, 40, 40)
    masks[0, :, 5:35, 5:35] = 1
    masks[1, :, 12:30, 10:24] = 1
    d = soft_distances(masks[None], masks[None])[0, 0, 1].item()
    p, q = 0.3, np.linspace(0, 1, 101)
    expected = 2 * d * (p * (1 - q) + q * (1 - p)) - 2 * d * q * (1 - q)
    assert q[expected.argmin()] == pytest.approx(p)
    raters = masks[[0] * 3 + [1] * 7][None]
    found = []
    for share in q[::10]:  # 40 samples, pairs of all of them: E d(S, S') is that of the distribution
        ones = round(float(share) * 40)
        samples = masks[[0] * ones + [1] * (40 - ones)][None]
        found.append(energy(samples, raters, torch.ones(40, 40, dtype=torch.bool)).item())
    np.testing.assert_allclose(found, expected[::10], atol=1e-6)


def test_strictly_nothing_is_won_by_spread_where_no_rater_marks_anything():
    samples, raters = soft(0, 2, 4, 1, 6, 6), soft(1, 2, 3, 1, 6, 6).round()
    raters[1] = 0
    pairs = independent_pairs(4)
    free, strict = energy(samples, raters, pairs), energy(samples, raters, pairs, strict=True)
    assert strict[0] == free[0]
    assert strict[1].item() == pytest.approx(2 * soft_distances(samples, raters)[1].mean().item(), rel=1e-6)
    assert strict[1] > free[1]

"""Step grids against the published maps and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shared_data import shared_path

from AmbiguousSegLib.diffusion.step_grids import STEP_GRIDS, both_ends, integer_stride, steps_of, trailing


def test_golden_timestep_maps():
    """Of the published chains, and of their integer stride."""
    for name, count in (("psample50", 50), ("tiny_all_in_one", 10)):
        data = torch.load(shared_path(f"golden/{name}.pt"), weights_only=True)
        assert steps_of("both_ends", 1000, count).tolist() == data["timestep_map"].tolist()
    with np.load(shared_path("golden/schedule_extra.npz")) as expected:
        np.testing.assert_array_equal(steps_of("integer_stride", 1000, 50), expected["ddim50_timestep_map"])


@pytest.mark.parametrize(("total", "count"), [(1000, 50), (1000, 7), (1000, 999), (1000, 1000), (4000, 33), (30, 29)])
def test_both_ends_are_even_and_reach_both_ends(total, count):
    steps = both_ends(total, count)
    assert steps[0] == 0 and steps[-1] == total - 1 and len(steps) == count
    assert np.abs(steps - np.linspace(0, total - 1, count)).max() <= 0.5 + 1e-6
    assert np.all(np.diff(steps) >= 1)


@pytest.mark.parametrize(
    ("total", "count"),
    [
        (1000, 1),
        (1000, 3),
        (1000, 50),
        (1000, 600),
        (1000, 666),
        (1000, 667),
        (1000, 999),
        (1000, 1000),
        (50, 7),
        (30, 20),
    ],
)
def test_trailing_divides_the_schedule_and_ends_in_pure_noise(total, count):
    """t_i + 1 is i·T/k, rounded; t = 0 is taken only from two thirds of all steps on."""
    steps = trailing(total, count)
    np.testing.assert_allclose(steps + 1, np.arange(1, count + 1) * total / count, rtol=0, atol=0.5)
    assert steps[-1] == total - 1 and np.all(np.diff(steps) >= 1) and (steps[0] == 0) == (3 * count > 2 * total)


def test_by_hand():
    assert both_ends(10, 4).tolist() == [0, 3, 6, 9]
    assert both_ends(10, 3).tolist() == [0, 4, 9]  # 4.5 to even
    assert both_ends(1000, 50).tolist()[:4] == [0, 20, 41, 61]
    assert both_ends(10, 1).tolist() == trailing(10, 1).tolist() == [9]
    assert trailing(1000, 4).tolist() == [249, 499, 749, 999]
    assert trailing(10, 3).tolist() == [2, 6, 9]
    assert trailing(10, 4).tolist() == [1, 4, 7, 9]  # 2.5 to even
    assert integer_stride(1000, 50).tolist() == list(range(0, 1000, 20))
    assert integer_stride(10, 4).tolist() == [0, 3, 6, 9]


@pytest.mark.parametrize("grid", ["trailing", "both_ends"])
def test_all_steps_are_all_steps(grid):
    assert steps_of(grid, 30, 30).tolist() == list(range(30))


def test_errors():
    for grid in STEP_GRIDS:
        for count in (0, 1001):
            with pytest.raises(ValueError, match=rf"lie in \[1, 1000\], got {count}"):
                steps_of(grid, 1000, count)
    with pytest.raises(ValueError, match="No integer stride takes 300 steps out of 1000"):
        steps_of("integer_stride", 1000, 300)
    with pytest.raises(ValueError, match="Unknown step grid 'leading'; known: trailing, both_ends, integer_stride"):
        steps_of("leading", 1000, 10)

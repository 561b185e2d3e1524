"""Cases sampled together get the masks that each gets alone."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import tiny_cimd

from AmbiguousSegLib.data.lung_phantom import phantom_case
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.case_sampling import sample_case, sample_cases, true_masks

METHOD, SETTINGS = tiny_cimd(), SamplerSettings("ddim", 2)
CASES = [(f"case {n}", np.random.default_rng(n).random((1, 15, 16), np.float32)) for n in range(3)]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_together_as_alone(batch_size):
    together = sample_cases(METHOD, CASES, 3, 7, SETTINGS, batch_size)
    alone = [sample_case(METHOD, *case, 3, 7, SETTINGS, 2) for case in CASES]
    assert together.shape == (3, 3, 15, 16) and np.array_equal(together, np.stack(alone))
    assert not np.array_equal(alone[0], alone[1])


def test_images_of_several_sizes_are_refused():
    odd = [*CASES, ("odd", np.zeros((1, 8, 16), np.float32))]
    with pytest.raises(ValueError, match="one size, got 8 × 16, 15 × 16"):
        sample_cases(METHOD, odd, 2, 0, SETTINGS, 4)


def test_true_masks_of_fewer_are_the_first_of_more():
    phantom = phantom_case(3, 1, (16, 16), 4.0)
    many = true_masks(phantom, "a", 40, 0)
    assert np.array_equal(true_masks(phantom, "a", 5, 0), many[:5])
    assert not np.array_equal(true_masks(phantom, "b", 40, 0), many)

"""How well held-out cases are reproduced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from AmbiguousSegLib.diffusion.samplers import SamplerSettings
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.methods import Method
from AmbiguousSegLib.metrics.distribution import DistributionMetrics, compare
from AmbiguousSegLib.training.dataset import HeldOutCase


def score(
    method: Method, cases: Sequence[HeldOutCase], samples: int, seed: int, settings: SamplerSettings, batch_size: int
) -> list[tuple[HeldOutCase, np.ndarray, DistributionMetrics]]:
    """Each case with its masks, bool ``(samples, H, W)``, and figures; arguments as ``sample_case``."""
    out = []
    for case in cases:
        masks = sample_case(method, case.identity, case.image, samples, seed, settings, batch_size)
        out.append((case, masks, compare(masks, case.masks)))
    return out

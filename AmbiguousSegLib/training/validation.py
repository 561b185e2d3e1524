"""How well held-out cases are reproduced."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from AmbiguousSegLib.diffusion.samplers import SamplerSettings
from AmbiguousSegLib.methods import Method
from AmbiguousSegLib.methods.drawing import OnBatchStep, draw_masks
from AmbiguousSegLib.metrics.distribution import DistributionMetrics, compare
from AmbiguousSegLib.training.sources import HeldOutCase


def case_number(identity: str) -> int:
    """Number in [0, 2⁶²) that stands for a case in the noise, so that its masks do not depend on the other cases."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") >> 2


def sample_case(
    method: Method,
    case: HeldOutCase,
    samples: int,
    seed: int,
    settings: SamplerSettings,
    batch_size: int,
    on_step: OnBatchStep | None = None,
) -> np.ndarray:
    """Masks of one case: bool ``(samples, H, W)``, cut at 0.5.

    An image whose sides are no multiples of ``method.size_multiple`` is padded with zeros below and to the right.
    """
    height, width = case.image.shape[-2:]
    multiple = method.size_multiple
    padded = np.pad(case.image, ((0, 0), (0, -height % multiple), (0, -width % multiple)))
    image, number = torch.from_numpy(padded), case_number(case.identity)
    rows = [(number, sample) for sample in range(samples)]
    masks = np.empty((samples, height, width), bool)
    done = 0
    for batch, values in draw_masks(method, lambda _: image, rows, seed, settings, batch_size, on_step=on_step):
        masks[done : done + len(batch)] = values[:, :height, :width].numpy() > 0.5
        done += len(batch)
    return masks


def score(
    method: Method, cases: Sequence[HeldOutCase], samples: int, seed: int, settings: SamplerSettings, batch_size: int
) -> list[tuple[HeldOutCase, np.ndarray, DistributionMetrics]]:
    """Each case with its masks and figures."""
    out = []
    for case in cases:
        masks = sample_case(method, case, samples, seed, settings, batch_size)
        out.append((case, masks, compare(masks, case.masks)))
    return out

"""Masks of held-out cases, drawn so that a case's masks do not depend on which other cases are drawn."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from AmbiguousSegLib.diffusion.samplers import SamplerSettings
from AmbiguousSegLib.inference.batches import OnBatchStep, draw_masks
from AmbiguousSegLib.methods import Method


def case_number(identity: str) -> int:
    """Number in [0, 2⁶²) that stands for a case in the noise."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") >> 2


def sample_case(
    method: Method,
    identity: str,
    image: np.ndarray,
    samples: int,
    seed: int,
    settings: SamplerSettings,
    batch_size: int,
    on_step: OnBatchStep | None = None,
) -> np.ndarray:
    """Masks of one case: bool ``(samples, H, W)``, cut at 0.5.

    An image whose sides are no multiples of ``method.size_multiple`` is padded with zeros below and to the right.

    Args:
        method: in evaluation mode, on the device to use.
        identity: of the case; with ``seed`` and a sample's number it fixes the noise of that sample.
        image: float32 ``(C, H, W)`` in [0, 1].
        settings, batch_size, on_step: as ``draw_masks``, whose errors these are too.
    """
    height, width = image.shape[-2:]
    multiple = method.size_multiple
    padded = torch.from_numpy(np.pad(image, ((0, 0), (0, -height % multiple), (0, -width % multiple))))
    number = case_number(identity)
    rows = [(number, sample) for sample in range(samples)]
    masks = np.empty((samples, height, width), bool)
    done = 0
    for batch, values in draw_masks(method, lambda _: padded, rows, seed, settings, batch_size, on_step=on_step):
        masks[done : done + len(batch)] = values[:, :height, :width].numpy() > 0.5
        done += len(batch)
    return masks

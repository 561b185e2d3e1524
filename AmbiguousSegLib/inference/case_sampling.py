"""Masks of held-out cases, drawn so that a case's masks do not depend on which other cases are drawn."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.batches import OnBatchStep, draw_masks
from AmbiguousSegLib.label_maps import label_map_of
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
    """Masks of one case: label maps, uint8 ``(samples, H, W)``.

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
    drawn = draw_masks(
        method, lambda _: padded, [case_number(identity)], range(samples), seed, settings, batch_size, on_step=on_step
    )
    masks = np.empty((samples, height, width), np.uint8)
    for rows, values in drawn:
        for (_, sample), value in zip(rows, values[..., :height, :width].numpy(), strict=True):
            masks[sample] = label_map_of(value)
    return masks

"""Masks of held-out cases, drawn so that a case's masks do not depend on which other cases are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from AmbiguousSegLib.data.lung_phantom import Phantom
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.inference.batches import OnBatchStep, draw_masks
from AmbiguousSegLib.inference.refining import refined
from AmbiguousSegLib.label_maps import label_map_of
from AmbiguousSegLib.methods import Method

_TRUTH_STREAM = 3  # of random numbers under the seed; training and phantoms use others


def case_number(identity: str) -> int:
    """Number in [0, 2⁶²) that stands for a case in the noise."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") >> 2


def true_masks(phantom: Phantom, identity: str, samples: int, seed: int) -> np.ndarray:
    """What a perfect model would draw: uint8 ``(samples, H, W)``, one by one, so that fewer are the first of more."""
    rng = np.random.default_rng([seed, _TRUTH_STREAM, case_number(identity)])
    return np.concatenate([phantom.draw_masks(rng, 1) for _ in range(samples)])


def sample_case(
    method: Method,
    identity: str,
    image: np.ndarray,
    samples: int,
    seed: int,
    settings: SamplerSettings,
    batch_size: int,
    on_step: OnBatchStep | None = None,
    refine: tuple[DenseCRFConfig, int] | None = None,
) -> np.ndarray:
    """Masks of one case: label maps, uint8 ``(samples, H, W)``.

    An image whose sides are no multiples of ``method.size_multiple`` is padded with zeros below and to the right.

    Args:
        method: in evaluation mode, on the device to use.
        identity: of the case; with ``seed`` and a sample's number it fixes the noise of that sample.
        image: float32 ``(C, H, W)`` in [0, 1].
        settings, batch_size, on_step: as ``draw_masks``, whose errors these are too.
        refine: by what the masks are refined (``refining.refined``), and how many of the image's channels, the first,
            are a picture; None: the masks as they are drawn.
    """
    return sample_cases(method, [(identity, image)], samples, seed, settings, batch_size, on_step, refine)[0]


def sample_cases(
    method: Method,
    cases: Sequence[tuple[str, np.ndarray]],
    samples: int,
    seed: int,
    settings: SamplerSettings,
    batch_size: int,
    on_step: OnBatchStep | None = None,
    refine: tuple[DenseCRFConfig, int] | None = None,
) -> np.ndarray:
    """Masks of several cases, drawn in batches that go across them: label maps, uint8 ``(cases, samples, H, W)``.

    They are those of ``sample_case``, whose arguments these are too.

    Args:
        cases: identity and image of each; identities that differ, images of one size.

    Raises:
        ValueError: images of several sizes; as ``draw_masks``.
    """
    sizes = sorted({image.shape[-2:] for _, image in cases})
    if len(sizes) != 1:
        told = ", ".join(f"{h} × {w}" for h, w in sizes) or "none"
        raise ValueError(f"Cases sampled together need images of one size, got {told}; sample each size on its own.")
    (height, width), multiple = sizes[0], method.size_multiple
    images = {case_number(identity): image for identity, image in cases}
    place = {number: i for i, number in enumerate(images)}

    def padded(number: int) -> torch.Tensor:
        room = ((0, 0), (0, -height % multiple), (0, -width % multiple))
        return torch.from_numpy(np.pad(images[number], room))

    drawn = draw_masks(method, padded, list(images), range(samples), seed, settings, batch_size, on_step=on_step)
    config, channels = refine or (None, 0)
    inner = (slice(0, height), slice(0, width))
    masks = np.empty((len(images), samples, height, width), np.uint8)
    for rows, values in refined(drawn, padded, channels, inner, config):
        for (number, sample), value in zip(rows, values[..., :height, :width].numpy(), strict=True):
            masks[place[number], sample] = label_map_of(value)
    return masks

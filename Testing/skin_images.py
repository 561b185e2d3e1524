"""Generated pictures of skin with a lesion that is known: textured skin, a brown blob with a blurred edge; and what is
as dark but no lesion, hairs and blue marks of a pen, so that brightness alone does not find it.

And a short training on them, for tests and a benchmark of methods that learn from pictures.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.methods import Batch, Method

_SKIN, _DARKER = np.array([0.78, 0.60, 0.52]), np.array([0.45, 0.50, 0.50])  # red, green, blue
_PEN = np.array([0.70, 0.50, 0.10])  # what its ink takes away
_EDGE = 0.012  # share of the side over which a lesion begins


def skin_image(seed: int, number: int, size: int, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Picture float32 ``(3, size, size)`` in [0, 1] and its lesion, bool ``(size, size)``.

    The same skin has the same numbers with a lesion and without.
    """
    rng = np.random.default_rng([seed, number])
    rows, columns = np.indices((size, size)) / size

    def texture(strength: float, sigma: float) -> np.ndarray:
        pixels = sigma * size / 64
        return strength * 3.5 * pixels * gaussian_filter(rng.standard_normal((size, size)), pixels)

    tone = _SKIN + rng.normal(0, 0.03, 3)
    slope = rng.uniform(-0.08, 0.08, 2)
    shade = 1 + texture(0.02, 1) + texture(0.02, 3) + slope[0] * (rows - 0.5) + slope[1] * (columns - 0.5)
    centre, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.12, 0.26)
    angle = np.arctan2(rows - centre[0], columns - centre[1])
    waves = sum(rng.normal(0, 0.08) * np.cos(k * angle + rng.uniform(0, 2 * math.pi)) for k in (2, 3, 4))
    depth = radius * (1 + waves) - np.hypot(rows - centre[0], columns - centre[1])
    blotches = 1 + texture(0.14, 3)
    darker = _DARKER * rng.uniform(0.7, 1.2)
    picture = tone[:, None, None] * shade
    if lesion:
        picture = picture * (1 - darker[:, None, None] * blotches / (1 + np.exp(-depth / _EDGE)))
    for side in rng.uniform(0, 2 * math.pi, rng.integers(2, 4)):
        reach, spot = rng.uniform(0.07, 0.13), rng.uniform(0.34, 0.44)
        row, column = np.clip(centre + spot * np.array([math.cos(side), math.sin(side)]), 0.05, 0.95)
        inside = reach - np.hypot(rows - row, columns - column)
        mark = (inside > -3 * _EDGE) & (depth < -3 * _EDGE)
        picture = np.where(mark, picture * (1 - _PEN[:, None, None] / (1 + np.exp(-inside / _EDGE))), picture)
    for _ in range(rng.integers(0, 3)):
        turn, (row, column) = rng.uniform(0, math.pi), rng.uniform(0, 1, 2)
        across = (rows - row) * math.cos(turn) - (columns - column) * math.sin(turn)
        picture = picture * (1 - 0.5 * np.exp(-((across / 0.008) ** 2)))
    picture = picture + rng.normal(0, 0.012, picture.shape)
    return np.clip(picture, 0, 1).astype(np.float32), (depth > 0) & lesion


def skin_images(seed: int, count: int, size: int, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """``count`` of them: ``(count, 3, size, size)`` and ``(count, size, size)``."""
    pictures, lesions = zip(*(skin_image(seed, number, size, lesion) for number in range(count)))
    return np.stack(pictures), np.stack(lesions)


def train(
    method: Method, pictures: np.ndarray, lesions: np.ndarray, steps: int, batch: int, rate: float
) -> list[float]:
    """Adam with a rate that rises over an eighth of the steps and falls as a cosine; the method is left with the mean
    of its last weights. Losses of all steps."""
    images, masks = torch.from_numpy(pictures), torch.from_numpy(lesions.astype(np.float32))[:, None]
    rng, averaged, losses = np.random.default_rng(0), copy.deepcopy(method), []
    optimiser = torch.optim.Adam(method.parameters(), rate)
    for step in range(steps):
        chosen = torch.from_numpy(rng.integers(0, len(images), batch))
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, 8 * (step + 1) / steps) * (1 + math.cos(math.pi * step / steps)) / 2
        noise = RowNoise(0, [(step * batch + row, 0) for row in range(batch)], TRAINING)
        loss = method.training_loss(Batch(images[chosen], masks[chosen]), noise)["loss"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        with torch.no_grad():
            for kept, weight in zip(averaged.parameters(), method.parameters()):
                kept.lerp_(weight, 1 - min(0.99, (step + 1) / (step + 10)))
    method.load_state_dict(averaged.state_dict())
    method.requires_grad_(False).eval()
    return losses

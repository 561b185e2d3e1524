"""CT-like lung phantom whose raters' distribution over masks is known exactly.

A nodule is a solid core in a ground-glass halo. How dense core and halo look sets how the raters of that nodule divide:
so the truth is a function of what the image shows, and a sampler can be held against it. A slice and a volume are the
same kind of scene, evaluated at other points.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from AmbiguousSegLib.data.lung_scene import Scene, random_scene

MODES = ("nothing", "core", "core and halo")
WINDOW_HU = (-1000.0, 200.0)
NOISE_HU, NOISE_BLUR_PIXELS = 35.0, 0.6
BORDER_SD_MM = 0.4
BORDER_LIMIT_SD = 2.0

_IMPULSE = np.outer(np.arange(9) == 4, np.arange(9) == 4).astype(np.float32)
_NOISE_SCALE = np.float32(NOISE_HU / np.linalg.norm(gaussian_filter(_IMPULSE, NOISE_BLUR_PIXELS)))


def window(image: np.ndarray) -> np.ndarray:
    """Hounsfield units mapped linearly from ``WINDOW_HU`` to [0, 1] and clipped: float32 of the same shape."""
    low, high = WINDOW_HU
    return np.clip((np.asarray(image, np.float32) - low) / (high - low), 0.0, 1.0)


@dataclass(frozen=True)
class Phantom:
    """A slice (H, W) or a volume (Z, Y, X) of a scene, and its raters.

    A rater draws, for each nodule on its own, one of ``MODES`` and a border shift δ ~ N(0, ``BORDER_SD_MM``), clipped
    to ± ``BORDER_LIMIT_SD`` deviations; the mask is where the signed distance from the mode's shape is below δ.

    Attributes:
        image: float32 (H, W) or (Z, Y, X), HU.
        spacing_mm: of the array's axes, in their order.
        scene: what was imaged.
        distances: float32 (nodules, 2, …): signed distances from core and halo, mm, of every pixel.
    """

    image: np.ndarray
    spacing_mm: tuple[float, ...]
    scene: Scene
    distances: np.ndarray

    @property
    def mode_probabilities(self) -> np.ndarray:
        """Exact probabilities of ``MODES`` for each nodule: (nodules, 3) float64."""
        return np.array([n.mode_probabilities for n in self.scene.nodules]).reshape(-1, 3)

    @property
    def mode_masks(self) -> np.ndarray:
        """Mask of each nodule in each of ``MODES`` without border shift: bool (nodules, 3, …)."""
        inside = self.distances < 0
        return np.concatenate([np.zeros_like(inside[:, :1]), inside], axis=1)

    def distinct_modes(self) -> tuple[np.ndarray, np.ndarray]:
        """Different masks that all nodules' modes make together, most probable first.

        Combinations with equal masks are one mode: a cut through the halo alone has no core to tell from nothing.

        Returns:
            Masks without border shift, bool (K, …), and their exact probabilities, float64 (K,), summing to 1.
        """
        probability: dict[bytes, float] = {}
        masks, probabilities = self.mode_masks, self.mode_probabilities
        for modes in itertools.product(range(3), repeat=len(masks)):
            union = np.zeros(self.image.shape, bool)
            for nodule, mode in enumerate(modes):
                union |= masks[nodule, mode]
            chance = float(np.prod([probabilities[nodule, mode] for nodule, mode in enumerate(modes)]))
            probability[union.tobytes()] = probability.get(union.tobytes(), 0.0) + chance
        ranked = sorted(probability.items(), key=lambda item: -item[1])
        stack = np.stack([np.frombuffer(key, bool).reshape(self.image.shape) for key, _ in ranked])
        return stack, np.array([p for _, p in ranked])

    def probability_map(self) -> np.ndarray:
        """Exact probability that a rater marks each pixel: float64, shape of the image."""
        shifts = self.distances / BORDER_SD_MM
        above = np.where(np.abs(shifts) < BORDER_LIMIT_SD, ndtr(-shifts), shifts < 0)  # P(δ > distance)
        marked = np.einsum("nm,nm...->n...", self.mode_probabilities[:, 1:], above)
        return 1.0 - np.prod(1.0 - marked, axis=0)

    def draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Choices of ``n`` raters: modes int (n, nodules), numbers of ``MODES``, and shifts δ in mm, (n, nodules)."""
        shape = (n, len(self.scene.nodules))
        ends = np.cumsum(self.mode_probabilities, axis=1)[:, :2]
        modes = (rng.random(shape)[..., None] >= ends).sum(axis=-1)
        return modes, BORDER_SD_MM * np.clip(rng.standard_normal(shape), -BORDER_LIMIT_SD, BORDER_LIMIT_SD)

    def draw_masks(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Masks of ``n`` independent raters: bool (n, …)."""
        masks = np.zeros((n, *self.image.shape), bool)
        for mask, modes, shifts in zip(masks, *self.draw(rng, n), strict=True):
            for distance, mode, shift in zip(self.distances, modes, shifts, strict=True):
                if mode:
                    mask |= distance[mode - 1] < shift
        return masks


def phantom_case(seed: int, index: int, size: tuple[int, int] = (64, 64), spacing_mm: float = 1.0) -> Phantom:
    """A slice of a random scene, a pure function of the arguments: image (H, W) of ``size``, square pixels.

    About 12 % of the cases have no nodule, 78 % one, 10 % two. The slice cuts a nodule within three quarters of its
    core radius, or (one nodule in twelve) beside the core, through the halo alone.

    Raises:
        ValueError: negative seed or index, or a field under 48 mm, where two nodules may not fit.
    """
    if min(size) * spacing_mm < 48:
        raise ValueError(f"Field of {size} pixels of {spacing_mm} mm: expected 48 mm or more: take more, or larger.")
    rng = np.random.default_rng([seed, index])
    count = int(np.searchsorted([0.12, 0.90], rng.random(), side="right"))
    scene = random_scene(rng, (0.0, size[0] * spacing_mm, size[1] * spacing_mm), count)
    return _image(rng, scene, (1, *size), (spacing_mm,) * 3, flat=True)


def phantom_volume(
    seed: int,
    size_zyx: tuple[int, int, int] = (24, 64, 64),
    spacing_mm: tuple[float, float, float] = (2.0, 1.0, 1.0),
    nodules: int = 3,
) -> Phantom:
    """A volume (Z, Y, X) with ``nodules`` whole nodules, a pure function of the arguments. ``spacing_mm`` is z, y, x.

    Each slice has the look of :func:`phantom_case`; a rater makes one choice for the whole of a nodule.

    Raises:
        ValueError: negative seed, or a field too small for that many nodules.
    """
    rng = np.random.default_rng([seed, 0, 1])  # [seed] alone would be the stream of case 0
    scene = random_scene(rng, tuple(n * s for n, s in zip(size_zyx, spacing_mm, strict=True)), nodules)
    return _image(rng, scene, size_zyx, spacing_mm, flat=False)


def slice_points(size_zyx: tuple[int, int, int], spacing_mm: tuple[float, float, float], z: int) -> np.ndarray:
    """Points of the pixels of slice ``z`` of a grid centred on the field: float64 (3, Y, X), mm."""
    depth, y, x = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(size_zyx, spacing_mm, strict=True))
    return np.stack(np.broadcast_arrays(depth[z], y[:, None], x[None, :]))


def _image(
    rng: np.random.Generator, scene: Scene, size: tuple[int, int, int], spacing: tuple[float, float, float], flat: bool
) -> Phantom:
    image = np.empty(size, np.float32)
    distances = np.empty((len(scene.nodules), 2, *size), np.float32)
    for z in range(size[0]):
        points = slice_points(size, spacing, z)
        for nodule, distance in zip(scene.nodules, distances[:, :, z], strict=True):
            distance[:] = nodule.distances(points)
        noise = rng.standard_normal(size[1:], dtype=np.float32)
        noise = gaussian_filter(noise, NOISE_BLUR_PIXELS, mode="wrap")
        image[z] = scene.hounsfield(points, distances[:, :, z]) + _NOISE_SCALE * noise
    if flat:
        return Phantom(image[0], spacing[1:], scene, distances[:, :, 0])
    return Phantom(image, spacing, scene, distances)

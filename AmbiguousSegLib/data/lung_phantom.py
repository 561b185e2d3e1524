"""CT-like lung phantom whose raters' distribution over masks is known exactly.

A nodule is a solid core in a ground-glass halo. How dense core and halo look sets how the raters of that nodule divide:
so the truth is a function of what the image shows, and a sampler can be held against it. A slice and a volume are the
same kind of scene, evaluated at other points. Masks have one class, all that a rater marks, or two: core and halo.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from AmbiguousSegLib.data.lung_scene import Scene, random_scene

MODES = ("nothing", "core", "core and halo")
TWO_CLASSES = ("core", "halo")
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


def phantom_classes(labels: Sequence[str]) -> int:
    """Number of classes, 1 or 2, of the phantom whose masks have these labels; one label may have any name.

    Raises:
        ValueError: two labels other than ``TWO_CLASSES``, or more than two.
    """
    if len(labels) != 1 and tuple(labels) != TWO_CLASSES:
        raise ValueError(
            f"The phantom has one label, or the two labels {', '.join(TWO_CLASSES)} in this order, got "
            f"{', '.join(labels)}; change the labels, or the data."
        )
    return len(labels)


@dataclass(frozen=True)
class Phantom:
    """A slice (H, W) or a volume (Z, Y, X) of a scene, and its raters.

    A rater draws, for each nodule on its own, one of ``MODES`` and a border shift δ ~ N(0, ``BORDER_SD_MM``), clipped
    to ± ``BORDER_LIMIT_SD`` deviations. Where the signed distance from the mode's shape is below δ, the nodule is
    marked. With two classes, it is core where the distance from the core is below the same δ, and halo elsewhere; where
    nodules meet, core goes before halo. Both modes and images are the same for one class and for two.

    Attributes:
        image: float32 (H, W) or (Z, Y, X), HU.
        spacing_mm: of the array's axes, in their order.
        scene: what was imaged.
        distances: float32 (nodules, 2, …): signed distances from core and halo, mm, of every pixel.
        classes: K, 1 or 2.
    """

    image: np.ndarray
    spacing_mm: tuple[float, ...]
    scene: Scene
    distances: np.ndarray
    classes: int = 1

    def __post_init__(self) -> None:
        if self.classes not in (1, 2):
            raise ValueError(f"The phantom has one class or two, got {self.classes}.")

    @property
    def mode_probabilities(self) -> np.ndarray:
        """Exact probabilities of ``MODES`` for each nodule: (nodules, 3) float64."""
        return np.array([n.mode_probabilities for n in self.scene.nodules]).reshape(-1, 3)

    def distinct_modes(self) -> tuple[np.ndarray, np.ndarray]:
        """Different masks that all nodules' modes make together, most probable first.

        Combinations with equal masks are one mode: a cut through the halo alone has no core to tell from nothing.

        Returns:
            Masks without border shift, uint8 label maps (modes, …), and their exact probabilities, float64 (modes,),
            summing to 1.
        """
        probability: dict[bytes, float] = {}
        probabilities = self.mode_probabilities
        for modes in itertools.product(range(3), repeat=len(probabilities)):
            mask = self._mask(modes, np.zeros(len(modes))).tobytes()
            chance = float(np.prod([probabilities[nodule, mode] for nodule, mode in enumerate(modes)]))
            probability[mask] = probability.get(mask, 0.0) + chance
        ranked = sorted(probability.items(), key=lambda item: -item[1])
        stack = np.stack([np.frombuffer(key, np.uint8).reshape(self.image.shape) for key, _ in ranked])
        return stack, np.array([p for _, p in ranked])

    def probability_maps(self) -> np.ndarray:
        """Exact probability that a rater gives each pixel each class: float64 (K, …)."""
        shifts = self.distances / BORDER_SD_MM
        above = np.where(np.abs(shifts) < BORDER_LIMIT_SD, ndtr(-shifts), shifts < 0)  # P(δ > distance)
        marked = np.einsum("nm,nm...->n...", self.mode_probabilities[:, 1:], above)
        nothing = np.prod(1.0 - marked, axis=0)
        if self.classes == 1:
            return 1.0 - nothing[None]
        # One δ shifts core and halo, and the core lies in the halo: no core is halo or nothing.
        core = np.einsum("n,n...->n...", self.mode_probabilities[:, 1:].sum(axis=1), above[:, 0])
        no_core = np.prod(1.0 - core, axis=0)
        return np.stack([1.0 - no_core, np.maximum(no_core - nothing, 0.0)])

    def draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Choices of ``n`` raters: modes int (n, nodules), numbers of ``MODES``, and shifts δ in mm, (n, nodules)."""
        shape = (n, len(self.scene.nodules))
        ends = np.cumsum(self.mode_probabilities, axis=1)[:, :2]
        modes = (rng.random(shape)[..., None] >= ends).sum(axis=-1)
        return modes, BORDER_SD_MM * np.clip(rng.standard_normal(shape), -BORDER_LIMIT_SD, BORDER_LIMIT_SD)

    def draw_masks(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Masks of ``n`` independent raters: uint8 label maps (n, …)."""
        masks = np.empty((n, *self.image.shape), np.uint8)
        for rater, choices in enumerate(zip(*self.draw(rng, n), strict=True)):
            masks[rater] = self._mask(*choices)
        return masks

    def _mask(self, modes: Sequence[int], shifts: np.ndarray) -> np.ndarray:
        """Label map of one rater who made these choices, one for each nodule."""
        marked, core = np.zeros((2, *self.image.shape), bool)
        for distance, mode, shift in zip(self.distances, modes, shifts, strict=True):
            if mode:
                marked |= distance[mode - 1] < shift
                core |= distance[0] < shift
        return marked.view(np.uint8) if self.classes == 1 else 2 * marked.view(np.uint8) - core.view(np.uint8)


def phantom_case(
    seed: int, index: int, size: tuple[int, int] = (64, 64), spacing_mm: float = 1.0, classes: int = 1
) -> Phantom:
    """A slice of a random scene, a pure function of the arguments: image (H, W) of ``size``, square pixels.

    About 12 % of the cases have no nodule, 78 % one, 10 % two. The slice cuts a nodule within three quarters of its
    core radius, or (one nodule in twelve) beside the core, through the halo alone.

    Raises:
        ValueError: negative seed or index, or a field under 48 mm, where two nodules may not fit.
    """
    if min(size) * spacing_mm < 48:
        raise ValueError(
            f"Field of {size} pixels of {spacing_mm} mm: expected 48 mm or more: take more pixels, or larger ones."
        )
    rng = np.random.default_rng([seed, index])
    count = int(np.searchsorted([0.12, 0.90], rng.random(), side="right"))
    scene = random_scene(rng, (0.0, size[0] * spacing_mm, size[1] * spacing_mm), count)
    return _image(rng, scene, (1, *size), (spacing_mm,) * 3, classes, flat=True)


def phantom_volume(
    seed: int,
    size_zyx: tuple[int, int, int] = (24, 64, 64),
    spacing_mm: tuple[float, float, float] = (2.0, 1.0, 1.0),
    nodules: int = 3,
    classes: int = 1,
) -> Phantom:
    """A volume (Z, Y, X) with ``nodules`` whole nodules, a pure function of the arguments. ``spacing_mm`` is z, y, x.

    Each slice has the look of :func:`phantom_case`; a rater makes one choice for the whole of a nodule.

    Raises:
        ValueError: negative seed, or a field too small for that many nodules.
    """
    rng = np.random.default_rng([seed, 0, 1])  # [seed] alone would be the stream of case 0
    depth, height, width = (n * s for n, s in zip(size_zyx, spacing_mm, strict=True))
    scene = random_scene(rng, (depth, height, width), nodules)
    return _image(rng, scene, size_zyx, spacing_mm, classes, flat=False)


def slice_points(size_zyx: tuple[int, int, int], spacing_mm: tuple[float, float, float], z: int) -> np.ndarray:
    """Points of the pixels of slice ``z`` of a grid centred on the field: float64 (3, Y, X), mm."""
    depth, y, x = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(size_zyx, spacing_mm, strict=True))
    return np.stack(np.broadcast_arrays(depth[z], y[:, None], x[None, :]))


def _image(
    rng: np.random.Generator,
    scene: Scene,
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    classes: int,
    flat: bool,
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
        return Phantom(image[0], spacing[1:], scene, distances[:, :, 0], classes)
    return Phantom(image, spacing, scene, distances, classes)

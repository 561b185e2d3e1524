"""Random changes of an image together with its mask: the draw apart from the transform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform

from AmbiguousSegLib.configuration import check_field
from AmbiguousSegLib.label_maps import label_map_of


@dataclass(frozen=True)
class AugmentationConfig:
    """Ranges of the changes; the default changes nothing.

    Attributes:
        flip: mirror each axis with probability one half.
        rotate_degrees: rotation about the centre, uniform in ± this.
        scale: size change, log-uniform between 1/(1 + scale) and 1 + scale.
        translate: shift as a share of the side, uniform in ± this, each axis on its own.
        gain: intensity factor, uniform in 1 ± this.
        offset: intensity shift, uniform in ± this (images lie in [0, 1] and are clipped back to it).
    """

    flip: bool = False
    rotate_degrees: float = 0.0
    scale: float = 0.0
    translate: float = 0.0
    gain: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rotate_degrees", "scale", "translate", "gain", "offset"):
            check_field(self, 0 <= getattr(self, name) < np.inf, name, "0 or more")


@dataclass(frozen=True)
class Augmentation:
    """One change: ``matrix`` (2, 2) maps new to old (row, column) about the centre, then ``shift`` (share of the side)
    is added; intensities become gain·value + offset."""

    matrix: np.ndarray
    shift: np.ndarray
    gain: float
    offset: float

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Changed image float32 ``(C, H, W)`` in [0, 1] and mask float32 ``(K, H, W)`` in [0, 1].

        Both are interpolated linearly, channel by channel. A mask of zeros and ones becomes one again: one class is cut
        at one half, of several the largest is taken, with background among them. A mean of masks stays what it becomes.
        Outside the image, the image is repeated from its border and the mask is empty.
        """
        if np.array_equal(np.abs(self.matrix), np.eye(2)) and not self.shift.any():
            axes = tuple(axis + 1 for axis in range(2) if self.matrix[axis, axis] < 0)
            image, mask = np.flip(image, axes), np.flip(mask, axes)
        else:
            binary = bool(np.all((mask == 0) | (mask == 1)))
            image = np.stack([self._warp(channel, "nearest") for channel in image])
            mask = np.stack([self._warp(channel, "grid-constant") for channel in mask])
            if binary:
                mask = (mask >= 0.5).astype(np.float32) if len(mask) == 1 else one_hot(label_map_of(mask), len(mask))
        if self.gain != 1.0 or self.offset != 0.0:
            image = np.clip(self.gain * image + self.offset, 0.0, 1.0)
        return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(mask, np.float32)

    def _warp(self, plane: np.ndarray, mode: str) -> np.ndarray:
        centre = (np.array(plane.shape) - 1) / 2
        offset = centre - self.matrix @ centre + self.shift * np.array(plane.shape)
        return affine_transform(plane, self.matrix, offset, order=1, mode=mode)


def one_hot(label_map: np.ndarray, classes: int) -> np.ndarray:
    """A label map uint8 ``(*spatial)`` as float32 ``(classes, *spatial)``: a channel of zeros and ones per class."""
    return np.stack([label_map == label for label in range(1, classes + 1)]).astype(np.float32)


def draw_augmentation(config: AugmentationConfig, rng: np.random.Generator) -> Augmentation:
    """A random change; always takes the same number of draws from ``rng``."""
    flips = np.where((rng.random(2) < 0.5) & config.flip, -1.0, 1.0)
    angle, scale, row, column, gain, offset = rng.uniform(-1, 1, 6)
    angle = np.deg2rad(config.rotate_degrees) * angle
    factor = (1 + config.scale) ** scale
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Augmentation(
        matrix=rotation @ np.diag(flips) / factor,
        shift=config.translate * np.array([row, column]),
        gain=1 + config.gain * gain,
        offset=config.offset * offset,
    )

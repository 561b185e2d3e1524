"""Random changes of an image together with its mask: the draw apart from the transform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

from AmbiguousSegLib.configuration import check_field
from AmbiguousSegLib.data.dark_corners import DarkCorners, draw_dark_corners
from AmbiguousSegLib.label_maps import label_map_of

MOST_BLUR = 100.0  # pixels
MOST_SHARPEN = 100.0
_SHARPENED = 1.0  # pixels: standard deviation of the blur that sharpening takes away


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
        blur: standard deviation in pixels of a Gaussian blur, uniform from 0 to this.
        sharpen: a of image + a·(image − the image blurred by one pixel), uniform from 0 to this, after the blur.
        dark_corners: probability of a round field of view that is dark beyond its edge, as dermatoscopes have it; see
            ``data.dark_corners``. The mask stays as it is.
    """

    flip: bool = False
    rotate_degrees: float = 0.0
    scale: float = 0.0
    translate: float = 0.0
    gain: float = 0.0
    offset: float = 0.0
    blur: float = 0.0
    sharpen: float = 0.0
    dark_corners: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rotate_degrees", "scale", "translate", "gain", "offset"):
            check_field(self, 0 <= getattr(self, name) < np.inf, name, "0 or more")
        check_field(self, 0 <= self.dark_corners <= 1, "dark_corners", "in [0, 1]")
        for name, most in (("blur", MOST_BLUR), ("sharpen", MOST_SHARPEN)):
            check_field(self, 0 <= getattr(self, name) <= most, name, f"from 0 to {most:g}")


@dataclass(frozen=True)
class Augmentation:
    """One change: ``matrix`` (2, 2) maps new to old (row, column) about the centre, then ``shift`` (share of the side)
    is added; the patch is blurred and sharpened, its border repeated; intensities become gain·value + offset, and last
    of all come dark corners."""

    matrix: np.ndarray
    shift: np.ndarray
    gain: float
    offset: float
    blur: float = 0.0
    sharpen: float = 0.0
    corners: DarkCorners | None = None

    def __call__(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        corner: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Changed patch of an image, float32 ``(C, *size)`` in [0, 1], and of its mask, float32 ``(K, *size)``; or of
        its M masks.

        Both are interpolated linearly, channel by channel. A mask of zeros and ones becomes one again: one class is cut
        at one half, of several the largest is taken, with background among them. A mean of masks stays what it becomes.
        What a turn or shift brings into the patch comes from the image around it; outside the image, the image is
        repeated from its border and the mask is empty.

        Args:
            image: float32 ``(C, H, W)``.
            mask: float32 ``(K, H, W)``, or ``(M, K, H, W)``.
            corner: row and column of the patch's first pixel; the patch lies within the image.
            size: of the patch; None: the whole image, from ``corner`` (0, 0).
        """
        size = size or (image.shape[1], image.shape[2])
        if np.array_equal(np.abs(self.matrix), np.eye(2)) and not self.shift.any():
            axes = tuple(axis - 2 for axis in range(2) if self.matrix[axis, axis] < 0)
            rows, columns = (slice(start, start + n) for start, n in zip(corner, size))
            image, mask = np.flip(image[..., rows, columns], axes), np.flip(mask[..., rows, columns], axes)
        else:
            image, mask, corner = self._around(image, mask, corner, size)
            image = np.stack([self._warp(channel, "nearest", corner, size) for channel in image])
            masks = [self._warped_mask(one, corner, size) for one in mask.reshape(-1, *mask.shape[-3:])]
            mask = np.stack(masks).reshape(*mask.shape[:-2], *size)
        if self.blur > 0.0:
            image = _blurred(image, self.blur)
        if self.sharpen > 0.0:
            image = np.clip(image + self.sharpen * (image - _blurred(image, _SHARPENED)), 0.0, 1.0)
        if self.gain != 1.0 or self.offset != 0.0:
            image = np.clip(self.gain * image + self.offset, 0.0, 1.0)
        if self.corners is not None:
            image = self.corners(image)
        return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(mask, np.float32)

    def _warped_mask(self, mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        warped = np.stack([self._warp(channel, "grid-constant", corner, size) for channel in mask])
        if not np.all((mask == 0) | (mask == 1)):
            return warped
        return (warped >= 0.5).astype(np.float32) if len(mask) == 1 else one_hot(label_map_of(warped), len(mask))

    def _warp(self, plane: np.ndarray, mode: str, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        middle = (np.array(size) - 1) / 2
        offset = np.array(corner) + middle - self.matrix @ middle + self.shift * np.array(size)
        return affine_transform(plane, self.matrix, offset, output_shape=tuple(size), order=1, mode=mode)

    def _around(
        self, image: np.ndarray, mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """As much of the image as the patch can need, and the patch's corner in it: the rest need not be filtered."""
        reach = np.abs(self.matrix) @ np.array(size) / 2 + np.abs(self.shift) * np.array(size) + 2
        middle = np.array(corner) + (np.array(size) - 1) / 2
        first = np.maximum(np.floor(middle - reach), 0).astype(int)
        last = np.minimum(np.ceil(middle + reach), np.array(image.shape[1:]) - 1).astype(int)
        rows, columns = (slice(a, b + 1) for a, b in zip(first, last))
        return image[:, rows, columns], mask[..., rows, columns], (corner[0] - int(first[0]), corner[1] - int(first[1]))


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(gaussian_filter(image, (0, sigma, sigma), mode="nearest"))


def one_hot(label_map: np.ndarray, classes: int) -> np.ndarray:
    """A label map uint8 ``(*spatial)`` as float32 ``(classes, *spatial)``: a channel of zeros and ones per class."""
    return np.stack([label_map == label for label in range(1, classes + 1)]).astype(np.float32)


def draw_augmentation(config: AugmentationConfig, rng: np.random.Generator) -> Augmentation:
    """A random change; always takes the same number of draws from ``rng``."""
    flips = np.where((rng.random(2) < 0.5) & config.flip, -1.0, 1.0)
    angle, scale, row, column, gain, offset = rng.uniform(-1, 1, 6)
    blur, sharpen = rng.random(2)  # behind the others, whose numbers are those of trainings before there were these
    angle = np.deg2rad(config.rotate_degrees) * angle
    factor = (1 + config.scale) ** scale
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Augmentation(
        matrix=rotation @ np.diag(flips) / factor,
        shift=config.translate * np.array([row, column]),
        gain=1 + config.gain * gain,
        offset=config.offset * offset,
        blur=config.blur * blur,
        sharpen=config.sharpen * sharpen,
        corners=draw_dark_corners(config.dark_corners, rng),
    )

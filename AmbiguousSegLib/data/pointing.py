"""Places that somebody might point at, for a model that is told where its user did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from AmbiguousSegLib.configuration import check_field
from AmbiguousSegLib.volume.point_map import point_map
from AmbiguousSegLib.volume.preprocessing import Preprocessing

_LEAST_STRIP = 0.25  # of the image: what is repeated more often is no texture


@dataclass(frozen=True)
class PointConfig:
    """How a place is drawn for each training item.

    Whoever points at a lesion hits it, or nearly. A model that has only ever been pointed at lesions marks whatever it
    is pointed at; so some places lie away from all that raters marked, and nothing is to be marked there.

    Attributes:
        sigma_mm: of the map that the network reads, see ``volume.point_map``.
        near_mm: a place on the lesion lies at most this far from what any rater marked.
        elsewhere: share of items whose place lies away from it.
        clear_mm: how far away at least.
        alike: share of those whose place is as bright as the lesion, where such a place is: vessels, pleura.
        bare: share of all items that show no lesion at all: what lies beside it, see ``without_lesion``. Where every
            image has one, a network learns to mark the most likely thing that it sees, pointed at or not.
    """

    sigma_mm: float = 4.0
    near_mm: float = 0.7
    elsewhere: float = 0.15
    clear_mm: float = 4.0
    alike: float = 0.5
    bare: float = 0.0

    def __post_init__(self) -> None:
        check_field(self, 0 < self.sigma_mm < np.inf, "sigma_mm", "positive")
        check_field(self, 0 <= self.near_mm < self.clear_mm < np.inf, "near_mm", "0 or more, and below clear_mm")
        for name in ("elsewhere", "alike", "bare"):
            check_field(self, 0 <= getattr(self, name) <= 1, name, "in [0, 1]")


def pointed(
    config: PointConfig, image: np.ndarray, masks: np.ndarray, slices: Preprocessing, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """A training item whose network is told where somebody pointed.

    Args:
        image: float32 ``(C, H, W)`` in [0, 1].
        masks: uint8 label maps ``(R, H, W)``.
        slices: how they were made; it has the spacing and σ.

    Returns:
        Image ``(C + 1, H, W)``, maybe without its lesion, the last channel the map of the place; the masks, or none
        where the place is not on the lesion; row and column of the place.

    Raises:
        ValueError: slices without a pixel spacing or σ.
    """
    spacing_mm, sigma = slices.pixel_mm, slices.point_sigma
    if sigma is None:
        raise ValueError(
            "These slices have no map of a point: Preprocessing.point_sigma_mm is None, expected config's."
        )
    marked, beside = np.any(masks, axis=0), None
    if config.bare and rng.random() < config.bare:
        beside = without_lesion(image, marked, round(config.clear_mm / spacing_mm))
    if beside is not None:
        image, place, on_lesion = beside, _one_of(np.any(beside, axis=0), rng), False
    else:
        place, on_lesion = draw_point(config, image, marked, spacing_mm, rng)
    told = point_map((image.shape[1], image.shape[2]), *place, sigma)
    return np.concatenate([image, told]), masks if on_lesion else np.zeros_like(masks), place


def draw_point(
    config: PointConfig, image: np.ndarray, marked: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> tuple[tuple[int, int], bool]:
    """A place in a slice, row and column, and whether it is on the lesion.

    Where nobody marked anything, or where no place is far enough from the marks, any place or one on the lesion is
    taken instead: of the first it is said that it is not on the lesion. Half of the places on a lesion lie around its
    middle, as people click: normal about the centroid, with a deviation of an eighth of the marked area's root.

    Args:
        image: float32 ``(C, H, W)``; pixels that are 0 in all channels, as around a region, are not pointed at.
        marked: bool ``(H, W)``, what any rater marked.
    """
    seen = np.any(image, axis=0)
    elsewhere, alike, central = rng.random(3) < (config.elsewhere, config.alike, 0.5)
    if not marked.any():
        return _one_of(seen, rng), False
    away_mm = distance_transform_edt(~marked, sampling=spacing_mm)
    if elsewhere:
        clear = seen & (away_mm >= config.clear_mm)
        if alike:
            low, high = np.percentile(image[0][marked], (5, 95))
            similar = clear & (image[0] >= low) & (image[0] <= high)
            clear = similar if similar.any() else clear
        if clear.any():
            return _one_of(clear, rng), False
    near = away_mm <= config.near_mm
    if not central:
        return _one_of(near, rng), True
    middle = np.argwhere(marked).mean(0) + rng.normal(0, np.sqrt(marked.sum()) / 8, 2)
    places = np.argwhere(near)
    row, column = places[np.square(places - middle).sum(1).argmin()].tolist()
    return (row, column), True


def without_lesion(image: np.ndarray, marked: np.ndarray, clear: int) -> np.ndarray | None:
    """An image of what lies beside a lesion alone: the widest strip of it above, below, left or right of the marks,
    repeated by reflection over the part of the image that holds something; None where no strip is a quarter as wide.

    Args:
        image: float32 ``(C, H, W)``, 0 in all channels outside of what it holds.
        marked: bool ``(H, W)``.
        clear: pixels between the marks and the strip.
    """
    seen = np.any(image, axis=0)
    if not (marked & seen).any():
        return None
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(seen))
    held, inside = image[:, box[0], box[1]], marked[box]
    strips = []
    for axis in (0, 1):
        at, length = np.nonzero(inside)[axis], inside.shape[axis]
        ends = int(at.min()) - clear, length - (int(at.max()) + 1 + clear)
        strips += [(ends[0] / length, axis, slice(0, max(ends[0], 0))), (ends[1] / length, axis, slice(-ends[1], None))]
    share, axis, strip = max(strips, key=lambda one: one[0])
    if share < _LEAST_STRIP:
        return None
    part = held[:, strip] if axis == 0 else held[:, :, strip]
    room = inside.shape[axis] - part.shape[axis + 1]
    widths = [(0, 0)] * 3
    widths[axis + 1] = (room // 2, room - room // 2)
    made = np.zeros_like(image)
    made[:, box[0], box[1]] = np.pad(part, widths, mode="reflect")
    return made


def _one_of(where: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of a pixel of ``where``, bool ``(H, W)``, each as likely; of any pixel where there is none."""
    places = np.flatnonzero(where) if where.any() else np.arange(where.size)
    row, column = divmod(int(places[rng.integers(len(places))]), where.shape[1])
    return row, column

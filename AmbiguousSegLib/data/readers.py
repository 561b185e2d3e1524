"""Readers of data on disk, by name, and what each of them gives: cases.

A reader is one function in one file of this room, which registers itself::

    @READERS.register("my_layout")
    def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[Case]: ...

Then ``dataset.kind: my_layout`` trains on what it finds, and evaluation reads the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from skimage.transform import resize

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.registry import Registry

if TYPE_CHECKING:
    from AmbiguousSegLib.data.config import DataConfig

_ROUNDING = 1e-9  # of shares of area


class Case(Hashable, Protocol):
    """One image and its raters' masks. A reader gives many, so nothing should be read before it is asked for."""

    @property
    def identity(self) -> str:
        """Name of the case, unique in its data; the noise of its samples follows from it."""

    @property
    def subject(self) -> str:
        """Whom it shows; cases of one subject never go to different parts of a split."""

    @property
    def group(self) -> str:
        """Set that it belongs to, each of which is split on its own; empty if there is one."""

    @property
    def rater_names(self) -> tuple[str, ...]:
        """Raters in the order of ``load_masks``."""

    def load_image(self) -> np.ndarray:
        """Image: float32 ``(C, H, W)`` in [0, 1]."""

    def load_masks(self) -> np.ndarray:
        """Masks of R ≥ 1 raters on the image's grid: label maps, uint8 ``(R, H, W)``, of the labels of the reader."""


Reader = Callable[[Path, "DataConfig", Sequence[Label]], Sequence[Case]]
"""Called with the data folder, the settings of the data and the labels 1 to K of the masks; gives all cases."""

READERS: Registry[Reader] = Registry("reader of data", room="AmbiguousSegLib.data")


def read_all(folder: Path, config: DataConfig, labels: Sequence[Label]) -> Sequence[Case]:
    """All cases that the reader ``config.kind`` finds in ``folder``; ValueError if there is none, or by the reader."""
    cases = READERS[config.kind](folder, config, labels)
    if not cases:
        raise ValueError(f"{folder}: no cases found by the reader {config.kind}; check the folder, and dataset.kind.")
    return cases


@cache
def load_case(case: Case, size: tuple[int, int], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and masks of a case at ``size`` as ``resized`` gives them, read once.

    Raises:
        ValueError: by the reader; or it gave something else than a ``Case`` should, for ``classes`` labels.
    """
    image, masks = case.load_image(), case.load_masks()
    if image.dtype != np.float32 or image.ndim != 3 or masks.dtype != np.uint8 or masks.ndim != 3:
        raise ValueError(
            f"{case.identity}: expected an image float32 (C, H, W) and masks uint8 (R, H, W), got {image.dtype} "
            f"{image.shape} and {masks.dtype} {masks.shape}; correct the reader."
        )
    if len(masks) == 0 or masks.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"{case.identity}: expected masks of at least one rater on the image's grid {image.shape[1:]}, got "
            f"{masks.shape}; correct the reader."
        )
    if masks.max() > classes:
        raise ValueError(
            f"{case.identity}: a mask holds the label {masks.max()}, but there are {classes}; name every label."
        )
    return resized(image, masks, size)


def resized(image: np.ndarray, masks: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Image and masks brought to ``size`` (H, W), both axes on their own.

    Args:
        image: float32 (C, H, W): linear interpolation, low-passed where it shrinks.
        masks: uint8 label maps (R, H, W): a new pixel gets the label that has the largest share of its area, background
            among them. Of equal shares the lowest label wins, and background last: with one class, a pixel is marked
            if at least half of it is.

    Returns:
        Image float32 (C, *size), masks uint8 (R, *size); the same arrays if they have that size already.
    """
    if image.shape[1:] == tuple(size):
        return image, masks
    image = resize(image, (len(image), *size), order=1, mode="edge", anti_aliasing=True, preserve_range=True)
    rows, columns = (_area_weights(old, new) for old, new in zip(masks.shape[1:], size, strict=True))
    labels = np.zeros((len(masks), *size), np.uint8)
    largest, background = np.zeros(labels.shape), np.ones(labels.shape)
    for label in range(1, masks.max(initial=0) + 1):
        share = rows @ (masks == label).astype(float) @ columns.T
        larger = share > largest + _ROUNDING
        largest[larger], labels[larger] = share[larger], label
        background -= share
    return image.astype(np.float32), np.where(largest >= background - 2 * _ROUNDING, labels, np.uint8(0))


def _area_weights(old: int, new: int) -> np.ndarray:
    """(new, old) share of each old pixel in each new one along an axis; rows sum to 1."""
    edges_old, edges_new = np.arange(old + 1) / old, np.arange(new + 1) / new
    low = np.maximum(edges_new[:-1, None], edges_old[None, :-1])
    high = np.minimum(edges_new[1:, None], edges_old[None, 1:])
    return np.clip(high - low, 0, None) * new

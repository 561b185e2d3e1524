"""One mask from several: by their mean maps, by strict majority, and STAPLE, which weighs each by its agreement."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.label_maps import label_map_of

DEFAULT_THRESHOLD = 0.5  # of the mean map of one class: a strict majority
MOST_ITERATIONS = 1000
_SHARE_ROUNDING = 1e-5  # float32 sums of up to 255 shares err by less; different shares of N samples differ by 1/N

_log = logging.getLogger(__name__)


class NoEstimate(RuntimeError):
    """STAPLE came to no result."""


@dataclass(frozen=True)
class StapleResult:
    """Estimate of the hidden true mask, and of how each given mask relates to it.

    Attributes:
        probability: float32 ``(*spatial)`` in [0, 1], that a voxel belongs to the true mask.
        mask: bool ``(*spatial)``, probability above 0.5.
        sensitivity: float64 ``(N,)``, share of the true mask that each mask marks; nan where the true mask is empty.
        specificity: float64 ``(N,)``, share of the rest that each mask leaves out; nan where there is no rest.
    """

    probability: np.ndarray
    mask: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray


def checked_threshold(threshold: float | None, classes: int) -> float | None:
    """Threshold that a consensus takes: of one class the given one, or (None) 0.5; of several None.

    Raises:
        ValueError: a threshold outside [0, 1), or one for several classes.
    """
    if classes > 1:
        if threshold is not None:
            raise ValueError(f"The consensus of {classes} classes is the most frequent one; it takes no threshold.")
        return None
    if threshold is None:
        return DEFAULT_THRESHOLD
    if not 0 <= threshold < 1:
        raise ValueError(f"Consensus threshold must lie in [0, 1), got {threshold}.")
    return threshold


def consensus_of_means(means: Sequence[np.ndarray], threshold: float | None = None) -> np.ndarray:
    """Consensus of samples from the mean maps of their classes: label map, uint8 of the maps' shape.

    One class: where its mean lies above the threshold. Several: the largest of the mean maps, background's with them;
    ties go to background, and there is no threshold.

    Args:
        means: for each class 1 to K the share of the samples, at most 10 000, that say so, float ``(Z, Y, X)`` or any
            shape of one axis or more.
        threshold: in [0, 1), for one class; None: 0.5, a strict majority.

    Raises:
        ValueError: as ``checked_threshold``.
    """
    threshold = checked_threshold(threshold, len(means))
    if threshold is not None:
        return (means[0] > threshold).view(np.uint8)
    consensus = np.empty(means[0].shape, np.uint8)
    for z in range(len(consensus)):  # one by one: of a volume, what is computed on the way is one slice
        consensus[z] = label_map_of(np.stack([mean[z] for mean in means]), _SHARE_ROUNDING)
    return consensus


def majority(masks: np.ndarray) -> np.ndarray:
    """Voxels that more than half of the masks mark, as ``SampleSet.consensus``: bool ``(*spatial)``.

    Args:
        masks: bool ``(N, *spatial)``, N ≥ 1.

    Raises:
        ValueError: not bool, or no mask.
    """
    _check(masks)
    count = np.zeros(masks.shape[1:], np.uint16 if len(masks) < 2**15 else np.uint32)
    for mask in masks:  # one at a time: no wider copy of all masks is made
        count += mask
    return 2 * count > len(masks)


def majority_of(masks: np.ndarray, classes: int) -> np.ndarray:
    """What most of the masks say: label map, uint8 ``(*spatial)``.

    One class: as ``majority``. Several: the rule of ``consensus_of_means``.

    Args:
        masks: label maps, uint8 ``(N, *spatial)``, N ≥ 1.
        classes: K.
    """
    if classes == 1:
        return majority(masks.view(bool)).view(np.uint8)
    return consensus_of_means([(masks == label).mean(axis=0, dtype=np.float32) for label in range(1, classes + 1)])


def staple(masks: np.ndarray) -> StapleResult:
    """STAPLE (Warfield et al. 2004, IEEE TMI 23:903–921) as SimpleITK computes it, prior: the mean of the masks.

    The result depends on how much background there is: prior and specificities are taken over the array as given.
    Cut it to where any mask marks something, with the same margin wherever results are to be compared. Masks that all
    are empty, or all full, are their own result: the estimate is undefined there (0/0).

    Args:
        masks: bool ``(N, *spatial)``, N ≥ 1, 2-D or 3-D.

    Raises:
        ValueError: not bool, no mask, or neither 2-D nor 3-D.
        NoEstimate: it did not stay finite, as happens with some hundred masks. SimpleITK multiplies one rate per mask
            in each voxel, and where both products are too small for a double, it divides 0 by 0; neither its weights
            nor fewer iterations nor another box change that.
    """
    _check(masks)
    if masks.ndim not in (3, 4):
        raise ValueError(f"STAPLE takes 2-D or 3-D masks, got masks of {masks.ndim - 1} axes.")
    n = len(masks)
    if not masks.any():
        nothing = np.zeros(masks.shape[1:], np.float32)
        return StapleResult(nothing, nothing > 0.5, np.full(n, np.nan), np.ones(n))
    if masks.all():
        everything = np.ones(masks.shape[1:], np.float32)
        return StapleResult(everything, everything > 0.5, np.ones(n), np.full(n, np.nan))
    estimator = sitk.STAPLEImageFilter()
    estimator.SetForegroundValue(1)
    estimator.SetMaximumIterations(MOST_ITERATIONS)
    weights = sitk.GetArrayFromImage(estimator.Execute([sitk.GetImageFromArray(m.astype(np.uint8)) for m in masks]))
    if not np.isfinite(weights).all():
        raise NoEstimate(
            f"STAPLE of {n} masks of shape {masks.shape[1:]} overflowed, as it does with several hundred; give "
            "fewer, or use the majority."
        )
    if estimator.GetElapsedIterations() >= MOST_ITERATIONS:
        _log.warning("STAPLE of %d masks stopped after %d iterations, before they converged.", n, MOST_ITERATIONS)
    sensitivity, specificity = (
        np.array(values, float) for values in (estimator.GetSensitivity(), estimator.GetSpecificity())
    )
    return StapleResult(weights.astype(np.float32), weights > 0.5, sensitivity, specificity)


def _check(masks: np.ndarray) -> None:
    if masks.dtype != bool or masks.ndim < 2 or masks.size == 0:
        raise ValueError(
            f"Masks to fuse must be bool (N, *spatial) with N ≥ 1 and no axis of length 0, got {masks.dtype} "
            f"{masks.shape}."
        )

"""Modes: which of the sampled masks say much the same, and how many say so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from AmbiguousSegLib.metrics.order_statistics import frequency_interval

_TOLERANCE = 1e-9  # of the matrix' symmetry and limits
_TIE_DECIMALS = 12  # mean IoUs that differ by less, from another order of summation, are tied


@dataclass(frozen=True)
class Modes:
    """Groups of similar masks, the most frequent first; equally frequent ones in the order of their first masks.

    Attributes:
        labels: int ``(N,)``, the mode of each mask, 0 to K − 1.
        frequencies: float ``(K,)``, share of the masks in each mode; they sum to 1.
        representatives: int ``(K,)``, the mask of each mode with the highest mean IoU with its members (the medoid),
            the first of several.
        cut: distance at which the tree was cut.
    """

    labels: np.ndarray
    frequencies: np.ndarray
    representatives: np.ndarray
    cut: float

    def __len__(self) -> int:
        return len(self.frequencies)

    def intervals(self, level: float = 0.95) -> np.ndarray:
        """How far each frequency is known from so many masks: float64 ``(K, 2)``, ``frequency_interval`` of each.

        Of the frequency at which more masks would fall into a group that is as it was found; that other masks might
        have been grouped otherwise is not in it.
        """
        counts = np.bincount(self.labels, minlength=len(self))
        return np.array([frequency_interval(count, len(self.labels), level) for count in counts])


def find_modes(iou: np.ndarray, cut: float = 0.5) -> Modes:
    """Modes of N masks by hierarchical clustering, average linkage, of their distances 1 − IoU.

    Two groups become one where the mean distance of their masks is at most ``cut``: 0 joins only identical masks, 1
    joins all. Empty masks, with IoU 1 among themselves and 0 with all others, are a mode of their own below 1.

    Args:
        iou: float ``(N, N)`` in [0, 1], N ≥ 1, symmetric, 1 on the diagonal, as ``pairwise_iou`` of a set with itself.
        cut: in [0, 1].

    Raises:
        ValueError: a matrix or a cut of another kind.
    """
    if iou.ndim != 2 or iou.shape[0] != iou.shape[1] or len(iou) == 0:
        raise ValueError(f"IoU of all pairs must be (N, N) with N ≥ 1, got {iou.shape}. Compare the set with itself.")
    if not np.all((iou >= -_TOLERANCE) & (iou <= 1 + _TOLERANCE)):  # nan as well
        raise ValueError("IoU must lie in [0, 1], got a value outside. Give IoU, not a distance or a percentage.")
    if not np.allclose(iou, iou.T, rtol=0, atol=_TOLERANCE):
        raise ValueError("IoU of all pairs must be symmetric, got another matrix. Compare the set with itself.")
    if not np.allclose(np.diagonal(iou), 1, rtol=0, atol=_TOLERANCE):
        raise ValueError("IoU of a mask with itself is 1, got another diagonal. Give IoU, not a distance.")
    if not 0 <= cut <= 1:
        raise ValueError(f"The cut must be a distance 1 − IoU in [0, 1], got {cut}.")
    found = np.zeros(1, int)
    if len(iou) > 1:
        distances = squareform(np.clip(1 - iou, 0, 1), checks=False)
        found = fcluster(linkage(distances, method="average"), cut + _TOLERANCE, criterion="distance")
    _, first, groups, counts = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -counts))
    labels = np.argsort(order)[groups]
    return Modes(labels, counts[order] / len(iou), _medoids(iou, labels), float(cut))


def _medoids(iou: np.ndarray, labels: np.ndarray) -> np.ndarray:
    members = [np.flatnonzero(labels == mode) for mode in range(labels.max() + 1)]
    means = [np.round(iou[np.ix_(own, own)].mean(axis=1), _TIE_DECIMALS) for own in members]
    return np.array([own[mean.argmax()] for own, mean in zip(members, means)])

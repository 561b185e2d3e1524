"""Overlap of binary masks: Dice, IoU, precision and recall, for one pair or for all pairs of two sets.

Every figure follows from three numbers of pixels, |A ∩ B|, |A| and |B|, so these are counted once (``Counts``) and
exactly. An empty mask is a statement that nothing is there: two empty masks agree perfectly. Label maps of several
classes are compared class by class, and averaged over the classes that either of the two has.

ArrayLike are whatever ``np.asarray`` takes, a tensor on the CPU among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog

from AmbiguousSegLib.label_maps import class_mask

_CHUNK_ELEMENTS = 2**23
"""Elements of the float32 copies held at once: 32 MiB, and fewer than 2²⁴, below which float32 counts are exact."""
_LARGEST_ASSIGNMENT = 512
"""Above this lcm(N, M) the repeated matrix of the Hungarian method is not made."""


@dataclass(frozen=True)
class Counts:
    """Numbers of pixels of pairs of masks (A, B): float64 arrays that broadcast against each other.

    Attributes:
        intersection: |A ∩ B|, ``(N, M)`` for all pairs of two sets.
        size_a: |A|, ``(N, 1)`` for all pairs.
        size_b: |B|, ``(1, M)`` for all pairs.
        pixels: pixels of the image.

    Of label maps all three have a leading axis for the classes.
    """

    intersection: np.ndarray
    size_a: np.ndarray
    size_b: np.ndarray
    pixels: int

    def dice(self) -> np.ndarray:
        """2|A ∩ B| / (|A| + |B|) in [0, 1]; both empty: 1, one empty: 0 (CIMD Eq. 20)."""
        return self._ratio(2 * self.intersection, self.size_a + self.size_b)

    def iou(self) -> np.ndarray:
        """|A ∩ B| / |A ∪ B| in [0, 1] (Jaccard); both empty: 1, one empty: 0."""
        return self._ratio(self.intersection, self.size_a + self.size_b - self.intersection)

    def precision(self) -> np.ndarray:
        """TP / (TP + FP) in [0, 1] with B as the reference; both empty: 1, only A empty: 0 (DiffSeg Eq. 13)."""
        return self._ratio(self.intersection, self.size_a)

    def recall(self) -> np.ndarray:
        """TP / (TP + FN) in [0, 1] with B as the reference; both empty: 1, only B empty: 0 (DiffSeg Eq. 13)."""
        return self._ratio(self.intersection, self.size_b)

    def difference(self) -> np.ndarray:
        """|A △ B|: pixels that exactly one of the two masks marks."""
        return self.size_a + self.size_b - 2 * self.intersection

    def _ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        both_empty = self.size_a + self.size_b == 0
        return np.where(both_empty, 1.0, numerator / np.maximum(denominator, 1))

    @classmethod
    def of_classes(cls, counts: Sequence[Counts]) -> Counts:
        """Counts of the same masks for several classes as one, with the classes along a new first axis."""
        intersection, size_a, size_b = (
            np.stack([getattr(c, name) for c in counts]) for name in ("intersection", "size_a", "size_b")
        )
        return cls(intersection, size_a, size_b, counts[0].pixels)

    def mean_over_present(self, values: np.ndarray, none: float) -> np.ndarray:
        """Mean over the leading axis, the classes, of a figure of each pair, over the classes present in A or in B.

        Args:
            values: float ``(K, …)``, nan where undefined.
            none: result of a pair in which no class is present.
        """
        present = np.broadcast_to(self.size_a + self.size_b > 0, values.shape)
        total = np.where(present, values, 0).sum(axis=0)
        return np.where(present.any(axis=0), total / np.maximum(present.sum(axis=0), 1), none)


def counts(a: ArrayLike, b: ArrayLike, spatial_ndim: int | None = None) -> Counts:
    """Counts of masks compared one to one.

    Args:
        a, b: bool ``(..., *spatial)``; the same spatial shape, leading axes that broadcast.
        spatial_ndim: number of trailing axes that make up one mask; by default all of them.

    Returns:
        counts of the broadcast leading shape, 0-d by default.

    Raises:
        ValueError: masks that are not bool, or shapes that do not fit.
    """
    a, b = as_masks(a, "a"), as_masks(b, "b")
    ndim = max(a.ndim, b.ndim) if spatial_ndim is None else spatial_ndim
    if ndim < 1 or a.ndim < ndim or b.ndim < ndim or a.shape[-ndim:] != b.shape[-ndim:]:
        raise ValueError(
            f"Masks of shapes {tuple(a.shape)} and {tuple(b.shape)} do not share their last {ndim} axes, the spatial "
            "ones. Bring both onto one grid, or say with spatial_ndim how many axes make up one mask."
        )
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError as error:
        raise ValueError(
            f"The leading axes of masks of shapes {tuple(a.shape)} and {tuple(b.shape)} do not broadcast. "
            "Give both the same leading axes, or axes of length 1."
        ) from error
    return Counts(_count(a & b, ndim), _count(a, ndim), _count(b, ndim), math.prod(a.shape[-ndim:]))


def pairwise_counts(a: ArrayLike, b: ArrayLike) -> Counts:
    """Counts of every mask of one set with every mask of another.

    One matrix product per chunk of pixels: memory beyond the input is bounded, and no ``(N, M, *spatial)`` is made.

    Args:
        a: bool ``(N, *spatial)``, N ≥ 1; no batch axis.
        b: bool ``(M, *spatial)``, M ≥ 1.

    Returns:
        exact counts: ``intersection`` ``(N, M)``, ``size_a`` ``(N, 1)``, ``size_b`` ``(1, M)``.

    Raises:
        ValueError: masks that are not bool, an empty set, or shapes that do not fit.
    """
    a, b = as_mask_set(a, "a"), as_mask_set(b, "b")
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"The masks of the two sets must lie on one grid, got {tuple(a.shape[1:])} and {tuple(b.shape[1:])}. "
            "Resample one set onto the grid of the other."
        )
    same = a is b
    a = a.reshape(len(a), -1)
    b = a if same else b.reshape(len(b), -1)
    intersection = np.zeros((len(a), len(b)))
    chunk = max(1, _CHUNK_ELEMENTS // (len(a) + len(b)))
    for start in range(0, a.shape[1], chunk):
        part_a = a[:, start : start + chunk].astype(np.float32)
        part_b = part_a if same else b[:, start : start + chunk].astype(np.float32)
        intersection += part_a @ part_b.T
    return Counts(intersection, _count(a, 1)[:, None], _count(b, 1)[None, :], a.shape[1])


def pairwise_label_iou(a: ArrayLike, b: ArrayLike, classes: int) -> np.ndarray:
    """IoU of all pairs of label maps, averaged over the classes present in either: float64 ``(N, M)`` in [0, 1].

    No class present in either: 1. With one class this is `pairwise_iou`.

    Args:
        a, b: ``(N, *spatial)`` and ``(M, *spatial)``, as `as_label_maps` takes them.
        classes: K.

    Raises:
        ValueError: as `as_label_maps` and `pairwise_counts`.
    """
    a, b = as_label_maps(a, classes, "a"), as_label_maps(b, classes, "b")
    labels = range(1, classes + 1)
    counts = Counts.of_classes([pairwise_counts(class_mask(a, k, classes), class_mask(b, k, classes)) for k in labels])
    return counts.mean_over_present(counts.iou(), none=1.0)


def pairwise_dice(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Dice of all pairs: float64 ``(N, M)`` in [0, 1]; arguments as `pairwise_counts`, formula as `Counts.dice`."""
    return pairwise_counts(a, b).dice()


def pairwise_iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """IoU of all pairs: float64 ``(N, M)`` in [0, 1]; arguments as `pairwise_counts`, formula as `Counts.iou`."""
    return pairwise_counts(a, b).iou()


def dice(a: ArrayLike, b: ArrayLike, spatial_ndim: int | None = None) -> np.ndarray:
    """Dice one to one: float64 in [0, 1]; arguments as `counts`, formula as `Counts.dice`."""
    return counts(a, b, spatial_ndim).dice()


def iou(a: ArrayLike, b: ArrayLike, spatial_ndim: int | None = None) -> np.ndarray:
    """IoU one to one: float64 in [0, 1]; arguments as `counts`, formula as `Counts.iou`."""
    return counts(a, b, spatial_ndim).iou()


def precision(prediction: ArrayLike, reference: ArrayLike, spatial_ndim: int | None = None) -> np.ndarray:
    """Precision one to one: float64 in [0, 1]; arguments as `counts`, formula as `Counts.precision`."""
    return counts(prediction, reference, spatial_ndim).precision()


def recall(prediction: ArrayLike, reference: ArrayLike, spatial_ndim: int | None = None) -> np.ndarray:
    """Recall one to one: float64 in [0, 1]; arguments as `counts`, formula as `Counts.recall`."""
    return counts(prediction, reference, spatial_ndim).recall()


def matched_mean(similarity: np.ndarray) -> float:
    """Mean similarity of the best one-to-one match of two sets, both repeated to lcm(N, M) (Hungarian).

    Args:
        similarity: finite float ``(N, M)``, such as the IoU of all pairs.
    """
    n, m = similarity.shape
    total = math.lcm(n, m)
    if total > _LARGEST_ASSIGNMENT:
        return _transported_mean(similarity)
    repeated = np.repeat(np.repeat(similarity, total // n, axis=0), total // m, axis=1)
    return float(repeated[linear_sum_assignment(repeated, maximize=True)].mean())


def _transported_mean(similarity: np.ndarray) -> float:
    """The optimum of `matched_mean` with N · M unknowns instead of lcm(N, M)².

    How many copies of item i meet copies of item j is a transport plan with row sums lcm/N and column sums lcm/M. The
    vertices of such plans are whole numbers, so that the linear programme reaches the assignment's optimum exactly.
    """
    n, m = similarity.shape
    total = math.lcm(n, m)
    sums = sparse.vstack([sparse.kron(sparse.eye(n), np.ones((1, m))), sparse.kron(np.ones((1, n)), sparse.eye(m))])
    wanted = np.repeat([total // n, total // m], [n, m])
    result = linprog(-similarity.ravel(), A_eq=sums.tocsr(), b_eq=wanted, method="highs-ds")
    plan = np.rint(result.x) if result.success else np.full(n * m, np.nan)
    if not np.array_equal(sums @ plan, wanted):
        raise RuntimeError(f"No best match of sets of {n} and {m} was found: {result.message}")
    return float(plan @ similarity.ravel() / total)


def as_masks(masks: ArrayLike, name: str) -> np.ndarray:
    """Bool masks as an array, without a copy where possible; ``name`` is used in the error. ValueError if not bool."""
    masks = np.asarray(masks)
    if masks.dtype != bool:
        raise ValueError(
            f"{name} must be bool masks, got {masks.dtype}. "
            "Binarise them first, for example with `values > midpoint_of_the_two_levels`."
        )
    return masks


def as_mask_set(masks: ArrayLike, name: str) -> np.ndarray:
    """A set of N ≥ 1 bool masks ``(N, *spatial)`` as an array; ``name`` is used in the error.

    Raises:
        ValueError: not bool, no spatial axis, or no mask.
    """
    masks = as_masks(masks, name)
    _check_set(masks, name)
    return masks


def as_label_maps(masks: ArrayLike, classes: int, name: str) -> np.ndarray:
    """A set of N ≥ 1 label maps as uint8 ``(N, *spatial)``, without a copy: 0 background, 1 to K the classes.

    Args:
        masks: uint8, or bool for one class.
        classes: K.
        name: used in the error.

    Raises:
        ValueError: another type, no spatial axis, no mask, or a label beyond K.
    """
    masks = np.asarray(masks)
    if masks.dtype != bool and masks.dtype != np.uint8:
        raise ValueError(f"{name} must be bool masks or uint8 label maps, got {masks.dtype}. Binarise them first.")
    _check_set(masks, name)
    if masks.dtype == bool:
        return masks.view(np.uint8)
    if masks.max() > classes:
        raise ValueError(
            f"{name} hold the label {masks.max()}, but there are {classes}. Say how many classes there are."
        )
    return masks


def _check_set(masks: np.ndarray, name: str) -> None:
    if masks.ndim < 2 or masks.size == 0:
        raise ValueError(
            f"{name} must be a set of masks (N, *spatial) with N ≥ 1 and no axis of length 0, got "
            f"{tuple(masks.shape)}. A single mask needs a leading axis: mask[None]."
        )


def _count(masks: np.ndarray, ndim: int) -> np.ndarray:
    """Marked pixels of each mask, which takes up the last ``ndim`` axes: float64, exact."""
    lead = masks.shape[: masks.ndim - ndim]
    rows = masks.reshape(math.prod(lead), math.prod(masks.shape[masks.ndim - ndim :]))
    return np.array([np.count_nonzero(row) for row in rows], np.float64).reshape(lead)  # per row: many times faster

"""Overlap of binary masks: Dice, IoU, precision and recall, for one pair or for all pairs of two sets.

Every figure follows from three numbers of pixels, |A ∩ B|, |A| and |B|, so these are counted once (``Counts``) and
exactly. An empty mask is a statement that nothing is there: two empty masks agree perfectly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog

Masks = torch.Tensor | np.ndarray

_CHUNK_ELEMENTS = 2**23
"""Elements of the float32 copies held at once: 32 MiB, and fewer than 2²⁴, below which float32 counts are exact."""
_LARGEST_ASSIGNMENT = 512
"""Above this lcm(N, M) the repeated matrix of the Hungarian method is not made."""


@dataclass(frozen=True)
class Counts:
    """Numbers of pixels of pairs of masks (A, B): float64 tensors on the CPU that broadcast against each other.

    Attributes:
        intersection: |A ∩ B|, ``(N, M)`` for all pairs of two sets.
        size_a: |A|, ``(N, 1)`` for all pairs.
        size_b: |B|, ``(1, M)`` for all pairs.
        pixels: pixels of the image.
    """

    intersection: torch.Tensor
    size_a: torch.Tensor
    size_b: torch.Tensor
    pixels: int

    def dice(self) -> torch.Tensor:
        """2|A ∩ B| / (|A| + |B|) in [0, 1]; both empty: 1, one empty: 0 (CIMD Eq. 20)."""
        return self._ratio(2 * self.intersection, self.size_a + self.size_b)

    def iou(self) -> torch.Tensor:
        """|A ∩ B| / |A ∪ B| in [0, 1] (Jaccard); both empty: 1, one empty: 0."""
        return self._ratio(self.intersection, self.size_a + self.size_b - self.intersection)

    def precision(self) -> torch.Tensor:
        """TP / (TP + FP) in [0, 1] with B as the reference; both empty: 1, only A empty: 0 (DiffSeg Eq. 13)."""
        return self._ratio(self.intersection, self.size_a)

    def recall(self) -> torch.Tensor:
        """TP / (TP + FN) in [0, 1] with B as the reference; both empty: 1, only B empty: 0 (DiffSeg Eq. 13)."""
        return self._ratio(self.intersection, self.size_b)

    def difference(self) -> torch.Tensor:
        """|A △ B|: pixels that exactly one of the two masks marks."""
        return self.size_a + self.size_b - 2 * self.intersection

    def _ratio(self, numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
        both_empty = self.size_a + self.size_b == 0
        return torch.where(both_empty, 1.0, numerator / denominator.clamp(min=1))


def counts(a: Masks, b: Masks, spatial_ndim: int | None = None) -> Counts:
    """Counts of masks compared one to one.

    Args:
        a, b: bool ``(..., *spatial)``, tensor or array; the same spatial shape, leading axes that broadcast.
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
        torch.broadcast_shapes(a.shape, b.shape)
    except RuntimeError as error:
        raise ValueError(
            f"The leading axes of masks of shapes {tuple(a.shape)} and {tuple(b.shape)} do not broadcast. "
            "Give both the same leading axes, or axes of length 1."
        ) from error
    axes = tuple(range(-ndim, 0))
    return Counts(_count(a & b, axes), _count(a, axes), _count(b, axes), math.prod(a.shape[-ndim:]))


def pairwise_counts(a: Masks, b: Masks) -> Counts:
    """Counts of every mask of one set with every mask of another.

    One matrix product per chunk of pixels: memory beyond the input is bounded, and no ``(N, M, *spatial)`` is made.

    Args:
        a: bool ``(N, *spatial)``, tensor or array, N ≥ 1; no batch axis.
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
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    pixels = flat_a.shape[1]
    intersection = torch.zeros(len(a), len(b), dtype=torch.float64)
    chunk = max(1, _CHUNK_ELEMENTS // (len(a) + len(b)))
    for start in range(0, pixels, chunk):
        part_a, part_b = (flat[:, start : start + chunk].float() for flat in (flat_a, flat_b))
        intersection += (part_a @ part_b.T).to("cpu", torch.float64)
    return Counts(intersection, _count(flat_a, (1,))[:, None], _count(flat_b, (1,))[None, :], pixels)


def pairwise_dice(a: Masks, b: Masks) -> torch.Tensor:
    """Dice of all pairs: float64 ``(N, M)`` in [0, 1]; arguments as `pairwise_counts`, formula as `Counts.dice`."""
    return pairwise_counts(a, b).dice()


def pairwise_iou(a: Masks, b: Masks) -> torch.Tensor:
    """IoU of all pairs: float64 ``(N, M)`` in [0, 1]; arguments as `pairwise_counts`, formula as `Counts.iou`."""
    return pairwise_counts(a, b).iou()


def dice(a: Masks, b: Masks, spatial_ndim: int | None = None) -> torch.Tensor:
    """Dice one to one: float64 in [0, 1]; arguments as `counts`, formula as `Counts.dice`."""
    return counts(a, b, spatial_ndim).dice()


def iou(a: Masks, b: Masks, spatial_ndim: int | None = None) -> torch.Tensor:
    """IoU one to one: float64 in [0, 1]; arguments as `counts`, formula as `Counts.iou`."""
    return counts(a, b, spatial_ndim).iou()


def precision(prediction: Masks, reference: Masks, spatial_ndim: int | None = None) -> torch.Tensor:
    """Precision one to one: float64 in [0, 1]; arguments as `counts`, formula as `Counts.precision`."""
    return counts(prediction, reference, spatial_ndim).precision()


def recall(prediction: Masks, reference: Masks, spatial_ndim: int | None = None) -> torch.Tensor:
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


def as_tensor(values: torch.Tensor | np.ndarray) -> torch.Tensor:
    """An array as a tensor of its dtype, copied only where its memory is read-only, turned or not contiguous.

    Raises:
        ValueError: neither tensor nor array.
    """
    if isinstance(values, np.ndarray):
        # numpy calls an axis of length 1 contiguous whatever its stride, torch takes no negative one
        turned = any(stride < 0 for stride in values.strides)
        return torch.from_numpy(values.copy() if turned else np.require(values, requirements=["C", "W"]))
    if not isinstance(values, torch.Tensor):
        raise ValueError(f"A tensor or numpy array is needed, got {type(values).__name__}. Convert it first.")
    return values


def as_masks(masks: Masks, name: str) -> torch.Tensor:
    """Bool masks as a tensor, without a copy where possible; ``name`` is used in the error.

    Raises:
        ValueError: neither tensor nor array, or not bool.
    """
    if (isinstance(masks, np.ndarray) and masks.dtype == bool) or (
        isinstance(masks, torch.Tensor) and masks.dtype == torch.bool
    ):
        return as_tensor(masks)
    raise ValueError(
        f"{name} must be a bool tensor or array, got {getattr(masks, 'dtype', type(masks).__name__)}. "
        "Binarise it first, for example with `values > midpoint_of_the_two_levels`."
    )


def as_mask_set(masks: Masks, name: str) -> torch.Tensor:
    """A set of N ≥ 1 bool masks ``(N, *spatial)`` as a tensor; ``name`` is used in the error.

    Raises:
        ValueError: not bool, no spatial axis, or no mask.
    """
    masks = as_masks(masks, name)
    if masks.ndim < 2 or masks.numel() == 0:
        raise ValueError(
            f"{name} must be a set of masks (N, *spatial) with N ≥ 1 and no axis of length 0, got "
            f"{tuple(masks.shape)}. A single mask needs a leading axis: mask[None]."
        )
    return masks


def _count(masks: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    return masks.sum(axes, dtype=torch.int64).to("cpu", torch.float64)

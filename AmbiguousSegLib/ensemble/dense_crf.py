"""Borders that follow the image: a fully connected conditional random field over the pixels of a slice.

Krähenbühl & Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NIPS 2011; as DiffSeg
takes it (section 3.3, Eq. 8–11). The energy of a labelling x of all pixels is

    E(x) = Σ_i ψ(x_i) + Σ_{i<j} [x_i ≠ x_j] · (w1 · k1(i, j) + w2 · k2(i, j))

with ψ = −log P of what the sample says, and Potts compatibility. The appearance kernel k1 compares places and
intensities, the smoothness kernel k2 places:

    k1 = exp(−|p_i − p_j|² / 2θ_α² − |I_i − I_j|² / 2θ_β²),    k2 = exp(−|p_i − p_j|² / 2θ_γ²)

Each is normalised to k(i, j) / √(n_i · n_j), n_i = Σ_j k(i, j) with j = i among them. Mean field, all pixels at once:
Q_i(l) ∝ exp(−ψ_i(l) + Σ_m w_m Σ_{j≠i} k_m(i, j) Q_j(l)), from Q ∝ exp(−ψ) on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from AmbiguousSegLib.ensemble.refinement import EXACT, MOST_EXACT_PIXELS, DenseCRFConfig
from AmbiguousSegLib.label_maps import label_map_of

log = logging.getLogger(__name__)

RANGE_ERROR = 0.01  # that the filtered appearance kernel may have between any two pixels, before it is normalised
MOST_TERMS = 256  # of its factorisation


class DenseCRF:
    """The field of one image, for all its samples. Computed on the CPU, so that every device gives the same masks.

    The filtered form differs from the exact one in the appearance kernel alone, by at most ``RANGE_ERROR`` of 1 between
    any two pixels, unless ``MOST_TERMS`` do not reach that, which is logged with the error there is. Within it and with
    the default weights, Q differs by less than 1e-3, on average by less than 1e-4, and at most 1 pixel in 1000 gets
    another class (tested on 64 × 64 pixels). It takes a term for each of some 15 intensities of one channel; of a noisy
    colour image 100 to 200, which take as much longer, and of one whose channels are noise of all values more than
    there are (white noise of three channels: kernel 0.6, Q 0.04 off).

    Args:
        image: float ``(C, H, W)`` in [0, 1]: the channels that are a picture.
        config: of the field.

    Raises:
        ValueError: an image of another shape, with NaN or infinity, or too large for the exact form.
    """

    def __init__(self, image: Tensor, config: DenseCRFConfig) -> None:
        if image.ndim != 3 or 0 in image.shape or not torch.isfinite(image).all():
            raise ValueError(f"An image must be finite numbers (C, H, W), got shape {tuple(image.shape)}; check it.")
        self.config, self._shape = config, tuple(image.shape[1:])
        pixels = image.detach().to("cpu", torch.float64)
        self._kernels: list[_Kernel] = [_exact(pixels, config)] if config.method == EXACT else _filtered(pixels, config)
        one = torch.ones(1, *self._shape, dtype=self._kernels[0].dtype)
        self._of_all = sum((kernel.apply(one) for kernel in self._kernels), torch.zeros_like(one))

    @property
    def memory_bytes(self) -> int:
        """What the kernels take."""
        return sum(kernel.memory_bytes for kernel in self._kernels)

    def probabilities(self, masks: np.ndarray, classes: int) -> Tensor:
        """Q of every mask after ``config.iterations`` updates, each mask by itself.

        A mask's result does not depend on the others, to the last bit. A class that a mask has in no pixel gets none,
        as nobody speaks for it: an empty mask stays empty, and one that marks every pixel with one class keeps it.

        Args:
            masks: label maps, uint8 ``(B, H, W)``.
            classes: K.

        Returns:
            ``(B, K + 1, H, W)``, background first, in [0, 1], which sum to 1; float32, of the exact form float64.

        Raises:
            ValueError: masks of another type or size, or with labels beyond K.
        """
        if masks.dtype != np.uint8 or masks.ndim != 3 or masks.shape[1:] != self._shape:
            raise ValueError(f"Expected uint8 masks (B, {self._shape}), got {masks.dtype} {masks.shape}.")
        if masks.size and masks.max() > classes:
            raise ValueError(f"Masks hold the label {masks.max()}, but there are {classes}; name every class.")
        return torch.stack([self._one(torch.from_numpy(mask.astype(np.int64)), classes) for mask in masks])

    def _one(self, mask: Tensor, classes: int) -> Tensor:
        """Q of one mask ``(H, W)``: by itself, as the bits of a product of matrices depend on how many there are."""
        confidence, dtype = self.config.confidence, self._of_all.dtype
        own = torch.arange(classes + 1)[:, None, None] == mask
        says = torch.where(own, torch.tensor(confidence, dtype=dtype), (1 - confidence) / classes).log()
        there = own.flatten(1).any(1)
        q = says.softmax(0)
        for _ in range(self.config.iterations):
            told = torch.zeros_like(says)
            for kernel in self._kernels:
                told[1:] += kernel.apply(q[1:])
            told[0] = self._of_all[0] - told[1:].sum(0)  # Q sums to 1, and so what background gets is the rest
            # Exactly, a class that is not there is told of by no more than any other; factors that err could say more.
            told[~there] = told[~there].minimum(told[there].amin(0))
            q = (says + told).softmax(0)
        return q


def refined_label_maps(image: np.ndarray, masks: np.ndarray, classes: int, config: DenseCRFConfig) -> np.ndarray:
    """Masks of one image, refined: the class of largest Q in each pixel, ties to background (``label_map_of``).

    Args:
        image: float ``(C, H, W)`` in [0, 1].
        masks: label maps, uint8 ``(B, H, W)``.
        classes: K.

    Returns:
        Label maps, uint8 ``(B, H, W)``.

    Raises:
        ValueError: as ``DenseCRF`` and its ``probabilities``.
    """
    q = DenseCRF(torch.from_numpy(np.asarray(image)), config).probabilities(masks, classes)
    return np.stack([label_map_of(one) for one in q[:, 1:].float().numpy()])


class _Kernel(Protocol):
    """Weighted, normalised kernels: ``apply`` sums w · k(i, j) · x_j over all pixels j but i."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def memory_bytes(self) -> int: ...

    def apply(self, x: Tensor) -> Tensor:
        """Of ``(L, H, W)``, the same shape."""


@dataclass(frozen=True)
class _Pairs:
    """Both kernels as one matrix of all pairs, float64 ``(H·W, H·W)`` with zeros on the diagonal."""

    matrix: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.matrix.dtype

    @property
    def memory_bytes(self) -> int:
        return self.matrix.nelement() * self.matrix.element_size()

    def apply(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix).reshape(x.shape)


@dataclass(frozen=True)
class _Separable:
    """A kernel w · Σ_r f_r(i) · g(i, j) · f_r(j), with g a Gaussian of space: along rows, then along columns.

    Attributes:
        factors: f, float32 ``(R, H, W)``, with normalisation and weight in it.
        rows, columns: the Gaussian of all pairs of rows ``(H, H)`` and columns ``(W, W)``: nothing is cut off.
        own: the kernel of a pixel with itself, ``(H, W)``, which is left out.
    """

    factors: Tensor
    rows: Tensor
    columns: Tensor
    own: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.factors.dtype

    @property
    def memory_bytes(self) -> int:
        return sum(t.nelement() * t.element_size() for t in (self.factors, self.rows, self.columns, self.own))

    def apply(self, x: Tensor) -> Tensor:
        blurred = _blurred(self.factors[:, None] * x, self.rows, self.columns)
        return (self.factors[:, None] * blurred).sum(0) - self.own * x


def _blurred(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return rows @ (x @ columns)


def _gaussian(count: int, width: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """exp(−(a − b)² / 2·width²) of all pairs of 0 to ``count`` − 1."""
    place = torch.arange(count, dtype=torch.float64)
    return (-((place[:, None] - place) ** 2) / (2 * width**2)).exp().to(dtype)


def _exact(image: Tensor, config: DenseCRFConfig) -> _Pairs:
    height, width = image.shape[1:]
    if height * width > MOST_EXACT_PIXELS:
        raise ValueError(
            f"The exact form takes at most {MOST_EXACT_PIXELS} pixels, got {height} × {width}; take method=filtered."
        )

    matrix = torch.zeros(height * width, height * width, dtype=torch.float64)
    for weight, theta, seen in ((config.w1, config.theta_alpha, image), (config.w2, config.theta_gamma, image[:0])):
        kernel = torch.kron(_gaussian(height, theta), _gaussian(width, theta))
        for channel in seen.flatten(1):
            kernel *= channel.sub(channel[:, None]).div_(config.theta_beta).square_().mul_(-0.5).exp_()
        root = kernel.sum(1).rsqrt()
        matrix += kernel.mul_(root).mul_(weight * root[:, None])
    return _Pairs(matrix.fill_diagonal_(0))


def _filtered(image: Tensor, config: DenseCRFConfig) -> list[_Kernel]:
    height, width = image.shape[1:]
    factors = torch.from_numpy(_range_factors(image.flatten(1).T.numpy(), config.theta_beta))
    kernels: list[_Kernel] = []
    for weight, theta, of_range in (
        (config.w1, config.theta_alpha, factors.reshape(-1, height, width)),
        (config.w2, config.theta_gamma, torch.ones(1, height, width, dtype=torch.float64)),
    ):
        rows, columns = _gaussian(height, theta), _gaussian(width, theta)
        sums = (of_range * _blurred(of_range, rows, columns)).sum(0).clamp_(min=1)  # a pixel alone has itself
        scaled = weight**0.5 * of_range * sums.rsqrt()
        own = scaled.square().sum(0)
        kernels.append(_Separable(*(t.float().contiguous() for t in (scaled, rows, columns, own))))
    return kernels


def _range_factors(intensity: np.ndarray, theta: float) -> np.ndarray:
    """f with Σ_r f_r(i) · f_r(j) = exp(−|I_i − I_j|² / 2·theta²), up to ``RANGE_ERROR``: float64 ``(R, N)``.

    Pivoted Cholesky factorisation (Fine & Scheinberg, JMLR 2001): each term makes the pixel exact that was worst so
    far. What is left, k − Σ f·f, is positive semidefinite, and so nowhere larger than on its diagonal, which is known.

    Args:
        intensity: float64 ``(N, C)``.
    """
    left = np.ones(len(intensity))
    factors = np.empty((MOST_TERMS, len(intensity)))
    terms = 0
    while left[worst := int(left.argmax())] > RANGE_ERROR:
        if terms == MOST_TERMS:
            log.warning(
                "The appearance kernel of this image is off by up to %.2g with %d terms; a larger theta_beta is exact.",
                left[worst],
                MOST_TERMS,
            )
            break
        kernel = np.exp(-np.square(intensity - intensity[worst]).sum(1) / (2 * theta**2))
        factors[terms] = (kernel - factors[:terms, worst] @ factors[:terms]) / left[worst] ** 0.5
        left = np.maximum(left - factors[terms] ** 2, 0)
        left[worst] = 0
        terms += 1
    return factors[:terms]

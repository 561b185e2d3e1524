"""The generalized energy distance as a loss: what samples are judged by is, nearly, what they are trained on.

GED² = 2 E d(S, Y) − E d(S, S') − E d(Y, Y') (CIMD Eq. 24) is a proper score where 1 − d is a positive definite kernel,
as the IoU of sets is: of all distributions of S, that of the raters has the least. The third term is not the model's.
Masks that are differentiable take the place of S, and the form below, which has such a kernel too, that of d; of a grey
mask to itself it is not 0, so that grey pixels count as spread, which the cut at one half removes. Scoring rules as
losses of generators: Gritsenko et al., NeurIPS 2020; of the steps of a diffusion: De Bortoli et al., ICML 2025.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EMPTY = 1.0  # a pixel that both masks are taken to share: two empty masks are alike


def soft_distances(a: Tensor, b: Tensor) -> Tensor:
    """1 − (Σ min + 1) / (Σ max + 1) of all pairs, in the form Σ ab and Σ (a + b − ab): ``(B, N, M)`` in [0, 1).

    Of masks of zeros and ones it is 1 − IoU with one more pixel in both sums, so that it is defined, and has a slope,
    where both are empty; of several classes it is the mean.

    Args:
        a, b: float ``(B, N, K, H, W)`` and ``(B, M, K, H, W)`` in [0, 1].
    """
    a, b = a.flatten(3).transpose(1, 2), b.flatten(3).transpose(1, 2)  # (B, K, N, pixels)
    shared = a @ b.transpose(2, 3)
    either = a.sum(3)[..., None] + b.sum(3)[:, :, None] - shared
    return (1 - (shared + _EMPTY) / (either + _EMPTY)).mean(1)


def energy(samples: Tensor, raters: Tensor, pairs: Tensor, strict: bool = False) -> Tensor:
    """2 E d(S, Y) − E d(S, S') of each row: ``(B,)``.

    Args:
        samples: masks S, float ``(B, N, K, H, W)`` in [0, 1].
        raters: masks Y, float ``(B, M, K, H, W)`` in [0, 1].
        pairs: bool ``(N, N)``, which pairs of samples were drawn independently and make E d(S, S').
        strict: leave E d(S, S') out of rows in which no rater marks anything. A share q of samples that mark something
            there, each another thing, costs 2q − E d(S, S') = q², which has no slope at 0; without the second term 2q.
            This is no proper score: where raters mark one thing with chance p, and all raters of a row are empty with
            chance e, the best share is ½ − (½ − p)/(1 − e), in [0, 1]: pushed away from one half.
    """
    with torch.autocast(samples.device.type, enabled=False):  # sums of thousands of pixels
        samples, raters = samples.float(), raters.float()
        cross, within = soft_distances(samples, raters), soft_distances(samples, samples)
        spread = within[:, pairs].mean(1)
        return 2 * cross.mean((1, 2)) - (spread * raters.flatten(1).any(1) if strict else spread)


def independent_pairs(draws: int) -> Tensor:
    """Pairs of a set of draws whose second half mirrors its first, without draws and themselves or their mirror images:
    bool ``(draws, draws)``."""
    number = torch.arange(draws) % (draws // 2)
    return number[:, None] != number

"""A share of samples turned into a frequency among readers by a rising curve of two parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

_STEPS, _HALVINGS, _SMALLEST = 100, 40, 1e-12


@dataclass(frozen=True)
class Logistic:
    """Frequency of something that k of N samples say: sigmoid(offset + slope · logit((k + ½)/(N + 1))).

    Platt's scaling (1999) of the share, which the ½ keeps off 0 and 1 (the mean of the beta distribution under
    Jeffreys' prior). Offset 0 and slope 1 change nothing but that.

    Raises:
        ValueError: a slope below 0, which would turn the order round, or a number that is not finite.
    """

    offset: float = 0.0
    slope: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.offset) and math.isfinite(self.slope) and self.slope >= 0):
            raise ValueError(
                f"A rising curve has a finite offset and a slope of 0 or more, got {self.offset} and {self.slope}; "
                "calibrate again."
            )

    def frequency(self, counts: ArrayLike, samples: int) -> np.ndarray:
        """Float64 in (0, 1), of the shape of ``counts``: whole numbers from 0 to ``samples``, N ≥ 1."""
        return expit(self.offset + self.slope * logit_of_share(counts, samples))


def logit_of_share(counts: ArrayLike, samples: int) -> np.ndarray:
    """logit((k + ½)/(N + 1)): float64, of the shape of ``counts``."""
    return logit((np.asarray(counts, float) + 0.5) / (samples + 1))


def fit_logistic(counts: ArrayLike, samples: int, said: ArrayLike, asked: ArrayLike) -> Logistic:
    """The curve of greatest likelihood, with the weak prior that it changes nothing.

    It minimises −Σ [y·log p + (m − y)·log(1 − p)] + ½·offset² + ½·(slope − 1)² over slopes of 0 or more. The last two
    terms are a normal prior of standard deviation 1 about the curve that changes nothing: the sum is strictly convex,
    so the optimum exists, is one, and without a case is that curve. Without them it is at infinity wherever no reader,
    or every reader, says so.

    Args:
        counts: whole numbers ``(n,)``, of the N samples that say so.
        samples: N.
        said, asked: y and m, float ``(n,)``: how many readers say so, of how many. Weights may make them fractions.

    Raises:
        ValueError: numbers that cannot be such.
    """
    x, y, m = logit_of_share(counts, samples), np.asarray(said, float), np.asarray(asked, float)
    if not (x.shape == y.shape == m.shape and x.ndim == 1 and np.isfinite(x).all() and np.all((y >= 0) & (y <= m))):
        raise ValueError(
            f"Expected as many counts within the {samples} samples as readers who say so of readers asked, got shapes "
            f"{x.shape}, {y.shape} and {m.shape}; give y and m with 0 ≤ y ≤ m for each."
        )
    found = _minimum(x, y, m)
    if found[1] < 0:  # convex: the best slope of those allowed is the nearest one
        found = _minimum(np.zeros_like(x), y, m)  # the prior alone would move the slope, to 1
        return Logistic(float(found[0]), 0.0)
    return Logistic(float(found[0]), float(found[1]))


def _minimum(x: np.ndarray, y: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Newton's method with halved steps: offset and slope."""
    columns, prior = np.stack([np.ones_like(x), x]), np.array([0.0, 1.0])
    at = prior

    def loss(point: np.ndarray) -> float:
        z = point @ columns
        return float(np.sum(m * np.logaddexp(0, z) - y * z) + np.square(point - prior).sum() / 2)

    for _ in range(_STEPS):
        p = expit(at @ columns)
        gradient = columns @ (m * p - y) + (at - prior)
        step = np.linalg.solve((columns * (m * p * (1 - p))) @ columns.T + np.eye(2), gradient)
        length = 1.0
        for _ in range(_HALVINGS):
            if loss(at - length * step) <= loss(at):
                break
            length /= 2
        at = at - length * step
        if np.abs(length * step).max() < _SMALLEST:
            break
    return at

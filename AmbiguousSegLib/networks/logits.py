"""Logits of K classes beside a background whose logit is 0: their probabilities and their cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def softmax(logits: Tensor) -> Tensor:
    """Probabilities of K classes beside a background of logit 0: ``(B, K, H, W)``, summing to 1 with background's.

    "Anything at all" has the logit log Σ exp: its sigmoid is divided among the classes. One class is all there is.
    """
    if logits.shape[1] == 1:
        return torch.sigmoid(logits)
    return torch.sigmoid(logits.logsumexp(1, keepdim=True)) * logits.softmax(1)


def softmax_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """−(1 − Σ y)·log p₀ − Σ y·log p of ``softmax``, per pixel: ``(B, 1, H, W)`` in nats.

    As "anything at all, or not" and then "which of the classes", neither of which loses digits: no difference of large
    logarithms is taken, and with one class, which leaves no choice, it is the binary cross-entropy.

    Args:
        logits: float ``(B, K, H, W)``.
        target: the same shape, in [0, 1], with a sum over the classes of at most 1: y.
    """
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    anything = logits.logsumexp(1, keepdim=True)
    first = F.binary_cross_entropy_with_logits(anything, target.sum(1, keepdim=True), reduction="none")
    return first + (target * (anything - logits)).sum(1, keepdim=True)

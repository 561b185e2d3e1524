"""Probabilities and cross-entropy of logits beside a background of logit 0, against torch's own softmax."""

from __future__ import annotations

import pytest
import torch
from make_expected import normal
from torch.nn import functional as F

from AmbiguousSegLib.networks.logits import softmax, softmax_cross_entropy


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_cross_entropy_and_probabilities_are_those_of_a_softmax_with_background(classes, scale):
    """Of logits (0, l): torch's own, with soft targets as the mean over raters gives them."""
    logits = (scale * normal(0, 3, classes, 8, 8).double()).requires_grad_()
    target = torch.softmax(normal(1, 3, classes + 1, 8, 8).double(), dim=1)
    whole = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    expected = F.cross_entropy(whole, target, reduction="none")
    got = softmax_cross_entropy(logits, target[:, 1:])[:, 0]
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(softmax(logits), whole.softmax(1)[:, 1:], rtol=1e-12, atol=1e-15)
    gradients = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_one_class_is_the_binary_cross_entropy_bit_for_bit():
    """Value and gradient, for logits that would overflow an exponential too."""
    logits = torch.tensor([-2000.0, -90, -20, -1e-3, 0, 3, 17, 88, 3000]).reshape(1, 1, 1, -1).requires_grad_()
    for y in (0.0, 0.25, 1.0):
        target = torch.full_like(logits, y)
        got = softmax_cross_entropy(logits, target)
        expected = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        assert torch.equal(got, expected) and torch.isfinite(got).all()
        gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (got, expected)]
        assert torch.equal(*gradients)
    assert torch.equal(softmax(logits), torch.sigmoid(logits))

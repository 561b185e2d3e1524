"""Flow matching: what its loss makes of a small set of masks, where it starts, and what trains what."""

from __future__ import annotations

import itertools

import pytest
import torch
from tiny_models import randomised
from tiny_training import METHODS as CONFIGURATIONS

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import Batch, build_method, method_config
from AmbiguousSegLib.networks.logits import softmax

ROWS = [(0, 0), (1, 0), (2, 0)]
MASKS = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]).reshape(3, 1, 1, 2)  # of two pixels
SHARES = torch.tensor([0.5, 0.3, 0.2])


def method(start: str = "normal", prediction: str = "x1", classes: int = 1, **changes):
    config = {
        **CONFIGURATIONS["flow_matching"],
        "start": start,
        "prediction": prediction,
        "classes": classes,
        **changes,
    }
    return randomised(build_method("flow_matching", config))


@pytest.mark.parametrize("prediction", ["x1", "velocity"])
@pytest.mark.parametrize(("t", "place"), list(itertools.product((0.1, 0.6, 0.9), ((0.3, -0.2), (-0.5, 0.6)))))
def test_the_loss_is_least_at_the_conditional_expectation(prediction, t, place):
    """Two pixels and three masks: E[x_1 | x_t], by Bayes' rule over all masks, each with the start that leads there.

    The gradient of the loss, with each mask as probable as it is given x_t, vanishes there, and nowhere else.
    """
    flow, x_t = method(prediction=prediction), torch.tensor(place).reshape(1, 1, 1, 2)
    starts = (x_t - t * MASKS) / (1 - t)
    weights = SHARES * torch.exp(-0.5 * (starts**2).sum((1, 2, 3)))
    weights = weights / weights.sum()
    mean = (weights[:, None, None, None] * MASKS).sum(0, keepdim=True)
    expected = mean if prediction == "x1" else (mean - x_t) / (1 - t)
    said = expected.clone().requires_grad_()
    flow.unet.forward = lambda x, time: said.expand(3, -1, -1, -1)
    loss = (weights * flow.losses(torch.zeros(3, 1, 1, 2), starts, MASKS, torch.full((3,), t))).sum()
    (gradient,) = torch.autograd.grad(loss, said)
    assert float(gradient.abs().max()) < 1e-5
    # And a sampler follows that expectation: the velocity is the same, whatever is predicted.
    flow.unet.forward = lambda x, time: expected
    torch.testing.assert_close(flow.velocity(torch.zeros(1, 1, 1, 2), x_t, torch.tensor([t])), (mean - x_t) / (1 - t))


def test_the_network_sees_image_state_and_time():
    flow, seen = method(classes=2), []
    flow.unet.forward = lambda x, time: seen.append((x, time)) or x[:, 1:]
    image, noise = torch.rand(3, 1, 4, 4), RowNoise(2, ROWS)
    mask = torch.eye(3)[torch.randint(0, 3, (3, 4, 4))].movedim(-1, 1)[:, 1:]
    loss = flow.training_loss(Batch(image, mask), noise)["loss"]
    t, x0 = noise.uniform(0), noise.normal(1, (2, 4, 4))
    x_t = torch.lerp(x0, 2 * mask - 1, t.reshape(-1, 1, 1, 1))
    ((input_, time),) = seen
    torch.testing.assert_close(input_, torch.cat([image, x_t], dim=1))
    torch.testing.assert_close(time, 1000 * t)
    torch.testing.assert_close(loss, ((x_t - (2 * mask - 1)) ** 2).mean())


@pytest.mark.parametrize("classes", [1, 2])
def test_a_flow_from_an_ssn_starts_at_its_draw(classes):
    """After ``truncation``, the rest is noise; the draws are those of the SSN by itself, one number later."""
    image, noise = torch.rand(3, 1, 16, 16), RowNoise(4, ROWS)
    for truncation in (1.0, 0.7):
        flow = method("ssn", classes=classes, truncation=truncation)
        drawn = flow.ssn.prepare(image)
        got = flow.start(drawn, noise, 0, torch.zeros(3, classes, 16, 16))
        chosen = 2 * softmax(flow.ssn.draw(flow.ssn.logits(image), noise, 1)) - 1
        expected = truncation * chosen + (1 - truncation) * noise.normal(0, (classes, 16, 16))
        torch.testing.assert_close(got, expected)
        flow.unet.forward = lambda x, time: torch.zeros_like(x[:, 1:])  # so that one step of Euler's goes to 0
        flow.config.__dict__["prediction"] = "velocity"  # … and one of no velocity stays
        end = flow.sample(flow.prepare(image), noise, SamplerSettings("euler", 1))
        torch.testing.assert_close(end, (got + 1) / 2)


def test_the_flow_does_not_train_the_ssn_nor_the_ssn_the_flow():
    flow = method("ssn").requires_grad_(True)
    batch, noise = Batch(torch.rand(3, 1, 16, 16), (torch.rand(3, 1, 16, 16) > 0.5).float()), RowNoise(6, ROWS)
    terms = flow.training_loss(batch, noise)
    torch.testing.assert_close(terms["loss"], terms["flow"] + terms["ssn"])
    torch.testing.assert_close(terms["ssn"], flow.ssn.training_loss(batch, noise)["loss"] / 256)
    of_ssn, of_flow = list(flow.ssn.parameters()), list(flow.unet.parameters())
    assert all(g is None for g in torch.autograd.grad(terms["flow"], of_ssn, retain_graph=True, allow_unused=True))
    assert all(g is None for g in torch.autograd.grad(terms["ssn"], of_flow, retain_graph=True, allow_unused=True))
    assert any(float(g.abs().max()) > 0 for g in torch.autograd.grad(terms["flow"], of_flow))


@pytest.mark.parametrize("start", ["normal", "ssn"])
def test_a_sample_does_not_depend_on_its_batch(start):
    flow, image = method(start), torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    settings = SamplerSettings("midpoint", 5)
    together = flow.sample(flow.prepare(image), RowNoise(9, ROWS), settings)
    for i in range(3):
        alone = flow.sample(flow.prepare(image[i : i + 1]), RowNoise(9, [ROWS[i]]), settings)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)
    assert float((together[0] - together[1]).abs().max()) > 0.01


def test_a_sampler_of_a_diffusion_is_refused():
    flow = method()
    with pytest.raises(ValueError, match="ddpm is of the family gaussian, .* choose euler or midpoint or heun"):
        flow.sample((torch.zeros(1, 1, 16, 16),), RowNoise(0, [(0, 0)]), SamplerSettings("ddpm", 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction": "epsilon"}, "prediction must be one of x1, velocity, got 'epsilon'"),
        ({"start": "mean"}, "start must be one of normal, ssn, got 'mean'"),
        ({"truncation": 0.0}, r"truncation in \(0, 1\], got 1, 1 and 0.0"),
        ({"image_channels": 0}, "image_channels ≥ 1, .* got 0, 1 and 1.0"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        method_config("flow_matching", changes)

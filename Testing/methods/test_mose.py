"""The mixture of stochastic experts: its plan against a linear program, its loss and draws written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from make_expected import image_and_mask, normal, seeded
from scipy.optimize import linprog
from tiny_models import check_batches

from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods.base import Batch
from AmbiguousSegLib.methods.mose import MoSE, MoSEConfig, soft_iou_costs, transport_plans
from AmbiguousSegLib.networks.conv_unet import ConvUNetConfig

ROWS = [(0, 0), (0, 1), (1, 0), (5, 2)]
ANY = SamplerSettings()
EXPERTS, EACH = 3, 2


def method(classes: int = 1, shares: int = 2) -> MoSE:
    unet = ConvUNetConfig(filters=(6, 8), convolutions=1)
    net = seeded(MoSE(MoSEConfig(1, unet, EXPERTS, 2, EACH, 2, shares, 0.5, classes)), 5).double()
    net.codes.log_sigma.data.fill_(-1.0)
    return net


def image_and_raters(classes: int, raters: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An image, and masks moved from rater to rater."""
    image, mask = (t.double() for t in image_and_mask(16))
    both = torch.cat([mask, (1 - mask) * mask.roll(5, -1)], dim=1)[:, :classes]
    return image, torch.stack([both.roll(2 * i, -2) for i in range(raters)], dim=1)


@pytest.mark.parametrize("raters", [1, 3, 4])
@pytest.mark.parametrize("shares", [1, 2, 3, 5])
def test_plan_is_the_linear_programs(raters, shares):
    costs = torch.from_numpy(np.random.default_rng(raters).random((3, 6, raters)))
    plans = transport_plans(costs, shares)
    torch.testing.assert_close(plans.sum(1), torch.full((3, raters), 1 / raters, dtype=torch.float64))
    assert plans.min() >= 0 and plans.sum(2).max() <= 1 / shares + 1e-12
    for cost, plan in zip(costs.numpy(), plans.numpy()):
        columns = np.kron(np.ones(6), np.eye(raters))
        rows = np.kron(np.eye(6), np.ones(raters))
        least = linprog(cost.ravel(), rows, np.full(6, 1 / shares), columns, np.full(raters, 1 / raters)).fun
        assert (plan * cost).sum() == pytest.approx(least, abs=1e-9)


def test_without_a_share_each_rater_goes_to_its_nearest_mask():
    costs = torch.tensor([[[0.1, 0.9, 0.2], [0.5, 0.3, 0.4]]])
    third = 1 / 3
    torch.testing.assert_close(transport_plans(costs, 1), torch.tensor([[[third, 0, third], [0, third, 0]]]))


def test_costs_are_one_minus_the_soft_iou():
    values, raters = normal(0, 2, 5, 2, 4, 3).double().sigmoid(), (normal(1, 2, 3, 2, 4, 3) > 0).double()
    got = soft_iou_costs(values, raters)
    for b, n, m in np.ndindex(2, 5, 3):
        costs = []
        for k in range(2):
            v, y = values[b, n, k], raters[b, m, k]
            costs.append(1 - ((v * y).sum() + 1) / ((v + y - v * y).sum() + 1))
        assert got[b, n, m].item() == pytest.approx(np.mean(costs), rel=1e-12)
    empty, full = torch.zeros(1, 1, 1, 2, 2), torch.ones(1, 1, 1, 2, 2)
    assert soft_iou_costs(empty, empty).item() == soft_iou_costs(full, full).item() == 0
    assert soft_iou_costs(full, empty).item() == pytest.approx(1 - 1 / 5)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("raters", [1, 4])
def test_loss_is_transport_and_the_gates_divergence(classes, raters):
    net, (image, masks) = method(classes), image_and_raters(classes, raters)
    noise = RowNoise(3, ROWS, TRAINING, dtype=torch.float64)
    levels = net.unet.encode(image)
    gate, features = net.gate(levels[-1]).double().exp(), net.unet.decode(levels)
    epsilon, sigma, values, weights = noise.normal(0, (EXPERTS * EACH, 2)), net.codes.log_sigma.exp(), [], []
    for expert in range(EXPERTS):
        for i in range(EACH):
            code = net.codes.mean[expert] + sigma[expert] * epsilon[:, expert * EACH + i]
            logits = net.inject(features, code[:, None])[:, 0].double()
            values.append(torch.cat([torch.zeros_like(logits[:, :1]), logits], 1).softmax(1)[:, 1:])
            weights.append(gate[:, expert] / EACH)
    costs, weight = soft_iou_costs(torch.stack(values, 1), masks), torch.stack(weights, 1)
    plan = transport_plans(costs, 2)
    given = plan.sum(2)
    divergence = (torch.xlogy(given, given) - given * weight.log()).mean()
    batch = Batch(image, masks[:, 0], masks if raters > 1 else None)
    got = net.training_loss(batch, noise)
    assert got["transport"].item() == pytest.approx((plan * costs).sum((1, 2)).mean().item(), rel=1e-5)
    assert got["gate"].item() == pytest.approx(0.5 * divergence.item(), rel=1e-5)
    assert got["loss"].item() == pytest.approx(got["transport"].item() + got["gate"].item())
    got["loss"].backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().max() > 0 for p in net.parameters())


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 2])
def test_a_mask_is_of_an_expert_by_the_gate_and_a_code_of_its_own(classes):
    net, (image, _) = method(classes), image_and_raters(classes, 1)
    noise, progress = RowNoise(4, ROWS, dtype=torch.float64), []
    gate, features = net.prepare(image)
    uniform, epsilon, chosen = noise.uniform(0), noise.normal(1, (2,)), set()
    got = net.sample((gate, features), noise, ANY, lambda *step: progress.append(step))
    for row in range(4):
        expert = int(np.searchsorted(np.cumsum(gate[row].numpy()), uniform[row].item(), side="right"))
        code = net.codes.mean[expert] + net.codes.log_sigma[expert].exp() * epsilon[row]
        logits = net.inject(features[row, None], code[None, None])[0, 0].double()
        expected = torch.cat([torch.zeros_like(logits[:1]), logits]).softmax(0)[1:]
        torch.testing.assert_close(got[row].double(), expected, rtol=1e-5, atol=1e-6)
        chosen.add(expert)
    assert progress == [(1, 1)] and not net.samples_by_steps and len(chosen) > 1


@torch.no_grad()
def test_features_do_not_grow_with_the_weights():
    """Else logits drift by thousands until all masks are empty, where the soft IoU has no gradient."""
    unet, image = MoSE(MoSEConfig()).unet, normal(6, 1, 1, 32, 32)
    before = unet(image)
    for layer in unet.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.mul_(100)
            layer.bias.mul_(100)
    torch.testing.assert_close(unet(image), before, rtol=0, atol=1e-3)
    assert before.amax() > 0.5


def test_samples_do_not_depend_on_their_batch_and_the_network_runs_once_a_slice():
    net = method().float()
    check_batches(net, image_and_mask(16)[0], net.gate)


def test_gate_learns_how_often_each_of_two_masks_is_drawn():
    """One rater an item, of whom three of four mark the whole image and one nothing: the gate ends at 3/4 and 1/4."""
    config = MoSEConfig(1, ConvUNetConfig(filters=(4, 4), convolutions=1), 2, 1, 1, 1, 1, 1.0)
    net = seeded(MoSE(config), 1)
    with torch.no_grad():  # expert 0 marks nothing, expert 1 everything
        net.codes.mean.copy_(torch.tensor([[0.0], [1.0]]))
        net.codes.log_sigma.fill_(-9)
        net.inject.shift.weight.zero_()
        net.inject.scale.weight.fill_(1.0)
        net.inject.scale.bias.zero_()
        net.inject.shift.bias.fill_(50.0)
        net.inject.first.weight.fill_(0.1)
        net.inject.first.bias.fill_(-8.0)
    optimizer = torch.optim.Adam(net.gate.parameters(), lr=0.1)
    image = normal(0, 1, 1, 4, 4).expand(8, -1, -1, -1)
    mask = torch.ones(8, 1, 4, 4)
    mask[::4] = 0
    for step in range(40):
        optimizer.zero_grad()
        net(Batch(image, mask), RowNoise(0, [(step, i) for i in range(8)], TRAINING))["loss"].backward()
        optimizer.step()
    assert net.prepare(image)[0][0].tolist() == pytest.approx([0.25, 0.75], abs=0.02)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        *(
            ({name: 0}, f"{name} must be 1 or more, got 0")
            for name in ("image_channels", "experts", "shares", "classes")
        ),
        *(({name: 0}, f"{name} must be 1 or more, got 0") for name in ("latent_dim", "expert_samples")),
        ({"gate_weight": -1.0}, "gate_weight must be 0 or more, got -1.0"),
        ({"shares": 17}, "at most experts × expert_samples, 16, .*got 17"),
        ({"experts": 10**6}, "at most 65,536"),
    ],
)
def test_config_errors(changes, named):
    with pytest.raises(ValueError, match=named):
        MoSEConfig(**changes)

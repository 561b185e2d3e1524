"""CCDM: its loss from its parts, what it draws of soft masks, and that a sample does not depend on its batch."""

from __future__ import annotations

import pytest
import torch
from tiny_models import randomised
from tiny_training import METHODS as CONFIGURATIONS

from AmbiguousSegLib.diffusion.categorical import divergence, marginal, one_hot
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import Batch, build_method, method_config

ROWS = [(0, 0), (1, 0), (2, 0)]


def method(classes: int = 1, **changes):
    return randomised(build_method("ccdm", {**CONFIGURATIONS["ccdm"], "classes": classes, **changes}))


def masks(classes: int) -> torch.Tensor:
    labels = torch.randint(0, classes + 1, (3, 16, 16), generator=torch.Generator().manual_seed(0))
    return one_hot(labels, classes + 1)[:, 1:]


@pytest.mark.parametrize("classes", [1, 2])
def test_the_loss_is_the_divergence_at_a_drawn_step_of_a_drawn_state(classes):
    """With the input put together here: image, then background, then the classes."""
    ccdm, image, mask, noise = method(classes), torch.rand(3, 1, 16, 16), masks(classes), RowNoise(5, ROWS)
    got = ccdm.training_loss(Batch(image, mask), noise)["loss"]
    x0 = torch.cat([1 - mask.sum(1, keepdim=True), mask], dim=1)
    index = (noise.uniform(0) * 50).long()
    x_t = one_hot(noise.categorical(1, marginal(ccdm.schedule, x0, index)), classes + 1)
    log_x0 = torch.log_softmax(ccdm.unet(torch.cat([image, x_t], dim=1), index), dim=1)
    torch.testing.assert_close(got, divergence(ccdm.schedule, x0, x_t, log_x0, index).mean())


def test_each_pixel_of_a_soft_mask_is_drawn_by_itself():
    """Where the network says the truth, the loss of a soft mask is that of labels drawn with its probabilities."""
    ccdm, seen = method(2), []
    ccdm.losses = lambda image, x0, x_t, index: seen.append(x0) or x0.sum(1)
    soft = torch.tensor([0.2, 0.5]).reshape(1, 2, 1, 1).expand(3, -1, 64, 64)
    ccdm.training_loss(Batch(torch.zeros(3, 1, 64, 64), soft), RowNoise(1, ROWS))
    (x0,) = seen
    assert set(x0.unique().tolist()) == {0.0, 1.0} and (x0.sum(1) == 1).all()
    torch.testing.assert_close(x0.mean((0, 2, 3)), torch.tensor([0.3, 0.2, 0.5]), atol=0.02, rtol=0)
    assert abs(float((x0[0, 2] * x0[1, 2]).mean()) - 0.25) < 0.02  # of one row independent of the other


@pytest.mark.parametrize("classes", [1, 2])
def test_a_sample_does_not_depend_on_its_batch(classes):
    ccdm, image = method(classes), torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    settings = SamplerSettings("categorical", 4)
    together = ccdm.sample((image,), RowNoise(9, ROWS), settings)
    alone = torch.cat([ccdm.sample((image[i : i + 1],), RowNoise(9, [ROWS[i]]), settings) for i in range(3)])
    assert torch.equal(together, alone) and set(together.unique().tolist()) == {0.0, 1.0}
    assert (together.sum(1) <= 1).all() and not torch.equal(together[0], together[1])


def test_the_network_is_told_the_step_of_the_full_schedule():
    ccdm, told = method(), []
    unet = ccdm.unet.forward
    ccdm.unet.forward = lambda x, t: told.append(int(t[0])) or unet(x, t)
    ccdm.sample((torch.zeros(1, 1, 16, 16),), RowNoise(0, [(0, 0)]), SamplerSettings("categorical", 5))
    assert told == [49, 39, 29, 19, 9]


def test_a_gaussian_sampler_is_refused():
    with pytest.raises(ValueError, match="ddim is of the family gaussian, but the method .* categorical; choose categ"):
        method().sample((torch.zeros(1, 1, 16, 16),), RowNoise(0, [(0, 0)]), SamplerSettings("ddim", 2))


def test_settings_out_of_range():
    assert method_config("ccdm", {}).schedule.steps == 250  # of the paper
    with pytest.raises(ValueError, match="image_channels ≥ 1 and classes ≥ 1, got 0 and 1"):
        method_config("ccdm", {"image_channels": 0})

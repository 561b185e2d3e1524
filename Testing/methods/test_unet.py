"""The deterministic U-Net: its loss against torch's own, and that its samples are one mask, from one pass."""

from __future__ import annotations

import pytest
import torch
from make_expected import image_and_mask, seeded
from tiny_models import check_batches
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.noise import TRAINING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.label_maps import label_map_of
from AmbiguousSegLib.methods.base import Batch
from AmbiguousSegLib.methods.unet import DeterministicUNet, DeterministicUNetConfig
from AmbiguousSegLib.networks.block_unet import BLOCKS, BlockUNetConfig

ROWS = [(0, 0), (0, 1), (1, 0), (5, 2)]
ANY = SamplerSettings()


def method(classes: int = 1, **changes) -> DeterministicUNet:
    unet = BlockUNetConfig(filters=(4, 6), convolutions=1, growth=4, norm_groups=2, **changes)
    return seeded(DeterministicUNet(DeterministicUNetConfig(1, unet, classes)), 5).double()


def image_and_masks(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = (t.double() for t in image_and_mask(16))
    return image, torch.cat([mask, (1 - mask) * mask.roll(5, -1)], dim=1)[:, :classes]


@pytest.mark.parametrize("classes", [1, 2])
def test_loss_is_the_mean_cross_entropy_and_reaches_every_weight(classes):
    net, (image, mask) = method(classes), image_and_masks(classes)
    label = (mask * torch.arange(1, classes + 1)[:, None, None]).sum(1).long()
    expected = F.cross_entropy(F.pad(net.logits(image), (0, 0, 0, 0, 1, 0)), label)
    got = net.training_loss(Batch(image, mask), RowNoise(3, ROWS, TRAINING))
    assert set(got) == {"loss"} and got["loss"].item() == pytest.approx(expected.item(), rel=1e-10)
    got["loss"].backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().max() > 0 for p in net.parameters())


def test_of_raters_the_loss_of_their_mean_is_the_mean_of_their_losses():
    net, (image, mask) = method(), image_and_masks(1)
    raters, noise = [mask, mask.roll(2, -1), torch.zeros_like(mask)], RowNoise(3, ROWS, TRAINING)
    each = [net.training_loss(Batch(image, rater), noise)["loss"] for rater in raters]
    mean = net.training_loss(Batch(image, torch.stack(raters).mean(0)), noise)["loss"]
    torch.testing.assert_close(mean, torch.stack(each).mean(), rtol=1e-10, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 2])
def test_all_samples_are_the_classes_of_the_largest_logits(classes):
    net, (image, _) = method(classes), image_and_masks(classes)
    prepared, progress = net.prepare(image), []
    got = net.sample(prepared, RowNoise(4, ROWS), ANY, lambda *step: progress.append(step))
    whole = F.pad(net.logits(image), (0, 0, 0, 0, 1, 0))
    torch.testing.assert_close(got, whole.softmax(1)[:, 1:], rtol=1e-10, atol=1e-12)
    assert progress == [(1, 1)] and not net.samples_by_steps and net.deterministic and net.own_map_names == ()
    for values, row in zip(got.numpy(), whole):
        assert (label_map_of(values) == row.argmax(0).numpy()).all()
    one = tuple(part[:1].expand(4, *part.shape[1:]) for part in prepared)
    samples = net.sample(one, RowNoise(9, ROWS), ANY)
    assert torch.equal(samples, got[:1].expand_as(samples))


@pytest.mark.parametrize("block", BLOCKS)
def test_samples_do_not_depend_on_their_batch_and_the_network_runs_once_a_slice(block):
    net = method(block=block, attention=block == "dense").float()
    check_batches(net, image_and_mask(16)[0], net.unet)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_channels": 0}, "got 0 and 1"),
        ({"classes": 0}, "got 1 and 0"),
        ({"classes": 10**9}, "at most 65,536 channels.*got 1,000,000,000"),
        ({"image_channels": 10**9}, "at most 65,536 channels.*got 1,000,000,000"),
    ],
)
def test_config_errors(changes, named):
    with pytest.raises(ValueError, match=named):
        DeterministicUNetConfig(**changes)

"""Drawing in batches: every row once, the same whatever the batch size, and less at a time when memory is short."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest
import torch
from make_expected import image_and_mask, tiny_cimd
from torch import Tensor, nn

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import SamplerSettings
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.methods.base import Method

ROWS = [(2, 0), (2, 1), (2, 2), (0, 0), (0, 1), (5, 0), (5, 4), (5, 1), (6, 0), (2, 3)]
SETTINGS = SamplerSettings("ddim", 3)


@dataclass(frozen=True)
class Nothing:
    pass


class ImagePlusNoise(Method):
    """One number per pixel that names both its inputs; runs out of memory above ``most`` rows."""

    name, Config, image_channels, size_multiple = "test", Nothing, 1, 1

    def __init__(self, most: int = 1000) -> None:
        super().__init__(Nothing())
        self.weight = nn.Parameter(torch.ones(()))
        self.most, self.sizes = most, []

    def training_loss(self, batch, noise):
        raise NotImplementedError

    def sample(self, image: Tensor, noise: RowNoise, settings: SamplerSettings, on_step=None) -> Tensor:
        assert not torch.is_grad_enabled()
        self.sizes.append(len(image))
        if len(image) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        for step in (1, 2):
            on_step(step, 2)
        return 10 * self.weight * image + noise.normal(0, image.shape[1:])


def image(index: int) -> Tensor:
    return torch.full((1, 2, 3), float(index))


def drawn(method: Method, batch_size: int, seed: int = 1, images=image, **options) -> dict[tuple[int, int], Tensor]:
    out, order = {}, []
    for rows, values in draw_masks(method, images, ROWS, seed, SETTINGS, batch_size, **options):
        assert len(rows) == len(values) and values.dtype == torch.float32
        order += rows
        out |= dict(zip(rows, values, strict=True))
    assert order == ROWS  # each once, in order
    return out


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_rows_get_their_own_image_and_noise(batch_size):
    got = drawn(ImagePlusNoise(), batch_size)
    for (index, sample), values in got.items():
        noise = RowNoise(1, [(index, sample)]).normal(0, (1, 2, 3))
        torch.testing.assert_close(values, 10.0 * index + noise[0, 0], rtol=0, atol=0)


@pytest.mark.parametrize("period", [2.5, float("inf")])
def test_slice_period_reaches_the_noise(period):
    for (index, sample), values in drawn(ImagePlusNoise(), 4, slice_period=period).items():
        noise = RowNoise(1, [(index, sample)], slice_period=period).normal(0, (1, 2, 3))
        torch.testing.assert_close(values, 10.0 * index + noise[0, 0], rtol=0, atol=0)


def test_images_are_asked_once_per_run_of_equal_slices():
    asked = []
    drawn(ImagePlusNoise(), 2, images=lambda index: asked.append(index) or image(index))
    assert asked == [2, 0, 5, 6, 2]


def test_steps_are_reported_with_the_rows_in_work():
    seen = []
    drawn(ImagePlusNoise(), 4, on_step=lambda *step: seen.append(step))
    assert seen == [(4, 1, 2), (4, 2, 2), (4, 1, 2), (4, 2, 2), (2, 1, 2), (2, 2, 2)]


def test_cancelling_by_raising():
    class Cancelled(Exception):
        pass

    def cancel(rows: int, step: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        drawn(ImagePlusNoise(), 4, on_step=cancel)


def test_batches_come_as_soon_as_they_are_made():
    method = ImagePlusNoise()
    batches = draw_masks(method, image, ROWS, 1, SETTINGS, 4)
    next(batches)
    assert method.sizes == [4]


def test_running_out_of_memory_halves_the_batch_and_loses_no_row(caplog):
    method = ImagePlusNoise(most=2)
    with caplog.at_level(logging.WARNING, logger="AmbiguousSegLib"):
        got = drawn(method, 9)
    assert method.sizes == [9, 4, 2, 2, 2, 2, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "cpu ran out of memory; going on with 4 masks at a time.",
        "cpu ran out of memory; going on with 2 masks at a time.",
    ]
    plenty = drawn(ImagePlusNoise(), 9)
    assert all(torch.equal(got[row], plenty[row]) for row in ROWS)


def test_not_even_one_row_fits():
    with pytest.raises(RuntimeError, match=r"not enough memory for one mask of \(2, 3\) pixels.*region of interest"):
        drawn(ImagePlusNoise(most=0), 4)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm++2m"])
def test_cimd_masks_do_not_depend_on_the_batch_size(name):
    """In float64 the chains agree to 7e-13, although they multiply a change of their noise by up to 300: what is handed
    over, in float32, differs by a unit in the last place at most."""
    method, images = tiny_cimd().double(), image_and_mask(32)[0]
    sample = method.sample

    def sample_in_float64(image: Tensor, noise: RowNoise, settings: SamplerSettings, on_step=None) -> Tensor:
        return sample(image.double(), RowNoise(noise.seed, noise.rows, dtype=torch.float64), settings, on_step)

    method.sample = sample_in_float64
    rows, settings = [(0, 0), (0, 1), (1, 0), (3, 0), (3, 1)], SamplerSettings(name, 5)
    results = []
    for batch_size in (1, 2, 5):
        batches = draw_masks(method, lambda index: images[index], rows, 7, settings, batch_size)
        results.append(torch.cat([values for _, values in batches]))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=6e-8)

"""Drawing in batches: every row once, the same whatever the batch size, and less at a time when memory is short."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass

import pytest
import torch
from make_expected import image_and_mask, tiny_cimd
from torch import Tensor, nn

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference import batches as batches_module
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.methods.base import Method, Prepared

SLICES, SAMPLES = [2, 0, 5, 6], [0, 4, 1]
SAMPLE_BY_SAMPLE = [(number, sample) for sample in SAMPLES for number in SLICES]
SETTINGS = SamplerSettings("ddim", 3)
SLICE_BYTES = 4 * (2 * 3 + 1)  # of what ImagePlusNoise prepares


@dataclass(frozen=True)
class Nothing:
    pass


class ImagePlusNoise(Method):
    """One number per pixel that names both its inputs; runs out of memory above ``most`` rows."""

    name, Config, image_channels, size_multiple = "test", Nothing, 1, 1

    def __init__(self, most: int = 1000, most_prepared: int = 1000, classes: int = 1) -> None:
        super().__init__(Nothing())
        self.weight = nn.Parameter(torch.ones(()))
        self.most, self.most_prepared, self._classes = most, most_prepared, classes
        self.sizes, self.prepared = [], []

    @property
    def classes(self) -> int:
        return self._classes

    def training_loss(self, batch, noise):
        raise NotImplementedError

    def prepare(self, image: Tensor) -> Prepared:
        """The image, ten times, and its number."""
        assert not torch.is_grad_enabled()
        if len(image) > self.most_prepared:
            raise torch.OutOfMemoryError("out of memory")
        self.prepared += image[:, 0, 0, 0].tolist()
        return 10 * self.weight * image, image[:, 0, 0, 0]

    def sample(self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step=None) -> Tensor:
        assert not torch.is_grad_enabled()
        image, number = prepared
        assert image[:, 0, 0, 0].tolist() == [10 * n for n in number] == [10 * n for n, _ in noise.rows]
        self.sizes.append(len(image))
        if len(image) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        for step in (1, 2):
            if on_step is not None:
                on_step(step, 2)
        return image + noise.normal(0, (self._classes, *image.shape[-2:]))


def image(index: int) -> Tensor:
    return torch.full((1, 2, 3), float(index))


def drawn(method: Method, batch_size: int, order=SAMPLE_BY_SAMPLE, images=image, **options) -> dict:
    out, rows = {}, []
    for batch, values in draw_masks(method, images, SLICES, SAMPLES, 1, SETTINGS, batch_size, **options):
        assert len(batch) == len(values) and values.dtype == torch.float32
        rows += batch
        out |= dict(zip(batch, values, strict=True))
    assert rows == order  # each once
    return out


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
@pytest.mark.parametrize("classes", [1, 2])
def test_rows_get_their_own_image_and_noise(batch_size, classes):
    for (index, sample), values in drawn(ImagePlusNoise(classes=classes), batch_size).items():
        noise = RowNoise(1, [(index, sample)]).normal(0, (classes, 2, 3))
        torch.testing.assert_close(values, 10.0 * index + noise[0], rtol=0, atol=0)


@pytest.mark.parametrize("period", [2.5, float("inf")])
def test_slice_period_reaches_the_noise(period):
    for (index, sample), values in drawn(ImagePlusNoise(), 4, slice_period=period).items():
        noise = RowNoise(1, [(index, sample)], slice_period=period).normal(0, (1, 2, 3))
        torch.testing.assert_close(values, 10.0 * index + noise[0], rtol=0, atol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("kept", [1, 2 * SLICE_BYTES, 10**6])
def test_each_slice_is_read_and_prepared_once(monkeypatch, batch_size, kept):
    monkeypatch.setattr(batches_module, "KEPT_BYTES", kept)
    method, asked = ImagePlusNoise(), []
    for _ in draw_masks(
        method, lambda index: asked.append(index) or image(index), SLICES, SAMPLES, 1, SETTINGS, batch_size
    ):
        pass
    assert asked == method.prepared == SLICES


@pytest.mark.parametrize(
    ("kept", "batch_size", "blocks"),
    [
        (4 * SLICE_BYTES, 1, [SLICES]),
        (4 * SLICE_BYTES - 1, 1, [SLICES[:3], SLICES[3:]]),
        (2 * SLICE_BYTES, 1, [SLICES[:2], SLICES[2:]]),
        (1, 1, [[number] for number in SLICES]),
        (1, 3, [SLICES[:3], SLICES[3:]]),  # a batch is prepared together, whatever it takes
    ],
)
def test_slices_that_do_not_fit_together_are_worked_on_in_blocks(monkeypatch, kept, batch_size, blocks):
    """All samples of a block, then the next; the masks stay what they are."""
    monkeypatch.setattr(batches_module, "KEPT_BYTES", kept)
    order = [(number, sample) for block in blocks for sample in SAMPLES for number in block]
    got = drawn(ImagePlusNoise(), batch_size, order)
    monkeypatch.undo()
    expected = drawn(ImagePlusNoise(), 64)
    assert all(torch.equal(got[row], expected[row]) for row in SAMPLE_BY_SAMPLE)


def test_steps_are_reported_with_the_rows_in_work():
    seen = []
    drawn(ImagePlusNoise(), 5, on_step=lambda *step: seen.append(step))
    assert seen == [(5, 1, 2), (5, 2, 2), (5, 1, 2), (5, 2, 2), (2, 1, 2), (2, 2, 2)]


def test_cancelling_by_raising():
    class Cancelled(Exception):
        pass

    def cancel(rows: int, step: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        drawn(ImagePlusNoise(), 4, on_step=cancel)


def test_batches_come_as_soon_as_they_are_made():
    """And no slice is prepared before it is needed."""
    method = ImagePlusNoise()
    batches = draw_masks(method, image, SLICES, SAMPLES, 1, SETTINGS, 2)
    next(batches)
    assert method.sizes == [2] and method.prepared == SLICES[:2]


@pytest.mark.parametrize(("limits", "sizes"), [({"most": 2}, [9, 4, *[2] * 6]), ({"most_prepared": 2}, [2] * 6)])
def test_running_out_of_memory_halves_the_batch_and_loses_no_row(caplog, limits, sizes):
    method = ImagePlusNoise(**limits)
    with caplog.at_level(logging.WARNING, logger="AmbiguousSegLib"):
        got = drawn(method, 9)
    assert method.sizes == sizes and method.prepared == SLICES
    assert [record.getMessage() for record in caplog.records] == [
        "cpu ran out of memory; going on with 4 masks at a time.",
        "cpu ran out of memory; going on with 2 masks at a time.",
    ]
    plenty = drawn(ImagePlusNoise(), 9)
    assert all(torch.equal(got[row], plenty[row]) for row in SAMPLE_BY_SAMPLE)


@pytest.mark.parametrize("limits", [{"most": 0}, {"most_prepared": 0}])
def test_not_even_one_row_fits(limits):
    with pytest.raises(RuntimeError, match=r"not enough memory for one mask of \(2, 3\) pixels.*region of interest"):
        drawn(ImagePlusNoise(**limits), 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm++2m"])
def test_cimd_masks_do_not_depend_on_the_batch_size(name):
    """In float64 the chains agree to 7e-13, although they multiply a change of their noise by up to 300: what is handed
    over, in float32, differs by a unit in the last place at most."""
    method, images = tiny_cimd().double(), image_and_mask(32)[0]
    sample = method.sample

    def sample_in_float64(prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step=None) -> Tensor:
        (image,) = prepared
        return sample((image.double(),), RowNoise(noise.seed, noise.rows, dtype=torch.float64), settings, on_step)

    method.sample = sample_in_float64
    results, settings = [], SamplerSettings(name, 5)
    for batch_size in (1, 2, 6):
        batches = draw_masks(method, lambda index: images[index], [0, 1, 3], [0, 1], 7, settings, batch_size)
        results.append(torch.cat([values for _, values in batches]))
    for one, other in itertools.pairwise(results):
        torch.testing.assert_close(other, one, rtol=0, atol=6e-8)


class Wrong(ImagePlusNoise):
    """Gives what it is told to make of the right answer."""

    def __init__(self, prepared=lambda parts: parts, sampled=lambda values: values) -> None:
        super().__init__()
        self._make_prepared, self._make_sampled = prepared, sampled

    def prepare(self, image):
        return self._make_prepared(super().prepare(image))

    def sample(self, prepared, noise, settings, on_step=None):
        return self._make_sampled(super().sample(prepared, noise, settings, on_step))


def one_pixel(value):
    def of(values):
        values[-1, 0, 1, 2] = value
        return values

    return of


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_pixel_that_is_no_number_is_never_taken_for_background(value):
    with pytest.raises(ValueError, match=r"method test gave NaN or infinite values for 1 of 4 masks, .*of slice 6"):
        drawn(Wrong(sampled=one_pixel(value)), 4)


@pytest.mark.parametrize(
    ("sampled", "message"),
    [
        (lambda values: values[:, 0], r"of shape \(4, 1, 2, 3\) \(rows, classes, H, W\), got \(4, 2, 3\)"),
        (lambda values: values[:1], r"got \(1, 1, 2, 3\)"),
        (lambda values: values.expand(-1, 2, -1, -1), r"got \(4, 2, 2, 3\)"),
        (lambda values: values[..., :2], r"got \(4, 1, 2, 2\)"),
        (lambda values: values.to(torch.complex64), "of torch.complex64"),
        (lambda values: values.numpy(), "got ndarray"),
    ],
)
def test_a_method_that_samples_something_else_is_refused(sampled, message):
    with pytest.raises(ValueError, match=message) as error:
        drawn(Wrong(sampled=sampled), 4)
    assert "\n" not in str(error.value) and "correct the method" in str(error.value)


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        (lambda parts: parts[0], "got Tensor of"),
        (list, "got list of"),
        (lambda parts: (parts[0], parts[1][:1]), r"with 4 rows, one per slice, got tuple of \(4, 1, 2, 3\), \(1,\)"),
        (lambda parts: (parts[0], None), "NoneType"),
    ],
)
def test_a_method_that_prepares_something_else_is_refused(prepared, message):
    with pytest.raises(ValueError, match=message):
        drawn(Wrong(prepared=prepared), 4)


def test_whole_numbers_and_truth_values_are_values():
    got = drawn(Wrong(sampled=lambda values: values > 0), 4)
    expected = drawn(ImagePlusNoise(), 4)
    assert all(torch.equal(got[row], (expected[row] > 0).float()) for row in SAMPLE_BY_SAMPLE)

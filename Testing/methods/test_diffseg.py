"""DiffSeg against its equations, worked out by hand or from denoisers that are known exactly, and on generated skin."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu
from skin_images import skin_images, train
from torch import Tensor, nn

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.inference.case_sampling import sample_cases
from AmbiguousSegLib.methods import Batch, build_method
from AmbiguousSegLib.methods.diffseg import DiffSeg, smoothed
from AmbiguousSegLib.methods.otsu import otsu_threshold
from AmbiguousSegLib.methods.removal import filled, grown
from AmbiguousSegLib.metrics.overlap import dice
from AmbiguousSegLib.volume.geometry import Geometry

UNET = {"image_size": 16, "model_channels": 8, "channel_mult": (1, 2), "num_res_blocks": 1, "attention_sizes": ()}
UNET |= {"norm_groups": 4}
LEVELS = tuple(range(60, 151, 10))
SIZE = 16


def method_of(**config) -> DiffSeg:
    torch.manual_seed(0)
    return build_method("diffseg", {"image_channels": 2, "unet": UNET} | config).requires_grad_(False).eval()


class Stub(nn.Module):
    """Stands in for the network: a function of x_t, timesteps and the class, which keeps what it was asked."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer, self.asked = answer, []

    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        kind = condition.argmax(1)
        self.asked.append((x, timesteps, kind))
        return self.answer(x, timesteps, kind)


def alpha_bar(t: int, steps: int = 1000) -> float:
    """ā after noise was added t times, by the product of the paper over β of Ho et al."""
    return math.prod(1 - (1e-4 + (0.02 - 1e-4) * i / (steps - 1)) for i in range(t))


def spot(height: int = SIZE, width: int = SIZE) -> Tensor:
    """A mask ``(1, 1, height, width)`` of 4 × 5 pixels."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., 6:10, 5:10] = 1
    return mask


# Eq. 1


def test_the_loss_is_that_of_both_classes_images():
    """A network that answers ½ for healthy and −½ for a lesion: its squared errors from the noise, by hand.

    Row 0 shows a lesion: seen as it is, then without. Row 1 shows none: seen once, as healthy. Row 2 is all lesion:
    seen once, as it has no healthy skin.
    """
    method = method_of(removal="constant")
    method.unet = stub = Stub(lambda x, _, kind: torch.where(kind == 0, 0.5, -0.5).reshape(-1, 1, 1, 1).expand_as(x))
    image = torch.rand(3, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    mask = torch.cat([spot(), torch.zeros(1, 1, SIZE, SIZE), torch.ones(1, 1, SIZE, SIZE)])
    noise = RowNoise(5, [(0, 0), (1, 0), (2, 0)], purpose=1)
    loss = method.training_loss(Batch(image, mask), noise)["loss"]
    epsilon, t = noise.normal(1, image.shape[1:]).double(), (noise.uniform(0) * 1000).long() + 1

    def error(row: int, answer: float) -> float:
        return float(((answer - epsilon[row]) ** 2).mean())

    expected = ((error(0, -0.5) + error(0, 0.5)) / 2 + error(1, 0.5) + error(2, -0.5)) / 3
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    (own, own_t, own_kind), (removed, removed_t, removed_kind) = stub.asked
    assert own_kind.tolist() == [1, 0, 1] and removed_kind.tolist() == [0, 0, 0]
    assert own_t.tolist() == removed_t.tolist() == (t - 1).tolist()
    for row in range(3):
        abar = alpha_bar(int(t[row]))
        for shown, x_t in ((image, own), (image * (1 - mask), removed)):  # what is removed is black
            x0 = 2 * shown[row].double() - 1
            by_hand = math.sqrt(abar) * x0 + math.sqrt(1 - abar) * epsilon[row]
            np.testing.assert_allclose(x_t[row], by_hand, atol=2e-6)


def test_timesteps_of_training_are_uniform_over_all():
    method = method_of(schedule={"steps": 40}, levels=(40,))
    method.unet = stub = Stub(lambda x, _, __: torch.zeros_like(x))
    image = torch.zeros(4000, 2, 2, 2)
    method.training_loss(Batch(image, torch.zeros(4000, 1, 2, 2)), RowNoise(0, [(i, 0) for i in range(4000)], 1))
    counts = np.bincount(stub.asked[0][1], minlength=40)
    assert len(counts) == 40 and ((counts - 100) ** 2 / 100).sum() < 73  # χ² of 39 degrees of freedom: one in 1,000


# removal


def test_a_removed_place_continues_what_is_around_it():
    """A slope, whose stretched membrane is the slope; constant images with noise of a known strength."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")
    slope = (0.2 + 0.01 * rows + 0.002 * columns)[None, None]
    hole = torch.zeros(1, 1, 40, 48, dtype=torch.bool)
    hole[..., 12:26, 15:33] = True
    flat = filled(slope.masked_fill(hole, 0.9), hole, torch.zeros(1, 1, 40, 48))
    assert (flat - slope).abs().max() < 0.01  # of 0.14 from border to border
    torch.testing.assert_close(flat[~hole], slope[~hole])
    rng = np.random.default_rng(0)
    noisy = torch.from_numpy(0.5 + 0.04 * rng.standard_normal((1, 2, 128, 128))).float()
    wide = torch.zeros(1, 1, 128, 128, dtype=torch.bool)
    wide[..., 30:98, 30:98] = True
    normal = torch.from_numpy(rng.standard_normal((1, 2, 128, 128))).float()
    rough, smooth = filled(noisy.masked_fill(wide, 0), wide, normal), filled(noisy, wide, torch.zeros_like(normal))
    assert float((rough - smooth)[wide.expand_as(rough)].std()) == pytest.approx(0.04, rel=0.1)


def test_places_at_a_border_and_images_without_any_or_with_nothing_else():
    image = torch.full((3, 1, 9, 7), 0.25)
    hole = torch.zeros(3, 1, 9, 7, dtype=torch.bool)
    hole[0, :, :4], hole[2] = True, True
    out = filled(image.masked_fill(hole, 1.0), hole, torch.ones_like(image))
    assert torch.allclose(out[:2], image[:2], atol=1e-6)
    assert out[2].unique().tolist() == [0.0]


def test_a_margin_grows_a_mask_along_both_axes():
    expected = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    expected[..., 4:12, 3:12] = True
    assert torch.equal(grown(spot() > 0, 2), expected) and torch.equal(grown(spot() > 0, 0), spot() > 0)


# thresholds


def test_otsus_threshold_is_that_of_scikit_image():
    rng = np.random.default_rng(3)
    images = [np.abs(rng.standard_normal((24, 20))) + 4 * rng.random() * (rng.random((24, 20)) < rng.random())]
    images += [rng.random((24, 20)), np.where(rng.random((24, 20)) < 0.1, 7.0, 1.0), rng.integers(0, 9, (24, 20)) / 4]
    images += [np.exp(2 * rng.standard_normal((24, 20))), np.linspace(-3, 1, 480).reshape(24, 20)]
    for dtype in (np.float32, np.float64):
        stack = np.stack(images).astype(dtype)
        found = otsu_threshold(torch.from_numpy(stack)[:, None]).numpy()
        np.testing.assert_allclose(found, [threshold_otsu(image) for image in stack], rtol=1e-6)
    assert otsu_threshold(torch.full((2, 3, 3), 0.7)).tolist() == pytest.approx([0.7, 0.7])


def test_smoothing_is_that_of_scipy():
    values = np.random.default_rng(2).random((2, 1, 9, 12)).astype(np.float32)
    for sigma in (0.4, 1.0, 3.0):
        expected = gaussian_filter(values, (0, 0, sigma, sigma), mode="nearest")
        np.testing.assert_allclose(smoothed(torch.from_numpy(values), sigma), expected, atol=1e-6)
    assert torch.equal(smoothed(torch.from_numpy(values), 0.0), torch.from_numpy(values))


# Eq. 2


def gaussian_denoiser(means: tuple[Tensor, Tensor], sigma: float):
    """The best prediction of the noise in images x₀ ~ N(mean of the class, σ²): a Gaussian given x_t."""

    def answer(x: Tensor, timesteps: Tensor, kind: Tensor) -> Tensor:
        abar = torch.tensor([alpha_bar(int(t) + 1) for t in timesteps]).reshape(-1, 1, 1, 1)
        mean = torch.stack([means[int(k)] for k in kind])
        return (1 - abar).sqrt() * (x - abar.sqrt() * mean) / (abar * sigma**2 + 1 - abar)

    return answer


@pytest.mark.parametrize("draws", [1, 3])
def test_the_difference_of_two_classes_of_gaussian_images(draws):
    """√(ā(1 − ā))·|μ₀ − μ₁| / (ā σ² + 1 − ā), whatever the noise and the image; mean over the channels."""
    healthy, lesion = torch.zeros(2, SIZE, SIZE), torch.zeros(2, SIZE, SIZE)
    lesion[0], lesion[1] = -0.6 * spot()[0, 0], 0.2 * spot()[0, 0]
    method = method_of(levels=(60, 100, 150), draws=draws)
    method.unet = Stub(gaussian_denoiser((healthy, lesion), 0.3))
    image = torch.rand(4, 2, SIZE, SIZE)
    noise = RowNoise(0, [(7, 0), (7, 1), (7, 2), (7, 3)])
    found = method.difference(image, noise)
    for row, t in enumerate((60, 100, 150, 60)):
        abar = alpha_bar(t)
        factor = math.sqrt(abar * (1 - abar)) / (0.3**2 * abar + 1 - abar)
        np.testing.assert_allclose(found[row, 0], factor * 0.4 * spot()[0, 0], atol=2e-6)
    values = method.sample((image,), noise, SamplerSettings())
    assert torch.equal(values > 0.5, (spot() > 0).expand(4, 1, SIZE, SIZE))


def test_noise_is_added_as_often_as_the_level_says():
    """x_t = √ā_t x₀ + √(1 − ā_t) ε, ā_t the product of the first t factors; both classes are asked of the same x_t."""
    method = method_of(levels=(1, 60, 1000))
    method.unet = stub = Stub(lambda x, _, __: x)
    image = torch.rand(3, 2, SIZE, SIZE)
    noise = RowNoise(2, [(0, 0), (0, 1), (0, 2)])
    method.difference(image, noise)
    (x_t, timesteps, healthy), (again, _, lesion) = stub.asked
    assert torch.equal(x_t, again) and healthy.tolist() == [0, 0, 0] and lesion.tolist() == [1, 1, 1]
    assert timesteps.tolist() == [0, 59, 999]
    epsilon = noise.normal(1, (2, SIZE, SIZE))
    for row, t in enumerate((1, 60, 1000)):
        by_hand = math.sqrt(alpha_bar(t)) * (2 * image[row] - 1) + math.sqrt(1 - alpha_bar(t)) * epsilon[row]
        np.testing.assert_allclose(x_t[row], by_hand, atol=2e-6)


def test_values_are_one_half_at_the_threshold_and_rise_with_the_difference():
    """Of differences 0, ¼, ½, 1 and 3 at δ = ½: ½ + ½(d − δ)/(d + δ)."""
    differences = torch.tensor([0.0, 0.25, 0.5, 1.0, 3.0])

    def answer(x: Tensor, _: Tensor, kind: Tensor) -> Tensor:
        return kind.reshape(-1, 1, 1, 1) * differences.expand_as(x)

    image, noise = torch.zeros(1, 2, 2, 5), RowNoise(0, [(0, 0)])
    method = method_of(threshold=0.5)
    method.unet = Stub(answer)
    values = method.sample((image,), noise, SamplerSettings())
    np.testing.assert_allclose(values[0, 0], [[0, 1 / 3, 1 / 2, 2 / 3, 6 / 7]] * 2, atol=1e-6)
    method.config = replace(method.config, threshold=None)
    otsu = threshold_otsu(np.array([differences.tolist()] * 2, np.float32))
    by_otsu = method.sample((image,), noise, SamplerSettings())[0, 0] > 0.5
    assert by_otsu.tolist() == [(differences > otsu).tolist()] * 2 and 1 < otsu < 3
    method.config = replace(method.config, least_threshold=4.0)
    assert not (method.sample((image,), noise, SamplerSettings()) > 0.5).any()
    method.config = replace(method.config, threshold=0.0, least_threshold=0.0)
    assert (method.sample((image,), noise, SamplerSettings())[0, 0] > 0.5).tolist() == [[False] + 4 * [True]] * 2


def test_where_the_classes_do_not_differ_nothing_is_marked():
    method = method_of()  # its last convolution starts at zero
    values = method.sample((torch.rand(2, 2, SIZE, SIZE),), RowNoise(0, [(0, 0), (0, 1)]), SamplerSettings())
    assert values.unique().tolist() == [0.0]


def test_ten_samples_have_the_ten_levels_and_the_eleventh_the_first_again():
    method = method_of()
    rows = [(3, sample) for sample in range(11)]
    assert method.levels_of(RowNoise(0, rows)).tolist() == [*LEVELS, 60]
    assert method.levels_of(RowNoise(9, rows[4:6])).tolist() == [100, 110]  # whatever the batch and the seed


def test_drawn_levels_are_uniform_and_do_not_depend_on_the_batch():
    method = method_of(level_order="drawn")
    rows = [(0, sample) for sample in range(3000)]
    levels = method.levels_of(RowNoise(1, rows))
    counts = np.array([(levels == level).sum() for level in LEVELS])
    assert ((counts - 300) ** 2 / 300).sum() < 27.9  # χ² of 9 degrees of freedom: one in 1,000
    assert torch.equal(method.levels_of(RowNoise(1, rows[100:110])), levels[100:110])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"removal": "hope"}, "surround, constant, got 'hope'"),
        ({"level_order": "any"}, "turn, drawn"),
        ({"levels": ()}, "from 1 to 1000"),
        ({"levels": (0,)}, "from 1 to 1000"),
        ({"schedule": {"steps": 100}}, "from 1 to 100, the steps of the schedule"),  # the paper's t = 100
        ({"draws": 0}, "draws from 1 to"),
        ({"margin": -1}, "margin from 0 to 1000"),
        ({"margin": 10**9}, "margin from 0 to 1000 .*got 2, 1000000000"),
        ({"image_channels": 10**9}, "at most 65,536 channels"),
        ({"smoothing": 101.0}, "at most 100"),
        ({"threshold": -0.1}, "threshold must be 0 or more and finite"),
        ({"least_threshold": math.inf}, "finite"),
        ({"classes": 2}, "segments one class, got 2"),
    ],
)
def test_refusals(wrong, told):
    with pytest.raises(ValueError, match=told):
        method_of(**wrong)


# Eq. 3 and 4


def test_the_maps_of_a_sample_set_are_the_consistency_and_the_ambiguity():
    masks = (np.random.default_rng(4).random((10, 1, 5, 6)) < 0.4).astype(np.uint8)
    grid = Geometry((6, 5, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    samples = SampleSet(masks, grid)
    coherence = sum(mask / 10 for mask in masks)
    ambiguity = sum((mask - coherence) ** 2 for mask in masks) / 10
    np.testing.assert_allclose(samples.mean(), coherence, atol=1e-6)
    np.testing.assert_allclose(samples.variance(), ambiguity, atol=1e-6)


# Generated skin


def test_it_finds_lesions_in_generated_skin_and_not_what_is_as_dark():
    """After seconds of training. Dice of the consensus is .70; after two steps, of a network that knows nothing, it is
    .35, and of marking everything .21."""
    torch.manual_seed(0)
    unet = UNET | {"use_scale_shift_norm": True}
    method = build_method("diffseg", {"image_channels": 3, "unet": unet, "margin": 1, "smoothing": 0.7})
    losses = train(method, *skin_images(0, 48, SIZE), steps=80, batch=8, rate=8e-3)
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:5])
    pictures, lesions = skin_images(1, 8, SIZE)
    cases = [(str(number), picture) for number, picture in enumerate(pictures)]
    masks = sample_cases(method, cases, 10, 0, SamplerSettings(), 40).astype(bool)
    assert dice(masks.mean(1) > 0.5, lesions, 2).mean() > 0.5

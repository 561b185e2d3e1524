"""The fully connected field against loops over all pairs, its free energy, and what it must leave alone."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from AmbiguousSegLib.ensemble import dense_crf
from AmbiguousSegLib.ensemble.dense_crf import RANGE_ERROR, DenseCRF, refined_label_maps
from AmbiguousSegLib.ensemble.refinement import (
    EXACT,
    FILTERED,
    LEAST_WIDTH,
    MOST_WEIGHT,
    MOST_WIDTH,
    DenseCRFConfig,
    refinement_of,
)

METHODS = EXACT, FILTERED
CONFIG = DenseCRFConfig(w1=1.5, theta_alpha=2.5, theta_beta=0.2, w2=0.7, theta_gamma=1.2, iterations=4, confidence=0.8)


def pair_weights(image, config):
    """w1·k1 + w2·k2 of every two pixels, normalised: written down pair by pair."""
    _, height, width = image.shape
    places = list(itertools.product(range(height), range(width)))
    n = len(places)
    total = np.zeros((n, n))
    for weight, kind in ((config.w1, "appearance"), (config.w2, "smoothness")):
        k = np.zeros((n, n))
        for i, (y, x) in enumerate(places):
            for j, (v, u) in enumerate(places):
                apart = (y - v) ** 2 + (x - u) ** 2
                if kind == "appearance":
                    unlike = sum((channel[y, x] - channel[v, u]) ** 2 for channel in image)
                    k[i, j] = math.exp(-apart / (2 * config.theta_alpha**2) - unlike / (2 * config.theta_beta**2))
                else:
                    k[i, j] = math.exp(-apart / (2 * config.theta_gamma**2))
        sums = [sum(row) for row in k]
        for i, j in itertools.product(range(n), range(n)):
            if i != j:
                total[i, j] += weight * k[i, j] / math.sqrt(sums[i] * sums[j])
    return total


def unaries(mask, classes, confidence):
    """−log P of every pixel and class."""
    return np.array(
        [
            [-math.log(confidence if label == own else (1 - confidence) / classes) for label in range(classes + 1)]
            for own in mask.ravel()
        ]
    )


def by_loops(image, mask, classes, config):
    """Mean field as Eq. 11 says it, with the sum over the labels that a pixel does not have; ``(K + 1, H, W)``."""
    weights, unary = pair_weights(image, config), unaries(mask, classes, config.confidence)
    labels, n = range(classes + 1), len(unary)
    q = np.exp(-unary) / np.exp(-unary).sum(1, keepdims=True)
    for _ in range(config.iterations):
        new = np.empty_like(q)
        for i in range(n):
            for label in labels:
                cost = unary[i, label]
                for other in labels:
                    if other != label:  # Potts
                        cost += sum(weights[i, j] * q[j, other] for j in range(n) if j != i)
                new[i, label] = math.exp(-cost)
            new[i] /= new[i].sum()
        q = new
    return q.T.reshape(-1, *mask.shape)


def free_energy(q, unary, weights):
    """Of mean field, up to log Z: what it expects of the energy, less the entropy. ``q (N, K + 1)``."""
    differ = 0.5 * (weights * (1 - q @ q.T)).sum()
    return (q * unary).sum() + differ + (q * np.log(q)).sum()


def a_case(size=8, channels=1, classes=1, seed=0):
    rng = np.random.default_rng(seed)
    image = np.stack([gaussian_filter(rng.standard_normal((size, size)), 1) for _ in range(channels)])
    image = (image - image.min()) / (image.max() - image.min())
    masks = rng.integers(0, classes + 1, (3, size, size)).astype(np.uint8)
    return torch.from_numpy(image), masks


@pytest.mark.parametrize(("classes", "channels"), [(1, 1), (2, 1), (1, 2)])
def test_the_exact_form_is_what_loops_over_all_pairs_give(classes, channels):
    image, masks = a_case(channels=channels, classes=classes)
    config = replace(CONFIG, method=EXACT)
    found = DenseCRF(image, config).probabilities(masks[:1], classes).numpy()
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0], by_loops(image.numpy(), masks[0], classes, config), rtol=0, atol=1e-10)


@pytest.mark.parametrize("classes", [1, 2])
def test_the_fixed_point_is_a_minimum_of_the_free_energy(classes):
    image, masks = a_case(classes=classes, seed=1)
    weights, unary = pair_weights(image.numpy(), CONFIG), unaries(masks[0], classes, CONFIG.confidence)

    def after(iterations):
        field = DenseCRF(image, replace(CONFIG, iterations=iterations, method=EXACT))
        return field.probabilities(masks[:1], classes)[0].flatten(1).T.numpy()

    start = np.exp(-unary) / np.exp(-unary).sum(1, keepdims=True)
    energies = [free_energy(q, unary, weights) for q in (start, *map(after, (1, 2, 3, 5, 8, 200)))]
    assert all(later < earlier for earlier, later in itertools.pairwise(energies))
    fixed, rng = after(200), np.random.default_rng(0)
    np.testing.assert_allclose(after(201), fixed, rtol=0, atol=1e-12)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(20):  # no Q near it is better
            other = fixed * np.exp(size * rng.standard_normal(fixed.shape))
            assert free_energy(other / other.sum(1, keepdims=True), unary, weights) > energies[-1]


def of_nodule(size=64, channels=1):
    """Something bright with a soft border on a noisy ground, and masks that miss its border here and there."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:size, :size] - size / 2
    shape = 1 / (1 + np.exp((np.hypot(y, 1.3 * x) - 0.25 * size) / 1.5))
    image = np.stack([0.2 + (0.6 - 0.2 * c) * shape for c in range(channels)])
    image = np.clip(image + 0.05 * rng.standard_normal(image.shape), 0, 1)
    masks = [
        np.hypot(y, 1.3 * x) + 3 * gaussian_filter(rng.standard_normal(y.shape), 3) / 0.1 < r for r in (13, 16, 19)
    ]
    return torch.from_numpy(image), np.stack(masks).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "channels", "changes"),
    [(64, 1, {}), (64, 1, {"w1": 3.0}), (32, 1, {"w1": 3.0, "theta_alpha": 20.0}), (32, 3, {"w1": 3.0})],
)
def test_the_filtered_form_is_near_the_exact_one(size, channels, changes):
    image, masks = of_nodule(size, channels)
    config = DenseCRFConfig(**changes)
    exact = DenseCRF(image, replace(config, method=EXACT)).probabilities(masks, 1)
    filtered = DenseCRF(image, config).probabilities(masks, 1)
    apart = (exact - filtered).abs()
    assert apart.max() < 1e-3
    assert apart.mean() < 1e-4
    differ = (exact[:, 1] > 0.5) != (filtered[:, 1] > 0.5)
    assert differ.float().mean() <= 1e-3
    assert ((filtered[:, 1] > 0.5).numpy() != masks).mean() > (5e-3 if changes else 5e-4)  # and it does something


def test_the_filtered_form_is_near_the_exact_one_for_several_classes():
    image, masks = of_nodule(32)
    masks[:, :, 16:] *= 2
    exact, filtered = (DenseCRF(image, DenseCRFConfig(method=m)).probabilities(masks, 2) for m in (EXACT, "filtered"))
    assert (exact - filtered).abs().max() < 1e-3
    torch.testing.assert_close(filtered.sum(1), torch.ones(3, 32, 32))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_factors_give_the_kernel_of_intensities_up_to_the_stated_error(channels):
    intensity = np.random.default_rng(2).random((500, channels))
    factors = dense_crf._range_factors(intensity, 0.35)
    apart = np.square(intensity[:, None] - intensity).sum(-1)
    assert np.abs(factors.T @ factors - np.exp(-apart / (2 * 0.35**2))).max() <= RANGE_ERROR
    assert len(factors) < 128


def test_too_few_factors_are_reported(monkeypatch, caplog):
    monkeypatch.setattr(dense_crf, "MOST_TERMS", 3)
    with caplog.at_level(logging.WARNING):
        assert len(dense_crf._range_factors(np.linspace(0, 1, 50)[:, None], 0.1)) == 3
    assert "off by up to" in caplog.text and "3 terms" in caplog.text


def test_a_border_that_is_off_moves_to_that_of_the_image():
    image = torch.zeros(1, 24, 24)
    image[:, :, 12:] = 1
    mask = np.zeros((1, 24, 24), np.uint8)
    mask[:, :, 13:] = 1  # a pixel too far in
    mask[0, 5, 3] = 1  # and one where there is nothing
    refined = refined_label_maps(image.numpy(), mask, 1, DenseCRFConfig(w1=4.0, w2=1.0))
    assert np.array_equal(refined[0], image[0].numpy().astype(np.uint8))


@pytest.mark.parametrize("method", ["filtered", EXACT])
def test_nothing_stays_nothing_and_everything_everything(method):
    image, _ = a_case(16, seed=3)
    for label in range(3):
        masks = np.full((2, 16, 16), label, np.uint8)
        strong = DenseCRFConfig(w1=50.0, w2=20.0, iterations=20, confidence=0.6, method=method)
        assert np.array_equal(refined_label_maps(image.numpy(), masks, 2, strong), masks)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_kernel_that_errs_brings_no_class_that_the_mask_lacks(label):
    """Noise of all values in two channels, of which the factors miss some: between some pixels theirs is negative."""
    image, masks = np.random.default_rng(1).random((2, 24, 40)), np.full((1, 24, 40), label, np.uint8)
    strong = DenseCRFConfig(w1=50.0, theta_beta=0.03, w2=0.0)
    assert np.array_equal(refined_label_maps(image, masks, 2, strong), masks)


def test_a_gradient_of_all_values_stays_within_the_stated_error():
    y, x = np.mgrid[:64, :64]
    masks = (np.hypot(y - 32, x - 30) < 14).astype(np.uint8)[None]
    image = torch.from_numpy(np.broadcast_to(x / 63, (1, 64, 64)).copy())
    exact, filtered = (DenseCRF(image, DenseCRFConfig(method=m)).probabilities(masks, 1) for m in METHODS)
    assert 1e-4 < (exact - filtered).abs().max() < 1e-3  # and not 2e-5, as of a nodule
    assert (exact - filtered).abs().mean() < 1e-4


def test_two_classes_that_are_tied_are_background():
    """Between a pixel of each of two classes, which tell it the same."""
    tied = DenseCRFConfig(w1=0.0, w2=20.0, theta_gamma=3.0, iterations=1, method=EXACT)
    mask = np.array([[[1, 0, 2]]], np.uint8)
    q = DenseCRF(torch.zeros(1, 1, 3), tied).probabilities(mask, 2)[0, :, 0, 1]
    assert q[1] == q[2] > q[0]
    assert refined_label_maps(np.zeros((1, 1, 3)), mask, 2, tied)[0, 0, 1] == 0


def test_without_anything_to_see_only_smoothness_counts():
    """On a constant image k1 is a Gaussian of space: it acts as a smoothness kernel of its width does."""
    _, masks = a_case(16, seed=4)
    constant = torch.full((1, 16, 16), 0.4)
    one = DenseCRF(constant, DenseCRFConfig(w1=2.0, theta_alpha=1.7, w2=0.0)).probabilities(masks, 1)
    other = DenseCRF(constant, DenseCRFConfig(w1=0.0, w2=2.0, theta_gamma=1.7)).probabilities(masks, 1)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_without_weights_the_mask_is_what_it_was():
    image, masks = a_case(16, classes=3, seed=6)
    q = DenseCRF(image, DenseCRFConfig(w1=0.0, w2=0.0, confidence=0.7)).probabilities(masks, 3).numpy()
    own = np.take_along_axis(q, masks[:, None].astype(np.int64), 1)
    np.testing.assert_allclose(own, 0.7, atol=1e-6)
    assert np.array_equal(q.argmax(1), masks)


def test_a_mask_does_not_depend_on_the_others_nor_on_the_run():
    image, masks = of_nodule()
    together = DenseCRF(image, DenseCRFConfig()).probabilities(masks, 1)
    for number, mask in enumerate(masks):
        alone = DenseCRF(image.clone(), DenseCRFConfig()).probabilities(mask[None], 1)
        assert torch.equal(alone[0], together[number])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"w1": -1.0}, "DenseCRFConfig.w1 must be 0 or more, at most 1000, got -1.0"),
        ({"w2": math.inf}, "w2 must be 0 or more, at most 1000"),
        ({"w1": 1e15}, "w1 must be 0 or more, at most 1000"),
        ({"theta_beta": 0.0}, "theta_beta must be positive"),
        ({"theta_alpha": math.nan}, "theta_alpha must be positive"),
        ({"theta_gamma": 1e15}, "theta_gamma must be positive, from 0.001 to 10000"),
        ({"theta_beta": 1e-300}, "theta_beta must be positive, from 0.001 to 10000"),
        ({"iterations": 1e9}, "iterations must be 1 or more, at most 1000, got 1000000000"),
        ({"iterations": 0.0}, "iterations must be 1 or more"),
        ({"iterations": 2.5}, "refinement.iterations must be int, got 2.5"),
        ({"confidence": 0.5}, "confidence must be between 0.5 and 1"),
        ({"method": "fast"}, "method must be exact or filtered, got 'fast'"),
        ({"theta": 1.0}, "Unknown key refinement.theta; known keys: w1, theta_alpha"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, told):
    with pytest.raises(ValueError) as error:
        refinement_of("dense-crf", options)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_names_and_whole_numbers_of_a_command_line():
    assert refinement_of(None, {}) is None
    assert refinement_of("dense-crf", {"iterations": 3.0, "w1": 4.0}) == DenseCRFConfig(iterations=3, w1=4.0)
    with pytest.raises(ValueError, match="There is no refinement 'crf'; known: dense-crf"):
        refinement_of("crf", {})
    with pytest.raises(ValueError, match="option w1 belongs to a refinement"):
        refinement_of(None, {"w1": 1.0})


def test_what_does_not_fit_is_refused():
    image, masks = a_case(16)
    field = DenseCRF(image, DenseCRFConfig())
    with pytest.raises(ValueError, match="Expected uint8 masks"):
        field.probabilities(masks[:, :8], 1)
    with pytest.raises(ValueError, match="hold the label 1, but there are 0"):
        field.probabilities(masks, 0)
    with pytest.raises(ValueError, match="finite numbers"):
        DenseCRF(image * math.nan, DenseCRFConfig())
    with pytest.raises(ValueError, match="exact form takes at most 4096 pixels, got 65 × 64; take method=filtered"):
        DenseCRF(torch.zeros(1, 65, 64), DenseCRFConfig(method=EXACT))


@pytest.mark.parametrize("method", [EXACT, FILTERED])
@pytest.mark.parametrize("theta", [LEAST_WIDTH, MOST_WIDTH])
def test_the_largest_weights_and_both_ends_of_the_widths_give_probabilities(method, theta):
    image, masks = a_case(16)
    wide = {"theta_alpha": theta, "theta_beta": theta, "theta_gamma": theta}
    config = DenseCRFConfig(w1=MOST_WEIGHT, w2=MOST_WEIGHT, method=method, **wide)
    q = DenseCRF(image, config).probabilities(masks, 1)
    assert torch.isfinite(q).all()
    torch.testing.assert_close(q.sum(1), torch.ones_like(q[:, 0]))

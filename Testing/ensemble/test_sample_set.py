"""Maps, consensus and volumes of a sample set: by hand, and for several classes against exact counts."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from AmbiguousSegLib.ensemble.sample_set import SampleSet, ends
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((3, 2, 2), (2.0, 5.0, 10.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))  # 0.1 mL a voxel


def masks_of(*counts):
    """One mask per count: the first so many voxels are marked."""
    masks = np.zeros((len(counts), *GRID.shape), bool)
    for mask, count in zip(masks, counts, strict=True):
        mask.reshape(-1)[:count] = True
    return masks


def test_maps():
    sample_set = SampleSet(masks_of(0, 1, 2, 4), GRID)
    expected = np.zeros(12)
    expected[:4] = [3 / 4, 2 / 4, 1 / 4, 1 / 4]
    assert np.allclose(sample_set.mean().reshape(-1), expected)
    assert np.allclose(sample_set.variance().reshape(-1), expected * (1 - expected))
    assert np.isclose(sample_set.variance().max(), 0.25) and sample_set.mean().dtype == np.float32
    assert np.allclose(sample_set.variance(), sample_set.masks.var(axis=0))
    p = expected[:4]
    assert np.allclose(sample_set.entropy().reshape(-1)[:4], -p * np.log(p) - (1 - p) * np.log(1 - p))
    assert not sample_set.entropy().reshape(-1)[4:].any() and sample_set.entropy().dtype == np.float32
    assert np.array_equal(np.flatnonzero(sample_set.consensus()), [0])  # half of the samples are no majority
    assert np.array_equal(np.flatnonzero(sample_set.consensus(0.3)), [0, 1])


def test_more_samples_than_a_byte_counts():
    sample_set = SampleSet(masks_of(*[3] * 300, *[1] * 100), GRID)
    assert np.allclose(sample_set.mean().reshape(-1)[:4], [1, 0.75, 0.75, 0])


def test_a_cut_out_of_a_larger_array_counts_alike():
    masks = masks_of(0, 1, 2, 4, 5)
    assert np.array_equal(SampleSet(masks[::2], GRID).mean(), SampleSet(masks[::2].copy(), GRID).mean())


def test_volumes():
    summary = SampleSet(masks_of(*range(11)), GRID).volume_summary()
    assert np.allclose(summary["samples"], np.arange(11) / 10)
    assert np.isclose(summary["mean"], 0.5)
    assert np.allclose(summary["range"], [0, 1]) and np.isclose(summary["range_level"], 10 / 12)


@pytest.mark.parametrize(("n", "holds"), [(2, False), (38, False), (39, True), (41, True)])
def test_too_few_samples_hold_no_interval(n, holds):
    """(39 − 1)/(39 + 1) is 95 %; of two samples one more lies in the range in a third of cases."""
    counts = [*range(11), *[5] * (n - 11)] if n > 11 else range(n)
    summary = SampleSet(masks_of(*counts), GRID).volume_summary()
    assert (summary["interval_95"] is not None) == holds
    if holds:
        position = (n + 1) * 0.025  # by hand: the ranks from 1 on between which the lower end lies
        rank, share = int(position), position - int(position)
        ordered = np.sort(counts) / 10
        low, high = ((1 - share) * v[rank - 1] + share * v[rank] for v in (ordered, ordered[::-1]))
        assert np.allclose(summary["interval_95"], (low, high))
        assert summary["interval_meaning"] == "2.5th to 97.5th percentile of the samples"
    else:
        assert f"lies within the range of {n} in {100 * (n - 1) / (n + 1):.0f} %" in summary["interval_meaning"]
        assert "needs 39 samples" in summary["interval_meaning"]


@pytest.mark.parametrize("n", [39, 41, 79, 200])
def test_an_interval_holds_one_more_with_95_percent(n):
    """The k-th of n uniform numbers is k/(n + 1) on average, and ends are linear in them: so is what they hold."""
    low, high = ends(np.arange(1, n + 1) / (n + 1)).values()
    assert (low, high) == pytest.approx((0.025, 0.975), abs=1e-12)


def test_of_39_the_interval_is_the_range():
    values = np.random.default_rng(0).lognormal(size=39)
    assert tuple(ends(values).values()) == pytest.approx((values.min(), values.max()), rel=1e-12)


@pytest.mark.parametrize(
    "masks",
    [
        np.zeros((0, 2, 2, 3), bool),
        np.zeros((2, 2, 3), bool),
        np.zeros((1, 2, 3, 2), bool),
        np.full((1, 2, 2, 3), 2, "u1"),
    ],
    ids=["none", "one axis short", "another grid", "a label beyond"],
)
def test_what_is_no_sample_set_is_refused(masks):
    with pytest.raises(ValueError, match=r"SampleSet\.masks"):
        SampleSet(masks, GRID)
    with pytest.raises(ValueError, match=r"uint8 .* got float64"):
        SampleSet(np.zeros((2, 2, 2, 3)), GRID)
    with pytest.raises(ValueError, match="differ in name"):
        SampleSet(masks_of(1), GRID, labels=DEFAULT_LABELS * 2)


def test_a_threshold_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        SampleSet(masks_of(1), GRID).consensus(1)


# Several classes

LABELS = tuple(Label(name) for name in ("core", "halo", "rim"))


def drawn(n, classes, seed=0, size=(7, 6, 5)):
    """Label maps in which some voxels are of one class everywhere, some never marked, and many are tied."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, classes + 1, (n, *size[::-1]), dtype=np.uint8)
    masks[:, 0], masks[:, 1] = 0, classes
    half = n // 2
    masks[:half, 2], masks[half : 2 * half, 2], masks[2 * half :, 2] = 1, 2, 0  # two classes tied
    return masks, Geometry(size, (2.0, 5.0, 10.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def counts_of(masks, classes):
    """How many masks give a voxel background and each class: ints ``(K + 1, *spatial)``."""
    return np.stack([(masks == label).sum(axis=0) for label in range(classes + 1)])


def entropy_by_hand(counts):
    shares = [count / sum(counts) for count in counts if count]
    return -math.fsum(p * math.log(p) for p in shares)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 49, 100, 255, 256, 999, 1000])
@pytest.mark.parametrize("classes", [2, 3])
def test_several_classes_against_exact_counts(n, classes):
    masks, grid = drawn(n, classes, n)
    sample_set, counts = SampleSet(masks, grid, labels=LABELS[:classes]), counts_of(masks, classes)
    for label in range(1, classes + 1):
        share = counts[label] / n
        np.testing.assert_allclose(sample_set.mean(label), share, atol=1e-7)
        np.testing.assert_allclose(sample_set.variance(label), share * (1 - share), atol=1e-7)
        np.testing.assert_array_equal(sample_set.of_class(label), masks == label)
        np.testing.assert_allclose(sample_set.volumes_ml(label), 0.1 * (masks == label).sum((1, 2, 3)))
    np.testing.assert_allclose(sample_set.volumes_ml(), 0.1 * (masks > 0).sum((1, 2, 3)))
    columns = counts.reshape(classes + 1, -1).T.tolist()
    entropy = np.reshape([entropy_by_hand(column) for column in columns], grid.shape)
    np.testing.assert_allclose(sample_set.entropy(), entropy, atol=2e-5)
    assert 0 <= sample_set.entropy().min() <= sample_set.entropy().max() <= math.log(classes + 1) + 1e-5
    best = [column.index(max(column)) if column.count(max(column)) == 1 else 0 for column in columns]
    np.testing.assert_array_equal(sample_set.consensus(), np.reshape(best, grid.shape))
    assert sample_set.consensus().dtype == np.uint8
    if n % 2 == 0:
        assert not sample_set.consensus()[2].any()  # a tie of two classes is background


@pytest.mark.parametrize("n", range(1, 1001, 37))
def test_rounding_of_shares_decides_no_vote(n):
    """Every vote of n among background and two classes that is tied or won by a single sample."""
    votes = {(a, b) for a in range(n + 1) for b in (a - 1, a, a + 1, n - 2 * a, n - 2 * a - 1) if 0 <= b <= n - a}
    masks = np.zeros((n, 1, 1, len(votes)), np.uint8)
    expected = []
    for voxel, (a, b) in enumerate(sorted(votes)):
        masks[:a, 0, 0, voxel], masks[a : a + b, 0, 0, voxel] = 1, 2
        shares = [Fraction(count, n) for count in (n - a - b, a, b)]
        expected.append(shares.index(max(shares)) if shares.count(max(shares)) == 1 else 0)
    grid = Geometry((len(votes), 1, 1), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    assert SampleSet(masks, grid, labels=LABELS[:2]).consensus().ravel().tolist() == expected


def test_many_classes_with_even_shares_are_tied():
    """255 classes with one sample each: float32 sums of their shares leave not exactly nothing to background."""
    masks = np.arange(1, 256, dtype=np.uint8).reshape(255, 1, 1, 1)
    grid = Geometry((1, 1, 1), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    labels = tuple(Label(str(k)) for k in range(255))
    tied = SampleSet(masks, grid, labels=labels)
    assert tied.consensus().item() == 0 and tied.entropy().item() == pytest.approx(math.log(255), abs=1e-4)
    won = SampleSet(np.concatenate([masks, masks[6:7]]), grid, labels=labels)
    assert won.consensus().item() == 7


def test_two_classes_of_which_one_is_never_drawn_are_as_one():
    masks = masks_of(0, 1, 2, 4)
    one, two = SampleSet(masks, GRID), SampleSet(masks.view(np.uint8), GRID, labels=LABELS[:2])
    for name in ("mean", "variance", "volumes_ml"):
        assert np.array_equal(getattr(one, name)(1), getattr(two, name)(1))
        assert not getattr(two, name)(2).any()
    np.testing.assert_array_equal(one.entropy(), two.entropy())
    assert np.array_equal(one.consensus(), two.consensus())


def test_labels_are_numbered_from_one():
    sample_set = SampleSet(*drawn(3, 2), labels=LABELS[:2])
    for call in (sample_set.mean, sample_set.variance, sample_set.volumes_ml, sample_set.of_class):
        for label in (0, 3):
            with pytest.raises(ValueError, match=f"one of 1 to 2, got {label}"):
                call(label)
    with pytest.raises(ValueError, match="takes no threshold"):
        sample_set.consensus(0.5)


def test_one_class_is_seen_not_copied():
    masks = masks_of(1, 2)
    sample_set = SampleSet(masks, GRID)
    assert np.shares_memory(sample_set.masks, masks) and sample_set.masks.dtype == np.uint8
    assert np.shares_memory(sample_set.of_class(1), masks) and sample_set.of_class(1).dtype == bool
    assert sample_set.mean() is sample_set.mean(1) and not sample_set.mean().flags.writeable


@pytest.mark.parametrize(("classes", "most"), [(1, 9.5), (2, 16.5)])
def test_maps_need_no_more_memory_than_themselves(classes, most):
    """Peak in bytes a voxel: a float32 mean for each class, the entropy, and one count or consensus beside them."""
    shape, n = (60, 64, 64), 5
    grid = Geometry(shape[::-1], (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    masks = np.random.default_rng(0).integers(0, classes + 1, (n, *shape), dtype=np.uint8)
    sample_set = SampleSet(masks, grid, labels=LABELS[:classes])
    tracemalloc.start()
    try:
        entropy, consensus = sample_set.entropy(), sample_set.consensus()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert entropy.any() and consensus.any()
    assert peak / math.prod(shape) < most

"""Ensembles by their size against masks worked out by hand, and against plain loops over pixels and classes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AmbiguousSegLib.evaluation.bootstrap import Bootstrap, mean_of
from AmbiguousSegLib.evaluation.comparison import ALL_CLASSES
from AmbiguousSegLib.evaluation.ensemble_size import SizeCurve, checked_sizes, chosen_samples, size_scores
from AmbiguousSegLib.evaluation.ensemble_size_table import curves_as_dict, estimates, shown_table, size_table
from AmbiguousSegLib.metrics.figures import MaskSets
from AmbiguousSegLib.metrics.surface import hd95


def row(*pixels):
    return np.array([pixels], np.uint8)


def scores(samples, raters, sizes, reference="majority", subsets=0, spacing=(1.0, 1.0), identity="case", subject="s"):
    sets = MaskSets(np.stack(samples), np.stack(raters), 1, spacing_mm=spacing)
    chosen = chosen_samples(sizes, len(samples), subsets)
    return size_scores(identity, subject, sets, ["lesion"], chosen, reference)[""]


SAMPLES = [row(1, 0, 0, 0, 0), row(1, 1, 1, 0, 0), row(0, 1, 1, 0, 0), row(0, 0, 0, 0, 1)]


def test_the_first_n_by_hand():
    """Counts of 2: 2 1 1 0 0, both mark the first alone; of 3: 2 2 2 0 0; of 4: 2 2 2 0 1, one half is background."""
    found = scores(SAMPLES, [row(1, 1, 0, 0, 0)], (1, 2, 3, 4))
    assert found.dice == pytest.approx([2 / 3, 2 / 3, 4 / 5, 0])
    assert found.iou == pytest.approx([1 / 2, 1 / 2, 2 / 3, 0])
    assert found.empty.tolist() == [0, 0, 0, 1]
    # All in one row: every marked pixel is a border. n = 3: distances 0 0 1 one way, 0 0 the other; 95th percentile .9.
    assert found.hd95_mm == pytest.approx([0.95, 0.95, 0.9, 0]) and found.measured.tolist() == [1, 1, 1, 0]
    # Alone: 2/3, 4/5, 1/2, 0.
    assert found.single_dice == pytest.approx((2 / 3 + 4 / 5 + 1 / 2) / 4)
    assert found.single_iou == pytest.approx((1 / 2 + 2 / 3 + 1 / 3) / 4)


def test_the_reference_is_the_majority_or_each_rater_who_marks_something():
    raters = [row(1, 1, 0, 0, 0), row(1, 0, 0, 0, 0), row(0, 0, 0, 0, 0)]
    majority = scores(SAMPLES, raters, (1, 3))  # two of three mark the first pixel alone
    assert majority.dice == pytest.approx([1, 2 / 4])
    each = scores(SAMPLES, raters, (1, 3), "each")  # of the two who mark something
    assert each.dice == pytest.approx([(2 / 3 + 1) / 2, (4 / 5 + 2 / 4) / 2])
    assert each.iou == pytest.approx([(1 / 2 + 1) / 2, (2 / 3 + 1 / 3) / 2])
    two = [row(1, 0, 0, 0, 0), row(0, 1, 0, 0, 0)]
    assert scores(SAMPLES, two, (1,)) is None  # one half of two is background: no reference
    assert scores(SAMPLES, two, (1,), "each") is not None
    assert scores(SAMPLES, [row(0, 0, 0, 0, 0)], (1,), "each") is None
    with pytest.raises(ValueError, match="one of majority, each, got 'all'"):
        scores(SAMPLES, two, (1,), "all")


def test_random_subsets_are_the_mean_over_all_that_there_are():
    """Of four samples, subsets of one are drawn alike often: in the limit the mean over the samples alone."""
    raters = [row(1, 1, 0, 0, 0)]
    found = scores(SAMPLES, raters, (1, 3, 4), subsets=4000)
    assert found.dice[0] == pytest.approx(found.single_dice, abs=0.02)
    # Of the four triples each is as likely.
    triples = []
    for left in range(4):
        count = sum(mask.astype(int) for k, mask in enumerate(SAMPLES) if k != left)
        marked = count > 1.5
        triples.append(2 * (marked & (raters[0] > 0)).sum() / max(marked.sum() + 2, 1))
    assert found.dice[1] == pytest.approx(np.mean(triples), abs=0.02)
    assert found.dice[2] == 0 and found.empty[2] == 1  # one subset alone has all of them
    chosen = chosen_samples((2, 3), 6, 5, seed=1)
    assert chosen[3].shape == (5, 3) and all(len(set(subset)) == 3 for subset in chosen[3].tolist())
    assert np.array_equal(chosen[3], chosen_samples((3,), 6, 5, seed=1)[3])
    assert not np.array_equal(chosen[3], chosen_samples((3,), 6, 5, seed=2)[3])


def plain_consensus(masks, classes):
    """The most frequent of background and classes at each pixel, background where two are as frequent."""
    found = np.zeros(masks.shape[1:], np.uint8)
    for place in np.ndindex(*found.shape):
        votes = [sum(int(mask[place]) == label for mask in masks) for label in range(classes + 1)]
        best = max(votes)
        found[place] = votes.index(best) if votes.count(best) == 1 else 0
    return found


def plain_dice(a, b, labels):
    present = [k for k in labels if (a == k).any() or (b == k).any()]
    values = [2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()) for k in present]
    return np.mean(values) if present else 1.0


@pytest.mark.parametrize("reference", ["majority", "each"])
def test_two_classes_against_plain_loops(reference):
    rng = np.random.default_rng(4)
    truth = rng.choice([0, 1, 2], (6, 7), p=[0.5, 0.3, 0.2])
    noisy = [np.where(rng.random((6, 7)) < 0.3, rng.integers(0, 3, (6, 7)), truth) for _ in range(12)]
    samples, raters = np.array(noisy[:9], np.uint8), np.array(noisy[9:], np.uint8)
    sets = MaskSets(samples, raters, 2, spacing_mm=(0.5, 2.0))
    found = size_scores("case", "", sets, ["a", "b"], chosen_samples((1, 2, 5, 9), 9), reference)
    against = [plain_consensus(raters, 2)] if reference == "majority" else list(raters)
    assert list(found) == ["a", "b", ALL_CLASSES]
    for name, labels in (("a", [1]), ("b", [2]), (ALL_CLASSES, [1, 2])):
        for k, n in enumerate((1, 2, 5, 9)):
            fused = plain_consensus(samples[:n], 2)
            assert found[name].dice[k] == pytest.approx(np.mean([plain_dice(fused, r, labels) for r in against]))
            apart = [[hd95(fused == c, r == c, (0.5, 2.0)) for c in labels] for r in against]
            assert found[name].hd95_mm[k] / found[name].measured[k] == pytest.approx(np.mean(apart))
        alone = [plain_dice(s, r, labels) for s in samples for r in against]
        assert found[name].single_dice == pytest.approx(np.mean(alone))


def curve():
    """Dice of n = 1, 3: (2/3, 4/5), (0 as empty, 4/5); a third case has no reference."""
    empty = [row(0, 0, 0, 0, 0), *SAMPLES[1:]]
    other = [empty[0], row(1, 1, 1, 0, 0), row(1, 1, 1, 0, 0)]
    cases = (
        scores(SAMPLES[:3], [row(1, 1, 0, 0, 0)], (1, 3), identity="a", subject="p"),
        scores(other, [row(1, 1, 0, 0, 0)], (1, 3), identity="b", subject="q"),
    )
    return SizeCurve("model", "", (1, 3), 3, cases, ("c",))


def test_the_table_is_that_of_the_paper():
    one, three = estimates(curve())
    assert one["dice"].value == pytest.approx(1 / 3) and one["dice_marked"].value == pytest.approx(2 / 3)
    assert one["iou"].value == pytest.approx(1 / 4) and one["iou_marked"].value == pytest.approx(1 / 2)
    assert one["hd95_mm"].value == pytest.approx(0.95) and one["empty"] == 1 and three["empty"] == 0
    assert three["dice"].value == three["dice_marked"].value == pytest.approx(4 / 5)
    assert one["gain"].value == 0 and three["gain"].value == pytest.approx(4 / 5 - 1 / 3)
    bootstrap = Bootstrap(["p", "q"])
    expected = bootstrap.estimate(mean_of(np.array([[4 / 5 - 2 / 3, 4 / 5]])))  # paired by subject
    assert (three["gain"].low, three["gain"].high) == pytest.approx((expected.low, expected.high))
    table = size_table([curve()], ["a note"])
    assert [r["n"] for r in table.rows] == [1, 3] and table.rows[0]["cases"] == 2
    shown = shown_table(table)
    assert shown.rows[0]["dice"] == "0.333 [0.667]" and shown.rows[0]["iou"] == "0.250 [0.500]"
    assert shown.rows[0]["empty"] == 1 and shown.rows[0]["gain"] is None
    assert shown.rows[1]["gain"].startswith("+0.467 (+0.133 to +0.800")
    assert "a note" in shown.notes and any("1 whose reference marks nothing left out" in n for n in shown.notes)
    (told,) = curves_as_dict([curve()])
    assert told["cases"][1]["dice"] == pytest.approx([0, 4 / 5]) and told["cases"][1]["hd95_mm"][0] is None


def test_without_a_spacing_or_a_case_nothing_is_made_up():
    found = scores(SAMPLES, [row(1, 1, 0, 0, 0)], (1,), spacing=None)
    assert np.isnan(found.hd95_mm).all() and found.dice == pytest.approx([2 / 3])
    (only,) = estimates(SizeCurve("model", "", (1,), 4, (found,)))
    assert math.isnan(only["hd95_mm"].value) and only["dice"].value == pytest.approx(2 / 3)
    (nothing,) = estimates(SizeCurve("model", "", (1,), 4, (), ("a",)))
    assert math.isnan(nothing["dice"].value) and nothing["empty"] == 0
    assert shown_table(size_table([SizeCurve("model", "", (1,), 4, (), ("a",))])).rows[0]["dice"] == "– [–]"


def test_sizes_lie_within_the_samples():
    assert checked_sizes([5, 1, 5], 8) == (1, 5)
    for wrong in ([], [0, 1], [9]):
        with pytest.raises(ValueError, match="must lie in 1 to 8, the number of samples, got"):
            checked_sizes(wrong, 8)
    with pytest.raises(ValueError, match="random subsets must be 0 or more, got -1"):
        chosen_samples((1,), 2, -1)

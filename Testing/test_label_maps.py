"""Label maps against the rule in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from AmbiguousSegLib.label_maps import as_label_map, class_mask, label_map_of

EIGHTHS = 8  # sums of these are exact in floating point


def by_hand(shares):
    """The class whose share is above background's and every other's, 0 if there is none; ``shares`` are fractions."""
    everything = [1 - sum(shares), *shares]
    best = max(everything)
    return everything.index(best) if everything.count(best) == 1 else 0


@pytest.mark.parametrize("classes", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_largest_wins_and_ties_are_background(classes, kind):
    counts = np.random.default_rng(classes).multinomial(EIGHTHS, [1 / (1 + classes)] * (1 + classes), 500).T[1:]
    expected = [by_hand([Fraction(int(c), EIGHTHS) for c in column]) for column in counts.T]
    found = label_map_of((counts / EIGHTHS).astype(kind))
    assert found.dtype == np.uint8 and found.tolist() == expected
    ties = [sorted([EIGHTHS - sum(c), *c])[-2:] for c in counts.T]
    assert any(a == b for a, b in ties) and len(set(expected)) == classes + 1


def test_one_class_is_above_one_half():
    values = np.array([[0.5, np.nextafter(np.float32(0.5), 1), 0.49, -3, 7]], np.float32)
    assert label_map_of(values).tolist() == [0, 1, 0, 0, 1]


def test_networks_may_leave_the_unit_interval():
    values = np.array([[1.2, 0.9, -0.5, 0.6], [0.3, 0.95, -0.5, 0.6]])  # background: -0.5, -0.85, 2, -0.2
    assert label_map_of(values).tolist() == [1, 2, 0, 0]


def test_what_is_no_number_is_background():
    values = np.full((2, 3), np.nan)
    values[1, 1], values[:, 2] = 1, (0.1, 0.9)
    assert label_map_of(values).tolist() == [0, 0, 2]
    assert label_map_of(values[:1]).tolist() == [0, 0, 0]


def test_the_margin_is_how_much_larger_a_class_must_be():
    values = np.array([[0.5, 0.5, 0.375], [0.25, 0.375, 0.5]])
    assert label_map_of(values, 0.2).tolist() == [1, 0, 0]
    assert label_map_of(values, 0.125).tolist() == [1, 0, 0]
    assert label_map_of(values, 0.1).tolist() == [1, 1, 2]


def test_any_shape_of_space():
    values = np.random.default_rng(0).random((3, 2, 4, 5)) / 2
    flat = label_map_of(values.reshape(3, -1))
    np.testing.assert_array_equal(label_map_of(values), flat.reshape(2, 4, 5))
    assert int(label_map_of(values[:, 0, 0, 0])) == flat[0]


@pytest.mark.parametrize("classes", [0, 256])
def test_one_to_255_classes(classes):
    with pytest.raises(ValueError, match=rf"1 to 255 classes .* got shape \({classes}, 2\)"):
        label_map_of(np.zeros((classes, 2)))
    assert label_map_of(np.eye(255)).tolist() == list(range(1, 256))


def test_bool_is_a_label_map_of_one_class_without_a_copy():
    mask = np.array([[True, False], [False, True]])[:, ::-1]
    found = as_label_map(mask)
    assert found.dtype == np.uint8 and np.shares_memory(found, mask) and found.tolist() == [[0, 1], [1, 0]]
    assert as_label_map(found) is found
    with pytest.raises(ValueError, match=r"uint8 .* got float32"):
        as_label_map(mask.astype(np.float32))


def test_where_a_class_is():
    labels = np.array([0, 1, 2, 1], np.uint8)
    assert class_mask(labels, 1, 2).tolist() == [False, True, False, True]
    assert class_mask(labels, 2, 2).tolist() == [False, False, True, False]
    one = np.array([0, 1, 1], np.uint8)
    assert np.shares_memory(class_mask(one, 1, 1), one) and class_mask(one, 1, 1).tolist() == [False, True, True]

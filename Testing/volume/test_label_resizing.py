"""Raters' label maps on another grid, by hand: the label of the largest share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from AmbiguousSegLib.volume.label_resizing import resized_label_maps


def test_one_class_by_hand():
    mask = np.array([[[1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 0, 0]]], np.uint8)
    assert resized_label_maps(mask, (2, 2)).tolist() == [[[1, 0], [1, 1]]]  # shares 2/4, 1/4, 4/4, 2/4
    third = resized_label_maps(mask[:, :3, :3], (2, 2))
    assert third.tolist() == [[[1, 0], [1, 1]]]  # of 2.25: 1.5, 0.5 + 0, 1.5 of area, 1.5
    assert resized_label_maps(mask, (8, 4)).tolist() == np.repeat(mask, 2, axis=1).tolist()
    assert resized_label_maps(mask, (4, 4)) is mask


def test_labels_by_hand():
    """The label of the largest share of area, background among them; of equal shares the lowest, background last."""
    blocks = {
        (1, 1, 2, 0): 1,  # shares 2, 1 and 1 of background
        (2, 1, 2, 0): 2,
        (0, 0, 1, 2): 0,
        (1, 1, 2, 2): 1,
        (0, 2, 0, 2): 2,
        (1, 2, 3, 0): 1,
        (3, 2, 0, 0): 0,
        (3, 2, 3, 2): 2,
    }
    masks = np.array([np.reshape(block, (2, 2)) for block in blocks], np.uint8)
    small = resized_label_maps(masks, (1, 1))
    assert small.dtype == np.uint8 and small[:, 0, 0].tolist() == list(blocks.values())


@pytest.mark.parametrize("size", [(7, 9), (5, 16), (16, 18)])
def test_shrinking_marks_what_is_at_least_half_covered(size):
    masks = (np.random.default_rng(0).random((3, 16, 18)) < 0.5).astype(np.uint8)
    fine = masks.repeat(size[0], axis=1).repeat(size[1], axis=2).astype(float)  # whole numbers of both pixels
    share = fine.reshape(3, size[0], 16, size[1], 18).mean(axis=(2, 4))
    np.testing.assert_array_equal(resized_label_maps(masks, size), share >= 0.5 - 1e-9)


@pytest.mark.parametrize("size", [(23, 40), (17, 19)])
def test_growing_cuts_the_linear_interpolation_at_half(size):
    """As a second implementation has it; so outlines grow without steps."""
    masks = (np.random.default_rng(1).random((3, 16, 18)) < 0.5).astype(np.uint8)
    grown = torch.nn.functional.interpolate(torch.from_numpy(masks)[None].double(), size, mode="bilinear")[0].numpy()
    np.testing.assert_array_equal(resized_label_maps(masks, size), grown >= 0.5 - 1e-9)

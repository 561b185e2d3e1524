"""What is seen in a case, against cases whose content is known; and how much memory it takes to look."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.data.inspection import inspect
from AmbiguousSegLib.volume.geometry import Geometry


@dataclass(frozen=True, eq=False)
class MadeCase:
    values: np.ndarray
    masks: np.ndarray
    identity: str = "c"
    subject: str = "s"
    group: str = ""
    part: str = ""
    modality: str = "CT"

    @property
    def rater_names(self):
        return tuple(f"r{k}" for k in range(len(self.masks)))

    def load_image(self):
        size = self.values.shape[:0:-1]
        return self.values, Geometry(size, (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))

    def load_masks(self):
        return self.masks


def test_marks_labels_and_the_largest_mark_by_hand():
    """Two marks of the same rater, 2 x 1 x 3 and 1 x 4 x 4 voxels (z, y, x); another rater joins nothing to them."""
    masks = np.zeros((3, 6, 9, 8), np.uint8)
    masks[0, 1:3, 2, 1:4] = 1
    masks[0, 5, 4:8, 4:8] = 3
    masks[1, 0, 8, 0] = 1
    seen = inspect(MadeCase(np.arange(432, dtype=np.int16).reshape(1, 6, 9, 8), masks), 3)
    assert seen.marked == ((0, 1, 2, 5), (2, 4, 5, 6, 7, 8), (0, 1, 2, 3, 4, 5, 6, 7))
    assert seen.largest_px == (1, 4, 4) and seen.labels == (1, 3) and seen.empty_raters == 1
    assert (seen.values[0].least, seen.values[0].greatest, seen.values[0].median) == (0, 431, 215.5)


def test_raters_marks_that_touch_are_one():
    masks = np.zeros((2, 1, 5, 9), np.uint8)
    masks[0, 0, 2, :4], masks[1, 0, 2, 4:7] = 1, 1
    seen = inspect(MadeCase(np.ones((1, 1, 5, 9), np.uint8), masks), 1)
    assert seen.largest_px == (1, 1, 7)


def test_nothing_marked():
    seen = inspect(MadeCase(np.ones((1, 2, 5, 9), np.uint8), np.zeros((2, 2, 5, 9), np.uint8)), 1)
    assert seen.marked == ((), (), ()) and seen.largest_px == (0, 0, 0) and seen.labels == () and seen.empty_raters == 2


def test_looking_takes_little_more_than_the_case_itself():
    """Of 1 M voxels and 4 raters, the union of their marks (1 byte a voxel) and some, not 8 bytes for each mask."""
    masks = np.zeros((4, 64, 128, 128), np.uint8)
    masks[:, 10:14, 50:60, 50:60] = 1
    case = MadeCase(np.ones((1, 64, 128, 128), np.int16), masks)
    tracemalloc.start()
    inspect(case, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * masks[0].size  # percentiles take 16 bytes for each of at most 2 M values; counting took 32

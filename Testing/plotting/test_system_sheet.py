"""The sheet of all systems: where each mask is drawn, and that it can be read on a screen."""

from __future__ import annotations

import numpy as np
import pytest

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.plotting.pictures import GAP, RATER, SAMPLE
from AmbiguousSegLib.plotting.system_sheet import MOST_HEIGHT, Shown, system_sheet


def corner(y: int, x: int, height: int = 64, width: int = 64) -> np.ndarray:
    """A mask of one pixel in twos, so that it can be told from all others."""
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + 2, x : x + 2] = 1
    return mask


def marked(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (picture == color).all(2)


@pytest.mark.parametrize("systems", [3, 19])
def test_rows_are_systems_and_cases_stand_side_by_side(systems):
    """System k draws at row 3·k of the image; its tile is the k-th below that of the raters, of each case."""
    names = [f"a-system-of-number-{k}" for k in range(systems)]
    samples = {name: np.stack([corner(3 * k, 40)] * 9) for k, name in enumerate(names)}
    cases = [Shown(f"case {n}", np.zeros((1, 64, 64)), corner(9, 9)[None], samples) for n in (1, 2)]
    got = system_sheet(cases, [Label("nodule")])
    tile = (len(got) + GAP) // (1 + systems) - GAP
    assert len(got) == (1 + systems) * (tile + GAP) - GAP <= MOST_HEIGHT
    assert tile == {3: 128, 19: 118}[systems] and got.shape[1] < MOST_HEIGHT
    for k in range(systems):
        row = marked(got[(k + 1) * (tile + GAP) :][:tile], SAMPLE)
        ys, _ = np.nonzero(row)
        assert abs(ys.mean() - (3 * k + 1) * tile / 64) < 1
        # Eight samples of each case, in two groups: 40 and 41 of 64 pixels from the left of each tile.
        starts = np.flatnonzero(np.diff(row.any(0).astype(int), prepend=0) == 1)
        assert len(starts) == 2 * 8 and set(np.diff(starts)) == {tile + GAP, starts[8] - starts[7]}
    raters = np.nonzero(marked(got, RATER))
    assert raters[0].max() < tile


def test_pictures_that_are_not_square_keep_their_shape():
    """A mask that fills 32 × 64 pixels is drawn 64 × 128 in the middle of its tile."""
    masks = np.ones((1, 32, 64), np.uint8)
    got = system_sheet([Shown("case 1", np.zeros((1, 32, 64)), masks, {"one": masks})], [Label("nodule")])
    ys, xs = np.nonzero(marked(got[128 + GAP :], SAMPLE))
    assert (ys.min(), ys.max()) == (32, 95) and xs.max() - xs.min() == 127

"""The picture of a sample set: which slices, which outlines, which maps."""

from __future__ import annotations

import numpy as np

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.plotting.overview import most_disagreement, overview
from AmbiguousSegLib.plotting.pictures import CONSENSUS, RATER, SAMPLE, ensemble_row, heat, outlined, photograph
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((12, 10, 5), (0.5, 0.5, 2.0), (3.0, -4.0, 5.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
SIDE, STEP = 160, 162  # of a picture, and to the next
CORE, HALO, RIM = Label("core", (1.0, 0.0, 0.2)), Label("halo", (0.0, 0.4, 1.0)), Label("rim", (0.0, 1.0, 0.0))


def test_overview_takes_the_slices_with_most_disagreement():
    variance, mean = np.zeros((5, 2, 2)), np.ones((5, 2, 2))
    variance[3], variance[1] = 0.25, 0.1
    mean[4] = 0
    assert most_disagreement(variance, mean, 2) == [1, 3]
    assert most_disagreement(variance, mean, 9) == [0, 1, 2, 3]
    assert most_disagreement(np.zeros((5, 2, 2)), np.zeros((5, 2, 2)), 3) == [2]


def test_overview_of_empty_samples_and_of_a_photograph():
    empty = SampleSet(np.zeros((2, 5, 10, 12), bool), GRID)
    assert overview(empty, np.random.default_rng(0).random((1, 5, 10, 12))).shape[2] == 3
    flat = Geometry((20, 30, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    masks = np.zeros((2, 1, 30, 20), bool)
    masks[0, 0, 5:9, 5:9] = True
    assert overview(SampleSet(masks, flat), np.random.default_rng(0).random((3, 1, 30, 20))).std() > 10


def pictures(sheet):
    """Rows of pictures."""
    return [
        [sheet[y : y + SIDE, x : x + SIDE] for x in range(0, sheet.shape[1], STEP)]
        for y in range(0, sheet.shape[0], STEP)
    ]


def marked(picture, color):
    """Where a picture has exactly this colour, below its caption."""
    return (picture == color).all(axis=2)[20:]


def middle(picture, y, x):
    """Colour in the middle of a voxel, where interpolation has little to say."""
    return picture[int((y + 0.5) * SIDE / 10), int((x + 0.5) * SIDE / 12)].astype(int)


def nested(n=4):
    """Cores inside halos, of different sizes; the whole grid is 6 mm wide, so that all of it is shown."""
    masks = np.zeros((n, 5, 10, 12), np.uint8)
    for k, mask in enumerate(masks):
        mask[1:4, 2:9, 2 : 9 + k % 3] = 2
        mask[2:4, 4:7, 4 : 6 + k % 2] = 1
    return masks


VOLUME = np.random.default_rng(0).random((1, 5, 10, 12)) * np.ones((1, 5, 10, 12))


def test_several_classes_have_a_mean_each_and_their_entropy():
    masks = nested()
    sample_set = SampleSet(masks, GRID, labels=(CORE, HALO))
    rows = pictures(overview(sample_set, VOLUME))
    assert len(rows) == 3 and {len(row) for row in rows} == {1 + 4 + 1 + 2 + 1}
    colors = (255, 0, 51), (0, 102, 255)
    for z, row in enumerate(rows, start=1):
        for picture, mask in zip(row[1:5], masks[:, z]):
            for number, color in enumerate(colors, start=1):
                drawn = marked(picture, color)
                assert drawn.any() == (mask == number).any()
                ys, xs = np.nonzero(drawn)
                if len(ys):  # the outline reaches from the first to the last voxel of its class
                    rows_of, columns_of = np.nonzero(mask == number)
                    assert abs(ys.min() + 20 - rows_of.min() * SIDE / 10) <= 1
                    assert abs(xs.min() - columns_of.min() * SIDE / 12) <= 1
                    assert abs(ys.max() + 21 - (rows_of.max() + 1) * SIDE / 10) <= 1
                    assert abs(xs.max() + 1 - (columns_of.max() + 1) * SIDE / 12) <= 1
            assert not marked(picture, SAMPLE).any()
        assert not marked(row[5], CONSENSUS).any() and marked(row[5], colors[1]).any()
        core, halo, entropy = row[6:]
        shown = (core, sample_set.mean(1), 1), (halo, sample_set.mean(2), 1), (entropy, sample_set.entropy(), np.log(3))
        for picture, values, largest in shown:
            for y, x in ((5, 5), (3, 9), (8, 4), (0, 11)):
                expected = heat(values[z, y : y + 1, x : x + 1], largest)[0, 0]
                np.testing.assert_allclose(middle(picture, y, x), expected, atol=8)
    title = (rows[0][6][:20] == (255, 0, 51)).all(axis=2)  # in the colour of the label
    assert title.any() and not (rows[0][6][:20] == (0, 102, 255)).all(axis=2).any()


def test_of_more_than_three_classes_one_mean_of_all_is_shown():
    masks = nested()
    masks[:, 2, 9, 2] = 3, 4, 3, 0
    labels = (CORE, HALO, RIM, Label("other"))
    rows = pictures(overview(SampleSet(masks, GRID, labels=labels), VOLUME))
    assert {len(row) for row in rows} == {1 + 4 + 1 + 1 + 1}
    expected = heat(np.array([[0.75]]), 1.0)[0, 0]
    np.testing.assert_allclose(middle(rows[1][6], 9, 2), expected, atol=8)


def test_slices_are_those_of_most_entropy():
    masks = np.zeros((2, 9, 10, 12), np.uint8)
    masks[:, :, 4, 4] = 1  # everywhere agreed
    for z in (1, 2, 4, 5, 7, 8):
        masks[0, z, 4, 5 : 6 + z] = 2
        masks[1, z, 4, 5 : 6 + z] = 1  # marked alike, but as another class
    grid = Geometry((12, 10, 9), GRID.spacing_mm, GRID.origin_mm, GRID.direction)
    two = SampleSet(masks, grid, labels=(CORE, HALO))
    marked_at_all = np.minimum(masks, 1).mean(0)
    assert most_disagreement(two.entropy(), marked_at_all, 6) == [1, 2, 4, 5, 7, 8]
    assert len(pictures(overview(two, np.random.default_rng(0).random((1, 9, 10, 12))))) == 6


def test_a_class_that_is_not_there_changes_no_outline():
    masks = np.minimum(nested(), 1)
    one = pictures(overview(SampleSet(masks, GRID), VOLUME))
    two = pictures(overview(SampleSet(masks, GRID, labels=(CORE, HALO)), VOLUME))
    for row, other in zip(one, two, strict=True):
        np.testing.assert_array_equal(row[0], other[0])
        for picture, second in zip(row[1:5], other[1:5]):
            np.testing.assert_array_equal(marked(picture, SAMPLE), marked(second, (255, 0, 51)))
        np.testing.assert_array_equal(marked(row[5], CONSENSUS), marked(other[5], (255, 0, 51)))
        np.testing.assert_array_equal(row[6][20:], other[6][20:])


# Contact sheets


def test_a_row_of_one_class_has_one_colour_for_raters_and_one_for_samples():
    image, masks = np.random.default_rng(0).random((1, 10, 12)), np.minimum(nested(), 1)[:, 2]
    for kind in (bool, np.uint8):
        row = ensemble_row(image, masks[:2].astype(kind), masks.astype(kind), 3, 4)
        assert len(row) == 1 + 3 + 4 + 1 and row[3] is None
        np.testing.assert_array_equal(row[1], outlined(photograph(image), masks[0] == 1, RATER))
        np.testing.assert_array_equal(row[5], outlined(photograph(image), masks[1] == 1, SAMPLE))
        np.testing.assert_array_equal(row[-1], heat(masks.mean(0), 1.0))


def test_a_row_of_several_classes_is_outlined_in_their_colours():
    image, masks = np.random.default_rng(0).random((1, 10, 12)), nested()[:, 2]
    row = ensemble_row(image, masks[:2], masks, 2, 4, (CORE, HALO))
    for picture, mask in zip(row[1:-1], (*masks[:2], *masks)):
        expected = outlined(outlined(photograph(image), mask == 1, (255, 0, 51)), mask == 2, (0, 102, 255))
        np.testing.assert_array_equal(picture, expected)
    np.testing.assert_array_equal(row[-1], heat((masks > 0).mean(0), 1.0))

"""Places that somebody might point at."""

from dataclasses import replace

import numpy as np
import pytest

from AmbiguousSegLib.data.pointing import PointConfig, draw_point, pointed, without_lesion
from AmbiguousSegLib.volume.point_map import point_map
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

SPACING_MM = 0.5


@pytest.fixture
def scene():
    """A lesion of brightness .8, a vessel as bright, a bone that is brighter, and a border that was never seen."""
    image = np.full((1, 60, 60), 0.1, np.float32)
    marked = np.zeros((60, 60), bool)
    marked[25:35, 25:37] = True
    image[0, marked] = 0.8
    image[0, 25, 25:37] = 0.7
    image[0, 50:54, 5:50] = 0.8
    image[0, 5:9, 5:50] = 1.0
    image[:, :, 56:] = 0
    return image, marked


def places(scene, config: PointConfig, n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    drawn = [draw_point(config, *scene, SPACING_MM, rng) for _ in range(n)]
    return np.array([place for place, _ in drawn]), np.array([on for _, on in drawn])


def away_mm(marked: np.ndarray, places: np.ndarray) -> np.ndarray:
    marks = np.argwhere(marked)
    return SPACING_MM * np.sqrt(np.square(places[:, None] - marks).sum(-1).min(1))


def test_places_are_on_the_lesion_or_clear_of_it(scene):
    config = PointConfig(near_mm=1.0, elsewhere=0.3, clear_mm=5.0, alike=0.5)
    found, on = places(scene, config)
    distances = away_mm(scene[1], found)
    assert distances[on].max() <= 1.0 and distances[~on].min() >= 5.0
    assert abs(np.mean(~on) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(on))
    assert found[:, 1].max() < 56  # what was never seen is not pointed at
    middle = np.argwhere(scene[1]).mean(0)
    assert np.mean(np.abs(found[on] - middle).max(1) < 4) > 0.5  # half of them around the middle


def test_what_is_as_bright_as_the_lesion_is_pointed_at_more_often(scene):
    image = scene[0][0]
    for alike in (0.0, 1.0):
        found, on = places(scene, PointConfig(elsewhere=1.0, clear_mm=5.0, alike=alike), n=200)
        assert not on.any()
        share = np.mean(image[tuple(found.T)] == np.float32(0.8))
        assert share == 1.0 if alike else share < 0.2


def test_which_random_numbers_lead_where(scene):
    """Three numbers come first, and say by being below their share: elsewhere, as bright, around the middle."""
    image, marked = scene
    config, seen = PointConfig(near_mm=0.2, elsewhere=0.4, clear_mm=5.0, alike=0.5), set()
    away = away_mm(marked, np.argwhere(np.ones_like(marked))).reshape(marked.shape)
    clear = (away >= 5.0) & (image[0] > 0)
    alike = clear & (image[0] == np.float32(0.8))
    for seed in range(60):
        twin = np.random.default_rng(seed)
        below = tuple((twin.random(3) < (0.4, 0.5, 0.5)).tolist())
        place, on = draw_point(config, image, marked, SPACING_MM, np.random.default_rng(seed))
        assert on == (not below[0])
        seen.add(below)
        if on and below[2]:
            near = np.argwhere(marked)
            middle = near.mean(0) + twin.normal(0, np.sqrt(marked.sum()) / 8, 2)
            assert place == tuple(near[np.square(near - middle).sum(1).argmin()])
        else:
            among = np.argwhere(marked if on else alike if below[1] else clear)
            assert place == tuple(among[twin.integers(len(among))])
    assert len(seen) == 8


def test_slices_without_a_map_are_refused(scene):
    plain = Preprocessing(("CT",), "axial", SPACING_MM, (60, 60), 1, Intensity("minmax"))
    for slices, why in ((plain, "point_sigma_mm is None"), (replace(plain, spacing_mm=None), "no pixel spacing")):
        with pytest.raises(ValueError, match=why):
            pointed(PointConfig(), scene[0], scene[1][None].astype(np.uint8), slices, np.random.default_rng(0))


def test_without_marks_or_room_something_is_pointed_at_all_the_same(scene):
    image, marked = scene
    (_, on) = places((image, np.zeros_like(marked)), PointConfig(), n=20)
    assert not on.any()
    found, on = places((image, marked), PointConfig(elsewhere=1.0, clear_mm=500.0), n=20)
    assert on.all() and away_mm(marked, found).max() <= PointConfig().near_mm


def test_away_from_the_lesion_nothing_is_to_be_marked(scene):
    image, marked = scene
    masks = np.stack([marked, np.zeros_like(marked)]).astype(np.uint8)
    slices = Preprocessing(("CT",), "axial", SPACING_MM, (60, 60), 1, Intensity("minmax"), point_sigma_mm=2.0)
    for elsewhere in (0.0, 1.0):
        seen, target, place = pointed(
            PointConfig(2.0, elsewhere=elsewhere), image, masks, slices, np.random.default_rng(1)
        )
        np.testing.assert_array_equal(seen[:1], image)
        np.testing.assert_array_equal(seen[1:], point_map((60, 60), *place, 4.0))
        np.testing.assert_array_equal(target, 0 * masks if elsewhere else masks)


@pytest.mark.parametrize(
    "bad", [{"sigma_mm": 0.0}, {"elsewhere": 1.1}, {"alike": -0.1}, {"near_mm": 5.0, "clear_mm": 5.0}]
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        PointConfig(**bad)


def test_what_lies_beside_a_lesion_is_repeated_by_reflection(scene):
    image, marked = scene  # marks on rows 25 to 34, columns 25 to 36; columns from 56 on were never seen
    made = without_lesion(image, marked, 3)
    strip = image[0, :, :22]  # left: 22 of 56 columns; above and below 22 of 60 rows, right 16 of 56
    assert made.dtype == np.float32 and not made[:, :, 56:].any()
    before = 34 // 2
    for column in range(56):
        at = abs(column - before) % 42  # the strip and its mirror image have a period of 2 · 22 − 2 columns
        np.testing.assert_array_equal(made[0, :, column], strip[:, at if at < 22 else 42 - at])
    assert without_lesion(image, np.ones_like(marked), 3) is None
    assert without_lesion(image, np.zeros_like(marked), 3) is None


def test_bare_items_show_no_lesion_and_have_no_masks(scene):
    image, marked = scene
    slices = Preprocessing(("CT",), "axial", SPACING_MM, (60, 60), 1, Intensity("minmax"), point_sigma_mm=2.0)
    config = PointConfig(2.0, elsewhere=0.0, clear_mm=1.5, bare=0.4)
    rng, bare = np.random.default_rng(0), 0
    for _ in range(200):
        seen, target, place = pointed(config, image, marked[None].astype(np.uint8), slices, rng)
        if np.array_equal(seen[:1], image):
            assert target.any()
        else:
            bare += 1
            np.testing.assert_array_equal(seen[:1], without_lesion(image, marked, 3))
            assert not target.any() and place[1] < 56
    assert abs(bare / 200 - 0.4) < 4 * np.sqrt(0.24 / 200)

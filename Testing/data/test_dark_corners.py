"""Dark corners against geometry worked out by hand, and what they leave as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.dark_corners import DarkCorners, draw_dark_corners
from AmbiguousSegLib.data.transforms import Augmentation, AugmentationConfig, draw_augmentation

EYE = np.eye(2)


def varied(corners: DarkCorners | None) -> Augmentation:
    return Augmentation(EYE, np.zeros(2), 1.0, 0.0, corners=corners)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(0.1, 1, (3, 31, 41)).astype(np.float32), (rng.random((1, 31, 41)) < 0.4).astype(np.float32)


def test_what_is_seen_stays_and_what_is_not_is_dark(pair):
    """31 × 41: half the diagonal is √(31² + 41²)/2 = 25.7 px; the circle about row 15 + 3.1, column 20 − 4.1."""
    image, mask = varied(DarkCorners(radius=0.7, shift=(0.1, -0.1), edge=0.1, rest=0.0))(*pair)
    half, seen, dark = math.hypot(31, 41) / 2, 0, 0
    for row, column in np.ndindex(31, 41):
        distance = math.hypot(row - 18.1, column - 15.9)
        if distance <= 0.6 * half:
            np.testing.assert_array_equal(image[:, row, column], pair[0][:, row, column])
            seen += 1
        elif distance >= 0.7 * half:
            assert (image[:, row, column] == 0).all()
            dark += 1
        else:
            share = (0.7 * half - distance) / (0.1 * half)
            np.testing.assert_allclose(image[:, row, column], share * pair[0][:, row, column], atol=1e-6)
    assert seen > 500 and dark > 200 and image[:, 0, 40].max() == 0 and image[:, 18, 16].min() > 0
    np.testing.assert_array_equal(mask, pair[1])
    assert image.dtype == mask.dtype == np.float32 and image.flags.c_contiguous


def test_some_brightness_may_be_left(pair):
    image, _ = varied(DarkCorners(radius=0.7, shift=(0.0, 0.0), edge=0.1, rest=0.25))(*pair)
    np.testing.assert_allclose(image[:, 0, 0], 0.25 * pair[0][:, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(image[:, 15, 20], pair[0][:, 15, 20])


def test_dark_corners_are_corners():
    """Whatever is drawn, a corner of a square is dark at least in part, and its inner third is never changed."""
    rng, white, touched = np.random.default_rng(1), np.ones((1, 33, 33), np.float32), []
    for _ in range(200):
        image = draw_dark_corners(1.0, rng)(white)[0]
        assert (image[11:22, 11:22] == 1).all() and image[16, 16] == 1
        touched.append(min(image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]))
    assert max(touched) < 1 and np.median(touched) < 0.2


def test_they_come_with_their_probability():
    rng = np.random.default_rng(2)
    drawn = [draw_augmentation(AugmentationConfig(dark_corners=0.3), rng).corners for _ in range(1000)]
    there = [corners for corners in drawn if corners is not None]
    assert abs(len(there) / 1000 - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 1000)
    for name, low, high in (("radius", 0.65, 1.0), ("edge", 0.01, 0.1), ("rest", 0.0, 0.2)):
        values = [getattr(corners, name) for corners in there]
        assert low <= min(values) < low + 0.05 * (high - low) and high - 0.05 * (high - low) < max(values) <= high
    shifts = np.array([corners.shift for corners in there])
    assert np.abs(shifts).max() <= 0.1 and (shifts.min(0) < -0.09).all() and (shifts.max(0) > 0.09).all()


def test_off_is_what_it_was_before():
    """The same bits from the same numbers: two for the mirrors, then six. Configurations from before still load."""
    old = {"flip": True, "rotate_degrees": 20.0, "scale": 0.1, "translate": 0.1, "gain": 0.1, "offset": 0.05}
    config = from_dict(AugmentationConfig, old)
    assert config.dark_corners == 0
    for seed in range(10):
        found, rng = draw_augmentation(config, np.random.default_rng(seed)), np.random.default_rng(seed)
        flips = np.where(rng.random(2) < 0.5, -1.0, 1.0)
        angle, scale, row, column, gain, offset = rng.uniform(-1, 1, 6)
        cos, sin = np.cos(np.deg2rad(20) * angle), np.sin(np.deg2rad(20) * angle)
        np.testing.assert_array_equal(found.matrix, np.array([[cos, -sin], [sin, cos]]) @ np.diag(flips) / 1.1**scale)
        np.testing.assert_array_equal(found.shift, 0.1 * np.array([row, column]))
        assert (found.gain, found.offset, found.corners) == (1 + 0.1 * gain, 0.05 * offset, None)


def test_they_change_nothing_else(pair):
    """With and without them the same change is drawn, and the same numbers after it."""
    for seed in range(5):
        off, on = (np.random.default_rng(seed) for _ in range(2))
        plain = draw_augmentation(AugmentationConfig(flip=True, rotate_degrees=30, gain=0.2), off)
        dark = draw_augmentation(AugmentationConfig(flip=True, rotate_degrees=30, gain=0.2, dark_corners=1.0), on)
        assert off.random() == on.random()
        image, mask = plain(*pair)
        darker, same = dark(*pair)
        np.testing.assert_array_equal(same, mask)
        np.testing.assert_allclose(darker, dark.corners(image), atol=1e-6)

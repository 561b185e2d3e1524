"""Augmentations against changes made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from AmbiguousSegLib.data.transforms import Augmentation, AugmentationConfig, draw_augmentation, one_hot

EYE = np.eye(2)
SIDE = 12


def rotation(degrees: float) -> np.ndarray:
    """Matrix from new to old (row, column) that turns a picture counter-clockwise, as ``np.rot90`` does."""
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


def change(matrix=EYE, shift=(0.0, 0.0), gain: float = 1.0, offset: float = 0.0) -> Augmentation:
    return Augmentation(np.asarray(matrix, float), np.array(shift), gain, offset)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Image of two channels and a binary mask, without any symmetry."""
    rng = np.random.default_rng(0)
    return rng.random((2, SIDE, SIDE), np.float32), (rng.random((1, SIDE, SIDE)) < 0.4).astype(np.float32)


def disc(side: int, radius: float, row: float | None = None, column: float | None = None) -> np.ndarray:
    rows, columns = np.indices((side, side))
    middle = (side - 1) / 2
    distance = np.hypot(rows - (middle if row is None else row), columns - (middle if column is None else column))
    return (distance < radius).astype(np.float32)[None]


def assert_float32(*arrays: np.ndarray) -> None:
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in arrays)


def test_no_change_is_none(pair):
    image, mask = change()(*pair)
    np.testing.assert_array_equal(image, pair[0])
    np.testing.assert_array_equal(mask, pair[1])
    assert_float32(image, mask)


@pytest.mark.parametrize(("diagonal", "axes"), [((-1, 1), (1,)), ((1, -1), (2,)), ((-1, -1), (1, 2))])
def test_flips_are_exact(pair, diagonal, axes):
    image, mask = change(np.diag(diagonal))(*pair)
    np.testing.assert_array_equal(image, np.flip(pair[0], axes))
    np.testing.assert_array_equal(mask, np.flip(pair[1], axes))
    assert_float32(image, mask)


def test_flips_on_the_general_way_are_those_of_the_short_one(pair):
    """A shift that is nearly nothing leads through interpolation."""
    image, mask = change(np.diag([-1, 1]), (1e-12, 0.0))(*pair)
    np.testing.assert_allclose(image, np.flip(pair[0], 1), atol=1e-6)
    np.testing.assert_array_equal(mask, np.flip(pair[1], 1))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_those_of_numpy(pair, turns):
    image, mask = change(rotation(90 * turns))(*pair)
    np.testing.assert_allclose(image, np.rot90(pair[0], turns, (1, 2)), atol=1e-6)
    np.testing.assert_array_equal(mask, np.rot90(pair[1], turns, (1, 2)))


def test_a_rotation_of_the_configuration_is_a_rotation():
    """Drawn angles stay within the range, reach its ends, and keep lengths."""
    rng = np.random.default_rng(1)
    angles = []
    for _ in range(300):
        matrix = draw_augmentation(AugmentationConfig(rotate_degrees=30), rng).matrix
        np.testing.assert_allclose(matrix @ matrix.T, EYE, atol=1e-12)
        angles.append(np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])))
    assert -30 <= min(angles) < -28 and 28 < max(angles) <= 30 and abs(np.mean(angles)) < 4 * 30 / np.sqrt(3 * 300)


@pytest.mark.parametrize(
    ("shift", "rows", "columns"), [((0.25, 0.0), 3, 0), ((0.0, -0.5), 0, -6), ((-0.25, 0.25), -3, 3)]
)
def test_translation_by_whole_pixels(pair, shift, rows, columns):
    """The shift says where a new pixel comes from. The border is repeated in the image; the mask ends there."""
    image, mask = change(shift=shift)(*pair)
    source_rows, source_columns = np.arange(SIDE) + rows, np.arange(SIDE) + columns
    inside = ((0 <= source_rows) & (source_rows < SIDE))[:, None] & ((0 <= source_columns) & (source_columns < SIDE))
    source = np.ix_(np.clip(source_rows, 0, SIDE - 1), np.clip(source_columns, 0, SIDE - 1))
    np.testing.assert_allclose(image, np.stack([channel[source] for channel in pair[0]]), atol=1e-6)
    np.testing.assert_array_equal(mask[0], pair[1][0][source] * inside)


def test_a_shift_of_half_a_pixel_is_the_mean_of_two(pair):
    image, mask = change(shift=(0.0, 0.5 / SIDE))(pair[0], 0.7 * pair[1])
    np.testing.assert_allclose(image[:, :, :-1], (pair[0][:, :, :-1] + pair[0][:, :, 1:]) / 2, atol=1e-6)
    expected = 0.7 * (pair[1][:, :, :-1] + pair[1][:, :, 1:]) / 2  # a mean of masks is not cut at one half
    np.testing.assert_allclose(mask[:, :, :-1], expected, atol=1e-6)


@pytest.mark.parametrize("degrees", [20, 45, 160])
def test_label_maps_of_several_classes_stay_label_maps(degrees):
    """Each class moves as its own mask does, but where two or more meet: there the largest is taken."""
    inner, outer = disc(48, 8, 20, 26), disc(48, 16, 20, 26)
    masks = np.concatenate([inner, outer - inner, disc(48, 5, 40, 8)])
    image, changed = change(rotation(degrees), (0.05, 0.02))(np.zeros((1, 48, 48), np.float32), masks)
    assert set(np.unique(changed)) == {0, 1} and changed.sum(axis=0).max() == 1
    assert_float32(image, changed)
    for own, mask in zip(changed, masks, strict=True):
        alone = change(rotation(degrees), (0.05, 0.02))(mask[None], mask[None])[1][0]
        assert np.abs(own - alone).sum() <= 0.04 * alone.sum() and own.sum() > 50
    union = change(rotation(degrees), (0.05, 0.02))(outer, outer)[1][0]
    gaps = (union == 1) & (changed[:2].sum(axis=0) == 0)
    assert gaps.sum() <= 0.01 * union.sum()


def test_a_mean_of_label_maps_is_interpolated_channel_by_channel(pair):
    shares = np.random.default_rng(1).dirichlet((1, 1, 1), (SIDE, SIDE))[..., :2].transpose(2, 0, 1).astype(np.float32)
    turned = change(rotation(33), (0.1, 0.0))
    _, both = turned(pair[0], shares)
    for own, share in zip(both, shares, strict=True):
        np.testing.assert_array_equal(own, turned(pair[0], share[None])[1][0])
    assert both.sum(axis=0).max() <= 1 + 1e-6


@pytest.mark.parametrize("factor", [0.6, 1.5])
def test_scale_changes_areas_by_its_square(factor):
    mask = disc(96, 20)
    image, scaled = change(EYE / factor)(mask, mask)
    assert scaled.sum() / mask.sum() == pytest.approx(factor**2, rel=0.02)
    assert set(np.unique(scaled)) == {0, 1}
    np.testing.assert_array_equal(scaled, image >= 0.5)


def test_drawn_scales_are_log_uniform():
    rng = np.random.default_rng(2)
    drawn = [draw_augmentation(AugmentationConfig(scale=0.5), rng).matrix for _ in range(400)]
    factors = np.array([1 / matrix[0, 0] for matrix in drawn])
    assert all(np.array_equal(matrix, matrix[0, 0] * EYE) for matrix in drawn)
    assert 1 / 1.5 <= factors.min() < 0.69 and 1.46 < factors.max() <= 1.5
    assert abs(np.log(factors).mean()) < 4 * np.log(1.5) / np.sqrt(3 * 400)  # so bigger is as likely as smaller


def test_rotation_and_scale_leave_the_centre_in_its_place():
    mask = disc(65, 12)
    _, moved = change(rotation(33) / 1.2)(mask, mask)
    rows, columns = np.nonzero(moved[0])
    assert (rows.mean(), columns.mean()) == pytest.approx((32, 32), abs=0.05)


def test_image_and_mask_move_together():
    """A disc and its own mask still are one after any change."""
    rng = np.random.default_rng(3)
    config = AugmentationConfig(flip=True, rotate_degrees=180, scale=0.3, translate=0.1)
    moved = 0
    for _ in range(20):
        mask = disc(64, 8, 24, 36)
        image, changed = draw_augmentation(config, rng)(np.concatenate([mask, 1 - mask]), mask)
        np.testing.assert_array_equal(changed[0], image[0] >= 0.5)
        np.testing.assert_allclose(image[1], 1 - image[0], atol=1e-6)
        moved += not np.array_equal(changed, mask)
    assert moved == 20


def test_oblong_images_shift_by_a_share_of_each_side():
    image = np.arange(8 * 16, dtype=np.float32).reshape(1, 8, 16) / 128
    moved, _ = change(shift=(0.25, 0.25))(image, np.zeros_like(image))
    np.testing.assert_allclose(moved[0, :6, :12], image[0, 2:, 4:], atol=1e-6)


def test_intensities_follow_their_formula_and_masks_do_not(pair):
    image, mask = change(gain=1.5, offset=-0.2)(*pair)
    np.testing.assert_allclose(image, np.clip(1.5 * pair[0] - 0.2, 0, 1), atol=1e-6)
    assert image.min() == 0 and image.max() == 1
    np.testing.assert_array_equal(mask, pair[1])
    assert_float32(image, mask)


def test_drawn_intensities_keep_to_their_ranges():
    rng = np.random.default_rng(4)
    drawn = [draw_augmentation(AugmentationConfig(gain=0.2, offset=0.1), rng) for _ in range(300)]
    gains, offsets = np.array([[a.gain, a.offset] for a in drawn]).T
    assert 0.8 <= gains.min() < 0.82 and 1.18 < gains.max() <= 1.2
    assert -0.1 <= offsets.min() < -0.09 and 0.09 < offsets.max() <= 0.1
    assert all(np.array_equal(a.matrix, EYE) and not a.shift.any() for a in drawn)


def test_drawn_flips_are_fair_and_independent():
    rng = np.random.default_rng(5)
    flips = np.array([np.diag(draw_augmentation(AugmentationConfig(flip=True), rng).matrix) for _ in range(800)])
    for row in (-1, 1):
        for column in (-1, 1):
            share = ((flips[:, 0] == row) & (flips[:, 1] == column)).mean()
            assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 800)


def focus(blur: float = 0.0, sharpen: float = 0.0) -> Augmentation:
    return Augmentation(EYE, np.zeros(2), 1.0, 0.0, blur, sharpen)


def test_blur_and_sharpening_of_what_has_a_closed_form(pair):
    """A constant stays one. cos(2πx/P) of whole periods, mirrored at its extremes, is damped by exp(−2π²σ²/P²), and
    sharpening adds a times what a blur of one pixel takes away. Masks are left alone."""
    constant = np.full((2, SIDE, SIDE), 0.3, np.float32)
    for change_of in (focus(2.0), focus(sharpen=3.0), focus(1.0, 1.0)):
        np.testing.assert_allclose(change_of(constant, pair[1])[0], 0.3, atol=1e-6)
        np.testing.assert_array_equal(change_of(constant, pair[1])[1], pair[1])
    period, columns, inner = 16, np.arange(96), slice(24, 72)
    wave = np.cos(2 * np.pi * columns / period)
    image = np.broadcast_to(0.5 + 0.2 * wave, (1, 8, 96)).astype(np.float32)
    mask = np.zeros((1, 8, 96), np.float32)
    damped = {sigma: np.exp(-2 * (np.pi * sigma / period) ** 2) for sigma in (1.0, 2.5)}
    blurred = focus(2.5)(image, mask)[0]
    np.testing.assert_allclose(blurred[0, 4, inner], 0.5 + 0.2 * damped[2.5] * wave[inner], atol=2e-4)
    sharp = focus(sharpen=2.0)(image, mask)[0]
    np.testing.assert_allclose(sharp[0, 4, inner], 0.5 + 0.2 * (1 + 2 * (1 - damped[1.0])) * wave[inner], atol=2e-4)
    both = focus(2.5, 2.0)(image, mask)[0]
    expected = 0.5 + 0.2 * damped[2.5] * (1 + 2 * (1 - damped[1.0])) * wave
    np.testing.assert_allclose(both[0, 4, inner], expected[inner], atol=2e-4)
    assert_float32(blurred, sharp, both)


def test_sharpened_images_stay_in_their_range(pair):
    sharp = focus(sharpen=5.0)(*pair)[0]
    assert sharp.min() == 0 and sharp.max() == 1


def test_drawn_blur_and_sharpening_fill_their_ranges_and_change_nothing_drawn_before():
    rng, past = np.random.default_rng(8), np.random.default_rng(8)
    drawn = [draw_augmentation(AugmentationConfig(blur=2.0, sharpen=0.5), rng) for _ in range(300)]
    for values, most in (([a.blur for a in drawn], 2.0), ([a.sharpen for a in drawn], 0.5)):
        assert 0 <= min(values) < 0.05 * most and 0.95 * most < max(values) <= most
        assert np.mean(values) == pytest.approx(most / 2, abs=4 * most / np.sqrt(12 * 300))
    past.random(2)
    gain = 1 + 0.3 * past.uniform(-1, 1, 6)[4]  # as it was drawn when nothing was blurred
    assert draw_augmentation(AugmentationConfig(gain=0.3), np.random.default_rng(8)).gain == gain


def test_the_number_of_draws_does_not_depend_on_the_configuration():
    """What is drawn after it stays the same when ranges change, and so does each part of the change itself."""

    def draw(*ranges) -> tuple[Augmentation, float]:
        rng = np.random.default_rng(6)
        return draw_augmentation(AugmentationConfig(*ranges), rng), rng.random()

    everything, after = draw(True, 10.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    for ranges in ((), (True,), (False, 5.0), (False, 0.0, 0.0, 0.0, 0.1), (False, *[0.0] * 7, 1.0)):
        assert draw(*ranges)[1] == after
    assert draw(False, 0.0, 0.0, 0.0, 0.3)[0].gain == everything.gain
    np.testing.assert_array_equal(draw(False, 0.0, 0.0, 0.2)[0].shift, everything.shift)


def test_arrays_handed_in_are_left_alone(pair):
    """They are the cases kept in memory: here they are locked."""
    before = [array.copy() for array in pair]
    for array in pair:
        array.flags.writeable = False
    for augmentation in (change(), change(np.diag([-1, 1])), change(rotation(10)), change(gain=2.0)):
        image, mask = augmentation(*pair)
        assert image.shape == pair[0].shape and mask.shape == pair[1].shape
    for array, copy in zip(pair, before):
        np.testing.assert_array_equal(array, copy)


# Patches of larger images


def test_an_unchanged_patch_is_a_part_of_the_image(pair):
    image, mask = change()(*pair, corner=(2, 5), size=(6, 4))
    np.testing.assert_array_equal(image, pair[0][:, 2:8, 5:9])
    np.testing.assert_array_equal(mask, pair[1][:, 2:8, 5:9])
    assert_float32(image, mask)


def test_a_patch_is_mirrored_about_its_own_middle(pair):
    image, mask = change(np.diag((-1, 1)))(*pair, corner=(2, 5), size=(6, 4))
    np.testing.assert_array_equal(image, pair[0][:, 2:8, 5:9][:, ::-1])
    np.testing.assert_array_equal(mask, pair[1][:, 2:8, 5:9][:, ::-1])


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (6, 6)])
@pytest.mark.parametrize("degrees", [0, 17, 90, 200])
def test_a_turned_patch_shows_the_image_around_it(pair, corner, degrees):
    """The same values as turning the whole image about the patch's middle, computed pixel by pixel."""
    size, shift = (6, 6), np.array([0.1, -0.2])
    turn = change(rotation(degrees) / 1.1, shift)
    image, _ = turn(*pair, corner=corner, size=size)
    for row, column in np.ndindex(*size):
        away = np.array([row, column]) - 2.5
        place = np.array(corner) + 2.5 + turn.matrix @ away + shift * size
        place = np.clip(place, 0, SIDE - 1)
        low = np.minimum(place.astype(int), SIDE - 2)
        (r, c), (a, b) = low, place - low
        corners = pair[0][:, r : r + 2, c : c + 2]
        weights = np.array([[(1 - a) * (1 - b), (1 - a) * b], [a * (1 - b), a * b]])
        np.testing.assert_allclose(image[:, row, column], (corners * weights).sum((1, 2)), atol=1e-5)


def test_a_turned_patch_of_a_large_image_is_the_same_as_of_its_surroundings():
    rng = np.random.default_rng(3)
    image, mask = rng.random((1, 200, 180), np.float32), (rng.random((1, 200, 180)) < 0.5).astype(np.float32)
    turn = change(rotation(33) * 1.2, (0.15, 0.1))
    near = turn(image[:, 40:160, 20:150], mask[:, 40:160, 20:150], corner=(45, 50), size=(16, 16))
    for whole, part in zip(turn(image, mask, corner=(85, 70), size=(16, 16)), near):
        np.testing.assert_allclose(whole, part, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("matrix", [np.diag([-1, 1]), rotation(25)])
def test_several_raters_masks_are_changed_as_each_alone(pair, classes, matrix):
    rng = np.random.default_rng(1)
    maps = rng.integers(0, classes + 1, (3, SIDE, SIDE)).astype(np.uint8)
    masks = np.stack([one_hot(label_map, classes) for label_map in maps])
    changed = change(matrix, (0.1, -0.05), 0.9)
    image, together = changed(pair[0], masks, (2, 1), (8, 9))
    assert together.shape == (3, classes, 8, 9)
    for mask, got in zip(masks, together):
        alone_image, alone = changed(pair[0], mask, (2, 1), (8, 9))
        np.testing.assert_array_equal(got, alone)
        np.testing.assert_array_equal(image, alone_image)
    assert_float32(image, together)


@pytest.mark.parametrize("name", ["blur", "sharpen", "dark_corners"])
@pytest.mark.parametrize("value", [-0.1, 1e308, np.nan, np.inf])
def test_what_no_image_can_be_changed_by_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"AugmentationConfig\.{name} must be .* got "):
        AugmentationConfig(**{name: value})

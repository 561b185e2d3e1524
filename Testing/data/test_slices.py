"""What training sees of a case is what sampling feeds the network, and memory stays bounded."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.evaluation_cases import loaded_cases, patch_around
from AmbiguousSegLib.data.inspection import inspect
from AmbiguousSegLib.data.slices import SliceStore, index
from AmbiguousSegLib.training.dataset import CaseSource
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.preprocessing import Intensity

TURNED = (0.0, -1, 0, 0, 0, -1, 1, 0, 0)  # index x runs to the head, y to the right, z to the front
GEOMETRY = Geometry((9, 21, 17), (3.0, 0.7, 0.8), (5.0, -30.0, 12.0), TURNED)


@dataclass(frozen=True, eq=False)
class MadeCase:
    """A volume of two channels on a turned, anisotropic grid, marked by two raters on slices of the axial plane."""

    identity: str = "a"
    marked: tuple[int, ...] = (2, 3, 6)
    geometry: Geometry = GEOMETRY
    opened: list = field(default_factory=list)
    subject: str = "s"
    group: str = ""
    part: str = ""
    modality: str = ""
    rater_names: tuple[str, ...] = ("anna", "ben")

    def load_image(self):
        self.opened.append(self.identity)
        seed = int.from_bytes(self.identity.encode(), "little")
        shape = (2, *self.geometry.shape)
        return np.random.default_rng(seed).normal(0, 400, shape).astype(np.float32), self.geometry

    def load_masks(self):
        masks = np.zeros((2, *self.geometry.shape), np.uint8)
        for x in self.marked:
            masks[0, 4:9, 5:11, x] = 1
        masks[1, 6:9, 5:11, self.marked[0]] = 2
        return masks


CONFIG = DataConfig(
    size=(16, 16),
    channels=("one", "two"),
    spacing_mm=1.0,
    plane="axial",
    intensity=(Intensity("window", -500.0, 500.0), Intensity("percentile", 1.0, 99.0)),
)


def opened(cases, config=CONFIG, cache_bytes=2**20, multiple=4):
    preprocessing = config.preprocessing(multiple)
    slices, seen, limits = index(cases, preprocessing, 2)
    return slices, seen, SliceStore(preprocessing, 2, limits, cache_bytes)


def test_a_slice_is_what_sampling_feeds_bit_for_bit():
    case = MadeCase()
    slices, _, store = opened([case])
    values, geometry = case.load_image()
    prepared = CONFIG.preprocessing(4).prepare(values, geometry)
    assert [one.number for one in slices] == prepared.slice_indices == list(range(9))
    for one in slices:
        image, masks = store.load(case, one.number)
        np.testing.assert_array_equal(image, prepared.image(one.number).numpy())
        assert masks.shape[1:] == image.shape[1:] == prepared.canvas


def test_masks_lie_where_the_image_shows_them():
    """A case whose image is its first rater's mask: after orientation and resampling the two still coincide."""

    class Drawn(MadeCase):
        def load_image(self):
            return (self.load_masks()[:1] == 1).astype(np.float32), self.geometry

    config = replace(CONFIG, channels=("mask",), intensity=Intensity("window", 0.0, 1.0))
    case = Drawn()
    slices, _, store = opened([case], config)
    for one in slices:
        image, masks = store.load(case, one.number)
        np.testing.assert_array_equal(masks[0] == 1, image[0] >= 0.5)
        assert one.marked == masks.any() == (one.number in case.marked)  # x runs to the head, so axial slices count up
    assert [one.identity for one in slices][:2] == ["a/slice_0000", "a/slice_0001"]


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", "stored"])
def test_marked_slices_are_known_in_every_plane_before_anything_is_prepared(plane):
    case = MadeCase()
    slices, _, store = opened([case], replace(CONFIG, plane=plane))
    assert [one.marked for one in slices] == [bool(store.load(case, one.number)[1].any()) for one in slices]
    assert 0 < sum(one.marked for one in slices) < len(slices)


def test_what_was_seen_in_a_case():
    seen = inspect(MadeCase(), 2)
    assert seen.marked == ((4, 5, 6, 7, 8), (5, 6, 7, 8, 9, 10), (2, 3, 6))
    assert seen.largest_px == (5, 6, 2) and seen.labels == (1, 2) and seen.empty_raters == 0
    values = MadeCase().load_image()[0][1].astype(float)
    found = seen.values[1]
    assert (found.least, found.greatest, found.whole) == (values.min(), values.max(), False)
    assert [found.low, found.median, found.high] == pytest.approx(np.percentile(values, (0.5, 50, 99.5)), abs=1e-3)


def test_the_cache_keeps_no_more_than_it_may_and_changes_nothing():
    cases = [MadeCase(name) for name in "abcd"]
    slices, _, generous = opened(cases)
    expected = {one.identity: generous.load(one.case, one.number) for one in slices}
    for case in cases:
        case.opened.clear()
    for one in slices:
        generous.load(one.case, one.number)
    assert [case.opened for case in cases] == [[]] * 4  # all from memory
    _, _, none = opened(cases, cache_bytes=0)
    for case in cases:
        case.opened.clear()
    for one in slices:
        for got, wanted in zip(none.load(one.case, one.number), expected[one.identity]):
            np.testing.assert_array_equal(got, wanted)
    assert [len(case.opened) for case in cases] == [1] * 4  # the last case alone is kept, and read once in a row
    bytes_of_two = 2 * sum(array.nbytes for array in expected["a/slice_0000"])
    _, _, small = opened(cases, cache_bytes=bytes_of_two)
    for one in slices:
        small.load(one.case, one.number)
        assert sum(size for _, size in small._slices._entries.values()) <= bytes_of_two
        assert len(small._cases._entries) == 1


def test_a_copy_for_another_process_is_small_and_gives_the_same():
    case = replace(MadeCase(), opened=[])
    _, _, store = opened([case])
    store.load(case, 3)
    copied = pickle.dumps(store)
    assert len(copied) < 2000 < sum(array.nbytes for array in store.load(case, 3))
    again = pickle.loads(copied).load(case, 3)
    np.testing.assert_array_equal(again[0], store.load(case, 3)[0])


def test_a_bad_case_is_found_before_training():
    class Broken(MadeCase):
        def load_image(self):
            values, geometry = super().load_image()
            values[1, 3, 4, 5] = np.nan
            return values, geometry

    with pytest.raises(ValueError, match="b: the image holds NaN or infinite values"):
        opened([MadeCase("a"), Broken("b")])
    with pytest.raises(ValueError, match="a: Channel one reaches from .* the model expects 0 to 255"):
        opened([MadeCase("a")], replace(CONFIG, intensity=Intensity("full_scale", high=255.0)))
    with pytest.raises(ValueError, match=r"a: the image has 2 channel\(s\), dataset.channels names 1 \(CT\).*image_ch"):
        opened([MadeCase("a")], replace(CONFIG, channels=("CT",), intensity=Intensity("minmax")))


def test_slices_at_the_ends_may_be_left_out():
    case, preprocessing = MadeCase(), CONFIG.preprocessing(4)
    slices, seen, limits = index([case], preprocessing, 2, leave_out=(3, 2))
    assert [one.number for one in slices] == [3, 4, 5, 6] and [one.marked for one in slices] == [
        True,
        False,
        False,
        True,
    ]
    assert limits == index([case], preprocessing, 2)[2] and seen == [inspect(case, 2)]
    with pytest.raises(ValueError, match=r"a: of 9 slices none is left; lower dataset.leave_out \(5, 4\)"):
        index([case], preprocessing, 2, leave_out=(5, 4))


# Drawing


def source_of(cases, **settings):
    slices, _, store = opened(cases)
    return CaseSource(tuple(slices), store, (8, 8), "random_rater", 3, **settings)


def test_every_slice_comes_once_per_epoch_unless_a_share_of_empty_ones_is_asked_for():
    source = source_of([MadeCase("a"), MadeCase("b", (4,))])
    assert len({source.slice_at(p).identity for p in range(18)}) == 18
    with_share = replace(source, empty_share=0.2)
    drawn = [with_share.slice_at(p) for p in range(100)]
    assert sum(not one.marked for one in drawn) == 20
    for start in range(0, 100, 10):  # evenly: two of any ten
        assert sum(not one.marked for one in drawn[start : start + 10]) == 2
    marked = [one.identity for one in drawn if one.marked]
    assert all(len(set(marked[start : start + 4])) == 4 for start in range(0, 80, 4))  # four are marked: epochs of four
    empty = [one.identity for one in drawn if not one.marked]
    assert len(set(empty[:14])) == 14
    assert not any(not replace(source, empty_share=0.0).slice_at(p).marked for p in range(50))


def test_a_draw_looks_at_no_other_slice():
    """Their number does not slow training down: with a share of empty ones, once they have been parted."""
    hashed = []

    class Counted(MadeCase):
        def __hash__(self):
            hashed.append(self.identity)
            return hash(self.identity)

    source = replace(source_of([Counted("a"), Counted("b")]), empty_share=0.2)
    source.slice_at(0)
    hashed.clear()
    for position in range(50):
        source.slice_at(position)
    assert not hashed


def test_patches_are_cut_around_what_somebody_marked():
    """The marked place lies within ± shift of the middle; without marks the patch lies anywhere that is not black."""
    source = replace(source_of([MadeCase()], shift=0.25), empty_share=0.3)
    corners = set()
    for position in range(300):
        one = source.slice_at(position)
        image, _, corner = source.draw(position, np.random.default_rng([1, position]))
        height, width = image.shape[1:]
        assert 0 <= corner[0] <= height - 8 and 0 <= corner[1] <= width - 8
        union = source.store.load(one.case, one.number)[1].any(0)
        if one.marked:
            inner = union[corner[0] + 1 : corner[0] + 7, corner[1] + 1 : corner[1] + 7]
            inside = 0 < corner[0] < height - 8 and 0 < corner[1] < width - 8
            assert inner.any() or not inside
            corners.add(corner)
    assert len(corners) > 20


def test_raters_are_drawn_and_the_mean_is_theirs():
    source = source_of([MadeCase()])
    (position,) = [p for p in range(9) if source.slice_at(p).number == 2]
    masks = source.store.load(source.slice_at(position).case, 2)[1]
    seen = [source.draw(position, np.random.default_rng(s))[1] for s in range(40)]
    kinds = {target.tobytes() for target in seen}
    expected = [np.stack([mask == 1, mask == 2]).astype(np.float32) for mask in masks]
    assert kinds == {target.tobytes() for target in expected}
    mean = replace(source, target="mean").draw(position, np.random.default_rng(0))[1]
    np.testing.assert_array_equal(mean, np.mean(expected, 0))


# Held-out cases


def test_held_out_slices_take_turns_among_cases_and_are_cut_around_the_marks():
    cases = [MadeCase("a", (2, 3, 6)), MadeCase("b", (4,)), MadeCase("c", (7, 8))]
    slices, _, store = opened(cases)
    found = loaded_cases(slices, store)
    assert [case.identity for case in found] == [
        *("a/slice_0003", "b/slice_0004", "c/slice_0008"),  # the middle marked one of each
        *("a/slice_0002", "c/slice_0007"),
        "a/slice_0006",
    ]
    assert [case.identity for case in loaded_cases(slices, store, 2)] == ["a/slice_0003", "b/slice_0004"]
    for case in found:
        assert case.image.shape == (2, 16, 16) and case.masks.shape == (2, 16, 16) and case.masks.any()


def test_a_patch_around_marks_by_hand():
    marked = np.zeros((20, 30), bool)
    marked[4:7, 20:24] = True  # middle 5, 21.5
    assert patch_around(marked, (6, 8)) == (slice(2, 8), slice(18, 26))
    marked[:] = False
    marked[19, 29] = True
    assert patch_around(marked, (6, 8)) == (slice(14, 20), slice(22, 30))
    assert patch_around(np.zeros((20, 30), bool), (6, 8)) == (slice(7, 13), slice(11, 19))


def test_a_patch_never_lies_between_the_marks():
    """Of marks that do not fit together the largest is in the middle, of one that does not fit a marked pixel is."""
    marked = np.zeros((20, 40), bool)
    marked[2:4, 2:4] = True
    marked[8:12, 30:33] = marked[12, 33] = True  # the larger one, 14 pixels: 8 to 12, 30 to 33; the middle is 10, 31.5
    assert patch_around(marked, (7, 8)) == (slice(7, 14), slice(28, 36))
    marked[9:11, 4:30] = True  # one bridge through all: its middle is 9.5, 17.5 or so, as before
    rows, columns = patch_around(marked, (8, 8))
    assert marked[rows, columns].any() and columns.start in (13, 14)
    ring = np.zeros((40, 40), bool)
    ring[5:35, 5:35] = True
    ring[7:33, 7:33] = False
    rows, columns = patch_around(ring, (10, 10))
    assert ring[rows, columns].sum() == 2 * 10


def test_marks_beyond_a_patch_are_told(caplog):
    class Spread(MadeCase):
        def load_masks(self):
            masks = super().load_masks()
            masks[0, 16, 20, 3] = 1  # the far corner of 17 × 21
            return masks

    config = replace(CONFIG, size=(8, 8))
    slices, _, store = opened([Spread()], config)
    for case in loaded_cases(slices, store):
        assert case.masks.any((1, 2))[0]
    assert "marks of 1 of 3 slices to judge by reach beyond a patch of 8 × 8 pixels" in caplog.text

"""Sampling around a point: which slices and which window it takes, against masks that are known beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from process_threads import results_of
from tiny_models import Untrained, UntrainedConfig, tiny_model

from AmbiguousSegLib.inference import volume_sampling as volume_module
from AmbiguousSegLib.inference.estimate import estimate, without_voxels
from AmbiguousSegLib.inference.point_sampling import GROWTH, Pointing
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.geometry import Geometry, lps_of_ras
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

GRID = Geometry((40, 36, 12), (1.0, 1.0, 2.0), (5.0, -8.0, 30.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
START, MIDDLE = 5, (20, 18)  # slice, column and row that are pointed at


class Bright(Untrained):
    """Marks what is brighter than a number in [0.1, 0.9] of each row; it remembers the slices and sizes it is shown."""

    def __init__(self, config=None):
        super().__init__(config)
        self.shown = []

    def prepare(self, image):
        self.shown.extend(tuple(one.shape[1:]) for one in image)
        return (image,)

    def sample(self, prepared, noise, settings, on_step=None):
        level = 0.1 + 0.8 * noise.uniform(0).float().reshape(-1, 1, 1, 1)
        if on_step is not None:
            on_step(1, 1)
        return (prepared[0] > level).float()


@pytest.fixture
def model():
    """Field of view 16 × 16 mm; it shows the network the voxels as they are."""
    preprocessing = Preprocessing(("CT",), "axial", 1.0, (16, 16), 4, Intensity("window", 0.0, 1.0))
    return Model(Bright().eval(), preprocessing, weights_sha256="0" * 64)


def rod(first, last, half=3, value=1.0, middle=MIDDLE):
    """A square rod about the point's column and row, through these slices."""
    volume = np.zeros((1, *GRID.shape), np.float32)
    x, y = middle
    volume[0, first : last + 1, y - half : y + half + 1, x - half : x + half + 1] = value
    return volume


def point(x=MIDDLE[0], y=MIDDLE[1], z=START):
    return tuple(GRID.to_mm((x, y, z)).tolist())


def sample(model, volume, samples=4, pointing=None, **settings):
    request = SampleRequest(samples, pointing=pointing or Pointing(point()), **settings)
    return sample_volume(model, volume, GRID, request)


def test_slices_are_taken_outward_until_nothing_is_marked(model, caplog):
    """A rod through the slices 4 to 8, another one behind a gap that is never reached."""
    volume = np.maximum(rod(4, 8), rod(10, 11))
    found = sample(model, volume)
    expected = np.broadcast_to(rod(4, 8)[0] > 0, found.masks.shape)
    assert np.array_equal(found.masks.astype(bool), expected)
    assert len(model.method.shown) == 5 + 2  # and the two empty slices, 3 and 9
    assert set(model.method.shown) == {(16, 16)}
    window = found.provenance["window"]
    assert window == {
        "point_lps_mm": [25.0, 10.0, 40.0],
        "size_mm": [16.0, 16.0],
        "asked_mm": [16.0, 16.0],
        "tried_mm": [[16.0, 16.0]],
        "slices": [4, 8],
        "touches_border": [],
        "warnings": [],
    }
    assert found.provenance["slice_range"] == [4, 8] and found.provenance["network_size"] == [16, 16]
    # columns 13 to 28, rows 11 to 26, with their outer faces; slices of 2 mm
    assert found.provenance["region_lps_mm"] == [[17.5, 2.5, 37.0], [33.5, 18.5, 47.0]]
    assert not caplog.messages


def test_each_direction_ends_on_its_own_and_at_the_volumes_end(model):
    assert sample(model, rod(5, 11)).provenance["window"]["slices"] == [5, 11]
    assert sample(model, rod(0, 5)).provenance["window"]["slices"] == [0, 5]
    assert sample(model, rod(0, 11)).provenance["window"]["slices"] == [0, 11]
    flat = replace(GRID, size=(40, 36, 1))
    request = SampleRequest(2, pointing=Pointing(point(z=0)))
    assert sample_volume(model, rod(0, 5)[:, :1], flat, request).provenance["window"]["slices"] == [0, 0]


def test_a_slice_that_one_sample_of_many_marks_is_not_empty(model):
    """Slices 6 and 7 are so dark that few samples mark them: those with a low level, which is one for all slices."""
    volume = np.maximum(rod(5, 5), rod(6, 7, value=0.3))
    found = sample(model, volume, samples=16)
    marking = found.masks.any((2, 3))
    assert 0 < marking[:, 6].sum() < 8 and np.array_equal(marking[:, 6], marking[:, 7])
    assert found.provenance["window"]["slices"] == [5, 7]
    alone = int(np.flatnonzero(marking[:, 6])[0])
    assert sample(model, volume, 1, first_sample=alone).provenance["window"]["slices"] == [5, 7]
    without = int(np.flatnonzero(~marking[:, 6])[0])
    assert sample(model, volume, 1, first_sample=without).provenance["window"]["slices"] == [5, 5]


def test_what_is_marked_elsewhere_on_the_next_slice_does_not_go_on(model):
    """Slice 7 holds something that overlaps nowhere with what slice 6 has: another thing."""
    aside = rod(7, 9, half=1, middle=(MIDDLE[0] + 5, MIDDLE[1]))
    found = sample(model, np.maximum(rod(5, 6), aside))
    assert found.provenance["window"]["slices"] == [5, 6] and not found.masks[:, 7:].any()
    touching = rod(7, 9, half=1, middle=(MIDDLE[0] + 4, MIDDLE[1]))  # columns 23 to 25, of 17 to 23
    assert sample(model, np.maximum(rod(5, 6), touching)).provenance["window"]["slices"] == [5, 9]


def test_each_sample_goes_on_by_itself(model):
    """A bright rod, and from slice 6 on a dark one beside it: who marks slice 6 of the dark one alone is not led there
    by those who mark both, and a sample is the same whoever is drawn with it."""
    dark = rod(6, 8, half=1, value=0.4, middle=(MIDDLE[0] + 4, MIDDLE[1]))
    volume = np.maximum(np.maximum(rod(5, 5, value=0.6), dark), rod(7, 8, value=0.6))
    found = sample(model, volume, samples=16)
    for k in range(16):
        alone = sample(model, volume, 1, first_sample=k).masks[0]
        assert np.array_equal(found.masks[k], alone)
        lit, darkly = found.masks[k, START].any(), found.masks[k, 6].any()
        # Slice 6 overlaps with slice 5 in the dark rod's first column; without it, nothing is reached behind the gap.
        assert found.masks[k, 7:].any() == (lit and darkly)
    assert {bool(mask[7:].any()) for mask in found.masks} == {True, False}


def test_an_empty_slice_at_the_point_is_an_empty_result_and_said(model, caplog):
    found = sample(model, rod(6, 8))
    assert not found.masks.any() and len(model.method.shown) == 1
    (warning,) = found.provenance["window"]["warnings"]
    assert warning.startswith("No sample marks anything on slice 5, where the point (25, 10, 40) mm (LPS) lies")
    assert caplog.messages == [warning]


@pytest.mark.parametrize("batch_size", [None, 1, 3])
@pytest.mark.parametrize("coherence_mm", [0.0, float("inf")])
def test_the_masks_are_those_of_sampling_window_and_slices_directly(batch_size, coherence_mm):
    """A diffusion model whose masks are busy noise in every slice, so that it goes from end to end."""
    model = tiny_model(spacing_mm=1.0)
    volume = np.random.default_rng(0).random((1, *GRID.shape), dtype=np.float32)
    settings = {"samples": 3, "seed": 7, "coherence_mm": coherence_mm, "batch_size": batch_size}
    pointed = sample_volume(model, volume, GRID, SampleRequest(**settings, pointing=Pointing(point(3, 30))))
    assert pointed.provenance["slice_range"] == [0, 11]
    region = tuple(map(tuple, pointed.provenance["region_lps_mm"]))
    direct = sample_volume(model, volume, GRID, SampleRequest(**settings, region=region, slice_range=(0, 11)))
    assert pointed.masks.any((2, 3)).all() and np.count_nonzero(pointed.masks != direct.masks) <= 4  # by rounding
    if batch_size == 1:
        assert np.array_equal(pointed.masks, direct.masks)
    inside = np.zeros(GRID.shape, bool)
    inside[:, 20:36, 0:16] = True  # the corner, moved into the volume
    assert not pointed.masks[:, ~inside].any()


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_slices_that_are_drawn_together_change_nothing(model, monkeypatch, at_once):
    """As on a GPU, which draws more than may be needed: what was drawn beyond the end is removed."""

    class Together(volume_module._Drawing):
        def __init__(self, *parts):
            super().__init__(*parts)
            self.at_once = at_once

    monkeypatch.setattr(volume_module, "_Drawing", Together)
    volume = np.maximum(rod(4, 8), rod(10, 11))
    found = sample(model, volume)
    assert np.array_equal(found.masks.astype(bool), np.broadcast_to(rod(4, 8)[0] > 0, found.masks.shape))
    assert found.provenance["window"]["slices"] == [4, 8]
    shown = {1: 7, 2: 1 + 2 + 2 + 2, 5: 1 + 5 + 5}  # 6, 7 and 8, 9 above, 4, 3 below; 6 to 10 and 4 to 0
    assert len(model.method.shown) == shown[at_once]


def test_a_mask_that_the_window_cuts_off_is_reported(model, caplog):
    """The rod is 7 wide, about a column 5 to the right of the point: columns 22 to 28, and the window ends with 28."""
    volume = rod(4, 6, middle=(25, 18), value=0.5)
    volume[:, :, 10:27, 13:22] = rod(4, 6)[:, :, 10:27, 13:22] * 0.95
    found = sample(model, volume, samples=8, first_sample=2)
    touching = found.masks[:, :, :, 28].any(2)
    assert touching[:, 4].any() and not touching[:, 4].all()
    numbers = (3 + np.flatnonzero(touching[:, 4])).tolist()  # as in the names of files
    window = found.provenance["window"]
    assert window["touches_border"] == [{"slice": z, "samples": numbers} for z in (4, 5, 6)]
    (warning,) = window["warnings"]
    assert warning.startswith(f"{len(numbers)} samples touch the border of the window of 16 × 16 mm, on slices 4 to 6")
    assert "--grow-window" in warning and caplog.messages == [warning]


def test_the_volumes_own_border_cuts_nothing_off(model):
    volume = rod(5, 5, middle=(3, 18))
    volume[0, 5, 15:22, :7] = 1
    found = sample(model, volume, pointing=Pointing(point(2)))
    assert found.masks[:, :, :, 0].any() and found.provenance["window"]["touches_border"] == []


def test_a_window_grows_for_all_slices_and_samples_until_nothing_is_cut_off(model, caplog):
    """A rod of 27 pixels on slice 6 only fits into the window of 32, the third of the list."""
    volume = np.maximum(rod(4, 5), rod(6, 6, half=13, value=0.5))
    found = sample(model, volume, samples=8, pointing=Pointing(point(), grow=True))
    assert GROWTH[:3] == (1.0, 1.5, 2.0)
    window = found.provenance["window"]
    assert window["tried_mm"] == [[16.0, 16.0], [24.0, 24.0], [32.0, 32.0]] and window["size_mm"] == [32.0, 32.0]
    assert window["touches_border"] == [] == window["warnings"] and not caplog.messages
    assert found.provenance["network_size"] == [32, 32] and set(model.method.shown) == {(n, n) for n in (16, 24, 32)}
    areas = np.unique(found.masks[:, 6].sum((1, 2)))
    assert areas.tolist() == [0, 27 * 27] and found.masks[:, 4].sum((1, 2)).tolist() == [49] * 8


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_that_share_the_slices_see_the_same_window(model, tmp_path, count):
    """Each window has parts of its own; slices drawn together with the empty one that ends it are no part of it."""
    volume = np.maximum(rod(4, 5), rod(6, 6, half=13, value=0.5))
    request = SampleRequest(8, pointing=Pointing(point(), grow=True))
    alone = sample_volume(model, volume, GRID, request)
    for found in results_of(
        count, tmp_path, lambda sharing: sample_volume(model, volume, GRID, request, sharing=sharing)
    ):
        assert np.array_equal(found.masks, alone.masks) and found.provenance == alone.provenance


def test_a_window_that_cannot_grow_any_more_says_so(model):
    """The whole of slice 5 is bright, and the largest window of 48 pixels is more than there is: nothing is cut off."""
    bright = rod(5, 5)
    bright[0, 5] = 1
    found = sample(model, bright, pointing=Pointing(point(), grow=True))
    assert found.provenance["window"]["tried_mm"] == [[16.0] * 2, [24.0] * 2, [32.0] * 2, [36.0, 40.0]]
    assert found.provenance["window"]["warnings"] == [] and found.masks[:, 5].all()
    wide = replace(GRID, size=(100, 100, 12))
    request = SampleRequest(2, pointing=Pointing(tuple(wide.to_mm((50, 50, 5)).tolist()), grow=True))
    found = sample_volume(model, np.ones((1, *wide.shape), np.float32), wide, request)
    (warning,) = found.provenance["window"]["warnings"]
    assert "no larger window among those that are tried" in warning and "of 48 × 48 mm, on slices 0 to 11" in warning
    assert found.masks.sum() == 2 * 12 * 48 * 48


def test_a_larger_window_starts_the_list_where_it_stands(model):
    preprocessing = model.preprocessing
    assert Pointing(point(), 24.0, grow=True).sizes(preprocessing) == [(24, 24), (32, 32), (48, 48)]
    assert Pointing(point(), 25.0, grow=True).sizes(preprocessing) == [(28, 28), (32, 32), (48, 48)]
    assert Pointing(point(), 80.0, grow=True).sizes(preprocessing) == [(80, 80)]
    assert Pointing(point(), 24.0).sizes(preprocessing) == [(24, 24)]
    found = sample(model, rod(4, 6, half=10), pointing=Pointing(point(), 24.0))
    assert found.masks[:, 5].sum((1, 2)).tolist() == [21 * 21] * 4 and found.provenance["network_size"] == [24, 24]


def test_the_canvas_is_the_fields_where_voxels_are_no_pixels(model):
    """Voxels of 0.7 and 2.3 mm: 23 of the first are 16.1 mm, 7 of the second 16.1."""
    grid = Geometry((60, 30, 4), (0.7, 2.3, 3.0), (0.0, 0.0, 0.0), GRID.direction)
    volume = np.zeros((1, *grid.shape), np.float32)
    volume[0, 1, 14:17, 28:33] = 1
    request = SampleRequest(2, pointing=Pointing(tuple(grid.to_mm((30, 15, 1)).tolist())))
    found = sample_volume(model, volume, grid, request)
    assert found.provenance["network_size"] == [16, 16] and found.provenance["window"]["slices"] == [1, 1]
    low, high = np.array(found.provenance["region_lps_mm"])
    assert np.allclose(high - low, (23 * 0.7, 7 * 2.3, 3.0)) and np.allclose((low + high)[:2] / 2, (21, 34.5))


def test_the_window_that_was_used_is_told_and_not_the_one_that_was_asked_for(model):
    """As far as the volume goes, 36 × 40 mm; and as voxels have it, 23 of 0.7 mm and 7 of 2.3."""
    window = sample(model, rod(4, 6), pointing=Pointing(point(), 1e9)).provenance["window"]
    assert window["size_mm"] == [36.0, 40.0] and window["tried_mm"] == [[36.0, 40.0]]
    grid = Geometry((60, 30, 4), (0.7, 2.3, 3.0), (0.0, 0.0, 0.0), GRID.direction)
    request = SampleRequest(1, pointing=Pointing(tuple(grid.to_mm((30, 15, 1)).tolist())))
    found = sample_volume(model, np.zeros((1, *grid.shape), np.float32), grid, request)
    assert found.provenance["window"]["size_mm"] == [16.1, 16.1]


def test_progress_grows_to_one_and_samples_come_at_the_end(model):
    shares, seen = [], []
    for pointing in (Pointing(point()), Pointing(point(), grow=True)):
        shares.clear(), seen.clear()
        request = SampleRequest(3, first_sample=4, pointing=pointing, batch_size=2)
        volume = np.maximum(rod(2, 9), rod(5, 5, half=9))
        found = sample_volume(
            model, volume, GRID, request, shares.append, lambda k, mask: seen.append((k, mask.copy(), shares[-1]))
        )
        assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1 and max(shares[:-1]) < 1
        assert [(k, share) for k, _, share in seen] == [(4, 1), (5, 1), (6, 1)]
        assert all(np.array_equal(mask, found.masks[k - 4]) for k, mask, _ in seen)

    class Cancelled(Exception):
        pass

    def cancel(share):
        if share > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        sample_volume(model, rod(2, 9), GRID, SampleRequest(3, pointing=Pointing(point())), cancel)


def test_what_is_expected_beforehand_is_a_lesion_as_deep_as_the_window(model):
    """16 mm are 4 slices of 2 mm on either side, as far as there are; the canvas is the window's."""
    request = SampleRequest(2, pointing=Pointing(point()))
    prepared = without_voxels(model, GRID, request)
    assert prepared.slice_indices == [*range(1, 10)] and prepared.canvas == (16, 16)
    assert without_voxels(model, GRID, replace(request, pointing=Pointing(point(z=1)))).slice_indices == [*range(6)]
    diffusion = tiny_model(spacing_mm=1.0)
    assert estimate(diffusion, GRID, request).slices == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"point_mm": (1.0, 2.0)}, "x, y and z in LPS mm"),
        ({"point_mm": (1.0, 2.0, float("nan"))}, "all finite"),
        ({"point_mm": (1.0, 2.0, 3.0), "window_mm": 0.0}, "must be positive, got 0.0 mm"),
        ({"point_mm": (1.0, 2.0, 3.0), "window_mm": float("inf")}, "must be positive, got inf mm"),
    ],
)
def test_impossible_points(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pointing(**arguments)


def test_what_cannot_be_sampled_around_a_point(model):
    for other in ({"slice_range": (1, 2)}, {"region": ((0.0,) * 3, (9.0,) * 3)}):
        with pytest.raises(ValueError, match="A point chooses slices and region by itself; leave out"):
            SampleRequest(pointing=Pointing(point()), **other)
    with pytest.raises(ValueError, match="with the signs of x and y turned it would lie inside"):
        sample(model, rod(4, 6), pointing=Pointing(lps_of_ras(point())))
    with pytest.raises(ValueError, match="at least as large as the model's field of view, 16 mm, got 12 mm"):
        sample(model, rod(4, 6), pointing=Pointing(point(), 12.0))
    with pytest.raises(ValueError, match="stretches any region to 16 × 16 pixels"):
        sample_volume(tiny_model(), rod(4, 6), GRID, SampleRequest(pointing=Pointing(point())))


class Near(Bright):
    """Marks what is near the place that it is told of, a brightness of 1 set aside: its last channel above .5."""

    def sample(self, prepared, noise, settings, on_step=None):
        return (prepared[0][:, -1:] * prepared[0][:, :1] > 0.5).float()


@pytest.fixture
def told(model):
    """The network reads the image and a map of the place, which is above one half within 1.177 σ."""
    preprocessing = replace(model.preprocessing, point_sigma_mm=3.0)
    return Model(Near(UntrainedConfig(2)).eval(), preprocessing, weights_sha256="0" * 64)


def test_a_network_that_is_told_of_the_place_is_told_of_the_point_in_every_window(told):
    """In the corner the window is moved, and the place is not its middle; a larger window changes nothing."""
    volume = np.zeros((1, *GRID.shape), np.float32)
    volume[0, 4:8, 24:, :13] = 1
    for pointing in (Pointing(point(3, 33)), Pointing(point(3, 33), 24.0)):
        found = sample(told, volume, pointing=pointing)
        rows, columns = np.mgrid[: GRID.size[1], : GRID.size[0]]
        disc = (columns - 3) ** 2 + (rows - 33) ** 2 < (1.17741 * 3.0) ** 2  # σ √(2 ln 2)
        assert found.provenance["window"]["slices"] == [4, 7]
        assert all(np.array_equal(mask.astype(bool), disc) for mask in found.masks[:, 5])


def test_whole_slices_that_are_far_larger_than_its_field_are_refused_without_a_point(told):
    """Its field is 16 mm, and the slices are 36 × 40 mm; of a region it is told of the middle."""
    with pytest.raises(ValueError, match=r"sees 16 × 16 mm around it; these slices are 36 × 40 mm. .* --point X Y Z"):
        sample_volume(told, rod(4, 6), GRID, SampleRequest(1))
    with pytest.raises(ValueError, match="--point X Y Z"):
        without_voxels(told, GRID, SampleRequest(1))
    region = ((17.5, 2.5, 37.0), (33.5, 18.5, 47.0))  # of the first test, whose middle is (25.5, 10.5)
    masks = sample_volume(told, np.ones((1, *GRID.shape), np.float32), GRID, SampleRequest(1, region=region)).masks
    assert np.argwhere(masks[0, 5]).mean(0) == pytest.approx((18.5, 20.5))
    # 33 columns are more than twice 16 mm; of a box beyond the volume its 36 rows count, and its slices do not.
    wide, beyond = ((8.6, 2.5, 37.0), (41.4, 18.5, 47.0)), ((17.5, -900.0, 0.0), (33.5, 900.0, 90.0))
    for large, size in ((wide, "16 × 33"), (beyond, "36 × 16")):
        request = SampleRequest(1, region=large)
        for refused in (lambda r: sample_volume(told, rod(4, 6), GRID, r), lambda r: without_voxels(told, GRID, r)):
            with pytest.raises(ValueError, match=f"the region, .*, is {size} mm. .* smaller, around one lesion"):
                refused(request)
    small = replace(GRID, size=(32, 32, 12))
    assert sample_volume(told, np.ones((1, *small.shape), np.float32), small, SampleRequest(1)).masks.any()

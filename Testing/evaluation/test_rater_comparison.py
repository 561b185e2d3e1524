"""Samples against raters in a volume: figures by hand, by the metrics themselves, and whatever way the volume lies."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from AmbiguousSegLib.ensemble.consensus import staple
from AmbiguousSegLib.evaluation.comparison import ALL_CLASSES
from AmbiguousSegLib.evaluation.rater_comparison import STAPLE_MARGIN_MM, compare_with_raters
from AmbiguousSegLib.evaluation.rater_tables import TABLE_TITLES
from AmbiguousSegLib.evaluation.table import Table, plain
from AmbiguousSegLib.metrics.distribution import (
    ci_harmonic,
    ci_printed,
    combined_sensitivity,
    dice_max,
    diversity_agreement,
    ged,
    hm_iou,
)
from AmbiguousSegLib.metrics.figures import average, compare
from AmbiguousSegLib.metrics.overlap import dice
from AmbiguousSegLib.metrics.surface import surface_metrics
from AmbiguousSegLib.volume.geometry import Geometry

SIZE, SPACING, ORIGIN = (14, 12, 10), (0.7, 0.9, 3.1), (-12.0, 5.0, 40.0)
TABLES = set(TABLE_TITLES)
FURTHER = {"calibration_error", "roughness_samples", "roughness_raters", "volume_crps_ml"}


def oblique(degrees=25.0):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    about_x, about_z = [[1, 0, 0], [0, c, -s], [0, s, c]], [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    return tuple(float(v) for v in (np.array(about_x) @ about_z).ravel())


OBLIQUE = Geometry(SIZE, SPACING, ORIGIN, oblique())
PLAIN = Geometry(SIZE, SPACING, ORIGIN, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def lesions(n, seed, shape=PLAIN.shape):
    """Ellipsoids of different centres and sizes with a frayed border, away from the volume's faces."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    masks = []
    for _ in range(n):
        centre, radius = rng.uniform(-0.7, 0.7, 3) + np.array([5, 5.5, 7]), rng.uniform(1.6, 3.0, 3)
        distance = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius))
        masks.append(distance + rng.normal(0, 0.15, shape) < 1)
    return np.stack(masks)


SAMPLES, RATERS = lesions(6, 1), lesions(4, 2)
VOXEL_ML = 0.7 * 0.9 * 3.1 / 1000
NAMES = ["A", "B", "C", "D"]


def rows_of(comparison, key):
    return [dict(row) for row in comparison.tables[key].rows]


def assert_same_tables(a, b, tolerance=1e-9):
    assert set(a.tables) == set(b.tables) == TABLES
    for key in TABLES:
        assert a.tables[key].columns == b.tables[key].columns and a.tables[key].notes == b.tables[key].notes
        for one, other in itertools.zip_longest(rows_of(a, key), rows_of(b, key)):
            assert one == pytest.approx(other, abs=tolerance, nan_ok=False), key


@pytest.fixture(scope="module")
def found():
    return compare_with_raters(SAMPLES, RATERS, PLAIN, NAMES)


def test_the_whole_volume_is_the_metrics_of_the_3d_masks(found):
    row, metrics = rows_of(found, "summary")[1], compare(SAMPLES, RATERS, voxel_volume_ml=VOXEL_ML)
    assert (row["scope"], row["n_samples"], row["n_raters"]) == ("whole volume", 6, 4)
    shared = set(row) & set(metrics)
    assert {"ged_v", "ged_u", "distance_cross", "distance_raters", "ci_printed", "hm_iou", "mean_dice"} < shared
    assert {"calibration_error", "volume_crps_ml"} < shared and row["roughness_samples"] is None  # of contours in 2-D
    assert {key: row[key] for key in shared} == pytest.approx({key: metrics[key] for key in shared}, abs=1e-12)
    pairs = [surface_metrics(s, y, SPACING[::-1]) for s in SAMPLES for y in RATERS]
    assert row["hd95_mm"] == pytest.approx(np.mean([p.hd95_mm for p in pairs]))
    assert row["assd_mm"] == pytest.approx(np.mean([p.assd_mm for p in pairs]))


def test_per_slice_is_the_average_over_the_marked_slices(found):
    row = rows_of(found, "summary")[0]
    marked = [z for z in range(10) if SAMPLES[:, z].any() or RATERS[:, z].any()]
    assert 3 <= len(marked) < 10
    means = average([compare(SAMPLES[:, z], RATERS[:, z], (0.9, 0.7), voxel_volume_ml=VOXEL_ML) for z in marked])
    shared = set(row) & set(means.mean)
    assert {"ged_v", "ged_u", "distance_cross", "diversity_agreement", "hm_iou"} | FURTHER < shared
    assert {key: row[key] for key in shared} == pytest.approx(
        plain({key: means.mean[key] for key in shared}), abs=1e-12
    )
    distances = []
    for z in marked:
        pairs = [surface_metrics(s[z], y[z], (0.9, 0.7)).hd95_mm for s in SAMPLES for y in RATERS]
        distances += [np.nanmean(pairs)] if not np.isnan(pairs).all() else []
    assert row["hd95_mm"] == pytest.approx(np.mean(distances))
    note = found.tables["summary"].notes[0]
    empty = sum(not RATERS[:, z].any() for z in marked)
    assert f"of the {len(marked)} axial slices (of 10)" in note and f"in {empty} of them" in note


def test_every_slice_is_the_metrics_of_its_2d_masks(found):
    marked = [z for z in range(10) if SAMPLES[:, z].any() or RATERS[:, z].any()]
    rows = rows_of(found, "slices")
    assert [(row["slice"], row["position_mm"]) for row in rows] == [
        (z, pytest.approx(ORIGIN[2] + z * SPACING[2])) for z in marked
    ]
    assert [row["slice"] for row in rows_of(found, "disagreement")] == marked
    for z, row in zip(marked, rows):
        samples, raters = SAMPLES[:, z], RATERS[:, z]
        s_c, d_max = combined_sensitivity(samples, raters), dice_max(samples, raters)
        d_a, v, u = diversity_agreement(samples, raters), ged(samples, raters, "v"), ged(samples, raters, "u")
        best = {f"dice_max {name}": dice_max(samples, rater[None]) for name, rater in zip(NAMES, raters)}
        expected = best | {"combined_sensitivity": s_c, "dice_max": d_max, "diversity_agreement": d_a}
        expected |= {"ci_harmonic": ci_harmonic(s_c, d_max, d_a), "ci_printed": ci_printed(s_c, d_max, d_a)}
        expected |= {"ged_v": v.value, "ged_u": u.value, "distance_samples_v": v.within_samples}
        expected |= {"distance_cross": v.cross, "distance_raters": v.within_raters, "hm_iou": hm_iou(samples, raters)}
        assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-12), z
        pairs = [surface_metrics(s, y, (0.9, 0.7)) for s in samples for y in raters]
        for key in ("hd95_mm", "assd_mm"):
            assert row[key] == pytest.approx(np.nanmean([getattr(pair, key) for pair in pairs]))
        dices = [float(dice(s, y)) for s in samples for y in raters]
        assert row["mean_dice"] == pytest.approx(np.mean(dices))
        assert set(row) == {"slice", "position_mm", "hd95_mm", "assd_mm", "mean_dice", *expected, *FURTHER}
        further = compare(samples, raters, (0.9, 0.7), voxel_volume_ml=VOXEL_ML)
        assert {k: row[k] for k in FURTHER} == plain({k: further[k] for k in FURTHER})


def test_the_means_of_the_slices_are_the_summary(found):
    summary, table = rows_of(found, "summary")[0], found.tables["slices"]
    figures = set(summary) - {"scope", "n_samples", "n_raters"}
    assert figures | {"slice", "position_mm"} == {c.key for c in table.columns if not c.key.startswith("dice_max ")}
    for key in figures:
        defined = [row[key] for row in table.rows if row[key] is not None]
        assert summary[key] == (pytest.approx(np.mean(defined)) if defined else None), key
    titles = {column.key: column.title for column in found.tables["summary"].columns}
    assert all(titles[c.key] == c.title for c in table.columns if c.key in figures)
    assert [c.title for c in table.columns][-4:] == [f"best Dice, {name}" for name in NAMES]
    notes = " ".join(table.notes)
    assert "counted from 0" in notes and "all m² pairs" in notes and "surface distances of" in notes


def test_undefined_figures_of_slices_are_shown_as_such():
    """Slice 2: one sample and one rater, which agree; slice 3: the rater alone; slice 4: the sample alone."""
    sample, rater = np.zeros((2, 1, *PLAIN.shape), bool)
    sample[0, 2, 1:3, 1:4] = rater[0, 2, 1:3, 1:4] = rater[0, 3, 1:3, 1:4] = sample[0, 4, 1:3, 1:4] = True
    table = compare_with_raters(sample, rater, PLAIN, ["A"]).tables["slices"]
    by_hand = {"slice": [2, 3, 4], "ged_v": [0, 2, 2], "combined_sensitivity": [1, 0, 1], "dice_max A": [1, 0, 0]}
    by_hand |= {"hm_iou": [1, 0, 0], "hd95_mm": [0, None, None], "ged_u": [None] * 3, "diversity_agreement": [None] * 3}
    by_hand |= {"ci_harmonic": [None] * 3, "ci_printed": [None] * 3}
    assert {key: [row[key] for row in table.rows] for key in by_hand} == by_hand
    assert "–" in table.markdown().splitlines()[-1] and ",," in table.csv().splitlines()[-1]
    json.dumps(table.as_dict(), allow_nan=False)


def test_matrices_and_best_samples(found):
    for name, rater, best in zip(NAMES, RATERS, rows_of(found, "dice_max")):
        values = {f"sample {k}": float(dice(sample, rater)) for k, sample in enumerate(SAMPLES, 1)}
        distances = {f"sample {k}": surface_metrics(s, rater, SPACING[::-1]).hd95_mm for k, s in enumerate(SAMPLES, 1)}
        j = NAMES.index(name)
        assert rows_of(found, "dice")[j] == pytest.approx({"rater": name, **values})
        assert rows_of(found, "hd95")[j] == pytest.approx({"rater": name, **distances})
        winner = max(values, key=values.get)
        expected = {"dice_max": values[winner], "sample": winner, "hd95_mm": distances[winner], "rater": name}
        assert best == pytest.approx(expected | {"volume_ml": rater.sum() * VOXEL_ML})
    mean = np.mean([row["dice_max"] for row in rows_of(found, "dice_max")])
    assert mean == pytest.approx(rows_of(found, "summary")[1]["dice_max"])


def test_fused_masks_and_their_agreement(found):
    fused = found.fused
    for who, masks in (("raters", RATERS), ("samples", SAMPLES)):
        np.testing.assert_array_equal(fused[f"{who} majority"], masks.sum(0) * 2 > len(masks))
    first, second = rows_of(found, "consensus")
    assert (first["fusion"], second["fusion"]) == ("majority", "STAPLE")
    for row in (first, second):
        raters, samples = (fused[f"{who} {row['fusion']}"].astype(bool) for who in ("raters", "samples"))
        surface = surface_metrics(samples, raters, SPACING[::-1])
        assert row["dice"] == pytest.approx(float(dice(samples, raters)))
        assert (row["hd95_mm"], row["assd_mm"]) == (surface.hd95_mm, surface.assd_mm)
        assert row["difference_ml"] == pytest.approx((samples.sum() - raters.sum()) * VOXEL_ML)


def test_staple_sees_the_box_of_all_masks_with_its_margin(found):
    union = SAMPLES.any(0) | RATERS.any(0)
    box = []
    for axis, mm in enumerate(SPACING[::-1]):
        marked = np.flatnonzero(union.any(tuple({0, 1, 2} - {axis})))
        margin = math.ceil(STAPLE_MARGIN_MM / mm)
        box.append(slice(max(0, marked[0] - margin), marked[-1] + 1 + margin))  # beyond the end a slice just ends
    for who, masks in (("raters", RATERS), ("samples", SAMPLES)):
        expected = np.zeros_like(union)
        expected[tuple(box)] = staple(masks[(slice(None), *box)]).mask
        np.testing.assert_array_equal(found.fused[f"{who} STAPLE"], expected)


def test_disagreement_by_hand():
    """Slice 2: raters half apart, samples the same. Slice 3: raters the same, samples have nothing in common."""
    samples, raters = np.zeros((2, 10, 12, 14), bool), np.zeros((2, 10, 12, 14), bool)
    raters[0, 2, 1:3, 1:3] = raters[1, 2, 1:3, 1:5] = samples[:, 2, 1:3, 1:5] = True
    raters[:, 3, 4:6, 4:6] = samples[0, 3, 4:6, 4:6] = True
    samples[1, 3, 8:9, 8:9] = True
    found = compare_with_raters(samples, raters, PLAIN, ["A", "B"])
    # of two masks only what both mark is the majority: in slice 2 4 pixels against 8, in slice 3 4 against none
    expected = [
        {"slice": 2, "position_mm": 40 + 2 * 3.1, "observed": 0.5, "predicted": 0.0, "dice": 2 * 4 / 12},
        {"slice": 3, "position_mm": 40 + 3 * 3.1, "observed": 0.0, "predicted": 1.0, "dice": 0.0},
    ]
    for row, by_hand in zip(rows_of(found, "disagreement"), expected, strict=True):
        ours, theirs = (found.fused[f"{who} STAPLE"][row["slice"]] != 0 for who in ("samples", "raters"))
        both, either = np.count_nonzero(ours & theirs), np.count_nonzero(ours) + np.count_nonzero(theirs)
        assert row == pytest.approx(by_hand | {"dice_staple": 2 * both / either if either else 1.0})
    assert found.tables["disagreement"].notes[-1].endswith(": -1.000")


def test_three_slices_correlate():
    samples, raters = np.zeros((2, 10, 12, 14), bool), np.zeros((2, 10, 12, 14), bool)
    for z, (s, y) in enumerate([(4, 6), (1, 3), (2, 3)]):
        samples[0, z, 0, :8] = raters[0, z, 0, :8] = samples[1, z, 0, :s] = raters[1, z, 0, :y] = True
    found = compare_with_raters(samples, raters, PLAIN, ["A", "B"])
    observed, predicted = [1 - y / 8 for y in (6, 3, 3)], [1 - s / 8 for s in (4, 1, 2)]
    r = np.corrcoef(observed, predicted)[0, 1]
    assert found.tables["disagreement"].notes[-1].endswith(f": {r:.3f}") and 0 < r < 1


@pytest.mark.parametrize("geometry", [PLAIN, OBLIQUE], ids=["plain", "oblique"])
def test_the_crop_changes_nothing_but_the_shape_of_the_fused_masks(geometry):
    samples, raters = SAMPLES.copy(), RATERS.copy()
    samples[0, 0, 0, 3] = True  # the margin of STAPLE's box now ends where the volume ends
    whole = compare_with_raters(samples, raters, geometry, NAMES)
    union = samples.any(0) | raters.any(0)
    spans = [np.flatnonzero(union.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    assert any(0 < s[0] or s[-1] < n - 1 for s, n in zip(spans, union.shape))
    box = tuple(slice(s[0], s[-1] + 1) for s in spans)
    cut = compare_with_raters(
        samples[(slice(None), *box)], raters[(slice(None), *box)], geometry, NAMES, box_start=[s.start for s in box]
    )
    assert_same_tables(whole, cut, tolerance=1e-12)
    assert {name: mask.tolist() for name, mask in cut.fused.items()} == {
        name: mask[box].tolist() for name, mask in whole.fused.items()
    }
    assert all(mask.any() for mask in cut.fused.values())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("mirrored", [(False, False, False), (True, False, True), (False, True, True)])
def test_the_order_and_sense_of_the_stored_axes_change_nothing(found, order, mirrored):
    """The same volume stored another way: index axis k follows axis ``order[k]`` of the first, maybe backwards."""
    columns = np.array(PLAIN.direction).reshape(3, 3)
    signs = np.where(mirrored, -1.0, 1.0)
    last = np.where([mirrored[k] for k in range(3)], np.array(SIZE)[list(order)] - 1, 0)
    corner = np.zeros(3)
    corner[list(order)] = last  # index, on the first grid, of the new first voxel
    geometry = Geometry(
        tuple(SIZE[k] for k in order),
        tuple(SPACING[k] for k in order),
        tuple(PLAIN.to_mm(corner)),
        tuple((columns[:, list(order)] * signs).ravel()),
    )

    def stored(masks):
        turned = masks.transpose(0, *(1 + 2 - order[2 - a] for a in range(3)))  # array axis a is index axis 2 − a
        return turned[(slice(None), *(slice(None, None, -1 if mirrored[2 - a] else 1) for a in range(3)))]

    again = compare_with_raters(stored(SAMPLES), stored(RATERS), geometry, NAMES)
    assert_same_tables(found, again)
    for name, mask in again.fused.items():
        np.testing.assert_array_equal(mask, stored(found.fused[name][None])[0])


def test_positions_of_an_oblique_volume_are_along_its_normal():
    found = compare_with_raters(SAMPLES, RATERS, OBLIQUE, NAMES)
    normal = np.array(OBLIQUE.direction).reshape(3, 3)[:, 2]
    assert normal[2] > 0.8
    for row in rows_of(found, "disagreement"):
        for x, y in ((0, 0), (13, 11)):  # every voxel of a slice lies at the slice's position
            assert OBLIQUE.to_mm(np.array([x, y, row["slice"]])) @ normal == pytest.approx(row["position_mm"])
    plain = compare_with_raters(SAMPLES, RATERS, PLAIN, NAMES)
    assert [row["position_mm"] for row in rows_of(found, "slices")] == [
        row["position_mm"] for row in rows_of(found, "disagreement")
    ]
    for key in TABLES - {"disagreement"}:  # rotation moves no figure
        for one, other in zip(rows_of(plain, key), rows_of(found, key), strict=True):
            if key == "slices":
                one, other = ({**row, "position_mm": 0} for row in (one, other))
            assert one == pytest.approx(other)


def test_a_volume_of_one_slice_is_judged_in_two_dimensions():
    grid = Geometry((14, 12, 1), (0.7, 0.9, 5.0), (0, 0, 0), (0, 0, 1.0, 1.0, 0, 0, 0, 1.0, 0))  # stored sagittal
    samples, raters = np.zeros((2, 1, 12, 14), bool), np.zeros((1, 1, 12, 14), bool)
    samples[0, 0, 3:8, 3:8] = samples[1, 0, 3:9, 3:7] = raters[0, 0, 2:8, 4:9] = True
    found = compare_with_raters(samples, raters, grid, ["A"])
    per_slice, whole = rows_of(found, "summary")
    assert {**per_slice, "scope": ""} == pytest.approx({**whole, "scope": ""})
    flat = surface_metrics(samples[0, 0], raters[0, 0], (0.9, 0.7)).hd95_mm
    assert rows_of(found, "hd95")[0]["sample 1"] == flat > 0
    assert "1 stored slices (of 1)" in found.tables["summary"].notes[0]


def test_one_rater_or_one_sample_leaves_figures_undefined():
    one_rater = rows_of(compare_with_raters(SAMPLES, RATERS[:1], PLAIN, ["A"]), "summary")
    one_sample = compare_with_raters(SAMPLES[:1], RATERS, PLAIN, NAMES)
    for row in one_rater + rows_of(one_sample, "summary"):
        assert row["diversity_agreement"] is row["ci_harmonic"] is row["ci_printed"] is None
        assert (row["ged_u"] is None) == (row["n_samples"] == 1) and row["ged_v"] is not None
    assert all(row["predicted"] is None and row["observed"] is not None for row in rows_of(one_sample, "disagreement"))
    assert "undefined" in one_sample.tables["disagreement"].notes[-1]
    assert any("GED u in 1 volume" in note for note in one_sample.tables["summary"].notes)


def test_empty_raters_count_and_their_distances_are_undefined():
    raters = np.concatenate([RATERS[:2], np.zeros_like(RATERS[:2])])
    found = compare_with_raters(SAMPLES, raters, PLAIN, NAMES)
    assert set(rows_of(found, "hd95")[2].values()) == {"C", None}
    assert rows_of(found, "dice")[3] == {"rater": "D", **{f"sample {k}": 0.0 for k in range(1, 7)}}
    assert rows_of(found, "dice_max")[2] == {"rater": "C", "volume_ml": 0, "dice_max": 0, "sample": "sample 1"} | {
        "hd95_mm": None
    }
    defined = [surface_metrics(s, y, SPACING[::-1]).hd95_mm for s in SAMPLES for y in RATERS[:2]]
    assert rows_of(found, "summary")[1]["hd95_mm"] == pytest.approx(np.mean(defined))
    assert any(
        "whole volume" in n and "surface distances of 12 of 24 pairs" in n for n in found.tables["summary"].notes
    )


def test_what_staple_cannot_estimate_is_undefined_and_the_rest_is_there():
    """380 samples, of which every second marks one voxel of 60: more than STAPLE takes, see its own test."""
    block, one = np.zeros((2, *PLAIN.shape), bool)
    block[3:6, 2:6, 2:7] = one[4, 3, 4] = True
    shares = []
    found = compare_with_raters(
        np.stack([block, one] * 190), np.stack([block, block]), PLAIN, ["A", "B"], on_progress=shares.append
    )
    assert list(found.fused) == ["raters majority", "raters STAPLE", "samples majority"] and shares[-1] == 1
    np.testing.assert_array_equal(found.fused["raters STAPLE"], block)
    milliliters = 60 * VOXEL_ML
    by_majority, by_staple = rows_of(found, "consensus")
    assert by_majority["dice"] == 2 * 1 / 61  # of two halves only what both mark is the majority
    undefined = dict.fromkeys(["samples_ml", "difference_ml", "dice", "hd95_mm", "assd_mm"])
    assert by_staple == {"fusion": "STAPLE", "raters_ml": pytest.approx(milliliters)} | undefined
    of_slices = [(row["slice"], row["dice"], row["dice_staple"]) for row in rows_of(found, "disagreement")]
    assert of_slices == [(3, 0, None), (4, 2 * 1 / 21, None), (5, 0, None)]
    for key in TABLES:
        noted = any(note.startswith("STAPLE of the 380 samples is undefined") for note in found.tables[key].notes)
        assert noted == (key in ("consensus", "disagreement"))
    assert "STAPLE" in (line := found.tables["consensus"].text().splitlines()[-1]) and line.count("–") == 5
    json.dumps(found.tables["consensus"].as_dict(), allow_nan=False)


@pytest.mark.parametrize("shape", [(10, 12, 14), (0, 0, 0)], ids=["whole", "cut"])
def test_nothing_marked_anywhere(shape):
    found = compare_with_raters(np.zeros((3, *shape), bool), np.zeros((2, *shape), bool), PLAIN, ["A", "B"])
    per_slice, whole = rows_of(found, "summary")
    assert {key for key, value in per_slice.items() if value is not None} == {"scope", "n_samples", "n_raters"}
    assert (whole["ged_v"], whole["mean_dice"], whole["hd95_mm"], whole["ci_harmonic"]) == (0, 1, 0, 1)
    assert "of the 0 axial slices (of 10)" in found.tables["summary"].notes[0]
    assert rows_of(found, "disagreement") == rows_of(found, "slices") == [] and found.slices.cases == ()
    assert all(mask.shape == shape and not mask.any() for mask in found.fused.values())
    assert [row["dice"] for row in rows_of(found, "consensus")] == [1, 1]


def test_ten_raters_in_json_and_back():
    names = [f"rater {k}" for k in range(10)]
    found = compare_with_raters(SAMPLES, lesions(10, 4), PLAIN, names, ["1", "2", "3", "4", "5", "x"])
    assert [row["rater"] for row in rows_of(found, "dice")] == names
    assert [c.title for c in found.tables["dice"].columns] == ["rater", "1", "2", "3", "4", "5", "x"]
    for table in found.tables.values():
        assert Table.from_dict(json.loads(json.dumps(table.as_dict(), allow_nan=False))) == table


def test_arrays_that_cannot_be_written_are_read():
    samples, raters = SAMPLES.copy(), RATERS.copy()
    samples.flags.writeable = raters.flags.writeable = False
    assert_same_tables(
        compare_with_raters(samples, raters, PLAIN, NAMES), compare_with_raters(SAMPLES, RATERS, PLAIN, NAMES)
    )


@pytest.mark.parametrize("direction", [(1.0, 0, 0, 0, 1.0, 0, 0, 0, -1.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)])
def test_one_marked_slice_or_voxel_on_a_grid_of_negative_directions(direction):
    """The box is one voxel thick there, and its slices are seen against the order in which they are stored."""
    grid = Geometry(SIZE, SPACING, ORIGIN, direction)
    for box in ((1, 3, 4), (1, 1, 1), (3, 1, 4), (3, 4, 1)):
        masks = np.ones((2, *box), bool)
        found = compare_with_raters(masks, masks, grid, ["A", "B"], box_start=(4, 3, 5))
        assert [row["dice"] for row in rows_of(found, "consensus")] == [1, 1]
        slices = range(4, 4 + box[0]) if direction[8] > 0 else range(10 - 4 - box[0], 10 - 4)
        assert [row["slice"] for row in rows_of(found, "disagreement")] == list(slices)
        assert [row["slice"] for row in rows_of(found, "slices")] == list(slices)


def test_progress_rises_to_one_and_may_stop_the_comparison():
    shares = []
    compare_with_raters(SAMPLES, RATERS, PLAIN, NAMES, on_progress=shares.append)
    slices = sum(bool(SAMPLES[:, z].any() or RATERS[:, z].any()) for z in range(10))
    assert len(shares) == slices + 6 + 4 + 4
    assert shares == sorted(set(shares)) and 0 < shares[0] and shares[-1] == 1

    class Cancelled(Exception):
        pass

    def stop_at(limit):
        def on_progress(share):
            if share > limit:
                raise Cancelled

        return on_progress

    for limit in (0, 0.5, 0.9):
        with pytest.raises(Cancelled):
            compare_with_raters(SAMPLES, RATERS, PLAIN, NAMES, on_progress=stop_at(limit))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raters": RATERS[:0], "rater_names": []}, "one rater or more"),
        ({"samples": SAMPLES[:0]}, "one sample or more"),
        ({"samples": SAMPLES.astype(float)}, "bool or uint8 array"),
        ({"samples": 2 * SAMPLES.view(np.uint8)}, "hold the label 2, but there are 1"),
        ({"labels": ()}, "hold the label 1, but there are 0"),
        ({"raters": RATERS[:, 1:]}, "one grid"),
        ({"rater_names": NAMES[:3]}, "4 raters need as many names, got 3"),
        ({"rater_names": ["A", "B", "C", "A"]}, "must differ, got A, B, C, A"),
        ({"sample_names": ["1"]}, "6 samples need as many names, got 1"),
        ({"box_start": (1, 0, 0)}, "does not lie in a volume of shape"),
        ({"box_start": (-1, 0, 0)}, "does not lie in a volume"),
    ],
)
def test_refusals(changes, message):
    arguments = {"samples": SAMPLES, "raters": RATERS, "geometry": PLAIN, "rater_names": NAMES} | changes
    with pytest.raises(ValueError, match=message):
        compare_with_raters(**arguments)


def test_tables_of_one_class_are_those_of_before_there_were_several():
    """``tables_of_one_class.json``: what commit b1fab83 gave for these masks. Columns and notes may only be added."""
    past = json.loads((Path(__file__).parent / "tables_of_one_class.json").read_text(encoding="utf-8"))
    samples, raters = SAMPLES[:3].copy(), np.concatenate([RATERS[:2], np.zeros_like(RATERS[:1])])
    samples[2, 5:] = False
    now = {
        key: t.as_dict() for key, t in compare_with_raters(samples, raters, PLAIN, ["A", "B", "none"]).tables.items()
    }
    assert list(now) == list(past)
    for key, table in past.items():
        keys = [column["key"] for column in table["columns"]]
        assert [column for column in now[key]["columns"] if column["key"] in keys] == table["columns"]
        assert {column["key"] for column in now[key]["columns"]} - set(keys) <= FURTHER
        for row, expected in zip(now[key]["rows"], table["rows"], strict=True):
            assert {k: row[k] for k in keys} == pytest.approx(expected, abs=1e-12), key
        kept = iter(now[key]["notes"])
        for note in table["notes"]:  # in the same order, maybe longer
            assert any(line.startswith(note) for line in kept), note


# several classes


def cores_and_halos(n, seed):
    """Lesions 2, within each a core 1 in which another lesion lies."""
    return np.where(lesions(n, seed) & lesions(n, seed + 50), 1, 2).astype(np.uint8) * lesions(n, seed)


LABELS = ["core", "halo"]
SAMPLES_2, RATERS_2 = cores_and_halos(5, 1), cores_and_halos(3, 2)


@pytest.fixture(scope="module")
def several():
    return compare_with_raters(SAMPLES_2, RATERS_2, PLAIN, NAMES[:3], labels=LABELS)


def of_label(comparison, key, label):
    return [{k: v for k, v in row.items() if k != "label"} for row in rows_of(comparison, key) if row["label"] == label]


@pytest.mark.parametrize("label", [1, 2])
def test_rows_of_a_class_are_those_of_its_masks_alone(several, label):
    samples, raters = SAMPLES_2 == label, RATERS_2 == label
    assert samples.any() and raters.any()
    alone = compare_with_raters(samples, raters, PLAIN, NAMES[:3])
    for key in TABLES - {"consensus", "disagreement"}:  # fused masks see all classes
        rows = of_label(several, key, LABELS[label - 1])
        assert len(rows) == len(rows_of(alone, key)) > 0
        for row, expected in zip(rows, rows_of(alone, key), strict=True):
            assert row == pytest.approx(expected, abs=1e-12), key
    observed = [[row[k] for k in ("slice", "observed", "predicted")] for row in rows_of(alone, "disagreement")]
    assert observed == [
        [row[k] for k in ("slice", "observed", "predicted")]
        for row in of_label(several, "disagreement", LABELS[label - 1])
    ]


def test_rows_of_all_classes_are_the_metrics_of_the_label_maps(several):
    per_slice, whole = of_label(several, "summary", ALL_CLASSES)
    expected = compare(SAMPLES_2, RATERS_2, SPACING[::-1], 2, None, VOXEL_ML)
    shared = set(whole) & set(expected)
    assert len(shared) > 14
    assert {k: whole[k] for k in shared} == pytest.approx({k: expected[k] for k in shared}, abs=1e-12)
    marked = [z for z in range(10) if SAMPLES_2[:, z].any() or RATERS_2[:, z].any()]
    means = average([compare(SAMPLES_2[:, z], RATERS_2[:, z], (0.9, 0.7), 2, None, VOXEL_ML) for z in marked]).mean
    assert {k: per_slice[k] for k in shared} == pytest.approx(plain({k: means[k] for k in shared}), abs=1e-12)
    assert [row["slice"] for row in of_label(several, "slices", ALL_CLASSES)] == marked
    d = 1 - np.array([[row[f"sample {k}"] for k in range(1, 6)] for row in of_label(several, "dice", ALL_CLASSES)])
    assert 1 - d.min(axis=1).mean() == pytest.approx(whole["dice_max"])
    volumes = [row["volume_ml"] for row in of_label(several, "dice_max", ALL_CLASSES)]
    assert volumes == pytest.approx([np.count_nonzero(rater) * VOXEL_ML for rater in RATERS_2])


def test_labels_come_in_blocks_and_every_table_has_them(several):
    for key, table in several.tables.items():
        assert table.columns[0].key == "label", key
        labels = [row["label"] for row in table.rows]
        assert list(dict.fromkeys(labels)) == [*LABELS, ALL_CLASSES]
        assert labels == sorted(labels, key=[*LABELS, ALL_CLASSES].index)
    correlations = [note for note in several.tables["disagreement"].notes if "Pearson" in note]
    assert [note.split(":")[0] for note in correlations] == [*LABELS, ALL_CLASSES]
    assert several.slices.label == ALL_CLASSES
    json.dumps({key: table.as_dict() for key, table in several.tables.items()}, allow_nan=False)


def test_fused_label_maps_take_the_most_frequent_class_and_the_largest_probability(several):
    for who, masks in (("samples", SAMPLES_2), ("raters", RATERS_2)):
        votes = np.stack([(masks == k).sum(axis=0) for k in range(3)])
        ordered = np.sort(votes, axis=0)
        winner = np.where(ordered[-1] > ordered[-2], votes.argmax(axis=0), 0)
        np.testing.assert_array_equal(several.fused[f"{who} majority"], winner)
        assert set(np.unique(several.fused[f"{who} STAPLE"])) == {0, 1, 2}
    union = SAMPLES_2.any(0) | RATERS_2.any(0)
    box = []
    for axis, mm in enumerate(SPACING[::-1]):
        marked = np.flatnonzero(union.any(tuple({0, 1, 2} - {axis})))
        margin = math.ceil(STAPLE_MARGIN_MM / mm)
        box.append(slice(max(0, marked[0] - margin), marked[-1] + 1 + margin))
    core, halo = (staple((RATERS_2 == k)[(slice(None), *box)]).probability.astype(float) for k in (1, 2))
    rest = 1 - core - halo
    expected = np.zeros(union.shape, int)
    expected[tuple(box)] = np.where((core > halo) & (core > rest), 1, np.where((halo > core) & (halo > rest), 2, 0))
    np.testing.assert_array_equal(several.fused["raters STAPLE"], expected)
    for label, name in ((1, "core"), (2, "halo"), (None, ALL_CLASSES)):
        for row in of_label(several, "consensus", name):
            ours, theirs = (several.fused[f"{who} {row['fusion']}"][None] for who in ("samples", "raters"))
            figures = compare(ours, theirs, SPACING[::-1], 2, label)
            expected = plain((figures["mean_dice"], figures["hd95_mm"], figures["assd_mm"]))
            assert [row["dice"], row["hd95_mm"], row["assd_mm"]] == pytest.approx(expected)
            volumes = [np.count_nonzero(mask if label is None else mask == label) * VOXEL_ML for mask in (ours, theirs)]
            assert [row["samples_ml"], row["raters_ml"]] == pytest.approx(volumes)
            of_slices = of_label(several, "disagreement", name)
            key = "dice" if row["fusion"] == "majority" else "dice_staple"
            for slice_row in of_slices:
                z = slice_row["slice"]
                figures = compare(ours[:, z], theirs[:, z], None, 2, label)
                assert slice_row[key] == pytest.approx(figures["mean_dice"])


def test_the_crop_of_several_classes_changes_nothing(several):
    union = SAMPLES_2.any(0) | RATERS_2.any(0)
    spans = [np.flatnonzero(union.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = (slice(None), *(slice(s[0], s[-1] + 1) for s in spans))
    start, shares = [int(s[0]) for s in spans], []
    cut = compare_with_raters(
        SAMPLES_2[box], RATERS_2[box], PLAIN, NAMES[:3], labels=LABELS, box_start=start, on_progress=shares.append
    )
    assert_same_tables(several, cut, tolerance=1e-12)
    assert shares == sorted(set(shares)) and shares[-1] == 1
    assert len(shares) == len(of_label(cut, "slices", ALL_CLASSES)) + 2 * (5 + 3) + 4


def test_a_class_that_nobody_marks_has_empty_rows():
    found = compare_with_raters(SAMPLES_2, RATERS_2, PLAIN, NAMES[:3], labels=[*LABELS, "ghost"])
    per_slice, whole = of_label(found, "summary", "ghost")
    assert per_slice["ged_v"] is None and (whole["ged_v"], whole["mean_dice"], whole["hd95_mm"]) == (0, 1, 0)
    assert of_label(found, "slices", "ghost") == []
    two = compare_with_raters(SAMPLES_2, RATERS_2, PLAIN, NAMES[:3], labels=LABELS)
    for key in TABLES:  # and it changes nothing for all classes
        for row, expected in zip(of_label(found, key, ALL_CLASSES), of_label(two, key, ALL_CLASSES), strict=True):
            assert row == pytest.approx(expected, abs=1e-12), key

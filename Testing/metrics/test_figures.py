"""The registry of figures, and one case from all its sides."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from shared_data import REPOSITORY

from AmbiguousSegLib.metrics import distribution, figures
from AmbiguousSegLib.metrics.figures import FIGURES, MaskSets, average, compare, figure
from AmbiguousSegLib.metrics.overlap import dice
from AmbiguousSegLib.metrics.surface import surface_metrics

ON_MASKS = [
    *("ged_v", "ged_u", "distance_cross", "distance_samples_v", "distance_samples_u", "distance_raters", "ci_harmonic"),
    *("ci_printed", "combined_sensitivity", "dice_max", "diversity_agreement", "hm_iou", "mean_dice", "hd95_mm"),
    *("assd_mm", "sample_spread"),
]
FURTHER = {"calibration_error", "roughness_samples", "roughness_raters", "volume_crps_ml"}


def rows(*patterns: str) -> np.ndarray:
    return np.array([[[character == "x" for character in pattern]] for pattern in patterns])


def random_case(n: int = 5, m: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.random((n, 7, 8)) < 0.7, generator.random((m, 7, 8)) < 0.8


def test_the_papers_figures_come_first_in_their_order_and_every_entry_is_complete():
    assert list(FIGURES)[: len(ON_MASKS)] == ON_MASKS
    assert set(FIGURES) >= {*ON_MASKS, *FURTHER}
    entries = [FIGURES[key] for key in FIGURES]
    assert len({entry.title for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.meaning and not entry.meaning.endswith(".")
        assert entry.unit == ("mm" if entry.key.endswith("_mm") else "mL" if entry.key.endswith("_ml") else "")
        assert entry.unit in entry.title
        assert bool(entry.note) == (entry.key not in ON_MASKS)  # the notes of every table tell the others


def test_a_case_is_what_each_function_gives():
    samples, raters = random_case(5, 3)
    got = compare(samples, raters, (0.5, 2))
    s_c, d_max = distribution.combined_sensitivity(samples, raters), distribution.dice_max(samples, raters)
    d_a = distribution.diversity_agreement(samples, raters)
    v, u = distribution.ged(samples, raters, "v"), distribution.ged(samples, raters, "u")
    pairs = [surface_metrics(s, y, (0.5, 2)) for s in samples for y in raters]
    expected = {
        "ged_v": v.value,
        "ged_u": u.value,
        "distance_cross": v.cross,
        "distance_samples_v": v.within_samples,
        "distance_samples_u": u.within_samples,
        "distance_raters": v.within_raters,
        "combined_sensitivity": s_c,
        "dice_max": d_max,
        "diversity_agreement": d_a,
        "ci_printed": distribution.ci_printed(s_c, d_max, d_a),
        "ci_harmonic": distribution.ci_harmonic(s_c, d_max, d_a),
        "hm_iou": distribution.hm_iou(samples, raters),
        "sample_spread": distribution.sample_spread(samples),
        "mean_dice": pytest.approx(np.mean([dice(s, y) for s in samples for y in raters]), abs=1e-14),
        "hd95_mm": pytest.approx(np.mean([pair.hd95_mm for pair in pairs]), abs=1e-14),
        "assd_mm": pytest.approx(np.mean([pair.assd_mm for pair in pairs]), abs=1e-14),
    }
    assert {key: got[key] for key in ON_MASKS} == expected
    assert json.loads(json.dumps(got)) == got  # plain floats


def test_what_is_unknown_leaves_its_figures_out():
    flat, solid = random_case(), [np.stack([masks, masks], axis=1) for masks in random_case()]
    lengths, contours = {"hd95_mm", "assd_mm"}, {"roughness_samples", "roughness_raters"}
    known = {*ON_MASKS, "calibration_error"}

    def known_of(*arguments, **options):  # whatever figures there are besides
        return figures.compare(*arguments, **options).keys() & {*ON_MASKS, *FURTHER}

    assert known_of(*flat) == known - lengths
    assert known_of(*flat, (1, 1)) == known | contours
    assert known_of(*flat, voxel_volume_ml=0.1) == (known | {"volume_crps_ml"}) - lengths
    assert known_of(*solid, (1, 1, 1), voxel_volume_ml=0.1) == known | {"volume_crps_ml"}


def test_the_order_of_masks_and_the_kind_of_array_change_nothing():
    samples, raters = random_case(5, 3)
    first = compare(samples, raters, (1, 1))
    second = compare(torch.from_numpy(samples[[4, 2, 0, 1, 3]]), raters[[2, 0, 1]].view(np.uint8), (1, 1))
    assert first == pytest.approx(second, abs=1e-14)


def test_empty_raters():
    samples, raters = rows("x...", "...."), rows("....", "....")
    got = compare(samples, raters)
    assert got["combined_sensitivity"] == got["dice_max"] == 1
    assert got["hm_iou"] == got["mean_dice"] == 0.5
    # extremes of V: samples 1 and 1, raters 0 and 0
    assert got["diversity_agreement"] == got["ci_printed"] == got["ci_harmonic"] == 0
    assert MaskSets(samples, raters).all_raters_empty
    assert not MaskSets(samples, rows("....", "..x.")).all_raters_empty


def test_one_sample_or_one_rater_leaves_figures_undefined():
    samples, raters = random_case()
    one = compare(samples[:1], raters, (1, 1), voxel_volume_ml=1)
    undefined = {"diversity_agreement", "ci_printed", "ci_harmonic"}
    missing = {key for key, value in one.items() if math.isnan(value)}
    assert missing == undefined | {"ged_u", "distance_samples_u", "volume_crps_ml"}
    one = compare(samples, raters[:1], (1, 1))
    assert {key for key, value in one.items() if math.isnan(value)} == undefined


def test_averages_leave_out_what_is_undefined_and_count_it():
    samples, raters = random_case(4, 3)
    plain, one_rater = compare(samples, raters), compare(samples, raters[:1])
    empty = compare(samples, np.zeros_like(raters))
    got = average([plain, one_rater, empty])
    assert {key for key, count in got.missing.items() if count} == {"diversity_agreement", "ci_printed", "ci_harmonic"}
    assert got.missing["diversity_agreement"] == 1
    assert got.mean["diversity_agreement"] == (plain["diversity_agreement"] + empty["diversity_agreement"]) / 2
    assert got.mean["ged_v"] == pytest.approx((plain["ged_v"] + one_rater["ged_v"] + empty["ged_v"]) / 3)
    assert set(got.mean) == set(plain)


def test_averages_of_figures_defined_nowhere(recwarn):
    got = average([compare(*random_case(n=1, seed=seed)) for seed in (0, 1)])
    assert math.isnan(got.mean["ged_u"]) and got.missing["ged_u"] == 2
    assert got.mean["distance_samples_v"] == got.missing["ged_v"] == 0
    assert not recwarn


def test_averages_need_cases_with_the_same_figures():
    for cases in ([], [compare(*random_case()), compare(*random_case(), (1, 1))]):
        with pytest.raises(ValueError, match="same figures"):
            average(cases)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": np.zeros((2, 7, 8))}, "samples must be bool masks or uint8 label maps, got float64"),
        ({"raters": np.zeros((0, 7, 8), bool)}, "N ≥ 1"),
        ({"raters": np.zeros((2, 7, 7), bool)}, r"one grid, got \(7, 8\) and \(7, 7\)"),
        ({"samples": np.full((2, 7, 8), 2, np.uint8)}, "hold the label 2, but there are 1"),
        ({"label": 2}, "one of 1 to 1, got 2"),
        ({"spacing_mm": (1, 1, 1)}, "2 positive lengths"),
    ],
)
def test_refusals(changes, message):
    samples, raters = random_case()
    with pytest.raises(ValueError, match=message):
        compare(**{"samples": samples, "raters": raters} | changes)


def test_an_entry_must_be_made_of_what_there_is():
    for arguments, message in (
        ({"key": "ged_v"}, "There is a figure 'ged_v' already"),
        ({"needs": ["weather"]}, "names 'weather'; needs are spacing, volume, plane"),
        ({"tables": ["card"]}, "names 'card'"),
        ({"better": "bigger"}, "'bigger'"),
    ):
        with pytest.raises(ValueError, match=message):
            figure(**{"key": "toy", "title": "toy", "meaning": "a toy"} | arguments)(lambda sets: 0.0)
    assert "toy" not in FIGURES


def test_the_readme_has_the_meanings_of_the_registry():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert "<!-- figures -->" in text and "<!-- /figures -->" in text
    shown = text.split("<!-- figures -->")[1].split("<!-- /figures -->")[0]
    assert shown.strip() == figures.meanings_markdown().strip()


def test_pairs_are_counted_once_for_all_views(monkeypatch):
    from AmbiguousSegLib.metrics import mask_sets

    asked = []
    counted = mask_sets.pairwise_counts
    monkeypatch.setattr(mask_sets, "pairwise_counts", lambda a, b: asked.append((a, b)) or counted(a, b))
    generator = np.random.default_rng(0)
    samples, raters = (generator.integers(0, 3, (n, 6, 6)).astype(np.uint8) for n in (4, 2))
    sets = MaskSets(samples, raters, 2)
    for label in (1, 2, None):
        figures.figures_of(sets.of_class(label))
    per_class = list(itertools.product((1, 2), range(3)))
    assert len(asked) == len(per_class) + 1  # and once any class, for the spread of all

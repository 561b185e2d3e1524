"""Averages over a data set against figures worked out by hand."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from AmbiguousSegLib.evaluation.comparison import (
    ALL_CLASSES,
    CaseResult,
    Result,
    by_label,
    case_table,
    evaluate_case,
    summary_table,
)
from AmbiguousSegLib.metrics.figures import MaskSets, compare

A, B, EMPTY = (np.zeros((4, 8), bool) for _ in range(3))
A[1:3, 1:3] = True  # 4 pixels
B[1:3, 1:5] = True  # 8 pixels, A inside: IoU 1/2, Dice 2/3
PAIR, TWICE = np.stack([A, B]), np.stack([A, B, A, B])


def case(identity: str, samples: np.ndarray, raters: np.ndarray, spacing_mm=None) -> CaseResult:
    return evaluate_case(identity, MaskSets(samples, raters, spacing_mm=spacing_mm))


def result(*cases, name: str = "model") -> Result:
    return Result(name, "method", "sampler", tuple(case(f"case/{i}", *masks) for i, masks in enumerate(cases)))


def test_averages_by_hand():
    """Samples A, B, A, B and raters A, B; then empty samples with empty raters, where every distance is 0."""
    none = np.stack([EMPTY] * 4), np.stack([EMPTY] * 2)
    table = summary_table([result((TWICE, PAIR), none)])
    (row,) = table.rows
    by_hand = {
        "ged_v": (2 * 1 / 4 - 1 / 4 - 1 / 4) / 2,
        "ged_u": (2 * 1 / 4 - 8 / 12 / 2 - 1 / 4) / 2,
        "distance_samples_v": 1 / 8,
        "distance_raters": 1 / 8,
        "combined_sensitivity": 1.0,
        "dice_max": 1.0,
        "diversity_agreement": (1 - (0 + 1 / 3) / 2 + 1) / 2,  # least V: 0 among samples, 1/3 among raters
        "hm_iou": 1.0,
        "mean_dice": (1 / 2 + 1 / 2 * 2 / 3 + 1) / 2,
        "sample_spread": math.sqrt(4 / 32) / 2 / 2,
    }
    assert {key: row[key] for key in by_hand} == pytest.approx(by_hand)
    assert "n = 4 samples and m = 2 raters per image; 2 images, in 1 of them all raters empty" in table.notes
    assert "hd95_mm" not in row and any("no pixel spacing" in note for note in table.notes)


def test_surface_means_by_hand():
    """A to B: the two columns of B beyond A are 1 and 2 pixels of 0.5 mm away, all else is 0."""
    found = case("x", np.stack([A, EMPTY]), np.stack([B, A]), (0.5, 0.5))
    # 4 border pixels of A at 0; 8 of B at 0 (four), 0.5 (two), 1.0 (two): percentile 95 at 6.65 of 0..7 is 1.0
    assert found.figures["hd95_mm"] == pytest.approx((1.0 + 0.0) / 2)
    assert found.figures["assd_mm"] == pytest.approx((3.0 / 12 + 0.0) / 2)
    assert (found.pairs, found.undefined_pairs) == (4, 2)
    empty = case("x", EMPTY[None], EMPTY[None], (1, 1))
    assert (empty.figures["hd95_mm"], empty.figures["assd_mm"], empty.undefined_pairs) == (0, 0, 0)


def test_a_case_without_defined_distances_is_left_out_and_counted():
    spacing = (1.0, 1.0)
    found = result((PAIR, PAIR, spacing), (PAIR, np.stack([EMPTY, EMPTY]), spacing))
    alone = result((PAIR, PAIR, spacing))
    assert found.averages().mean["hd95_mm"] == alone.averages().mean["hd95_mm"] > 0
    assert found.surface_pairs() == (8, 4)
    assert any("surface distances of 4 of 8 pairs" in note for note in summary_table([found]).notes)


def test_one_rater_leaves_agreement_undefined_and_says_so():
    found = result((PAIR, A[None]), (PAIR, PAIR))
    table = summary_table([found])
    alone = summary_table([result((PAIR, PAIR))])
    assert table.rows[0]["diversity_agreement"] == alone.rows[0]["diversity_agreement"] == 1.0
    assert any("D_a in 1 images" in note for note in table.notes)
    assert any("m = 1 to 2 raters" in note for note in table.notes)
    assert found.as_dict()["averages"]["missing"]["diversity_agreement"] == 1


def test_disagreement_leaves_the_diagonal_out_on_both_sides():
    assert case("x", TWICE, PAIR).disagreement() == pytest.approx((1 / 2, 8 / 12 / 2))
    assert np.isnan(case("x", A[None], A[None]).disagreement()).all()
    assert math.isnan(result((PAIR, PAIR)).disagreement_correlation())  # one point
    steps = [(PAIR, PAIR), (np.stack([A, A]), np.stack([B, B]))]
    assert result(*steps).disagreement_correlation() == pytest.approx(1)


def test_results_that_mean_different_things_share_no_table():
    with pytest.raises(ValueError, match="same cases, samples and raters"):
        summary_table([result((PAIR, PAIR)), result((TWICE, PAIR))])
    with pytest.raises(ValueError, match="same cases"):
        summary_table([result((PAIR, PAIR)), result((PAIR, PAIR), (PAIR, PAIR))])
    with pytest.raises(ValueError, match="one number of samples"):
        result((PAIR, PAIR), (TWICE, PAIR)).averages()


def test_case_table_averages_to_the_summary():
    results = [result((TWICE, PAIR), (PAIR[[0, 0, 0, 1]], PAIR)), result((TWICE, PAIR), (TWICE, PAIR), name="other")]
    rows = list(csv.DictReader(io.StringIO(case_table(results).csv())))
    assert [(row["model"], row["case"]) for row in rows] == [
        ("model", "case/0"),
        ("model", "case/1"),
        ("other", "case/0"),
        ("other", "case/1"),
    ]
    for summary in summary_table(results).rows:
        for key in ("ged_v", "ged_u", "ci_harmonic", "hm_iou", "mean_dice"):
            mean = np.mean([float(row[key]) for row in rows if row["model"] == summary["model"]])
            assert mean == pytest.approx(summary[key])


def two_classes() -> tuple[np.ndarray, np.ndarray]:
    """Samples A and B as cores 1, with a halo 2 below; raters: a core alone, and nothing."""
    samples, raters = np.zeros((2, 2, 4, 8), np.uint8)
    samples[0][A], samples[1][B], samples[:, 3, 1:5] = 1, 1, 2
    raters[0][A] = 1
    return samples, raters


def test_several_classes_have_a_row_each_and_one_for_all():
    samples, raters = two_classes()
    parts = by_label(MaskSets(samples, raters, 2, spacing_mm=(1.0, 1.0)), ("core", "halo"))
    results = [Result("m", "", "", (evaluate_case("x", sets),), label=label) for label, sets in parts.items()]
    table = summary_table(results)
    assert [row["label"] for row in table.rows] == ["core", "halo", ALL_CLASSES]
    assert [c.key for c in table.columns][:5] == ["model", "method", "sampler", "label", "ged_v"]
    for row, label in zip(table.rows, (1, 2, None), strict=True):
        expected = compare(samples, raters, (1, 1), 2, label)
        shown = {key: row[key] for key in expected if key in row}
        assert len(shown) > 15
        np.testing.assert_equal(shown, {key: expected[key] for key in shown})
    # IoU with the first rater: core 1 and 1/2, halo 0, in two classes; with the second, who is empty, 0
    assert table.rows[2]["distance_raters"] == 0.5
    assert table.rows[2]["mean_dice"] == pytest.approx((1 / 2 + (2 / 3) / 2) / 4)
    assert "in 0 of them all raters empty" in " ".join(table.notes) and any("rows of a class" in n for n in table.notes)
    # no pair has a distance for all: the halo is in the samples only; of the core two pairs have one
    assert any(note.startswith(f"m, {ALL_CLASSES}: ") and "of 4 of 4 pairs" in note for note in table.notes)
    assert any(note.startswith("m, core: ") and "of 2 of 4 pairs" in note for note in table.notes)
    rows = case_table(results).rows
    assert [row["label"] for row in rows] == ["core", "halo", ALL_CLASSES]
    assert [row["all_raters_empty"] for row in rows] == [False, True, False]
    assert [result.as_dict()["label"] for result in results] == ["core", "halo", ALL_CLASSES]
    assert [result.overall for result in results] == [False, False, True]


def test_one_class_has_no_label_and_names_must_fit():
    sets = MaskSets(PAIR, PAIR)
    assert list(by_label(sets, ["lesion"])) == [""]
    assert "label" not in result((PAIR, PAIR)).as_dict()
    with pytest.raises(ValueError, match="1 classes need as many names, got core, halo"):
        by_label(sets, ["core", "halo"])
    two = MaskSets(np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.uint8), 2)
    with pytest.raises(ValueError, match="named 'all classes', as the rows of all labels together"):
        by_label(two, ["core", "all classes"])

"""Raters over a study, against a published example and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AmbiguousSegLib.studies.agreement import RatedCase, icc_2_1, pair_table, rater_table, rating_table

SHROUT_AND_FLEISS = [(9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7)]
CASES = [
    RatedCase("p1", "s1", {"a": 1.0, "b": 2.0}, {("a", "b"): 0.5}, (1.5, 2.5)),
    RatedCase("p2", "s2", {"a": 4.0, "b": 6.0}, {("a", "b"): 0.7}, (3.0, 5.0)),
    RatedCase("p3", "s3", {"a": 10.0, "b": 16.0}, {("a", "b"): 0.9}, (9.0, 20.0)),
]


def test_the_icc_of_the_published_example():
    """Table 4 of the paper: .29."""
    assert icc_2_1(np.array(SHROUT_AND_FLEISS, float)) == pytest.approx(0.2898, abs=5e-5)


def test_the_icc_where_all_agree_and_where_it_is_undefined():
    assert icc_2_1(np.array([[1.0, 1.0], [3.0, 3.0]])) == 1
    assert math.isnan(icc_2_1(np.array([[1.0, 1.0]]))) and math.isnan(icc_2_1(np.ones((3, 2))))
    with pytest.raises(ValueError, match="must be finite"):
        icc_2_1(np.array([[1.0, math.nan]]))


def test_tendency_and_who_lies_outside():
    first, second = rater_table(CASES).rows
    assert first["area_ratio"] == pytest.approx(15 / 24) and second["area_ratio"] == pytest.approx(24 / 15)
    assert first["bias_ml"] == -3 and [first[f"bias_{t}_ml"] for t in ("small", "middle", "large")] == [-1, -2, -6]
    assert first["area_ratio_low"] >= 1 / 2 and first["area_ratio_high"] <= 4 / 6  # those of single subjects
    assert (first["outside_interval"], second["outside_interval"], first["judged_cases"]) == (1, 1, 3)
    outside = [(row["case"], row["rater"]) for row in rating_table(CASES).rows if row["outside"]]
    assert outside == [("p1", "a"), ("p2", "b")]


def test_pairs():
    pair, every = pair_table(CASES).rows
    assert pair["dice"] == every["dice"] == pytest.approx(0.7) and pair["cases"] == 3
    assert 0.5 <= pair["dice_low"] < 0.7 < pair["dice_high"] <= 0.9

"""What holds of a calibration, by hand and by loops, and its tables."""

from __future__ import annotations

import numpy as np
import pytest

from AmbiguousSegLib.calibration.fit import Drawn
from AmbiguousSegLib.calibration.logistic import Logistic
from AmbiguousSegLib.calibration.parts import AreaFactor, Calibration, OfSamples
from AmbiguousSegLib.evaluation.calibration_judged import judge
from AmbiguousSegLib.evaluation.calibration_table import calibration_table, coverage_table, curves_table

SIDE = 20


def masks(*areas) -> np.ndarray:
    return np.stack([np.arange(SIDE * SIDE).reshape(SIDE, SIDE) < area for area in areas])


def entry(factor: float | None = 1.0, plain: float | None = 1.0, **curves: Logistic) -> OfSamples:
    same = Logistic()
    areas = (AreaFactor(0.8, factor, plain), AreaFactor(0.95, None))
    return OfSamples(4, curves.get("mean_map", same), curves.get("no_outline", same), areas)


def test_no_outline_by_hand():
    """1 of 4 samples empty and 2 of 4 readers; 4 of 4 and all of 2. Flat curve: 3/4 everywhere."""
    cases = [
        Drawn("anna", masks(0, 30, 30, 30), masks(0, 0, 20, 20)),
        Drawn("ben", masks(0, 0, 0, 0), masks(0, 0)),
    ]
    judged = judge(entry(no_outline=Logistic(np.log(3.0), 0.0)), cases)
    before, after = judged.no_outline
    # before: bins of 1/4 (four readers, half of them) and 1 (two readers, both): |1/4 − 1/2|·4/6
    assert before.error.value == pytest.approx(1 / 4 * 4 / 6)
    assert after.error.value == pytest.approx(abs(3 / 4 - 4 / 6))
    assert judged.brier[0].value == pytest.approx((2 * (3 / 4) ** 2 + 2 * (1 / 4) ** 2) / 6)
    assert judged.brier[1].value == pytest.approx((4 * (1 / 4) ** 2 + 2 * (3 / 4) ** 2) / 6)
    assert before.predicted[2] == 0.25 and before.observed[2] == 0.5 and before.weights[2] == pytest.approx(4 / 6)
    assert before.predicted[9] == before.observed[9] == 1 and np.isnan(before.predicted[5])


def test_the_mean_map_weighs_cases_alike():
    """Ten pixels: all samples mark 5, no other; readers mark all. Twenty pixels: samples and readers mark all."""
    cases = [Drawn("anna", masks(5, 5, 5, 5), masks(10, 10)), Drawn("ben", masks(20, 20, 20, 20), masks(20, 20))]
    before, after = judge(entry(mean_map=Logistic(0.0, 0.0)), cases).mean_map
    assert before.error.value == pytest.approx(1 / 4)  # half of the pixels of one of two cases
    assert after.error.value == pytest.approx(1 / 2)  # a half is said of all, and all are marked
    assert after.weights[5] == pytest.approx(1) and before.weights[9] == pytest.approx(3 / 4)


def test_coverage_widths_and_sizes_by_hand():
    """Samples that all mark 100 pixels: scale 0.2, interval 100·e^±0.2 = 81.9 to 122.1."""
    cases = [
        Drawn("anna", masks(100, 100, 100, 0), masks(0, 90, 110, 130)),
        Drawn("anna", masks(100, 100, 100, 100), masks(300, 100, 0, 0)),
        Drawn("ben", masks(0, 0, 100, 100), masks(100, 0, 0, 0)),  # too few outline something
        Drawn("carl", masks(100, 100, 100, 100), masks(0, 0, 0, 0)),
    ]
    judged = judge(entry(), cases, (11.5,), 1.0)  # the disc of 110 pixels has 11.8 mm, that of 100 has 11.3
    assert [(one.level, one.title) for one in judged.coverage] == [
        (0.8, "all"),
        (0.8, "below 11.5 mm"),
        (0.8, "11.5 mm and more"),
    ]
    every, small, large = judged.coverage
    assert (every.outlines, every.without) == (5, 1) and (small.outlines, small.without) == (0, 1)
    assert every.share.value == large.share.value == pytest.approx(3 / 5) and np.isnan(small.share.value)
    assert every.width == pytest.approx(100 * (np.exp(0.2) - np.exp(-0.2)) / 110)
    assert every.plain_share.value == pytest.approx(1 / 5) and every.plain_width == 0  # 100 to 100
    # of anna 3 of 5, and of nobody else any: she is drawn or there is none
    assert (every.share.low, every.share.high) == pytest.approx((3 / 5, 3 / 5))
    rows = coverage_table(judged).rows
    assert rows[0]["covered"] == every.share.value and rows[0]["outlines"] == 5 and len(rows) == 3
    with pytest.raises(ValueError, match="edge of a pixel"):
        judge(entry(), cases, (6.0,))


def test_without_factors_there_is_no_coverage_and_tables_say_what_there_is():
    cases = [Drawn("anna", masks(5, 5, 5, 0), masks(5, 0))]
    judged = judge(entry(None), cases)
    assert judged.coverage == () and coverage_table(judged).rows == ()
    table = curves_table(judged)
    assert [row["figure"] for row in table.rows] == [
        "ECE of the mean map",
        "ECE of no outline",
        "Brier score of no outline",
    ]
    assert table.rows[2]["before"] == pytest.approx((0.75**2 + 0.25**2) / 2) == table.rows[2]["before_low"]
    calibration = Calibration(None, "made", 1, 1, 2, 1, (entry(),))
    (row,) = calibration_table(calibration).rows
    assert (
        row["samples"] == 4 and row["factor_0.8"] == 1 and row["factor_0.95"] is None and row["no_outline_slope"] == 1
    )

"""What is said of samples by a calibration whose curve and factors are known: nested, conditional, absent."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AmbiguousSegLib.calibration.figures import KEY, calibrated_figures, calibrated_lines, intervals_of
from AmbiguousSegLib.calibration.logistic import Logistic
from AmbiguousSegLib.calibration.parts import AreaFactor, Calibration, OfSamples


def entry(*factors: AreaFactor, samples: int = 4) -> OfSamples:
    """A curve that always says 3/4."""
    return OfSamples(samples, Logistic(), Logistic(math.log(3), 0.0), factors)


def said(areas, by_samples: bool = False) -> dict:
    calibration = Calibration(None, "made", 1, 1, 1, 1, (entry(AreaFactor(0.8, 1.0)),))
    sizes = np.array(areas, float)
    return calibrated_figures([calibration], None, sizes, sizes / 1000, by_samples)


def test_of_equal_samples_95_percent_hold_80():
    """Both percentiles are 100 mm², the scale is .2: ends are 100·exp(± .2·factor); that of 95 % is less."""
    factors = AreaFactor(0.8, 0.661), AreaFactor(0.95, 0.546)
    (_, *narrow), (_, *wide) = intervals_of(entry(*factors, samples=32), np.full(32, 100.0))
    assert narrow == pytest.approx([100 * math.exp(-0.1322), 100 * math.exp(0.1322)])
    assert wide == narrow  # of its own it would be 100·exp(± .1092)


def test_each_end_is_the_outer_one_of_all_lower_levels():
    """Logs 0 to 4, scale √1.04: 50 % are 2 ± 3 s, 80 % 1 − 0 to 3 + 0, 95 % .25 − s to 3.75 + s."""
    factors = [AreaFactor(level, q) for level, q in ((0.5, 3.0), (0.7, None), (0.8, 0.0), (0.95, 1.0))]
    found, s = intervals_of(entry(*factors), np.exp(np.arange(5.0))), math.sqrt(1.04)
    assert [level for level, *_ in found] == [0.5, 0.8, 0.95]
    assert np.log([ends for _, *ends in found]) == pytest.approx(np.array([[2 - 3 * s, 2 + 3 * s]] * 3))
    alone = intervals_of(entry(*factors[2:]), np.exp(np.arange(5.0)))
    assert np.log([ends for _, *ends in alone]) == pytest.approx(np.array([[1, 3], [0.25 - s, 3.75 + s]]))


def test_no_outline_is_given_that_somebody_outlines_something():
    found = said([0, 100, 100, 100])
    assert found["no_outline"] == {
        "samples_empty": 1,
        "probability": pytest.approx(0.75),
        "given": "at least one reader outlines something in the slice",
    }
    assert "validation" not in found
    lines = calibrated_lines({KEY: found})
    assert lines[0] == (
        "The slice: where at least one reader outlines something, 75 % of readers would outline nothing (calibrated)."
    )
    assert len(lines) == 3 and lines[1].startswith("Area in the slice of a reader who outlines something: 80 %: 81.9")


def test_of_a_slice_that_the_samples_chose_nothing_is_validated():
    found = said([0, 100, 100, 100], by_samples=True)
    assert found["validation"] == "not validated" and "samples themselves chose" in found["validation_reason"]
    lines = calibrated_lines({KEY: found})
    assert all("not validated" in line for line in lines[:3]) and lines[3].startswith("Not validated: the samples")


@pytest.mark.parametrize("by_samples", [False, True])
def test_where_all_samples_used_are_empty_nothing_is_said(by_samples):
    found = said([0, 0, 0, 0, 100], by_samples)  # four are used
    why = "none of the 4 samples outlines anything in the slice, and nothing was fitted on places without a lesion"
    assert found == {"absent": why} and calibrated_lines({KEY: found}) == [f"Not calibrated: {why}."]

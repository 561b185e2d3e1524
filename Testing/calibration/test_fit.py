"""Areas, intervals and whole calibrations of mask sets whose distribution is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from AmbiguousSegLib.calibration.areas import (
    READERS_SCALE,
    VOLUME,
    log_area,
    plain_ends,
    plain_interval,
    plain_scores,
)
from AmbiguousSegLib.calibration.fit import Drawn, fit
from AmbiguousSegLib.calibration.logistic import Logistic
from AmbiguousSegLib.calibration.parts import AreaFactor, Calibration, OfSamples, calibration_of, with_calibration
from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.diffusion.settings import SamplerSettings

SIDE = 24


def masks(areas) -> np.ndarray:
    """One mask for each area in pixels, filled row by row: of two the smaller lies in the larger."""
    places = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    return np.stack([places < area for area in areas])


def world(seed: int, patients: int, samples: int, readers: int = 4, wrong: float = 1.0) -> list[Drawn]:
    """Cases of which samples and readers draw from one distribution, apart from a factor ``wrong`` on the samples.

    A patient has 1 to 3 of them. Each has its own chance of no outline and its own median and spread of the area."""
    generator, cases = np.random.default_rng(seed), []
    for patient in range(patients):
        for _ in range(int(generator.integers(1, 4))):
            empty, middle, spread = generator.random() ** 2, generator.uniform(2.5, 4.5), generator.uniform(0.1, 0.5)

            def draw(n, factor=1.0, empty=empty, middle=middle, spread=spread):
                areas = np.exp(middle + spread * generator.standard_normal(n)) * factor
                return np.where(generator.random(n) < empty, 0, np.maximum(1, np.round(areas)))

            cases.append(Drawn(f"patient {patient}", masks(draw(samples, wrong)), masks(draw(readers))))
    return cases


def test_percentiles_and_scale_by_hand():
    # logs 0, 1, 2, 3, 4: quartiles 1 and 3, the ends for 80 %; those for 95 % lie 6.25 % of the four steps inside
    sizes = np.array([0, *np.exp([4, 2, 0, 1, 3.0]), 0])
    at = log_area(sizes, 0.8)
    assert (at.low, at.high, at.scale) == pytest.approx((1, 3, math.hypot(1, READERS_SCALE)))
    assert (log_area(sizes, 0.95).low, log_area(sizes, 0.95).high) == pytest.approx((0.25, 3.75))
    assert (log_area(sizes, 0.5).low, log_area(sizes, 0.5).high) == pytest.approx((2, 2))
    volume = log_area(sizes**VOLUME, 0.8, VOLUME)
    assert (volume.low, volume.high, volume.scale) == pytest.approx((1.5, 4.5, 1.5 * at.scale))
    assert at.score(np.exp([0.0, 1.0, 2.0, 5.0])) * at.scale == pytest.approx([1, 0, -1, 2])
    low, high = at.interval(2.0)
    assert at.score(np.array([low, high])) == pytest.approx([2, 2])
    assert log_area(np.array([0, 0, 5.0, 7.0]), 0.8) is None and log_area(np.zeros(16), 0.8) is None


def test_the_samples_own_interval_by_hand():
    sizes = np.array([0, 10, 20, 30, 40, 50.0])
    assert plain_ends(sizes, 0.5) == (20, 30, 40)
    assert plain_scores((20, 30, 40), np.array([30, 10, 45, 40.0])) == pytest.approx([0, 2, 1.5, 1])
    assert plain_interval(sizes, 0.5, 2.0) == (10, 50) and plain_interval(sizes, 0.5, 5.0) == (0, 80)
    assert plain_scores((30, 30, 30), np.array([30, 31.0])).tolist() == [0, math.inf]
    assert plain_ends(np.zeros(4), 0.8) is None and plain_interval(sizes, 0.8, None) is None


def test_areas_of_new_patients_are_covered_and_no_outline_is_as_frequent_as_said():
    """Samples of half the area: shares and spread are right, sizes are not. Bounds: exact binomial over patients."""
    calibration = fit(world(0, 120, 16, wrong=0.5), [4, 16], None, "made")
    fresh = world(1, 400, 16, wrong=0.5)
    for entry in calibration.of_samples:
        for area in entry.areas:
            covered = of = 0
            for case in fresh:
                at = log_area(case.first(entry.samples).areas, area.level)
                if at is not None:
                    low, high = at.interval(area.factor)
                    covered += np.count_nonzero((low <= case.outlines) & (case.outlines <= high))
                    of += len(case.outlines)
            # 120 patients calibrate, 400 are judged: as of 1 / (1/120 + 1/400) = 92 draws
            low, high = (binom.ppf(p, 92, area.level) / 92 for p in (1e-3, 1 - 1e-3))
            assert low <= covered / of <= high
        n = entry.samples
        empty = np.array([np.count_nonzero(case.first(n).areas == 0) for case in fresh])
        said = entry.no_outline.frequency(empty, n)
        truth = np.array([np.mean(case.readers_areas == 0) for case in fresh])
        assert said.mean() == pytest.approx(truth.mean(), abs=0.03)
        high = empty > n / 2
        assert said[high].mean() == pytest.approx(truth[high].mean(), abs=0.08)  # the true curve is not logistic


def test_the_mean_map_weighs_cases_alike_and_is_the_curve_of_the_counts():
    """Ten pixels: the first five are marked by 4 of 4 samples, the others by 2; readers mark the first 8, and 4."""
    row = np.arange(SIDE) < np.array([10, 10, 5, 5])[:, None]
    read = np.arange(SIDE) < np.array([8, 4])[:, None]
    case = Drawn("a", row[:, None], read[:, None])
    found = fit([case], [4], None, "by hand").of_samples[0].mean_map
    # of 2 readers' weight 5/10 at k = 2 and at k = 4: marked 3 of 10 pairs of pixel and reader, and 9 of 10
    said, asked = np.array([3 / 10, 9 / 10]), np.array([1.0, 1.0])
    p, x = found.frequency([2, 4], 4), np.log([2.5 / 2.5, 4.5 / 0.5])
    assert np.sum(asked * p - said) + found.offset == pytest.approx(0, abs=1e-9)
    assert np.sum((asked * p - said) * x) + found.slope - 1 == pytest.approx(0, abs=1e-9)
    large = Drawn("b", np.repeat(row[:, None], 5, axis=1), np.repeat(read[:, None], 5, axis=1))
    twice = fit([case, case], [4], None, "").of_samples[0].mean_map
    other = fit([case, large], [4], None, "").of_samples[0].mean_map
    assert (other.offset, other.slope) == pytest.approx((twice.offset, twice.slope), abs=1e-12)


@pytest.mark.parametrize("who", ["samples", "readers", "both"])
def test_where_all_are_empty_there_is_no_interval_and_the_curves_are_finite(who):
    some, none = masks([30, 40, 50, 60]), masks([0, 0, 0, 0])
    cases = [Drawn(str(k), none if who != "readers" else some, none if who != "samples" else some) for k in range(5)]
    calibration = fit(cases, [4], None, "")
    entry = calibration.of_samples[0]
    assert [area.factor for area in entry.areas] == [None, None]
    assert calibration.outlines == (20 if who == "samples" else 0)
    assert np.isfinite([entry.no_outline.offset, entry.no_outline.slope]).all()
    assert (entry.no_outline.frequency(4, 4) < 0.5) == (who == "samples")


def test_few_patients_hold_the_lower_level_alone():
    """Eleven patients of one outline: ⌈12·0.8⌉ = 10 is there, ⌈12·0.95⌉ = 12 is not."""
    cases = [Drawn(str(k), masks([30, 40, 50]), masks([30 + k])) for k in range(11)]
    entry = fit(cases, [3], None, "").of_samples[0]
    assert entry.areas[0].factor is not None and entry.areas[1].factor is None


def test_a_calibration_goes_to_json_and_back_and_each_sampler_has_one():
    entries = tuple(OfSamples(n, Logistic(), Logistic(0.1, 0.5), (AreaFactor(0.8, 1.5, None),)) for n in (4, 16))
    fast = Calibration(SamplerSettings("ddim", 2, options={"eta": 1.0}), "made", 3, 2, 12, 9, entries)
    assert from_dict(Calibration, to_dict(fast)) == fast
    assert [getattr(fast.for_samples(n), "samples", None) for n in (3, 4, 15, 16, 99)] == [None, 4, 4, 16, 16]
    slow = Calibration(None, "made", 3, 2, 12, 9, entries[:1])
    both = with_calibration(with_calibration((), fast), slow)
    assert both == (fast, slow) and calibration_of(both, None) is slow
    assert calibration_of(both, SamplerSettings("ddim", 3)) is None
    newer = Calibration(fast.sampling, "newer", 3, 2, 12, 9, entries)
    assert with_calibration(both, newer) == (slow, newer)


def test_what_cannot_be_a_calibration_is_refused():
    entry = OfSamples(4, Logistic(), Logistic(), ())
    with pytest.raises(ValueError, match="rising numbers"):
        Calibration(None, "", 1, 1, 1, 1, (entry, entry))
    with pytest.raises(ValueError, match="level must be in"):
        AreaFactor(80.0, 1.0)
    with pytest.raises(ValueError, match="0 or more, or null"):
        AreaFactor(0.8, -1.0)
    with pytest.raises(ValueError, match="got a case of anna with 3"):
        fit([Drawn("anna", masks([1, 2, 3]), masks([1]))], [4], None, "")
    with pytest.raises(ValueError, match="got no case"):
        fit([], [4], None, "")

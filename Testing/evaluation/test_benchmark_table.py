"""Tables of a benchmark from cells whose figures are known by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from AmbiguousSegLib.evaluation.benchmark_result import CaseFigures, CellResult, Cost, same_cases, values_of
from AmbiguousSegLib.evaluation.benchmark_table import (
    ALL,
    MARKED_BY_ALL,
    MODES,
    SPREAD_RATIO,
    difference_table,
    long_table,
    main_table,
    subsets_of,
)
from AmbiguousSegLib.evaluation.mode_frequencies import frequency_agreement

CASES, REPLICATES = 12, 400


def cell(system: str, seed: int, shift: float = 0.0, device: str = "cpu") -> CellResult:
    """Cases of six patients, two each; the last two were not marked by all. One figure is undefined in case 3."""
    rng = np.random.default_rng(5)  # the same cases are as hard for every system
    cases = []
    for number in range(CASES):
        hard, spread, raters = rng.random(3)
        figures = {
            "ged_u": hard + shift + 0.01 * seed,
            "hm_iou": 1 - hard - shift,
            "hd95_mm": None if number == 3 else 5.0,
            "distance_samples_u": spread * (1 + shift),
            "distance_raters": raters,
        }
        modes = tuple((rng.random(3) + shift).tolist()), (0.5, 0.3, 0.2)
        both = {"4": figures, "16": {key: v if v is None else v / 2 for key, v in figures.items()}}
        cases.append(CaseFigures(f"c{number}", f"p{number // 2}", 4, number < 10, both, *modes))
    cost = Cost(1000, 64, 32, None, 30.0 + seed, 60.0 + 2 * seed, 0.5, 0.25, 192, 64)
    return CellResult(system, seed, "m", "s", cost, tuple(cases), device, "", "2026-01-01", "abc", "lib")


CELLS = {"a": [cell("a", 0), cell("a", 1)], "b": [cell("b", 0, 0.2), cell("b", 1, 0.2)], "c": [cell("c", 0, -0.1)]}


def subsets(**changes):
    return subsets_of(CELLS, (4, 16), **{"reference": "a", "replicates": REPLICATES} | changes)


def test_values_are_means_over_cases_and_seeds():
    everything, marked = subsets()
    assert (everything.name, everything.cases, everything.patients) == (ALL, 12, 6)
    assert (marked.name, marked.cases, marked.patients) == (MARKED_BY_ALL, 10, 5)
    for subset, count in ((everything, 12), (marked, 10)):
        own = [[case.figures["4"]["ged_u"] for case in one.cases[:count]] for one in CELLS["b"]]
        found = subset.figures["b"]["ged_u", 4]
        assert found.value == pytest.approx(np.mean(own)) and found.low < found.value < found.high
        assert subset.figures["b"]["ged_u", 16].value == pytest.approx(np.mean(own) / 2)
        assert subset.figures["a"]["hd95_mm", 4].value == 5.0  # of the cases where it is defined


def test_the_spread_ratio_takes_pairs_of_different_raters():
    """E d(Y,Y') over all 16 pairs of four raters is three quarters of that over the 12 of different ones."""
    figures = [case.figures["4"] for case in CELLS["a"][0].cases]
    ours, theirs = (sum(f[key] for f in figures) for key in ("distance_samples_u", "distance_raters"))
    assert subsets()[0].figures["a"][SPREAD_RATIO, 4].value == pytest.approx(ours / (theirs * 4 / 3))


def test_the_mode_correlation_is_that_of_evaluate():
    cases = CELLS["a"][0].cases
    sides = [[np.array(getattr(case, f"mode_{side}")) for case in cases] for side in ("frequencies", "probabilities")]
    assert subsets()[0].figures["a"][MODES, 16].value == pytest.approx(frequency_agreement(*sides).correlation)


def test_differences_are_paired_by_patient():
    """b is .2 behind a in every case, so that patients add nothing to the interval; only seeds, .01 apart, do."""
    everything = subsets()[0]
    found = everything.differences["b"]["ged_u", 4]
    assert found.value == pytest.approx(0.2) and 0.19 - 1e-9 <= found.low <= found.high <= 0.21 + 1e-9
    assert everything.differences["b"]["hm_iou", 4].high == pytest.approx(-0.2)
    assert "a" not in everything.differences and everything.reference == "a"
    rows = {row["system"]: row for row in difference_table(everything, CELLS, (4, 16)).rows}
    assert rows["b"]["ged_u_verdict"] == rows["b"]["hm_iou_verdict"] == "worse"
    assert rows["c"]["ged_u_verdict"] == "better" and rows["c"]["seeds"] == "1, not ranked"
    assert rows["b"]["hm_iou_at_16"] == "-0.100 (-0.100 to -0.100)"


def test_what_excludes_nothing_is_undecided():
    same = {"a": CELLS["a"], "b": [replace(one, system="b") for one in CELLS["a"]]}
    found = subsets_of(same, (4, 16), "a", replicates=REPLICATES)[0]
    assert [row["ged_u_verdict"] for row in difference_table(found, same, (4, 16)).rows] == ["undecided"]


def test_the_main_table():
    table = main_table(subsets()[0], CELLS, (4, 16), ["first"], {"c": 2, "d": 1})
    titles = [column.title for column in table.columns]
    assert titles[:3] == ["system", "GED u, 4", "GED u, 16"] and "HM-IoU" in titles and "spread ratio" in titles
    rows = {row["system"]: row for row in table.rows}
    assert [rows[s]["seeds"] for s in "abcd"] == ["2", "2", "1, not ranked; 2 failed", "0; 1 failed"]
    assert rows["d"]["ged_u_at_4"] == "–" and rows["d"]["training_seconds"] is None
    assert (rows["a"]["training_seconds"], rows["a"]["training_cpu_seconds"]) == (30.5, 61.0)
    assert rows["a"]["seconds_per_mask"] == 0.25  # CPU seconds
    assert rows["a"]["hd95_mm_at_16"] == "2.50 (2.50 to 2.50)"
    assert table.notes[0] == "first" and "12 cases of 6 patients" in table.notes[1]
    graphics = {"g": [cell("g", 0, device="NVIDIA")]}
    fast = main_table(subsets_of(graphics, (4, 16), replicates=10)[0], graphics, (4, 16))
    assert fast.rows[0]["seconds_per_mask"] == 0.5


def test_every_number_is_in_the_long_table():
    found = subsets()
    rows = long_table(found, CELLS).rows
    one = [r for r in rows if (r["subset"], r["system"], r["minus"], r["figure"]) == (ALL, "c", "a", "ged_u")]
    assert [r["samples"] for r in one] == [4, 16] and not one[0]["ranked"]
    assert one[0]["value"] == found[0].differences["c"]["ged_u", 4].value
    keys = 2 * 6 + 1  # five figures and the spread ratio at each number of samples, and the mode correlation
    assert len(rows) == 2 * (3 + 2) * keys


def test_without_a_reference_and_without_a_subset():
    assert [s.differences for s in subsets(reference=None)] == [{}, {}]
    assert [s.reference for s in subsets(reference="not run")] == ["", ""]
    assert [s.name for s in subsets(marked_by_all=False)] == [ALL]
    all_marked = [replace(one, cases=one.cases[:10]) for one in CELLS["a"]]
    assert [s.name for s in subsets_of({"a": all_marked}, (4, 16), replicates=10)] == [ALL]


def test_a_cell_is_kept_as_it_is(tmp_path):
    CELLS["a"][0].write(tmp_path / "figures.json")
    assert CellResult.read(tmp_path / "figures.json") == CELLS["a"][0]
    assert math.isnan(values_of(CELLS["a"], 4, "hd95_mm")[0, 3])
    (tmp_path / "figures.json").write_text('{"system": 3}', encoding="utf-8")
    with pytest.raises(ValueError, match="no result of a cell"):
        CellResult.read(tmp_path / "figures.json")


def test_refusals():
    fewer = replace(CELLS["b"][0], cases=CELLS["b"][0].cases[:3])
    with pytest.raises(ValueError, match="b seed 0 was judged on other cases than a seed 0"):
        same_cases([CELLS["a"][0], fewer])
    with pytest.raises(ValueError, match="No cell is done"):
        subsets_of({}, (4, 16))

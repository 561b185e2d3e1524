"""The table of decisions: every cell by hand; what a spreadsheet must not compute; and the order of a queue."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from AmbiguousSegLib.evaluation.review import (
    Decision,
    Reviewed,
    decisions_csv,
    decisions_json,
    decisions_table,
    in_falling_order,
)

WHEN = "2026-11-27T08:30:00+00:00"
SAMPLE = Decision("sample", "sample 03", "Ann", WHEN, (12, 30), 77, comment="halo, unsure")
MODE = Decision("mode", "sample 01", "Ben", WHEN, (5,), 78, mode=2)
REVIEWED = (
    Reviewed("left", "CT 1", ("core", "halo"), 0.002, SAMPLE, "changed"),
    Reviewed("right", "", ("nodule",), None, MODE, "unchanged"),
    Reviewed("open", "CT 1", ("nodule",), 0.002),
)


def test_table_has_a_row_for_each_run():
    rows = [list(row.values()) for row in decisions_table(REVIEWED).rows]
    none = [None] * 8
    assert rows == [
        ["left", "CT 1", "sample", "sample 03", None, "changed", 42, 0.084, "Ann", WHEN, "halo, unsure"],
        ["right", "", "mode", "sample 01", 2, "unchanged", 5, None, "Ben", WHEN, ""],
        ["open", "CT 1", None, None, None, None, *none[:5]],
    ]


def test_csv_is_read_by_another_reader():
    header, left, right, still_open = csv.reader(io.StringIO(decisions_csv(REVIEWED)))
    assert header[:6] == ["run", "input", "accepted", "mask", "mode", "since_then"]
    assert left == ["left", "CT 1", "sample", "sample 03", "", "changed", "42", "0.084", "Ann", WHEN, "halo, unsure"]
    assert right[4] == "2" and right[7] == "" and still_open == ["open", "CT 1", *[""] * 9]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t=", "\r@", " -"])
def test_csv_holds_no_formulas_and_json_every_word(first):
    text = f"{first}HYPERLINK(1)\nand more"
    decision = Decision("sample", "sample 03", text, WHEN, (1,), 77, comment=text)
    reviewed = [Reviewed(text, text, ("nodule",), 1.0, decision, "unchanged")]
    row = next(csv.DictReader(io.StringIO(decisions_csv(reviewed), newline="")))
    assert [row[key] for key in ("run", "input", "reviewer", "comment")] == [
        f"'{first.strip()}HYPERLINK(1) and more"
    ] * 4
    (entry,) = json.loads(decisions_json(reviewed))["runs"]
    assert entry["run"] == entry["decision"]["comment"] == text


def test_json_counts_each_class():
    content = json.loads(decisions_json(REVIEWED))
    assert content["review"] == 1 and content["runs"][2] == {
        **{"run": "open", "input": "CT 1", "voxel_ml": 0.002, "decision": None}
    }
    assert content["runs"][0]["decision"] == {
        **{"kind": "sample", "mask": "sample 03", "reviewer": "Ann", "at": WHEN, "voxels": {"core": 12, "halo": 30}},
        **{"checksum": 77, "mode": None, "comment": "halo, unsure", "since_then": "changed"},
    }


def test_greatest_first_and_undefined_last():
    assert in_falling_order([0.0, None, 3.0, 1.0, math.nan, 3.0, -1.0]) == [2, 5, 3, 0, 6, 1, 4]


def test_a_decision_is_somebodys_about_something():
    with pytest.raises(ValueError, match="somebody who made it"):
        Decision("sample", "sample 03", " ", WHEN, (1,), 77)
    with pytest.raises(ValueError, match="one of sample, mode, consensus, edited, got 'guess'"):
        Decision("guess", "sample 03", "Ann", WHEN, (1,), 77)

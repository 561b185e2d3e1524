"""One table, four forms that agree."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from AmbiguousSegLib.evaluation.table import UNDEFINED, Column, Table, plain

COLUMNS = (Column("name", "Name"), Column("ged", "GED", 2), Column("n", "N"), Column("empty", "empty"))
ROWS = (
    {"name": "a|b\nc", "ged": 1 / 3, "n": 16, "empty": False},
    {"name": 'quote " and, comma', "ged": math.nan, "n": None, "empty": True},
)
TABLE = Table(COLUMNS, ROWS, ("first note", "second note"))


def test_text_pads_columns_and_sets_numbers_to_the_right():
    lines = TABLE.text().splitlines()
    assert lines == [
        "first note",
        "second note",
        "",
        "Name                 GED   N  empty",
        "a|b c               0.33  16  no",
        'quote " and, comma     –   –  yes',
    ]


def test_markdown_has_the_shown_cells():
    lines = TABLE.markdown().splitlines()
    assert lines[:3] == ["- first note", "- second note", ""]
    assert lines[3:5] == ["| Name | GED | N | empty |", "| --- | ---: | ---: | --- |"]
    assert lines[5:] == ["| a\\|b c | 0.33 | 16 | no |", f'| quote " and, comma | {UNDEFINED} | {UNDEFINED} | yes |']


def test_csv_reads_back_exactly():
    rows = list(csv.DictReader(io.StringIO(TABLE.csv())))
    assert [row["name"] for row in rows] == [row["name"] for row in ROWS]
    assert float(rows[0]["ged"]) == 1 / 3 and rows[1]["ged"] == "" and rows[1]["n"] == ""
    assert [row["empty"] for row in rows] == ["false", "true"]


def test_json_is_strict_and_reads_back():
    read = json.loads(json.dumps(TABLE.as_dict(), allow_nan=False))
    assert read["rows"] == [dict(ROWS[0]), {**ROWS[1], "ged": None}]
    assert read["columns"][1] == {"key": "ged", "title": "GED", "decimals": 2} and read["notes"] == [
        "first note",
        "second note",
    ]


def test_a_table_comes_back_from_json():
    read = Table.from_dict(json.loads(json.dumps(TABLE.as_dict())))
    assert read == Table(COLUMNS, (ROWS[0], {**ROWS[1], "ged": None}), TABLE.notes)
    assert (read.text(), read.markdown(), read.csv()) == (TABLE.text(), TABLE.markdown(), TABLE.csv())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": [{"key": "name", "name": "Name"}]}, "name"),
        ({"columns": None}, "None"),
        ({"rows": [{"name": "x"}]}, "row 0 and the columns differ"),
    ],
)
def test_what_is_no_table_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Table.from_dict(TABLE.as_dict() | changes)
    with pytest.raises(ValueError, match="'notes' is wrong"):
        Table.from_dict({"columns": [], "rows": []})


def test_plain_reaches_into_nested_values():
    nested = {"a": (1.0, math.nan), "b": {"c": math.nan}, "d": "nan"}
    assert plain(nested) == {"a": [1.0, None], "b": {"c": None}, "d": "nan"}


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="row 1 and the columns differ in extra, n"):
        Table(COLUMNS, (ROWS[0], {"name": "x", "ged": 0.0, "extra": 1, "empty": False}))
    with pytest.raises(ValueError, match="must differ"):
        Table((COLUMNS[0], COLUMNS[0]), ())

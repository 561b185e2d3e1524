"""A figure of one's own is one decorated function: tables, files and averages have it without any other edit."""

from __future__ import annotations

import numpy as np
import pytest

from AmbiguousSegLib.evaluation.comparison import Result, by_label, case_table, evaluate_case, summary_table
from AmbiguousSegLib.evaluation.rater_comparison import compare_with_raters
from AmbiguousSegLib.metrics.figures import FIGURES, MaskSets, compare, figure, meanings_markdown
from AmbiguousSegLib.volume.geometry import Geometry

PLAIN = Geometry((6, 5, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@pytest.fixture
def toy():
    """Mean number of marked voxels of a sample; undefined where no rater marks anything."""

    @figure("toy_size", "toy size", "mean number of marked voxels of a sample", better="alike", decimals=1)
    def toy_size(sets: MaskSets) -> float:
        samples, raters = sets.marked()
        return float(samples.sum() / len(samples)) if raters.any() else float("nan")

    yield "toy_size"
    FIGURES.unregister("toy_size")


def masks(classes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return tuple(generator.integers(0, classes + 1, (n, 4, 5, 6)).astype(np.uint8) for n in (3, 2))


def test_a_figure_of_ones_own_is_in_every_table(toy):
    samples, raters = masks()
    raters[:, 2] = 0
    size = samples[:, [0, 1, 3]].sum(axis=(2, 3)).mean()  # slice 2 is undefined
    assert compare(samples, raters)[toy] == samples.sum() / 3
    tables = compare_with_raters(samples, raters, PLAIN, ["A", "B"]).tables
    per_slice, whole = tables["summary"].rows
    assert (per_slice[toy], whole[toy]) == (pytest.approx(size), samples.sum() / 3)
    assert [row[toy] for row in tables["slices"].rows] == [
        None if z == 2 else pytest.approx(samples[:, z].sum() / 3) for z in range(4)
    ]
    cases = tuple(evaluate_case(f"slice {z}", MaskSets(samples[:, z], raters[:, z])) for z in range(4))
    summary, of_cases = summary_table([Result("m", "", "", cases)]), case_table([Result("m", "", "", cases)])
    assert summary.rows[0][toy] == pytest.approx(size) and of_cases.rows[3][toy] == samples[:, 3].sum() / 3
    assert "toy_size" in of_cases.csv() and "| toy size |" in summary.markdown()
    for table, of in ((summary, "m: undefined"), (tables["summary"], "per slice: undefined")):
        assert next(column for column in table.columns if column.key == toy).decimals == 1
        assert "toy size: mean number of marked voxels of a sample" in table.notes
        assert any(note.startswith(of) and "toy size in 1 " in note for note in table.notes)
    assert "| toy size | mean number of marked voxels of a sample | alike |\n" in meanings_markdown()


def test_it_is_there_for_each_class(toy):
    samples, raters = masks(2)
    rows = compare_with_raters(samples, raters, PLAIN, ["A", "B"], labels=["core", "halo"]).tables["summary"].rows
    whole = [row[toy] for row in rows if row["scope"] == "whole volume"]
    counts = [(samples == 1).sum() / 3, (samples == 2).sum() / 3, (samples != 0).sum() / 3]
    assert whole == counts
    parts = by_label(MaskSets(samples, raters, 2), ["core", "halo"]).values()
    assert [evaluate_case("x", part).figures[toy] for part in parts] == counts


def test_a_figure_may_be_left_out_of_a_table_or_need_what_is_not_there():
    @figure("toy_file", "toy file", "in files only", tables=())
    @figure("toy_volume", "toy mL", "needs a volume", unit="mL", needs=["volume"], tables=["compare"])
    def toy(sets: MaskSets) -> float:
        return 1.0

    try:
        samples, raters = masks()
        case = evaluate_case("x", MaskSets(samples[:, 0], raters[:, 0]))
        assert "toy_file" in case.figures and "toy_volume" not in case.figures
        summary = summary_table([Result("m", "", "", (case,))])
        assert not {"toy_file", "toy_volume"} & set(summary.rows[0])
        assert "toy_file" in case_table([Result("m", "", "", (case,))]).rows[0]
        row = compare_with_raters(samples, raters, PLAIN, ["A", "B"]).tables["summary"].rows[1]
        assert row["toy_volume"] == 1 and "toy_file" not in row
    finally:
        FIGURES.unregister("toy_file")
        FIGURES.unregister("toy_volume")

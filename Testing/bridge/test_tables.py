"""Tables and plots of a run: their values, replaced in place, saved and loaded again."""

from __future__ import annotations

import math

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

from AmbiguousSegBridge.scene import tables  # noqa: E402
from AmbiguousSegBridge.scene.runs import find_run_of, find_runs, remove_run  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, save_scene  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import OBLIQUE, hierarchy_of, input_volume, make_samples, node_names  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.evaluation.table import Column, Table  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402

CUBIC_CM = Geometry((4, 3, 2), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0), OBLIQUE.direction)  # a voxel is 1 mL

TABLE = Table(
    (Column("rater", "Rater"), Column("dice", "Dice"), Column("hd95", "HD95 (mm)"), Column("seen", "Seen", 1)),
    (
        {"rater": 'Anna "A" <1>; x: ü', "dice": 0.1 + 0.2, "hd95": math.nan, "seen": True},
        {"rater": None, "dice": 1, "hd95": None, "seen": False},
    ),
    ("Two\nlines & a note.", "n = 5"),
)


@pytest.fixture
def scene():
    return make_host()


@pytest.fixture
def run(scene):
    return add_sample_set(scene, make_samples(), "run", input_volume(scene))


def cubes(*counts: int) -> SampleSet:
    """Samples of so many voxels of 1 mL."""
    masks = np.zeros((len(counts), *CUBIC_CM.shape), bool)
    for mask, count in zip(masks, counts):
        mask.flat[:count] = True
    return SampleSet(masks, CUBIC_CM)


def column(node, name):
    return vtk_to_numpy(node.GetTable().GetColumnByName(name))


def words(node, name) -> list[str]:
    strings = node.GetTable().GetColumnByName(name)
    assert strings.IsA("vtkStringArray")
    return [strings.GetValue(k) for k in range(strings.GetNumberOfValues())]


def assert_is_table(node) -> None:
    assert [node.GetColumnName(k) for k in range(node.GetNumberOfColumns())] == ["Rater", "Dice", "HD95 (mm)", "Seen"]
    assert words(node, "Rater") == ["Anna 'A' <1>; x: ü", "–"] and words(node, "Seen") == ["yes", "no"]
    np.testing.assert_allclose(column(node, "Dice"), [0.3, 1], rtol=1e-5)
    assert np.isnan(column(node, "HD95 (mm)")).all()
    assert node.GetTable().GetColumnByName("Dice").IsA("vtkDoubleArray")
    assert tables.read_table(node) == TABLE.as_dict()
    assert "a note" in node.GetDescription()


def test_a_table_is_in_the_runs_folder_and_replaced_in_place(scene, run):
    node = tables.write_table(scene, run, "comparison", TABLE)
    assert_is_table(node)
    hierarchy = hierarchy_of(scene)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == run.folder_item
    assert node.GetName() == "run - comparison" and find_run_of(scene, node).name == "run"
    other = Table((Column("a", "A"),), ({"a": 2},))
    assert tables.write_table(scene, run, "comparison", other) is node  # through a Run found before the table was made
    assert node.GetNumberOfColumns() == 1 and tables.read_table(node) == other.as_dict()
    assert find_runs(scene)[0].tables == {"comparison": node, "volumes": run.tables["volumes"]}


def test_equal_titles_are_told_apart_and_an_empty_table_can_be_written(scene, run):
    twice = Table((Column("a", "Dice"), Column("b", "Dice")), ({"a": 1, "b": 2},))
    node = tables.write_table(scene, run, "twice", twice)
    assert column(node, "Dice (a)")[0] == 1 and column(node, "Dice (b)")[0] == 2
    assert tables.write_table(scene, run, "twice", Table((Column("a", "A"),), ())).GetNumberOfRows() == 0


def test_what_does_not_fit_is_refused(scene, run):
    with pytest.raises(ValueError, match="Give another role"):
        tables.write_table(scene, run, "mean", TABLE)
    with pytest.raises(ValueError, match="does not belong to a run"):
        tables.read_table(scene.AddNewNodeByClass("vtkMRMLTableNode", "own"))
    for x, y, why in (("dice", "nothing", "has the columns"), ("dice", "hd95", "no row where both")):
        before = node_names(scene)
        with pytest.raises(ValueError, match=why):
            tables.scatter(scene, run, "plot", TABLE, x, y, "title")
        assert node_names(scene) == before
    remove_run(scene, run)
    with pytest.raises(ValueError, match="no longer in the scene"):
        tables.write_table(scene, run, "comparison", TABLE)


def test_volumes_by_hand(scene):
    run = add_sample_set(scene, cubes(1, 2, 3, 10, 0), "run")
    rows = {row["sample"]: row["volume_ml"] for row in tables.read_table(run.tables["volumes"])["rows"]}
    expected = {"mean": 3.2, "median": 2, "least": 0, "greatest": 10}
    expected |= {f"sample 0{number}": volume for number, volume in enumerate((1, 2, 3, 10, 0), 1)}
    assert rows == pytest.approx(expected)
    summary = cubes(1, 2, 3, 10, 0).volume_summary()
    assert summary["range"] == pytest.approx([rows["least"], rows["greatest"]])


def test_what_a_calibration_says_stands_above_the_volumes(scene):
    found = {"slice": 7, "no_outline": {"samples_empty": 1, "probability": 0.234}}
    found["area_mm2"] = {"absent": "no interval: 2 of 5 samples outline something, 3 are needed"}
    found["volume_ml"] = {"validation": "not validated", "intervals": [{"level": 0.8, "low": 1.234, "high": 5.678}]}
    samples = SampleSet(cubes(1, 2, 3, 10, 0).masks, CUBIC_CM, {"calibrated": found})
    notes = tables.read_table(add_sample_set(scene, samples, "run").tables["volumes"])["notes"]
    assert notes == [
        "5 samples; fewer than 39 hold no interval of 95 %.",
        "Slice 7: where at least one reader outlines something, 23 % of readers would outline nothing (calibrated).",
        "Area in slice 7 of a reader who outlines something: "
        "no interval: 2 of 5 samples outline something, 3 are needed.",
        "Volume of a reader who outlines something (not validated): 80 %: 1.23 to 5.68 mL.",
    ]


def test_volumes_count_only_the_samples_own_segment(scene):
    run = add_sample_set(scene, cubes(4), "run")
    segmentation = run.samples[0].GetSegmentation()
    segmentation.CopySegmentFromSegmentation(run.consensus.GetSegmentation(), "consensus")
    tables.renew_volumes(scene, run)
    assert tables.read_table(run.tables["volumes"])["rows"][0]["volume_ml"] == pytest.approx(4)


def bars_of(chart):
    """Column x and column y of a chart's first series."""
    (series,) = [chart.GetNthPlotSeriesNode(k) for k in range(chart.GetNumberOfPlotSeriesNodes())]
    table = series.GetTableNode()
    assert series.GetPlotType() == series.PlotTypeScatterBar
    return column(table, series.GetXColumnName()), column(table, series.GetYColumnName())


def test_histogram_by_hand(scene):
    run = add_sample_set(scene, cubes(0, 1, 1, 2, 12), "run")
    # Five samples: by Sturges log2(5) + 1 = 3.3, so 4 bins of 3 mL from 0 to 12.
    chart = find_runs(scene)[0].nodes[tables.HISTOGRAM]
    centres, counts = bars_of(chart)
    np.testing.assert_allclose(centres, [1.5, 4.5, 7.5, 10.5])
    np.testing.assert_array_equal(counts, [4, 0, 0, 1])
    assert (chart.GetXAxisTitle(), chart.GetYAxisTitle()) == ("Volume (mL)", "Samples")
    before = node_names(scene)
    assert tables.histogram(scene, run) is chart and node_names(scene) == before
    assert chart.GetNumberOfPlotSeriesNodes() == 1


def test_scatter_leaves_out_what_is_undefined_and_draws_the_line_of_equality(scene, run):
    columns = (Column("p", "Predicted"), Column("o", "Observed"))
    pairs = [(0.1, 0.4), (math.nan, 0.2), (0.3, None), (0.5, 0.2)]
    table = Table(columns, tuple({"p": p, "o": o} for p, o in pairs))
    chart = tables.scatter(scene, run, "disagreement plot", table, "p", "o", "Disagreement")
    points, line = (chart.GetNthPlotSeriesNode(k) for k in range(2))
    assert chart.GetTitle() == "Disagreement" and chart.GetNumberOfPlotSeriesNodes() == 2
    np.testing.assert_allclose(column(points.GetTableNode(), points.GetXColumnName()), [0.1, 0.5])
    np.testing.assert_allclose(column(points.GetTableNode(), points.GetYColumnName()), [0.4, 0.2])
    for name in (line.GetXColumnName(), line.GetYColumnName()):
        np.testing.assert_allclose(column(line.GetTableNode(), name), [0.1, 0.5])
    assert points.GetLineStyle() == points.LineStyleNone and line.GetMarkerStyle() == line.MarkerStyleNone
    before = node_names(scene)
    assert tables.scatter(scene, run, "disagreement plot", table, "p", "o", "again") is chart
    assert node_names(scene) == before and chart.GetNumberOfPlotSeriesNodes() == 2


def test_tables_and_plots_are_saved_and_go_with_the_run(scene, tmp_path):
    volume = input_volume(scene)
    before = node_names(scene), hierarchy_of(scene).GetNumberOfItems()
    run = add_sample_set(scene, make_samples(), "run", volume)
    tables.write_table(scene, run, "comparison", TABLE)
    pairs = Table((Column("p", "Predicted"), Column("o", "Observed")), ({"p": 0.0, "o": 0.5}, {"p": 1.0, "o": 0.5}))
    tables.scatter(scene, run, "disagreement plot", pairs, "p", "o", "Disagreement")
    remove_run(scene, find_runs(scene)[0])
    assert (node_names(scene), hierarchy_of(scene).GetNumberOfItems()) == before
    run = add_sample_set(scene, make_samples(), "run", volume)
    tables.write_table(scene, run, "comparison", TABLE)
    tables.scatter(scene, run, "disagreement plot", pairs, "p", "o", "Disagreement")
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"))
    (again,) = find_runs(loaded)
    assert_is_table(again.tables["comparison"])
    kept = tables.read_table(again.tables["volumes"])
    tables.renew_volumes(loaded, again)
    anew = tables.read_table(again.tables["volumes"])
    assert [row["sample"] for row in kept["rows"]] == [row["sample"] for row in anew["rows"]]
    assert [row["volume_ml"] for row in kept["rows"]] == pytest.approx([row["volume_ml"] for row in anew["rows"]])
    centres, counts = bars_of(again.nodes[tables.HISTOGRAM])
    assert counts.sum() == 5 and (np.diff(centres) > 0).all()
    points = again.nodes["disagreement plot"].GetNthPlotSeriesNode(0)
    np.testing.assert_allclose(column(points.GetTableNode(), points.GetXColumnName()), [0, 1])
    node = again.tables["comparison"]
    assert tables.write_table(loaded, again, "comparison", TABLE) is node
    remove_run(loaded, again)
    assert not [name for name in node_names(loaded) if name.startswith("run")]

"""Tables and plots of a run as nodes of the scene."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from AmbiguousSegBridge.scene.masks import count_marked
from AmbiguousSegBridge.scene.run_node import ATTRIBUTE, ROLE, Kind
from AmbiguousSegBridge.scene.runs import Run, run_of, writer_of
from AmbiguousSegLib.calibration.figures import calibrated_lines
from AmbiguousSegLib.ensemble.sample_set import LEAST_FOR_INTERVAL, ends
from AmbiguousSegLib.evaluation.table import UNDEFINED, Column, Table

TABLE = ATTRIBUTE + "Table"
VOLUMES, HISTOGRAM = "volumes", "histogram of volumes"
NAME, VOLUME_ML = "sample", "volume_ml"  # of all classes together
SUMMARY_ROWS = 4  # below the samples: mean, median, and how far they reach at both ends
POINT_COLOUR, LINE_COLOUR = (0.12, 0.47, 0.71), (0.5, 0.5, 0.5)


def write_table(scene: slicer.vtkMRMLScene, run: Run, role: str, table: Table) -> slicer.vtkMRMLTableNode:
    """Write a table into the run's table node of this role, which is made if it is not there.

    Columns bear the titles. A column of numbers is float64 with nan for undefined, every other one is text with a
    dash for undefined; double quotes become single ones. The exact table is kept in an attribute, see ``read_table``.

    Raises:
        ValueError: if the run has another kind of node of this role.
    """
    return _Sheets(scene, run).table(role, table)


def read_table(node: slicer.vtkMRMLTableNode) -> dict[str, Any]:
    """The table, as ``Table.as_dict`` gives it, that ``write_table`` wrote; ValueError if it did not write this one."""
    text = node.GetAttribute(TABLE)
    if not text:
        raise ValueError(f"Table {node.GetName()!r} does not belong to a run. Choose one that this module has made.")
    return json.loads(text)


def histogram(scene: slicer.vtkMRMLScene, run: Run) -> slicer.vtkMRMLPlotChartNode:
    """Chart of how many samples have which volume in mL; ValueError if no sample is left."""
    return _histogram(_Sheets(scene, run), _voxels(run).sum(axis=1) * run.geometry.voxel_volume_ml)


def renew_volumes(scene: slicer.vtkMRMLScene, run: Run, voxels: Mapping[str, tuple[int, ...]] | None = None) -> None:
    """Write volumes table and histogram anew; ValueError if no sample is left.

    Args:
        voxels: what each sample gives to each class, by the id of its node; None: they are counted.
    """
    sheets, of_classes = _Sheets(scene, run), _voxels(run, voxels)
    sheets.table(VOLUMES, _volumes_table(run, of_classes))
    _histogram(sheets, of_classes.sum(axis=1) * run.geometry.voxel_volume_ml)


def class_volume_key(label: str) -> str:
    """Key of the column of the volumes table that holds one of several classes."""
    return f"{VOLUME_ML} {label}"


def scatter(
    scene: slicer.vtkMRMLScene, run: Run, role: str, table: Table, x: str, y: str, title: str
) -> slicer.vtkMRMLPlotChartNode:
    """Chart of column ``y`` against column ``x`` (keys) of a table, with the line where both are equal.

    Rows where one of the two is undefined are left out.

    Raises:
        ValueError: if the table has no such columns, or no row where both are defined.
    """
    titles = {column.key: column.title for column in table.columns}
    if not {x, y} <= set(titles):
        raise ValueError(f"The table has the columns {sorted(titles)}; name two of them, got {x!r} and {y!r}.")
    points = np.array([[_number(row[x]), _number(row[y])] for row in table.rows], float).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) == 0:
        raise ValueError(f"There is no row where both {titles[x]!r} and {titles[y]!r} are defined; nothing to show.")
    sheets, kind = _Sheets(scene, run), slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter
    names = [_cell(titles[x]), _cell(titles[y])]
    names[1] += " (y)" * (names[0] == names[1])
    ends = np.array([points.min(), points.max()])
    dots = sheets.series(f"{role}, points", dict(zip(names, points.T)), kind, POINT_COLOUR)
    line = sheets.series(f"{role}, equal", dict(zip(names, (ends, ends))), kind, LINE_COLOUR)
    dots.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle)
    dots.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleNone)
    line.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
    line.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleDash)
    return sheets.chart(role, title, names, [dots, line])


class _Sheets:
    """The table, series and chart nodes of a run as it lies in the scene now."""

    def __init__(self, scene: slicer.vtkMRMLScene, run: Run) -> None:
        current = run_of(run.node) if scene.IsNodePresent(run.node) else None
        if current is None:
            raise ValueError(f"Run {run.name!r} is no longer in the scene. Generate it again.")
        self.run, self.writer = current, writer_of(scene, current)

    def table(self, role: str, table: Table) -> slicer.vtkMRMLTableNode:
        node = self._node("vtkMRMLTableNode", role, Kind.TABLES)
        node.SetAndObserveTable(_columns({_title(table, c): [r[c.key] for r in table.rows] for c in table.columns}))
        node.SetAttribute(TABLE, json.dumps(table.as_dict()))
        node.SetDescription(" ".join(table.notes))
        node.SetLocked(True)  # a figure that was typed over would differ from the exact table
        return node

    def series(
        self, role: str, columns: Mapping[str, np.ndarray], plot_type: int, colour: tuple[float, float, float]
    ) -> slicer.vtkMRMLPlotSeriesNode:
        table = self._node("vtkMRMLTableNode", f"{role}, values", Kind.PLOTS, hidden=True)
        table.SetAndObserveTable(_columns({name: values.tolist() for name, values in columns.items()}))
        series = self._node("vtkMRMLPlotSeriesNode", role, Kind.PLOTS, hidden=True)
        x, y = columns
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(x)
        series.SetYColumnName(y)
        series.SetPlotType(plot_type)
        series.SetColor(colour)
        return series

    def chart(
        self, role: str, title: str, axes: Sequence[str], series: Sequence[slicer.vtkMRMLPlotSeriesNode]
    ) -> slicer.vtkMRMLPlotChartNode:
        node = self._node("vtkMRMLPlotChartNode", role, Kind.PLOTS)
        node.SetTitle(title)
        node.SetXAxisTitle(axes[0])
        node.SetYAxisTitle(axes[1])
        node.SetLegendVisibility(False)
        node.RemoveAllPlotSeriesNodeIDs()
        for entry in series:
            node.AddAndObservePlotSeriesNodeID(entry.GetID())
        return node

    def _node(self, class_name: str, role: str, kind: Kind, hidden: bool = False) -> slicer.vtkMRMLNode:
        node = self.run.nodes.get(role)
        if node is not None and not node.IsA(class_name):
            raise ValueError(f"Run {self.run.name!r} has a node {node.GetName()!r} already. Give another role.")
        if node is None:
            node = self.writer.make(class_name, role)
            node.SetHideFromEditors(hidden)
            self.writer.add(node, role, kind)
        return node


def _voxels(run: Run, voxels: Mapping[str, tuple[int, ...]] | None = None) -> np.ndarray:
    """Voxels of each sample and class, int ``(N, K)``."""
    if not run.samples:
        raise ValueError(f"No sample of run {run.name!r} is left. Remove the run, or generate it again.")
    if voxels is None:
        voxels = {node.GetID(): count_marked(node, run.labels) for node in run.samples}
    return np.array([voxels[node.GetID()] for node in run.samples])


def _volumes_table(run: Run, voxels: np.ndarray) -> Table:
    """A row for each sample and for what sums them up; columns for each class, if there are several, and for all."""
    names = [node.GetAttribute(ROLE) for node in run.samples]
    names += ["mean", "median", *ends(voxels.sum(axis=1))]
    several = len(run.labels) > 1
    columns = {Column(VOLUME_ML, "All classes (mL)" if several else "Volume (mL)"): voxels.sum(axis=1)}
    if several:
        of_classes = {Column(class_volume_key(name), f"{name} (mL)"): v for name, v in zip(run.label_names, voxels.T)}
        columns = of_classes | columns
    rows = [{NAME: name} for name in names]
    for column, counts in columns.items():
        volumes = counts * run.geometry.voxel_volume_ml
        summary = volumes.mean(), np.median(volumes), *ends(volumes).values()
        for row, value in zip(rows, (*volumes, *summary)):
            row[column.key] = float(value)
    note = f"{len(voxels)} samples; one more lies between the 2.5th and the 97.5th percentile in 95 % of cases."
    if len(voxels) < LEAST_FOR_INTERVAL:
        note = f"{len(voxels)} samples; fewer than {LEAST_FOR_INTERVAL} hold no interval of 95 %."
    return Table((Column(NAME, "Sample"), *columns), tuple(rows), (note, *calibrated_lines(run.provenance)))


def _histogram(sheets: _Sheets, volumes: np.ndarray) -> slicer.vtkMRMLPlotChartNode:
    counts, edges = np.histogram(volumes, bins="sturges")
    bins = {"Volume (mL)": (edges[:-1] + edges[1:]) / 2, "Samples": counts}
    bars = sheets.series(f"{HISTOGRAM}, bars", bins, slicer.vtkMRMLPlotSeriesNode.PlotTypeScatterBar, POINT_COLOUR)
    return sheets.chart(HISTOGRAM, f"Volumes of {len(volumes)} samples", list(bins), [bars])


def _title(table: Table, column: Column) -> str:
    """Title of a column, with the key where two columns bear one title."""
    alone = sum(other.title == column.title for other in table.columns) == 1
    return _cell(column.title if alone else f"{column.title} ({column.key})")


def _columns(columns: Mapping[str, Sequence[Any]]) -> vtk.vtkTable:
    table = vtk.vtkTable()
    for name, values in columns.items():
        if all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values):
            column = numpy_to_vtk(np.array([_number(value) for value in values], float), deep=True)
        else:
            column = vtk.vtkStringArray()
            for value in values:
                column.InsertNextValue(_text(value))
        column.SetName(name)
        table.AddColumn(column)
    return table


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return ("no", "yes")[value]
    return UNDEFINED if value is None else _cell(str(value))


def _cell(text: str) -> str:
    """Text as Slicer can write it to a .tsv and read it again: on one line, without double quotes, not empty."""
    return " ".join(text.replace('"', "'").split()) or UNDEFINED

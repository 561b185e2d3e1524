"""Comparison: the samples of a run held against what several raters drew, by the worker; kept as the run's tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.work import Work
from AmbiguousSegBridge.context import Context
from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.scene import raters, tables
from AmbiguousSegBridge.scene.checksums import Checksums
from AmbiguousSegBridge.scene.fusions import put_fused
from AmbiguousSegBridge.scene.masks import crops_of
from AmbiguousSegBridge.scene.raters import Rater
from AmbiguousSegBridge.scene.run_node import ATTRIBUTE, RATERS, refer
from AmbiguousSegBridge.scene.runs import COMPARISON, Run
from AmbiguousSegBridge.worker.runner import Job, Listener, crops_argument
from AmbiguousSegLib.evaluation.comparison import LABEL
from AmbiguousSegLib.evaluation.table import Column, Table
from AmbiguousSegLib.volume.crops import Crop

COMPARED = ATTRIBUTE + "Compared"  # of a comparison's table: which masks it was made of


class Comparison(Work):
    """Compares the run shown with the ticked raters, and knows what has changed since."""

    NOTHING = _("The raters were not compared.")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._hidden: set[tuple[str, str]] = set()  # raters that were hidden here
        self._checksums = Checksums()

    def problem(self, snapshot: Snapshot) -> str:
        """Why nothing can be compared; empty where it can."""
        if snapshot.run is None or not snapshot.run.samples:
            return _("Generate segmentations first")
        if snapshot.generating:
            return _("Wait until the samples are there")
        if not snapshot.raters:
            return _("Tick at least one rater's segmentation")
        return next((rater.problem for rater in snapshot.raters if rater.problem), "")

    def press(self) -> None:
        """Begin, or cancel what is under way."""
        if self.busy:
            self.cancel()
            return
        with self.context.errors_shown(self.NOTHING):
            if self.context.run() is None or not self.context.packages_there(self.NOTHING):
                return
            snapshot = self.context.snapshot()
            run, chosen, resample = snapshot.run, snapshot.raters, snapshot.parameters.resampleRaters
            crops = {"raters": [raters.read_rater(rater, run, resample) for rater in chosen], "samples": crops_of(run)}
            compared = self._checksums.of_compared(run, chosen, resample, crops)
            rater_entries, rater_arrays = crops_argument("rater", crops["raters"])
            sample_entries, sample_arrays = crops_argument("sample", crops["samples"])
            arguments = {
                "samples": sample_entries,
                "raters": rater_entries,
                "sample_names": [sample_name(node) for node in run.samples],
                "rater_names": [rater.name for rater in chosen],
                "labels": run.label_names,
                "geometry": asdict(run.geometry),
            }
            listener = Listener(
                progress=self._progress,
                finished=lambda result, folder: self._finished(run, chosen, compared, result, folder),
                failed=self._failed,
                cancelled=self._cancelled,
            )
            self._begin(Job("compare", arguments, {**rater_arrays, **sample_arrays}), listener, _("Comparing..."))

    def changes(self, snapshot: Snapshot, table: slicer.vtkMRMLTableNode) -> list[str]:
        """What to say where a table of the comparison was made of other masks than there are now."""
        compared = table.GetAttribute(COMPARED)
        if not compared:  # written by an earlier version
            return []
        changed, all_read = self._checksums.changed(json.loads(compared), snapshot.run, snapshot.candidates)
        if not all_read:
            self.context.refresh_soon()
        texts = {
            "samples": _("The samples have changed since; compare again."),
            "raters": _("Raters have changed since; compare again."),
        }
        return [text for kind, text in texts.items() if kind in changed]

    def show_raters(self, snapshot: Snapshot) -> None:
        """Hide the ticked raters while the box is unticked; one that is no longer to be hidden is shown again."""
        hide = set() if snapshot.parameters.showRaters else {key for rater in snapshot.raters for key in rater.keys}
        for node_id, segment_id in hide ^ self._hidden:  # others are left as the user has them
            node = self.context.scene.GetNodeByID(node_id)
            display = None if node is None else node.GetDisplayNode()
            if display is not None and node.GetSegmentation().GetSegment(segment_id) is not None:
                display.SetSegmentVisibility(segment_id, (node_id, segment_id) not in hide)
        self._hidden = hide

    def plot(self) -> slicer.vtkMRMLPlotChartNode | None:
        """Chart of the disagreement; None where there is no table of it: it may have gone a moment before the press.

        Raises:
            ValueError: as ``tables.scatter``.
        """
        run, title = self.context.run(), _("Disagreement per slice")
        node = None if run is None else run.tables.get(COMPARISON + "disagreement")
        if node is None:
            return None
        table = together(Table.from_dict(tables.read_table(node)))
        return tables.scatter(self.context.scene, run, "disagreement plot", table, "observed", "predicted", title)

    def write_tables(self, folder: str) -> None:
        """Write every table of the run's comparison into a folder; what would be replaced is asked for."""
        run = self.context.run()
        if run is None:
            return
        if written := self.context.write_texts(folder, table_files(run), _("No table was written.")):
            self.tell(written)

    def stop(self) -> None:
        """The scene is being closed."""
        super().stop()
        self._hidden = set()

    def _progress(self, progress: dict[str, Any]) -> None:
        if self.busy:
            self.tell(_("Comparing: {share:.0f} %").format(share=100 * progress["share"]))

    def _finished(
        self, before: Run, chosen: Sequence[Rater], compared: dict[str, Any], result: dict[str, Any], folder: Path
    ) -> None:
        run = self.context.again(before)
        if run is None or [sample_name(node) for node in run.samples] != list(compared["samples"]):
            self._end(_("The samples were changed or removed meanwhile; compare again."))
            return
        with self.context.errors_shown(_("The comparison was not kept.")):
            for key, found in result["tables"].items():
                table = Table.from_dict(found)
                shown = standing(table) if key == "summary" else table
                node = tables.write_table(self.context.scene, run, COMPARISON + key, shown)
                node.SetAttribute(COMPARED, json.dumps(compared))
            fused = {entry["name"]: Crop.load(folder / entry["file"], entry) for entry in result["fused"]}
            put_fused(self.context.scene, run, fused)
            refer(run.node, RATERS, dict.fromkeys(rater.node for rater in chosen))
        self._end("")


def standing(summary: Table) -> Table:
    """The summary with a row per label, if there are several, and figure, and a column per scope: a panel is narrow."""
    scopes = list(dict.fromkeys(str(row["scope"]) for row in summary.rows))
    figures = [column for column in summary.columns if column.key not in ("scope", LABEL.key)]
    several = LABEL in summary.columns
    rows = []
    for label in dict.fromkeys(row.get(LABEL.key) for row in summary.rows):
        of_scopes = {str(row["scope"]): row for row in summary.rows if row.get(LABEL.key) == label}
        for column in figures:
            values = {scope: of_scopes[scope][column.key] for scope in scopes}
            rows.append(({LABEL.key: label} if several else {}) | {"figure": column.title} | values)
    columns = (*((LABEL,) if several else ()), Column("figure", "figure"), *(Column(scope, scope) for scope in scopes))
    return Table(columns, tuple(rows), summary.notes)


def together(table: Table) -> Table:
    """The rows of all classes together, which come last, of a table of several; else the table."""
    if LABEL not in table.columns:
        return table
    return replace(table, rows=tuple(row for row in table.rows if row[LABEL.key] == table.rows[-1][LABEL.key]))


def table_files(run: Run) -> dict[str, str]:
    """Each table of the run's comparison as CSV, and all of them, with their notes, as JSON: text by file name."""
    found = {role: tables.read_table(node) for role, node in run.tables.items() if role.startswith(COMPARISON)}
    content = {f"{role.replace(' ', '_')}.csv": Table.from_dict(table).csv() for role, table in found.items()}
    named = {role.removeprefix(COMPARISON): table for role, table in found.items()}
    return content | {"comparison.json": json.dumps({"run": run.name, "tables": named}, indent=2) + "\n"}

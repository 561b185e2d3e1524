"""Section "Raters": the samples of a run held against what several raters drew."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge import raters, tables
from AmbiguousSegBridge.fusions import put_fused
from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.context import Context, silent
from AmbiguousSegBridge.raters import RaterSegment
from AmbiguousSegBridge.runner import Failure, Job, Listener, crops_argument
from AmbiguousSegBridge.runs import Run, crops_of, find_run_of
from AmbiguousSegBridge.tables import COMPARISON
from AmbiguousSegLib.evaluation.table import Column, Table
from AmbiguousSegLib.files import write_together
from AmbiguousSegLib.volume.crops import Crop

TITLES = {
    "summary": "Summary: GED, CI, HM-IoU, D_max",
    "dice_max": "Each rater: best Dice of any sample",
    "dice": "Dice, raters x samples",
    "hd95": "HD95 in mm, raters x samples",
    "consensus": "Consensus of raters and of samples",
    "disagreement": "Disagreement per slice",
}
DEFINITIONS = "https://github.com/AmbiguousSeg/AmbiguousSeg#what-the-numbers-mean"


class RatersPanel:
    """Raters are ticked in a tree; the comparison is computed by the worker and kept as tables in the run's folder."""

    def __init__(self, context: Context) -> None:
        self.context, self.ui = context, context.ui
        self._number: int | None = None
        ui = self.ui
        ui.definitionsLabel.text = _("What the numbers mean: {link}").format(
            link=f'<a href="{DEFINITIONS}">{_("definitions")}</a>'
        )
        ui.raterTree.connect("itemChanged(QTreeWidgetItem*,int)", self._on_ticked)
        ui.showRatersCheckBox.connect("toggled(bool)", self._on_show)
        ui.compareButton.connect("clicked(bool)", self._on_compare)
        ui.comparisonSelector.connect("activated(int)", self._on_table)
        ui.disagreementPlotButton.connect("clicked(bool)", self._on_plot)
        ui.exportComparisonButton.connect("clicked(bool)", self._on_export)

    def refresh(self) -> None:
        """Show the state."""
        self._show_tree()
        run = self.context.run()
        self._show_button(run)
        self._show_tables(run)

    def stop(self) -> None:
        """The scene is being closed."""
        self._number = None

    def chosen(self) -> list[RaterSegment]:
        """The ticked segments that still exist."""
        parameters = self.context.parameters
        ticked = zip(parameters.raterNodes, parameters.raterSegments)  # a node that was deleted is None
        wanted = {(node.GetID(), segment_id) for node, segment_id in ticked if node is not None}
        return [rater for rater in self._candidates() if (rater.node.GetID(), rater.segment_id) in wanted]

    def compare(self) -> None:
        """Start the comparison of the run shown with the raters chosen."""
        run = self.context.run()
        if run is None:
            return
        with self.context.errors_shown(_("The raters were not compared.")):
            chosen = self.chosen()
            crops = [raters.read_rater(rater, run, self.context.parameters.resampleRaters) for rater in chosen]
            rater_entries, rater_arrays = crops_argument("rater", crops)
            sample_entries, sample_arrays = crops_argument("sample", crops_of(run))
            arguments = {
                "samples": sample_entries,
                "raters": rater_entries,
                "sample_names": [sample_name(node) for node in run.samples],
                "rater_names": [rater.name for rater in chosen],
                "geometry": asdict(run.geometry),
            }
            mean, names = run.mean, arguments["sample_names"]
            listener = Listener(
                progress=self._on_progress,
                finished=lambda result, folder: self._on_finished(mean, names, result, folder),
                failed=self._on_failed,
                cancelled=self._on_cancelled,
            )
            self._number = self.context.runner.start(
                Job("compare", arguments, {**rater_arrays, **sample_arrays}), listener
            )
            self.ui.comparisonLabel.text = _("Comparing...")
            self._show_button(run)

    def _candidates(self) -> list[RaterSegment]:
        return raters.candidates(self.context.scene)

    def _show_tree(self) -> None:
        tree, chosen = self.ui.raterTree, {(rater.node.GetID(), rater.segment_id) for rater in self.chosen()}
        with silent(tree):
            tree.clear()
            for rater in self._candidates():
                item = qt.QTreeWidgetItem()
                item.setText(0, rater.name)
                item.setData(0, qt.Qt.UserRole, json.dumps([rater.node.GetID(), rater.segment_id]))
                ticked = (rater.node.GetID(), rater.segment_id) in chosen
                item.setCheckState(0, qt.Qt.Checked if ticked else qt.Qt.Unchecked)
                tree.addTopLevelItem(item)

    def _show_button(self, run: Run | None) -> None:
        button, chosen = self.ui.compareButton, self.chosen()
        if self._number is not None:
            button.text, button.enabled, button.toolTip = _("Cancel"), True, _("Stop comparing")
            return
        button.text = _("Compare with {count} raters").format(count=len(chosen))
        reason = ""
        if run is None or not run.samples:
            reason = _("Generate segmentations first")
        elif self.context.generating:
            reason = _("Wait until the samples are there")
        elif not chosen:
            reason = _("Tick at least one rater's segmentation")
        button.enabled, button.toolTip = not reason, reason or _("Hold the samples against the raters")

    def _show_tables(self, run: Run | None) -> None:
        there = [] if run is None else [key for key in TITLES if COMPARISON + key in run.tables]
        shown = self.context.parameters.comparisonTable
        with silent(self.ui.comparisonSelector):
            self.ui.comparisonSelector.clear()
            for key in there:
                self.ui.comparisonSelector.addItem(_(TITLES[key]), key)
            if there:
                shown = shown if shown in there else there[0]
                self.ui.comparisonSelector.currentIndex = there.index(shown)
        node = run.tables[COMPARISON + shown] if there else None
        self.ui.comparisonTable.setMRMLTableNode(node)
        if self._number is None:
            notes = [] if node is None else tables.read_table(node)["notes"]
            if there and not _is_of(run):
                notes = [_("The samples have changed since; compare again."), "", *notes]
            self.ui.comparisonLabel.text = "\n".join(notes)
        self.ui.disagreementPlotButton.enabled = "disagreement" in there
        self.ui.exportComparisonButton.enabled = bool(there)

    def _on_ticked(self, _item: Any, _column: int) -> None:
        tree, nodes, segments = self.ui.raterTree, [], []
        for number in range(tree.topLevelItemCount):
            item = tree.topLevelItem(number)
            if item.checkState(0) == qt.Qt.Checked:
                node_id, segment_id = json.loads(item.data(0, qt.Qt.UserRole))
                nodes.append(self.context.scene.GetNodeByID(node_id))
                segments.append(segment_id)
        with slicer.util.NodeModify(self.context.parameters):
            self.context.parameters.raterNodes = nodes
            self.context.parameters.raterSegments = segments

    def _on_show(self, shown: bool) -> None:
        for rater in self.chosen():
            if (display := rater.node.GetDisplayNode()) is not None:
                display.SetSegmentVisibility(rater.segment_id, shown)

    def _on_compare(self, _checked: bool = False) -> None:
        if self._number is not None:
            self.context.runner.cancel(self._number)
        else:
            self.compare()

    def _on_progress(self, progress: dict[str, Any]) -> None:
        self.ui.comparisonLabel.text = _("Comparing: {share:.0f} %").format(share=100 * progress["share"])

    def _on_finished(
        self, mean: slicer.vtkMRMLScalarVolumeNode, names: list[str], result: dict[str, Any], folder: Path
    ) -> None:
        self._number = None
        run = find_run_of(self.context.scene, mean) if self.context.scene.IsNodePresent(mean) else None
        fits = run is not None and [sample_name(node) for node in run.samples] == names
        if fits:
            found = {key: Table.from_dict(table) for key, table in result["tables"].items()}
            for key, table in found.items():
                shown = standing(table) if key == "summary" else table
                tables.write_table(self.context.scene, run, COMPARISON + key, shown)
            fused = {entry["name"]: Crop.load(folder / entry["file"], entry) for entry in result["fused"]}
            put_fused(self.context.scene, run, fused)
        self.refresh()
        if not fits:
            self.ui.comparisonLabel.text = _("The samples were changed or removed meanwhile; compare again.")

    def _on_failed(self, failure: Failure) -> None:
        self._on_cancelled()
        self.context.show_failure(failure, _("The raters were not compared."))

    def _on_cancelled(self) -> None:
        self._number = None
        if self.context.parameters is not None:
            self.refresh()

    def _on_table(self, index: int) -> None:
        self.context.parameters.comparisonTable = self.ui.comparisonSelector.itemData(index)

    def _on_plot(self, _checked: bool = False) -> None:
        run = self.context.run()
        table = Table.from_dict(tables.read_table(run.tables[COMPARISON + "disagreement"]))
        title = _("Disagreement per slice")
        with self.context.errors_shown(_("There is no plot to show.")):
            self.context.show_chart(
                tables.scatter(self.context.scene, run, "disagreement plot", table, "observed", "predicted", title)
            )

    def _on_export(self, _checked: bool = False) -> None:
        folder = qt.QFileDialog.getExistingDirectory(None, _("Folder for the tables"), "")
        if not folder:
            return
        content = table_files(self.context.run())
        there = [name for name in content if (Path(folder) / name).exists()]
        if there and not slicer.util.confirmOkCancelDisplay(
            _("Folder {folder} holds {file} already. Replace it?").format(folder=folder, file=", ".join(there))
        ):
            return

        def write(place: Path) -> list[str]:
            for name, text in content.items():
                (place / name).write_text(text, encoding="utf-8", newline="")
            return list(content)

        with self.context.errors_shown(_("No table was written.")):
            write_together(folder, write)
            self.ui.comparisonLabel.text = _("Written: {files}").format(files=", ".join(content))


def _is_of(run: Run) -> bool:
    """Whether the run's comparison was made of the samples that it has now."""
    node = run.tables.get(COMPARISON + "dice")
    if node is None:  # deleted by the user
        return True
    columns = tables.read_table(node)["columns"]
    return [column["key"] for column in columns[1:]] == [sample_name(node) for node in run.samples]


def standing(summary: Table) -> Table:
    """The summary with a row per figure and a column per scope: a panel is narrow."""
    scopes = [str(row["scope"]) for row in summary.rows]
    rows = [
        {"figure": column.title} | {scope: row[column.key] for scope, row in zip(scopes, summary.rows)}
        for column in summary.columns
        if column.key != "scope"
    ]
    columns = (Column("figure", "figure"), *(Column(scope, scope) for scope in scopes))
    return Table(columns, tuple(rows), summary.notes)


def table_files(run: Run) -> dict[str, str]:
    """Each table of the run's comparison as CSV, and all of them, with their notes, as JSON: text by file name."""
    found = {role: tables.read_table(node) for role, node in run.tables.items() if role.startswith(COMPARISON)}
    content = {f"{role.replace(' ', '_')}.csv": Table.from_dict(table).csv() for role, table in found.items()}
    named = {role.removeprefix(COMPARISON): table for role, table in found.items()}
    return content | {"comparison.json": json.dumps({"run": run.name, "tables": named}, indent=2) + "\n"}

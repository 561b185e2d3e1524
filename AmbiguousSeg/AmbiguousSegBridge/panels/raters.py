"""Section "Raters": the samples of a run held against what several raters drew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.context import Context, silent
from AmbiguousSegBridge.scene import raters, tables
from AmbiguousSegBridge.scene.fusions import put_fused
from AmbiguousSegBridge.scene.identity import ATTRIBUTE
from AmbiguousSegBridge.scene.raters import Checksums, Rater
from AmbiguousSegBridge.scene.runs import Run, crops_of, find_run_of
from AmbiguousSegBridge.scene.tables import COMPARISON
from AmbiguousSegBridge.worker.runner import Failure, Job, Listener, crops_argument
from AmbiguousSegLib import REPOSITORY
from AmbiguousSegLib.evaluation.comparison import LABEL
from AmbiguousSegLib.evaluation.rater_tables import TABLE_TITLES
from AmbiguousSegLib.evaluation.table import Column, Table
from AmbiguousSegLib.files import write_together
from AmbiguousSegLib.volume.crops import Crop

COMPARED = ATTRIBUTE + "Compared"  # of a comparison's table: which masks it was made of
DEFINITIONS = f"{REPOSITORY}#what-the-numbers-mean"


class RatersPanel:
    """Raters are ticked in a tree; the comparison is computed by the worker and kept as tables in the run's folder."""

    def __init__(self, context: Context) -> None:
        self.context, self.ui = context, context.ui
        self._number: int | None = None
        self._listed: list[tuple[tuple[tuple[str, str], ...], str]] = []  # what the tree shows
        self._hidden: set[tuple[str, str]] = set()  # raters that this panel has hidden
        self._checksums = Checksums()
        ui = self.ui
        ui.definitionsLabel.text = _("What the numbers mean: {link}").format(
            link=f'<a href="{DEFINITIONS}">{_("definitions")}</a>'
        )
        ui.raterTree.connect("itemChanged(QTreeWidgetItem*,int)", self._on_ticked)
        ui.compareButton.connect("clicked(bool)", self._on_compare)
        ui.comparisonSelector.connect("activated(int)", self._on_table)
        ui.disagreementPlotButton.connect("clicked(bool)", self._on_plot)
        ui.exportComparisonButton.connect("clicked(bool)", self._on_export)

    def refresh(self) -> None:
        """Show the state, if there is one."""
        if self.context.parameters is None:
            return
        self._show_tree()
        self._show_raters()
        run = self.context.run()
        self._show_button(run)
        self._show_tables(run)

    def stop(self) -> None:
        """The scene is being closed."""
        self._number = None
        self._hidden = set()

    def chosen(self) -> list[Rater]:
        """The ticked raters that still exist; one of several segments is ticked where one of them is."""
        parameters = self.context.parameters
        ticked = zip(parameters.raterNodes, parameters.raterSegments)  # a node that was deleted is None
        wanted = {(node.GetID(), segment_id) for node, segment_id in ticked if node is not None}
        return [rater for rater in self._candidates() if wanted & set(rater.keys)]

    def compare(self) -> None:
        """Start the comparison of the run shown with the raters chosen."""
        run = self.context.run()
        if run is None:
            return
        nothing = _("The raters were not compared.")
        with self.context.errors_shown(nothing):
            if not self.context.packages_there(nothing):
                return
            chosen, resample = self.chosen(), self.context.parameters.resampleRaters
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
            mean = run.mean
            listener = Listener(
                progress=self._on_progress,
                finished=lambda result, folder: self._on_finished(mean, compared, result, folder),
                failed=self._on_failed,
                cancelled=self._on_cancelled,
            )
            self._number = self.context.runner.start(
                Job("compare", arguments, {**rater_arrays, **sample_arrays}), listener
            )
            self.ui.comparisonLabel.text = _("Comparing...")
            self._show_button(run)

    def _candidates(self) -> list[Rater]:
        run = self.context.run()
        labels = [] if run is None else run.label_names
        return raters.candidates(self.context.scene, labels, self.context.parameters.segmentsAre.value)

    def _show_tree(self) -> None:
        tree, candidates = self.ui.raterTree, self._candidates()
        chosen = {key for rater in self.chosen() for key in rater.keys}
        listed = [(rater.keys, rater.name) for rater in candidates]
        with silent(tree):
            if listed != self._listed:  # what the user has folded and scrolled stays
                self._listed = listed
                self._fill_tree(candidates)
            for item in self._items():
                ticked = [key in chosen for key in _keys(item)]
                state = qt.Qt.PartiallyChecked if any(ticked) else qt.Qt.Unchecked
                item.setCheckState(0, qt.Qt.Checked if all(ticked) else state)

    def _fill_tree(self, candidates: Sequence[Rater]) -> None:
        """A line for each segmentation, and below it one for each of its raters, if it has several."""
        tree = self.ui.raterTree
        folded = {_keys(item)[0][0] for item in self._items() if item.childCount() and not item.isExpanded()}
        tree.clear()
        for node_id, group in groupby(candidates, key=lambda rater: rater.node.GetID()):
            found = list(group)
            several, name = len(found) > 1, found[0].node.GetName()
            top = _item(name if several else found[0].name, found)
            for rater in found if several else ():
                top.addChild(_item(rater.name.removeprefix(f"{name}, "), [rater]))
            tree.addTopLevelItem(top)
            top.setExpanded(node_id not in folded)

    def _items(self) -> Iterator[qt.QTreeWidgetItem]:
        for number in range(self.ui.raterTree.topLevelItemCount):
            top = self.ui.raterTree.topLevelItem(number)
            yield top
            yield from (top.child(k) for k in range(top.childCount()))

    def _show_raters(self) -> None:
        """Hide the ticked raters while the box is unticked; one that is no longer to be hidden is shown again."""
        shown = self.context.parameters.showRaters
        hide = set() if shown else {key for rater in self.chosen() for key in rater.keys}
        for node_id, segment_id in hide ^ self._hidden:  # others are left as the user has them
            node = self.context.scene.GetNodeByID(node_id)
            display = None if node is None else node.GetDisplayNode()
            if display is not None and node.GetSegmentation().GetSegment(segment_id) is not None:
                display.SetSegmentVisibility(segment_id, (node_id, segment_id) not in hide)
        self._hidden = hide

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
        else:
            reason = next((rater.problem for rater in chosen if rater.problem), "")
        tip = _("Compare the samples with the raters")
        if run is not None and len(run.labels) > 1 and any(not rater.labels for rater in chosen):
            tip = _("A segment that is a rater's mask is taken for {label}, the first label").format(
                label=run.label_names[0]
            )
        button.enabled, button.toolTip = not reason, reason or tip

    def _show_tables(self, run: Run | None) -> None:
        present = [] if run is None else [key for key in TABLE_TITLES if COMPARISON + key in run.tables]
        shown = self.context.parameters.comparisonTable
        with silent(self.ui.comparisonSelector):
            self.ui.comparisonSelector.clear()
            for key in present:
                self.ui.comparisonSelector.addItem(_(TABLE_TITLES[key]), key)
            if present:
                shown = shown if shown in present else present[0]
                self.ui.comparisonSelector.currentIndex = present.index(shown)
        node = run.tables[COMPARISON + shown] if present else None
        self.ui.comparisonTable.setMRMLTableNode(node)
        if self._number is None:
            notes = [] if node is None else tables.read_table(node)["notes"]
            if present and (changes := self._changes(run, node)):
                notes = [*changes, "", *notes]
            self.ui.comparisonLabel.text = "\n".join(notes)
        self.ui.disagreementPlotButton.enabled = "disagreement" in present
        self.ui.exportComparisonButton.enabled = bool(present)

    def _changes(self, run: Run, table: slicer.vtkMRMLTableNode) -> list[str]:
        """What to say where a table of the comparison was made of other masks than there are now."""
        compared = table.GetAttribute(COMPARED)
        if not compared:  # written by an earlier version
            return []
        changed, all_read = self._checksums.changed(json.loads(compared), run, self._candidates())
        if not all_read:
            self.context.refresh_soon()
        texts = {
            "samples": _("The samples have changed since; compare again."),
            "raters": _("Raters have changed since; compare again."),
        }
        return [text for kind, text in texts.items() if kind in changed]

    def _on_ticked(self, item: qt.QTreeWidgetItem, _column: int) -> None:
        ticked, keys = {key for rater in self.chosen() for key in rater.keys}, set(_keys(item))
        ticked = ticked | keys if item.checkState(0) == qt.Qt.Checked else ticked - keys
        segments = [(rater.node, key) for rater in self._candidates() for key in rater.keys if key in ticked]
        with slicer.util.NodeModify(self.context.parameters):  # the refresh that follows shows it in the other lines
            self.context.parameters.raterNodes = [node for node, _key in segments]
            self.context.parameters.raterSegments = [segment_id for _node, (_node_id, segment_id) in segments]

    def _on_compare(self, _checked: bool = False) -> None:
        if self._number is not None:
            self.context.runner.cancel(self._number)
        else:
            self.compare()

    def _on_progress(self, progress: dict[str, Any]) -> None:
        self.ui.comparisonLabel.text = _("Comparing: {share:.0f} %").format(share=100 * progress["share"])

    def _on_finished(
        self, mean: slicer.vtkMRMLScalarVolumeNode, compared: dict[str, Any], result: dict[str, Any], folder: Path
    ) -> None:
        self._number = None
        run = find_run_of(self.context.scene, mean) if self.context.scene.IsNodePresent(mean) else None
        fits = run is not None and [sample_name(node) for node in run.samples] == list(compared["samples"])
        if fits:
            with self.context.errors_shown(_("The comparison was not kept.")):
                found = {key: Table.from_dict(table) for key, table in result["tables"].items()}
                for key, table in found.items():
                    shown = standing(table) if key == "summary" else table
                    node = tables.write_table(self.context.scene, run, COMPARISON + key, shown)
                    node.SetAttribute(COMPARED, json.dumps(compared))
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
        self.refresh()

    def _on_table(self, index: int) -> None:
        self.context.parameters.comparisonTable = self.ui.comparisonSelector.itemData(index)

    def _on_plot(self, _checked: bool = False) -> None:
        run = self.context.run()
        node = None if run is None else run.tables.get(COMPARISON + "disagreement")
        if node is None:  # it may have gone a moment before the press
            return
        table = together(Table.from_dict(tables.read_table(node)))
        title = _("Disagreement per slice")
        with self.context.errors_shown(_("There is no plot to show.")):
            self.context.show_chart(
                tables.scatter(self.context.scene, run, "disagreement plot", table, "observed", "predicted", title)
            )

    def _on_export(self, _checked: bool = False) -> None:
        folder, run = qt.QFileDialog.getExistingDirectory(None, _("Folder for the tables"), ""), self.context.run()
        if not folder or run is None:
            return
        content = table_files(run)
        earlier = [name for name in content if (Path(folder) / name).exists()]
        if earlier and not slicer.util.confirmOkCancelDisplay(
            _("Folder {folder} holds {file} already. Replace it?").format(folder=folder, file=", ".join(earlier))
        ):
            return

        def write(place: Path) -> list[str]:
            for name, text in content.items():
                (place / name).write_text(text, encoding="utf-8", newline="")
            return list(content)

        with self.context.errors_shown(_("No table was written.")):
            write_together(folder, write)
            self.ui.comparisonLabel.text = _("Written: {files}").format(files=", ".join(content))


def _item(text: str, found: Sequence[Rater]) -> qt.QTreeWidgetItem:
    item = qt.QTreeWidgetItem()
    item.setText(0, text)
    item.setData(0, qt.Qt.UserRole, json.dumps([key for rater in found for key in rater.keys]))
    return item


def _keys(item: qt.QTreeWidgetItem) -> list[tuple[str, str]]:
    """Keys of the segments that a line stands for."""
    return [tuple(key) for key in json.loads(item.data(0, qt.Qt.UserRole))]


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

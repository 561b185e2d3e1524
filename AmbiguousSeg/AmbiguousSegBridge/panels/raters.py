"""Section "Raters": the samples of a run held against what several raters drew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from types import SimpleNamespace

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import Choices, on_click, show_button, silent
from AmbiguousSegBridge.scene.raters import Rater
from AmbiguousSegBridge.scene.runs import COMPARISON
from AmbiguousSegLib import REPOSITORY
from AmbiguousSegLib.evaluation.rater_tables import TABLE_TITLES

DEFINITIONS = f"{REPOSITORY}#what-the-numbers-mean"


class RatersPanel:
    """Raters are ticked in a tree; the tables of the comparison are looked at below it."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.ui, self._context, self._comparison = ui, controller.context, controller.comparison
        self._listed: list[tuple[tuple[tuple[str, str], ...], str]] = []  # what the tree shows
        self._notes: list[str] = []  # of the table shown
        self._tables = Choices(ui.comparisonSelector, self._on_table)
        self._comparison.watchers.append(self._tell)
        ui.definitionsLabel.text = _('What the numbers mean: <a href="{link}">definitions</a>').format(link=DEFINITIONS)
        ui.raterTree.connect("itemChanged(QTreeWidgetItem*,int)", self._on_ticked)
        on_click(ui.compareButton, self._comparison.press)
        on_click(ui.disagreementPlotButton, controller.plot_disagreement)
        on_click(ui.exportComparisonButton, self._on_export)

    def show(self, snapshot: Snapshot) -> None:
        """Show the state."""
        self._show_tree(snapshot)
        self._show_button(snapshot)
        self._show_tables(snapshot)

    def stop(self) -> None:
        """Nothing waits here."""

    def _show_tree(self, snapshot: Snapshot) -> None:
        tree, candidates = self.ui.raterTree, snapshot.candidates
        chosen = {key for rater in snapshot.raters for key in rater.keys}
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

    def _show_button(self, snapshot: Snapshot) -> None:
        run, chosen = snapshot.run, snapshot.raters
        if self._comparison.busy:
            show_button(self.ui.compareButton, _("Cancel"), "", _("Stop comparing"))
            return
        tip = _("Compare the samples with the raters")
        if run is not None and len(run.labels) > 1 and any(not rater.labels for rater in chosen):
            text = _("A segment that is a rater's mask is taken for {label}, the first label")
            tip = text.format(label=run.label_names[0])
        text = _("Compare with {count} raters").format(count=len(chosen))
        show_button(self.ui.compareButton, text, self._comparison.problem(snapshot), tip)

    def _show_tables(self, snapshot: Snapshot) -> None:
        tables = {} if snapshot.run is None else snapshot.run.tables
        present = [key for key in TABLE_TITLES if COMPARISON + key in tables]
        shown = snapshot.parameters.comparisonTable
        shown = shown if shown in present else present[0] if present else None
        self._tables.show({key: _(TABLE_TITLES[key]) for key in present}, shown)
        node, self._notes = None, []
        if shown is not None:
            node = tables[COMPARISON + shown]
            changes, notes = self._comparison.changes(snapshot, node), snapshot.table(COMPARISON + shown)["notes"]
            self._notes = [*changes, "", *notes] if changes else notes
        self.ui.comparisonTable.setMRMLTableNode(node)
        self._tell()
        self.ui.disagreementPlotButton.enabled = "disagreement" in present
        self.ui.exportComparisonButton.enabled = bool(present)

    def _tell(self) -> None:
        """What the comparison says while it is under way; before and after, the notes of its table, too."""
        texts = [text for text in [self._comparison.text] if text]
        self.ui.comparisonLabel.text = "\n".join(texts if self._comparison.busy else [*texts, *self._notes])

    def _on_ticked(self, item: qt.QTreeWidgetItem, _column: int) -> None:
        snapshot, keys = self._context.snapshot(), set(_keys(item))
        ticked = {key for rater in snapshot.raters for key in rater.keys}
        ticked = ticked | keys if item.checkState(0) == qt.Qt.Checked else ticked - keys
        segments = [(rater.node, key) for rater in snapshot.candidates for key in rater.keys if key in ticked]
        with slicer.util.NodeModify(snapshot.parameters):  # the refresh that follows shows it in the other lines
            snapshot.parameters.raterNodes = [node for node, _key in segments]
            snapshot.parameters.raterSegments = [segment_id for _node, (_node_id, segment_id) in segments]

    def _on_table(self, key: str) -> None:
        self._context.parameters.comparisonTable = key

    def _on_export(self) -> None:
        if folder := qt.QFileDialog.getExistingDirectory(None, _("Folder for the tables"), ""):
            self._comparison.write_tables(folder)


def _item(text: str, found: Sequence[Rater]) -> qt.QTreeWidgetItem:
    item = qt.QTreeWidgetItem()
    item.setText(0, text)
    item.setData(0, qt.Qt.UserRole, json.dumps([key for rater in found for key in rater.keys]))
    return item


def _keys(item: qt.QTreeWidgetItem) -> list[tuple[str, str]]:
    """Keys of the segments that a line stands for."""
    return [tuple(key) for key in json.loads(item.data(0, qt.Qt.UserRole))]

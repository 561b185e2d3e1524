"""Section "Outlines": all outlines at once, contours of the mean map, who has which colour, surfaces in 3-D."""

from __future__ import annotations

from types import SimpleNamespace

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import Rows, silent
from AmbiguousSegBridge.scene import outlines, side_by_side
from AmbiguousSegBridge.scene.contours import CONTOURS, Contours
from AmbiguousSegBridge.scene.outlines import Entry
from AmbiguousSegBridge.scene.review import MODE, choices
from AmbiguousSegBridge.scene.runs import Run

BETWEEN_MS = 10  # in which the GUI does what waits, before the next surface is made
TITLE, SURFACE = 0, 1  # columns of the legend


class OutlinesPanel:
    """Shows outlines and surfaces of one run; surfaces are made on request alone, one after another."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.context, self.ui = controller.context, ui
        self._legend = Rows(ui.legendTable)
        self._contours = Contours()
        self._entries: list[Entry] = []
        self._listed: list[tuple] | None = None
        self._visible: tuple | None = None  # what was last decided about the contours
        self._front: tuple | None = None  # and about which outline is in front; None: it was left as the user has it
        self._failed = ""
        self._waiting: list[str] = []  # ids of segmentations whose surfaces are to be made
        self._maker = qt.QTimer()
        self._maker.setSingleShot(True)
        self._maker.setInterval(BETWEEN_MS)
        self._maker.connect("timeout()", self._make_next)
        ui.legendTable.connect("cellClicked(int,int)", lambda row, _column: self._pick(row))
        ui.legendTable.connect("currentCellChanged(int,int,int,int)", lambda row, _c, _r, _p: self._pick(row))
        ui.legendTable.connect("itemChanged(QTableWidgetItem*)", self._on_ticked)
        ui.modes3dButton.connect("clicked(bool)", self._on_modes)
        ui.none3dButton.connect("clicked(bool)", self._on_none)
        ui.outlinesSection.connect("contentsCollapsed(bool)", lambda _collapsed: self.context.refresh_soon())

    def show(self, snapshot: Snapshot) -> None:
        """Show the state; of a closed section only what the views show."""
        run, grid = snapshot.run, side_by_side.is_shown(snapshot.scene)
        if run is not None and snapshot.in_front and not grid:
            self._show_contours(snapshot, run)
            self._show_front(snapshot, run)
        if not self.ui.outlinesSection.collapsed:
            self._show_legend(snapshot)

    def stop(self) -> None:
        """The scene is being closed: no surface is made any more."""
        self._maker.stop()
        self._waiting, self._entries, self._listed, self._failed = [], [], None, ""
        self._visible = self._front = None
        self._contours = Contours()

    def _show_contours(self, snapshot: Snapshot, run: Run) -> None:
        wanted, node = snapshot.parameters.showContours, run.nodes.get(CONTOURS)
        self._failed = ""
        if wanted and not snapshot.generating:
            surfaces = node is not None and outlines.in_3d(node)
            try:
                node = self._contours.up_to_date(snapshot.scene, run)
            except ValueError as error:
                self._failed = str(error)
                return
            if surfaces and not outlines.in_3d(node):  # they were of the maps before
                self._ask_for(node)
        if node is not None and self._visible != (node.GetID(), wanted):
            self._visible = (node.GetID(), wanted)
            node.SetDisplayVisibility(wanted)

    def _show_front(self, snapshot: Snapshot, run: Run) -> None:
        parameters, count = snapshot.parameters, len(run.samples)
        front = parameters.shownSample if parameters.together and parameters.shownSample <= count else 0
        if not parameters.together and self._front is None:
            return
        state = (run.node.GetID(), count, front)
        if self._front != state:
            outlines.bring_to_front(run, run.samples[front - 1] if front else None)
        self._front = state if parameters.together else None

    def _show_legend(self, snapshot: Snapshot) -> None:
        run, parameters = snapshot.run, snapshot.parameters
        raters = list(zip(parameters.raterNodes, parameters.raterSegments))
        self._entries = [] if run is None else outlines.legend(run, raters, parameters.showContours)
        listed = [(entry.node.GetID(), entry.title, entry.colour) for entry in self._entries]
        table = self.ui.legendTable
        with silent(table):
            if listed != self._listed:
                self._listed = listed
                rows, colours = [[e.title, ""] for e in self._entries], [e.colour for e in self._entries]
                self._legend.show([_("Outline"), _("3-D")], rows, colours)
                for row in range(len(rows)):
                    table.item(row, SURFACE).setFlags(
                        qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable
                    )
            for row, entry in enumerate(self._entries):
                ticked = outlines.in_3d(entry.node) or entry.node.GetID() in self._waiting
                table.item(row, SURFACE).setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
            chosen = [row for row, e in enumerate(self._entries) if e.sample and e.sample == parameters.shownSample]
            if not chosen and self._sample_of(table.currentRow()):
                table.setCurrentCell(-1, -1)
            elif chosen and table.currentRow() not in chosen:
                table.setCurrentCell(chosen[0], TITLE)
        self._show_surfaces(run)

    def _show_surfaces(self, run: Run | None) -> None:
        modes = [] if run is None else self._representatives(run)
        self.ui.modes3dButton.enabled = bool(modes)
        self.ui.none3dButton.enabled = bool(self._waiting) or any(outlines.in_3d(e.node) for e in self._entries)
        text = self._failed
        if self._waiting:
            text = _("Surfaces still to be made: {count}.").format(count=len(self._waiting))
        self.ui.outlinesLabel.text = text
        self.ui.outlinesLabel.visible = bool(text)

    def _sample_of(self, row: int) -> int:
        return self._entries[row].sample if 0 <= row < len(self._entries) else 0

    def _pick(self, row: int) -> None:
        """Choose the sample of a line; a line that is no sample's lets all be alike."""
        if 0 <= row < len(self._entries):
            self.context.parameters.shownSample = self._sample_of(row)

    def _on_ticked(self, item: qt.QTableWidgetItem) -> None:
        row = item.row()
        if item.column() != SURFACE or not 0 <= row < len(self._entries):
            return
        node = self._entries[row].node
        if item.checkState() == qt.Qt.Checked:
            self._ask_for(node)
        else:
            self._drop(node)
        self.context.refresh_soon()

    def _on_modes(self, _checked: bool = False) -> None:
        run = self.context.run()
        for node in [] if run is None else self._representatives(run):
            self._ask_for(node)
        self.context.refresh_soon()

    def _on_none(self, _checked: bool = False) -> None:
        for entry in self._entries:
            self._drop(entry.node)
        self._waiting = []
        self.context.refresh_soon()

    def _representatives(self, run: Run) -> list[slicer.vtkMRMLSegmentationNode]:
        return [choice.node for choice in choices(run) if choice.kind == MODE]

    def _ask_for(self, node: slicer.vtkMRMLSegmentationNode) -> None:
        if not outlines.in_3d(node) and node.GetID() not in self._waiting:
            self._waiting.append(node.GetID())
            self._maker.start()

    def _drop(self, node: slicer.vtkMRMLSegmentationNode) -> None:
        if node.GetID() in self._waiting:
            self._waiting.remove(node.GetID())
        if outlines.in_3d(node):
            outlines.remove_surfaces(node)

    def _make_next(self) -> None:
        if not self._waiting:
            return
        node = self.context.scene.GetNodeByID(self._waiting.pop(0))
        if node is not None:  # the user may have deleted it meanwhile
            with self.context.errors_shown(_("There is no surface to show in 3-D.")):
                outlines.make_surfaces(node)
        if self._waiting:
            self._maker.start()
        self.context.refresh_soon()

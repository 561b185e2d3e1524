"""What all panels share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.scene import side_by_side
from AmbiguousSegBridge.scene.runs import Run, find_run_of
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.runner import Failure, Runner

ROW_HEIGHT = 22  # pixels


@dataclass
class Context:
    """Widgets by name, scene, runner, and the module's state (None while the scene is being closed).

    ``in_front`` tells whether the user has the module open: only then the views are its own to set. ``refresh_soon``
    has all panels show the state when the event loop comes to it.
    """

    ui: SimpleNamespace
    scene: slicer.vtkMRMLScene
    runner: Runner
    in_front: Callable[[], bool]
    refresh_soon: Callable[[], None]
    parameters: Any = None
    generating: bool = False  # the worker samples: other jobs would wait

    def run(self) -> Run | None:
        """The run that the panels show."""
        node = self.parameters.run if self.parameters is not None else None
        return None if node is None else find_run_of(self.scene, node)

    def leave_grid(self) -> None:
        """Show what the views showed before samples, or the modes' representatives, were put side by side."""
        self.ui.sideBySideButton.checked = self.ui.modesSideBySideButton.checked = False

    def show_chart(self, chart: slicer.vtkMRMLPlotChartNode) -> None:
        """Show a plot; the layout becomes one that has a place for it."""
        self.leave_grid()
        slicer.modules.plots.logic().ShowChartInLayout(chart)

    def packages_there(self, what: str) -> bool:
        """Whether the worker finds the packages that it needs; missing ones are installed, if the user agrees.

        Args:
            what: what does not happen without them, for the one message that says why.

        Raises:
            OSError, ValueError: the list of the packages cannot be read.
        """
        try:
            packages.ensure(True)
        except packages.PackagesError as error:
            self.show_failure(Failure("missing_package", error.message, error.remedy), what)
            return False
        return True

    def show_failure(self, failure: Failure, what: str) -> None:
        """One message for the user: what did not happen, why, what to do; the log in the details."""
        text = "\n\n".join(part for part in (what, failure.message, failure.remedy) if part)
        # Slicer widens a box that has details, even empty ones, to the width of a page.
        details = {"detailedText": failure.details} if failure.details else {}
        slicer.util.errorDisplay(text, windowTitle=_("Ambiguous Segmentation"), **details)

    def has_views(self) -> bool:
        """Whether there are views that can be arranged; if not, says so."""
        if side_by_side.layout_of(self.scene) is None:
            text = _("Slicer was started without its main window: there are no views to show samples side by side in.")
            slicer.util.errorDisplay(text, windowTitle=_("Ambiguous Segmentation"))
            return False
        return True

    @contextmanager
    def errors_shown(self, what: str) -> Iterator[None]:
        """Shows what is wrong with the input, in one line; everything else is left to Slicer's log."""
        try:
            yield
        except (OSError, ValueError) as error:
            slicer.util.errorDisplay(f"{what}\n\n{error}", windowTitle=_("Ambiguous Segmentation"))


@contextmanager
def silent(*widgets: qt.QWidget) -> Iterator[None]:
    """No signals of these widgets inside: for showing a state, as against changing it."""
    before = [widget.blockSignals(True) for widget in widgets]
    try:
        yield
    finally:
        for widget, blocked in zip(widgets, before):
            widget.blockSignals(blocked)


def fill_table(table: qt.QTableWidget, headers: list[str], rows: list[list[str]], colours: list | None = None) -> None:
    """Show text in a table widget; ``colours``: RGB in [0, 1] behind the first cell of each row, or None."""
    with silent(table):
        table.clear()
        table.setColumnCount(len(headers))
        table.setRowCount(len(rows))
        table.setHorizontalHeaderLabels(headers)
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                cell = qt.QTableWidgetItem(text)
                if column == 0 and colours is not None and colours[number] is not None:
                    cell.setData(qt.Qt.DecorationRole, qt.QColor.fromRgbF(*colours[number]))
                table.setItem(number, column, cell)
        table.resizeColumnsToContents()
        table.horizontalHeader().setStretchLastSection(True)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)

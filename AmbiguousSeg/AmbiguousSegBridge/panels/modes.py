"""Section "Modes": samples grouped into distinct hypotheses, each with its frequency and a representative."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.display import MODES
from AmbiguousSegBridge.actions.modes import COLUMNS, rows_of
from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import Rows, silent
from AmbiguousSegBridge.scene.run_writer import sample_colour


class ModesPanel:
    """Shows the modes of the run shown, as far as they are known."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.ui, self._context = ui, controller.context
        self._modes, self._display = controller.modes, controller.display
        self._rows = Rows(ui.modeTable)
        ui.modeCutSlider.connect("valueChanged(double)", lambda _value: controller.cut_moved())
        ui.modeTable.connect("cellClicked(int,int)", self._on_row)
        ui.modesSideBySideButton.connect("toggled(bool)", self._on_side_by_side)

    def show(self, snapshot: Snapshot) -> None:
        """Show the modes that the run's table holds, and what becomes of it."""
        run, rows = snapshot.run, rows_of(snapshot)
        texts = [[str(row["mode"]), _frequency(row), str(row["samples"]), row["representative"]] for row in rows]
        colours = None
        if run is not None and len(run.labels) == 1:  # of several classes, each has its own colour in all samples
            colours = [sample_colour(int(row["representative"].split()[-1]) - 1) for row in rows]
        self._rows.show([column.title for column in COLUMNS[:4]], texts, colours)
        button = self.ui.modesSideBySideButton
        with silent(button):
            button.enabled, button.checked = bool(rows), self._display.grid == MODES
        counted = _("{count} distinct hypotheses; frequencies are shares of the samples.").format(count=len(rows))
        sentences = [counted if rows else "", self._modes.state(snapshot)]
        self.ui.modesLabel.text = " ".join(filter(None, sentences)) or _("Modes are found when a run is complete.")

    def stop(self) -> None:
        """The scene is being closed, and the grid of views was left."""
        with silent(self.ui.modesSideBySideButton):
            self.ui.modesSideBySideButton.checked = False

    def _on_row(self, row: int, _column: int) -> None:
        snapshot = self._context.snapshot()
        if row < len(rows := rows_of(snapshot)):
            names = [sample_name(node) for node in snapshot.run.samples]
            snapshot.parameters.shownSample = names.index(rows[row]["representative"]) + 1

    def _on_side_by_side(self, checked: bool) -> None:
        self._display.put_side_by_side(MODES if checked else "")


def _frequency(row: dict[str, Any]) -> str:
    """In per cent, with its interval; a table of an earlier version has none."""
    text = _("{share:.0f} % ({low:.0f} to {high:.0f})") if "frequency_low" in row else _("{share:.0f} %")
    ends = (row.get("frequency_low", 0), row.get("frequency_high", 0))
    return text.format(share=100 * row["frequency"], low=100 * ends[0], high=100 * ends[1])

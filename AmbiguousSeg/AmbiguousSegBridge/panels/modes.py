"""Section "Modes": samples grouped into distinct hypotheses, each with its frequency and a representative."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from AmbiguousSegBridge import side_by_side, tables
from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.context import Context, fill_table
from AmbiguousSegBridge.run_writer import sample_colour
from AmbiguousSegBridge.runner import Failure, Job, Listener, crops_argument
from AmbiguousSegBridge.runs import crops_of, find_run_of
from AmbiguousSegLib.evaluation.table import Column, Table

CUT_AFTER_MS = 400  # the slider at rest
ROLE = "modes"
COLUMNS = (
    Column("mode", "mode"),
    Column("frequency", "frequency", 2),
    Column("samples", "samples"),
    Column("representative", "representative"),
    Column("members", "members"),
)


class ModesPanel:
    """Asks the worker for the modes of the run shown, keeps them as a table in its folder, and shows them.

    Args:
        on_views: called when the grid of views was entered or left.
    """

    def __init__(self, context: Context, on_views: Callable[[], None]) -> None:
        self.context, self.ui, self._on_views = context, context.ui, on_views
        self._asked: int | None = None
        self._grid: object = None  # what the grid of views shows
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self.ask)
        self.ui.modeCutSlider.connect("valueChanged(double)", lambda _value: self._timer.start(CUT_AFTER_MS))
        self.ui.modeTable.connect("cellClicked(int,int)", self._on_row)
        self.ui.modesSideBySideButton.connect("toggled(bool)", self._on_side_by_side)

    def refresh(self) -> None:
        """Show the modes that the run's table holds, also in the grid of views if it is theirs."""
        rows = self._rows()
        texts = [
            [str(row["mode"]), f"{100 * row['frequency']:.0f} %", str(row["samples"]), row["representative"]]
            for row in rows
        ]
        colours = [sample_colour(_number(row["representative"]) - 1) for row in rows]
        headers = [column.title for column in COLUMNS[:4]]
        fill_table(self.ui.modeTable, headers, texts, colours)
        self.ui.modesSideBySideButton.enabled = bool(rows)
        self.ui.modesLabel.text = (
            _("{count} distinct hypotheses; frequencies are shares of the samples").format(count=len(rows))
            if rows
            else _("Modes are found when a run is complete.")
        )
        self._show_grid(rows)

    def ask(self) -> None:
        """Have the modes of the run shown computed anew."""
        run = self.context.run()
        if run is None or not run.samples:
            return
        if self._asked is not None:
            self.context.runner.cancel(self._asked)
        try:
            entries, arrays = crops_argument("sample", crops_of(run))
        except ValueError as error:  # a mask was changed beyond reading
            self.ui.modesLabel.text = str(error)
            return
        job = Job("modes", {"masks": entries, "cut": self.context.parameters.modeCut}, arrays)
        mean, names = run.mean, [sample_name(node) for node in run.samples]

        def finished(result: dict[str, Any], _folder: Path) -> None:
            self._asked = None
            target = find_run_of(self.context.scene, mean) if self.context.scene.IsNodePresent(mean) else None
            if target is not None:
                tables.write_table(self.context.scene, target, ROLE, modes_table(result, names))
                self.refresh()

        self._asked = self.context.runner.start(job, Listener(finished=finished, failed=self._on_failed))

    def stop(self) -> None:
        """The scene is being closed."""
        self._timer.stop()
        self._asked = None

    def _rows(self) -> list[dict[str, Any]]:
        """Of the modes whose representative is still there."""
        run = self.context.run()
        node = None if run is None else run.tables.get(ROLE)
        names = [] if node is None else [sample_name(sample) for sample in run.samples]
        return [row for row in tables.read_table(node)["rows"] if row["representative"] in names] if names else []

    def _on_failed(self, failure: Failure) -> None:
        self._asked = None
        self.ui.modesLabel.text = f"{failure.message} {failure.remedy}"

    def _on_row(self, row: int, _column: int) -> None:
        run, rows = self.context.run(), self._rows()
        names = [] if run is None else [sample_name(node) for node in run.samples]
        if row < len(rows):
            self.context.parameters.shownSample = names.index(rows[row]["representative"]) + 1

    def _on_side_by_side(self, checked: bool) -> None:
        self._grid = None
        if checked:
            self.ui.sideBySideButton.checked = False
        else:
            side_by_side.leave(self.context.scene)
        self.refresh()
        self._on_views()

    def _show_grid(self, rows: list[dict[str, Any]]) -> None:
        run, shown = self.context.run(), rows[: side_by_side.MOST_VIEWS]
        if not self.ui.modesSideBySideButton.checked or not self.context.in_front():
            return
        if run is None or not shown:
            self.context.leave_grid()  # which calls this again
            return
        state = (run.mean.GetID(), shown)
        if state == self._grid:
            return
        self._grid = state
        by_name = {sample_name(node): node for node in run.samples}
        side_by_side.show_nodes(
            self.context.scene,
            run,
            [by_name[row["representative"]] for row in shown],
            [_("mode {mode}: {share:.0f} %").format(mode=row["mode"], share=100 * row["frequency"]) for row in shown],
        )


def modes_table(result: dict[str, Any], names: list[str]) -> Table:
    """Table of the worker's answer: one row per mode, the most frequent first; ``names`` of the samples in order."""
    rows = []
    for mode, (frequency, representative) in enumerate(zip(result["frequencies"], result["representatives"])):
        members = [name for name, label in zip(names, result["labels"]) if label == mode]
        row = {"mode": mode + 1, "frequency": frequency, "samples": len(members)}
        rows.append(row | {"representative": names[representative], "members": ", ".join(members)})
    note = f"hierarchical clustering (average linkage) of 1 - IoU, cut at {result['cut']:g}"
    return Table(COLUMNS, tuple(rows), (note, "the representative has the highest mean IoU with its mode"))


def _number(name: str) -> int:
    return int(name.split()[-1])

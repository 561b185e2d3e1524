"""Section "Modes": samples grouped into distinct hypotheses, each with its frequency and a representative."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.context import Context, fill_table
from AmbiguousSegBridge.scene import side_by_side, tables
from AmbiguousSegBridge.scene.masks import mask_of
from AmbiguousSegBridge.scene.run_node import ATTRIBUTE
from AmbiguousSegBridge.scene.run_writer import sample_colour
from AmbiguousSegBridge.scene.runs import Run, find_run_of
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.runner import Job, Listener, crops_argument
from AmbiguousSegLib.evaluation.table import Column, Table

CUT_AFTER_MS = 400  # the slider at rest
ROLE = "modes"
MADE_OF = ATTRIBUTE + "ModesOf"  # of the table: what it was made of
COLUMNS = (
    Column("mode", "mode"),
    Column("frequency", "frequency", 2),
    Column("samples", "samples"),
    Column("representative", "representative"),
    Column("members", "members"),
    Column("frequency_low", "frequency, 95 % from", 2),
    Column("frequency_high", "to", 2),
)


@dataclass
class _Question:
    """Modes that were asked for: of which run (its mean map), made of what; the job, and why it failed."""

    mean: slicer.vtkMRMLScalarVolumeNode
    wanted: str
    number: int = field(default=0, compare=False)
    failure: str = field(default="", compare=False)


class ModesPanel:
    """Asks the worker for the modes of the run shown, keeps them as a table in its folder, and shows them.

    They are asked for where the table is missing, or was made of other samples or with another cut.

    Args:
        on_views: called when the grid of views was entered or left.
    """

    def __init__(self, context: Context, on_views: Callable[[], None]) -> None:
        self.context, self.ui, self._on_views = context, context.ui, on_views
        self._asked: _Question | None = None  # what the worker is busy with
        self._failed: _Question | None = None  # asked again, it would fail again
        self._grid: object = None  # what the grid of views shows
        self._reading: Iterator[None] = iter(())
        self._reader = qt.QTimer()
        self._reader.setInterval(0)
        self._reader.connect("timeout()", self._on_reading)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self.refresh)
        self.ui.modeCutSlider.connect("valueChanged(double)", lambda _value: self._timer.start(CUT_AFTER_MS))
        self.ui.modeTable.connect("cellClicked(int,int)", self._on_row)
        self.ui.modesSideBySideButton.connect("toggled(bool)", self._on_side_by_side)

    def refresh(self) -> None:
        """Show the modes that the run's table holds, also in the grid of views if it is theirs; ask if it is not up
        to date."""
        if self.context.in_front() and not self._timer.active:
            self.ask()
        self._show()

    def ask(self) -> None:
        """Have the modes of the run shown found, unless they are known, under way, or just could not be found."""
        run = self.context.run()
        if run is None or not run.samples or self.context.generating:
            return
        question = _Question(run.mean, self._wanted(run))
        if question.wanted == _made_of(run) or question in (self._asked, self._failed) or packages.incomplete():
            return
        if self._asked is not None:  # if it is of another run, that asks again when it is shown
            self.context.runner.cancel(self._asked.number)
        self._asked, self._reading = question, self._read(question, run, self.context.parameters.modeCut)
        self._reader.start()

    def _on_reading(self) -> None:
        question = self._asked
        try:
            next(self._reading)
        except StopIteration:
            self._reader.stop()
        except ValueError as error:  # a mask was changed beyond reading
            self._reader.stop()
            self._fail(question, str(error))

    def _read(self, question: _Question, run: Run, cut: float) -> Iterator[None]:
        """Ask the worker, having read one mask in a step."""
        crops = []
        for node in run.samples:
            crops.append(mask_of(node, run))
            yield
        entries, arrays = crops_argument("sample", crops)
        job = Job("modes", {"masks": entries, "classes": len(run.labels), "cut": cut}, arrays)
        names = [sample_name(node) for node in run.samples]
        listener = Listener(
            finished=lambda result, _folder: self._on_found(question, modes_table(result, names)),
            failed=lambda failure: self._fail(question, f"{failure.message} {failure.remedy}".strip()),
            cancelled=lambda: self._end(question),
        )
        question.number = self.context.runner.start(job, listener)

    def _on_found(self, question: _Question, table: Table) -> None:
        self._end(question)
        present = self.context.scene.IsNodePresent(question.mean)
        run = find_run_of(self.context.scene, question.mean) if present else None
        if run is not None:
            try:
                node = tables.write_table(self.context.scene, run, ROLE, table)
                node.SetAttribute(MADE_OF, question.wanted)
            except ValueError as error:  # the run was changed meanwhile
                self._fail(question, str(error))
        self.refresh()

    def stop(self) -> None:
        """The scene is being closed."""
        self._timer.stop()
        self._reader.stop()
        self._asked = self._failed = None

    def _end(self, question: _Question) -> None:
        if self._asked is question:
            self._asked = None

    def _fail(self, question: _Question, reason: str) -> None:
        self._end(question)
        self._failed, question.failure = question, reason
        self._show()

    def _show(self) -> None:
        run, rows = self.context.run(), self._rows()
        texts = [[str(row["mode"]), _frequency(row), str(row["samples"]), row["representative"]] for row in rows]
        colours = None
        if run is not None and len(run.labels) == 1:  # of several classes, each has its own colour in all samples
            colours = [sample_colour(_number(row["representative"]) - 1) for row in rows]
        headers = [column.title for column in COLUMNS[:4]]
        fill_table(self.ui.modeTable, headers, texts, colours)
        self.ui.modesSideBySideButton.enabled = bool(rows)
        sentences = [_("{count} distinct hypotheses; frequencies are shares of the samples.").format(count=len(rows))]
        sentences = [*(sentences if rows else ()), *self._what_is_up(run)]
        self.ui.modesLabel.text = " ".join(sentences) or _("Modes are found when a run is complete.")
        self._show_grid(rows)

    def _what_is_up(self, run: Run | None) -> list[str]:
        """Why the table shown, if there is one, is not of these samples at this cut."""
        if run is None or not run.samples or self._wanted(run) == _made_of(run):
            return []
        question = _Question(run.mean, self._wanted(run))
        if question == self._failed:
            return [self._failed.failure]
        if question == self._asked:
            return [_("Modes are being found...")]
        return [_("Finding modes needs packages that are not installed yet.")] if packages.incomplete() else []

    def _wanted(self, run: Run) -> str:
        """What the table of the run is to be made of: cut, names and volumes of the samples."""
        node = run.tables.get(tables.VOLUMES)
        rows = [] if node is None else tables.read_table(node)["rows"]
        volumes = {row[tables.NAME]: row[tables.VOLUME_ML] for row in rows}
        names = [sample_name(sample) for sample in run.samples]
        return json.dumps([self.context.parameters.modeCut, [[name, volumes.get(name)] for name in names]])

    def _rows(self) -> list[dict[str, Any]]:
        """Of the modes whose representative is still there."""
        run = self.context.run()
        node = None if run is None else run.tables.get(ROLE)
        names = [] if node is None else [sample_name(sample) for sample in run.samples]
        return [row for row in tables.read_table(node)["rows"] if row["representative"] in names] if names else []

    def _on_row(self, row: int, _column: int) -> None:
        run, rows = self.context.run(), self._rows()
        names = [] if run is None else [sample_name(node) for node in run.samples]
        if row < len(rows):
            self.context.parameters.shownSample = names.index(rows[row]["representative"]) + 1

    def _on_side_by_side(self, checked: bool) -> None:
        if checked and not self.context.has_views():
            self.ui.modesSideBySideButton.checked = False
            return
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


def _made_of(run: Run) -> str | None:
    """What the run's table of modes was made of, as ``ModesPanel._wanted`` says it; None if there is none."""
    node = run.tables.get(ROLE)
    return None if node is None else node.GetAttribute(MADE_OF)


def modes_table(result: dict[str, Any], names: list[str]) -> Table:
    """Table of the worker's answer: one row per mode, the most frequent first; ``names`` of the samples in order."""
    rows = []
    for mode, (frequency, representative) in enumerate(zip(result["frequencies"], result["representatives"])):
        members = [name for name, label in zip(names, result["labels"]) if label == mode]
        row = {"mode": mode + 1, "frequency": frequency, "samples": len(members)}
        row |= {"representative": names[representative], "members": ", ".join(members)}
        low, high = result["intervals"][mode]
        rows.append(row | {"frequency_low": low, "frequency_high": high})
    note = f"hierarchical clustering (average linkage) of 1 - IoU, cut at {result['cut']:g}"
    notes = "the representative has the highest mean IoU with its mode", "intervals of frequencies are Wilson's"
    return Table(COLUMNS, tuple(rows), (note, *notes))


def _frequency(row: dict[str, Any]) -> str:
    """In per cent, with its interval; a table of an earlier version has none."""
    text = f"{100 * row['frequency']:.0f} %"
    if "frequency_low" in row:
        text += f" ({100 * row['frequency_low']:.0f} to {100 * row['frequency_high']:.0f})"
    return text


def _number(name: str) -> int:
    return int(name.split()[-1])

"""Modes: samples grouped into distinct hypotheses by the worker, kept as a table in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import qt
from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.work import Work, in_one_line
from AmbiguousSegBridge.context import Context
from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.scene import tables
from AmbiguousSegBridge.scene.masks import mask_of
from AmbiguousSegBridge.scene.run_node import ATTRIBUTE
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.runner import Job, Listener, crops_argument
from AmbiguousSegLib.evaluation.table import Column, Table

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
    """Modes that were asked for: of which run, known by its node, made of what; the job, and why it failed."""

    run: Run = field(compare=False)
    node: object
    wanted: str
    number: int = field(default=0, compare=False)
    failure: str = field(default="", compare=False)


class Modes(Work):
    """Has the modes of the run shown found where its table is missing, or was made of other samples or another cut."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._asked: _Question | None = None  # what the worker is busy with
        self._failed_at: _Question | None = None  # asked again, it would fail again
        self._reading: Iterator[None] = iter(())
        self._reader = qt.QTimer()
        self._reader.setInterval(0)
        self._reader.connect("timeout()", self._on_reading)

    @property
    def busy(self) -> bool:
        """Whether modes are being found, of whatever run."""
        return self._asked is not None

    def ask(self, snapshot: Snapshot) -> None:
        """Have them found, unless they are known, under way, or just could not be found."""
        question = _question_of(snapshot)
        if question is None or snapshot.generating or question.wanted == _made_of(snapshot.run):
            return
        if question in (self._asked, self._failed_at) or packages.incomplete():
            return
        if self._asked is not None:  # if it is of another run, that asks again when it is shown
            self.context.runner.cancel(self._asked.number)
        self._asked, self._reading = question, self._read(question, snapshot.parameters.modeCut)
        self._reader.start()

    def state(self, snapshot: Snapshot) -> str:
        """Why the table shown, if there is one, is not of these samples at this cut."""
        question = _question_of(snapshot)
        if question is None or question.wanted == _made_of(snapshot.run):
            return ""
        if question == self._failed_at:
            return self._failed_at.failure
        if question == self._asked:
            return _("Modes are being found...")
        return _("Finding modes needs packages that are not installed yet.") if packages.incomplete() else ""

    def stop(self) -> None:
        """The scene is being closed."""
        self._reader.stop()
        self._asked = self._failed_at = None

    def _on_reading(self) -> None:
        try:
            next(self._reading)
        except StopIteration:
            self._reader.stop()
        except ValueError as error:  # a mask was changed beyond reading
            self._reader.stop()
            self._fail(self._asked, str(error))

    def _read(self, question: _Question, cut: float) -> Iterator[None]:
        """Ask the worker, having read one mask in a step."""
        crops, run = [], question.run
        for node in run.samples:
            crops.append(mask_of(node, run))
            yield
        entries, arrays = crops_argument("sample", crops)
        job = Job("modes", {"masks": entries, "classes": len(run.labels), "cut": cut}, arrays)
        names = [sample_name(node) for node in run.samples]
        listener = Listener(
            finished=lambda result, _folder: self._found(question, modes_table(result, names)),
            failed=lambda failure: self._fail(question, in_one_line(failure)),
            cancelled=lambda: self._over(question),
        )
        question.number = self.context.runner.start(job, listener)

    def _found(self, question: _Question, table: Table) -> None:
        self._over(question)
        if (run := self.context.again(question.run)) is not None:
            try:
                node = tables.write_table(self.context.scene, run, ROLE, table)
                node.SetAttribute(MADE_OF, question.wanted)
            except ValueError as error:  # the run was changed meanwhile
                self._failed_at, question.failure = question, str(error)
        self.context.refresh()

    def _over(self, question: _Question) -> None:
        if self._asked is question:
            self._asked = None

    def _fail(self, question: _Question, reason: str) -> None:
        self._over(question)
        self._failed_at, question.failure = question, reason
        self.context.refresh()


def rows_of(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Of the modes whose representative is still there."""
    table = snapshot.table(ROLE)
    names = [] if table is None else [sample_name(sample) for sample in snapshot.run.samples]
    return [row for row in table["rows"] if row["representative"] in names] if names else []


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


def _question_of(snapshot: Snapshot) -> _Question | None:
    """The modes of the run shown: of which names and volumes of samples, and at which cut."""
    run = snapshot.run
    if run is None or not run.samples:
        return None
    rows = (snapshot.table(tables.VOLUMES) or {"rows": []})["rows"]
    volumes = {row[tables.NAME]: row[tables.VOLUME_ML] for row in rows}
    names = [sample_name(sample) for sample in run.samples]
    wanted = json.dumps([snapshot.parameters.modeCut, [[name, volumes.get(name)] for name in names]])
    return _Question(run, run.node, wanted)


def _made_of(run: Run) -> str | None:
    """What the run's table of modes was made of, as a question says it; None if there is none."""
    node = run.tables.get(ROLE)
    return None if node is None else node.GetAttribute(MADE_OF)

"""What the panels show, looked up once for each refresh."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import slicer

from AmbiguousSegBridge.known_models import describe
from AmbiguousSegBridge.parameters import AmbiguousSegParameterNode
from AmbiguousSegBridge.scene import raters, tables
from AmbiguousSegBridge.scene.raters import Rater
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.settings import slice_count
from AmbiguousSegLib.description import ModelDescription


@dataclass(frozen=True)
class Snapshot:
    """The scene at one moment. What is costly is read when it is first asked for, and then kept.

    Attributes:
        parameters: the module's state.
        runs: all runs that a panel can show, in the order of the scene.
        run: the one that the panels speak of.
        generating: whether samples are being made.
        in_front: whether the user has the module open: only then the views are its own to set.
    """

    scene: slicer.vtkMRMLScene
    parameters: AmbiguousSegParameterNode
    runs: tuple[Run, ...]
    run: Run | None
    generating: bool
    in_front: bool
    _tables: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def table(self, role: str) -> dict[str, Any] | None:
        """A table of the run shown, as ``tables.read_table`` gives it; None where there is none."""
        node = None if self.run is None else self.run.tables.get(role)
        if node is None:
            return None
        if role not in self._tables:
            self._tables[role] = tables.read_table(node)
        return self._tables[role]

    @cached_property
    def model(self) -> ModelDescription | None:
        """The chosen model; None where it cannot be read."""
        return None if isinstance(self._model, str) else self._model

    @property
    def model_problem(self) -> str:
        """Why the chosen model cannot be read; empty where it can."""
        return self._model if isinstance(self._model, str) else ""

    @cached_property
    def _model(self) -> ModelDescription | str:
        try:
            return describe(self.parameters.model)
        except (OSError, ValueError) as error:
            return str(error)

    @cached_property
    def slices(self) -> int | str | None:
        """How many slices the first volume has along the model's plane, or why that cannot be told; None: no volume."""
        if self.model is None or self.parameters.channel1 is None:
            return None
        try:
            return slice_count(self.model, self.parameters.channel1)
        except ValueError as error:  # an empty or sheared volume
            return str(error)

    @cached_property
    def candidates(self) -> list[Rater]:
        """All that can be a rater's."""
        labels = [] if self.run is None else self.run.label_names
        return raters.candidates(self.scene, labels, self.parameters.segmentsAre.value)

    @cached_property
    def raters(self) -> list[Rater]:
        """The ticked raters that still exist; one of several segments is ticked where one of them is."""
        ticked = zip(self.parameters.raterNodes, self.parameters.raterSegments)  # a node that was deleted is None
        wanted = {(node.GetID(), segment_id) for node, segment_id in ticked if node is not None}
        return [rater for rater in self.candidates if wanted & set(rater.keys)]

    @property
    def sample_alone(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The one sample that is to be shown; None: all of them, or there is no such sample."""
        shown = self.parameters.shownSample
        return self.run.samples[shown - 1] if self.run is not None and 1 <= shown <= len(self.run.samples) else None

    @property
    def shown_class(self) -> int:
        """Class, from 1, whose map is shown."""
        shown = self.parameters.shownClass
        return shown if self.run is not None and shown <= len(self.run.labels) else 1


class Panel(Protocol):
    """A section of the module. It knows no other panel: what is to happen elsewhere, it asks the controller for."""

    def show(self, snapshot: Snapshot) -> None:
        """Show the state; called whenever anything has changed."""

    def stop(self) -> None:
        """The scene is being closed: nothing that waits may still act."""

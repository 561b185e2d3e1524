"""What the panels show, looked up once for each refresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import slicer

from AmbiguousSegBridge.parameters import AmbiguousSegParameterNode
from AmbiguousSegBridge.scene.runs import Run


@dataclass(frozen=True)
class Snapshot:
    """The scene at one moment.

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


class Panel(Protocol):
    """A section of the module. It knows no other panel: what is to happen elsewhere, it asks the controller for."""

    def show(self, snapshot: Snapshot) -> None:
        """Show the state; called whenever anything has changed."""

    def stop(self) -> None:
        """The scene is being closed: nothing that waits may still act."""

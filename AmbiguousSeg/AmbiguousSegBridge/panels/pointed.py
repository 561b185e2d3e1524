"""Section "Lesions pointed at": those of before, and what the model will look at around the present ones."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.known_models import describe
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import silent
from AmbiguousSegBridge.scene.lesions import Lesion, lesions_of, new_list, place_next, recent_lists, used_now
from AmbiguousSegBridge.scene.views import jump_to
from AmbiguousSegBridge.scene.windows import Windows
from AmbiguousSegLib.volume.preprocessing import Preprocessing

MOST_RECENT = 30  # lesions in the selector


class PointedPanel:
    """Keeps the boxes where points, volume and model want them, and leads back to lesions of before."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.context, self.ui = controller.context, ui
        self._windows = Windows(self.context.scene)
        self._recent: list[tuple[slicer.vtkMRMLMarkupsFiducialNode, Lesion]] = []
        self.ui.recentLesionsSelector.connect("activated(int)", self._on_recent)
        self.ui.newLesionsButton.connect("clicked(bool)", self._on_new)

    def show(self, snapshot: Snapshot) -> None:
        """Show the state."""
        points = snapshot.parameters.points
        if points is not None:
            used_now(points)
        self._recent = list(_lesions_of_all(recent_lists(snapshot.scene)))[:MOST_RECENT]
        selector = self.ui.recentLesionsSelector
        with silent(selector):
            selector.clear()
            for node, lesion in self._recent:
                r, a, s = lesion.position
                text = _("{list}: {lesion} (R {r:.1f}, A {a:.1f}, S {s:.1f} mm)")
                selector.addItem(text.format(list=node.GetName(), lesion=lesion.name, r=r, a=a, s=s))
            selector.currentIndex = -1  # it is a way back, not a state
        selector.enabled = bool(self._recent)
        self.ui.newLesionsButton.enabled = snapshot.parameters.channel1 is not None
        self.follow()

    def follow(self) -> None:
        """Draw the windows of the points as they are now; called for each step of a point that is dragged."""
        parameters = self.context.parameters
        if self.context.scene.IsBatchProcessing():  # it is being read or closed, which ends in a refresh
            return
        points = None if parameters is None else parameters.points
        if points is None or not parameters.showWindows:
            self._windows.clear()
        else:
            self._windows.show(self._preprocessing(), parameters.channel1, lesions_of(points))

    def stop(self) -> None:
        """The scene is being closed."""
        self._windows.clear()

    def _preprocessing(self) -> Preprocessing | None:
        """Of the chosen model; None where it cannot be read, which its card says."""
        try:
            return describe(self.context.parameters.model).preprocessing
        except (OSError, ValueError):
            return None

    def _on_recent(self, index: int) -> None:
        node, lesion = self._recent[index]
        self.context.parameters.points = node
        jump_to(self.context.scene, lesion.position)

    def _on_new(self, _checked: bool = False) -> None:
        self.context.parameters.points = new_list(self.context.scene, _("Lesions"), _("lesion %d"))
        place_next(self.context.parameters.points)


def _lesions_of_all(
    lists: Iterable[slicer.vtkMRMLMarkupsFiducialNode],
) -> Iterable[tuple[slicer.vtkMRMLMarkupsFiducialNode, Lesion]]:
    """Each lesion with its list, the last one placed first."""
    return ((node, lesion) for node in lists for lesion in reversed(lesions_of(node)))

"""In the section "Inputs": the lesions that are pointed at."""

from __future__ import annotations

from slicer.i18n import tr as _

from AmbiguousSegBridge.panels.context import Context
from AmbiguousSegBridge.scene.lesions import lesions_of, new_list, place_next


class LesionsPanel:
    """Lets the user click lesions, and says what becomes of the clicks."""

    def __init__(self, context: Context) -> None:
        self.context, self.ui = context, context.ui
        self.ui.placePointButton.connect("clicked(bool)", self._on_place)

    def refresh(self) -> None:
        """Show the state; slices and region are of no account where lesions are pointed at."""
        points = self.context.parameters.points
        count = 0 if points is None else len(lesions_of(points))
        if points is None:
            text = ""
        elif count == 0:
            text = _("Click a lesion in a slice view.")
        elif count == 1:
            text = _("The lesion is segmented slice by slice, outward from the point.")
        else:
            text = _("{count} lesions are segmented one after the other, each as a run of its own.").format(count=count)
        self.ui.pointsTextLabel.text = text
        self.ui.pointsTextLabel.visible = bool(text)
        for widget in (self.ui.regionSelector, self.ui.limitSlicesCheckBox):
            widget.enabled = points is None
        self.ui.placePointButton.enabled = self.context.parameters.channel1 is not None

    def stop(self) -> None:
        """There is nothing to stop."""

    def _on_place(self, _checked: bool = False) -> None:
        if self.context.parameters.points is None:
            self.context.parameters.points = new_list(self.context.scene, _("Lesions"), _("lesion %d"))
        place_next(self.context.parameters.points)

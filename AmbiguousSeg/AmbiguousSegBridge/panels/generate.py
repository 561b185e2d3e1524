"""The button "Generate N segmentations" and its progress."""

from __future__ import annotations

from types import SimpleNamespace

from slicer.i18n import tr as _

from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import on_click, show_button

PROGRESS_STEPS = 1000


class GeneratePanel:
    """Begins and cancels sampling, and shows how far it is."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.ui, self._sampling, self._request = ui, controller.sampling, controller.request
        ui.progressBar.hide()
        self._sampling.watchers.append(self._tell)
        on_click(ui.generateButton, self._sampling.press)

    def show(self, snapshot: Snapshot) -> None:
        """Enable what can work; the tool tip says why what cannot."""
        button = self.ui.generateButton
        if self._sampling.cancelling:
            show_button(button, _("Cancelling..."), _("Stop; the segmentations made so far are kept"), "")
        elif snapshot.generating:
            show_button(button, _("Cancel"), "", _("Stop; the segmentations made so far are kept"))
        else:
            text = _("Generate {n} segmentations").format(n=snapshot.parameters.samples)
            show_button(button, text, self._request.problem(), _("Sample plausible segmentations of the volume"))
        self.ui.progressBar.visible = snapshot.generating

    def stop(self) -> None:
        """Nothing waits here."""

    def _tell(self) -> None:
        self.ui.statusLabel.text = self._sampling.text
        share = self._sampling.share  # unknown, the bar moves without a figure
        self.ui.progressBar.maximum = 0 if share is None else PROGRESS_STEPS
        self.ui.progressBar.value = 0 if share is None else round(PROGRESS_STEPS * share)

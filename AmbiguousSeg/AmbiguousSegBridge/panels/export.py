"""Section "Export": a run as files that other programs read."""

from __future__ import annotations

from types import SimpleNamespace

from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.export import form_of
from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import Choices, on_click, show_button
from AmbiguousSegLib.outputs.export_formats import FORMATS


class ExportPanel:
    """Format, folder, and the button."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.ui, self._context, self._export = ui, controller.context, controller.export
        self._forms = Choices(ui.exportFormSelector, self._on_form)
        self._export.watchers.append(self._tell)
        on_click(ui.exportButton, self._export.press)

    def show(self, snapshot: Snapshot) -> None:
        """Show the state; the button's tool tip says why it cannot be pressed."""
        self._forms.show({name: _(FORMATS[name].title) for name in FORMATS}, form_of(snapshot.parameters))
        if self._export.busy:
            show_button(self.ui.exportButton, _("Cancel"), "", _("Stop exporting"))
        else:
            show_button(self.ui.exportButton, _("Export"), self._export.problem(snapshot), _("Write the files"))

    def stop(self) -> None:
        """Nothing waits here."""

    def _tell(self) -> None:
        self.ui.exportLabel.text = self._export.text

    def _on_form(self, name: str) -> None:
        self._context.parameters.exportForm = name

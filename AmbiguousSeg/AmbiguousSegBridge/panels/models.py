"""Section "Models": which there are, where they come from, and whether they are what they say to be."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.known_models import remembered_folders
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import Rows
from AmbiguousSegBridge.worker.runner import Failure
from AmbiguousSegLib.card import card_html
from AmbiguousSegLib.description import DESCRIPTION_FILE, WEIGHTS_FILE
from AmbiguousSegLib.files import said
from AmbiguousSegLib.model_store.store import (
    INSTALLED,
    NameTakenError,
    Steps,
    StoredModel,
    installation,
    list_models,
    remove,
    verification,
)
from AmbiguousSegLib.resources import DEFAULT_MODEL

AT_ONCE_S = 0.015  # of reading and writing files, between two looks at the mouse


@dataclass
class _Work:
    """A model that is being installed or verified."""

    steps: Steps
    folder: Path  # or zip


class ModelsPanel:
    """Installs, verifies and removes models, in steps between other events, so that large weights freeze nothing."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.context, self.ui = controller.context, ui
        self._table = Rows(ui.modelsTable)
        self._models: list[StoredModel] = []
        self._chosen = ""  # name of the model whose card is shown
        self._verified: dict[Path, tuple[tuple, str]] = {}  # by folder: state of its files, and what was wrong then
        self._work: _Work | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._advance)
        self.ui.modelsSection.connect("contentsCollapsed(bool)", lambda _collapsed: self.context.refresh_soon())
        self.ui.modelsTable.connect("cellClicked(int,int)", self._on_row)
        self.ui.installFolderButton.connect("clicked(bool)", self._on_install_folder)
        self.ui.installZipButton.connect("clicked(bool)", self._on_install_zip)
        self.ui.useModelButton.connect("clicked(bool)", self._on_use)
        self.ui.verifyModelButton.connect("clicked(bool)", self._on_verify)
        self.ui.removeModelButton.connect("clicked(bool)", self._on_remove)
        self.ui.stopModelsButton.connect("clicked(bool)", self._on_stop)

    def show(self, snapshot: Snapshot) -> None:
        """Show the state; the models are looked up only while the section is open."""
        note = (self.context.runner.about or {}).get("device_note") or ""
        self.ui.deviceNoteLabel.text = note
        self.ui.deviceNoteLabel.visible = bool(note)
        if not self.ui.modelsSection.collapsed:
            self._show_models()
            self._show_buttons(snapshot.generating)

    def stop(self) -> None:
        """The scene is being closed: what is half done is taken back."""
        if self._work is not None:
            self._end(_("Stopped before the end: nothing was changed."))

    def _show_models(self) -> None:
        self._models = list_models([Path(folder) for folder in remembered_folders()])
        names = [model.name for model in self._models]
        if self._chosen not in names:
            used = self.context.parameters.model or DEFAULT_MODEL
            self._chosen = used if used in names else names[0]
        rows = [self._row(model) for model in self._models]
        self._table.show([_("Name"), _("Marks"), _("Channels"), _("Source"), _("State")], rows)
        self.ui.modelsTable.selectRow(names.index(self._chosen))
        model = self._model()
        self.ui.modelsCardLabel.text = "" if model.description is None else card_html(model.description)
        problem = self._problem(model)
        if self._work is None and problem:
            self.ui.modelsStateLabel.text = problem

    def _show_buttons(self, generating: bool) -> None:
        model, busy = self._model(), self._work is not None
        used = model.name == (self.context.parameters.model or DEFAULT_MODEL)
        installed = model.source == INSTALLED
        reasons = {
            "installFolderButton": "",
            "installZipButton": "",
            "verifyModelButton": "",
            "useModelButton": _("This model is the one in use.") if used else self._problem(model),
            "removeModelButton": "" if installed else _("Only installed models can be removed."),
        }
        tips = {
            "installFolderButton": _("Copy the folder of a model to the installed models, and check its weights"),
            "installZipButton": _("Unpack the zip of a model to the installed models, and check its weights"),
            "verifyModelButton": _("Compare the weights with the checksum that the model names"),
            "useModelButton": _("Choose this model in the section Inputs"),
            "removeModelButton": _("Remove this model from the installed models"),
        }
        for name, reason in reasons.items():
            if busy:
                reason = _("A model is being installed or verified.")
            elif generating and name != "verifyModelButton":
                reason = _("Samples are being made.")
            button = getattr(self.ui, name)
            button.enabled, button.toolTip = not reason, reason or tips[name]
        self.ui.modelsProgressBar.visible = self.ui.stopModelsButton.visible = busy

    def _row(self, model: StoredModel) -> list[str]:
        described = model.description
        source = {"bundled": _("bundled"), "installed": _("installed"), "folder": _("folder")}[model.source]
        labels = () if described is None else described.labels
        channels = () if described is None else described.channels
        return [
            model.name,
            ", ".join(label.name for label in labels),
            ", ".join(channels),
            source,
            self._state(model),
        ]

    def _state(self, model: StoredModel) -> str:
        if self._problem(model):
            return _("damaged")
        return _("verified") if model.folder in self._verified else _("not verified")

    def _problem(self, model: StoredModel) -> str:
        """What is known to be wrong with a model; what was found of other files than there are now is forgotten."""
        if model.folder in self._verified:
            state, problem = self._verified[model.folder]
            if state == _state_of(model.folder):
                return model.problem or problem
            del self._verified[model.folder]
        return model.problem

    def _model(self) -> StoredModel:
        return next(model for model in self._models if model.name == self._chosen)

    def _on_row(self, row: int, _column: int) -> None:
        self._choose(self._models[row].name)

    def _choose(self, name: str) -> None:
        """Show another model."""
        self._chosen, self.ui.modelsStateLabel.text = name, ""
        self.context.refresh_soon()

    def _on_use(self, _checked: bool = False) -> None:
        self.context.parameters.model = self._chosen

    def _on_install_folder(self, _checked: bool = False) -> None:
        self._ask_and_install(qt.QFileDialog.getExistingDirectory(None, _("Folder of a model"), ""))

    def _on_install_zip(self, _checked: bool = False) -> None:
        self._ask_and_install(qt.QFileDialog.getOpenFileName(None, _("Zip of a model"), "", "*.zip"))

    def _ask_and_install(self, path: str) -> None:
        if path:
            self._begin(_Work(installation(Path(path)), Path(path)), _("Installing {name}...").format(name=path))

    def _on_verify(self, _checked: bool = False) -> None:
        model = self._model()
        text = _("Verifying {name}...").format(name=model.name)
        self._begin(_Work(verification(model.folder), model.folder), text)

    def _on_remove(self, _checked: bool = False) -> None:
        name = self._chosen
        if not slicer.util.confirmYesNoDisplay(_("Remove the model {name} from this computer?").format(name=name)):
            return
        with self.context.errors_shown(_("The model was not removed.")):
            remove(name)
            if self.context.parameters.model == name:
                self.context.parameters.model = ""
            self._choose(self.context.parameters.model or DEFAULT_MODEL)
            self.ui.modelsStateLabel.text = _("The model {name} was removed.").format(name=name)

    def _on_stop(self, _checked: bool = False) -> None:
        self.stop()

    def _begin(self, work: _Work, text: str) -> None:
        self._work, self.ui.modelsProgressBar.value = work, 0
        self.ui.modelsStateLabel.text = text
        self._timer.start()
        self.context.refresh_soon()

    def _advance(self) -> None:
        """Take steps for some milliseconds."""
        until, work, share = time.perf_counter() + AT_ONCE_S, self._work, 0.0
        try:
            while time.perf_counter() < until:
                share = next(work.steps)
        except StopIteration as end:
            self._done(work, end.value)
        except NameTakenError as error:
            self._end("")
            question = _("Another model {name} is installed. Replace it by the one from {source}?")
            if slicer.util.confirmYesNoDisplay(question.format(name=error.name, source=work.folder)):
                steps = installation(work.folder, replace=True)
                self._begin(_Work(steps, work.folder), _("Installing {name}...").format(name=error.name))
        except (OSError, ValueError) as error:
            self._end("")
            self.context.show_failure(Failure("bad_input", said(error)), _("The model was not installed."))
        else:
            self.ui.modelsProgressBar.value = round(1000 * share)

    def _done(self, work: _Work, result: StoredModel | str) -> None:
        if isinstance(result, StoredModel):
            self._chosen = result.name
            self._verified[result.folder] = _state_of(result.folder), ""
            self._end(
                _("The model {name} was installed; its weights are those that it names.").format(name=result.name)
            )
            return
        self._verified[work.folder] = _state_of(work.folder), result
        self._end(result or _("The weights are those that the model names."))

    def _end(self, text: str) -> None:
        self._timer.stop()
        self._work.steps.close()
        self._work, self.ui.modelsStateLabel.text = None, text
        self.context.refresh_soon()


def _state_of(folder: Path) -> tuple:
    """Sizes and times of a model's files, by which a change of them is noticed."""
    paths = [folder / name for name in (DESCRIPTION_FILE, WEIGHTS_FILE)]
    states = [path.stat() if path.exists() else None for path in paths]
    return tuple(None if state is None else (state.st_size, state.st_mtime_ns) for state in states)

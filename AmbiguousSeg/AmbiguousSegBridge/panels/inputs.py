"""Section "Inputs": model, volumes, what of them, how many samples, and what that will take."""

from __future__ import annotations

from types import SimpleNamespace

import qt
from slicer.i18n import tr as _

from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.known_models import model_names
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import Choices, on_click, show_note
from AmbiguousSegBridge.parameters import CHANNELS
from AmbiguousSegBridge.scene.lesions import lesions_of
from AmbiguousSegLib.card import card_html, quality_lines
from AmbiguousSegLib.description import ModelDescription
from AmbiguousSegLib.quality import Quality, sampler_of
from AmbiguousSegLib.resources import DEFAULT_MODEL


class InputsPanel:
    """Shows and changes the inputs, and says what is missing of them."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.ui, self._context, self._request, self._controller = ui, controller.context, controller.request, controller
        self._models = Choices(ui.modelSelector, lambda name: setattr(self._context.parameters, "model", name))
        self._devices = Choices(ui.deviceSelector, lambda name: setattr(self._context.parameters, "device", name))
        self._described: tuple = (None, None)  # whose model card and qualities show, and which
        self._request.watchers.append(self._tell)
        on_click(ui.browseModelButton, self._on_browse)
        on_click(ui.sampleDataButton, controller.load_sample_data)
        on_click(ui.placePointButton, controller.place_point)
        ui.limitSlicesCheckBox.connect("clicked(bool)", self._on_limit_slices)
        ui.regionSelector.connect("nodeAddedByUser(vtkMRMLNode*)", controller.fit_region)

    def show(self, snapshot: Snapshot) -> None:
        """Show the state."""
        chosen = snapshot.parameters.model or DEFAULT_MODEL
        self._models.show({name: name for name in model_names(chosen)}, chosen)
        self._show_devices(snapshot.parameters.device)
        described = snapshot.parameters, snapshot.model or snapshot.model_problem
        if any(now is not before for now, before in zip(described, self._described)):
            self._described = described
            self._show_card(snapshot)
            self._show_channels(snapshot.model)
            self._show_quality(snapshot.model)
        self._show_slices(snapshot)
        self._show_lesions(snapshot)
        self._tell()

    def stop(self) -> None:
        """Nothing waits here."""

    def _tell(self) -> None:
        """What is said of the request, which may change without any other event."""
        self.ui.estimateLabel.text = self._request.text
        show_note(self.ui.inputWarningLabel, "\n".join(self._request.warnings))
        show_note(self.ui.regionLabel, self._request.region_note())

    def _show_card(self, snapshot: Snapshot) -> None:
        model, ui = snapshot.model, self.ui
        if model is None:
            ui.cardLabel.text, ui.modelLabel.text, ui.cardSection.collapsed = snapshot.model_problem, "", False
            return
        ui.cardLabel.text = card_html(model)
        ui.modelLabel.text = _("Marks: {label}. Expects: {channels} ({values}). Trained on: {data}").format(
            label=", ".join(label.name for label in model.labels),
            channels=", ".join(model.channels),
            values=model.intensity,
            data=model.card.training.get("data") or _("not stated"),
        )

    def _show_channels(self, model: ModelDescription | None) -> None:
        names = () if model is None else model.channels
        for number in range(1, CHANNELS + 1):
            label, wanted = getattr(self.ui, f"channelLabel{number}"), number <= len(names)
            label.visible = getattr(self.ui, f"channelSelector{number}").visible = wanted
            label.text = _("{channel}:").format(channel=names[number - 1]) if wanted else ""

    def _show_devices(self, chosen: str) -> None:
        names = {"auto": _("Automatic: a GPU if there is one")}
        for device in (self._context.runner.about or {}).get("devices", []):
            free, text = device.get("free_bytes"), _("{device}, {free:.1f} GB free")
            title = device["title"]
            names[device["name"]] = text.format(device=title, free=free / 1e9) if free else title
        names.setdefault("cpu", _("CPU"))
        names.setdefault(chosen, chosen)
        self._devices.show(names, chosen)

    def _show_quality(self, model: ModelDescription | None) -> None:
        """Steps of each quality in the selector, in its tool tip what each was measured to give."""
        selector, by_steps = self.ui.qualitySelector, model is not None and model.samples_by_steps
        selector.enabled = by_steps
        for index, quality in enumerate(Quality):
            text = quality.label()
            if by_steps:
                sampler = sampler_of(quality, model.training_steps, model.qualities, model.sampler_family)
                text = _("{quality} ({steps} steps)").format(quality=text, steps=sampler.steps)
            elif model is not None:
                text = _("One pass")
            selector.setItemText(index, text)
        if model is None:
            selector.toolTip = ""
            return
        tip = _("Denoising steps per segmentation: more steps take longer.")
        if not by_steps:
            tip = _("This model draws a segmentation in one pass: there are no steps to choose.")
        measured = quality_lines(model) or [_("What it gives was not measured for this model.")]
        selector.toolTip = "\n".join([tip, *measured])

    def _show_slices(self, snapshot: Snapshot) -> None:
        slices, text = snapshot.slices, _("of {count}, counted from 0")
        for box in (self.ui.firstSliceSpinBox, self.ui.lastSliceSpinBox):
            box.enabled = snapshot.parameters.limitSlices and snapshot.parameters.points is None
            if isinstance(slices, int):
                box.maximum = slices - 1
        self.ui.sliceCountLabel.text = text.format(count=slices) if isinstance(slices, int) else slices or ""

    def _show_lesions(self, snapshot: Snapshot) -> None:
        """Slices and region are of no account where lesions are pointed at."""
        points = snapshot.parameters.points
        count = 0 if points is None else len(lesions_of(points))
        text = _("{count} lesions are segmented one after the other, each as a run of its own.").format(count=count)
        if points is None:
            text = ""
        elif count == 0:
            text = _("Click a lesion in a slice view.")
        elif count == 1:
            text = _("The lesion is segmented slice by slice, outward from the point.")
        show_note(self.ui.pointsTextLabel, text)
        for widget in (self.ui.regionSelector, self.ui.limitSlicesCheckBox):
            widget.enabled = points is None
        self.ui.placePointButton.enabled = snapshot.parameters.channel1 is not None

    def _on_limit_slices(self, limited: bool) -> None:
        """Limits that were never set are those of the volume."""
        parameters = self._context.parameters
        if limited and parameters.lastSlice == 0 and parameters.firstSlice == 0:
            parameters.lastSlice = self.ui.lastSliceSpinBox.maximum

    def _on_browse(self) -> None:
        if folder := qt.QFileDialog.getExistingDirectory(None, _("Folder of a model"), ""):
            self._controller.use_model(folder)

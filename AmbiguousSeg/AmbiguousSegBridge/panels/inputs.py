"""Section "Inputs": model, volumes, what of them, how many samples, and what that will take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.generation import Settings, sample_job, slice_count
from AmbiguousSegBridge.panels.context import Context, silent
from AmbiguousSegBridge.panels.model_folders import SETTING, remembered_folders
from AmbiguousSegBridge.parameters import CHANNELS
from AmbiguousSegBridge.scene import sample_data
from AmbiguousSegBridge.scene.fit import input_warnings
from AmbiguousSegBridge.scene.grid import geometry_of, is_turned, region_of
from AmbiguousSegBridge.scene.lesions import lesions_of
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.runner import Failure, Job, Listener
from AmbiguousSegLib.card import card_html, quality_lines
from AmbiguousSegLib.description import ModelDescription, read_description
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.quality import Quality, sampler_of
from AmbiguousSegLib.resources import DEFAULT_MODEL, DEMO_MODEL, bundled_models, find_model, installed_models
from AmbiguousSegLib.volume.geometry import SliceAxes

ESTIMATE_AFTER_MS = 700  # without a change


class InputsPanel:
    """Shows and changes the inputs, and says what is missing of them."""

    def __init__(self, context: Context) -> None:
        self.context, self.ui = context, context.ui
        self._folders = [str(folder) for folder in remembered_folders()]
        self._estimate: tuple[int, str] | None = None  # number of the job under way, and what it was asked
        self._estimated = ""  # what the label shows the estimate of
        self._lesions = 1  # how many things it was asked for
        self._refused = ("", "")  # what the worker was asked last and cannot do, and why
        self._reason = ""  # why the button is disabled, as it was shown last
        self._checked: tuple | None = None  # what the warnings shown were found for
        self._estimate_timer = qt.QTimer()
        self._estimate_timer.setSingleShot(True)
        self._estimate_timer.connect("timeout()", self.ask_estimate)
        self.ui.modelSelector.connect("activated(int)", self._on_model)
        self.ui.deviceSelector.connect("activated(int)", self._on_device)
        self.ui.browseModelButton.connect("clicked(bool)", self._on_browse)
        self.ui.limitSlicesCheckBox.connect("clicked(bool)", self._on_limit_slices)
        self.ui.sampleDataButton.connect("clicked(bool)", self._on_sample_data)
        self.ui.regionSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self._on_new_region)

    def refresh(self) -> None:
        """Show the state."""
        self._show_models()
        self._show_devices()
        model = self.model()
        names = () if model is None else model.channels
        for number in range(1, CHANNELS + 1):
            wanted = number <= len(names)
            label = getattr(self.ui, f"channelLabel{number}")
            label.visible = getattr(self.ui, f"channelSelector{number}").visible = wanted
            label.text = f"{names[number - 1]}:" if wanted else ""
        self._show_quality(model)
        self._show_slices(model)
        self._show_region()
        self.schedule_estimate()

    def model(self) -> ModelDescription | None:
        """The chosen model; None if it cannot be read, which the card then says."""
        try:
            model = read_description(find_model(self.context.parameters.model or None))
        except (OSError, ValueError) as error:
            self.ui.cardLabel.text = str(error)
            self.ui.modelLabel.text = ""
            self.ui.cardSection.collapsed = False
            return None
        self.ui.cardLabel.text = card_html(model)
        self.ui.modelLabel.text = _("Marks: {label}. Expects: {channels} ({values}). Trained on: {data}").format(
            label=", ".join(label.name for label in model.labels),
            channels=", ".join(model.channels),
            values=model.intensity,
            data=model.card.training.get("data") or _("not stated"),
        )
        return model

    def settings(self) -> list[Settings]:
        """What the panel asks for, once for each lesion that is pointed at.

        Raises:
            ValueError: it is not complete or cannot work; the reason, in one line.
        """
        refused, reason = self._refused
        asked = self._chosen()
        for settings in asked:
            try:
                job = sample_job(settings, kind="estimate")
                _check_region(settings)
                if _text_of(job) == refused:
                    raise ValueError(reason)
            except ValueError as error:
                if len(asked) == 1:
                    raise
                raise ValueError(_("{lesion}: {reason}").format(lesion=settings.lesion, reason=error)) from error
        return asked

    def _chosen(self) -> list[Settings]:
        parameters = self.context.parameters
        model = read_description(find_model(parameters.model or None))
        if len(model.channels) > CHANNELS:
            raise ValueError(
                f"The model reads {len(model.channels)} channels, the panel has {CHANNELS} selectors. Use batch.py."
            )
        volumes = [getattr(parameters, f"channel{number}") for number in range(1, len(model.channels) + 1)]
        missing = [name for name, volume in zip(model.channels, volumes) if volume is None]
        if missing:
            raise ValueError(_("Choose a volume for: {names}").format(names=", ".join(missing)))
        everywhere = Settings(
            model,
            tuple(volumes),
            parameters.samples,
            parameters.quality,
            parameters.seed,
            parameters.device,
            refine=DenseCRFConfig() if parameters.refineBorders else None,
        )
        if parameters.points is not None:
            lesions = lesions_of(parameters.points)
            if not lesions:
                raise ValueError(_("Click a lesion in a slice view, or choose no points"))
            return [replace(everywhere, point=lesion.position, lesion=lesion.name) for lesion in lesions]
        slices = (parameters.firstSlice, parameters.lastSlice) if parameters.limitSlices else None
        if slices is not None and slices[0] > slices[1]:
            raise ValueError(_("The first slice comes after the last one"))
        return [replace(everywhere, region=parameters.region, slice_range=slices)]

    def ask_estimate(self) -> None:
        """Ask the worker how long the chosen inputs will take; nothing where that cannot be known yet."""
        if self.context.generating or self._estimate is not None or self.context.parameters is None:
            return
        self._show_region()  # it may have been moved, which nobody else is told
        try:
            settings, *others = self.settings()
            job, reason = sample_job(settings, kind="estimate"), ""
        except (OSError, ValueError) as error:
            job, reason = None, str(error)
            self.show_warnings([])
        else:
            self._check(settings)
        if reason != self._reason:
            self._reason = reason
            self.context.refresh_soon()  # the button, too
        if job is None:
            self._show_estimate(reason)
            return
        asked = _text_of(job)
        if asked == self._estimated and self._lesions == 1 + len(others):
            return
        if packages.incomplete():
            self._show_estimate(_("Time and memory are estimated once the needed packages are installed."))
            return
        self._show_estimate(_("Estimating time and memory..."))
        listener = Listener(finished=self._on_estimate, failed=self._on_no_estimate, cancelled=self._on_cancelled)
        self._estimate = self.context.runner.start(job, listener), asked
        self._lesions = 1 + len(others)

    def show_warnings(self, warnings: list[str]) -> None:
        """Tell in what the volumes differ from what the model was trained on."""
        self._checked = None
        self.ui.inputWarningLabel.text = "\n".join(warnings)
        self.ui.inputWarningLabel.visible = bool(warnings)

    def cancel_estimate(self) -> None:
        """Whatever is to be computed now need not wait for an estimate."""
        self._estimate_timer.stop()
        if self._estimate is not None:
            self.context.runner.cancel(self._estimate[0])

    def stop(self) -> None:
        """No more estimates: the scene or the module is being closed."""
        self._estimate_timer.stop()
        self._reason = ""

    def schedule_estimate(self) -> None:
        """Estimate soon: the inputs may have changed."""
        self._estimate_timer.start(ESTIMATE_AFTER_MS)

    def _check(self, settings: Settings) -> None:
        """Show the warnings; they are found anew only where model, volumes or region are others than before."""
        region = None if settings.region is None else region_of(settings.region, settings.volumes[0])
        volumes = [(v.GetID(), v.GetMTime(), v.GetImageData().GetMTime()) for v in settings.volumes]
        key = settings.model.folder, settings.model.weights_sha256, tuple(volumes), region
        if key != self._checked:
            self.show_warnings(input_warnings(settings.model, settings.volumes, region))
            self._checked = key

    def _on_estimate(self, result: dict[str, Any], _folder: Path) -> None:
        text = _("About {time} and {memory} on {device}: {samples} x {slices} slices, {evaluations} passes").format(
            time=in_words(result["seconds"]),
            memory=f"{max(1, round(result['memory_bytes'] / 1e6))} MB",
            device=result["device"],
            samples=json.loads(self._estimate[1])["samples"],
            slices=result["slices"],
            evaluations=result["evaluations"],
        )
        if self._lesions > 1:
            text = _("{estimate}, for each of {count} lesions").format(estimate=text, count=self._lesions)
        asked, self._estimate, self._refused = self._estimate[1], None, ("", "")
        self._show_estimate(text, asked)
        if self.context.parameters is not None:
            self._show_devices()
            self.schedule_estimate()  # the inputs may have changed meanwhile

    def _on_no_estimate(self, failure: Failure) -> None:
        asked, self._estimate = self._estimate[1], None
        reason = f"{failure.message} {failure.remedy}".strip()
        # Remembered as answered: asking the same again would fail again.
        self._show_estimate(reason, asked)
        if failure.kind == "bad_input":  # so would sampling
            self._refused = (asked, reason)
            self.context.refresh_soon()

    def _on_cancelled(self) -> None:
        self._estimate = None
        self._show_estimate("")

    def _show_estimate(self, text: str, asked: str = "") -> None:
        self.ui.estimateLabel.text = text
        self._estimated = asked

    def _show_models(self) -> None:
        selector, chosen = self.ui.modelSelector, self.context.parameters.model or DEFAULT_MODEL
        models = [folder.name for folder in [*bundled_models(), *installed_models()]]
        models += [folder for folder in self._folders if folder not in models]
        if chosen not in models:
            models.append(chosen)
        with silent(selector):
            selector.clear()
            for model in models:
                selector.addItem(model)
            selector.currentIndex = models.index(chosen)

    def _show_devices(self) -> None:
        about, chosen = self.context.runner.about or {}, self.context.parameters.device
        names = {"auto": _("Automatic: a GPU if there is one")}
        for device in about.get("devices", []):
            free = device.get("free_bytes")
            names[device["name"]] = device["title"] + (f", {free / 1e9:.1f} GB free" if free else "")
        names.setdefault("cpu", _("CPU"))
        names.setdefault(chosen, chosen)
        with silent(self.ui.deviceSelector):
            self.ui.deviceSelector.clear()
            for name, title in names.items():
                self.ui.deviceSelector.addItem(title, name)
            self.ui.deviceSelector.currentIndex = list(names).index(chosen)

    def _show_quality(self, model: ModelDescription | None) -> None:
        """Steps of each quality in the selector, in its tool tip what each was measured to give."""
        selector, by_steps = self.ui.qualitySelector, model is not None and model.samples_by_steps
        selector.enabled = by_steps
        for index, quality in enumerate(Quality):
            text = quality.label()
            if by_steps:
                sampler = sampler_of(quality, model.training_steps, model.qualities, model.sampler_family)
                text += _(" ({steps} steps)").format(steps=sampler.steps)
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

    def _show_slices(self, model: ModelDescription | None) -> None:
        parameters = self.context.parameters
        count = 0
        if model is not None and parameters.channel1 is not None:
            try:
                count = slice_count(model, parameters.channel1)
            except ValueError as error:  # an empty or sheared volume
                self.ui.sliceCountLabel.text = str(error)
                return
        if count and max(parameters.firstSlice, parameters.lastSlice) >= count:  # chosen for another volume
            with slicer.util.NodeModify(parameters):
                parameters.limitSlices, parameters.firstSlice, parameters.lastSlice = False, 0, 0
        for box in (self.ui.firstSliceSpinBox, self.ui.lastSliceSpinBox):
            box.enabled = parameters.limitSlices and parameters.points is None
            if count:
                box.maximum = count - 1
        self.ui.sliceCountLabel.text = _("of {count}, counted from 0").format(count=count) if count else ""

    def _show_region(self) -> None:
        region, volume, text = self.context.parameters.region, self.context.parameters.channel1, ""
        if region is not None and volume is not None and is_turned(region, volume):
            text = _("The box is turned against the volume or the patient; the upright box around it is used.")
        self.ui.regionLabel.text = text
        self.ui.regionLabel.visible = bool(text)

    def _on_model(self, _index: int) -> None:
        self.context.parameters.model = self.ui.modelSelector.currentText

    def _on_device(self, index: int) -> None:
        self.context.parameters.device = self.ui.deviceSelector.itemData(index)

    def _on_limit_slices(self, limited: bool) -> None:
        """Limits that were never set are those of the volume."""
        parameters = self.context.parameters
        if limited and parameters.lastSlice == 0 and parameters.firstSlice == 0:
            parameters.lastSlice = self.ui.lastSliceSpinBox.maximum

    def _on_new_region(self, region: slicer.vtkMRMLMarkupsROINode) -> None:
        """A region starts as the whole volume, to be made smaller in the views."""
        volume = self.context.parameters.channel1
        if volume is None:
            return
        bounds = [0.0] * 6
        volume.GetRASBounds(bounds)
        low, high = bounds[0::2], bounds[1::2]
        region.SetCenterWorld([(a + b) / 2 for a, b in zip(low, high)])
        region.SetSizeWorld([b - a for a, b in zip(low, high)])

    def _on_browse(self, _checked: bool = False) -> None:
        folder = qt.QFileDialog.getExistingDirectory(None, _("Folder of a model"), "")
        if not folder:
            return
        with self.context.errors_shown(_("This folder holds no model that can be used.")):
            read_description(Path(folder))
            if folder not in self._folders:
                self._folders.append(folder)
                slicer.app.settings().setValue(SETTING, json.dumps(self._folders))
            self.context.parameters.model = folder

    def _on_sample_data(self, _checked: bool = False) -> None:
        volume, raters = sample_data.add_phantom(self.context.scene)
        with slicer.util.NodeModify(self.context.parameters):
            if self.context.parameters.model in ("", DEFAULT_MODEL):  # no choice of the user's
                self.context.parameters.model = DEMO_MODEL  # which was trained on such volumes
            self.context.parameters.channel1 = volume
            segments = list(raters.GetSegmentation().GetSegmentIDs())
            self.context.parameters.raterNodes = [raters] * len(segments)
            self.context.parameters.raterSegments = segments
        slicer.util.setSliceViewerLayers(background=volume, fit=True)


def _text_of(job: Job) -> str:
    """What a job is asked, to be compared with what was asked before."""
    return json.dumps(job.arguments, sort_keys=True)


def _check_region(settings: Settings) -> None:
    """ValueError in one line if region and slice range leave nothing of the volume; the worker would refuse it, too."""
    if settings.region is None:
        return
    geometry, region = geometry_of(settings.volumes[0]), region_of(settings.region, settings.volumes[0])
    try:
        low, high = SliceAxes.of(geometry, settings.model.plane).box(geometry, region)[0]
    except ValueError as error:
        name = settings.region.GetName()
        raise ValueError(_("The region {name} does not overlap the volume").format(name=name)) from error
    first, last = settings.slice_range or (low, high)
    if first > high or last < low:
        text = _("The region holds the slices {low} to {high}; slices {first} to {last} are chosen")
        raise ValueError(text.format(low=low, high=high, first=first, last=last))


def in_words(seconds: float) -> str:
    """A duration as people say it: "8 s", "3 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

"""What the inputs ask for: whether it can be sampled, how it differs from what was trained on, what it will take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.work import Work, in_one_line
from AmbiguousSegBridge.context import Context, later
from AmbiguousSegBridge.known_models import describe
from AmbiguousSegBridge.parameters import CHANNELS
from AmbiguousSegBridge.scene.fit import input_warnings
from AmbiguousSegBridge.scene.grid import geometry_of, is_turned, region_of
from AmbiguousSegBridge.scene.lesions import lesions_of
from AmbiguousSegBridge.settings import Settings, sample_job
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.runner import Failure, Job, Listener
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.volume.geometry import SliceAxes

ESTIMATE_AFTER_MS = 700  # without a change


class Request(Work):
    """Settings of the inputs as they are; the worker estimates what they take.

    Attributes:
        warnings: in what the volumes differ from what the model was trained on, sentences for the user.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.warnings: list[str] = []
        self._checked: tuple | None = None  # what the warnings were found for
        self._asked = ""  # what is being estimated
        self._estimated = ""  # what the text is the estimate of
        self._lesions = 1  # how many things it was asked for
        self._refused = ("", "")  # what the worker was asked last and cannot do, and why
        self._reason = ""  # why it cannot be sampled, as it was told last
        self._timer = later(self.ask)

    def settings(self) -> list[Settings]:
        """What the panel asks for, once for each lesion that is pointed at.

        Raises:
            OSError, ValueError: it is not complete or cannot work; the reason, in one line.
        """
        refused, reason = self._refused
        asked = _chosen(self.context.parameters)
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

    def problem(self) -> str:
        """Why it cannot be sampled, which is then told in place of an estimate; empty where it can."""
        try:
            self.settings()
        except (OSError, ValueError) as error:
            self._reason = str(error)
            if self.text != self._reason:
                self._say(self._reason)
        else:
            self._reason = ""
        return self._reason

    def region_note(self) -> str:
        """What becomes of the region of interest, if it is not used as it is."""
        parameters = self.context.parameters
        region, volume = (None, None) if parameters is None else (parameters.region, parameters.channel1)
        if region is None or volume is None or not is_turned(region, volume):
            return ""
        return _("The box is turned against the volume or the patient; the upright box around it is used.")

    def ask(self) -> None:
        """Ask the worker how long the chosen inputs will take; nothing where that cannot be known yet."""
        if self.context.generating or self.busy or self.context.parameters is None:
            return
        try:
            settings, *others = self.settings()
            job, reason = sample_job(settings, kind="estimate"), ""
        except (OSError, ValueError) as error:
            job, reason = None, str(error)
            self.warn([])
        else:
            self._check(settings)
        if reason != self._reason:
            self._reason = reason
            self.context.refresh_soon()  # the button, too
        if job is None:
            self._say(reason)
            return
        asked, lesions = _text_of(job), 1 + len(others)
        if asked == self._estimated and lesions == self._lesions:
            self._say(self.text, asked)  # the region may have been moved, which nobody else is told
        elif packages.incomplete():
            self._say(_("Time and memory are estimated once the needed packages are installed."))
        else:
            self._say(_("Estimating time and memory..."))
            listener = Listener(finished=self._finished, failed=self._refuse, cancelled=self._cancelled)
            self._number, self._asked, self._lesions = self.context.runner.start(job, listener), asked, lesions

    def warn(self, warnings: list[str]) -> None:
        """Tell in what the volumes differ from what the model was trained on."""
        self._checked, self.warnings = None, warnings
        self.tell(self.text)

    def schedule(self) -> None:
        """Estimate soon: the inputs may have changed."""
        self._timer.start(ESTIMATE_AFTER_MS)

    def cancel(self) -> None:
        """Whatever is to be computed now need not wait for an estimate."""
        self._timer.stop()
        super().cancel()

    def stop(self) -> None:
        """No more estimates: the scene or the module is being closed."""
        self._timer.stop()
        self._reason = ""

    def _check(self, settings: Settings) -> None:
        """Find the warnings, anew only where model, volumes or region are others than before."""
        region = None if settings.region is None else region_of(settings.region, settings.volumes[0])
        volumes = [(v.GetID(), v.GetMTime(), v.GetImageData().GetMTime()) for v in settings.volumes]
        key = settings.model.folder, settings.model.weights_sha256, tuple(volumes), region
        if key != self._checked:
            self.warn(input_warnings(settings.model, settings.volumes, region))
            self._checked = key

    def _finished(self, result: dict[str, Any], _folder: Path) -> None:
        text = _("About {time} and {memory} MB on {device}: {samples} x {slices} slices, {evaluations} passes")
        if self._lesions > 1:
            text = _(
                "About {time} and {memory} MB on {device}: {samples} x {slices} slices, {evaluations} passes, "
                "for each of {lesions} lesions"
            )
        text = text.format(
            time=in_words(result["seconds"]),
            memory=max(1, round(result["memory_bytes"] / 1e6)),
            device=result["device"],
            samples=json.loads(self._asked)["samples"],
            slices=result["slices"],
            evaluations=result["evaluations"],
            lesions=self._lesions,
        )
        self._number, self._refused = None, ("", "")
        self._say(text, self._asked)
        self.context.refresh_soon()  # the devices are known now, and the inputs may have changed meanwhile

    def _refuse(self, failure: Failure) -> None:
        self._number, reason = None, in_one_line(failure)
        self._say(reason, self._asked)  # remembered as answered: asking the same again would fail again
        if failure.kind == "bad_input":  # so would sampling
            self._refused = self._asked, reason
            self.context.refresh_soon()

    def _cancelled(self) -> None:
        self._number = None
        self._say("")

    def _say(self, text: str, asked: str = "") -> None:
        self._estimated = asked
        self.tell(text)


def _chosen(parameters: Any) -> list[Settings]:
    """Settings as the panel has them, for each lesion; ValueError where something is missing."""
    model = describe(parameters.model)
    if len(model.channels) > CHANNELS:
        text = _("The model reads {channels} channels, the panel has {selectors} selectors. Use batch.py.")
        raise ValueError(text.format(channels=len(model.channels), selectors=CHANNELS))
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
    minutes = round(seconds / 60)
    text = _("{seconds} s") if seconds < 90 else _("{minutes} min") if minutes < 90 else _("{hours} h {rest} min")
    return text.format(seconds=max(1, round(seconds)), minutes=minutes, hours=minutes // 60, rest=minutes % 60)

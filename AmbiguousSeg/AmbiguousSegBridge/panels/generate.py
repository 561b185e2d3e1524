"""The button "Generate N segmentations", its progress, and "More segmentations"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.generation import Events, Generation, Settings, more_of
from AmbiguousSegBridge.panels.context import Context
from AmbiguousSegBridge.panels.inputs import InputsPanel, in_words
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.worker.runner import Failure

PROGRESS_STEPS = 1000


class GeneratePanel:
    """Starts and stops sampling, and tells how far it is.

    Args:
        on_sample: called, without arguments, after each sample that has come into the scene, of a new run or of more.
        on_run: called with a run that is complete, or that was stopped with samples.
    """

    def __init__(
        self,
        context: Context,
        inputs: InputsPanel,
        on_sample: Callable[[], None],
        on_run: Callable[[Run], None],
    ) -> None:
        self.context, self.ui, self.inputs = context, context.ui, inputs
        self._on_sample, self._on_run = on_sample, on_run
        self._generation: Generation | None = None
        self._lesion = ""  # that is sampled, by name; empty where none is pointed at
        self._waiting: list[Settings] = []  # of further lesions
        self._cancelling = False
        self._told_of: slicer.vtkMRMLScalarVolumeNode | None = None  # mean map of the run that the status speaks of
        self.ui.progressBar.hide()
        self.ui.generateButton.connect("clicked(bool)", self._on_generate)
        self.ui.moreButton.connect("clicked(bool)", self._on_more)

    @property
    def busy(self) -> bool:
        return self.context.generating

    @property
    def arriving(self) -> list[slicer.vtkMRMLSegmentationNode]:
        """Samples of the run that is being made."""
        return [] if self._generation is None else self._generation.samples

    def refresh(self) -> None:
        """Enable what can work; the tool tip says why what cannot. The status speaks of no run that is gone."""
        if self._told_of is not None and not self.context.scene.IsNodePresent(self._told_of):
            self._notify("")
        if self.busy:
            self.ui.generateButton.enabled = not self._cancelling
            self.ui.generateButton.text = _("Cancelling...") if self._cancelling else _("Cancel")
            self.ui.generateButton.toolTip = _("Stop; the segmentations made so far are kept")
            self.ui.moreButton.enabled = False
            self.ui.moreButton.toolTip = _("Wait until the samples are there")
            return
        self.ui.generateButton.text = _("Generate {n} segmentations").format(n=self.context.parameters.samples)
        self._enable(self.ui.generateButton, self.inputs.settings, _("Sample plausible segmentations of the volume"))
        self._enable(
            self.ui.moreButton, lambda: [self._more()], _("Add to this run; its samples are not computed again")
        )

    def stop(self) -> None:
        """The scene is about to be closed: keep nothing. To be followed by the runner's ``stop``."""
        if self._generation is not None:
            self._generation.abandon()
        self._waiting, self._cancelling = [], False
        self._notify("")

    def _enable(self, button: Any, settings: Callable[[], list[Settings]], tip: str) -> None:
        try:
            settings()
        except (OSError, ValueError) as error:
            button.enabled, button.toolTip = False, str(error)
        else:
            button.enabled, button.toolTip = True, tip

    def _on_generate(self, _checked: bool = False) -> None:
        if self.busy:
            self._cancelling = True
            self._generation.cancel()
            self.refresh()
            return
        self._start(self.inputs.settings)

    def _on_more(self, _checked: bool = False) -> None:
        self._start(lambda: [self._more()], self.context.run())

    def _more(self) -> Settings:
        run, parameters = self.context.run(), self.context.parameters
        if run is None:
            raise ValueError(_("There is no run to add to"))
        return more_of(run, parameters.moreSamples, parameters.device)

    def _start(self, settings: Callable[[], list[Settings]], extends: Run | None = None, nothing: str = "") -> None:
        """Begin with the first of the settings; ``nothing`` says what is not made where that cannot be."""
        nothing = nothing or _nothing("", [])
        with self.context.errors_shown(nothing):
            if not self.context.packages_there(nothing):
                return
            events = Events(self._show_progress, lambda _node: self._on_sample(), self._on_end)
            self._cancelling = False
            threshold = self.context.parameters.consensusThreshold
            first, *waiting = settings()
            self._generation = Generation(self.context.scene, self.context.runner, first, events, extends, threshold)
            self._lesion, self._waiting = first.lesion, waiting
            self.inputs.cancel_estimate()  # sampling is not to wait for it
            self.inputs.show_warnings(self._generation.warnings)
            self.context.generating = True
            self.ui.progressBar.maximum = 0  # moves without a figure: the worker may have to start
            self.ui.progressBar.show()
            self._notify(_("Starting..."))
            self.refresh()
            self.context.refresh_soon()

    def _show_progress(self, progress: dict[str, Any]) -> None:
        self.ui.progressBar.maximum = PROGRESS_STEPS
        self.ui.progressBar.value = round(PROGRESS_STEPS * progress["share"])
        text = _("Slice {slice} of {slices}, sample {sample} of {samples}").format(
            slice=progress["slices_done"],
            slices=progress["slices"],
            sample=progress["samples_done"],
            samples=progress["samples"],
        )
        if progress["seconds_left"] is not None:
            text += _(", {time} left").format(time=in_words(progress["seconds_left"]))
        self._notify(text)

    def _notify(self, text: str, run: Run | None = None) -> None:
        self._told_of = None if run is None else run.mean
        self.ui.statusLabel.text = text

    def _on_end(self, run: Run | None, failure: Failure | None) -> None:
        cancelled, self._generation, self._cancelling = self._cancelling, None, False
        waiting, self._waiting = self._waiting, []
        self.context.generating = False
        self.ui.progressBar.hide()
        if self.context.parameters is None:  # the scene is being closed
            self._notify("")
            return
        left = waiting if cancelled or failure is not None else []
        if run is None:
            self._notify(_and_not_begun(_("Cancelled; nothing was added."), left) if cancelled else "")
        else:
            made = _("{count} samples in run {name}").format(count=len(run.samples), name=run.name)
            self._notify(_and_not_begun(made, left), run)
            self._on_run(run)
        if waiting and not left:
            self._start(lambda: waiting, nothing=_nothing(waiting[0].lesion, waiting[1:]))
        self.refresh()
        self.context.refresh_soon()
        if failure is not None:
            stopped = _and_not_begun(_("Sampling stopped early; the samples made so far are kept."), left)
            self.context.show_failure(failure, stopped if run is not None else _nothing(self._lesion, left))


def _nothing(lesion: str, waiting: list[Settings]) -> str:
    """That no run was made: of which lesion, if one was pointed at, and which others are not begun for it."""
    text = _("No segmentations were made.")
    if lesion:
        text = _("No segmentations were made of {lesion}.").format(lesion=lesion)
    return _and_not_begun(text, waiting)


def _and_not_begun(text: str, waiting: list[Settings]) -> str:
    """A sentence, and below it the lesions that were to follow, if there are any."""
    if not waiting:
        return text
    names = ", ".join(settings.lesion for settings in waiting)
    return _("{text}\nNot begun: {lesions}").format(text=text, lesions=names)

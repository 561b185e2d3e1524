"""The button "Generate N segmentations", its progress, and "More segmentations"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from AmbiguousSegBridge import packages
from AmbiguousSegBridge.generation import Events, Generation, Settings, more_of
from AmbiguousSegBridge.panels.context import Context
from AmbiguousSegBridge.panels.inputs import InputsPanel, in_words
from AmbiguousSegBridge.runner import Failure
from AmbiguousSegBridge.runs import Run

PROGRESS_STEPS = 1000


class GeneratePanel:
    """Starts and stops sampling, and tells how far it is.

    Args:
        on_sample: called with each sample of a new run that has come into the scene.
        on_run: called with a run that is complete, or that was stopped with samples.
    """

    def __init__(
        self,
        context: Context,
        inputs: InputsPanel,
        requirements: Path,
        on_sample: Callable[[], None],
        on_run: Callable[[Run], None],
    ) -> None:
        self.context, self.ui, self.inputs, self.requirements = context, context.ui, inputs, requirements
        self._on_sample, self._on_run = on_sample, on_run
        self._generation: Generation | None = None
        self._cancelling = False
        self.ui.progressBar.hide()
        self.ui.generateButton.connect("clicked(bool)", self._on_generate)
        self.ui.moreButton.connect("clicked(bool)", self._on_more)

    @property
    def busy(self) -> bool:
        return self.context.generating

    def refresh(self) -> None:
        """Enable what can work; the tool tip says why what cannot."""
        if self.busy:
            self.ui.generateButton.enabled = not self._cancelling
            self.ui.generateButton.text = _("Cancelling...") if self._cancelling else _("Cancel")
            self.ui.generateButton.toolTip = _("Stop; the segmentations that are there stay")
            self.ui.moreButton.enabled = False
            self.ui.moreButton.toolTip = _("Wait until the samples are there")
            return
        self.ui.generateButton.text = _("Generate {n} segmentations").format(n=self.context.parameters.samples)
        self._enable(self.ui.generateButton, self.inputs.settings, _("Sample plausible segmentations of the volume"))
        self._enable(self.ui.moreButton, self._more, _("Add to this run; what is there is not computed again"))

    def abandon(self) -> None:
        """The scene is about to be closed: keep nothing. To be followed by the runner's ``stop``."""
        if self._generation is not None:
            self._generation.abandon()

    def _enable(self, button: Any, settings: Callable[[], Settings], tip: str) -> None:
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
        self._start(self._more, self.context.run())

    def _more(self) -> Settings:
        run, parameters = self.context.run(), self.context.parameters
        if run is None:
            raise ValueError(_("There is no run to add to"))
        return more_of(run, parameters.moreSamples, parameters.device)

    def _start(self, settings: Callable[[], Settings], extends: Run | None = None) -> None:
        nothing = _("No segmentations were made.")
        try:
            packages.ensure(True, self.requirements)
        except packages.PackagesError as error:
            self.context.show_failure(Failure("missing_package", error.message, error.remedy, ""), nothing)
            return
        with self.context.errors_shown(nothing):
            new = extends is None
            events = Events(self._show_progress, lambda _node: self._on_sample() if new else None, self._on_end)
            self._cancelling = False
            threshold = self.context.parameters.consensusThreshold
            self._generation = Generation(
                self.context.scene, self.context.runner, settings(), events, extends, threshold
            )
            self.context.generating = True
            self.ui.progressBar.maximum = 0  # moves without a figure: the worker may have to start
            self.ui.progressBar.show()
            self.ui.statusLabel.text = _("Starting...")
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
        self.ui.statusLabel.text = text

    def _on_end(self, run: Run | None, failure: Failure | None) -> None:
        cancelled, self._generation, self._cancelling = self._cancelling, None, False
        self.context.generating = False
        self.ui.progressBar.hide()
        if self.context.parameters is None:  # the scene is being closed
            self.ui.statusLabel.text = ""
            return
        if run is None:
            self.ui.statusLabel.text = _("Cancelled; nothing was added.") if cancelled else ""
        else:
            self.ui.statusLabel.text = _("{count} samples in run {name}").format(count=len(run.samples), name=run.name)
            self._on_run(run)
        self.refresh()
        self.context.refresh_soon()
        if failure is not None:
            stopped = _("Sampling stopped early; what is there stays.")
            self.context.show_failure(failure, stopped if run is not None else _("No segmentations were made."))

"""Sampling: new runs, one for each lesion that is pointed at, and more samples of the run shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.request import Request, in_words
from AmbiguousSegBridge.actions.work import Work
from AmbiguousSegBridge.context import Context
from AmbiguousSegBridge.generation import Events, Generation, more_of
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.settings import Settings
from AmbiguousSegBridge.worker.runner import Failure


class Sampling(Work):
    """Starts and stops sampling, and tells how far it is.

    Args:
        request: what is asked for.
        arrived: called after each sample that has come into the scene, of a new run or of more.
        made: called with a run that is complete, or that was stopped with samples.

    Attributes:
        cancelling: whether it is to end early.
        share: of the work that is done; None: not known yet.
    """

    def __init__(
        self, context: Context, request: Request, arrived: Callable[[], None], made: Callable[[Run], None]
    ) -> None:
        super().__init__(context)
        self._request, self.arrived, self._made = request, arrived, made
        self.cancelling, self.share = False, None
        self._generation: Generation | None = None
        self._lesion = ""  # that is sampled, by name; empty where none is pointed at
        self._waiting: list[Settings] = []  # of further lesions
        self._told_of: slicer.vtkMRMLNode | None = None  # stands for the run that the text speaks of

    @property
    def busy(self) -> bool:
        """Whether samples are being made."""
        return self.context.generating

    @property
    def samples(self) -> list[slicer.vtkMRMLSegmentationNode]:
        """Those of the run that is being made that are in the scene."""
        return [] if self._generation is None else self._generation.samples

    def press(self) -> None:
        """Begin, or cancel what is under way."""
        if self.busy:
            self.cancel()
        else:
            self._start(self._request.settings)

    def cancel(self) -> None:
        """Stop soon; what was made so far is kept."""
        self.cancelling = True
        self._generation.cancel()
        self.context.refresh()

    def more(self) -> None:
        """Add to the run shown."""
        run = self.context.run()
        self._start(lambda: [self._more(run)], run)

    def problem_of_more(self, snapshot: Snapshot) -> str:
        """Why nothing can be added to the run shown; empty where it can."""
        if snapshot.generating:
            return _("Wait until the samples are there")
        try:
            self._more(snapshot.run)
        except (OSError, ValueError) as error:
            return str(error)
        return ""

    def forget_what_is_gone(self) -> None:
        """The text speaks of no run that was removed."""
        if self._told_of is not None and not self.context.scene.IsNodePresent(self._told_of):
            self._say("")

    def stop(self) -> None:
        """The scene is about to be closed: keep nothing. To be followed by the runner's ``stop``."""
        if self._generation is not None:
            self._generation.abandon()
        self._waiting, self.cancelling = [], False
        self._say("")

    def _more(self, run: Run | None) -> Settings:
        if run is None:
            raise ValueError(_("There is no run to add to"))
        return more_of(run, self.context.parameters.moreSamples, self.context.parameters.device)

    def _start(self, settings: Callable[[], list[Settings]], extends: Run | None = None, nothing: str = "") -> None:
        """Begin with the first of the settings; ``nothing`` says what is not made where that cannot be."""
        nothing = nothing or _nothing("", [])
        context = self.context
        with context.errors_shown(nothing):
            if not context.packages_there(nothing):
                return
            events = Events(self._progress, lambda _node: self.arrived(), self._ended)
            self.cancelling, self.share = False, None  # how far it is shows when the worker has started
            threshold = context.parameters.consensusThreshold
            first, *waiting = settings()
            self._generation = Generation(context.scene, context.runner, first, events, extends, threshold)
            self._lesion, self._waiting = first.lesion, waiting
            context.generating = True
            self._request.cancel()  # sampling is not to wait for an estimate
            self._request.warn(self._generation.warnings)
            self._say(_("Starting..."))
            context.refresh()

    def _progress(self, progress: dict[str, Any]) -> None:
        text = _("Slice {slice} of {slices}, sample {sample} of {samples}")
        if progress["seconds_left"] is not None:
            text = _("Slice {slice} of {slices}, sample {sample} of {samples}, {time} left")
        self.share = progress["share"]
        self._say(
            text.format(
                slice=progress["slices_done"],
                slices=progress["slices"],
                sample=progress["samples_done"],
                samples=progress["samples"],
                time=in_words(progress["seconds_left"] or 0),
            )
        )

    def _say(self, text: str, run: Run | None = None) -> None:
        self._told_of = None if run is None else run.node
        self.tell(text)

    def _ended(self, run: Run | None, failure: Failure | None) -> None:
        cancelled, self._generation, self.cancelling = self.cancelling, None, False
        waiting, self._waiting = self._waiting, []
        self.context.generating = False
        if self.context.parameters is None:  # the scene is being closed
            self._say("")
            return
        left = waiting if cancelled or failure is not None else []
        if run is None:
            self._say(_and_not_begun(_("Cancelled; nothing was added."), left) if cancelled else "")
        else:
            made = _("{count} samples in run {name}").format(count=len(run.samples), name=run.name)
            self._say(_and_not_begun(made, left), run)
            self._made(run)
        if waiting and not left:
            self._start(lambda: waiting, nothing=_nothing(waiting[0].lesion, waiting[1:]))
        self.context.refresh()
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
    """A sentence, and on a line of its own the lesions that were to follow, if there are any."""
    names = ", ".join(settings.lesion for settings in waiting)
    return "\n".join([text, *([_("Not begun: {lesions}").format(lesions=names)] if names else [])])

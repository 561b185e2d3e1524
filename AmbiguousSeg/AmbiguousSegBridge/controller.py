"""The one that acts for the panels: they raise intents here, and are shown a snapshot of what came of them."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.comparison import Comparison
from AmbiguousSegBridge.actions.display import Display
from AmbiguousSegBridge.actions.export import Export
from AmbiguousSegBridge.actions.modes import Modes
from AmbiguousSegBridge.actions.request import Request
from AmbiguousSegBridge.actions.sampling import Sampling
from AmbiguousSegBridge.context import Context, later
from AmbiguousSegBridge.known_models import describe, remember
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.scene import runs, sample_data, tables
from AmbiguousSegBridge.scene.lesions import new_list, place_next
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.scene.upkeep import Upkeep
from AmbiguousSegLib.resources import DEFAULT_MODEL, DEMO_MODEL

THRESHOLD_AFTER_MS = 150  # the slider at rest
CUT_AFTER_MS = 400
THRESHOLD_DECIMALS, MOST_THRESHOLD = 2, 0.99  # as the slider has them


class Controller:
    """Intents of the panels, each a method here or ``press`` of what is begun, under way and over.

    Attributes:
        request: what the inputs ask for, and what that takes.
        sampling, modes, comparison, export: what the worker does.
        display: what the views show.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.request = Request(context)
        self.display = Display(context)
        self.sampling = Sampling(context, self.request, self.display.arrived, self._made)
        self.modes = Modes(context)
        self.comparison = Comparison(context)
        self.export = Export(context)
        self._works = (self.sampling, self.request, self.display, self.modes, self.comparison, self.export)
        self._upkeep = Upkeep()
        self._panels_of: tuple = (None, None)  # parameter node, and what stands for the run, that the panels speak of
        self._threshold_timer, self._cut_timer = later(self.apply_threshold), later(context.refresh)

    def look(self) -> Snapshot:
        """The scene as it is to be shown: with a run selected if there is one, and what is kept of it up to date."""
        now = self.context.snapshot()
        if now.run is None and now.runs:
            self.context.select(now.runs[-1])
            now = self.context.snapshot()
        self._follow(now)
        if self._renewed(now):
            now = self.context.snapshot()
        self._limit_slices(now)
        self.sampling.forget_what_is_gone()
        if now.in_front and not self._cut_timer.active:
            self.modes.ask(now)
        self.comparison.show_raters(now)
        self.display.show(now)
        self.request.schedule()
        return now

    def stop(self) -> None:
        """The scene is being closed: nothing that waits may still act."""
        self._threshold_timer.stop()
        self._cut_timer.stop()
        for work in self._works:
            work.stop()
        self._panels_of, self._upkeep = (None, None), Upkeep()

    def load_sample_data(self) -> None:
        """A phantom with the outlines of four raters, chosen as input and as raters."""
        volume, raters = sample_data.add_phantom(self.context.scene)
        parameters, segments = self.context.parameters, list(raters.GetSegmentation().GetSegmentIDs())
        with slicer.util.NodeModify(parameters):
            if parameters.model in ("", DEFAULT_MODEL):  # no choice of the user's
                parameters.model = DEMO_MODEL  # which was trained on such volumes
            parameters.channel1 = volume
            parameters.raterNodes, parameters.raterSegments = [raters] * len(segments), segments
        slicer.util.setSliceViewerLayers(background=volume, fit=True)

    def use_model(self, folder: str) -> None:
        """Choose the model in a folder, and offer it from now on."""
        with self.context.errors_shown(_("This folder holds no model that can be used.")):
            describe(folder)
            remember(folder)
            self.context.parameters.model = folder

    def place_point(self) -> None:
        """The next click in a view points at a lesion."""
        parameters = self.context.parameters
        if parameters.points is None:
            parameters.points = new_list(self.context.scene, _("Lesions"), _("lesion %d"))
        place_next(parameters.points)

    def fit_region(self, region: slicer.vtkMRMLMarkupsROINode) -> None:
        """A region starts as the whole volume, to be made smaller in the views."""
        volume = self.context.parameters.channel1
        if volume is not None:
            bounds = [0.0] * 6
            volume.GetRASBounds(bounds)
            low, high = bounds[0::2], bounds[1::2]
            region.SetCenterWorld([(a + b) / 2 for a, b in zip(low, high)])
            region.SetSizeWorld([b - a for a, b in zip(low, high)])

    def show_run(self, node_id: str) -> None:
        """Make the run for which this node stands the one shown."""
        for run in self.context.snapshot().runs:
            if run.node.GetID() == node_id:
                self.context.select(run)

    def remove_run(self) -> None:
        """Remove the run shown, if the user agrees."""
        run, question = self.context.run(), _("Remove run {name} with its {count} samples from the scene?")
        if run is not None and slicer.util.confirmOkCancelDisplay(
            question.format(name=run.name, count=len(run.samples))
        ):
            self.display.leave_grid()
            runs.remove_run(self.context.scene, run)

    def use_sample(self) -> None:
        """Copy the sample that is shown alone into an ordinary segmentation."""
        now = self.context.snapshot()
        if now.run is not None and now.sample_alone is not None:  # it may have gone a moment before the press
            self._use(now.run, now.sample_alone)

    def use_consensus(self) -> None:
        """Copy the consensus into an ordinary segmentation."""
        run = self.context.run()
        if run is not None and run.consensus is not None:
            self._use(run, run.consensus)

    def plot_volumes(self) -> None:
        """Show the histogram of the samples' volumes."""
        run = self.context.run()
        if run is not None:
            with self.context.errors_shown(_("There is no plot to show.")):
                self.display.show_chart(tables.histogram(self.context.scene, run))

    def plot_disagreement(self) -> None:
        """Show the disagreement of the samples against that of the raters."""
        with self.context.errors_shown(_("There is no plot to show.")):
            if (chart := self.comparison.plot()) is not None:
                self.display.show_chart(chart)

    def cut_moved(self) -> None:
        """The user moves the slider of the modes: they are found when it rests."""
        self._cut_timer.start(CUT_AFTER_MS)

    def threshold_moved(self) -> None:
        """The user moves the slider of the consensus, which follows when it rests."""
        self._threshold_timer.start(THRESHOLD_AFTER_MS)

    def apply_threshold(self) -> None:
        """Make the consensus of the run follow the slider, if the user has moved it: the consensus may be edited."""
        run = self.context.run()
        if run is None or run.node is not self._panels_of[1]:
            return
        threshold, made_with = self.context.parameters.consensusThreshold, _threshold_of(run)
        if made_with is not None and threshold != made_with:
            with self.context.errors_shown(_("The consensus stays as it was.")):
                runs.set_consensus_threshold(self.context.scene, run, threshold)

    def _follow(self, now: Snapshot) -> None:
        """Where another run is shown, nothing that waits may still act; the slider has the threshold of that run."""
        panels_of = (now.parameters, None if now.run is None else now.run.node)
        if any(new is not before for new, before in zip(panels_of, self._panels_of)):
            self._panels_of = panels_of
            self._threshold_timer.stop()
            self.display.forget_place()
            if not self.comparison.busy:
                self.comparison.tell("")
        moving = self._threshold_timer.active  # by the user, since the run was shown
        threshold = None if now.run is None else _threshold_of(now.run)
        if threshold is not None and not moving and now.parameters.consensusThreshold != threshold:
            now.parameters.consensusThreshold = threshold

    def _renewed(self, now: Snapshot) -> bool:
        """Make maps and volumes those of the samples that the user has left, as they are; whether they were not."""
        if now.run is None or not now.run.samples or now.generating:
            return False
        try:
            renewed = self._upkeep.renew(now.scene, now.run, edits=now.in_front)
        except ValueError as error:  # a mask was changed beyond reading
            self.sampling.tell(str(error))
            return False
        if self._upkeep.pending:
            self.context.refresh_soon()
        if renewed:
            self.display.forget_place()
        return renewed

    def _limit_slices(self, now: Snapshot) -> None:
        """A range of slices that the volume has not was chosen for another one."""
        parameters = now.parameters
        if isinstance(now.slices, int) and max(parameters.firstSlice, parameters.lastSlice) >= now.slices:
            with slicer.util.NodeModify(parameters):
                parameters.limitSlices, parameters.firstSlice, parameters.lastSlice = False, 0, 0

    def _made(self, run: Run) -> None:
        """A run that has just been completed, or stopped, becomes the one shown, at the slice of most disagreement."""
        self.context.select(run)
        self.display.forget_place()  # there may be more samples than before
        self.context.refresh()
        if self.context.in_front():
            self.display.jump(1)

    def _use(self, run: Run, source: slicer.vtkMRMLSegmentationNode) -> None:
        with self.context.errors_shown(_("Nothing was copied.")):
            node = runs.use_as_segmentation(self.context.scene, run, source)
            self.sampling.tell(_("Copied to segmentation {name}").format(name=node.GetName()))


def _threshold_of(run: Run) -> float | None:
    """Threshold of the run's consensus as the slider can show it; None where it takes none."""
    threshold = run.consensus_threshold
    return None if threshold is None else min(round(threshold, THRESHOLD_DECIMALS), MOST_THRESHOLD)

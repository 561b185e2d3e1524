"""The views: which samples, map and slice of the run shown they show, one over the other or side by side."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.modes import rows_of
from AmbiguousSegBridge.actions.work import Work
from AmbiguousSegBridge.context import Context
from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.scene import side_by_side, views
from AmbiguousSegBridge.scene.run_node import sample_index
from AmbiguousSegBridge.scene.runs import Run

SAMPLES, MODES = "samples", "modes"  # what is put side by side


class Display(Work):
    """Sets the views, while the module is in front; they are set anew only when what they are to show changes.

    Attributes:
        grid: what is side by side in a grid of views, SAMPLES or representatives of MODES; empty: nothing.
        text: the slice of disagreement that was jumped to.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.grid = ""
        self._in_grid = False  # the views are in the grid
        self._first = 0  # place of the first sample in the grid
        self._shown: tuple | None = None
        self._arriving = False  # samples of a run that is not complete yet are in the views
        self._places: list | None = None  # the run's slices by disagreement; None: not looked for yet
        self._place = -1

    def put_side_by_side(self, what: str) -> None:
        """Enter the grid with SAMPLES or MODES, or leave it (empty)."""
        if not what:
            self.leave_grid()
        elif self.context.has_views():
            self.grid, self._first = what, 0
        self.context.refresh()

    def leave_grid(self) -> None:
        """Show what the views showed before samples, or the modes' representatives, were put side by side."""
        if self.grid:
            self.grid, self._in_grid, self._first = "", False, 0
            side_by_side.leave(self.context.scene)
            self.context.refresh_soon()

    def turn_page(self, by: int) -> None:
        """Show the next samples in the grid, or those before."""
        run = self.context.run()
        if run is not None and run.samples:
            self._first = int(np.clip(self._first + by * side_by_side.MOST_VIEWS, 0, len(run.samples) - 1))
            self.context.refresh()

    def show_chart(self, chart: slicer.vtkMRMLPlotChartNode) -> None:
        """Show a plot; the layout becomes one that has a place for it."""
        self.leave_grid()
        slicer.modules.plots.logic().ShowChartInLayout(chart)

    def arrived(self) -> None:
        """A sample has arrived. Those of a new run are to be seen alone; in a grid, none before the run is complete."""
        if self.grid:
            side_by_side.hide_arriving(self.context.scene)
        elif not self._arriving and self.context.in_front():
            new = any(sample_index(node) == 0 for node in views.arriving_samples(self.context.scene))
            if new:  # more of a run begins behind its last sample
                views.hide_runs(self.context.scene)
            self._arriving = new

    def jump(self, by: int) -> None:
        """Go down (1) or up (-1) the run's slices in the order of disagreement."""
        run = self.context.run()
        if run is None:
            return
        if self._places is None:
            with self.context.errors_shown(_("There is no slice to go to.")):
                self._places = views.slices_of_most_disagreement(run)
        if (places := self._places) is None:
            return
        if not places:
            self.tell(_("the samples agree everywhere"))
            return
        self._place = int(np.clip(self._place + by, 0, len(places) - 1))
        number, position = places[self._place]
        views.jump_to(self.context.scene, position)
        text = _("slice {slice}, {place} of {count}")
        self.tell(text.format(slice=number, place=self._place + 1, count=len(places)))

    def forget_place(self) -> None:
        """The samples are others, or those of another run: so are the order of the slices and the pages."""
        self._places, self._place, self._first = None, -1, 0
        self.tell("")

    def follow_layout(self, snapshot: Snapshot) -> None:
        """The layout was changed by something else, such as the toolbar or a scene that was loaded: the grid, too."""
        shown = side_by_side.is_shown(snapshot.scene)
        if self._in_grid and not shown:
            self.leave_grid()
        elif shown and not self.grid and snapshot.in_front:
            if snapshot.run is not None and snapshot.run.samples:
                self.grid = SAMPLES
            else:
                side_by_side.leave(snapshot.scene)

    def show(self, snapshot: Snapshot) -> None:
        """Have the views show the state."""
        if self._arriving and not snapshot.generating:
            self._arriving, self._shown = False, None
        self.follow_layout(snapshot)
        run, parameters = snapshot.run, snapshot.parameters
        modes = rows_of(snapshot)[: side_by_side.MOST_VIEWS] if self.grid == MODES else []
        if self.grid and (run is None or not run.samples or (self.grid == MODES and not modes)):
            self.leave_grid()
        state = None
        if run is not None:
            state = (run.node.GetID(), len(run.samples), parameters.shownSample, parameters.overlay)
            state += (parameters.overlayOpacity, self.grid, self._first, snapshot.shown_class, parameters.together)
            state += tuple((row["representative"], row["frequency"]) for row in modes)
        if state == self._shown or self._arriving or not snapshot.in_front:
            return
        self._shown = state
        if run is None:
            return
        with slicer.util.RenderBlocker():
            if self.grid:
                self._show_grid(run, modes)
            else:
                alone = None if parameters.together else snapshot.sample_alone
                views.show_sample(snapshot.scene, run, None if alone is None else sample_index(alone), consensus=True)
            # Side by side it is the outlines that count: a map of all samples would hide what makes one of them.
            overlay, label = parameters.overlay, snapshot.shown_class
            if self.grid or views.map_of(run, overlay, label) is None:
                overlay = views.Overlay.NONE
            views.show_overlay(snapshot.scene, run, overlay, parameters.overlayOpacity, label)

    def stop(self) -> None:
        """The scene is being closed."""
        self._arriving, self._shown = False, None
        self.forget_place()

    def _show_grid(self, run: Run, modes: list[dict]) -> None:
        scene, self._in_grid = self.context.scene, True
        if self.grid == SAMPLES:
            self._first = side_by_side.show_samples(scene, run, side_by_side.MOST_VIEWS, self._first)
            return
        nodes, text = {sample_name(node): node for node in run.samples}, _("mode {mode}: {share:.0f} %")
        labels = [text.format(mode=row["mode"], share=100 * row["frequency"]) for row in modes]
        side_by_side.show_nodes(scene, run, [nodes[row["representative"]] for row in modes], labels)

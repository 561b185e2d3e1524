"""Section "Result": the samples of a run, their maps, consensus and volumes, and where they disagree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.context import Context, fill_table, silent
from AmbiguousSegBridge.scene import runs, side_by_side, tables, views
from AmbiguousSegBridge.scene.identity import sample_index
from AmbiguousSegBridge.scene.run_writer import sample_colour
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.scene.upkeep import Upkeep
from AmbiguousSegLib.calibration.figures import calibrated_lines
from AmbiguousSegLib.ensemble.sample_set import GREATEST

THRESHOLD_AFTER_MS = 150  # the slider at rest


class ResultPanel:
    """Shows one run of the scene at a time.

    Args:
        on_renewal: called after maps and volumes of the run shown were renewed: the user has deleted samples, or
            edited them.
    """

    def __init__(self, context: Context, on_renewal: Callable[[], None]) -> None:
        self.context, self.ui, self._on_renewal = context, context.ui, on_renewal
        self._panel_of: tuple = (None, None)  # parameter node, and mean map of the run, that the widgets speak of
        self._upkeep = Upkeep()
        self._shown: tuple | None = None  # what the views show; they are set anew only when that changes
        self._arriving = False  # samples of a run that is not complete yet are in the views
        self._first = 0  # place of the first sample shown side by side
        self._places: list | None = None  # the run's slices by disagreement; None: not looked for yet
        self._place = -1
        self._threshold_timer = qt.QTimer()
        self._threshold_timer.setSingleShot(True)
        self._threshold_timer.connect("timeout()", self.apply_threshold)
        ui = self.ui
        ui.runSelector.connect("activated(int)", self._on_run)
        ui.removeRunButton.connect("clicked(bool)", self._on_remove)
        ui.sampleTable.connect("cellClicked(int,int)", self._on_row)
        ui.classSelector.connect("activated(int)", self._on_class)
        wait = self._threshold_timer
        ui.thresholdSlider.connect("valueChanged(double)", lambda _value: wait.start(THRESHOLD_AFTER_MS))
        ui.sideBySideButton.connect("toggled(bool)", self._on_side_by_side)
        ui.previousPageButton.connect("clicked(bool)", lambda _checked: self._turn_page(-1))
        ui.nextPageButton.connect("clicked(bool)", lambda _checked: self._turn_page(1))
        ui.lessDisagreementButton.connect("clicked(bool)", lambda _checked: self._jump(-1))
        ui.moreDisagreementButton.connect("clicked(bool)", lambda _checked: self._jump(1))
        ui.useSampleButton.connect("clicked(bool)", self._on_use_sample)
        ui.useConsensusButton.connect("clicked(bool)", self._on_use_consensus)
        ui.histogramButton.connect("clicked(bool)", self._on_histogram)

    def refresh(self) -> None:
        """Show the state: list of runs, samples, volumes, and the views."""
        if self._arriving and not self.context.generating:
            self._arriving, self._shown = False, None
        run = self._show_runs()
        self._follow(run)
        run = self._up_to_date(run)
        self._show_samples(run)
        self._show_classes(run)
        self._show_buttons(run)
        self._show_views(run)

    def show_new(self, run: Run) -> None:
        """A run that has just been completed becomes the one shown, at the slice of most disagreement."""
        self.context.parameters.run = run.mean
        self._forget_place()  # there may be more samples than before
        self.refresh()
        if self.context.in_front():
            self._jump(1)

    def show_arriving(self) -> None:
        """A sample has arrived. Those of a new run are to be seen alone; in a grid, none before the run is complete."""
        if self._side_by_side():
            side_by_side.hide_arriving(self.context.scene)
        elif not self._arriving and self.context.in_front():
            new = any(sample_index(node) == 0 for node in views.arriving_samples(self.context.scene))
            if new:  # more of a run begins behind its last sample
                views.hide_runs(self.context.scene)
            self._arriving = new

    def follow_layout(self) -> None:
        """The layout was changed by something else, such as the toolbar or a scene that was loaded: the grid, too."""
        grid = side_by_side.is_shown(self.context.scene)
        if self._side_by_side() and not grid:
            self.context.leave_grid()
        elif grid and not self._side_by_side() and self.context.in_front():
            if (run := self.context.run()) is not None and run.samples:
                self.ui.sideBySideButton.checked = True
            else:
                side_by_side.leave(self.context.scene)

    def stop(self) -> None:
        """The scene is being closed: nothing that waits may still act."""
        self._threshold_timer.stop()
        self._follow(None)
        self._arriving, self._shown, self._upkeep = False, None, Upkeep()

    def _show_runs(self) -> Run | None:
        parameters, found = self.context.parameters, runs.find_runs(self.context.scene)
        found = [run for run in found if run.mean is not None]
        shown = next((run for run in found if run.mean is parameters.run), None)
        if shown is None and found:
            shown = found[-1]
            parameters.run = shown.mean
        with silent(self.ui.runSelector):
            self.ui.runSelector.clear()
            for run, title in zip(found, _titles(found)):
                self.ui.runSelector.addItem(title, run.mean.GetID())
            self.ui.runSelector.currentIndex = found.index(shown) if shown is not None else -1
        return shown

    def _follow(self, run: Run | None) -> None:
        """Have the widgets speak of the run shown; where it is another one, nothing that waits may still act."""
        panel_of = (self.context.parameters, None if run is None else run.mean)
        if any(now is not before for now, before in zip(panel_of, self._panel_of)):
            self._panel_of = panel_of
            self._threshold_timer.stop()
            self._forget_place()
        moving = self._threshold_timer.active  # by the user, since the run was shown
        threshold = None if run is None else self._threshold_of(run)
        if threshold is not None and not moving and self.context.parameters.consensusThreshold != threshold:
            self.context.parameters.consensusThreshold = threshold

    def _forget_place(self) -> None:
        self._places, self._place = None, -1
        self.ui.disagreementLabel.text = ""

    def _threshold_of(self, run: Run) -> float | None:
        """Threshold of the run's consensus as the slider can show it; None where it takes none."""
        slider = self.ui.thresholdSlider
        if run.consensus_threshold is None:
            return None
        return min(round(run.consensus_threshold, slider.decimals), slider.maximum)

    def _up_to_date(self, run: Run | None) -> Run | None:
        """The run with maps and volumes of just the samples that the user has left in the scene, as they are."""
        if run is None or not run.samples or self.context.generating:
            return run
        try:
            renewed = self._upkeep.renew(self.context.scene, run, edits=self.context.in_front())
        except ValueError as error:  # a mask was changed beyond reading
            self.ui.statusLabel.text = str(error)
            return run
        if self._upkeep.pending:
            self.context.refresh_soon()
        if not renewed:
            return run
        self._forget_place()
        self._on_renewal()
        return self.context.run()

    def _show_samples(self, run: Run | None) -> None:
        count = 0 if run is None else len(run.samples)
        self.ui.sampleSlider.maximum = count
        rows, colours, text = [], [], ""
        if run is not None and (node := run.tables.get(tables.VOLUMES)) is not None:
            table = tables.read_table(node)
            keys = [column["key"] for column in table["columns"]]
            rows = [[_cell(row[key]) for key in keys] for row in table["rows"]]
            indices = [sample_index(node) for node in run.samples]
            alone = len(run.labels) == 1  # of several classes, each has its own colour in all samples
            colours = [sample_colour(i) if alone else None for i in indices] + [None] * (len(rows) - len(indices))
            fill_table(self.ui.sampleTable, [column["title"] for column in table["columns"]], rows, colours)
            summary = table["rows"][-tables.SUMMARY_ROWS :]
            mean, median, low, high = (row[tables.VOLUME_ML] for row in summary)
            text = _("Mean {mean} mL, median {median} mL; one more sample, with 95 %: {low} to {high} mL")
            if summary[-1][tables.NAME] == GREATEST:
                text = _("Mean {mean} mL, median {median} mL; least to greatest of the samples: {low} to {high} mL")
            if not alone:
                text = _("All classes together: {volumes}").format(volumes=text)
            text = text.format(mean=f"{mean:.2f}", median=f"{median:.2f}", low=f"{low:.2f}", high=f"{high:.2f}")
            told = [*calibrated_lines(run.provenance)]
            told += [line for key in ("input_warnings", "notes") for line in run.provenance.get(key, [])]
            text = "\n".join([text, *told])
        else:
            fill_table(self.ui.sampleTable, [_("sample"), _("volume (mL)")], [])
        self.ui.volumeLabel.text = text
        shown = self.context.parameters.shownSample
        with silent(self.ui.sampleTable):
            if 1 <= shown <= count:
                self.ui.sampleTable.selectRow(shown - 1)
            else:
                self.ui.sampleTable.clearSelection()

    def _show_classes(self, run: Run | None) -> None:
        """What there is only with several classes, and what only with one."""
        names = [] if run is None else run.label_names
        several = len(names) > 1
        ui = self.ui
        ui.classFormLabel.visible = ui.classSelector.visible = several
        ui.thresholdFormLabel.visible = ui.thresholdSlider.visible = not several
        with silent(ui.classSelector):
            ui.classSelector.clear()
            for name in names:
                ui.classSelector.addItem(name)
            ui.classSelector.currentIndex = self._shown_class(run) - 1 if names else -1

    def _shown_class(self, run: Run) -> int:
        shown = self.context.parameters.shownClass
        return shown if shown <= len(run.labels) else 1

    def _on_class(self, index: int) -> None:
        self.context.parameters.shownClass = index + 1

    def _show_buttons(self, run: Run | None) -> None:
        ui, shown = self.ui, self.context.parameters.shownSample
        some = run is not None and bool(run.samples)  # the user may have deleted any of the run's nodes
        ui.removeRunButton.enabled = run is not None
        ui.useConsensusButton.enabled = run is not None and run.consensus is not None
        ui.histogramButton.enabled = some
        ui.sideBySideButton.enabled = some or ui.sideBySideButton.checked
        for widget in (ui.lessDisagreementButton, ui.moreDisagreementButton):
            widget.enabled = run is not None
        ui.useSampleButton.enabled = run is not None and 1 <= shown <= len(run.samples)
        ui.useSampleButton.toolTip = (
            _("Copy the shown sample into a normal segmentation for the Segment Editor")
            if ui.useSampleButton.enabled
            else _("Choose one sample in the list first")
        )
        ui.overlaySelector.enabled = ui.opacitySlider.enabled = not self._side_by_side()
        several = run is not None and ui.sideBySideButton.checked and len(run.samples) > side_by_side.MOST_VIEWS
        ui.previousPageButton.enabled = ui.nextPageButton.enabled = several

    def _side_by_side(self) -> bool:
        """Whether samples, or the modes' representatives, are in a grid of views."""
        return self.ui.sideBySideButton.checked or self.ui.modesSideBySideButton.checked

    def _show_views(self, run: Run | None) -> None:
        if self._side_by_side() and (run is None or not run.samples):  # the user deleted them
            self.context.leave_grid()  # which calls this again
            return
        parameters = self.context.parameters
        state = None
        if run is not None:
            state = (run.mean.GetID(), len(run.samples), parameters.shownSample, parameters.overlay)
            state += (parameters.overlayOpacity, self.ui.sideBySideButton.checked, self._side_by_side(), self._first)
            state += (self._shown_class(run), parameters.together)
        if state == self._shown or self._arriving or not self.context.in_front():
            return
        self._shown = state
        if run is None:
            return
        with slicer.util.RenderBlocker():
            if self.ui.sideBySideButton.checked:
                self._first = side_by_side.show_samples(self.context.scene, run, side_by_side.MOST_VIEWS, self._first)
            elif not self._side_by_side():
                alone = 1 <= parameters.shownSample <= len(run.samples) and not parameters.together
                number = sample_index(run.samples[parameters.shownSample - 1]) if alone else None
                views.show_sample(self.context.scene, run, number, consensus=True)
            # Side by side it is the outlines that count: a map of all samples would hide what makes one of them.
            overlay, label = parameters.overlay, self._shown_class(run)
            if self._side_by_side() or views.map_of(run, overlay, label) is None:
                overlay = views.Overlay.NONE
            views.show_overlay(self.context.scene, run, overlay, parameters.overlayOpacity, label)

    def apply_threshold(self) -> None:
        """Make the consensus of the run follow the slider, if the user has moved it: the consensus may be edited."""
        run = self.context.run()
        if run is None or run.mean is not self._panel_of[1]:
            return
        threshold, made_with = self.context.parameters.consensusThreshold, self._threshold_of(run)
        if made_with is not None and threshold != made_with:
            with self.context.errors_shown(_("The consensus stays as it was.")):
                runs.set_consensus_threshold(self.context.scene, run, threshold)

    def _on_run(self, index: int) -> None:
        self.context.parameters.run = self.context.scene.GetNodeByID(self.ui.runSelector.itemData(index))
        self._first = 0

    def _on_remove(self, _checked: bool = False) -> None:
        run = self.context.run()
        question = _("Remove run {name} with its {count} samples from the scene?")
        if run is not None and slicer.util.confirmOkCancelDisplay(
            question.format(name=run.name, count=len(run.samples))
        ):
            self.context.leave_grid()
            runs.remove_run(self.context.scene, run)

    def _on_row(self, row: int, _column: int) -> None:
        run = self.context.run()
        if run is not None:
            names, name = [sample_name(node) for node in run.samples], self.ui.sampleTable.item(row, 0).text()
            number = names.index(name) + 1 if name in names else 0  # below the samples are mean, median and interval
            self.context.parameters.shownSample = number if number != self.context.parameters.shownSample else 0

    def _on_side_by_side(self, checked: bool) -> None:
        if checked and not self.context.has_views():
            self.ui.sideBySideButton.checked = False
            return
        self._first = 0
        if checked:
            self.ui.modesSideBySideButton.checked = False
        else:
            side_by_side.leave(self.context.scene)
        self.refresh()

    def _turn_page(self, by: int) -> None:
        run = self.context.run()
        if run is not None:
            self._first = int(np.clip(self._first + by * side_by_side.MOST_VIEWS, 0, len(run.samples) - 1))
            self.refresh()

    def _jump(self, by: int) -> None:
        run = self.context.run()
        if run is None:
            return
        if self._places is None:
            with self.context.errors_shown(_("There is no slice to go to.")):
                self._places = views.slices_of_most_disagreement(run)
        if (places := self._places) is None:
            return
        if not places:
            self.ui.disagreementLabel.text = _("the samples agree everywhere")
            return
        self._place = int(np.clip(self._place + by, 0, len(places) - 1))
        number, position = places[self._place]
        views.jump_to(self.context.scene, position)
        self.ui.disagreementLabel.text = _("slice {slice}, {place} of {count}").format(
            slice=number, place=self._place + 1, count=len(places)
        )

    def _on_use_sample(self, _checked: bool = False) -> None:
        run, shown = self.context.run(), self.context.parameters.shownSample
        if run is not None and 1 <= shown <= len(run.samples):  # it may have gone a moment before the press
            self._use(run, run.samples[shown - 1])

    def _on_use_consensus(self, _checked: bool = False) -> None:
        run = self.context.run()
        if run is not None and run.consensus is not None:
            self._use(run, run.consensus)

    def _use(self, run: Run, source: slicer.vtkMRMLSegmentationNode) -> None:
        with self.context.errors_shown(_("Nothing was copied.")):
            node = runs.use_as_segmentation(self.context.scene, run, source)
            self.ui.statusLabel.text = _("Copied to segmentation {name}").format(name=node.GetName())

    def _on_histogram(self, _checked: bool = False) -> None:
        run = self.context.run()
        if run is not None:
            with self.context.errors_shown(_("There is no plot to show.")):
                self.context.show_chart(tables.histogram(self.context.scene, run))


def _titles(found: list[Run]) -> list[str]:
    """Names of runs; where several bear one name, with that of the input, and numbered if need be."""
    names = [run.name for run in found]
    titles = [
        f"{run.name} ({run.input.GetName()})" if names.count(run.name) > 1 and run.input is not None else run.name
        for run in found
    ]
    numbers = [titles[: place + 1].count(title) for place, title in enumerate(titles)]
    return [f"{title} #{n}" if titles.count(title) > 1 else title for title, n in zip(titles, numbers)]


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

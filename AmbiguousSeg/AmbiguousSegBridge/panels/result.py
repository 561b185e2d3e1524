"""Section "Result": the samples of a run, their maps, consensus and volumes, and where they disagree."""

from __future__ import annotations

from types import SimpleNamespace

from slicer.i18n import tr as _

from AmbiguousSegBridge.actions.display import SAMPLES
from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.generation import sample_name
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import Choices, Rows, on_click, show_button, silent
from AmbiguousSegBridge.scene import tables
from AmbiguousSegBridge.scene.run_node import sample_index
from AmbiguousSegBridge.scene.run_writer import sample_colour
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.scene.side_by_side import MOST_VIEWS
from AmbiguousSegLib.calibration.figures import calibrated_lines
from AmbiguousSegLib.ensemble.sample_set import GREATEST


class ResultPanel:
    """Shows one run of the scene at a time."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.ui, self._context, self._controller = ui, controller.context, controller
        self._display = display = controller.display
        self._runs, self._classes = Choices(ui.runSelector, self._on_run), Choices(ui.classSelector, self._on_class)
        self._rows = Rows(ui.sampleTable)
        display.watchers.append(self._tell)
        ui.sampleTable.connect("cellClicked(int,int)", self._on_row)
        ui.thresholdSlider.connect("valueChanged(double)", lambda _value: controller.threshold_moved())
        ui.sideBySideButton.connect("toggled(bool)", self._on_side_by_side)
        on_click(ui.removeRunButton, controller.remove_run)
        on_click(ui.moreButton, controller.sampling.more)
        on_click(ui.previousPageButton, lambda: display.turn_page(-1))
        on_click(ui.nextPageButton, lambda: display.turn_page(1))
        on_click(ui.lessDisagreementButton, lambda: display.jump(-1))
        on_click(ui.moreDisagreementButton, lambda: display.jump(1))
        on_click(ui.useSampleButton, controller.use_sample)
        on_click(ui.useConsensusButton, controller.use_consensus)
        on_click(ui.histogramButton, controller.plot_volumes)

    def show(self, snapshot: Snapshot) -> None:
        """Show the state: list of runs, samples, volumes."""
        titles = {run.node.GetID(): title for run, title in zip(snapshot.runs, _titles(snapshot.runs))}
        self._runs.show(titles, None if snapshot.run is None else snapshot.run.node.GetID())
        self._show_samples(snapshot)
        self._show_classes(snapshot)
        self._show_buttons(snapshot)

    def stop(self) -> None:
        """The scene is being closed, and the grid of views was left."""
        with silent(self.ui.sideBySideButton):
            self.ui.sideBySideButton.checked = False

    def _show_samples(self, snapshot: Snapshot) -> None:
        run, table = snapshot.run, snapshot.table(tables.VOLUMES)
        headers, rows, colours, text = [_("sample"), _("volume (mL)")], [], [], ""
        if table is not None:
            keys, headers = zip(*((column["key"], column["title"]) for column in table["columns"]))
            rows = [[_cell(row[key]) for key in keys] for row in table["rows"]]
            indices = [sample_index(node) for node in run.samples]
            alone = len(run.labels) == 1  # of several classes, each has its own colour in all samples
            colours = [sample_colour(i) if alone else None for i in indices] + [None] * (len(rows) - len(indices))
            told = [line for key in ("input_warnings", "notes") for line in run.provenance.get(key, [])]
            lines = [*_summary(table["rows"][-tables.SUMMARY_ROWS :], alone), *calibrated_lines(run.provenance), *told]
            text = "\n".join(lines)
        self._rows.show(headers, rows, colours)
        self.ui.volumeLabel.text = text
        count, shown = 0 if run is None else len(run.samples), snapshot.parameters.shownSample
        self.ui.sampleSlider.maximum = count
        with silent(self.ui.sampleTable):
            if 1 <= shown <= count:
                self.ui.sampleTable.selectRow(shown - 1)
            else:
                self.ui.sampleTable.clearSelection()

    def _show_classes(self, snapshot: Snapshot) -> None:
        """What there is only with several classes, and what only with one."""
        names = [] if snapshot.run is None else snapshot.run.label_names
        several, ui = len(names) > 1, self.ui
        ui.classFormLabel.visible = ui.classSelector.visible = several
        ui.thresholdFormLabel.visible = ui.thresholdSlider.visible = not several
        self._classes.show({str(k): name for k, name in enumerate(names, 1)}, str(snapshot.shown_class))

    def _show_buttons(self, snapshot: Snapshot) -> None:
        ui, run, in_grid = self.ui, snapshot.run, bool(self._display.grid)
        some = run is not None and bool(run.samples)  # the user may have deleted any of the run's nodes
        of_samples = self._display.grid == SAMPLES
        for widget in (ui.removeRunButton, ui.lessDisagreementButton, ui.moreDisagreementButton):
            widget.enabled = run is not None
        ui.useConsensusButton.enabled = run is not None and run.consensus is not None
        ui.histogramButton.enabled = some
        with silent(ui.sideBySideButton):
            ui.sideBySideButton.enabled, ui.sideBySideButton.checked = some or of_samples, of_samples
        problem = "" if snapshot.sample_alone is not None else _("Choose one sample in the list first")
        tip = _("Copy the shown sample into a normal segmentation for the Segment Editor")
        show_button(ui.useSampleButton, ui.useSampleButton.text, problem, tip)
        problem, tip = (
            self._controller.sampling.problem_of_more(snapshot),
            _("Add to this run; its samples are not computed again"),
        )
        show_button(ui.moreButton, ui.moreButton.text, problem, tip)
        ui.overlaySelector.enabled = ui.opacitySlider.enabled = not in_grid
        ui.previousPageButton.enabled = ui.nextPageButton.enabled = of_samples and len(run.samples) > MOST_VIEWS

    def _tell(self) -> None:
        self.ui.disagreementLabel.text = self._display.text

    def _on_run(self, node_id: str) -> None:
        self._controller.show_run(node_id)

    def _on_class(self, number: str) -> None:
        self._context.parameters.shownClass = int(number)

    def _on_row(self, row: int, _column: int) -> None:
        run, parameters = self._context.run(), self._context.parameters
        if run is not None:
            names, name = [sample_name(node) for node in run.samples], self.ui.sampleTable.item(row, 0).text()
            number = names.index(name) + 1 if name in names else 0  # below the samples are mean, median and interval
            parameters.shownSample = number if number != parameters.shownSample else 0

    def _on_side_by_side(self, checked: bool) -> None:
        self._display.put_side_by_side(SAMPLES if checked else "")


def _titles(found: tuple[Run, ...]) -> list[str]:
    """Names of runs; where several bear one name, with that of the input, and numbered if need be."""
    names, text, numbered = [run.name for run in found], _("{run} ({volume})"), _("{run} #{number}")
    titles = [
        text.format(run=run.name, volume=run.input.GetName())
        if names.count(run.name) > 1 and run.input is not None
        else run.name
        for run in found
    ]
    numbers = [titles[: place + 1].count(title) for place, title in enumerate(titles)]
    return [numbered.format(run=t, number=n) if titles.count(t) > 1 else t for t, n in zip(titles, numbers)]


def _summary(rows: list[dict], alone: bool) -> list[str]:
    """What the last rows of the table say: of the one class, or of all together."""
    mean, median, low, high = (row[tables.VOLUME_ML] for row in rows)
    text = _("Mean {mean:.2f} mL, median {median:.2f} mL; one more sample, with 95 %: {low:.2f} to {high:.2f} mL")
    if rows[-1][tables.NAME] == GREATEST:
        text = _(
            "Mean {mean:.2f} mL, median {median:.2f} mL; least to greatest of the samples: {low:.2f} to {high:.2f} mL"
        )
    heading = [] if alone else [_("All classes together:")]
    return [*heading, text.format(mean=mean, median=median, low=low, high=high)]


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

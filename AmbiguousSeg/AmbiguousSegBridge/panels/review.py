"""Section "Review": lesions or slices one after another, and the mask that somebody accepts for each lesion."""

from __future__ import annotations

from types import SimpleNamespace

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.panels.disagreement_bar import DisagreementBar
from AmbiguousSegBridge.panels.review_keys import ReviewKeys
from AmbiguousSegBridge.panels.review_words import REVIEWER, accepted_text, default_reviewer, title_of
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.panels.widgets import Rows, silent
from AmbiguousSegBridge.scene import review, views
from AmbiguousSegBridge.scene.review import Choice, Reviews, choices
from AmbiguousSegBridge.scene.review_queue import Item, ReviewBy, ReviewOf, ReviewQueue, disagreement_ml
from AmbiguousSegBridge.scene.runs import Run, find_runs
from AmbiguousSegLib.evaluation.review import CONSENSUS, MODE, Reviewed, decisions_csv, decisions_json

FILES = ("review.csv", "review.json")


class ReviewPanel:
    """Goes through the queue, and keeps decisions in the runs. A closed section does nothing."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self.context, self.ui = controller.context, ui
        self._table = Rows(ui.reviewTable)
        self._written = ""  # which files hold the decisions that the label shows
        self._queue, self._reviews = ReviewQueue(), Reviews()
        self._items: list[Item] = []
        self._row = -1  # of the item gone to last, or where it was before it left the queue
        self._here: tuple[str, int] | None = None  # run, by its node, and slice gone to last
        self._chosen: tuple[str, str] | None = None  # run, and key of the choice
        self._sample = 0  # the one chosen in the module when the panel was shown last
        self._listed: tuple | None = None
        self._bar = DisagreementBar(ui.reviewBar, self._on_bar)
        self._keys = ReviewKeys(ui, self)
        ui.reviewTable.connect("cellClicked(int,int)", lambda row, _column: self.go(row))
        ui.reviewPreviousButton.connect("clicked(bool)", lambda _checked: self.step(-1))
        ui.reviewNextButton.connect("clicked(bool)", lambda _checked: self.step(1))
        ui.reviewChoiceSelector.connect("activated(int)", self._on_choice)
        ui.reviewAcceptButton.connect("clicked(bool)", lambda _checked: self.accept())
        ui.reviewTakeBackButton.connect("clicked(bool)", lambda _checked: self.take_back())
        ui.reviewEditButton.connect("clicked(bool)", lambda _checked: self.edit())
        ui.reviewExportButton.connect("clicked(bool)", lambda _checked: self.export())
        ui.reviewerEdit.text = default_reviewer()
        ui.reviewerEdit.connect("editingFinished()", self._on_reviewer)
        ui.reviewSection.connect("contentsCollapsed(bool)", lambda _collapsed: self.context.refresh_soon())

    def show(self, snapshot: Snapshot) -> None:
        """Show the queue, the slices of the run shown, and what was decided about it."""
        if self.ui.reviewSection.collapsed:
            return
        parameters, run = snapshot.parameters, snapshot.run
        reviewed = {one.node.GetID(): self._reviews.of(one) for one in snapshot.runs}
        items = self._queue.items(snapshot.runs, parameters.reviewOf, parameters.reviewBy)
        if parameters.reviewOpenOnly:
            items = [item for item in items if reviewed[item.run.node.GetID()].decision is None]
        self._items = items
        self._show_queue(parameters.reviewOf, parameters.reviewBy, reviewed, run)
        self._show_slices(run)
        self._follow_sample(parameters.shownSample, run)
        self._show_choices(run)
        self._show_decision(run, None if run is None else reviewed[run.node.GetID()])

    def stop(self) -> None:
        """The scene is being closed."""
        self._items, self._listed, self._row, self._here, self._chosen = [], None, -1, None, None
        self._queue, self._reviews = ReviewQueue(), Reviews()

    def step(self, by: int) -> None:
        """Go to the next item of the queue (1), or the one before (-1)."""
        row = self._row + by
        if by > 0 and self._row >= 0 and not self._is_here(self._row):  # it left the queue: the next took its place
            row = self._row
        if self._items:
            self.go(min(max(row, 0), len(self._items) - 1))

    def go(self, row: int) -> None:
        """Show the lesion of a row, at the row's slice, with the mask that was accepted or the consensus chosen."""
        if not 0 <= row < len(self._items):
            return
        item = self._items[row]
        self._row = row
        decision = self._reviews.of(item.run).decision
        self.context.select(item.run)
        keys = {one.key: one for one in choices(item.run)}
        key = CONSENSUS
        if decision is not None:
            key = decision.mask if decision.mode is None else f"mode {decision.mode}"
        if key in keys:
            self._choose(item.run, keys[key])
        self._jump(item.run, None if item.place is None else item.place.number)
        self.ui.reviewTable.setFocus()

    def choose_sample(self, number: int) -> None:
        """Choose the sample at this place of the run, from 1."""
        run = self.context.run()
        if run is not None and number <= len(run.samples):
            node = run.samples[number - 1]
            self._choose(run, next(one for one in choices(run) if one.node is node and one.mode is None))

    def choose_mode(self) -> None:
        """Choose the next of the run's modes."""
        run = self.context.run()
        modes = [] if run is None else [one for one in choices(run) if one.kind == MODE]
        if modes:
            keys, current = [one.key for one in modes], self._choice(run)
            place = keys.index(current.key) + 1 if current is not None and current.key in keys else 0
            self._choose(run, modes[place % len(modes)])

    def choose_consensus(self) -> None:
        """Choose the run's consensus."""
        run = self.context.run()
        if run is not None and run.consensus is not None:
            self._choose(run, next(one for one in choices(run) if one.kind == CONSENSUS))

    def accept(self) -> None:
        """Keep in the run that the chosen mask is accepted."""
        run = self.context.run()
        choice = None if run is None else self._choice(run)
        if choice is not None and self.ui.reviewAcceptButton.enabled:
            with self.context.errors_shown(_("Nothing was accepted.")):
                review.accept(run, choice, self.ui.reviewerEdit.text, self.ui.reviewCommentEdit.text)
                self.ui.reviewCommentEdit.text = ""
            self.context.refresh_soon()

    def take_back(self) -> None:
        """Take the decision about the run back."""
        run = self.context.run()
        if run is not None and review.decisions(run):
            review.take_back(run)
            self.context.refresh_soon()

    def edit(self) -> None:
        """Open a copy of the chosen mask in the Segment Editor; the copy is the choice from then on."""
        run = self.context.run()
        choice = None if run is None else self._choice(run)
        if choice is None:
            return
        with self.context.errors_shown(_("Nothing was copied.")):
            node = review.copy_to_edit(self.context.scene, run, choice)
            self._choose(run, next(one for one in choices(run) if one.node is node))
            review.edit(self.context.scene, node, run.input)
            slicer.util.selectModule("SegmentEditor")

    def export(self) -> None:
        """Write the decisions about all lesions into a folder that the user chooses."""
        folder = qt.QFileDialog.getExistingDirectory(None, _("Folder for the decisions"), "")
        if not folder:
            return
        reviewed = [self._reviews.of(run) for run in find_runs(self.context.scene)]
        content = dict(zip(FILES, (decisions_csv(reviewed), decisions_json(reviewed))))
        if written := self.context.write_texts(folder, content, _("No decision was written.")):
            self._written = written
            self.context.refresh_soon()

    def _show_queue(self, of: ReviewOf, by: ReviewBy, reviewed: dict[str, Reviewed], run: Run | None) -> None:
        ui = self.ui
        ui.reviewBySelector.enabled = of is ReviewOf.LESIONS
        share = of is ReviewOf.LESIONS and by is ReviewBy.INTERVAL_SHARE
        title = _("share") if share else _("mL")
        rows = [
            [
                item.run.name,
                "" if item.place is None else str(item.place.number),
                "" if item.value is None else f"{item.value:.2f}" if share else f"{item.value:.3f}",
                accepted_text(reviewed[item.run.node.GetID()]),
            ]
            for item in self._items
        ]
        here = next((row for row in range(len(rows)) if self._is_here(row)), -1)
        if here >= 0:
            self._row = here
        if (title, rows, here) != self._listed:  # where the user has scrolled to stays
            self._listed = (title, rows, here)
            self._table.show([_("Lesion"), _("Slice"), title, _("Accepted")], rows)
            with silent(ui.reviewTable):
                ui.reviewTable.setCurrentCell(here, 0 if here >= 0 else -1)
        for button in (ui.reviewPreviousButton, ui.reviewNextButton):
            button.enabled = bool(rows)

    def _is_here(self, row: int) -> bool:
        """Whether a row is of the run shown; of slices, also of the slice that was gone to last."""
        if not 0 <= row < len(self._items) or self._here is None:
            return False
        item, (run_id, number) = self._items[row], self._here
        if item.run.node.GetID() != run_id:
            return False
        slices = self.context.parameters.reviewOf is ReviewOf.SLICES
        return not slices or (item.place is not None and item.place.number == number)

    def _show_slices(self, run: Run | None) -> None:
        slices = [] if run is None else self._queue.slices(run)
        values, here, text = [], None, ""
        if slices:
            first = slices[0].number
            values = [0.0] * (slices[-1].number - first + 1)
            for one in slices:
                values[one.number - first] = one.disagreement
            if self._here is not None and self._here[0] == run.node.GetID():
                shown = next((one for one in slices if one.number == self._here[1]), None)
                if shown is not None:
                    here, text = shown.number - first, _("slice {slice}: disagreement {value} mL")
                    text = text.format(slice=shown.number, value=f"{disagreement_ml(run, [shown]):.4f}")
        self._bar.show(values, here)
        self.ui.reviewPlaceLabel.text = text

    def _on_bar(self, place: int) -> None:
        run = self.context.run()
        slices = [] if run is None else self._queue.slices(run)
        if slices:
            wanted = slices[0].number + place
            self._jump(run, min(slices, key=lambda one: abs(one.number - wanted)).number)

    def _jump(self, run: Run, number: int | None) -> None:
        self._here = (run.node.GetID(), -1 if number is None else number)
        place = next((one for one in self._queue.slices(run) if one.number == number), None)
        if place is not None:
            views.jump_to(self.context.scene, place.position)
        self.context.refresh_soon()

    def _choice(self, run: Run) -> Choice | None:
        """What is chosen of this run; the consensus, or whatever is left, where nothing was."""
        found = choices(run)
        key = self._chosen[1] if self._chosen is not None and self._chosen[0] == run.node.GetID() else CONSENSUS
        return next((one for one in found if one.key == key), found[0] if found else None)

    def _choose(self, run: Run, choice: Choice) -> None:
        self._chosen = (run.node.GetID(), choice.key)
        shown = next((place for place, node in enumerate(run.samples, start=1) if node is choice.node), 0)
        self.context.parameters.shownSample = self._sample = shown
        self.context.refresh_soon()

    def _follow_sample(self, shown: int, run: Run | None) -> None:
        """A sample that was chosen elsewhere in the module is the choice here, too."""
        if shown != self._sample and run is not None and 1 <= shown <= len(run.samples):
            self._chosen = (run.node.GetID(), next(c.key for c in choices(run) if _is_sample(c, run, shown)))
        self._sample = shown

    def _show_choices(self, run: Run | None) -> None:
        found, chosen = ([], None) if run is None else (choices(run), self._choice(run))
        selector = self.ui.reviewChoiceSelector
        with silent(selector):
            selector.clear()
            for one in found:
                selector.addItem(title_of(one), one.key)
            selector.currentIndex = [one.key for one in found].index(chosen.key) if chosen is not None else -1

    def _on_choice(self, index: int) -> None:
        run, key = self.context.run(), self.ui.reviewChoiceSelector.itemData(index)
        choice = None if run is None else next((one for one in choices(run) if one.key == key), None)
        if choice is not None:
            self._choose(run, choice)

    def _show_decision(self, run: Run | None, reviewed: Reviewed | None) -> None:
        ui, text = self.ui, ""
        if reviewed is not None and (decision := reviewed.decision) is not None:
            text = _("Accepted: {mask}, by {reviewer}, {at}.")
            text = text.format(mask=accepted_text(reviewed), reviewer=decision.reviewer, at=decision.at)
            text = " ".join(part for part in (text, decision.comment) if part)
        ui.reviewTakeBackButton.enabled = bool(text)
        ui.reviewLabel.text = "\n".join(part for part in (text, self._written) if part)
        ui.reviewEditButton.enabled = run is not None and bool(choices(run))
        reason = ""
        if run is None or not choices(run):
            reason = _("There is nothing to accept yet")
        elif not ui.reviewerEdit.text.strip():
            reason = _("Enter who reviews first")
        ui.reviewAcceptButton.enabled = not reason
        ui.reviewAcceptButton.toolTip = reason or _("Keep with the lesion that this mask is accepted: Enter")
        ui.reviewExportButton.enabled = run is not None

    def _on_reviewer(self) -> None:
        qt.QSettings().setValue(REVIEWER, self.ui.reviewerEdit.text.strip())
        self.context.refresh_soon()


def _is_sample(choice: Choice, run: Run, shown: int) -> bool:
    return choice.mode is None and choice.node is run.samples[shown - 1]

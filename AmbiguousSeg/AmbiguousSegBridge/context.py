"""What everything that acts for the panels works with: scene, runner, the module's state, and messages to the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.scene import side_by_side
from AmbiguousSegBridge.scene.runs import Run, find_run_of, find_runs
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.runner import Failure, Runner
from AmbiguousSegLib.files import write_together


@dataclass
class Context:
    """Scene, runner, and the module's state (None while the scene is being closed).

    ``in_front`` tells whether the user has the module open: only then the views are its own to set. ``refresh`` has
    all panels show the state, ``refresh_soon`` when the event loop comes to it.
    """

    scene: slicer.vtkMRMLScene
    runner: Runner
    in_front: Callable[[], bool]
    refresh: Callable[[], None]
    refresh_soon: Callable[[], None]
    parameters: Any = None
    generating: bool = False  # the worker samples: other jobs would wait

    def snapshot(self) -> Snapshot:
        """The scene as it is now; all runs are looked up for it, once."""
        runs = () if self.parameters is None else find_runs(self.scene)
        found = tuple(run for run in runs if run.mean is not None)
        shown = next((run for run in found if run.node is self.parameters.run), None)
        return Snapshot(self.scene, self.parameters, found, shown, self.generating, self.in_front())

    def run(self) -> Run | None:
        """The run that the panels show, as it is now."""
        node = None if self.parameters is None else self.parameters.run
        return None if node is None else find_run_of(self.scene, node)

    def select(self, run: Run) -> None:
        """Make a run the one that the panels show."""
        self.parameters.run = run.node

    def again(self, run: Run) -> Run | None:
        """A run that was found earlier as it is now; None: it is gone."""
        return find_run_of(self.scene, run.node) if self.scene.IsNodePresent(run.node) else None

    def packages_there(self, what: str) -> bool:
        """Whether the worker finds the packages that it needs; missing ones are installed, if the user agrees.

        Args:
            what: what does not happen without them, for the one message that says why.

        Raises:
            OSError, ValueError: the list of the packages cannot be read.
        """
        try:
            packages.ensure(True)
        except packages.PackagesError as error:
            self.show_failure(Failure("missing_package", error.message, error.remedy), what)
            return False
        return True

    def show_failure(self, failure: Failure, what: str) -> None:
        """One message for the user: what did not happen, why, what to do; the log in the details."""
        text = "\n\n".join(part for part in (what, failure.message, failure.remedy) if part)
        # Slicer widens a box that has details, even empty ones, to the width of a page.
        details = {"detailedText": failure.details} if failure.details else {}
        slicer.util.errorDisplay(text, windowTitle=_("Ambiguous Segmentation"), **details)

    def has_views(self) -> bool:
        """Whether there are views that can be arranged; if not, says so."""
        if side_by_side.layout_of(self.scene) is None:
            text = _("Slicer was started without its main window: there are no views to show samples side by side in.")
            slicer.util.errorDisplay(text, windowTitle=_("Ambiguous Segmentation"))
            return False
        return True

    def write_texts(self, folder: str, content: Mapping[str, str], nothing: str) -> str:
        """Write files of text into a folder, all or none; what would be replaced is asked for.

        Args:
            content: text by file name.
            nothing: what does not happen if it cannot be, for the one message that says why.

        Returns:
            which files were written, for the user; empty: none, which the user knows.
        """
        earlier = [name for name in content if (Path(folder) / name).exists()]
        if earlier and not slicer.util.confirmOkCancelDisplay(
            _("Folder {folder} holds {file} already. Replace it?").format(folder=folder, file=", ".join(earlier))
        ):
            return ""

        def write(place: Path) -> list[str]:
            for name, text in content.items():
                (place / name).write_text(text, encoding="utf-8", newline="")
            return list(content)

        with self.errors_shown(nothing):
            write_together(folder, write)
            return _("Written: {files}").format(files=", ".join(content))
        return ""

    @contextmanager
    def errors_shown(self, what: str) -> Iterator[None]:
        """Shows what is wrong with the input, in one line; everything else is left to Slicer's log."""
        try:
            yield
        except (OSError, ValueError) as error:
            slicer.util.errorDisplay("\n\n".join([what, str(error)]), windowTitle=_("Ambiguous Segmentation"))


def later(action: Callable[[], None]) -> qt.QTimer:
    """A timer that, when it is started, calls ``action`` once."""
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.connect("timeout()", action)
    return timer

"""A user of the module: presses its buttons by name and waits for what they do."""

from __future__ import annotations

from pathlib import Path

import slicer
from AmbiguousSegBridge.scene.sample_sets import save_scene
from AmbiguousSegBridge.worker.runner import Job, Listener
from shared_data import REPOSITORY

MODULE = REPOSITORY / "AmbiguousSeg" / "AmbiguousSeg.py"
SECTIONS = ("inputsSection", "cardSection", "advancedSection", "resultSection", "modesSection", "ratersSection")
SECTIONS += ("exportSection", "lesionsSection", "modelsSection", "outlinesSection", "reviewSection")
PANEL_WIDTH = 560  # pixels
# Through the middle of the sample data, where raters disagree: enough of it for whatever is not about its size.
FEW_SLICES = {"limitSlices": True, "firstSlice": 9, "lastSlice": 12}


class Driver:
    """The module, loaded into the stand-in ``host``; ``scenes`` is a folder in which ``sampled`` keeps scenes."""

    def __init__(self, host, temporary: Path, scenes: Path | None = None) -> None:
        self.host, self.temporary, self.scenes = host, temporary, scenes
        self.widget = host.load_module(MODULE)

    @property
    def ui(self):
        return self.widget.ui

    @property
    def parameters(self):
        return self.widget.context.parameters

    @property
    def run(self):
        return self.widget.context.run()

    @property
    def busy(self) -> bool:
        """Whether samples are being made."""
        return self.widget.controller.sampling.busy

    def select(self, run) -> None:
        """Have the panels show a run."""
        self.widget.context.select(run)

    def press(self, button: str) -> None:
        """Click a button, which must be enabled."""
        self.settle()
        widget = getattr(self.ui, button)
        assert widget.enabled, f"{button} is disabled: {widget.toolTip}"
        widget.click()

    def settle(self) -> None:
        """Let everything that only waits for the event loop happen."""
        for _ in range(3):
            slicer.app.processEvents()

    def wait(self, until) -> None:
        self.host.process_events(until)
        self.settle()

    batch_script = REPOSITORY / "AmbiguousSeg" / "Scripts" / "batch.py"

    def load_sample_data(self) -> None:
        self.press("sampleDataButton")
        self.settle()

    def generate(self, samples: int, **parameters) -> None:
        """Press the button and wait until it is over; ``FEW_SLICES`` unless others are named."""
        self.start(samples, **(FEW_SLICES | parameters))
        self.wait(lambda: not self.busy)

    def sampled(self, samples: int, first: int, last: int) -> None:
        """A run of the sample data over these slices, with its modes.

        Where there is a folder for scenes it is sampled once, saved and loaded, which takes no worker and no time.
        """
        path = self.scenes and self.scenes / f"{Path(self.parameters.model).name}_{samples}_{first}_{last}.mrb"
        if path is None or not path.exists():
            self.load_sample_data()
            self.generate(samples, firstSlice=first, lastSlice=last)
            self.wait(lambda: "modes" in self.run.tables)
            if path is None:
                return
            save_scene(slicer.mrmlScene, path)
            slicer.mrmlScene.Clear()
            self.settle()
        if not slicer.mrmlScene.ReadFromMRB(str(path), True, None):
            raise OSError(f"The scene {path} could not be read.")
        self.settle()

    def start(self, samples: int, **parameters) -> None:
        """Press the button."""
        self.parameters.samples = samples
        for name, value in parameters.items():
            setattr(self.parameters, name, value)
        self.press("generateButton")

    def nodes(self, class_name: str) -> list:
        return list(slicer.util.getNodesByClass(class_name))

    def node_names(self) -> list[str]:
        return sorted(node.GetName() or node.GetID() for node in slicer.mrmlScene.GetNodes())

    def open_sections(self, *names: str) -> None:
        """Open these collapsible sections and close the others."""
        for name in SECTIONS:
            getattr(self.ui, name).collapsed = name not in names
        self.settle()

    def picture(self, path: Path, *sections: str) -> None:
        """What the panel looks like with these sections open, as high as it needs to be."""
        self.open_sections(*sections)
        panel = self.widget.parent
        panel.resize(PANEL_WIDTH, 100)
        self.settle()
        panel.resize(PANEL_WIDTH, panel.layout().totalHeightForWidth(PANEL_WIDTH))
        self.settle()
        if not panel.grab().save(str(path)):
            raise OSError(f"The picture {path} could not be written.")


class FakeRunner:
    """Takes jobs and does nothing; the test tells their listeners what happens."""

    def __init__(self, **about) -> None:
        self.about, self.jobs, self.cancelled = about or None, [], []

    def start(self, job: Job, listener: Listener) -> int:
        self.jobs.append((job, listener))
        return len(self.jobs)

    def cancel(self, number: int) -> None:
        self.cancelled.append(number)

    def last(self, kind: str) -> tuple[int, Job, Listener]:
        """Number, job and listener of the last job of a kind."""
        return next((n, *self.jobs[n - 1]) for n in range(len(self.jobs), 0, -1) if self.jobs[n - 1][0].kind == kind)

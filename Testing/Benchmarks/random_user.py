"""``python Testing/Benchmarks/random_user.py [SECONDS] [SEED]``: a user who does anything at any moment.

In Slicer's stand-in, with the real worker: presses what is enabled, deletes and empties nodes, changes layouts, closes
the scene, leaves the module while it samples. Prints what was raised, with the steps before it, the messages shown, and
what is left on the disk; ends with 1 if anything was raised.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[n] / part) for n, part in ((2, ""), (1, ""), (2, "AmbiguousSeg"))]

import slicer  # noqa: E402
from module_driver import Driver  # noqa: E402
from SlicerHost import errors, lifecycle  # noqa: E402

lifecycle.install()

BUTTONS = {
    "sampleDataButton": 3,
    "generateButton": 6,
    "moreButton": 3,
    "compareButton": 3,
    "exportButton": 2,
    "sideBySideButton": 3,
    "modesSideBySideButton": 2,
    "histogramButton": 1,
    "disagreementPlotButton": 1,
    "moreDisagreementButton": 1,
    "useConsensusButton": 1,
    "useSampleButton": 1,
    "removeRunButton": 1,
}
ELSEWHERE = ("delete", "empty", "layout", "close", "enter")  # what can be done while another module is open
STEPS_TOLD = 8


class User:
    """Does one thing at a time."""

    def __init__(self, driver: Driver, chance: random.Random, folder: Path) -> None:
        self.driver, self.chance, self.folder = driver, chance, folder
        others = {"delete": 4, "empty": 1, "layout": 2, "close": 1, "leave": 1, "enter": 3, "wait": 4, "settings": 6}
        self._weights = BUTTONS | others

    def act(self) -> str | None:
        """What was done; None if it could not be."""
        deed = self.chance.choices(list(self._weights), list(self._weights.values()))[0]
        if not self.driver.widget.parent.isEntered and deed not in ELSEWHERE:
            return None
        if deed in BUTTONS:
            button = getattr(self.driver.ui, deed)
            if button.enabled:
                button.click()
            return deed
        return f"{deed} {getattr(self, deed)() or ''}"

    def delete(self) -> str:
        nodes = [node for node in slicer.mrmlScene.GetNodes() if node.GetAttribute("AmbiguousSeg.Role")]
        nodes += [*self.driver.nodes("vtkMRMLScalarVolumeNode"), *self.driver.nodes("vtkMRMLSegmentationNode")]
        if not nodes:
            return "nothing"
        node = self.chance.choice(nodes)
        name = node.GetName()
        slicer.mrmlScene.RemoveNode(node)
        return name

    def empty(self) -> str:
        nodes = self.driver.nodes("vtkMRMLSegmentationNode")
        if not nodes:
            return "nothing"
        node = self.chance.choice(nodes)
        node.GetSegmentation().RemoveAllSegments()
        return node.GetName()

    def layout(self) -> None:
        layouts = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView, slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
        slicer.app.layoutManager().setLayout(self.chance.choice(layouts))

    def close(self) -> None:
        slicer.mrmlScene.Clear()

    def leave(self) -> None:
        self.driver.widget.parent._entered = False

    def enter(self) -> None:
        self.driver.widget.parent._entered = True
        self.driver.widget.enter()

    def wait(self) -> None:
        self.driver.wait(lambda: not self.driver.busy)

    def settings(self) -> None:
        parameters, ui, chance = self.driver.parameters, self.driver.ui, self.chance
        parameters.samples, parameters.moreSamples, parameters.seed = chance.randint(1, 3), 1, chance.randint(0, 1)
        parameters.limitSlices, parameters.firstSlice, parameters.lastSlice = True, 9, 11
        parameters.exportFolder = self.folder / f"out{chance.randint(0, 2)}"
        ui.sampleSlider.value = chance.randint(0, 3)
        ui.thresholdSlider.value, ui.modeCutSlider.value = chance.uniform(0, 0.9), chance.uniform(0.1, 0.9)
        if ui.sampleTable.rowCount:
            ui.sampleTable.cellClicked.emit(chance.randrange(ui.sampleTable.rowCount), 0)


def main() -> int:
    given = [float(text) for text in sys.argv[1:]]
    seconds, seed = [*given, *(120.0, 0.0)[len(given) :]]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "temporary").mkdir()
        tempfile.tempdir = str(folder / "temporary")
        chance, shown, steps, raised = random.Random(seed), set(), [], 0
        slicer.util.confirmOkCancelDisplay = lambda *_, **__: True
        slicer.util.errorDisplay = lambda text, *_, **__: shown.add(text.replace("\n\n", " "))
        user = User(Driver(lifecycle, folder / "temporary"), chance, folder)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if deed := user.act():
                    steps.append(deed)
                for _ in range(chance.choice([0, 1, 3, 30])):
                    slicer.app.processEvents()
                    time.sleep(0.002)
                errors.check()
            except Exception as error:  # all of them are to be told
                raised += 1
                print(f"after {', '.join(steps[-STEPS_TOLD:])}:\n{error}\n")
        if user.driver.parameters is not None:
            user.wait()
        lifecycle.unload_all()
        left = [*folder.glob("temporary/AmbiguousSeg-*"), *folder.glob("out*/.*")]
        print(f"{len(steps)} steps, {raised} exceptions, left on the disk: {left or 'nothing'}; messages:")
        print(*sorted(shown), sep="\n")
        lifecycle.uninstall()
    return min(raised, 1)


if __name__ == "__main__":
    sys.exit(main())

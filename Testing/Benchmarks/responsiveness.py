"""How long the module keeps the GUI waiting, and its user waiting for the first sample.

    OMP_NUM_THREADS=2 python Testing/Benchmarks/responsiveness.py [OUT.md]

In the stand-in of Slicer's application (Testing/SlicerHost), with the real worker process and the bundled model: a
timer that is due every 2 ms notes when it comes. The longest gap between two of its ticks is the longest time that
the GUI's thread was blocked. The stand-in draws no slice views, so that time for rendering is not in it.

What large masks cost is measured with masks that need not be sampled: balls of the size of a liver, handed over by a
runner of this script.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[n] / part) for n, part in ((2, ""), (1, ""), (2, "AmbiguousSeg"))]

import slicer  # noqa: E402
from module_driver import Driver  # noqa: E402
from SlicerHost import lifecycle  # noqa: E402

lifecycle.install()

import qt  # noqa: E402
from AmbiguousSegBridge.scene.grid import geometry_of, read_channels  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_volume  # noqa: E402
from AmbiguousSegBridge.worker.runner import Job, Listener  # noqa: E402

from AmbiguousSegLib.volume.crops import Crop  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402

TICK_MS = 2
SAMPLES = 8
LIVERS, RADII = 16, (85, 95)  # voxels; with 0.7 x 0.7 x 1 mm they are 1.3 to 1.8 L


class Gaps:
    """Longest gaps between the ticks of a timer."""

    def __init__(self) -> None:
        self._last: float | None = None
        self.gaps: list[float] = []
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self._tick)
        self._timer.start(TICK_MS)

    def _tick(self) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.gaps.append(now - self._last)
        self._last = now

    def stop(self) -> str:
        self._timer.stop()
        return f"{1000 * max(self.gaps):.0f} | {1000 * np.percentile(self.gaps, 99):.0f}"


def wait(until) -> None:
    """Nothing but the event loop."""
    while not until():
        qt.QApplication.processEvents()
        time.sleep(0.0005)  # the worker shall have its processor


def press(driver: Driver, samples: int) -> tuple[float, float, str]:
    """Seconds to the first sample and to the end, and the gaps meanwhile."""
    driver.settle()
    seen: list[float] = []
    driver.widget.controller.sampling.arrived = lambda: seen.append(time.perf_counter())
    gaps, begin = Gaps(), time.perf_counter()
    driver.start(samples)
    wait(lambda: not driver.busy)
    end = time.perf_counter()
    wait(lambda: "modes" in driver.run.tables)
    return seen[0] - begin, end - begin, gaps.stop()


def large_volume(driver: Driver) -> None:
    """The phantom in the middle of 512 x 512 x 300 voxels of air; a region around it is sampled."""
    (voxels,), geometry = read_channels([driver.parameters.channel1])
    large = np.full((300, 512, 512), -1000, np.float32)
    start = [(big - small) // 2 for big, small in zip(large.shape, voxels.shape)]
    large[tuple(slice(s, s + n) for s, n in zip(start, voxels.shape))] = voxels
    grid = Geometry((512, 512, 300), geometry.spacing_mm, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    node = add_volume(slicer.mrmlScene, large, grid, "large")
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "region")
    centre = grid.to_mm(np.array([s + n / 2 for s, n in zip(reversed(start), reversed(voxels.shape))]))
    region.SetCenter(-centre[0], -centre[1], centre[2])
    region.SetSize(*(n * mm for n, mm in zip(geometry_of(driver.parameters.channel1).size, geometry.spacing_mm)))
    driver.parameters.channel1, driver.parameters.region = node, region
    driver.settle()


class HandsOver:
    """A runner that does nothing but hand over masks, one in an event."""

    about = None

    def __init__(self, shape: tuple[int, int, int]) -> None:
        largest = max(RADII)
        z, y, x = np.ogrid[-largest : largest + 1, -largest : largest + 1, -largest : largest + 1]
        start = [(length - 2 * largest) // 2 for length in shape]
        balls = (Crop.of(z * z + y * y + x * x < radius**2) for radius in np.linspace(*RADII, LIVERS))
        self._masks = [Crop(b.voxels, tuple(a + s for a, s in zip(b.start, start)), shape) for b in balls]
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self._next)
        self._steps = iter(())

    def start(self, job: Job, listener: Listener) -> int:
        if job.kind == "sample":
            self._steps = self._work(job.arguments["first_sample"], job.arguments["samples"], listener)
            self._timer.start(0)
        return 1

    def cancel(self, _number: int) -> None:
        pass

    stop = cancel

    def _work(self, first: int, count: int, listener: Listener):
        for index in range(first, first + count):
            yield listener.sample(index, self._masks[index % LIVERS])
        yield from listener.finished({"provenance": {"seed": 0}}, Path())

    def _next(self) -> None:
        if next(self._steps, self) is self:
            self._timer.stop()


def hand_over(driver: Driver) -> list[str]:
    """Rows for large masks: a run, the same once more (it replaces the first), one more sample, another threshold."""
    shape = tuple(reversed(geometry_of(driver.parameters.channel1).size))
    driver.widget.context.runner = HandsOver(shape)
    rows = []
    for name, button in (
        ("first run", "generateButton"),
        ("the same again, which replaces it", "generateButton"),
        ("one more", "moreButton"),
    ):
        driver.parameters.samples, driver.parameters.moreSamples, driver.parameters.region = LIVERS, 1, None
        driver.settle()
        gaps, begin = Gaps(), time.perf_counter()
        driver.press(button)
        wait(lambda: not driver.busy)
        end = time.perf_counter()
        driver.settle()
        what = f"{LIVERS} balls of radius {RADII[0]} to {RADII[1]} in 512 x 512 x 300, {name}"
        rows.append(f"| {what} | - | {end - begin:.1f} | {gaps.stop()} |")
        print(rows[-1], flush=True)
    return rows


def main(out: Path | None) -> None:
    tempfile.tempdir = tempfile.mkdtemp()
    rows = []
    driver = Driver(lifecycle, Path(tempfile.tempdir))
    driver.load_sample_data()
    for name, samples, prepare in (
        ("sample data, first press (worker started by it)", SAMPLES, lambda: None),
        ("sample data, second press", SAMPLES, lambda: setattr(driver.parameters, "seed", 1)),
        ("512 x 512 x 300, region of the phantom", SAMPLES, lambda: large_volume(driver)),
        ("the same, second press", SAMPLES, lambda: setattr(driver.parameters, "seed", 2)),
    ):
        prepare()
        first, whole, gaps = press(driver, samples)
        rows.append(f"| {name} | {first:.1f} | {whole:.1f} | {gaps} |")
        print(rows[-1], flush=True)
    rows += hand_over(driver)
    text = (
        f"# Waiting for the module\n\nN = {SAMPLES}, bundled phantom model, 4 steps; two-core x86-64, no GPU, torch "
        f"2.13.0 on the CPU; {date.today()}. Made by `Testing/Benchmarks/responsiveness.py`, in Slicer's stand-in: "
        "rendering is not in it. The last rows are of masks that were not sampled but handed over, one in an event.\n\n"
        "| press | first sample, s | whole run, s | longest gap of the GUI thread, ms | 99th percentile, ms |\n"
        "|---|---:|---:|---:|---:|\n" + "\n".join(rows) + "\n"
    )
    if out is not None:
        out.write_text(text, encoding="utf-8")
    lifecycle.uninstall()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)

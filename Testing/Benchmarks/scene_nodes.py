"""Time of putting 16 masks of 512 x 512 x 300 into a scene, call by call, and of what a user then waits for.

    python Testing/Benchmarks/scene_nodes.py

Prints a table: for masks of the size of a lesion, and for masks that fill half of the volume, the longest single call
and the sum over the run (target: 2 s). Each figure is the least of three rounds, in a new scene each.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "AmbiguousSeg")]

from AmbiguousSegBridge.scene.host import make_host  # noqa: E402
from AmbiguousSegBridge.scene.live_run import LiveRun  # noqa: E402
from AmbiguousSegBridge.scene.masks import crops_of  # noqa: E402
from AmbiguousSegBridge.scene.runs import find_runs, remove_run, set_consensus_threshold  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_volume  # noqa: E402

from AmbiguousSegLib.volume.crops import Crop  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402

SIZE = (512, 512, 300)
GRID = Geometry(SIZE, (0.7, 0.7, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
SAMPLES, ROUNDS = 16, 3
END = object()


def lesions() -> list[Crop]:
    """Sixteen balls of radii 40 to 70 voxels about the same centre."""
    z, y, x = np.ogrid[-75:75, -75:75, -75:75]
    crops = []
    for radius in np.linspace(40, 70, SAMPLES):
        ball = Crop.of(z * z + y * y + x * x < radius * radius)
        start = tuple(own + offset for own, offset in zip(ball.start, (75, 200, 150)))
        crops.append(Crop(ball.voxels, start, GRID.shape))
    return crops


def halves() -> list[Crop]:
    """Sixteen random masks of the left half of the volume."""
    random = np.random.default_rng(0)
    half = (SIZE[2], SIZE[1], SIZE[0] // 2)
    return [Crop(random.integers(0, 2, half, np.uint8), (0, 0, 0), GRID.shape) for _ in range(SAMPLES)]


def measure(crops: list[Crop]) -> dict[str, list[float]]:
    """Seconds of every call of one round, by its name."""
    seconds: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = call(*arguments)
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    scene = make_host()
    volume = add_volume(scene, np.zeros(GRID.shape, np.int16), GRID, "scan")
    live = timed("LiveRun", LiveRun, scene, GRID, "run", volume)
    for index, crop in enumerate(crops):
        timed("add, each of 16", live.add, index, crop)
    steps = live.prepare()
    while timed("prepare, each step", next, steps, END) is not END:
        pass
    run = timed("complete", live.complete, {"seed": 0})
    for threshold in (0.25, 0.75):
        timed("set_consensus_threshold", set_consensus_threshold, scene, run, threshold)
    timed("find_runs", find_runs, scene)
    timed("crops_of", crops_of, run)
    more = LiveRun(scene, GRID, "run", volume, extends=run)
    more.add(SAMPLES, crops[0])
    steps = more.prepare()
    while timed("prepare with one more sample, each step", next, steps, END) is not END:
        pass
    timed("complete with one more sample", more.complete, {"seed": 0})
    timed("remove_run", remove_run, scene, find_runs(scene)[0])
    return seconds


def main() -> None:
    for name, make in (("Lesions", lesions), ("Half of the volume", halves)):
        crops = make()
        rounds = [measure(crops) for _ in range(ROUNDS)]
        print(f"| {name} | longest call, ms |\n|---|---:|")
        for call in rounds[0]:
            print(f"| {call} | {1000 * min(max(measured[call]) for measured in rounds):.0f} |")
        parts = ("add, each of 16", "prepare, each step", "complete")
        into = [sum(sum(measured[part]) for part in parts) for measured in rounds]
        print(f"| 16 samples, maps, table and histogram together | {1000 * min(into):.0f} |\n")
        del crops
    print(f"Peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()

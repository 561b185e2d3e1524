"""Writes ``scene_attributes.mrb``: runs that attributes of their nodes told apart, with all that there was by then.

    cd CHECKOUT_OF_THE_COMMIT && OMP_NUM_THREADS=1 python .../Testing/Past/make_past_scene.py

Runs on commit d985083 only, as ``make_past.py`` on its own. In the scene: run "scan samples", of a volume, by the button
(the masks are made up); run "two classes", without a volume; a copy of a sample; a sample of a run under way.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

if __name__ == "__main__":
    sys.path[:0] = [str(Path.cwd() / name) for name in (".", "AmbiguousSeg", "Testing")]

import numpy as np  # noqa: E402
from AmbiguousSegBridge.generation import Events, Generation, Settings  # noqa: E402
from AmbiguousSegBridge.scene.live_run import LiveRun  # noqa: E402
from AmbiguousSegBridge.scene.runs import find_runs  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, save_scene  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import OBLIQUE, input_volume, make_class_samples, make_samples  # noqa: E402

from AmbiguousSegLib.description import read_description  # noqa: E402
from AmbiguousSegLib.volume.crops import Crop  # noqa: E402


class Runner:
    """Keeps the listener of the last job."""

    def start(self, _job, listener) -> int:
        self.listener = listener
        return 1


def main() -> None:
    scene, runner = make_host(), Runner()
    volume = input_volume(scene)
    model = read_description(FOLDER / "model")
    Generation(scene, runner, Settings(model, (volume,), 3, seed=5), Events())
    for index, mask in enumerate(make_samples().masks[:3]):
        runner.listener.sample(index, Crop.of(mask))
    for _ in runner.listener.finished({"provenance": {"seed": 5, "model": {"name": "tiny"}}}, Path()) or ():
        pass
    (run,) = find_runs(scene)
    add_sample_set(scene, make_class_samples(), "two classes")
    copy = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    copy.CopyContent(run.samples[0])
    copy.SetName("a copy")
    LiveRun(scene, OBLIQUE, "under way", volume).add(0, Crop.of(np.ones(OBLIQUE.shape, bool)))
    with tempfile.TemporaryDirectory() as temporary:
        stored = Path(temporary) / "scene.mrb"
        save_scene(scene, stored)
        with zipfile.ZipFile(stored) as source, zipfile.ZipFile(FOLDER / "scene_attributes.mrb", "w") as target:
            for entry in source.infolist():
                target.writestr(entry, source.read(entry), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()

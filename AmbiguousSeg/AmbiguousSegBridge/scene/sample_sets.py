"""A set of samples in the MRML scene: put in as a run, read back, saved.

Every function takes the scene it works on and runs both inside Slicer and on slicer-core.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import slicer

from AmbiguousSegBridge.scene.folders import hierarchy_of, put_into
from AmbiguousSegBridge.scene.grid import ijk_to_ras
from AmbiguousSegBridge.scene.live_run import LiveRun
from AmbiguousSegBridge.scene.run_writer import image_of
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.scene.segments import read_crop
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry


def add_volume(
    scene: slicer.vtkMRMLScene, voxels: np.ndarray, geometry: Geometry, name: str
) -> slicer.vtkMRMLScalarVolumeNode:
    """New volume node, at the top of the subject hierarchy, of a copy of an array ``(Z, Y, X)`` on a grid.

    Raises:
        ValueError: if array and grid differ in shape.
    """
    if voxels.shape != geometry.shape:
        raise ValueError(f"Array of shape {voxels.shape} does not fit a grid of shape {geometry.shape} (Z, Y, X).")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetAndObserveImageData(image_of(np.array(voxels, order="C")))
    node.SetIJKToRASMatrix(ijk_to_ras(geometry))
    node.CreateDefaultDisplayNodes()
    put_into(scene, node, hierarchy_of(scene).GetSceneItemID())
    return node


def add_sample_set(
    scene: slicer.vtkMRMLScene,
    sample_set: SampleSet,
    run_name: str,
    reference_volume: slicer.vtkMRMLScalarVolumeNode | None = None,
    *,
    consensus_threshold: float | None = None,
) -> Run:
    """Put a whole run into the scene: a segmentation per sample, consensus, maps and volumes, in one folder.

    An earlier run of the same name on the same input is replaced once the new nodes are complete. If anything fails,
    the scene is left as it was. Arguments are those of ``LiveRun`` and ``LiveRun.complete``, and so are the errors.
    """
    run = LiveRun(scene, sample_set.geometry, run_name, reference_volume, labels=sample_set.labels)
    try:
        for index, mask in enumerate(sample_set.masks, sample_set.provenance.get("first_sample", 0)):
            run.add(index, Crop.of(mask))
        return run.complete(sample_set.provenance, consensus_threshold)
    except BaseException:
        run.discard()
        raise


def read_sample(
    segmentation: slicer.vtkMRMLSegmentationNode, geometry: Geometry | None = None, segment_id: str | None = None
) -> np.ndarray:
    """The mask of one segment that ``segments.read_crop`` reads, on the whole grid: bool ``(Z, Y, X)``."""
    return read_crop(segmentation, geometry, segment_id).full().view(bool)


def save_scene(scene: slicer.vtkMRMLScene, path: Path | str) -> None:
    """Write the scene and its data to ``path`` (``.mrb``), which never holds half a file.

    Raises:
        ValueError: if the suffix is not ``.mrb``.
        OSError: if Slicer could not write it, with Slicer's messages.
    """
    path = Path(path)
    if path.suffix.lower() != ".mrb":
        raise ValueError(f"A scene is saved as .mrb, got {path.name!r}. Give a name that ends in .mrb.")
    messages = slicer.vtkMRMLMessageCollection()
    with replacing(path) as temporary, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        bundle = Path(folder) / path.name  # Slicer names the folder inside the bundle after the file
        if not scene.WriteToMRB(str(bundle), None, messages):
            raise OSError(f"Slicer could not write {path}: {messages.GetAllMessagesAsString().strip()}")
        os.replace(bundle, temporary)

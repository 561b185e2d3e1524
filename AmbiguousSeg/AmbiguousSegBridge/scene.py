"""A set of samples in the MRML scene: put in, found again, read back, removed, saved.

Every function takes the scene it works on and runs both inside Slicer and on slicer-core. All nodes of a run carry
``AmbiguousSeg.`` attributes and a reference to the input volume; by these a later run of the same name on the same
input finds and replaces its own outputs, and nothing else.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from AmbiguousSegBridge.grid import geometry_from, geometry_of, ijk_to_ras
from AmbiguousSegBridge.run_writer import (
    ATTRIBUTE,
    CONSENSUS_COLOUR,
    INPUT_REFERENCE,
    MEAN_COLOURS,
    VARIANCE_COLOURS,
    RunWriter,
    fill_volume,
    sample_colour,
)
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import LESION_TERMINOLOGY

SAME_VOXEL_WITHIN = 0.01  # of a voxel's edge


@dataclass(frozen=True)
class RunNodes:
    """What one run put into the scene; ``folder_item`` is its subject-hierarchy item."""

    folder_item: int
    samples: tuple[slicer.vtkMRMLSegmentationNode, ...]
    mean: slicer.vtkMRMLScalarVolumeNode
    variance: slicer.vtkMRMLScalarVolumeNode
    consensus: slicer.vtkMRMLSegmentationNode


def add_volume(
    scene: slicer.vtkMRMLScene, voxels: np.ndarray, geometry: Geometry, name: str
) -> slicer.vtkMRMLScalarVolumeNode:
    """New volume node, at the top of the subject hierarchy, of an array ``(Z, Y, X)`` on the grid ``geometry``.

    Raises:
        ValueError: if array and grid differ in shape.
    """
    if voxels.shape != geometry.shape:
        raise ValueError(f"Array of shape {voxels.shape} does not fit a grid of shape {geometry.shape} (Z, Y, X).")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    fill_volume(node, voxels, ijk_to_ras(geometry))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if not hierarchy.GetItemByDataNode(node):  # Slicer made it with the node, slicer-core does not
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    return node


def add_sample_set(
    scene: slicer.vtkMRMLScene,
    sample_set: SampleSet,
    run_name: str,
    reference_volume: slicer.vtkMRMLScalarVolumeNode | None = None,
    *,
    terminology: str = LESION_TERMINOLOGY,
    consensus_threshold: float = 0.5,
) -> RunNodes:
    """Put a run into the scene: a segmentation per sample, consensus, mean and variance, in one folder.

    An earlier run of the same name on the same input is replaced once the new nodes are complete. If anything fails,
    the scene is left as it was.

    Args:
        run_name: name of the folder and first part of the names of the nodes; with the input, the run's identity.
        reference_volume: input volume, in ``scene``: gives the nodes their reference geometry, parent transform and
            place in the subject hierarchy. Without one, the mean is the reference.
        terminology: serialised terminology entry of every segment.
        consensus_threshold: as in ``SampleSet.consensus``.

    Raises:
        ValueError: if ``run_name`` is empty, or the samples do not lie on the grid of ``reference_volume``.
    """
    if not run_name.strip():
        raise ValueError("A run needs a name, got an empty one.")
    if reference_volume is not None and not geometry_of(reference_volume).same_grid(sample_set.geometry):
        raise ValueError(
            f"The samples do not lie on the grid of volume {reference_volume.GetName()!r}: expected "
            f"{geometry_of(reference_volume)}, got {sample_set.geometry}. Give the volume they were made of."
        )
    earlier = find_run(scene, run_name, reference_volume)
    folder = _folder_of(scene, earlier)
    with slicer.util.RenderBlocker() if hasattr(slicer, "app") else nullcontext():
        writer = RunWriter(scene, sample_set, run_name, folder, reference_volume, terminology)
        complete = False
        try:
            mean = writer.add_map("mean", sample_set.mean(), MEAN_COLOURS, 1.0)
            variance = writer.add_map("variance", sample_set.variance(), VARIANCE_COLOURS, 0.25)
            consensus = writer.add_mask("consensus", sample_set.consensus(consensus_threshold), CONSENSUS_COLOUR)
            consensus.SetAttribute(ATTRIBUTE + "ConsensusThreshold", str(consensus_threshold))
            samples = []
            for index, mask in enumerate(sample_set.masks, sample_set.provenance.get("first_sample", 0)):
                samples.append(writer.add_mask(f"sample {index + 1:02d}", mask, sample_colour(index)))
                samples[-1].SetAttribute(ATTRIBUTE + "SampleIndex", str(index))
            complete = True
        finally:
            remove_nodes(scene, earlier if complete else writer.nodes)
            _remove_empty_folder(scene, writer.folder)
    return RunNodes(writer.folder, tuple(samples), mean, variance, consensus)


def find_run(
    scene: slicer.vtkMRMLScene, run_name: str, reference_volume: slicer.vtkMRMLScalarVolumeNode | None = None
) -> list[slicer.vtkMRMLNode]:
    """Nodes that a run of this name on this input (None: without one) has put into the scene."""
    wanted = None if reference_volume is None else reference_volume.GetID()
    return [
        node
        for node in (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))
        if node.GetAttribute(ATTRIBUTE + "Run") == run_name
        and node.GetAttribute(ATTRIBUTE + "HasInput") == str(wanted is not None)  # the input may have been deleted
        and node.GetNodeReferenceID(INPUT_REFERENCE) == wanted
    ]


def remove_nodes(scene: slicer.vtkMRMLScene, nodes: Sequence[slicer.vtkMRMLNode]) -> None:
    """Remove nodes with their display and storage nodes, and the folder of their run if that leaves it empty."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = _folder_of(scene, nodes)
    for node in nodes:
        helpers = []
        if node.IsA("vtkMRMLDisplayableNode"):
            helpers += [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
        if node.IsA("vtkMRMLStorableNode"):
            helpers += [node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())]
        for removed in (node, *helpers):
            if removed is not None and scene.IsNodePresent(removed):
                scene.RemoveNode(removed)
        if item := hierarchy.GetItemByDataNode(node):  # Slicer removes it with the node, slicer-core does not
            hierarchy.RemoveItem(item, False)
    _remove_empty_folder(scene, folder)


def read_sample(
    segmentation: slicer.vtkMRMLSegmentationNode, geometry: Geometry | None = None, segment_id: str | None = None
) -> np.ndarray:
    """Mask of a segment (None: the only one) on a grid (None: the segmentation's reference geometry).

    Nothing is resampled: the segment's voxels must be voxels of the grid. Coordinates are those of the node itself,
    before its parent transform.

    Returns:
        bool ``(Z, Y, X)``.

    Raises:
        ValueError: if there is no such segment, no reference geometry, or the segment does not lie on the grid.
    """
    name, segments = segmentation.GetName(), segmentation.GetSegmentation()
    segment_ids = list(segments.GetSegmentIDs())
    if segment_id is None and len(segment_ids) == 1:
        segment_id = segment_ids[0]
    if segment_id not in segment_ids:
        raise ValueError(f"Segmentation {name!r} has the segments {segment_ids}; name one of them, got {segment_id!r}.")
    geometry = _reference_geometry(segmentation) if geometry is None else geometry
    mask = np.zeros(geometry.shape, bool)
    labelmap = segmentation.GetBinaryLabelmapInternalRepresentation(segment_id)
    if labelmap is None or labelmap.IsEmpty():
        return mask
    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(labelmap.GetDimensions()[::-1])
    marked = voxels == segments.GetSegment(segment_id).GetLabelValue()
    first = _first_voxel(labelmap, geometry)[::-1]
    low = np.maximum(first, 0)
    high = np.maximum(np.minimum(first + marked.shape, mask.shape), low)
    part = marked[tuple(slice(lo, hi) for lo, hi in zip(low - first, high - first))]
    if np.count_nonzero(part) != np.count_nonzero(marked):
        raise ValueError(f"Segment {segment_id!r} of {name!r} reaches out of the grid {geometry}. Give its own grid.")
    if part.size:
        mask[tuple(slice(lo, hi) for lo, hi in zip(low, high))] = part
    return mask


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


def _folder_of(scene: slicer.vtkMRMLScene, nodes: Sequence[slicer.vtkMRMLNode]) -> int:
    """Folder of a run that holds one of the nodes; 0 if there is none."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    items = [item for item in (hierarchy.GetItemByDataNode(node) for node in nodes) if item]
    parents = [hierarchy.GetItemParent(item) for item in items]
    return next((parent for parent in parents if hierarchy.GetItemAttribute(parent, ATTRIBUTE + "Run")), 0)


def _remove_empty_folder(scene: slicer.vtkMRMLScene, folder: int) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if folder and hierarchy.GetNumberOfItemChildren(folder) == 0:
        hierarchy.RemoveItem(folder)


def _reference_geometry(segmentation: slicer.vtkMRMLSegmentationNode) -> Geometry:
    parameter = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    serialised = segmentation.GetSegmentation().GetConversionParameter(parameter)
    matrix, extent = vtk.vtkMatrix4x4(), [0] * 6
    if not serialised or not slicer.vtkSegmentationConverter.DeserializeImageGeometry(serialised, matrix, extent):
        raise ValueError(f"Segmentation {segmentation.GetName()!r} has no reference geometry. Give a grid to read on.")
    return geometry_from(matrix, np.array(extent[1::2]) - extent[0::2] + 1)


def _first_voxel(labelmap: slicer.vtkOrientedImageData, geometry: Geometry) -> np.ndarray:
    """Index (x, y, z) on ``geometry`` of the first voxel stored in ``labelmap``; it may lie outside."""
    to_ras, to_grid = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(to_ras)
    vtk.vtkMatrix4x4.Invert(ijk_to_ras(geometry), to_grid)
    vtk.vtkMatrix4x4.Multiply4x4(to_grid, to_ras, to_grid)
    relative = np.array([[to_grid.GetElement(r, c) for c in range(4)] for r in range(3)])
    extent = np.array(labelmap.GetExtent()).reshape(3, 2)
    position = relative @ (*extent[:, 0], 1)
    first = np.round(position).astype(int)
    drift = np.abs(relative[:, :3] - np.eye(3)) @ (extent[:, 1] - extent[:, 0])
    if np.any(np.abs(position - first) + drift > SAME_VOXEL_WITHIN):
        raise ValueError(
            f"A labelmap of extent {labelmap.GetExtent()} has its voxels elsewhere than the grid {geometry}. Export "
            "the segmentation with that grid's volume as the reference first (module Segmentations)."
        )
    return first

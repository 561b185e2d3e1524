"""The runs that lie in a scene: found, read back, renewed, renamed, removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from AmbiguousSegBridge.grid import geometry_of
from AmbiguousSegBridge.identity import (
    ATTRIBUTE,
    CONSENSUS,
    INPUT_ID,
    INPUT_REFERENCE,
    LABEL,
    MEAN,
    PROVENANCE,
    ROLE,
    RUN,
    SAMPLE_INDEX,
    VARIANCE,
    folder_of,
    hierarchy_of,
    identity_of,
    node_name,
    nodes_by_run,
    nodes_of,
    put_into,
    remove_nodes,
    sample_index,
    sign,
)
from AmbiguousSegBridge.maps import DEFAULT_THRESHOLD, Tally, at_once, check_threshold, consensus_of, maps_of
from AmbiguousSegBridge.run_writer import THRESHOLD, RunWriter, box_of, segment_id_of
from AmbiguousSegBridge.segments import add_segment, place_on_grid, read_crop, reference_geometry
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import LESION_TERMINOLOGY

TABLE = ATTRIBUTE + "Table"


@dataclass(frozen=True)
class Run:
    """A run as it lay in a scene when it was looked for. Nodes that the user deleted are missing.

    Attributes:
        input: volume the samples were made of; None if there was none, or it was deleted.
        folder_item: subject-hierarchy item of its folder; 0 if it is gone.
        samples: by index.
        tables: by role, those that ``tables.write_table`` wrote.
        nodes: all nodes, helpers such as colour tables included, by role.
        input_id: node id of the input, if there was one when the run was made.
    """

    name: str
    input: slicer.vtkMRMLScalarVolumeNode | None
    folder_item: int
    samples: tuple[slicer.vtkMRMLSegmentationNode, ...]
    mean: slicer.vtkMRMLScalarVolumeNode | None
    variance: slicer.vtkMRMLScalarVolumeNode | None
    consensus: slicer.vtkMRMLSegmentationNode | None
    tables: dict[str, slicer.vtkMRMLTableNode]
    provenance: dict[str, Any]
    label: str
    nodes: dict[str, slicer.vtkMRMLNode] = field(repr=False)
    input_id: str | None = None

    @property
    def consensus_threshold(self) -> float:
        """Threshold that the consensus was made with; 0.5 if there is no consensus."""
        text = self.consensus.GetAttribute(THRESHOLD) if self.consensus is not None else None
        return float(text) if text else DEFAULT_THRESHOLD

    @property
    def anchor(self) -> slicer.vtkMRMLTransformableNode:
        """Node whose grid and parent transform are the run's: the mean, or the first sample where that was deleted."""
        return self.samples[0] if self.mean is None else self.mean

    @cached_property
    def geometry(self) -> Geometry:
        """Grid of the maps, on which the samples have to lie, before the parent transform.

        Raises:
            ValueError: if the anchor lies on no regular grid any more.
        """
        try:
            return reference_geometry(self.samples[0]) if self.mean is None else geometry_of(self.mean)
        except ValueError as error:
            raise ValueError(
                f"{self.anchor.GetName()!r} lies on no regular grid any more. Undo what was done to it, such as "
                "hardening a transform; or delete it in the module Data."
            ) from error


def find_runs(scene: slicer.vtkMRMLScene) -> list[Run]:
    """All complete runs, in the order of the scene; not those of which neither a sample nor the mean is left.

    Whatever was done to their nodes: what can be read no more is told where it is needed, see ``Run.geometry``.
    """
    runs = (_run_of(scene, nodes) for nodes in nodes_by_run(scene).values())
    return [run for run in runs if run is not None]


def find_run_of(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode) -> Run | None:
    """The run that a node belongs to; None if it belongs to none."""
    nodes = nodes_by_run(scene).get(identity_of(node), [])
    return _run_of(scene, nodes) if any(mate is node for mate in nodes) else None


def crops_of(run: Run) -> list[Crop]:
    """Masks of the samples in their order, on the run's grid; ValueError if one was changed beyond reading."""
    return [mask_of(node, run) for node in run.samples]


def mask_of(node: slicer.vtkMRMLSegmentationNode, run: Run) -> Crop:
    """Mask of one of a run's segmentations, on the run's grid.

    Raises:
        ValueError: as ``read_mask``, or if the segmentation lies under another transform than the run.
    """
    if node.GetTransformNodeID() != run.anchor.GetTransformNodeID():
        raise ValueError(
            f"{node.GetName()!r} lies under another transform than {run.anchor.GetName()!r}. Put both under one, undo "
            "it if the transform of one of them was hardened, or delete the segmentation in the module Data."
        )
    return read_mask(node, run.geometry)


def read_mask(node: slicer.vtkMRMLSegmentationNode, geometry: Geometry) -> Crop:
    """Mask of a run's own segmentation; segments that the user added to it do not count.

    Raises:
        ValueError: as ``read_crop``.
    """
    return read_crop(node, geometry, mask_id(node))


def mask_id(node: slicer.vtkMRMLSegmentationNode) -> str:
    """Id of the segment that is a run's own in one of its segmentations; ValueError if it is gone."""
    segmentation, segment_id = node.GetSegmentation(), segment_id_of(node.GetAttribute(ROLE))
    if segmentation.GetSegment(segment_id) is not None:
        return segment_id
    if segmentation.GetNumberOfSegments() != 1:
        raise ValueError(f"{node.GetName()!r} has lost its mask. Delete it in the module Data.")
    return segmentation.GetNthSegmentID(0)


def map_array(node: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Voxels ``(Z, Y, X)`` of a map, as they lie in memory; ValueError if it was emptied."""
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise ValueError(f"{node.GetName()!r} holds no voxels any more. Delete it in the module Data.")
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def unique_run_name(
    scene: slicer.vtkMRMLScene,
    base: str,
    input_volume: slicer.vtkMRMLScalarVolumeNode | None,
    input_id: str | None = None,
) -> str:
    """``base``, or the first of "base 2", "base 3" ... that no run on this input bears; see ``identity.nodes_of``."""
    name, number = base, 1
    while nodes_of(scene, name, input_volume, input_id):
        number += 1
        name = f"{base} {number}"
    return name


def remove_run(scene: slicer.vtkMRMLScene, run: Run) -> None:
    """Remove a run, and its folder unless something else lies in it; copies made of its nodes stay."""
    remove_nodes(scene, list(run.nodes.values()))


def rename_run(scene: slicer.vtkMRMLScene, run: Run, name: str) -> Run:
    """Rename a run: its folder and its nodes, where they still bear its name.

    Raises:
        ValueError: if the name is empty, or another run on the same input bears it.
    """
    check_name(name)
    if name == run.name:
        return run
    if nodes_of(scene, name, run.input, run.input_id):
        raise ValueError(f"There is already a run {name!r} on this volume. Choose another name.")
    for role, node in run.nodes.items():
        if node.GetName() == node_name(run.name, role):
            node.SetName(node_name(name, role))
        node.SetAttribute(RUN, name)
    if run.folder_item:
        hierarchy = hierarchy_of(scene)
        if hierarchy.GetItemName(run.folder_item) == run.name:
            hierarchy.SetItemName(run.folder_item, name)
        hierarchy.SetItemAttribute(run.folder_item, RUN, name)
    return _run_of(scene, list(run.nodes.values()))


def check_name(name: str) -> None:
    """ValueError if a run cannot bear this name."""
    if not name.strip():
        raise ValueError("A run needs a name, got an empty one.")


def renew_maps(scene: slicer.vtkMRMLScene, run: Run, consensus_threshold: float | None = None) -> Run:
    """Compute mean, variance and consensus anew from the samples as they are; nodes that are there stay the same.

    Args:
        consensus_threshold: None: that of the consensus so far.

    Raises:
        ValueError: if no sample is left, one does not lie on the run's grid, or the threshold is not in [0, 1).
    """
    threshold = run.consensus_threshold if consensus_threshold is None else consensus_threshold
    check_threshold(threshold)
    if not run.samples:
        raise ValueError(f"No sample of run {run.name!r} is left. Remove the run, or generate it again.")
    writer = writer_of(scene, run)
    writer.put_maps(at_once(maps_of(Tally(run.geometry.shape, crops_of(run)), threshold)), run.nodes)
    sign_as(run, writer.nodes)
    return find_run_of(scene, run.samples[0])


def set_consensus_threshold(scene: slicer.vtkMRMLScene, run: Run, threshold: float) -> None:
    """Compute the consensus anew from the mean map, where any sample marks something.

    Raises:
        ValueError: if the mean was deleted, or the threshold is not in [0, 1).
    """
    check_threshold(threshold)
    if run.mean is None:
        raise ValueError(f"Run {run.name!r} has no mean map any more. Compute its maps anew first.")
    writer = writer_of(scene, run)
    writer.put_consensus(consensus_of(map_array(run.mean), box_of(run.mean), threshold), threshold, run.consensus)
    sign_as(run, writer.nodes)


def use_as_segmentation(
    scene: slicer.vtkMRMLScene, run: Run, source_node: slicer.vtkMRMLSegmentationNode, name: str | None = None
) -> slicer.vtkMRMLSegmentationNode:
    """Copy of a sample or of the consensus as an ordinary segmentation, beside the run's folder, to be edited.

    Args:
        name: of the new node; None: label and source, made unique in the scene.

    Raises:
        ValueError: if the source was changed beyond reading.
    """
    role = source_node.GetAttribute(ROLE)
    crop = mask_of(source_node, run)
    colour = source_node.GetSegmentation().GetSegment(mask_id(source_node)).GetColor()
    name = name or scene.GenerateUniqueName(f"{run.label}, from {role}")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(source_node.GetTransformNodeID())  # before the reference geometry
    writer = writer_of(scene, run)
    place_on_grid(node, run.geometry, writer.reference or run.mean)
    add_segment(node, segment_id_of(run.label), run.label, colour, writer.terminology, crop, writer.to_ras)
    hierarchy = hierarchy_of(scene)
    put_into(scene, node, hierarchy.GetItemParent(run.folder_item) if run.folder_item else hierarchy.GetSceneItemID())
    return node


def writer_of(scene: slicer.vtkMRMLScene, run: Run) -> RunWriter:
    """What makes nodes that lie as the run's own; ``sign_as`` makes them the run's."""
    transform_id, terminology = run.anchor.GetTransformNodeID(), terminology_of(run)
    return RunWriter(scene, run.name, run.geometry, run.input, run.label, terminology, run.folder_item, transform_id)


def terminology_of(run: Run) -> str:
    """Serialised terminology entry of what is segmented, as the first mask that is left has it."""
    masks = (node.GetSegmentation().GetNthSegment(0) for node in (*run.samples, run.consensus) if node is not None)
    segment = next(masks, None)
    return segment.GetTerminology() if segment is not None else LESION_TERMINOLOGY


def sign_as(run: Run, nodes: Sequence[slicer.vtkMRMLNode]) -> None:
    """Make nodes those of ``run``; all refer to its mean map, which may be one of them."""
    sign([*run.nodes.values(), *nodes], run.name, run.input, run.input_id, run.label, run.provenance)


def _run_of(scene: slicer.vtkMRMLScene, nodes: Sequence[slicer.vtkMRMLNode]) -> Run | None:
    """The run whose nodes these are; None if neither a sample nor the mean is left."""
    by_role = {node.GetAttribute(ROLE): node for node in nodes}
    samples = sorted((node for node in nodes if node.GetAttribute(SAMPLE_INDEX)), key=sample_index)
    mean, variance, consensus = (by_role.get(role) for role in (MEAN, VARIANCE, CONSENSUS))
    if mean is None and not samples:
        return None
    first = samples[0] if samples else mean
    return Run(
        name=first.GetAttribute(RUN),
        input=first.GetNodeReference(INPUT_REFERENCE),
        folder_item=folder_of(scene, nodes),
        samples=tuple(samples),
        mean=mean,
        variance=variance,
        consensus=consensus,
        tables={role: node for role, node in by_role.items() if node.GetAttribute(TABLE)},
        provenance=json.loads(first.GetAttribute(PROVENANCE)),
        label=first.GetAttribute(LABEL),
        nodes=by_role,
        input_id=first.GetAttribute(INPUT_ID),
    )

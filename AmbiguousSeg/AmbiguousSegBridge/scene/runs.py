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

from AmbiguousSegBridge.scene.grid import geometry_of
from AmbiguousSegBridge.scene.identity import (
    ATTRIBUTE,
    CONSENSUS,
    ENTROPY,
    INPUT_ID,
    INPUT_REFERENCE,
    LABEL,
    LABELS,
    MEAN,
    PROVENANCE,
    ROLE,
    RUN,
    SAMPLE_INDEX,
    VARIANCE,
    folder_of,
    hierarchy_of,
    identity_of,
    map_roles,
    node_name,
    nodes_by_run,
    nodes_of,
    put_into,
    remove_nodes,
    sample_index,
    sign,
)
from AmbiguousSegBridge.scene.maps import Tally, at_once, consensus_of, maps_of
from AmbiguousSegBridge.scene.run_writer import THRESHOLD, RunWriter, box_of, segment_ids_of
from AmbiguousSegBridge.scene.segments import (
    add_segment,
    count_voxels,
    place_on_grid,
    read_crop,
    reference_geometry,
)
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.ensemble.consensus import checked_threshold
from AmbiguousSegLib.labels import LESION_TERMINOLOGY, Label
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry

TABLE = ATTRIBUTE + "Table"


@dataclass(frozen=True)
class Run:
    """A run as it lay in a scene when it was looked for. Nodes that the user deleted are missing.

    Attributes:
        input: volume the samples were made of; None if there was none, or it was deleted.
        folder_item: subject-hierarchy item of its folder; 0 if it is gone.
        samples: by index.
        means, variances: a map for each class.
        entropy: None with one class, too.
        labels: the classes 1 to K; one of a single class has the colour of any.
        tables: by role, those that ``tables.write_table`` wrote.
        nodes: all nodes, helpers such as colour tables included, by role.
        input_id: node id of the input, if there was one when the run was made.
    """

    name: str
    input: slicer.vtkMRMLScalarVolumeNode | None
    folder_item: int
    samples: tuple[slicer.vtkMRMLSegmentationNode, ...]
    means: tuple[slicer.vtkMRMLScalarVolumeNode | None, ...]
    variances: tuple[slicer.vtkMRMLScalarVolumeNode | None, ...]
    entropy: slicer.vtkMRMLScalarVolumeNode | None
    consensus: slicer.vtkMRMLSegmentationNode | None
    tables: dict[str, slicer.vtkMRMLTableNode]
    provenance: dict[str, Any]
    labels: tuple[Label, ...]
    nodes: dict[str, slicer.vtkMRMLNode] = field(repr=False)
    input_id: str | None = None

    @property
    def mean(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Mean map by which the run is known: the first class's."""
        return self.means[0]

    @property
    def label_names(self) -> list[str]:
        return [label.name for label in self.labels]

    @property
    def consensus_threshold(self) -> float | None:
        """Threshold that the consensus was made with; 0.5 if there is no consensus; None with several classes."""
        text = self.consensus.GetAttribute(THRESHOLD) if self.consensus is not None else None
        return float(text) if text else checked_threshold(None, len(self.labels))

    @property
    def anchor(self) -> slicer.vtkMRMLTransformableNode:
        """Node whose grid and parent transform are the run's: the mean, or the first sample where that was deleted."""
        return self.samples[0] if self.mean is None else self.mean

    @cached_property
    def geometry(self) -> Geometry:
        """Grid of the maps, on which the samples have to lie, before the parent transform.

        Raises:
            ValueError: if the anchor no longer lies on a regular grid.
        """
        try:
            return reference_geometry(self.samples[0]) if self.mean is None else geometry_of(self.mean)
        except ValueError as error:
            raise ValueError(
                f"{self.anchor.GetName()!r} no longer lies on a regular grid. Undo what was done to it, such as "
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
    return read_mask(node, run.geometry, run.labels)


def read_mask(node: slicer.vtkMRMLSegmentationNode, geometry: Geometry, labels: Sequence[Label]) -> Crop:
    """Mask of a run's own segmentation; segments that the user added to it do not count.

    Raises:
        ValueError: as ``read_crop`` and ``mask_ids``, or segments of two classes overlap.
    """
    crops = [
        Crop.nothing(geometry.shape) if segment_id is None else read_crop(node, geometry, segment_id)
        for segment_id in mask_ids(node, labels)
    ]
    return crops[0] if len(crops) == 1 else Crop.merged(crops, names_in(node, labels))


def names_in(node: slicer.vtkMRMLSegmentationNode, labels: Sequence[Label]) -> list[str]:
    """Names of the labels for messages about the segments of a node."""
    return [f"{label.name!r} of {node.GetName()!r}" for label in labels]


def mask_ids(node: slicer.vtkMRMLSegmentationNode, labels: Sequence[Label]) -> list[str | None]:
    """Ids of the segments that are a run's own in one of its segmentations, one for each class.

    None stands for a class whose segment the user deleted: it marks nothing.

    Raises:
        ValueError: all of them are gone.
    """
    segmentation, wanted = node.GetSegmentation(), segment_ids_of(node.GetAttribute(ROLE), labels)
    found = [name if segmentation.GetSegment(name) is not None else None for name in wanted]
    if any(found):
        return found
    if len(labels) == 1 and segmentation.GetNumberOfSegments() == 1:
        return [segmentation.GetNthSegmentID(0)]
    raise ValueError(f"{node.GetName()!r} has lost its mask. Delete it in the module Data.")


def count_marked(node: slicer.vtkMRMLSegmentationNode, labels: Sequence[Label]) -> tuple[int, ...]:
    """Voxels that a run's own segmentation gives to each class; ValueError as ``mask_ids`` and ``count_voxels``."""
    return tuple(0 if name is None else count_voxels(node, name) for name in mask_ids(node, labels))


def map_array(node: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Voxels ``(Z, Y, X)`` of a map, as they lie in memory; ValueError if it was emptied."""
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise ValueError(f"{node.GetName()!r} no longer holds any voxels. Delete it in the module Data.")
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
        ValueError: if no sample is left, one does not lie on the run's grid, or as ``checked_threshold``.
    """
    threshold = run.consensus_threshold if consensus_threshold is None else consensus_threshold
    checked_threshold(threshold, len(run.labels))
    if not run.samples:
        raise ValueError(f"No sample of run {run.name!r} is left. Remove the run, or generate it again.")
    writer = writer_of(scene, run)
    tally = Tally(run.geometry.shape, crops_of(run), len(run.labels))
    writer.put_maps(at_once(maps_of(tally, threshold)), run.nodes)
    sign_as(run, writer.nodes)
    return find_run_of(scene, run.samples[0])


def set_consensus_threshold(scene: slicer.vtkMRMLScene, run: Run, threshold: float) -> None:
    """Compute the consensus of one class anew from the mean map, where any sample marks something.

    Raises:
        ValueError: if the mean was deleted, or as ``checked_threshold``: several classes take no threshold.
    """
    checked_threshold(threshold, len(run.labels))
    if run.mean is None:
        raise ValueError(f"Run {run.name!r} no longer has a mean map. Compute its maps again first.")
    writer = writer_of(scene, run)
    writer.put_consensus(consensus_of([map_array(run.mean)], box_of(run.mean), threshold), threshold, run.consensus)
    sign_as(run, writer.nodes)


def use_as_segmentation(
    scene: slicer.vtkMRMLScene, run: Run, source_node: slicer.vtkMRMLSegmentationNode, name: str | None = None
) -> slicer.vtkMRMLSegmentationNode:
    """Copy of a sample or of the consensus as an ordinary segmentation, beside the run's folder, to be edited.

    Args:
        name: of the new node; None: labels and source, made unique in the scene.

    Raises:
        ValueError: if the source was changed beyond reading.
    """
    role = source_node.GetAttribute(ROLE)
    crop, own = mask_of(source_node, run), mask_ids(source_node, run.labels)
    name = name or scene.GenerateUniqueName(f"{' + '.join(run.label_names)}, from {role}")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(source_node.GetTransformNodeID())  # before the reference geometry
    writer = writer_of(scene, run)
    place_on_grid(node, run.geometry, writer.reference or run.mean)
    for number, (label, source_id) in enumerate(zip(run.labels, own), start=1):
        source = source_node.GetSegmentation().GetSegment(source_id) if source_id else None
        segment_id = segment_ids_of(label.name, run.labels)[number - 1]
        colour = label.color if source is None else source.GetColor()
        part, alone = crop.of_class(number), len(run.labels) == 1
        add_segment(node, segment_id, label.name, colour, label.terminology, part, writer.to_ras, alone)
    hierarchy = hierarchy_of(scene)
    put_into(scene, node, hierarchy.GetItemParent(run.folder_item) if run.folder_item else hierarchy.GetSceneItemID())
    return node


def writer_of(scene: slicer.vtkMRMLScene, run: Run) -> RunWriter:
    """What makes nodes that lie as the run's own; ``sign_as`` makes them the run's."""
    transform_id = run.anchor.GetTransformNodeID()
    return RunWriter(scene, run.name, run.geometry, run.input, run.labels, run.folder_item, transform_id)


def sign_as(run: Run, nodes: Sequence[slicer.vtkMRMLNode]) -> None:
    """Make nodes those of ``run``; all refer to its mean map, which may be one of them."""
    sign([*run.nodes.values(), *nodes], run.name, run.input, run.input_id, run.labels, run.provenance)


def _run_of(scene: slicer.vtkMRMLScene, nodes: Sequence[slicer.vtkMRMLNode]) -> Run | None:
    """The run whose nodes these are; None if neither a sample nor the mean is left."""
    by_role = {node.GetAttribute(ROLE): node for node in nodes}
    samples = sorted((node for node in nodes if node.GetAttribute(SAMPLE_INDEX)), key=sample_index)
    first = next((node for node in (*samples, *nodes) if node.GetAttribute(LABEL) or node.GetAttribute(LABELS)), None)
    if first is None:
        return None
    consensus = by_role.get(CONSENSUS)
    labels = _labels_of(first, [*samples, consensus])
    means, variances = (tuple(map(by_role.get, map_roles(kind, labels))) for kind in (MEAN, VARIANCE))
    if means[0] is None and not samples:
        return None
    first = samples[0] if samples else means[0]
    return Run(
        name=first.GetAttribute(RUN),
        input=first.GetNodeReference(INPUT_REFERENCE),
        folder_item=folder_of(scene, nodes),
        samples=tuple(samples),
        means=means,
        variances=variances,
        entropy=by_role.get(ENTROPY),
        consensus=consensus,
        tables={role: node for role, node in by_role.items() if node.GetAttribute(TABLE)},
        provenance=json.loads(first.GetAttribute(PROVENANCE)),
        labels=labels,
        nodes=by_role,
        input_id=first.GetAttribute(INPUT_ID),
    )


def _labels_of(node: slicer.vtkMRMLNode, masks: Sequence[slicer.vtkMRMLSegmentationNode | None]) -> tuple[Label, ...]:
    """Labels that a run's node names; terminology of a single class as the first mask that is left has it."""
    several = node.GetAttribute(LABELS)
    if several:
        return tuple(from_dict(Label, entry, LABELS) for entry in json.loads(several))
    segments = (mask.GetSegmentation().GetNthSegment(0) for mask in masks if mask is not None)
    segment = next(segments, None)
    return (Label(node.GetAttribute(LABEL), terminology=segment.GetTerminology() if segment else LESION_TERMINOLOGY),)

"""The runs that lie in a scene: found, renewed, renamed, removed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import slicer

from AmbiguousSegBridge.scene.folders import folder_of, hierarchy_of, put_into, remove_nodes
from AmbiguousSegBridge.scene.grid import geometry_of
from AmbiguousSegBridge.scene.maps import Tally, at_once, consensus_of, maps_of
from AmbiguousSegBridge.scene.masks import crops_of, map_array, mask_ids, mask_of
from AmbiguousSegBridge.scene.run_node import (
    ATTRIBUTES,
    COMPLETE,
    CONSENSUS,
    ENTROPY,
    INPUT,
    LABELS,
    MEAN,
    MODULE,
    PROVENANCE,
    ROLE,
    VARIANCE,
    Kind,
    map_roles,
    node_name,
    origin_of,
    own_nodes,
    references,
    run_nodes,
)
from AmbiguousSegBridge.scene.run_writer import THRESHOLD, RunWriter, box_of, segment_ids_of
from AmbiguousSegBridge.scene.segments import add_segment, place_on_grid, reference_geometry
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.ensemble.consensus import checked_threshold
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume.geometry import Geometry

COMPARISON = "comparison "  # first part of the roles of a comparison's tables


@dataclass(frozen=True)
class Run:
    """A run as it lay in a scene when it was looked for. Nodes that the user deleted are missing.

    Attributes:
        node: that is the run. Whatever else belongs to it: ``run_node.attach``; what is to be kept of it: attributes.
        input: volume the samples were made of; None if there was none, or it was deleted.
        folder_item: subject-hierarchy item of its folder; 0 if it is gone.
        samples: by index.
        means, variances: a map for each class.
        entropy: None with one class, too.
        labels: the classes 1 to K; one of a single class has the colour of any.
        tables: by role, those that ``tables.write_table`` wrote.
        nodes: all nodes, helpers such as colour tables included, by role.
    """

    node: slicer.vtkMRMLScriptedModuleNode
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

    @property
    def mean(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Mean map of the first class."""
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
    def bears_work(self) -> bool:
        """Whether something hangs on it that another run of the same samples would not have: a comparison with raters,
        and whatever other code has attached to its node or noted there."""
        noted = set(self.node.GetAttributeNames()) - ATTRIBUTES
        attached = any(references(self.node, kind) for kind in (Kind.FUSED, Kind.OTHERS))
        return attached or bool(noted) or any(role.startswith(COMPARISON) for role in self.tables)

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


def run_of(run_node: slicer.vtkMRMLScriptedModuleNode) -> Run | None:
    """The run that a node is, complete or not; None if neither a sample nor the first mean is left.

    Whatever was done to its nodes: what can be read no more is told where it is needed, see ``Run.geometry``.
    """
    labels = tuple(from_dict(Label, entry, LABELS) for entry in json.loads(run_node.GetAttribute(LABELS)))
    nodes, samples = own_nodes(run_node), references(run_node, Kind.SAMPLES)
    means, variances = (tuple(map(nodes.get, map_roles(kind, labels))) for kind in (MEAN, VARIANCE))
    if not samples and means[0] is None:
        return None
    return Run(
        node=run_node,
        name=run_node.GetName(),
        input=run_node.GetNodeReference(INPUT),
        folder_item=folder_of(run_node.GetScene(), nodes.values()),
        samples=tuple(samples),
        means=means,
        variances=variances,
        entropy=nodes.get(ENTROPY),
        consensus=nodes.get(CONSENSUS),
        tables={node.GetAttribute(ROLE): node for node in references(run_node, Kind.TABLES)},
        provenance=json.loads(run_node.GetAttribute(PROVENANCE) or "{}"),
        labels=labels,
        nodes=nodes,
    )


def find_runs(scene: slicer.vtkMRMLScene) -> list[Run]:
    """All complete runs, in the order of the scene; not those of which neither a sample nor the mean is left."""
    return [run for run in map(run_of, run_nodes(scene)) if run is not None]


def find_run_of(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode) -> Run | None:
    """The complete run that a node is, or belongs to; None if there is none, or not any more."""
    if node.GetAttribute(MODULE) == COMPLETE:
        return run_of(node) if scene.IsNodePresent(node) else None
    return next((run for run in find_runs(scene) if any(mate is node for mate in run.nodes.values())), None)


def run_named(scene: slicer.vtkMRMLScene, name: str, origin: slicer.vtkMRMLNode | str | None) -> Run | None:
    """The run of this name that was made of this, see ``run_node.origin_of``; None if there is none.

    Of several such runs, which only importing scenes can bring about, the first.
    """
    nodes = (node for node in run_nodes(scene) if node.GetName() == name and origin_of(node) == origin)
    return next((run for run in map(run_of, nodes) if run is not None), None)


def unique_run_name(scene: slicer.vtkMRMLScene, base: str, origin: slicer.vtkMRMLNode | str | None) -> str:
    """``base``, or the first of "base 2", "base 3" ... that no run on this input bears; see ``run_named``."""
    name, number = base, 1
    while run_named(scene, name, origin) is not None:
        number += 1
        name = f"{base} {number}"
    return name


def remove_run(scene: slicer.vtkMRMLScene, run: Run) -> None:
    """Remove a run, and its folder unless something else lies in it; copies made of its nodes stay."""
    remove_nodes(scene, list(own_nodes(run.node).values()))
    scene.RemoveNode(run.node)


def rename_run(scene: slicer.vtkMRMLScene, run: Run, name: str) -> Run:
    """Rename a run: its folder and its nodes, where they still bear its name.

    Raises:
        ValueError: if the name is empty, or another run on the same input bears it.
    """
    check_name(name)
    if name == run.name:
        return run
    if run_named(scene, name, origin_of(run.node)) is not None:
        raise ValueError(f"There is already a run {name!r} on this volume. Choose another name.")
    set_name(scene, run.node, name)
    return run_of(run.node)


def set_name(scene: slicer.vtkMRMLScene, run_node: slicer.vtkMRMLScriptedModuleNode, name: str) -> None:
    """Give a run's node, its folder and its nodes another name, where they still bear that so far."""
    before, nodes, hierarchy = run_node.GetName(), own_nodes(run_node), hierarchy_of(scene)
    for role, node in nodes.items():
        if node.GetName() == node_name(before, role):
            node.SetName(node_name(name, role))
    folder = folder_of(scene, nodes.values())
    if folder and hierarchy.GetItemName(folder) == before:
        hierarchy.SetItemName(folder, name)
    run_node.SetName(name)


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
    tally = Tally(run.geometry.shape, crops_of(run), len(run.labels))
    writer_of(scene, run).put_maps(at_once(maps_of(tally, threshold)), run.nodes)
    return run_of(run.node)


def set_consensus_threshold(scene: slicer.vtkMRMLScene, run: Run, threshold: float) -> None:
    """Compute the consensus of one class anew from the mean map, where any sample marks something.

    Raises:
        ValueError: if the mean was deleted, or as ``checked_threshold``: several classes take no threshold.
    """
    checked_threshold(threshold, len(run.labels))
    if run.mean is None:
        raise ValueError(f"Run {run.name!r} no longer has a mean map. Compute its maps again first.")
    consensus = consensus_of([map_array(run.mean)], box_of(run.mean), threshold)
    writer_of(scene, run).put_consensus(consensus, threshold, run.consensus)


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
    """What makes further nodes of a run, which lie as its own do."""
    transform_id = run.anchor.GetTransformNodeID()
    return RunWriter(scene, run.name, run.geometry, run.input, run.labels, run.folder_item, transform_id, run.node)

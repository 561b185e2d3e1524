"""Scenes of earlier versions: runs that were told by attributes of their nodes become nodes that refer to these."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count

import slicer

from AmbiguousSegBridge.scene.run_node import (
    ATTRIBUTE,
    CHANNELS,
    CONSENSUS,
    ENTROPY,
    INPUT,
    INPUT_NAME,
    LABELS,
    MEAN,
    PROVENANCE,
    REQUEST,
    ROLE,
    VARIANCE,
    Kind,
    attach,
    complete,
    map_roles,
    new_run_node,
    refer,
)
from AmbiguousSegBridge.scene.tables import TABLE
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.labels import LESION_TERMINOLOGY, Label

FIELD = "run"  # of the module's parameter node: the run shown, which was known by its mean map
RUN, INPUT_ID, SAMPLE_INDEX = ATTRIBUTE + "Run", ATTRIBUTE + "InputID", ATTRIBUTE + "SampleIndex"
LABEL = ATTRIBUTE + "Label"  # name of a single class; of several, LABELS has all there is, as JSON
MEAN_NODE, SELF = ATTRIBUTE + "Mean", ATTRIBUTE + "Self"
GONE = (RUN, INPUT_ID, LABEL, LABELS, PROVENANCE, REQUEST, ATTRIBUTE + "Seed", ATTRIBUTE + "Model")
BY_WORD = {MEAN: Kind.MEANS, VARIANCE: Kind.VARIANCES, ENTROPY: Kind.ENTROPY, CONSENSUS: Kind.CONSENSUS}
BY_CLASS = {
    "vtkMRMLColorTableNode": Kind.COLOURS,
    "vtkMRMLPlotSeriesNode": Kind.PLOTS,
    "vtkMRMLPlotChartNode": Kind.PLOTS,
}


def lift_runs(scene: slicer.vtkMRMLScene) -> None:
    """Make nodes of the runs that an earlier version has saved; to be called when a scene was loaded or imported.

    Nodes of one run bore its name and referred to one input and one mean map, and each to itself, which copies did not.
    """
    groups: dict[tuple[str | None, ...], list[slicer.vtkMRMLNode]] = {}
    for node in scene.GetNodes():
        if node.GetAttribute(RUN) and node.GetNodeReferenceID(SELF) == node.GetID():
            last_known = node.GetNodeReferenceID(INPUT) or node.GetAttribute(INPUT_ID)
            identity = node.GetAttribute(RUN), last_known, node.GetNodeReferenceID(MEAN_NODE)
            groups.setdefault(identity, []).append(node)
    for nodes in groups.values():
        _lift(scene, nodes)


def _lift(scene: slicer.vtkMRMLScene, nodes: Sequence[slicer.vtkMRMLNode]) -> None:
    first, mean = nodes[0], nodes[0].GetNodeReference(MEAN_NODE)
    labels, volume = _labels_of(nodes), first.GetNodeReference(INPUT)
    run_node = new_run_node(scene, first.GetAttribute(RUN), volume, labels)
    if volume is None:
        run_node.SetAttribute(INPUT_NAME, first.GetAttribute(INPUT_ID))
    run_node.SetAttribute(PROVENANCE, first.GetAttribute(PROVENANCE))
    if mean is not None:
        run_node.SetAttribute(REQUEST, mean.GetAttribute(REQUEST))
        channels = (mean.GetNodeReference(f"{ATTRIBUTE}Channel{number}") for number in count(1))
        refer(run_node, CHANNELS, iter(lambda: next(channels), None))
    taken: set[str] = set()
    for node in nodes:
        role = node.GetAttribute(ROLE)
        if role not in taken:
            taken.add(role)
            attach(run_node, role, node, _kind_of(node, labels))
        for name in GONE:
            node.RemoveAttribute(name)
        roles = [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]
        for reference in roles:
            if reference.startswith(ATTRIBUTE):
                node.RemoveNodeReferenceIDs(reference)
    complete(run_node)
    for state in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode", scene):
        if mean is not None and state.GetNodeReference(FIELD) is mean:
            state.SetNodeReferenceID(FIELD, run_node.GetID())


def _kind_of(node: slicer.vtkMRMLNode, labels: Sequence[Label]) -> Kind:
    """What a run refers to a node as."""
    role = node.GetAttribute(ROLE)
    if node.IsA("vtkMRMLTableNode"):
        return Kind.TABLES if node.GetAttribute(TABLE) else Kind.PLOTS
    if node.IsA("vtkMRMLScalarVolumeNode"):
        return next((kind for word, kind in BY_WORD.items() if role in (word, *map_roles(word, labels))), Kind.OTHERS)
    masks = Kind.SAMPLES if node.GetAttribute(SAMPLE_INDEX) else BY_WORD.get(role, Kind.FUSED)
    return BY_CLASS.get(node.GetClassName(), masks)


def _labels_of(nodes: Sequence[slicer.vtkMRMLNode]) -> tuple[Label, ...]:
    """Labels of a run; the terminology of a single class is what the first mask has."""
    named = next(node for node in nodes if node.GetAttribute(LABEL) or node.GetAttribute(LABELS))
    if several := named.GetAttribute(LABELS):
        return tuple(from_dict(Label, entry, LABELS) for entry in json.loads(several))
    masks = (node.GetSegmentation() for node in nodes if node.IsA("vtkMRMLSegmentationNode"))
    segment = next((found for found in (mask.GetNthSegment(0) for mask in masks) if found is not None), None)
    terminology = segment.GetTerminology() if segment else LESION_TERMINOLOGY
    return (Label(named.GetAttribute(LABEL), terminology=terminology),)

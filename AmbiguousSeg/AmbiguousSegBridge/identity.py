"""How the nodes of a run are told apart from all others: attributes, a reference to the input, and a folder.

Name and input make the identity of a run. A node is signed last: what is still being made is not found as a run, nor
is a copy of a run's node, which comes after the original.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import slicer

ATTRIBUTE = "AmbiguousSeg."
INPUT_REFERENCE = "AmbiguousSeg.Input"
RUN, ROLE, SAMPLE_INDEX = ATTRIBUTE + "Run", ATTRIBUTE + "Role", ATTRIBUTE + "SampleIndex"
INPUT_ID, LABEL, PROVENANCE = ATTRIBUTE + "InputID", ATTRIBUTE + "Label", ATTRIBUTE + "Provenance"
MEAN, VARIANCE, CONSENSUS = "mean", "variance", "consensus"

Identity = tuple[str, "str | None"]


def sample_role(index: int) -> str:
    """Role, and end of the name, of sample ``index`` (from 0)."""
    return f"sample {index + 1:02d}"


def sample_index(node: slicer.vtkMRMLSegmentationNode) -> int:
    """Number of a run's sample, from 0."""
    return int(node.GetAttribute(SAMPLE_INDEX))


def node_name(run_name: str, role: str) -> str:
    """Name that a run's node is given."""
    return f"{run_name} - {role}"


def sign(
    nodes: Iterable[slicer.vtkMRMLNode],
    run_name: str,
    input_volume: slicer.vtkMRMLVolumeNode | None,
    input_id: str | None,
    label: str,
    provenance: dict[str, Any],
) -> None:
    """Make nodes those of a run; an ``input_id`` without a volume: the input was deleted."""
    attributes = {
        RUN: run_name,
        LABEL: label,
        PROVENANCE: json.dumps(provenance, sort_keys=True),
        ATTRIBUTE + "Seed": str(provenance.get("seed", "")),
        ATTRIBUTE + "Model": str(provenance.get("model", {}).get("name", "")),
    }
    if input_id is not None:
        attributes[INPUT_ID] = input_id
    for node in nodes:
        with slicer.util.NodeModify(node):  # one change for whoever observes it
            for name, value in attributes.items():
                node.SetAttribute(name, value)
            node.SetNodeReferenceID(INPUT_REFERENCE, None if input_volume is None else input_volume.GetID())


def unsign(nodes: Iterable[slicer.vtkMRMLNode]) -> None:
    """Take nodes out of their run; they keep their roles."""
    for node in nodes:
        node.RemoveAttribute(RUN)
        node.SetNodeReferenceID(INPUT_REFERENCE, None)


def disown(node: slicer.vtkMRMLNode) -> None:
    """Make a node an ordinary one, of no run and no role."""
    for name in list(node.GetAttributeNames()):
        if name.startswith(ATTRIBUTE):
            node.RemoveAttribute(name)
    node.SetNodeReferenceID(INPUT_REFERENCE, None)


def identity_of(node: slicer.vtkMRMLNode) -> Identity | None:
    """What all nodes of one run have in common, run name and input; None for a node of no run."""
    name = node.GetAttribute(RUN)
    if not name:
        return None
    return name, _input_key(node.GetNodeReferenceID(INPUT_REFERENCE), node.GetAttribute(INPUT_ID))


def _input_key(input_id: str | None, last_known: str | None) -> str | None:
    """The input in an identity; one that was deleted is not to be taken for a later node that is given its id."""
    return input_id or (f"deleted {last_known}" if last_known else None)


def nodes_by_run(scene: slicer.vtkMRMLScene) -> dict[Identity, list[slicer.vtkMRMLNode]]:
    """The nodes of all runs, by run, in the order of the scene; of several nodes of one role the first."""
    groups: dict[Identity, dict[str, slicer.vtkMRMLNode]] = {}
    for node in scene.GetNodes():
        if identity := identity_of(node):
            groups.setdefault(identity, {}).setdefault(node.GetAttribute(ROLE), node)
    return {identity: list(by_role.values()) for identity, by_role in groups.items()}


def nodes_of(
    scene: slicer.vtkMRMLScene,
    run_name: str,
    input_volume: slicer.vtkMRMLVolumeNode | None,
    input_id: str | None = None,
) -> list[slicer.vtkMRMLNode]:
    """Nodes of the run of this name on this input; None: made without one, or on one deleted since, ``input_id``."""
    return nodes_by_run(scene).get((run_name, _input_key(input_volume and input_volume.GetID(), input_id)), [])


def folder_of(scene: slicer.vtkMRMLScene, nodes: Iterable[slicer.vtkMRMLNode]) -> int:
    """Subject-hierarchy item of a run's folder that holds one of the nodes; 0 if there is none."""
    hierarchy = hierarchy_of(scene)
    items = [item for item in (hierarchy.GetItemByDataNode(node) for node in nodes) if item]
    parents = [hierarchy.GetItemParent(item) for item in items]
    return next((parent for parent in parents if hierarchy.GetItemAttribute(parent, RUN)), 0)


def put_into(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode, folder: int) -> None:
    """Move a node in the subject hierarchy into a folder."""
    hierarchy = hierarchy_of(scene)
    if item := hierarchy.GetItemByDataNode(node):
        hierarchy.SetItemParent(item, folder)
    else:  # Slicer made an item with the node, slicer-core does not
        hierarchy.CreateItem(folder, node)


def remove_nodes(scene: slicer.vtkMRMLScene, nodes: Sequence[slicer.vtkMRMLNode]) -> None:
    """Remove nodes with their display and storage nodes, and the folder of their run if that leaves it empty."""
    hierarchy, folder = hierarchy_of(scene), folder_of(scene, nodes)
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
    remove_empty_folder(scene, folder)


def remove_empty_folder(scene: slicer.vtkMRMLScene, folder: int) -> None:
    """Remove a subject-hierarchy item (0: none) if nothing lies in it."""
    hierarchy = hierarchy_of(scene)
    if folder and hierarchy.GetNumberOfItemChildren(folder) == 0:
        hierarchy.RemoveItem(folder)


def remove_run_nodes(scene: slicer.vtkMRMLScene, nodes: Sequence[slicer.vtkMRMLNode]) -> None:
    """Remove a run's nodes; copies that the user made of them stay, as ordinary nodes."""
    identities = {identity_of(node) for node in nodes}
    remove_nodes(scene, nodes)
    for node in scene.GetNodes():
        if node.GetAttribute(RUN) and identity_of(node) in identities:
            disown(node)


def hierarchy_of(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode:
    """The scene's subject hierarchy."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

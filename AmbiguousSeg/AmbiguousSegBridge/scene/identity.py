"""How the nodes of a run are told apart from all others: attributes, references, and a folder.

Name, input and mean map make the identity of a run. A node is signed last: what is still being made is not found as a
run. Nor is a copy that the user makes of a run's node, whose attributes it has: each node of a run refers to itself,
which Slicer's copies do not, while scenes that are saved, loaded and imported keep it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import slicer

from AmbiguousSegLib.labels import Label

ATTRIBUTE = "AmbiguousSeg."
INPUT_REFERENCE, MEAN_REFERENCE, SELF_REFERENCE = ATTRIBUTE + "Input", ATTRIBUTE + "Mean", ATTRIBUTE + "Self"
RUN, ROLE, SAMPLE_INDEX = ATTRIBUTE + "Run", ATTRIBUTE + "Role", ATTRIBUTE + "SampleIndex"
INPUT_ID, PROVENANCE = ATTRIBUTE + "InputID", ATTRIBUTE + "Provenance"
LABEL, LABELS = ATTRIBUTE + "Label", ATTRIBUTE + "Labels"  # of one class its name; of several all there is, as JSON
MEAN, VARIANCE, ENTROPY, CONSENSUS = "mean", "variance", "entropy", "consensus"

Identity = tuple["str | None", ...]


def sample_role(index: int) -> str:
    """Role, and end of the name, of sample ``index`` (from 0)."""
    return f"sample {index + 1:02d}"


def map_roles(kind: str, labels: Sequence[Label]) -> list[str]:
    """Roles of the maps of one kind (MEAN or VARIANCE), one for each class; the run is known by the first mean."""
    return [kind] if len(labels) == 1 else [f"{kind} {label.name}" for label in labels]


def sample_index(node: slicer.vtkMRMLSegmentationNode) -> int:
    """Number of a run's sample, from 0."""
    return int(node.GetAttribute(SAMPLE_INDEX))


def node_name(run_name: str, role: str) -> str:
    """Name that a run's node is given."""
    return f"{run_name} - {role}"


def add_own(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode) -> None:
    """Put a node that a run has made into the scene, so that it can be told from copies of it."""
    scene.AddNode(node)
    node.SetNodeReferenceID(SELF_REFERENCE, node.GetID())


def is_own(node: slicer.vtkMRMLNode) -> bool:
    """Whether a run has made a node, maybe one that is still being made; not so of a copy of such a node."""
    own = node.GetNodeReferenceID(SELF_REFERENCE)
    return own is not None and own == node.GetID()


def sign(
    nodes: Sequence[slicer.vtkMRMLNode],
    run_name: str,
    input_volume: slicer.vtkMRMLVolumeNode | None,
    input_id: str | None,
    labels: Sequence[Label],
    provenance: dict[str, Any],
) -> None:
    """Make nodes those of a run, among them its mean map (with several classes the first one's) if it has one.

    An ``input_id`` without a volume: the input was deleted.
    """
    first_mean = map_roles(MEAN, labels)[0]
    mean = next((node for node in nodes if node.GetAttribute(ROLE) == first_mean), None)
    attributes = {
        RUN: run_name,
        LABEL: labels[0].name if len(labels) == 1 else None,
        LABELS: json.dumps([asdict(label) for label in labels]) if len(labels) > 1 else None,
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
            for role, referenced in ((INPUT_REFERENCE, input_volume), (MEAN_REFERENCE, mean)):
                node.SetNodeReferenceID(role, None if referenced is None else referenced.GetID())


def unsign(nodes: Iterable[slicer.vtkMRMLNode]) -> None:
    """Take nodes out of their run; they keep their roles."""
    for node in nodes:
        node.RemoveAttribute(RUN)
        for role in (INPUT_REFERENCE, MEAN_REFERENCE):
            node.SetNodeReferenceID(role, None)


def disown(node: slicer.vtkMRMLNode) -> None:
    """Make a node an ordinary one, without a run or a role."""
    for name in list(node.GetAttributeNames()):
        if name.startswith(ATTRIBUTE):
            node.RemoveAttribute(name)
    roles = [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]
    for role in roles:
        if role.startswith(ATTRIBUTE):
            node.RemoveNodeReferenceIDs(role)


def disown_orphans(scene: slicer.vtkMRMLScene, keep: Iterable[slicer.vtkMRMLNode] = ()) -> None:
    """Make ordinary nodes of those that bear a role but belong to no run: copies, and what was never completed.

    To be called when a scene was loaded or imported, which may have been saved while samples were arriving.

    Args:
        keep: nodes of a run that is being made now.
    """
    kept = {node.GetID() for node in keep}
    for node in scene.GetNodes():
        if node.GetAttribute(ROLE) and identity_of(node) is None and node.GetID() not in kept:
            disown(node)


def identity_of(node: slicer.vtkMRMLNode) -> Identity | None:
    """What all nodes of one run have in common: run name, input, mean map; None for a node that belongs to none.

    The mean tells runs without an input apart that bear one name, as when their scenes were imported one after another.
    """
    name = node.GetAttribute(RUN)
    if not name or not is_own(node):
        return None
    input_key = _input_key(node.GetNodeReferenceID(INPUT_REFERENCE), node.GetAttribute(INPUT_ID))
    return name, input_key, node.GetNodeReferenceID(MEAN_REFERENCE)


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
    """Nodes of the run of this name on this input; None: made without one, or on one deleted since, ``input_id``.

    Of several such runs, which only importing scenes can bring about, those of the first.
    """
    wanted = run_name, _input_key(input_volume and input_volume.GetID(), input_id)
    return next((nodes for (*found, _mean), nodes in nodes_by_run(scene).items() if tuple(found) == wanted), [])


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


def hierarchy_of(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode:
    """The scene's subject hierarchy."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

"""A run is one node of the scene: it refers to all that was made for it, and says how that was made.

Whatever it does not refer to belongs to no run: copies that a user makes, what lies in the same folder, samples that
were saved before their run was complete. A run that is still being made has such a node, too, which is not saved.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import slicer

from AmbiguousSegLib.labels import Label

ATTRIBUTE = "AmbiguousSeg."
MODULE, COMPLETE, ARRIVING = "ModuleName", "AmbiguousSegRun", "AmbiguousSegArriving"

# What a run was made of, or compared with: not its own.
INPUT, CHANNELS, RATERS = ATTRIBUTE + "Input", ATTRIBUTE + "Channels", ATTRIBUTE + "Raters"


class Kind(str, enum.Enum):
    """What a run refers to the nodes of its own as, which go with it."""

    SAMPLES = ATTRIBUTE + "Samples"  # by index
    MEANS = ATTRIBUTE + "Means"
    VARIANCES = ATTRIBUTE + "Variances"
    ENTROPY = ATTRIBUTE + "Entropy"
    CONSENSUS = ATTRIBUTE + "Consensus"
    FUSED = ATTRIBUTE + "Fused"
    CONTOURS = ATTRIBUTE + "Contours"
    TABLES = ATTRIBUTE + "Tables"
    PLOTS = ATTRIBUTE + "Plots"
    COLOURS = ATTRIBUTE + "Colours"
    OTHERS = ATTRIBUTE + "Others"


PROVENANCE, LABELS, REQUEST = ATTRIBUTE + "Provenance", ATTRIBUTE + "Labels", ATTRIBUTE + "Request"
INPUT_NAME = ATTRIBUTE + "InputName"  # a run that has it, but refers to no input, has lost that
ATTRIBUTES = {MODULE, PROVENANCE, LABELS, REQUEST, INPUT_NAME}
ROLE = ATTRIBUTE + "Role"  # on the nodes that a run refers to: by which it finds them
MEAN, VARIANCE, ENTROPY, CONSENSUS = "mean", "variance", "entropy", "consensus"


def sample_role(index: int) -> str:
    """Role, and end of the name, of sample ``index`` (from 0)."""
    return f"sample {index + 1:02d}"


def sample_index(node: slicer.vtkMRMLSegmentationNode) -> int:
    """Number of a run's sample, from 0."""
    return int(node.GetAttribute(ROLE).split()[-1]) - 1


def map_roles(kind: str, labels: Sequence[Label]) -> list[str]:
    """Roles of the maps of one kind (MEAN or VARIANCE), one for each class."""
    return [kind] if len(labels) == 1 else [f"{kind} {label.name}" for label in labels]


def node_name(run_name: str, role: str) -> str:
    """Name that a run's node is given."""
    return f"{run_name} - {role}"


def new_run_node(
    scene: slicer.vtkMRMLScene,
    name: str,
    input_volume: slicer.vtkMRMLScalarVolumeNode | None,
    labels: Sequence[Label],
) -> slicer.vtkMRMLScriptedModuleNode:
    """Node of a run that is being made: it is found, and saved, once ``complete`` was called."""
    node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
    node.UnRegister(None)
    node.SetName(name)
    node.SetSaveWithScene(False)
    node.SetUndoEnabled(True)  # a sample whose removal is undone is referred to again
    node.SetAttribute(MODULE, ARRIVING)
    node.SetAttribute(LABELS, json.dumps([asdict(label) for label in labels]))
    scene.AddNode(node)
    if input_volume is not None:
        node.SetAttribute(INPUT_NAME, input_volume.GetName())
        node.SetNodeReferenceID(INPUT, input_volume.GetID())
    return node


def complete(run_node: slicer.vtkMRMLScriptedModuleNode) -> None:
    """From now on the run is found, and saved with the scene."""
    run_node.SetSaveWithScene(True)
    run_node.SetAttribute(MODULE, COMPLETE)


def set_provenance(run_node: slicer.vtkMRMLScriptedModuleNode, provenance: dict[str, Any]) -> None:
    """Say what made the samples, in plain JSON types."""
    run_node.SetAttribute(PROVENANCE, json.dumps(provenance, sort_keys=True))


def run_nodes(scene: slicer.vtkMRMLScene, state: str = COMPLETE) -> list[slicer.vtkMRMLScriptedModuleNode]:
    """Nodes of all runs that are complete (or, by ``state``, ARRIVING), in the order of the scene."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode", scene)
    return [node for node in nodes if node.GetAttribute(MODULE) == state]


def origin_of(run_node: slicer.vtkMRMLScriptedModuleNode) -> slicer.vtkMRMLNode | str | None:
    """The input; its name if it was deleted; None if the run was made without one."""
    return run_node.GetNodeReference(INPUT) or run_node.GetAttribute(INPUT_NAME)


def attach(
    run_node: slicer.vtkMRMLScriptedModuleNode, role: str, node: slicer.vtkMRMLNode, kind: Kind = Kind.OTHERS
) -> None:
    """Make a node of the scene one of the run's, which is found by its role in ``Run.nodes`` and goes with the run.

    Args:
        role: any text that no other node of the run has.

    Raises:
        ValueError: if another node of the run has the role.
    """
    other = own_nodes(run_node).get(role)
    if other is not None and other is not node:
        raise ValueError(f"Run {run_node.GetName()!r} has a node {other.GetName()!r} already. Give another role.")
    node.SetAttribute(ROLE, role)
    nodes = [*(mate for mate in references(run_node, kind) if mate is not node), node]
    refer(run_node, kind, sorted(nodes, key=sample_index) if kind is Kind.SAMPLES else nodes)


def references(run_node: slicer.vtkMRMLScriptedModuleNode, role: str) -> list[slicer.vtkMRMLNode]:
    """Nodes that a run refers to as INPUT, CHANNELS, RATERS or a Kind, those that are still there."""
    nodes = (run_node.GetNthNodeReference(role, n) for n in range(run_node.GetNumberOfNodeReferences(role)))
    return [node for node in nodes if node is not None]


def refer(run_node: slicer.vtkMRMLScriptedModuleNode, role: str, nodes: Iterable[slicer.vtkMRMLNode]) -> None:
    """Refer to just these nodes, those of them that are in the scene, in this order; see ``references``."""
    present = [node.GetID() for node in nodes if run_node.GetScene().IsNodePresent(node)]
    with slicer.util.NodeModify(run_node):
        run_node.RemoveNodeReferenceIDs(role)
        for node_id in present:
            run_node.AddNodeReferenceID(role, node_id)


def own_nodes(run_node: slicer.vtkMRMLScriptedModuleNode) -> dict[str, slicer.vtkMRMLNode]:
    """All nodes of a run's own that are in the scene, by role."""
    return {node.GetAttribute(ROLE): node for kind in Kind for node in references(run_node, kind)}


def owned(scene: slicer.vtkMRMLScene, *states: str) -> dict[str, slicer.vtkMRMLNode]:
    """Nodes, by id, that runs in one of these states have made; by default those that are being made, too."""
    nodes = [node for state in states or (COMPLETE, ARRIVING) for node in run_nodes(scene, state)]
    return {node.GetID(): node for run_node in nodes for node in own_nodes(run_node).values()}

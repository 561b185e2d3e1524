"""Nodes in the subject hierarchy: a folder for each run, beside its input; and nodes removed with all they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import slicer

FOLDER = "AmbiguousSeg.Run"  # attribute of the subject-hierarchy item of a run's folder


def hierarchy_of(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode:
    """The scene's subject hierarchy."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def add_folder(scene: slicer.vtkMRMLScene, name: str, beside: slicer.vtkMRMLNode | None) -> int:
    """Item of a new folder for a run, beside a node in the subject hierarchy, or at its top."""
    hierarchy = hierarchy_of(scene)
    item = hierarchy.GetItemByDataNode(beside) if beside is not None else 0
    folder = hierarchy.CreateFolderItem(hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID(), name)
    hierarchy.SetItemAttribute(folder, FOLDER, name)
    return folder


def folder_of(scene: slicer.vtkMRMLScene, nodes: Iterable[slicer.vtkMRMLNode]) -> int:
    """Item of a run's folder that holds one of the nodes; 0 if there is none."""
    hierarchy = hierarchy_of(scene)
    items = (item for item in (hierarchy.GetItemByDataNode(node) for node in nodes) if item)
    parents = (hierarchy.GetItemParent(item) for item in items)
    return next((parent for parent in parents if hierarchy.GetItemAttribute(parent, FOLDER)), 0)


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

"""Lesions that the user points at: control points of a markups node, in the scene's RAS mm."""

from __future__ import annotations

from dataclasses import dataclass

import slicer

from AmbiguousSegBridge.scene.run_node import ATTRIBUTE
from AmbiguousSegBridge.scene.views import nodes_of_class

USED = ATTRIBUTE + "PointsUsed"  # on a list: how many lists had been used before it was used last
CLASS_NAME = "vtkMRMLMarkupsFiducialNode"


@dataclass(frozen=True)
class Lesion:
    """Name of a point, and where it lies: RAS mm in the scene's coordinates."""

    name: str
    position: tuple[float, float, float]


def lesions_of(points: slicer.vtkMRMLMarkupsFiducialNode) -> list[Lesion]:
    """Those of the points that have been placed, in their order; a point that follows the mouse has not."""
    found = []
    for number in range(points.GetNumberOfControlPoints()):
        if points.GetNthControlPointPositionStatus(number) == slicer.vtkMRMLMarkupsNode.PositionDefined:
            x, y, z = points.GetNthControlPointPositionWorld(number)
            found.append(Lesion(points.GetNthControlPointLabel(number), (x, y, z)))
    return found


def new_list(scene: slicer.vtkMRMLScene, name: str, point_name: str) -> slicer.vtkMRMLMarkupsFiducialNode:
    """An empty list of points, shown in the views; %d in ``point_name`` becomes the number of the point, from 1."""
    points = scene.AddNewNodeByClass(CLASS_NAME, scene.GenerateUniqueName(name))
    points.CreateDefaultDisplayNodes()
    points.SetControlPointLabelFormat(point_name)
    return points


def place_next(points: slicer.vtkMRMLMarkupsFiducialNode) -> None:
    """The next click in a view places one point of the list; after it the mouse is what it was before."""
    scene = points.GetScene()
    selection, interaction = (scene.GetNodeByID(f"vtkMRML{kind}NodeSingleton") for kind in ("Selection", "Interaction"))
    selection.SetReferenceActivePlaceNodeClassName(CLASS_NAME)
    selection.SetActivePlaceNodeID(points.GetID())
    interaction.SetPlaceModePersistence(0)
    interaction.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.Place)


def recent_lists(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLMarkupsFiducialNode]:
    """The lists that were ever used to point at lesions, those used last first."""
    used = [node for node in nodes_of_class(scene, CLASS_NAME) if node.GetAttribute(USED) is not None]
    return sorted(used, key=_turn, reverse=True)


def used_now(points: slicer.vtkMRMLMarkupsFiducialNode) -> None:
    """Make a list the first of the recent ones; it is not touched where it is that already."""
    recent = recent_lists(points.GetScene())
    if not recent or recent[0] is not points:
        points.SetAttribute(USED, str(1 + (_turn(recent[0]) if recent else 0)))


def _turn(points: slicer.vtkMRMLMarkupsFiducialNode) -> int:
    text = points.GetAttribute(USED)
    return int(text) if text.isdecimal() else 0

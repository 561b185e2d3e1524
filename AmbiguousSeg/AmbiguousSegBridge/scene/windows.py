"""What a model will look at around each point, drawn as boxes that are the module's alone and never saved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from AmbiguousSegBridge.scene.grid import LPS_TO_RAS, geometry_of, point_of
from AmbiguousSegBridge.scene.lesions import Lesion
from AmbiguousSegBridge.scene.run_node import ATTRIBUTE
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.volume.field_of_view import window_at
from AmbiguousSegLib.volume.geometry import SliceAxes
from AmbiguousSegLib.volume.preprocessing import Preprocessing

WINDOW = ATTRIBUTE + "Window"  # on each box
COLOUR = (1.0, 0.85, 0.2)
AS_KEPT_MM = 1e-3  # the node keeps places in single precision


@dataclass(frozen=True)
class Box:
    """A box of voxels: matrix from its own coordinates, of which the middle is the origin, to the volume's (RAS mm),
    row by row, and its size in mm."""

    to_volume: tuple[float, ...]
    size_mm: tuple[float, ...]


def window_box(
    preprocessing: Preprocessing, volume: slicer.vtkMRMLVolumeNode, lesion: Lesion, window_mm: float | None = None
) -> Box:
    """What will be looked at around a lesion: the window in the model's plane, and as deep as a lesion of its size.

    How deep it will really be shows only when no sample goes on, see ``Pointing.likely_slices``.

    Raises:
        ValueError: a point outside of the volume; a window that is too small, or a model that has none; a volume that
            is empty, sheared or under a warp.
    """
    geometry, pointing = geometry_of(volume), Pointing(point_of(lesion.position, volume), window_mm)
    axes, slices = SliceAxes.of(geometry, preprocessing.plane), pointing.likely_slices(preprocessing, geometry)
    window = window_at(preprocessing, geometry, pointing.point_mm, pointing.sizes(preprocessing)[0])
    ends = np.array(axes.index_ends(geometry, (slices, window.rows, window.columns)))
    to_lps = np.eye(4)
    to_lps[:3, :3] = np.reshape(geometry.direction, (3, 3))
    to_lps[:3, 3] = geometry.to_mm(ends.mean(axis=1))
    return Box(
        tuple((LPS_TO_RAS @ to_lps).ravel().tolist()), tuple((np.ptp(ends, axis=1) * geometry.spacing_mm).tolist())
    )


class Windows:
    """The boxes in a scene: as many as there are lesions that can be sampled, moved rather than made anew."""

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self._scene = scene
        self._nodes: list[slicer.vtkMRMLMarkupsROINode] = []

    def show(
        self,
        preprocessing: Preprocessing | None,
        volume: slicer.vtkMRMLVolumeNode | None,
        lesions: Sequence[Lesion],
        window_mm: float | None = None,
    ) -> None:
        """Draw the window of each lesion, and no other; of one that cannot be sampled there is none to draw."""
        boxes = []
        if preprocessing is not None and volume is not None:
            for lesion in lesions:
                with suppress(ValueError):  # the button says why
                    boxes.append(window_box(preprocessing, volume, lesion, window_mm))
        self._nodes = [node for node in self._nodes if node.GetScene() is self._scene]  # the user may remove any
        for node in self._nodes[len(boxes) :]:
            self._scene.RemoveNode(node)
        self._nodes = self._nodes[: len(boxes)]
        while len(self._nodes) < len(boxes):
            self._nodes.append(_new_box(self._scene))
        for node, box in zip(self._nodes, boxes):
            _place(node, box, volume.GetTransformNodeID())

    def clear(self) -> None:
        """Draw nothing."""
        self.show(None, None, ())


def _new_box(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLMarkupsROINode:
    """A box that cannot be touched and is listed nowhere."""
    node = scene.CreateNodeByClass("vtkMRMLMarkupsROINode")
    node.UnRegister(None)
    node.SetName("AmbiguousSeg window")
    node.SetAttribute(WINDOW, "1")
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetSelectable(False)
    node.SetLocked(True)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetHandlesInteractive(False)
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(False)
    display.SetFillVisibility(False)
    display.SetGlyphScale(0.0)
    display.SetColor(*COLOUR)
    display.SetSelectedColor(*COLOUR)
    return node


def _place(node: slicer.vtkMRMLMarkupsROINode, box: Box, transform: str | None) -> None:
    """Move a box, if it is not there already: each change is drawn, and told to whoever follows the node."""
    matrix = node.GetObjectToNodeMatrix()
    there = [matrix.GetElement(row, column) for row in range(4) for column in range(4)] + list(node.GetSize())
    wanted = [*box.to_volume, *box.size_mm]
    if np.allclose(there, wanted, rtol=0, atol=AS_KEPT_MM) and node.GetTransformNodeID() == transform:
        return
    with slicer.util.NodeModify(node):
        node.SetAndObserveTransformNodeID(transform)
        node.SetSize(*box.size_mm)
        moved = vtk.vtkMatrix4x4()
        moved.DeepCopy(box.to_volume)
        node.SetAndObserveObjectToNodeMatrix(moved)

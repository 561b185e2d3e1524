"""The nodes of one run: how a mask becomes a segmentation node and a map a volume node. Used by scene.py alone."""

from __future__ import annotations

import colorsys
import json

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from AmbiguousSegBridge.grid import ijk_to_ras
from AmbiguousSegLib.ensemble.sample_set import SampleSet

ATTRIBUTE = "AmbiguousSeg."
INPUT_REFERENCE = "AmbiguousSeg.Input"
GOLDEN_RATIO = (1 + 5**0.5) / 2
CONSENSUS_COLOUR = (1.0, 1.0, 1.0)
# Anchors of the colour tables, lightness rising evenly: the mean from violet over green to yellow, the variance from
# black over red to cream, so that the two are not taken for one another.
MEAN_COLOURS = ((0.27, 0.00, 0.33), (0.23, 0.32, 0.55), (0.13, 0.57, 0.55), (0.37, 0.79, 0.38), (0.99, 0.91, 0.14))
VARIANCE_COLOURS = ((0.00, 0.00, 0.02), (0.32, 0.07, 0.48), (0.72, 0.21, 0.47), (0.99, 0.53, 0.38), (0.99, 0.99, 0.75))
COLOURS_PER_TABLE = 256


def sample_colour(index: int) -> tuple[float, float, float]:
    """Colour of sample ``index`` (from 0), RGB in [0, 1]: hues a golden ratio apart, however many there are."""
    return colorsys.hsv_to_rgb(index / GOLDEN_RATIO % 1.0, (1.0, 0.9)[index % 2], (1.0, 1.0, 0.7)[index % 3])


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    """Smallest box ``(z, y, x)`` that holds all of a bool mask ``(Z, Y, X)``; None if the mask is empty."""
    box: list[slice] = []
    for axis in range(3):
        part = mask[tuple(box)]
        marked = np.flatnonzero(part.any(axis=tuple(a for a in range(3) if a != axis)))
        if len(marked) == 0:
            return None
        box.append(slice(int(marked[0]), int(marked[-1]) + 1))
    return tuple(box)


def fill_volume(node: slicer.vtkMRMLScalarVolumeNode, voxels: np.ndarray, to_ras: vtk.vtkMatrix4x4) -> None:
    """Give a new volume node its voxels ``(Z, Y, X)``, copied, their place and a display node."""
    image = vtk.vtkImageData()
    image.SetDimensions(voxels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(voxels).ravel(), deep=True))
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(to_ras)
    node.CreateDefaultDisplayNodes()


class RunWriter:
    """Makes the nodes of one run, and remembers them in ``nodes`` and ``folder``, so that they can be taken back.

    Args:
        folder: subject-hierarchy folder to write into; 0 makes one, beside the input.
        input_volume: volume the samples were made from, or None; then the mean is the reference of the segmentations.
        terminology: serialised terminology entry of every segment.
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        sample_set: SampleSet,
        run_name: str,
        folder: int,
        input_volume: slicer.vtkMRMLScalarVolumeNode | None,
        terminology: str,
    ) -> None:
        self.scene, self.sample_set, self.run_name = scene, sample_set, run_name
        self.input, self.terminology = input_volume, terminology
        self.hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        self.nodes: list[slicer.vtkMRMLNode] = []
        self.folder = folder or self._add_folder()
        self.to_ras = ijk_to_ras(sample_set.geometry)
        if input_volume is not None:
            input_volume.GetIJKToRASMatrix(self.to_ras)  # the same grid, here without rounding
        self.reference = input_volume

    def add_map(self, role: str, voxels: np.ndarray, colours: tuple, upper: float) -> slicer.vtkMRMLScalarVolumeNode:
        """Volume node of a float32 map ``(Z, Y, X)``, shown in [0, upper] in its own colours, 0 being transparent."""
        node = self._add("vtkMRMLScalarVolumeNode", role)
        fill_volume(node, np.asarray(voxels, np.float32), self.to_ras)
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(self._add_colour_table(role, colours).GetID())
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, upper)
        display.AutoThresholdOff()
        display.SetThreshold(float(np.finfo(np.float32).tiny), upper)
        display.ApplyThresholdOn()
        self.reference = self.reference or node
        self._place(node)
        return node

    def add_mask(self, role: str, mask: np.ndarray, colour: tuple[float, float, float]):
        """Segmentation node of one segment, ``role`` being its id; only the bounding box of the mask is stored."""
        node = self._add("vtkMRMLSegmentationNode", role)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetVisibility2DFill(False)
        if self.reference is not None:
            node.SetAndObserveTransformNodeID(self.reference.GetTransformNodeID())  # before the reference geometry
            node.SetReferenceImageGeometryParameterFromVolumeNode(self.reference)
        name, segment_id = f"{self.sample_set.label}, {role}", role.replace(" ", "_")
        box = bounding_box(mask)
        if box is None:
            node.GetSegmentation().AddEmptySegment(segment_id, name, colour)
        else:
            labelmap = self._labelmap(mask, box)
            if not node.AddSegmentFromBinaryLabelmapRepresentation(labelmap, name, colour, segment_id):
                raise RuntimeError(f"Slicer did not accept the mask of {node.GetName()!r}; see its log.")
        segment = node.GetSegmentation().GetSegment(segment_id)
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), self.terminology)
        segment.NameAutoGeneratedOff()
        segment.ColorAutoGeneratedOff()
        self._place(node)
        return node

    def _labelmap(self, mask: np.ndarray, box: tuple[slice, slice, slice]) -> slicer.vtkOrientedImageData:
        image = slicer.vtkOrientedImageData()
        image.SetExtent([end for span in reversed(box) for end in (span.start, span.stop - 1)])
        image.SetGeometryFromImageToWorldMatrix(self.to_ras)
        voxels = np.ascontiguousarray(mask[box]).view(np.uint8).ravel()
        image.GetPointData().SetScalars(numpy_to_vtk(voxels, deep=True))
        return image

    def _add(self, class_name: str, role: str) -> slicer.vtkMRMLNode:
        node = self.scene.AddNewNodeByClass(class_name, f"{self.run_name} - {role}")
        self.nodes.append(node)
        provenance = self.sample_set.provenance
        attributes = {"Run": self.run_name, "Role": role, "HasInput": str(self.input is not None)}
        attributes["Provenance"] = json.dumps(provenance, sort_keys=True)
        attributes["Seed"] = str(provenance.get("seed", ""))
        attributes["Model"] = str(provenance.get("model", {}).get("name", ""))
        for name, value in attributes.items():
            node.SetAttribute(ATTRIBUTE + name, value)
        if self.input is not None:
            node.SetNodeReferenceID(INPUT_REFERENCE, self.input.GetID())
        return node

    def _add_colour_table(self, role: str, anchors: tuple) -> slicer.vtkMRMLColorTableNode:
        table = self._add("vtkMRMLColorTableNode", f"{role} colours")
        table.SetTypeToUser()
        table.SetNumberOfColors(COLOURS_PER_TABLE)
        place = np.linspace(0, len(anchors) - 1, COLOURS_PER_TABLE)
        channels = [np.interp(place, np.arange(len(anchors)), channel) for channel in zip(*anchors)]
        for index, rgb in enumerate(zip(*channels)):
            table.SetColor(index, str(index), *(float(c) for c in rgb), 1.0)
        table.GetLookupTable().SetRange(0, COLOURS_PER_TABLE - 1)
        return table

    def _add_folder(self) -> int:
        """New folder beside the input in the subject hierarchy, or at its top."""
        beside = self.hierarchy.GetItemByDataNode(self.input) if self.input is not None else 0
        parent = self.hierarchy.GetItemParent(beside) if beside else self.hierarchy.GetSceneItemID()
        folder = self.hierarchy.CreateFolderItem(parent, self.run_name)
        self.hierarchy.SetItemAttribute(folder, ATTRIBUTE + "Run", self.run_name)
        return folder

    def _place(self, node: slicer.vtkMRMLDisplayableNode) -> None:
        """Put the node into the folder and under the input's transform."""
        if self.input is not None:
            node.SetAndObserveTransformNodeID(self.input.GetTransformNodeID())
        item = self.hierarchy.GetItemByDataNode(node)  # Slicer made it with the node, slicer-core does not
        if item:
            self.hierarchy.SetItemParent(item, self.folder)
        else:
            self.hierarchy.CreateItem(self.folder, node)

"""The nodes of one run: how a mask becomes a segmentation node and a map a volume node."""

from __future__ import annotations

import colorsys
import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from AmbiguousSegBridge.scene.folders import add_folder, put_into
from AmbiguousSegBridge.scene.grid import ijk_to_ras, lies_on
from AmbiguousSegBridge.scene.maps import Maps
from AmbiguousSegBridge.scene.run_node import (
    ATTRIBUTE,
    CONSENSUS,
    ENTROPY,
    MEAN,
    VARIANCE,
    Kind,
    attach,
    map_roles,
    new_run_node,
    node_name,
    sample_role,
)
from AmbiguousSegBridge.scene.segments import Colour, add_segment, place_on_grid, replace_mask
from AmbiguousSegLib.boxes import Box
from AmbiguousSegLib.labels import Label, segments_of_mask
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry

BOX, THRESHOLD = ATTRIBUTE + "Box", ATTRIBUTE + "ConsensusThreshold"
GOLDEN_RATIO = (1 + 5**0.5) / 2
CONSENSUS_COLOUR = (1.0, 1.0, 1.0)
# Anchors of the colour tables, lightness rising evenly: the mean from violet over green to yellow, the variance from
# black over red to cream, the entropy from black over blue to white, so that none is taken for another.
MAP_COLOURS = {
    MEAN: ((0.27, 0.00, 0.33), (0.23, 0.32, 0.55), (0.13, 0.57, 0.55), (0.37, 0.79, 0.38), (0.99, 0.91, 0.14)),
    VARIANCE: ((0.00, 0.00, 0.02), (0.32, 0.07, 0.48), (0.72, 0.21, 0.47), (0.99, 0.53, 0.38), (0.99, 0.99, 0.75)),
    ENTROPY: ((0.00, 0.01, 0.04), (0.04, 0.18, 0.45), (0.10, 0.40, 0.72), (0.45, 0.68, 0.88), (0.97, 0.98, 1.00)),
}
MAP_KINDS = {MEAN: Kind.MEANS, VARIANCE: Kind.VARIANCES, ENTROPY: Kind.ENTROPY}
COLOURS_PER_TABLE = 256


def sample_colour(index: int) -> Colour:
    """Colour of sample ``index`` (from 0), RGB in [0, 1]: hues a golden ratio apart, however many there are."""
    return colorsys.hsv_to_rgb(index / GOLDEN_RATIO % 1.0, (1.0, 0.9)[index % 2], (1.0, 1.0, 0.7)[index % 3])


def segment_id_of(role: str) -> str:
    """Id of the segment that holds the mask of this role, where there is one class."""
    return role.replace(" ", "_")


def segment_ids_of(role: str, labels: Sequence[Label]) -> list[str]:
    """Ids of the segments that hold the mask of this role, one for each class."""
    return segments_of_mask(labels, role, segment_id_of(role))[1]


def image_of(voxels: np.ndarray) -> vtk.vtkImageData:
    """Image of a contiguous array ``(Z, Y, X)``, whose memory it shares and keeps."""
    image = vtk.vtkImageData()
    image.SetDimensions(voxels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(voxels.reshape(-1), deep=False))
    return image


def without_rendering() -> AbstractContextManager:
    """Context in which Slicer's views are not drawn anew at every step."""
    return slicer.util.RenderBlocker() if hasattr(slicer, "app") else nullcontext()


class RunWriter:
    """Makes nodes of one run, which are the run's as soon as they are in the scene.

    Args:
        input_volume: volume the samples were made from, or None.
        labels: the classes 1 to K; a mask is a segment for each.
        folder: subject-hierarchy folder to write into; 0 makes one with the first node, beside the input.
        transform_id: parent transform of the nodes.
        node: node of the run; None makes that of a new one, not complete yet, with the first node.
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        run_name: str,
        geometry: Geometry,
        input_volume: slicer.vtkMRMLScalarVolumeNode | None,
        labels: Sequence[Label],
        folder: int = 0,
        transform_id: str | None = None,
        node: slicer.vtkMRMLScriptedModuleNode | None = None,
    ) -> None:
        self.scene, self.run_name, self.geometry, self.input = scene, run_name, geometry, input_volume
        self.labels, self.folder, self.transform_id, self.node = tuple(labels), folder, transform_id, node
        self.to_ras = ijk_to_ras(geometry)
        self.reference = None
        if input_volume is not None and lies_on(input_volume, geometry):
            self.reference = input_volume
            input_volume.GetIJKToRASMatrix(self.to_ras)  # the same grid, here without rounding

    def add_sample(self, index: int, crop: Crop) -> slicer.vtkMRMLSegmentationNode:
        """Segmentation node of sample ``index`` (from 0)."""
        return self._add_mask(sample_role(index), crop, sample_colour(index), Kind.SAMPLES)

    def put_maps(self, maps: Maps, earlier: dict[str, Any]) -> dict[str, slicer.vtkMRMLNode]:
        """All maps and the consensus as nodes, by role; into the nodes of these roles in ``earlier``."""
        with without_rendering():
            nodes = {}
            for kind, arrays, upper in ((MEAN, maps.means, 1.0), (VARIANCE, maps.variances, 0.25)):
                for role, voxels in zip(map_roles(kind, self.labels), arrays):
                    nodes[role] = self._put_map(role, kind, voxels, upper, earlier)
            if maps.entropy is not None:
                upper = math.log(1 + len(self.labels))
                nodes[ENTROPY] = self._put_map(ENTROPY, ENTROPY, maps.entropy, upper, earlier)
            ends = json.dumps([end for span in maps.box for end in (span.start, span.stop)])
            # Slicer turns the slices of a left-handed volume round when it reads it from a file, and the box with them.
            first_mean = nodes[map_roles(MEAN, self.labels)[0]]
            first_mean.SetAttribute(BOX, ends if self.to_ras.Determinant() > 0 else None)
            nodes[CONSENSUS] = self.put_consensus(maps.consensus, maps.threshold, earlier.get(CONSENSUS))
        return nodes

    def put_consensus(
        self, crop: Crop, threshold: float | None, node: slicer.vtkMRMLSegmentationNode | None
    ) -> slicer.vtkMRMLSegmentationNode:
        """Write the consensus, with the threshold that it was made with, if any, into ``node``; None makes one."""
        node = self.put_mask(CONSENSUS, crop, CONSENSUS_COLOUR, node, Kind.CONSENSUS)
        node.SetAttribute(THRESHOLD, None if threshold is None else str(threshold))
        return node

    def put_mask(
        self,
        role: str,
        crop: Crop,
        colour: Colour,
        node: slicer.vtkMRMLSegmentationNode | None,
        kind: Kind = Kind.FUSED,
    ) -> slicer.vtkMRMLSegmentationNode:
        """Write a mask into ``node``, in the place of the run, wherever the user has moved it; None makes one."""
        if node is None:
            return self._add_mask(role, crop, colour, kind)
        node.SetAndObserveTransformNodeID(self.transform_id)
        for number, segment_id in enumerate(segment_ids_of(role, self.labels)):
            if node.GetSegmentation().GetSegment(segment_id) is None:  # the user removed it
                self._add_segment(node, role, number, crop, colour)
            else:
                replace_mask(node, segment_id, crop.of_class(number + 1), self.to_ras)
        return node

    def make(self, class_name: str, role: str) -> slicer.vtkMRMLNode:
        """New node that is named by its role, not yet in the scene."""
        node = self.scene.CreateNodeByClass(class_name)  # unlike the constructor, it knows the user's default nodes
        node.UnRegister(None)
        node.SetName(node_name(self.run_name, role))
        return node

    def add(self, node: slicer.vtkMRMLNode, role: str, kind: Kind) -> slicer.vtkMRMLNode:
        """Put a node that was made into the scene and, if people are to see it, into the run's folder."""
        if self.node is None:
            self.node = new_run_node(self.scene, self.run_name, self.input, self.labels)
        self.scene.AddNode(node)
        attach(self.node, role, node, kind)
        if kind != Kind.COLOURS and not node.GetHideFromEditors():
            self.folder = self.folder or add_folder(self.scene, self.run_name, self.input)
            put_into(self.scene, node, self.folder)
        return node

    def _put_map(
        self, role: str, kind: str, voxels: np.ndarray, upper: float, earlier: dict[str, Any]
    ) -> slicer.vtkMRMLScalarVolumeNode:
        """Volume node of a map, float32 ``(Z, Y, X)``, whose memory it shares; in its own colours, 0 transparent."""
        node, colours = earlier.get(role), f"{role} colours"
        if node is not None:
            self._place_map(node)
            node.SetAndObserveImageData(image_of(voxels))
            return node
        node = self.add(self.make("vtkMRMLScalarVolumeNode", role), role, MAP_KINDS[kind])
        self._place_map(node)
        display = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
        node.SetAndObserveDisplayNodeID(display.GetID())
        display.SetAndObserveColorNodeID(
            (earlier.get(colours) or self._add_colours(colours, MAP_COLOURS[kind])).GetID()
        )
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, upper)
        display.AutoThresholdOff()
        display.SetThreshold(float(np.finfo(np.float32).tiny), upper)
        display.ApplyThresholdOn()
        node.SetAndObserveImageData(image_of(voxels))  # last: the display would search it for a window of its own
        return node

    def _place_map(self, node: slicer.vtkMRMLScalarVolumeNode) -> None:
        node.SetAndObserveTransformNodeID(self.transform_id)
        node.SetIJKToRASMatrix(self.to_ras)

    def _add_mask(self, role: str, crop: Crop, colour: Colour, kind: Kind) -> slicer.vtkMRMLSegmentationNode:
        """Segmentation node with a segment for each class; only bounding boxes are stored.

        With one class the segment bears this colour and the role in its name; with several, each has its label's.
        """
        node = self.add(self.make("vtkMRMLSegmentationNode", role), role, kind)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetVisibility2DFill(False)
        node.SetAndObserveTransformNodeID(self.transform_id)  # before the reference geometry
        place_on_grid(node, self.geometry, self.reference)
        for number in range(len(self.labels)):
            self._add_segment(node, role, number, crop, colour)
        return node

    def _add_segment(
        self, node: slicer.vtkMRMLSegmentationNode, role: str, number: int, crop: Crop, colour: Colour
    ) -> None:
        """Segment of the class at the place ``number`` (from 0) among the labels."""
        title = f"{self.labels[0].name}, {role}"
        labels, segment_ids = segments_of_mask(self.labels, title, segment_id_of(role))
        label, part = labels[number], crop.of_class(number + 1)
        alone = len(labels) == 1
        colour = colour if alone else label.color
        add_segment(node, segment_ids[number], label.name, colour, label.terminology, part, self.to_ras, alone)

    def _add_colours(self, role: str, anchors: tuple[Colour, ...]) -> slicer.vtkMRMLColorTableNode:
        table = self.make("vtkMRMLColorTableNode", role)
        table.SetTypeToUser()
        table.SetNumberOfColors(COLOURS_PER_TABLE)
        place = np.linspace(0, len(anchors) - 1, COLOURS_PER_TABLE)
        channels = [np.interp(place, np.arange(len(anchors)), channel) for channel in zip(*anchors)]
        for index, rgb in enumerate(zip(*channels)):
            table.SetColor(index, str(index), *(float(c) for c in rgb), 1.0)
        table.GetLookupTable().SetRange(0, COLOURS_PER_TABLE - 1)
        return self.add(table, role, Kind.COLOURS)


def box_of(mean: slicer.vtkMRMLScalarVolumeNode) -> Box:
    """Box outside of which a mean map is 0; the whole grid if it does not say."""
    text = mean.GetAttribute(BOX)
    ends = json.loads(text) if text else [end for n in reversed(mean.GetImageData().GetDimensions()) for end in (0, n)]
    return tuple(slice(start, stop) for start, stop in zip(ends[0::2], ends[1::2]))

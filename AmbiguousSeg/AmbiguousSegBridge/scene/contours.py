"""Contours of a run's mean map: where at least 10, 50 and 90 % of the samples mark a voxel.

They are a segmentation with a segment for each level and class, which Slicer draws as outlines in slice views, as
surfaces in 3-D, and edits and exports like any other. A segment holds the very voxels that the mean map says, where an
isosurface would be a line between them that no sample has drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import slicer

from AmbiguousSegBridge.scene.masks import map_array
from AmbiguousSegBridge.scene.run_node import Kind
from AmbiguousSegBridge.scene.run_writer import box_of
from AmbiguousSegBridge.scene.runs import Run, writer_of
from AmbiguousSegBridge.scene.segments import Colour, add_segment, place_on_grid, replace_mask
from AmbiguousSegLib.volume.crops import Crop

CONTOURS = "contours"
LEVELS = (0.1, 0.5, 0.9)
LEVEL_COLOURS = ((0.35, 0.75, 1.0), (1.0, 0.9, 0.2), (1.0, 0.35, 0.2))  # of one class: rare, half of them, most of them
OPACITY_3D = (0.2, 0.45, 1.0)  # the inner ones are to be seen through the outer ones


class Contours:
    """Makes the contours of runs, and renews those whose maps were renewed."""

    def __init__(self) -> None:
        self._made_of: dict[str, tuple[int, ...]] = {}  # by the id of the contours' node

    def up_to_date(self, scene: slicer.vtkMRMLScene, run: Run) -> slicer.vtkMRMLSegmentationNode:
        """The contours of the run's mean maps as they are now.

        Raises:
            ValueError: a mean map was deleted or emptied.
        """
        node = run.nodes.get(CONTOURS)
        stamp = tuple(-1 if mean is None else mean.GetMTime() + mean.GetImageData().GetMTime() for mean in run.means)
        if node is None or self._made_of.get(node.GetID()) != stamp:
            node = put_contours(scene, run)
            self._made_of[node.GetID()] = stamp
        return node


def put_contours(scene: slicer.vtkMRMLScene, run: Run) -> slicer.vtkMRMLSegmentationNode:
    """Write the contours into the run's node for them, which is made, hidden, if it is not there.

    Raises:
        ValueError: a mean map was deleted or emptied.
    """
    masks = list(_masks(run))
    writer, node = writer_of(scene, run), run.nodes.get(CONTOURS)
    if node is None:
        node = writer.add(writer.make("vtkMRMLSegmentationNode", CONTOURS), CONTOURS, Kind.CONTOURS)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetVisibility2DFill(False)
        node.SetDisplayVisibility(False)
        place_on_grid(node, run.geometry, writer.reference or run.mean)
    node.SetAndObserveTransformNodeID(run.anchor.GetTransformNodeID())
    node.RemoveClosedSurfaceRepresentation()  # of the maps before; making it takes its time, and is not for here
    for segment_id, name, colour, terminology, opacity, crop in masks:
        if node.GetSegmentation().GetSegment(segment_id) is None:  # the user may have removed it
            add_segment(node, segment_id, name, colour, terminology, crop, writer.to_ras, alone=False)
            node.GetDisplayNode().SetSegmentOpacity3D(segment_id, opacity)
        else:
            replace_mask(node, segment_id, crop, writer.to_ras)
    return node


def contour_id(level: float, label: int = 1) -> str:
    """Id of the segment of a level (share of the samples) and a class 1 to K."""
    return f"contour_{100 * level:.0f}_{label}"


def _masks(run: Run) -> Iterator[tuple[str, str, Colour, str, float, Crop]]:
    """Id, name, colour, terminology, opacity in 3-D and mask of each level of each class."""
    if None in run.means:
        raise ValueError(f"Run {run.name!r} no longer has a mean map. Compute its maps again first.")
    alone, box = len(run.labels) == 1, box_of(run.mean)
    for number, (label, mean) in enumerate(zip(run.labels, run.means), start=1):
        voxels = map_array(mean)
        for level, colour, opacity in zip(LEVELS, LEVEL_COLOURS if alone else _shades(label.color), OPACITY_3D):
            # In single precision, in which 1 of 10 is 0.1.
            crop = Crop.of(voxels[box] >= np.float32(level)).placed([span.start for span in box], voxels.shape)
            name = f"{label.name}, at least {100 * level:.0f} % of the samples"
            yield contour_id(level, number), name, colour, label.terminology, opacity, crop


def _shades(colour: Colour) -> tuple[Colour, ...]:
    """Of the colour of a class: pale, half pale, and full."""
    return tuple(tuple(1 - (1 - c) * strength for c in colour) for strength in (0.4, 0.7, 1.0))

"""Outlines of many masks at once: one of them in front, who has which colour, and closed surfaces in 3-D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import slicer

from AmbiguousSegBridge.scene.contours import CONTOURS
from AmbiguousSegBridge.scene.run_node import ROLE
from AmbiguousSegBridge.scene.run_writer import without_rendering
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.scene.segments import Colour

PLAIN, FRONT, BEHIND = (1, 1.0), (4, 1.0), (1, 0.4)  # width in pixels and opacity of an outline

_CONVERTER = slicer.vtkSegmentationConverter


@dataclass(frozen=True)
class Entry:
    """A line of the legend: a segment, what it shows, and its colour, RGB in [0, 1]; ``sample``: its place, from 1."""

    node: slicer.vtkMRMLSegmentationNode
    segment_id: str
    title: str
    colour: Colour
    sample: int = 0


def bring_to_front(run: Run, front: slicer.vtkMRMLSegmentationNode | None) -> None:
    """Draw the outline of one of the run's samples thicker and the others fainter; None: all alike.

    The views draw the outlines in the order of the scene, which says nothing: width and opacity show which is meant.
    """
    with without_rendering():
        for node in run.samples:
            display = node.GetDisplayNode()
            if display is not None:
                width, opacity = PLAIN if front is None else FRONT if node is front else BEHIND
                display.SetSliceIntersectionThickness(width)
                display.SetOpacity2DOutline(opacity)


def legend(
    run: Run, raters: Sequence[tuple[slicer.vtkMRMLSegmentationNode | None, str]], contours: bool
) -> list[Entry]:
    """Who has which colour: samples, consensus, contours if asked for, and the raters chosen (node and segment)."""
    several = len(run.labels) > 1
    found = [e for place, node in enumerate(run.samples, start=1) for e in _entries(node, several, place)]
    if run.consensus is not None:
        found += _entries(run.consensus, several)
    if contours and (node := run.nodes.get(CONTOURS)) is not None:
        found += [Entry(node, *_named(node, segment_id)) for segment_id in node.GetSegmentation().GetSegmentIDs()]
    for node, segment_id in raters:
        if node is not None and node.GetSegmentation().GetSegment(segment_id) is not None:
            _, name, colour = _named(node, segment_id)
            alone = node.GetSegmentation().GetNumberOfSegments() == 1
            found.append(Entry(node, segment_id, node.GetName() if alone else name, colour))
    return found


def in_3d(node: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether a segmentation has closed surfaces, which Slicer then shows in its 3-D views."""
    return node.GetSegmentation().ContainsRepresentation(_CONVERTER.GetClosedSurfaceRepresentationName())


def make_surfaces(node: slicer.vtkMRMLSegmentationNode) -> None:
    """Make the closed surfaces of a segmentation and show them in 3-D; the slice views go on showing its voxels.

    Raises:
        ValueError: it marks nothing, or Slicer could not make them.
    """
    if not node.CreateClosedSurfaceRepresentation():
        raise ValueError(f"Slicer could not make a surface of {node.GetName()!r}; see its log.")
    names = node.GetSegmentation().GetSegmentIDs()
    if not any(node.GetClosedSurfaceInternalRepresentation(name).GetNumberOfPoints() for name in names):
        node.RemoveClosedSurfaceRepresentation()
        raise ValueError(f"{node.GetName()!r} marks nothing: there is no surface to show.")
    display = node.GetDisplayNode()
    display.SetPreferredDisplayRepresentationName2D(_CONVERTER.GetBinaryLabelmapRepresentationName())
    display.SetPreferredDisplayRepresentationName3D(_CONVERTER.GetClosedSurfaceRepresentationName())
    display.SetVisibility3D(True)


def remove_surfaces(node: slicer.vtkMRMLSegmentationNode) -> None:
    """Take the closed surfaces of a segmentation away, and the memory they need."""
    node.RemoveClosedSurfaceRepresentation()


def _entries(node: slicer.vtkMRMLSegmentationNode, several: bool, sample: int = 0) -> Iterator[Entry]:
    """One for each segment; a segment of several bears the name of its class."""
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        _, name, colour = _named(node, segment_id)
        role = node.GetAttribute(ROLE)
        yield Entry(node, segment_id, f"{role}, {name}" if several else role, colour, sample)


def _named(node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> tuple[str, str, Colour]:
    segment = node.GetSegmentation().GetSegment(segment_id)
    return segment_id, segment.GetName(), segment.GetColor()

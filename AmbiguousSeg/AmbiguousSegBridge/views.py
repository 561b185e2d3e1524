"""What the slice views show of a run: maps as overlays, one sample, samples side by side, the slices that matter."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence

import numpy as np
import slicer

from AmbiguousSegBridge.grid import ijk_to_ras
from AmbiguousSegBridge.identity import ATTRIBUTE, ROLE, RUN, SAMPLE_INDEX, sample_index
from AmbiguousSegBridge.run_writer import box_of, sample_colour, without_rendering
from AmbiguousSegBridge.runs import Run, map_array
from AmbiguousSegLib.ensemble.disagreement import slices_by_disagreement
from AmbiguousSegLib.volume.geometry import SliceAxes

MOST_VIEWS = 12
FIRST_LAYOUT = 7300  # number of the layout of one view, less one; Slicer's own end at 100
EARLIER_LAYOUT, EARLIER_VISIBILITY = ATTRIBUTE + "EarlierLayout", ATTRIBUTE + "EarlierVisibility"
LEAST_FIELD_MM, MARGIN = 40.0, 1.7  # height of a view side by side: that of what is marked, times the margin

Position = tuple[float, float, float]


class Overlay(enum.Enum):
    """Map that lies over the input."""

    NONE = "none"
    MEAN = "mean"
    VARIANCE = "variance"

    def label(self) -> str:
        """For people."""
        return {"none": "None", "mean": "Mean: share of samples", "variance": "Variance"}[self.value]


def show_overlay(scene: slicer.vtkMRMLScene, run: Run, overlay: Overlay, opacity: float) -> None:
    """Show the input, and a map of the run over it with an opacity in [0, 1], in all slice views.

    Without an overlay, maps of runs are taken away; what the user has put over the input otherwise stays.

    Raises:
        ValueError: if the map was deleted, or the opacity is not in [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"Opacity must lie in [0, 1], got {opacity}.")
    shown = {Overlay.MEAN: run.mean, Overlay.VARIANCE: run.variance}.get(overlay)
    if shown is None and overlay is not Overlay.NONE:
        raise ValueError(f"Run {run.name!r} has no {overlay.value} map any more. Compute its maps anew first.")
    for composite in _nodes(scene, "vtkMRMLSliceCompositeNode"):
        if run.input is not None:
            composite.SetBackgroundVolumeID(run.input.GetID())
        if shown is not None:
            composite.SetForegroundVolumeID(shown.GetID())
            composite.SetForegroundOpacity(opacity)
        elif _is_of_a_run(scene.GetNodeByID(composite.GetForegroundVolumeID() or "")):
            composite.SetForegroundVolumeID(None)


def show_sample(scene: slicer.vtkMRMLScene, run: Run, index: int | None, consensus: bool = False) -> None:
    """Show one sample of the run (its number, from 0; None: all) and, if asked for, the consensus; hide the others.

    Other runs are hidden.

    Raises:
        ValueError: if there is no such sample.
    """
    if index is not None and index not in map(sample_index, run.samples):
        raise ValueError(f"Run {run.name!r} has no sample {index + 1}. Choose another one.")
    with without_rendering():
        hide_runs(scene, run)
        for node in run.samples:
            node.SetDisplayVisibility(index is None or sample_index(node) == index)
        if run.consensus is not None:
            run.consensus.SetDisplayVisibility(consensus)


def hide_runs(scene: slicer.vtkMRMLScene, but: Run | None = None) -> None:
    """Hide masks and maps of all runs but one (None: of all); samples that are still arriving stay."""
    kept = () if but is None else but.nodes.values()
    with without_rendering():
        for node in _masks_of_runs(scene):
            if _is_of_a_run(node) and not any(node is other for other in kept):
                node.SetDisplayVisibility(False)
        for composite in _nodes(scene, "vtkMRMLSliceCompositeNode"):
            shown = scene.GetNodeByID(composite.GetForegroundVolumeID() or "")
            if _is_of_a_run(shown) and not any(shown is other for other in kept):
                composite.SetForegroundVolumeID(None)


def show_side_by_side(scene: slicer.vtkMRMLScene, run: Run, count: int, first: int = 0) -> int:
    """Show up to ``count`` samples of the run (at most 12), each alone in a slice view of its own, all views linked.

    The views bear number and colour of their sample. On entering they show, as large as what is marked, the slice of
    most disagreement. Further samples are on further pages; other runs are hidden meanwhile.

    Args:
        first: place of the first sample shown in ``run.samples``; the last page is always a full one.

    Returns:
        the place of the first sample shown.

    Raises:
        ValueError: if the run has no samples or ``count`` is less than 1.
        RuntimeError: if the scene is shown by no layout, as without the application.
    """
    if count < 1 or not run.samples:
        raise ValueError(f"Expected a run with samples and at least one view, got {len(run.samples)} and {count}.")
    count = min(count, MOST_VIEWS, len(run.samples))
    first = max(0, min(first, len(run.samples) - count))
    shown = run.samples[first : first + count]
    show_nodes_side_by_side(scene, run, shown, [str(sample_index(node) + 1) for node in shown])
    return first


def show_nodes_side_by_side(
    scene: slicer.vtkMRMLScene, run: Run, nodes: Sequence[slicer.vtkMRMLSegmentationNode], labels: Sequence[str]
) -> None:
    """``show_side_by_side`` for some of the run's segmentations, one to 12, whose views bear ``labels``.

    Raises:
        ValueError: if there are none or too many, or not one label for each.
        RuntimeError: if the scene is shown by no layout, as without the application.
    """
    if not 1 <= len(nodes) <= MOST_VIEWS or len(labels) != len(nodes):
        raise ValueError(f"Expected 1 to {MOST_VIEWS} nodes, a label for each; got {len(nodes)} and {len(labels)}.")
    layout = _layout_node(scene)
    entering = not _is_side_by_side(layout)
    with without_rendering():
        register_layouts(scene)
        if entering:
            layout.SetAttribute(EARLIER_LAYOUT, str(layout.GetViewArrangement()))
        layout.SetViewArrangement(FIRST_LAYOUT + len(nodes))
        views = [_view(scene, number) for number in range(len(nodes))]
        for node in _masks_of_runs(scene):
            _restrict(node, None)
        for view, node, label in zip(views, nodes, labels):
            _restrict(node, view)
            view.SetLayoutLabel(label)
            if node.GetAttribute(SAMPLE_INDEX):
                view.SetLayoutColor(sample_colour(sample_index(node)))
            _show_input(scene, run, view)
        if entering and run.mean is not None:
            _look_at_what_is_marked(run, views)


def leave_side_by_side(scene: slicer.vtkMRMLScene) -> None:
    """Back to the earlier layout, with everything visible that was, in all views; nothing if not side by side."""
    layout = _layout_node(scene)
    with without_rendering():
        for node in _nodes(scene, "vtkMRMLSegmentationNode"):
            display = node.GetDisplayNode()
            if display is not None and display.GetAttribute(EARLIER_VISIBILITY):
                display.SetVisibility(int(display.GetAttribute(EARLIER_VISIBILITY)))
                display.RemoveAttribute(EARLIER_VISIBILITY)
                display.RemoveAllViewNodeIDs()
        if _is_side_by_side(layout):
            earlier = layout.GetAttribute(EARLIER_LAYOUT)
            layout.SetViewArrangement(int(earlier or slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView))
        layout.RemoveAttribute(EARLIER_LAYOUT)


def register_layouts(scene: slicer.vtkMRMLScene) -> None:
    """Make the layouts of ``show_side_by_side`` known, at the latest after a scene that was saved in one was loaded."""
    layout = _layout_node(scene)
    for count in range(1, MOST_VIEWS + 1):
        if not layout.IsLayoutDescription(FIRST_LAYOUT + count):
            layout.AddLayoutDescription(FIRST_LAYOUT + count, _description(count))
    if _is_side_by_side(layout):
        layout.SetViewArrangement(layout.GetViewArrangement())  # it was not known when the scene was loaded


def slices_of_most_disagreement(run: Run) -> list[tuple[int, Position]]:
    """Axial slices in which the samples mark something, in falling order of disagreement.

    Returns:
        number of the slice from the feet, from 0, and its centre within what is marked: world RAS in mm.

    Raises:
        ValueError: if the mean was deleted.
    """
    if run.mean is None:
        raise ValueError(f"Run {run.name!r} has no mean map any more. Compute its maps anew first.")
    axes, box = SliceAxes.of(run.geometry, "axial"), box_of(run.mean)
    mean = axes.view(map_array(run.mean)[box])
    along, back = axes.index_axes[0], axes.backwards[0]
    span, count = box[2 - along], run.geometry.size[along]  # boxes are z, y, x; index axes are x, y, z
    first = count - span.stop if back else span.start
    centre = _centre(box)
    slices = []
    for number in slices_by_disagreement(mean * (1 - mean), mean):
        number += first
        centre[along] = count - 1 - number if back else number
        slices.append((number, _world(run, centre)))
    return slices


def jump_to(scene: slicer.vtkMRMLScene, position_ras: Position) -> None:
    """Bring a position (world RAS, mm) to the middle of all slice views."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *position_ras, slicer.vtkMRMLSliceNode.CenteredJumpSlice)


def _restrict(node: slicer.vtkMRMLSegmentationNode, view: slicer.vtkMRMLSliceNode | None) -> None:
    """Show a segmentation in one view alone, or not at all; ``leave_side_by_side`` takes it back."""
    display = node.GetDisplayNode()
    if display is None:
        return
    if not display.GetAttribute(EARLIER_VISIBILITY):
        display.SetAttribute(EARLIER_VISIBILITY, str(display.GetVisibility()))
    display.SetViewNodeIDs([] if view is None else [view.GetID()])
    display.SetVisibility(view is not None)


def _show_input(scene: slicer.vtkMRMLScene, run: Run, view: slicer.vtkMRMLSliceNode) -> None:
    composite = scene.GetSingletonNode(view.GetLayoutName(), "vtkMRMLSliceCompositeNode")
    if composite is None:  # the view's logic, if there is one, takes it for its own
        composite = scene.CreateNodeByClass("vtkMRMLSliceCompositeNode")
        composite.UnRegister(None)
        composite.SetLayoutName(view.GetLayoutName())
        scene.AddNode(composite)
    if run.input is not None:
        composite.SetBackgroundVolumeID(run.input.GetID())
    composite.SetLinkedControl(True)
    composite.SetHotLinkedControl(True)


def _look_at_what_is_marked(run: Run, views: list[slicer.vtkMRMLSliceNode]) -> None:
    slices, box = slices_of_most_disagreement(run), box_of(run.mean)
    if not slices:
        return
    edges = [(span.stop - span.start) * mm for span, mm in zip(box, reversed(run.geometry.spacing_mm))]
    height = max(LEAST_FIELD_MM, MARGIN * max(edges))
    for view in views:
        width_px, height_px, _ = view.GetDimensions()
        depth = view.GetFieldOfView()[2]
        view.SetFieldOfView(height * width_px / max(height_px, 1), height, depth)  # a view that is resized keeps height
        view.JumpSliceByCentering(*slices[0][1])


def _centre(box: tuple[slice, slice, slice]) -> list[float]:
    """Index (x, y, z) of the middle of a box."""
    return [(span.start + span.stop - 1) / 2 for span in reversed(box)]


def _world(run: Run, index: list[float]) -> Position:
    """World position in RAS of an index (x, y, z) on the run's grid."""
    position, world = ijk_to_ras(run.geometry).MultiplyPoint((*index, 1.0))[:3], [0.0] * 3
    run.mean.TransformPointToWorld(position, world)
    return tuple(world)


def _description(count: int) -> str:
    """XML of ``count`` slice views in a grid as square as possible, at least as wide as high."""
    columns = math.ceil(math.sqrt(count))
    rows = np.array_split(np.arange(count), math.ceil(count / columns))
    return _box("vertical", [_box("horizontal", [_view_element(number) for number in row]) for row in rows])


def _box(direction: str, items: list[str]) -> str:
    return f'<layout type="{direction}">{"".join(f"<item>{item}</item>" for item in items)}</layout>'


def _view_element(number: int) -> str:
    return (
        f'<view class="vtkMRMLSliceNode" singletontag="{_tag(number)}">'
        f'<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{number + 1}</property></view>'
    )


def _tag(number: int) -> str:
    return f"AmbiguousSeg{number + 1}"


def _view(scene: slicer.vtkMRMLScene, number: int) -> slicer.vtkMRMLSliceNode:
    view = scene.GetSingletonNode(_tag(number), "vtkMRMLSliceNode")
    if view is None:
        raise RuntimeError("No layout makes the views of this scene. Show it in Slicer's main window.")
    return view


def _layout_node(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLLayoutNode:
    layout = next(_nodes(scene, "vtkMRMLLayoutNode"), None)
    if layout is None:
        raise RuntimeError("This scene has no layout. Show it in Slicer's main window.")
    return layout


def _is_side_by_side(layout: slicer.vtkMRMLLayoutNode) -> bool:
    return FIRST_LAYOUT < layout.GetViewArrangement() <= FIRST_LAYOUT + MOST_VIEWS


def _masks_of_runs(scene: slicer.vtkMRMLScene) -> Iterator[slicer.vtkMRMLSegmentationNode]:
    """Samples and consensus of all runs, and of those that are being made."""
    return (node for node in _nodes(scene, "vtkMRMLSegmentationNode") if node.GetAttribute(ROLE))


def _is_of_a_run(node: slicer.vtkMRMLNode | None) -> bool:
    return node is not None and bool(node.GetAttribute(RUN))


def _nodes(scene: slicer.vtkMRMLScene, class_name: str) -> Iterator[slicer.vtkMRMLNode]:
    return (node for node in scene.GetNodes() if node.IsA(class_name))

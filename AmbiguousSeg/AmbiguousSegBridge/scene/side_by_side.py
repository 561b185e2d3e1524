"""Samples of a run side by side: a grid of linked slice views in a layout of its own, each with one sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import slicer

from AmbiguousSegBridge.scene.run_node import ATTRIBUTE, sample_index
from AmbiguousSegBridge.scene.run_writer import box_of, sample_colour, without_rendering
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.scene.views import arriving_samples, masks_of_runs, nodes_of_class, slices_of_most_disagreement

MOST_VIEWS = 12
FIRST_LAYOUT = 7300  # number of the layout of one view, less one; Slicer's own end at 100
EARLIER_LAYOUT, EARLIER_VISIBILITY = ATTRIBUTE + "EarlierLayout", ATTRIBUTE + "EarlierVisibility"
LEAST_FIELD_MM, MARGIN = 40.0, 1.7  # height of a view side by side: that of what is marked, times the margin


def show_samples(scene: slicer.vtkMRMLScene, run: Run, count: int, first: int = 0) -> int:
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
    show_nodes(scene, run, shown, [str(sample_index(node) + 1) for node in shown])
    return first


def show_nodes(
    scene: slicer.vtkMRMLScene, run: Run, nodes: Sequence[slicer.vtkMRMLSegmentationNode], labels: Sequence[str]
) -> None:
    """``show_samples`` for some of the run's segmentations, one to 12, whose views bear ``labels``.

    Raises:
        ValueError: if there are none or too many, or not one label for each.
        RuntimeError: if the scene is shown by no layout, as without the application.
    """
    if not 1 <= len(nodes) <= MOST_VIEWS or len(labels) != len(nodes):
        raise ValueError(f"Expected 1 to {MOST_VIEWS} nodes, a label for each; got {len(nodes)} and {len(labels)}.")
    layout = layout_of(scene)
    if layout is None:
        raise RuntimeError("This scene has no layout. Show it in Slicer's main window.")
    entering = not is_shown(scene)
    with without_rendering():
        with slicer.util.NodeModify(layout):  # each event rebuilds all views
            register_layouts(scene)
            layout.RemoveAllMaximizedViewNodes()  # or only a maximised view would be seen
            if entering:
                layout.SetAttribute(EARLIER_LAYOUT, str(layout.GetViewArrangement()))
            layout.SetViewArrangement(FIRST_LAYOUT + len(nodes))
        views = [_view(scene, number) for number in range(len(nodes))]
        for node in masks_of_runs(scene):
            _restrict(node, None)
        for view, node, label in zip(views, nodes, labels):
            _restrict(node, view)
            view.SetLayoutLabel(label)
            if node in run.samples:
                view.SetLayoutColor(sample_colour(sample_index(node)))
            _show_input(scene, run, view)
        if entering and run.mean is not None:
            _look_at_what_is_marked(run, views)


def hide_arriving(scene: slicer.vtkMRMLScene) -> None:
    """Keep samples of a run that is not complete out of the views, where each would lie over all others."""
    for node in arriving_samples(scene):
        _restrict(node, None)


def leave(scene: slicer.vtkMRMLScene) -> None:
    """Back to the earlier layout, with everything visible that was, in all views; another layout stays."""
    layout = layout_of(scene)
    with without_rendering():
        for node in nodes_of_class(scene, "vtkMRMLSegmentationNode"):
            display = node.GetDisplayNode()
            if display is not None and display.GetAttribute(EARLIER_VISIBILITY):
                display.SetVisibility(int(display.GetAttribute(EARLIER_VISIBILITY)))
                display.RemoveAttribute(EARLIER_VISIBILITY)
                display.RemoveAllViewNodeIDs()
        if layout is None:
            return
        with slicer.util.NodeModify(layout):
            if is_shown(scene):
                earlier = layout.GetAttribute(EARLIER_LAYOUT)
                layout.RemoveAllMaximizedViewNodes()
                layout.SetViewArrangement(int(earlier or slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView))
            layout.RemoveAttribute(EARLIER_LAYOUT)


def register_layouts(scene: slicer.vtkMRMLScene) -> None:
    """Make the layouts of ``show_samples`` known, at the latest after a scene that was saved in one was loaded.

    Without the main window there is no layout, and nothing to do.
    """
    layout = layout_of(scene)
    if layout is None:
        return
    with slicer.util.NodeModify(layout):
        for count in range(1, MOST_VIEWS + 1):
            if not layout.IsLayoutDescription(FIRST_LAYOUT + count):
                layout.AddLayoutDescription(FIRST_LAYOUT + count, _description(count))
        if is_shown(scene):
            layout.SetViewArrangement(layout.GetViewArrangement())  # it was not known when the scene was loaded


def is_shown(scene: slicer.vtkMRMLScene) -> bool:
    """Whether the scene is shown in one of the layouts of ``show_samples``."""
    layout = layout_of(scene)
    return layout is not None and FIRST_LAYOUT < layout.GetViewArrangement() <= FIRST_LAYOUT + MOST_VIEWS


def layout_of(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLLayoutNode | None:
    """How the main window shows the scene; None where there is none, even if a scene that was read has a layout."""
    application = getattr(slicer, "app", None)
    if application is not None and application.layoutManager() is None:
        return None
    return next(nodes_of_class(scene, "vtkMRMLLayoutNode"), None)


def _restrict(node: slicer.vtkMRMLSegmentationNode, view: slicer.vtkMRMLSliceNode | None) -> None:
    """Show a segmentation in one view alone, or not at all; ``leave`` takes it back."""
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
    try:
        slices, box = slices_of_most_disagreement(run), box_of(run.mean)
    except ValueError:  # the run lies on no grid any more
        return
    if not slices:
        return
    edges = [(span.stop - span.start) * mm for span, mm in zip(box, reversed(run.geometry.spacing_mm))]
    height = max(LEAST_FIELD_MM, MARGIN * max(edges))
    for view in views:
        width_px, height_px, _ = view.GetDimensions()
        depth = view.GetFieldOfView()[2]
        view.SetFieldOfView(height * width_px / max(height_px, 1), height, depth)  # a view that is resized keeps height
        view.JumpSliceByCentering(*slices[0][1])


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
        raise RuntimeError("No layout creates the views of this scene. Show it in Slicer's main window.")
    return view

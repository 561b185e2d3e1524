"""Slice views as Slicer draws them, off screen and without Qt: blended volumes under the outlines of segmentations.

Slicer's slice logic makes the blend and Slicer's displayable managers draw over it; only the window is not Slicer's.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from PIL import Image, ImageDraw, ImageFont
from vtk.util.numpy_support import vtk_to_numpy

MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLColorLegendDisplayableManager")
PAPER, INK = (255, 255, 255), (20, 20, 20)
TITLE_HEIGHT, GAP = 24, 6

_TRIAL = """
import vtk
window = vtk.vtkRenderWindow()
window.SetOffScreenRendering(1)
window.SetSize(8, 8)
window.AddRenderer(vtk.vtkRenderer())
window.Render()
print(window.SupportsOpenGL())
"""


@functools.cache
def why_not() -> str | None:
    """Why nothing can be rendered here; None if it can. Tried in another process: without OpenGL, VTK may crash."""
    done = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, text=True, encoding="utf-8")
    if done.returncode == 0 and done.stdout.strip().endswith("1"):
        return None
    return f"VTK has no OpenGL (GPU, EGL or OSMesa) for a window off screen; its trial ended with {done.returncode}"


def add_slice_view(
    scene: slicer.vtkMRMLScene, name: str = "Red", orientation: str = "Axial"
) -> tuple[slicer.vtkMRMLSliceNode, slicer.vtkMRMLSliceCompositeNode]:
    """The two nodes of a slice view, as Slicer's layout makes them: where it looks, and which volumes it shows."""
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    view = scene.CreateNodeByClass("vtkMRMLSliceNode")  # unlike a new object, it gets the presets
    view.UnRegister(None)
    composite = slicer.vtkMRMLSliceCompositeNode()
    for node in (view, composite):
        node.SetName(name)
        node.SetLayoutName(name)
        scene.AddNode(node)
    view.SetOrientation(orientation)
    return view, composite


class SliceView:
    """A slice view that stays open, as Slicer's do: colour legends are noticed only in views that are there before.

    Args:
        slice_node: where it looks, in ``scene``; its composite node says which volumes are blended.
    """

    def __init__(self, scene: slicer.vtkMRMLScene, slice_node: slicer.vtkMRMLSliceNode) -> None:
        application = slicer.modules.segmentations.logic().GetMRMLApplicationLogic()
        logics = application.GetSliceLogics() or vtk.vtkCollection()
        application.SetSliceLogics(logics)
        self._logic = application.GetSliceLogic(slice_node)
        if self._logic is None:  # one for each slice view, for ever: each adds nodes of its own to the scene
            self._logic = slicer.vtkMRMLSliceLogic()
            self._logic.SetMRMLApplicationLogic(application)
            self._logic.SetMRMLScene(scene)
            self._logic.SetSliceNode(slice_node)
            logics.AddItem(self._logic)

        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)  # as in Slicer's slice views
        renderer = vtk.vtkRenderer()
        self._window.AddRenderer(renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()  # without one the managers crash
        self._interactor.SetRenderWindow(self._window)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255.0)
        self._mapper.SetColorLevel(127.5)
        self._picture = vtk.vtkActor2D()
        self._picture.SetMapper(self._mapper)
        renderer.AddViewProp(self._picture)
        self._managers = _managers(application, renderer)
        self._managers.SetMRMLDisplayableNode(slice_node)

    def render(self, size: tuple[int, int] = (400, 400), fit: bool = True) -> np.ndarray:
        """What Slicer shows in a view of ``size`` (width, height).

        Args:
            fit: show the whole background volume, at the offset where the view is; otherwise the view's own field.

        Returns:
            RGB uint8 ``(height, width, 3)``, the first row being the upper one.
        """
        offset = self._logic.GetSliceOffset()
        self._logic.ResizeSliceNode(*size)
        if fit:
            self._logic.FitSliceToBackground()
            self._logic.SetSliceOffset(offset)
        self._logic.UpdatePipeline()
        blend = self._logic.GetImageDataConnection()
        self._mapper.SetInputConnection(blend)
        self._picture.SetVisibility(blend is not None)
        self._window.SetSize(*size)
        self._window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        pixels = vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars())
        return pixels.reshape(size[1], size[0], 3)[::-1].copy()

    def close(self) -> None:
        """Stop watching the scene, and free the window."""
        self._managers.SetMRMLDisplayableNode(None)
        self._managers.SetRenderer(None)
        self._managers.UnRegister(None)  # the factory made it for us
        self._interactor.SetRenderWindow(None)
        self._window.Finalize()


def render_slice(
    scene: slicer.vtkMRMLScene,
    slice_node: slicer.vtkMRMLSliceNode,
    size: tuple[int, int] = (400, 400),
    fit: bool = True,
) -> np.ndarray:
    """``SliceView.render``, once: RGB uint8 ``(height, width, 3)``. Colour legends need a ``SliceView``."""
    with contextlib.closing(SliceView(scene, slice_node)) as view:
        return view.render(size, fit)


def montage(images: Sequence[np.ndarray], titles: Sequence[str], columns: int) -> np.ndarray:
    """Pictures of one size, RGB uint8 ``(h, w, 3)``, in rows from left to right, each under its title."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + TITLE_HEIGHT + GAP)), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(number, columns)
        left, top = GAP + column * (width + GAP), row * (height + TITLE_HEIGHT + GAP)
        draw.text((left + width / 2, top + TITLE_HEIGHT / 2), title, fill=INK, font=font, anchor="mm")
        canvas.paste(Image.fromarray(image), (left, top + TITLE_HEIGHT))
    return np.asarray(canvas)


def _managers(
    application: slicer.vtkMRMLApplicationLogic, renderer: vtk.vtkRenderer
) -> slicer.vtkMRMLDisplayableManagerGroup:
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(application)
    for name in MANAGERS:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    return factory.InstantiateDisplayableManagers(renderer)

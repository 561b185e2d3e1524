"""A MRML scene without the Slicer application, on the package slicer-core.

This is a stand-in: it has the scene, the logics and ``slicer.modules.<name>.logic()``, but no window, no Qt, no
``slicer.app`` and no plugin that would make subject-hierarchy items. Inside Slicer nothing here is needed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import slicer

MODULES = {
    "markups": "vtkSlicerMarkupsLogic",
    "plots": "vtkSlicerPlotsLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "volumes": "vtkSlicerVolumesLogic",
}


def make_host() -> slicer.vtkMRMLScene:
    """New empty scene, set as ``slicer.mrmlScene`` with its logics in ``slicer.modules``; replaces an earlier host.

    Raises:
        RuntimeError: inside the Slicer application, whose own scene is to be used.
    """
    if hasattr(slicer, "app"):
        raise RuntimeError("make_host() stands in for the Slicer application; one is running: use slicer.mrmlScene.")
    scene = slicer.vtkMRMLScene()
    folder = tempfile.TemporaryDirectory(prefix="AmbiguousSeg")
    cache = slicer.vtkCacheManager()  # without a folder of its own .mrb files can be written, but not read
    cache.SetRemoteCacheDirectory(str(Path(folder.name) / "cache"))
    data_io = slicer.vtkDataIOManager()
    data_io.SetCacheManager(cache)
    scene.SetDataIOManager(data_io)
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.GetColorLogic().SetMRMLScene(scene)  # adds the default colour nodes
    modules = {}
    for name, class_name in MODULES.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        modules[name] = SimpleNamespace(logic=lambda logic=logic: logic)
    slicer.mrmlScene = scene
    slicer.modules = SimpleNamespace(**modules, stand_in=(application, folder))  # keeps both alive
    return scene

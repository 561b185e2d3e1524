"""A module small enough to hold in the head, for the tests of the stand-in."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated

import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Default, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class Quality(enum.Enum):
    FAST = "Fast, rough"
    BEST = "Best"

    def label(self):
        return self.value


@parameterNodeWrapper
class ToyParameterNode:
    volume: vtkMRMLScalarVolumeNode
    samples: Annotated[int, WithinRange(1, 64)] = 8
    threshold: Annotated[float, WithinRange(0, 1), Default(0.5)]
    quality: Quality
    limited: bool
    folder: pathlib.Path
    title: str = "untitled"
    chosen: list[str]


class Toy(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Toy")
        slicer.app.connect("startupCompleted()", lambda: parent.contributors.append("started"))


class ToyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.pressed, self.tag, self.parameters, self.told = 0, None, None, []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/Toy.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = ToyLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, lambda *_: self.bind(False))
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, lambda *_: self.bind(True))
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, lambda *_: self.bind(True))
        self.ui.applyButton.connect("clicked(bool)", self.onApply)

    def bind(self, on):
        if self.parameters is not None:
            self.parameters.disconnectGui(self.tag)
        self.parameters = ToyParameterNode(self.logic.getParameterNode()) if on else None
        if on:
            self.tag = self.parameters.connectGui(self.ui)

    def enter(self):
        self.told.append("enter")
        self.bind(True)

    def exit(self):
        self.told.append("exit")
        self.bind(False)

    def cleanup(self):
        self.told.append("cleanup")
        self.removeObservers()

    def onApply(self):
        self.pressed += 1


class ToyLogic(ScriptedLoadableModuleLogic):
    pass

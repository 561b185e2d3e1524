"""Stand-ins for ``slicer.app``, its layout manager and its module manager: state and signals, no windows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from SlicerHost import errors, manners

manners.install()


class LayoutManager(QtCore.QObject):
    """Layouts as nodes: a real layout logic makes the view nodes, and every slice view gets its composite node."""

    layoutChanged = Signal(int)
    SLOTS = ("setLayout(int)",)

    def __init__(self, scene, application_logic):
        super().__init__()
        self._scene, self._application, self._slice_logics = scene, application_logic, {}
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(scene)
        self._collection = vtk.vtkCollection()
        application_logic.SetSliceLogics(self._collection)
        self._tag = self._node().AddObserver("ModifiedEvent", lambda *_: self._follow())
        self._scene_tag = scene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, lambda *_: self._follow())
        self._last = self.layout
        self._follow()

    def _node(self):
        return self._logic.GetLayoutNode()

    def _follow(self) -> None:
        views = self._logic.GetViewNodes()
        for index in range(views.GetNumberOfItems()):
            view = views.GetItemAsObject(index)
            if view.IsA("vtkMRMLSliceNode") and view.GetLayoutName() not in self._slice_logics:
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(self._application)
                logic.SetMRMLScene(self._scene)
                logic.SetSliceNode(view)
                self._slice_logics[view.GetLayoutName()] = logic
                self._collection.AddItem(logic)
        if self.layout != self._last:
            self._last = self.layout
            self.layoutChanged.emit(self._last)

    def setLayout(self, layout: int) -> None:
        self._node().SetViewArrangement(int(layout))

    def layoutLogic(self):
        return self._logic

    def mrmlScene(self):
        return self._scene

    def mrmlSliceLogics(self):
        return self._collection

    def sliceViewNames(self) -> list[str]:
        return list(self._slice_logics)

    def release(self) -> None:
        """Stop following the scene."""
        self._node().RemoveObserver(self._tag)
        self._scene.RemoveObserver(self._scene_tag)
        self._logic.SetMRMLScene(None)

    layout = Property(int, lambda self: self._node().GetViewArrangement(), setLayout)

    def __getattr__(self, name: str):
        raise errors.lacks(f"slicer.app.layoutManager().{name}")


class ModuleManager(QtCore.QObject):
    """Emits what ScriptedLoadableModuleWidget listens to."""

    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def factoryManager(self):
        raise errors.lacks("slicer.app.moduleManager().factoryManager")

    def __getattr__(self, name: str):
        raise errors.lacks(f"slicer.app.moduleManager().{name}")


class Application(QtCore.QObject):
    """``slicer.app`` without windows; ``testing`` is what testingEnabled() says."""

    startupCompleted = Signal()
    aboutToQuit = Signal()
    mrmlSceneChanged = Signal(object)
    SIGNALS = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}
    applicationName = "Slicer"
    applicationVersion = "5.13.0"
    majorVersion, minorVersion = 5, 13
    revision = "0"
    releaseType = "Stable"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"

    def __init__(self, scene, application_logic):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="SlicerHost")
        self._testing, self._manager, self._exit_code = False, ModuleManager(), None
        self._logic = application_logic
        self._layouts = LayoutManager(scene, application_logic)
        for name in ("home", "temporary", "cache"):
            (Path(self._folder.name) / name).mkdir()
        self._command_options = SimpleNamespace(noMainWindow=True, testingEnabled=False, noSplash=True)

    slicerHome = property(lambda self: str(Path(self._folder.name) / "home"))
    temporaryPath = property(lambda self: str(Path(self._folder.name) / "temporary"))
    cachePath = property(lambda self: str(Path(self._folder.name) / "cache"))
    applicationDirPath = property(lambda self: lambda: str(Path(self._folder.name) / "home" / "bin"))
    slicerUserSettingsFilePath = property(lambda self: QtCore.QSettings().fileName())

    def mrmlScene(self):
        return slicer.mrmlScene

    def applicationLogic(self):
        return self._logic

    def layoutManager(self) -> LayoutManager:
        return self._layouts

    def moduleManager(self) -> ModuleManager:
        return self._manager

    def commandOptions(self) -> SimpleNamespace:
        return self._command_options

    def testingEnabled(self) -> bool:
        return self._testing

    def processEvents(self, *arguments) -> None:
        QtWidgets.QApplication.processEvents(*arguments)

    def settings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    def userSettings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    def setOverrideCursor(self, cursor) -> None:
        QtWidgets.QApplication.setOverrideCursor(QtGui.QCursor(cursor))

    def restoreOverrideCursor(self) -> None:
        QtWidgets.QApplication.restoreOverrideCursor()

    def pauseRender(self) -> None:
        """Nothing renders."""

    def resumeRender(self) -> None:
        """Nothing renders."""

    def translate(self, context: str, text: str) -> str:
        return text

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def environment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def moduleDocumentationUrl(self, name: str) -> str:
        return self.documentationBaseUrl + name

    def clipboard(self) -> QtGui.QClipboard:
        return QtWidgets.QApplication.clipboard()

    def topLevelWidgets(self) -> list[QtWidgets.QWidget]:
        return []

    def mainWindow(self) -> None:
        """There is none."""

    def activeWindow(self) -> None:
        """There is none."""

    def exit(self, code: int = 0) -> None:
        self._exit_code = code

    def thread(self) -> QtCore.QThread:
        return QtWidgets.QApplication.instance().thread()

    def release(self) -> None:
        """Stop following the scene and remove the folders."""
        self._layouts.release()
        self._folder.cleanup()

    def __getattr__(self, name: str):
        raise errors.lacks(f"slicer.app.{name}")

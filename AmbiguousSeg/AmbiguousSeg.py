"""Scripted module: several plausible segmentations of a lesion, sampled from a generative model."""

from __future__ import annotations

import time
import unittest
from collections.abc import Callable
from types import SimpleNamespace

import qt
import slicer
import vtk
from AmbiguousSegBridge.context import Context
from AmbiguousSegBridge.controller import Controller
from AmbiguousSegBridge.generation import Events, Generation, Settings
from AmbiguousSegBridge.panels.export import ExportPanel
from AmbiguousSegBridge.panels.generate import GeneratePanel
from AmbiguousSegBridge.panels.inputs import InputsPanel
from AmbiguousSegBridge.panels.models import ModelsPanel
from AmbiguousSegBridge.panels.modes import ModesPanel
from AmbiguousSegBridge.panels.outlines import OutlinesPanel
from AmbiguousSegBridge.panels.pointed import PointedPanel
from AmbiguousSegBridge.panels.raters import RatersPanel
from AmbiguousSegBridge.panels.result import ResultPanel
from AmbiguousSegBridge.panels.review import ReviewPanel
from AmbiguousSegBridge.panels.snapshot import Panel
from AmbiguousSegBridge.parameters import AmbiguousSegParameterNode
from AmbiguousSegBridge.scene import sample_data, side_by_side, views
from AmbiguousSegBridge.scene.lifting import lift_runs
from AmbiguousSegBridge.scene.masks import crops_of
from AmbiguousSegBridge.scene.run_node import owned
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.client import WorkerRunner
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from AmbiguousSegLib import REPOSITORY
from AmbiguousSegLib.description import read_description
from AmbiguousSegLib.resources import DEMO_MODEL, find_model

MARKUPS = slicer.vtkMRMLMarkupsNode
SECTIONS = {  # from above to below: name of the .ui, and the panel that shows it
    "Inputs": InputsPanel,
    "Lesions": PointedPanel,
    "Generate": GeneratePanel,
    "Result": ResultPanel,
    "Outlines": OutlinesPanel,
    "Modes": ModesPanel,
    "Raters": RatersPanel,
    "Review": ReviewPanel,
    "Export": ExportPanel,
    "Models": ModelsPanel,
}


class AmbiguousSeg(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Ambiguous Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["AmbiguousSeg contributors"]
        self.parent.helpText = _(
            "Samples several plausible segmentations of a lesion from a generative model, shows where they agree and "
            "where they do not, and compares them with what several raters drew. For research use only; not for "
            "clinical decisions. All computation is local. "
        ) + (f'<a href="{REPOSITORY}">' + _("Documentation") + "</a>")
        self.parent.acknowledgementText = _(
            "The methods are those of the publications named in the documentation and in each model's description."
        )
        slicer.app.connect("startupCompleted()", sample_data.register)
        if slicer.util.mainWindow() is not None:  # added to a running Slicer, where startup is over
            qt.QTimer.singleShot(0, sample_data.register)


class AmbiguousSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Builds the panels, and keeps them, the parameter node and the scene together."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)  # needed for parameter node observation
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._marked = {}

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = AmbiguousSegLogic()
        scene = slicer.mrmlScene
        self.context = Context(
            scene, self.logic.runner, lambda: bool(self.parent.isEntered), self.refresh, self.scheduleRefresh
        )
        self.controller = Controller(self.context)
        self.ui, self.panels = SimpleNamespace(), []
        for name, panel in SECTIONS.items():
            self.addSection(name, panel)
        self.pointed = self.panels[list(SECTIONS).index("Lesions")]
        self.layout.addStretch(1)

        self._refreshTimer = qt.QTimer()  # a burst of changes is shown once
        self._refreshTimer.setSingleShot(True)
        self._refreshTimer.setInterval(0)
        self._refreshTimer.connect("timeout()", self.refresh)
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
            self.addObserver(scene, event, self.scheduleRefresh)
        slicer.app.connect("aboutToQuit()", self.stopWork)
        lift_runs(scene)  # of a scene that was read before the module was opened
        self.initializeParameterNode()

    def addSection(self, name: str, panel: Callable[[SimpleNamespace, Controller], Panel]) -> None:
        """Append the section of ``Resources/UI/<name>.ui`` with its panel, which is given the widgets of just it.

        They are found in ``self.ui``, too, where the parameter node binds them.
        """
        widget = slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
        widget.setMRMLScene(slicer.mrmlScene)
        self.layout.addWidget(widget)
        own = slicer.util.childWidgetVariables(widget)
        vars(self.ui).update(vars(own))
        self.panels.append(panel(own, self.controller))

    def cleanup(self) -> None:
        """The application closes, or the module is reloaded: the worker ends."""
        self.stopWork()
        slicer.app.disconnect("aboutToQuit()", self.stopWork)
        self.removeObservers()

    def enter(self) -> None:
        # The parameter node stays connected while the module is left: each connection costs observers for good.
        if self._parameterNode is None:
            self.initializeParameterNode()
        else:
            self.selectVolume()
            self.refresh()

    def onSceneStartClose(self, _caller, _event) -> None:
        self.controller.display.leave_grid()  # its way back would be lost with the scene
        self.stopWork()

    def onSceneEndClose(self, _caller, _event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, _caller, _event) -> None:
        """A scene was read, perhaps beside what is there and while the worker works for it."""
        lift_runs(slicer.mrmlScene)
        if self._parameterNode is not None or self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Use the scene's parameter node, and select the first volume if none is selected yet."""
        side_by_side.register_layouts(slicer.mrmlScene)
        layout = side_by_side.layout_of(slicer.mrmlScene)
        if layout is not None and not self.hasObserver(layout, vtk.vtkCommand.ModifiedEvent, self.scheduleRefresh):
            self.addObserver(layout, vtk.vtkCommand.ModifiedEvent, self.scheduleRefresh)
        self.setParameterNode(self.logic.getParameterNode())
        self.selectVolume()

    def selectVolume(self) -> None:
        """Where no volume is selected, the first that can be an input."""
        if self._parameterNode.channel1 is None:
            volumes, maps = views.nodes_of_class(slicer.mrmlScene, "vtkMRMLScalarVolumeNode"), owned(slicer.mrmlScene)
            inputs = [node for node in volumes if node.GetID() not in maps and not node.GetHideFromEditors()]
            # A label map, say, is of a class derived from this one.
            inputs = [node for node in inputs if node.GetClassName() == "vtkMRMLScalarVolumeNode"]
            self._parameterNode.channel1 = inputs[0] if inputs else None

    def setParameterNode(self, parameterNode: AmbiguousSegParameterNode | None) -> None:
        """Show and observe a parameter node, or none."""
        if self._parameterNode is not None:
            if self._parameterNodeGuiTag is not None:
                self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
                self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self.scheduleRefresh)
        self._parameterNode = self.context.parameters = parameterNode
        if parameterNode is not None:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self.scheduleRefresh)
        self.observeMarkups()
        self.refresh()

    def observeMarkups(self) -> None:
        """Follow the region of interest and the lesions, which tell nobody else that they were moved or placed."""
        events = dict.fromkeys((vtk.vtkCommand.ModifiedEvent, MARKUPS.PointModifiedEvent), self.onMoved)
        placed = (MARKUPS.PointPositionDefinedEvent, MARKUPS.PointPositionUndefinedEvent, MARKUPS.PointRemovedEvent)
        for name, followed in (("region", events), ("points", events | dict.fromkeys(placed, self.scheduleRefresh))):
            node = None if self._parameterNode is None else getattr(self._parameterNode, name)
            before, self._marked[name] = self._marked.get(name), node
            if node is before:
                continue
            for event, callback in followed.items():
                if before is not None:
                    self.removeObserver(before, event, callback)
                if node is not None:
                    self.addObserver(node, event, callback)

    def onMoved(self, _caller, _event) -> None:
        self.controller.request.schedule()
        self.pointed.follow()

    def scheduleRefresh(self, _caller=None, _event=None) -> None:
        if self._parameterNode is not None:
            self._refreshTimer.start()

    def refresh(self) -> None:
        """Show the state in every panel; while a scene is being read or changed at large, its end will call again."""
        if self._parameterNode is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.observeMarkups()
            snapshot = self.controller.look()
            for panel in self.panels:
                panel.show(snapshot)

    def stopWork(self) -> None:
        """End the worker, and whatever waits; nothing is shown until there is a parameter node again."""
        self._refreshTimer.stop()
        self.controller.stop()
        for panel in self.panels:
            panel.stop()
        self.setParameterNode(None)
        self.logic.runner.stop()


class AmbiguousSegLogic(ScriptedLoadableModuleLogic):
    """Volume in, nodes out; knows no widget.

    :param runner: does the work; by default a worker process, which is started when it is first needed.
    """

    def __init__(self, runner=None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.runner = WorkerRunner() if runner is None else runner

    def getParameterNode(self) -> AmbiguousSegParameterNode:
        return AmbiguousSegParameterNode(super().getParameterNode())

    def generate(self, inputVolumes, modelFolder=None, events=None, **settings) -> Generation:
        """Start sampling; samples enter the scene as they are finished.

        :param inputVolumes: one scalar volume node per channel of the model, in its order, all on one grid.
        :param modelFolder: folder with ``model.json``, or the name of a bundled model; None: the default one.
        :param events: whom to tell (``AmbiguousSegBridge.generation.Events``).
        :param settings: further fields of ``AmbiguousSegBridge.generation.Settings``: samples, seed, quality, device,
            region, slice_range, sampler, refine; or point (RAS mm, as Slicer shows it), window_mm, grow_window, lesion.
        :raises ValueError: the volumes do not fit each other or the model; nothing was started.
        """
        model = read_description(find_model(modelFolder))
        wanted = Settings(model, tuple(inputVolumes), **settings)
        return Generation(slicer.mrmlScene, self.runner, wanted, Events() if events is None else events)


class AmbiguousSegTest(ScriptedLoadableModuleTest):
    """What needs a real Slicer; everything else is tested in the repository's Testing folder."""

    def runTest(self) -> None:
        self.setUp()
        try:
            self.test_sampleDataToSegmentations()
        except unittest.SkipTest as reason:  # Slicer's own button for tests would call it a failure
            self.delayDisplay(str(reason))

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def test_sampleDataToSegmentations(self) -> None:
        """The bundled model on the sample data: nodes appear, hold nodules, and come back from the scene."""
        if packages.incomplete():
            self.skipTest("PyTorch, or a package of requirements.txt, is not installed in this Slicer.")
        volume, raters = sample_data.add_phantom(slicer.mrmlScene)
        logic, ends = AmbiguousSegLogic(), []
        try:
            events = Events(ended=lambda run, failure: ends.append((run, failure)))
            logic.generate([volume], DEMO_MODEL, events=events, samples=3, seed=1)
            while not ends:
                slicer.app.processEvents()
                time.sleep(0.01)  # the worker shall have the processor
        finally:
            logic.runner.stop()
        run, failure = ends[0]
        self.assertIsNone(failure)
        self.assertEqual(len(run.samples), 3)
        crops = crops_of(run)
        self.assertTrue(any(not crop.empty for crop in crops))
        mean = slicer.util.arrayFromVolume(run.mean)
        self.assertAlmostEqual(float(mean.sum()) * 3, sum(int(crop.voxels.sum()) for crop in crops), delta=1)
        self.assertEqual(len(raters.GetSegmentation().GetSegmentIDs()), 4)

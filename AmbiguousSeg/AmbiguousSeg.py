"""Scripted module: several plausible segmentations of a lesion, sampled from a generative model."""

from __future__ import annotations

import time
import unittest

import qt
import slicer
import vtk
from AmbiguousSegBridge.generation import Events, Generation, Settings
from AmbiguousSegBridge.panels.context import Context
from AmbiguousSegBridge.panels.export import ExportPanel
from AmbiguousSegBridge.panels.generate import GeneratePanel
from AmbiguousSegBridge.panels.inputs import InputsPanel
from AmbiguousSegBridge.panels.lesions import LesionsPanel
from AmbiguousSegBridge.panels.modes import ModesPanel
from AmbiguousSegBridge.panels.outlines import OutlinesPanel
from AmbiguousSegBridge.panels.raters import RatersPanel
from AmbiguousSegBridge.panels.result import ResultPanel
from AmbiguousSegBridge.panels.review import ReviewPanel
from AmbiguousSegBridge.panels.snapshot import Snapshot
from AmbiguousSegBridge.parameters import AmbiguousSegParameterNode
from AmbiguousSegBridge.scene import sample_data, side_by_side, views
from AmbiguousSegBridge.scene.identity import ROLE, disown_orphans
from AmbiguousSegBridge.scene.runs import Run, crops_of, find_runs
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

from AmbiguousSegLib.description import read_description
from AmbiguousSegLib.resources import DEMO_MODEL, find_model

MARKUPS = slicer.vtkMRMLMarkupsNode


class AmbiguousSeg(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Ambiguous Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["The AmbiguousSeg developers"]
        self.parent.helpText = _(
            "Samples several plausible segmentations of a lesion from a generative model, shows where they agree and "
            "where they do not, and compares them with what several raters drew. For research use only; not for "
            "clinical decisions. All computation is local. "
        ) + ('<a href="https://github.com/AmbiguousSeg/AmbiguousSeg">' + _("Documentation") + "</a>")
        self.parent.acknowledgementText = _(
            "The methods are those of the publications named in the documentation and in each model's description."
        )
        slicer.app.connect("startupCompleted()", sample_data.register)
        if slicer.util.mainWindow() is not None:  # added to a running Slicer, where startup is over
            qt.QTimer.singleShot(0, sample_data.register)


class AmbiguousSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Builds the panels and keeps them, the parameter node and the scene together."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)  # needed for parameter node observation
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._marked = {}

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/AmbiguousSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = AmbiguousSegLogic()
        scene, runner = slicer.mrmlScene, self.logic.runner
        self.context = Context(self.ui, scene, runner, lambda: bool(self.parent.isEntered), self.scheduleRefresh)
        self.inputs = InputsPanel(self.context)
        self.result = ResultPanel(self.context, lambda: self.modes.ask())
        self.modes = ModesPanel(self.context, self.result.refresh)
        self.raters = RatersPanel(self.context)
        self.export = ExportPanel(self.context)
        self.generate = GeneratePanel(self.context, self.inputs, self.result.show_arriving, self.onRun)
        self.panels = [
            self.inputs,
            LesionsPanel(self.context),
            self.generate,
            self.result,
            self.modes,
            self.raters,
            self.export,
        ]

        self.sections = []  # panels of sections with a .ui of their own, which are shown a snapshot
        for name, panel in (("Outlines", OutlinesPanel), ("Review", ReviewPanel)):
            self.addSection(name)
            self.sections.append(panel(self.context))

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
        self.initializeParameterNode()

    def addSection(self, name: str) -> None:
        """Append the section of ``Resources/UI/<name>.ui``; its widgets are found in ``self.ui`` like all others."""
        widget = slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
        widget.setMRMLScene(slicer.mrmlScene)
        self.layout.addWidget(widget)
        for key, value in vars(slicer.util.childWidgetVariables(widget)).items():
            setattr(self.ui, key, value)

    def snapshot(self) -> Snapshot:
        """The scene as it is now."""
        found = tuple(run for run in find_runs(slicer.mrmlScene) if run.mean is not None)
        shown = next((run for run in found if run.mean is self._parameterNode.run), None)
        generating, inFront = self.context.generating, bool(self.parent.isEntered)
        return Snapshot(slicer.mrmlScene, self._parameterNode, found, shown, generating, inFront)

    def cleanup(self) -> None:
        """The application closes, or the module is reloaded: the worker ends."""
        self.stopWork()
        slicer.app.disconnect("aboutToQuit()", self.stopWork)
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        # The parameter node stays connected while the module is left: each connection costs observers for good.
        if self._parameterNode is None:
            self.initializeParameterNode()
        else:
            self.selectVolume()
            self.refresh()

    def onSceneStartClose(self, _caller, _event) -> None:
        self.context.leave_grid()  # its way back would be lost with the scene
        self.stopWork()
        self.setParameterNode(None)

    def onSceneEndClose(self, _caller, _event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, _caller, _event) -> None:
        """A scene was read, perhaps beside what is there and while the worker works for it."""
        disown_orphans(slicer.mrmlScene, self.generate.arriving)
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
            volumes = views.nodes_of_class(slicer.mrmlScene, "vtkMRMLScalarVolumeNode")
            inputs = [n for n in volumes if n.GetAttribute(ROLE) is None and not n.GetHideFromEditors()]
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
        self.inputs.schedule_estimate()

    def scheduleRefresh(self, _caller=None, _event=None) -> None:
        if self._parameterNode is not None:
            self._refreshTimer.start()

    def refresh(self) -> None:
        """Show the state in every panel; while a scene is being read or changed at large, its end will call again."""
        if self._parameterNode is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.observeMarkups()
            self.result.follow_layout()
            for panel in self.panels:
                panel.refresh()
            if self.sections:
                snapshot = self.snapshot()
                for panel in self.sections:
                    panel.show(snapshot)

    def stopWork(self) -> None:
        """End the worker, and whatever waits."""
        self._refreshTimer.stop()
        for panel in [*self.panels, *self.sections]:
            panel.stop()
        self.logic.runner.stop()

    def onRun(self, run: Run) -> None:
        """A run is complete, or was stopped with some samples."""
        self.result.show_new(run)
        self.modes.ask()


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

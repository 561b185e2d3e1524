"""Scripted module: several plausible segmentations of a lesion, sampled from a generative model."""

from __future__ import annotations

import ctk
import numpy as np
import qt
import slicer
from AmbiguousSegBridge.grid import geometry_of, read_channels
from AmbiguousSegBridge.scene import RunNodes, add_sample_set, read_sample
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.resources import find_model


class AmbiguousSeg(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Ambiguous Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["The AmbiguousSeg developers"]
        self.parent.helpText = _(
            "Samples several plausible segmentations of a lesion from a generative model, and shows where they agree "
            "and where they do not. For research use only; not for clinical decisions."
        )
        self.parent.acknowledgementText = _(
            "The methods are those of the publications named in the documentation and in each model's description."
        )


class AmbiguousSegWidget(ScriptedLoadableModuleWidget):
    """Volume, model, number of samples, and a button."""

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = AmbiguousSegLogic()
        section = ctk.ctkCollapsibleButton()
        section.text = _("Segmentations")
        self.layout.addWidget(section)
        form = qt.QFormLayout(section)

        self.inputSelector = slicer.qMRMLNodeComboBox()
        self.inputSelector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.inputSelector.addEnabled = self.inputSelector.removeEnabled = self.inputSelector.renameEnabled = False
        self.inputSelector.noneEnabled = True
        self.inputSelector.setMRMLScene(slicer.mrmlScene)
        form.addRow(_("Input volume:"), self.inputSelector)

        self.modelFolder = ctk.ctkPathLineEdit()
        self.modelFolder.filters = ctk.ctkPathLineEdit.Dirs
        self.modelFolder.settingKey = "AmbiguousSegModelFolder"
        if not self.modelFolder.currentPath:
            self.modelFolder.currentPath = str(find_model(None))
        form.addRow(_("Model folder:"), self.modelFolder)

        self.numberOfSamples = qt.QSpinBox()
        self.numberOfSamples.setRange(1, 64)
        self.numberOfSamples.value = 8
        form.addRow(_("Segmentations:"), self.numberOfSamples)

        self.generateButton = qt.QPushButton(_("Generate"))
        form.addRow(self.generateButton)
        self.layout.addStretch(1)

        self.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.updateButton)
        self.modelFolder.connect("currentPathChanged(QString)", self.updateButton)
        self.generateButton.connect("clicked(bool)", self.onGenerate)
        self.updateButton()

    def updateButton(self, *_arguments) -> None:
        """Enable the button when it can work; its tool tip says why when it cannot."""
        ready = self.inputSelector.currentNode() is not None and self.modelFolder.currentPath != ""
        self.generateButton.enabled = ready
        self.generateButton.toolTip = _("Sample segmentations") if ready else _("Choose a volume and a model folder")

    def onGenerate(self, _checked: bool = False) -> None:
        with slicer.util.tryWithErrorDisplay(_("No segmentations were made."), waitCursor=True):
            dialog = slicer.util.createProgressDialog(labelText=_("Sampling..."), maximum=0)
            try:
                slicer.app.processEvents()
                self.logic.generate(
                    [self.inputSelector.currentNode()],
                    self.modelFolder.currentPath,
                    self.numberOfSamples.value,
                    onProgress=lambda *_arguments: slicer.app.processEvents(),
                )
            finally:
                dialog.close()


class AmbiguousSegLogic(ScriptedLoadableModuleLogic):
    """Volume in, nodes out; knows neither Qt nor the widget."""

    def generate(self, inputVolumes, modelFolder, samples=8, seed=0, device="cpu", onProgress=None) -> RunNodes:
        """Sample segmentations of the volume whose channels are ``inputVolumes`` and put them into the scene.

        :param inputVolumes: one scalar volume node per channel of the model, in its order, all on one grid.
        :param modelFolder: folder with ``model.json`` and ``model.safetensors``.
        :param onProgress: called while sampling; may cancel by raising.
        :raises ImportError: PyTorch is not installed (extension PyTorch).
        :raises ValueError: the volumes do not fit each other or the model.
        """
        from AmbiguousSegLib.model import load_model
        from AmbiguousSegLib.sampling.volume import SampleRequest, sample_volume

        volume, geometry = read_channels(inputVolumes)
        model = load_model(modelFolder, device)
        request = SampleRequest(samples=samples, seed=seed)
        sampleSet = sample_volume(model, volume, geometry, request, on_progress=onProgress)
        name = f"{inputVolumes[0].GetName()} samples"
        return add_sample_set(slicer.mrmlScene, sampleSet, name, inputVolumes[0])


class AmbiguousSegTest(ScriptedLoadableModuleTest):
    """What needs a real Slicer; everything else is tested in the repository's Testing folder."""

    def runTest(self) -> None:
        self.setUp()
        self.test_samplesInTheSceneComeBack()

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def test_samplesInTheSceneComeBack(self) -> None:
        masks = np.random.default_rng(0).random((3, 6, 7, 8)) < 0.3
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
        volume.SetSpacing(0.7, 0.8, 3.0)
        slicer.util.updateVolumeFromArray(volume, np.arange(masks[0].size, dtype=np.int16).reshape(masks[0].shape))
        run = add_sample_set(slicer.mrmlScene, SampleSet(masks, geometry_of(volume)), "test", volume)
        for node, mask in zip(run.samples, masks):
            np.testing.assert_array_equal(read_sample(node), mask)
        again = add_sample_set(slicer.mrmlScene, SampleSet(masks, geometry_of(volume)), "test", volume)
        self.assertEqual(again.folder_item, run.folder_item)
        self.assertFalse(slicer.mrmlScene.IsNodePresent(run.mean))

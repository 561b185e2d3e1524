"""A toy module in the stand-in: loaded, used, saved, cleared, loaded again, unloaded."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
from SlicerHost import errors
from SlicerHost.errors import StandInError
from SlicerHost.fixtures import slicer_host  # noqa: F401

TOY = Path(__file__).parent / "toy"


@pytest.fixture
def toy(slicer_host):  # noqa: F811
    return slicer_host.load_module(TOY / "Toy.py")


def state(parameters):
    names = ["samples", "threshold", "quality", "limited", "folder", "title", "chosen"]
    values = {name: parameters.getValue(name) for name in names}
    return {**values, "volume": parameters.volume and parameters.volume.GetName()}


def test_loading_does_what_slicer_does(toy):
    assert toy.told == ["enter"] and toy.moduleName == "Toy" and not toy.developerMode
    assert slicer.modules.toy.contributors == ["started"] and slicer.modules.ToyWidget is toy
    assert Path(slicer.util.modulePath("Toy")).name == "Toy.py"
    node = toy.logic.getParameterNode()
    assert (node.GetAttribute("ModuleName"), node.GetSingletonTag()) == ("Toy", "Toy")
    assert toy.logic.getParameterNode() is node and toy.logic.getAllParameterNodes() == [node]


def test_widgets_are_of_their_classes_and_show_the_defaults(toy):
    import ctk
    import qt

    ui = toy.ui
    assert type(ui.samples) is qt.QSpinBox and type(ui.threshold) is ctk.ctkSliderWidget
    assert set(toy.uiWidget.findChildren(slicer.qMRMLNodeComboBox)) == {ui.volumeSelector}
    assert ui.section.collapsed and ui.folder.filters == ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Readable
    assert (ui.samples.minimum, ui.samples.maximum, ui.samples.value) == (1, 64, 8)
    assert (ui.threshold.minimum, ui.threshold.maximum, ui.threshold.value) == (0.0, 1.0, 0.5)
    assert [ui.quality.itemText(row) for row in range(ui.quality.count)] == ["Fast, rough", "Best"]
    assert ui.title.text == "untitled"
    assert ui.volumeSelector.mrmlScene() is slicer.mrmlScene and ui.folder.currentPath == "."


def test_the_button_is_pressed_and_disabled_by_the_files_connection(toy):
    toy.ui.applyButton.click()
    toy.ui.limited.checked = True
    toy.ui.applyButton.click()
    assert toy.pressed == 1 and not toy.ui.applyButton.enabled


def test_state_survives_saving_clearing_and_loading(toy, tmp_path):
    quality = type(toy.parameters.quality)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    slicer.util.updateVolumeFromArray(volume, np.zeros((2, 3, 4), np.int16))
    ui = toy.ui
    ui.volumeSelector.setCurrentNode(volume)
    ui.samples.value, ui.threshold.value, ui.quality.currentIndex = 5, 0.25, 1
    ui.limited.checked, ui.folder.currentPath, ui.title.text = True, str(tmp_path), 'é; "a:b'
    toy.parameters.chosen = ["a", "b"]
    toy.parameters.chosen.append("c")
    saved = state(toy.parameters)
    assert saved["quality"] is quality.BEST and saved["folder"] == tmp_path and saved["volume"] == "scan"
    assert list(saved["chosen"]) == ["a", "b", "c"]
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"), None)

    slicer.mrmlScene.Clear(0)
    cleared = state(toy.parameters)
    assert (cleared["samples"], cleared["volume"], list(cleared["chosen"])) == (8, None, [])
    assert (ui.samples.value, ui.volumeSelector.currentNode()) == (8, None)

    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    assert state(toy.parameters) == saved
    assert (ui.samples.value, ui.threshold.value, ui.quality.currentText) == (5, 0.25, "Best")
    assert ui.volumeSelector.currentNode().GetName() == "scan"


def test_unloading_leaves_and_cleans_up(toy, slicer_host):  # noqa: F811
    slicer_host.unload_module(toy)
    assert toy.told == ["enter", "exit", "cleanup"]
    slicer.mrmlScene.Clear(0)  # nothing that is gone may answer


def test_a_picture_of_the_module(toy, slicer_host, tmp_path):  # noqa: F811
    import qt

    slicer_host.screenshot(toy, tmp_path / "toy.png")
    picture = qt.QImage(str(tmp_path / "toy.png"))
    colours = {picture.pixel(x, y) for x in range(0, picture.width(), 3) for y in range(0, picture.height(), 3)}
    assert picture.width() == toy.parent.width and len(colours) > 3


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("QSpinBox", "QSpinBocks", "lacks the widget class 'QSpinBocks'"),
        ('name="noneEnabled"', 'name="nonEnabled"', "has no property 'nonEnabled'"),
        ("toggled(bool)", "toggled(int)", "has no signal 'toggled\\(int\\)'"),
        ("setDisabled(bool)", "setDissabled(bool)", "has no slot"),
        ("<receiver>volumeSelector", "<receiver>selector", "connects 'selector'"),
    ],
)
def test_a_faulty_file_fails(slicer_host, tmp_path, before, after, message):  # noqa: F811
    path = tmp_path / "faulty.ui"
    text = (TOY / "Resources" / "UI" / "Toy.ui").read_text(encoding="utf-8")
    path.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(StandInError, match=message):
        slicer.util.loadUI(str(path))
    errors.take()


def test_uninstalling_leaves_a_plain_slicer_core(slicer_host):  # noqa: F811
    from AmbiguousSegBridge.scene.host import make_host

    with pytest.raises(RuntimeError):
        make_host()
    slicer_host.uninstall()
    assert not {"app", "qMRMLWidget", "parameterNodeWrapper", "ScriptedLoadableModule"} & set(vars(slicer))
    assert not {"qt", "ctk", "slicer.i18n", "SampleData"} & set(sys.modules)
    make_host()


def test_layouts_make_views_with_composite_nodes(slicer_host):  # noqa: F811
    manager, heard = slicer.app.layoutManager(), []
    node = manager.layoutLogic().GetLayoutNode()
    views = "".join(f'<item><view class="vtkMRMLSliceNode" singletontag="S{n}"/></item>' for n in range(2))
    node.AddLayoutDescription(900, f'<layout type="horizontal">{views}</layout>')
    manager.connect("layoutChanged(int)", heard.append)
    manager.setLayout(900)
    assert manager.layout == 900 and heard == [900]
    for name in ("S0", "S1"):
        assert slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}") is not None
        assert slicer.app.applicationLogic().GetSliceLogicByLayoutName(name) is not None
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    slicer.util.setSliceViewerLayers(background=volume)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {"S0", "S1"} <= {composite.GetLayoutName() for composite in composites}
    assert {composite.GetBackgroundVolumeID() for composite in composites} == {volume.GetID()}


def test_sample_data_is_registered_once_and_loaded_by_its_button(slicer_host):  # noqa: F811
    import SampleData

    def load(source):
        return source

    for _ in range(2):
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="Toys", sampleName="Toy", uris="toy:", fileNames="toy.nrrd", customDownloader=load
        )
    (source,) = slicer.modules.sampleDataSources["Toys"]
    assert SampleData.press("Toy") is source
    with pytest.raises(AttributeError, match="lacks downloading"):  # Slicer would, without the custom downloader
        SampleData.SampleDataLogic().downloadSample("Toy")


def test_packages_are_asked_for_and_recorded(slicer_host):  # noqa: F811
    from SlicerHost import dialogs, packaging

    packaging.installed.add("numpy")
    slicer.packaging.pip_ensure("numpy>=1")
    dialogs.expect("confirmOkCancelDisplay", False)
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure(["numpy", "safetensors>=0.4"])
    dialogs.expect("confirmOkCancelDisplay", True)
    slicer.packaging.pip_ensure(["numpy", "safetensors>=0.4"])
    assert packaging.asked == [("pip_ensure", ["safetensors>=0.4"])] and slicer.packaging.pip_check("safetensors")
    slicer_host.without_packaging()
    with pytest.raises(ImportError):
        from slicer import packaging as gone  # noqa: F401
    slicer.util.pip_install("tqdm")
    assert packaging.asked[-1] == ("pip_install", ["tqdm"])

"""The stand-in's widgets of CTK and MRML."""

from __future__ import annotations

import pytest
import vtk
from SlicerHost import errors
from SlicerHost.errors import StandInError
from SlicerHost.fixtures import slicer_host  # noqa: F401

pytestmark = pytest.mark.usefixtures("slicer_host")
VOLUME = "vtkMRMLScalarVolumeNode"


@pytest.fixture
def heard():
    return []


@pytest.fixture
def selector(heard):
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = [VOLUME]
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: heard.append(node and node.GetName()))
    return selector


def add(name, kind=VOLUME, **attributes):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    for key, value in attributes.items():
        node.SetAttribute(key, value)
    return node


def listed(selector):
    return [selector.nodeFromIndex(index).GetName() for index in range(selector.nodeCount())]


def shown(selector):
    import qt

    return selector.findChild(qt.QComboBox).currentText


def test_the_first_node_is_selected_unless_none_may_be(selector, heard):
    import slicer

    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.currentNode() is None and selector.enabled
    first, second = add("first"), add("second")
    add("table", "vtkMRMLTableNode")
    assert listed(selector) == ["first", "second"] and selector.currentNode() is first and heard == ["first"]
    selector.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNodeID == first.GetID() and heard == ["first", "second", "first"]


def test_none_stays_none_and_removed_becomes_none(selector, heard):
    import slicer

    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    node = add("node")
    assert selector.currentNode() is None and shown(selector) == "None"
    selector.setCurrentNode(node)
    assert selector.currentNode() is node and shown(selector) == "node"
    slicer.mrmlScene.Clear()
    assert selector.currentNode() is None and listed(selector) == [] and heard == ["node", None]


def test_renamed_hidden_and_attributed_nodes(selector):
    import slicer

    selector.noneEnabled = True
    selector.addAttribute(VOLUME, "Kind", "mean")
    selector.setMRMLScene(slicer.mrmlScene)
    node, _, hidden = add("a", Kind="mean"), add("b", Kind="other"), add("c", Kind="mean")
    hidden.HideFromEditorsOn()
    assert listed(selector) == ["a"]
    selector.setCurrentNode(node)
    node.SetName("renamed")
    assert shown(selector) == "renamed"
    node.RemoveAttribute("Kind")
    assert listed(selector) == [] and selector.currentNode() is None
    selector.showHidden = True
    assert listed(selector) == ["c"]


def test_children_of_the_node_type(selector):
    import slicer

    selector.setMRMLScene(slicer.mrmlScene)
    add("labels", "vtkMRMLLabelMapVolumeNode")
    assert listed(selector) == ["labels"]
    selector.showChildNodeTypes = False
    assert listed(selector) == []


def test_a_node_asked_for_before_the_scene_is_there(selector):
    import slicer

    add("first")
    second = add("second")
    selector.setCurrentNodeID(second.GetID())
    assert selector.currentNode() is None
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.currentNode() is second


def test_new_nodes_are_made_of_the_type_with_attributes(selector):
    import slicer

    selector.addAttribute(VOLUME, "Kind", "mean")
    selector.baseName = "Mean"
    selector.setMRMLScene(slicer.mrmlScene)
    node = selector.addNode()
    assert (node.GetName(), node.GetAttribute("Kind"), selector.currentNode()) == ("Mean", "mean", node)
    with pytest.raises(StandInError):
        selector.addNode("vtkMRMLTableNode")
    errors.take()


def test_a_destroyed_selector_no_longer_follows_the_scene(selector):
    import slicer

    selector.setMRMLScene(slicer.mrmlScene)
    selector.delete()
    add("late")


def test_the_table_view_follows_its_node():
    import slicer

    view, node = slicer.qMRMLTableView(), add("table", "vtkMRMLTableNode")
    view.setMRMLScene(slicer.mrmlScene)
    view.setMRMLTableNode(node)
    names, numbers = vtk.vtkStringArray(), vtk.vtkDoubleArray()
    names.SetName("name")
    numbers.SetName("number")
    for name, number in (("a", 0.5), ("b", 2.0)):
        names.InsertNextValue(name)
        numbers.InsertNextValue(number)
    node.AddColumn(names)
    node.AddColumn(numbers)
    model = view.tableModel()
    assert [model.horizontalHeaderItem(column).text() for column in (0, 1)] == ["name", "number"]
    assert [[model.index(r, c).data() for c in (0, 1)] for r in (0, 1)] == [["a", "0.5"], ["b", "2"]]
    with pytest.raises(TypeError):
        view.setMRMLTableNode(add("volume"))


def test_slider(heard):
    import ctk

    slider = ctk.ctkSliderWidget()
    slider.minimum, slider.maximum, slider.singleStep, slider.decimals = 0.0, 1.0, 0.05, 2
    slider.connect("valueChanged(double)", heard.append)
    slider.value = 0.35
    slider.setValue(7)
    slider.value = 1.0
    assert heard == [0.35, 1.0] and slider.property("value") == 1.0


def test_a_path_is_told_if_it_fits_and_remembered(heard, tmp_path):
    import ctk

    edit = ctk.ctkPathLineEdit()
    edit.filters, edit.settingKey = ctk.ctkPathLineEdit.Dirs, "Key"
    edit.connect("currentPathChanged(QString)", heard.append)
    (tmp_path / "file").touch()
    edit.currentPath = str(tmp_path / "file")
    edit.currentPath = str(tmp_path)
    assert heard == [str(tmp_path)]
    edit.addCurrentPathToHistory()
    again = ctk.ctkPathLineEdit()
    again.settingKey = "Key"
    assert again.currentPath == str(tmp_path)


def test_a_collapsed_section_hides_what_was_shown():
    import ctk
    import qt

    section = ctk.ctkCollapsibleButton()
    layout, seen, unseen = qt.QVBoxLayout(section), qt.QLabel("seen"), qt.QLabel("unseen")
    layout.addWidget(seen)
    layout.addWidget(unseen)
    unseen.hide()
    section.show()
    section.collapsed = True
    assert not seen.visible
    section.collapsed = False
    assert seen.visible and not unseen.visible


def test_what_is_lacking_says_so():
    import ctk
    import slicer

    for owner, name in (
        (ctk, "ctkTree"),
        (slicer, "qMRMLTreeView"),
        (slicer.modules, "editor"),
        (slicer.app, "restart"),
    ):
        with pytest.raises(AttributeError, match=f"lacks .*{name}"):
            getattr(owner, name)

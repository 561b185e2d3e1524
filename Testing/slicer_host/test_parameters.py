"""The stand-in's parameter node wrapper: how values lie in the node, what is refused."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated, Optional

import pytest
import slicer
from SlicerHost.fixtures import slicer_host  # noqa: F401

pytestmark = pytest.mark.usefixtures("slicer_host")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def wrap(annotated, **members):
    """A wrapper with the one parameter ``value``, on a new node."""
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    cls = parameterNodeWrapper(type("Node", (), {"__annotations__": {"value": annotated}, **members}))
    return cls(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


def volume(name="scan"):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


@pytest.mark.parametrize(
    ("kind", "default", "value", "text"),
    [
        (bool, False, True, "True"),
        (int, 0, -7, "-7"),
        (float, 0.0, 0.1, "0.1"),
        (str, "", "a\nb", "a\nb"),
        (pathlib.Path, pathlib.Path(), pathlib.Path("/a b"), str(pathlib.Path("/a b"))),
        (Colour, Colour.RED, Colour.BLUE, "BLUE"),
    ],
)
def test_plain_values_lie_as_text(kind, default, value, text):
    wrapped = wrap(kind)
    assert wrapped.value == default and wrapped.default("value").value == default
    wrapped.value = value
    assert wrapped.parameterNode.GetParameter("value") == text and wrapped.value == value
    again = type(wrapped)(wrapped.parameterNode)
    assert again.getValue("value") == value and type(again.value) is type(value)


def test_nodes_lie_as_references():
    wrapped, node = wrap(slicer.vtkMRMLScalarVolumeNode), volume()
    assert wrapped.value is None
    wrapped.value = node
    assert wrapped.parameterNode.GetNodeReferenceID("value") == node.GetID() and wrapped.value is node
    wrapped.value = None
    assert wrapped.parameterNode.GetNodeReferenceID("value") is None and wrapped.value is None


@pytest.mark.parametrize(
    "optional",
    [Optional[slicer.vtkMRMLTableNode], slicer.vtkMRMLTableNode | None],  # noqa: UP045  (both forms)
)
def test_optional_nodes(optional):
    wrapped, table = wrap(optional), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    assert wrapped.value is None
    wrapped.value = table
    assert wrapped.parameterNode.GetNodeReference("value.0") is table and wrapped.value is table
    with pytest.raises(TypeError):
        wrapped.value = volume()
    assert wrapped.value is table


@pytest.mark.parametrize("values", [[1, 2, 3], [], [5]])
def test_lists_lie_element_by_element(values):
    wrapped = wrap(list[int])
    wrapped.value = [9, 9, 9, 9]
    wrapped.value = values
    node = wrapped.parameterNode
    assert node.GetParameter("value.len") == str(len(values)) and not node.HasParameter(f"value.{len(values)}")
    wrapped.value += [4]
    wrapped.value[0] = 8
    assert type(wrapped)(node).value == [8, *values[1:], 4][: len(values) + 1]
    with pytest.raises(TypeError):
        wrapped.value.append("no number")


def test_lists_of_nodes():
    wrapped, nodes = wrap(list[slicer.vtkMRMLScalarVolumeNode]), [volume("a"), volume("b")]
    wrapped.value = nodes
    assert list(type(wrapped)(wrapped.parameterNode).value) == nodes


def limits():
    from slicer import parameterNodeWrapper as wrapper

    return wrapper


@pytest.mark.parametrize(
    ("annotate", "good", "bad"),
    [
        (lambda w: Annotated[int, w.WithinRange(1, 5), w.Default(3)], 5, 6),
        (lambda w: Annotated[float, w.Minimum(1), w.Default(1.5)], 1, 0.9),
        (lambda w: Annotated[float, w.Maximum(1)], -3.5, 1.1),
        (lambda w: Annotated[str, w.Choice(["a", "b"]), w.Default("a")], "b", "c"),
    ],
)
def test_limits_refuse_and_keep_the_value(annotate, good, bad):
    wrapped = wrap(annotate(limits()))
    wrapped.value = good
    with pytest.raises(ValueError):
        wrapped.value = bad
    assert wrapped.value == good


@pytest.mark.parametrize(("kind", "bad"), [(int, 1.5), (int, "1"), (str, 1), (bool, 1), (Colour, "RED"), (int, None)])
def test_values_of_another_type_are_refused(kind, bad):
    with pytest.raises((TypeError, ValueError)):
        wrap(kind).value = bad


def test_a_default_outside_the_limits_is_refused():
    with pytest.raises(ValueError):
        wrap(Annotated[int, limits().WithinRange(1, 5)])


def test_names_and_types_that_cannot_be():
    for annotated in (dict[str, int], tuple[int, int], complex):
        with pytest.raises(AttributeError, match="lacks a parameter of type"):
            wrap(annotated)
    with pytest.raises(ValueError, match="'default'"):
        limits().parameterNodeWrapper(type("Node", (), {"__annotations__": {"default": int}}))
    with pytest.raises(ValueError, match="no parameter 'other'"):
        wrap(int).getValue("other")


def test_observers_hear_once_per_modification_block_and_see_the_new_value():
    wrapped, heard = wrap(int), []
    wrapped.AddObserver("ModifiedEvent", lambda *_: heard.append(wrapped.value))
    with slicer.util.NodeModify(wrapped):
        wrapped.value = 1
        wrapped.value = 2
    wrapped.value = 2
    assert heard == [2]


def test_what_another_wrapper_writes_is_seen_once_all_observers_were_called():
    wrapped, heard = wrap(int), []
    wrapped.AddObserver("ModifiedEvent", lambda *_: heard.append(wrapped.value))
    type(wrapped)(wrapped.parameterNode).value = 5
    assert wrapped.value == 5
    assert heard == [0]  # a node's first observer is called last, and it is the one that reads anew: so in Slicer


def test_binding_follows_both_ways_until_it_is_undone():
    import qt

    wrapped, box = wrap(Annotated[int, limits().WithinRange(1, 9), limits().Default(2)]), qt.QSpinBox()
    tag = wrapped.connectParametersToGui({"value": box})
    assert (box.minimum, box.maximum, box.value) == (1, 9, 2)
    box.value = 4
    assert wrapped.value == 4
    wrapped.value = 7
    assert box.value == 7
    wrapped.disconnectGui(tag)
    box.value, wrapped.value = 1, 3
    assert (box.value, wrapped.value) == (1, 3)


@pytest.mark.parametrize(
    ("annotated", "widget"),
    [
        (int, "QSlider"),  # no limits
        (float, "ctkSliderWidget"),
        (str, "QComboBox"),  # no Choice
        (int, "QLineEdit"),
        (bool, "QRadioButton"),
        (slicer.vtkMRMLTableNode, "QComboBox"),
    ],
)
def test_what_cannot_be_bound(annotated, widget):
    import ctk
    import qt

    made = getattr(ctk if widget.startswith("ctk") else qt, widget)()
    with pytest.raises(RuntimeError):
        wrap(annotated).connectParametersToGui({"value": made})


def test_widgets_of_derived_classes_are_not_bound():
    import qt

    class Box(qt.QCheckBox):
        pass

    with pytest.raises(RuntimeError, match="widget of class Box"):
        wrap(bool).connectParametersToGui({"value": Box()})

"""Stand-in for ``slicer.parameterNodeWrapper``: a class of typed parameters over a vtkMRMLScriptedModuleNode.

Written from what Slicer's does: values are cached and read anew whenever the node is modified, missing ones are
written with their default, widgets with the property SlicerParameterName are bound by ``connectGui``. Parameter packs,
ranges, tuples and dictionaries are lacking.
"""

from __future__ import annotations

import typing
import weakref
from dataclasses import dataclass

import slicer
import vtk

from SlicerHost import errors, qt
from SlicerHost.annotations import (  # noqa: F401  (what ``from slicer.parameterNodeWrapper import`` finds)
    Choice,
    Decimals,
    Default,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
)
from SlicerHost.connectors import Connector, connector
from SlicerHost.storage import ObservedList, Stored, split, stored  # noqa: F401

SlicerParameterNamePropertyName = "SlicerParameterName"


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise errors.lacks(f"slicer.parameterNodeWrapper.{name}")


@dataclass
class Parameter:
    """What the class says of one parameter."""

    basename: str
    stored: Stored
    default: Default
    unalteredType: object

    def read(self, node):
        if not self.stored.is_in(node, self.basename):
            self.stored.write(node, self.basename, self.default.value)
        return self.stored.read(node, self.basename)


class _Wrapper:
    """The methods of a wrapped class."""

    allParameters: dict[str, Parameter] = {}

    def __init__(self, parameterNode, prefix: str | None = None):
        if prefix is not None:
            raise errors.lacks("a prefix of a parameter node wrapper")
        if not isinstance(parameterNode, slicer.vtkMRMLScriptedModuleNode):
            raise TypeError(f"A parameter node is a vtkMRMLScriptedModuleNode, got {parameterNode!r}")
        self.parameterNode = parameterNode
        self._cache, self._writing, self._updating = {}, None, False
        self._bindings, self._tags, self._next = {}, {}, 0
        for name, parameter in self.allParameters.items():
            if not parameter.stored.is_in(parameterNode, name):
                parameter.stored.write(parameterNode, name, parameter.default.value)
            self._cache[name] = parameter.read(parameterNode)
            self._keep_fresh(name)

    def _keep_fresh(self, name: str) -> None:
        """An observer for each parameter, as in Slicer: VTK calls the very first of a node last, with what follows."""
        alive = weakref.ref(self)
        tag = self.parameterNode.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda *_: alive() and alive()._refresh(name)
        )
        weakref.finalize(self, self.parameterNode.RemoveObserver, tag)

    def _refresh(self, name: str) -> None:
        if name != self._writing:
            self._cache[name] = self.allParameters[name].read(self.parameterNode)

    def _check(self, name: str) -> Parameter:
        if "." in name:
            raise errors.lacks("dotted names of parameters")
        if name not in self.allParameters:
            raise ValueError(f"There is no parameter {name!r}, expected one of {list(self.allParameters)}")
        return self.allParameters[name]

    def getValue(self, name: str):
        self._check(name)
        return self._cache[name]

    def setValue(self, name: str, value) -> None:
        parameter = self._check(name)
        before, self._writing = self._writing, name
        try:
            with slicer.util.NodeModify(self.parameterNode):
                parameter.stored.write(self.parameterNode, name, value)
                self._cache[name] = parameter.read(self.parameterNode)  # before any observer can ask
        finally:
            self._writing = before

    def default(self, name: str) -> Default:
        return self._check(name).default

    def isCached(self, name: str) -> bool:
        return self._check(name) is not None

    @classmethod
    def dataType(cls, name: str):
        return cls.allParameters[name].unalteredType

    def connectGui(self, gui) -> int:
        """Bind the widgets under a widget, or among the attributes of an object; the tag undoes it."""
        widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "isWidgetType") else list(vars(gui).values())
        named = {w.property(SlicerParameterNamePropertyName): w for w in widgets if isinstance(w, qt.QWidget)}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict) -> int:
        for name in mapping:
            self._check(name)
        bound = {
            name: widget if isinstance(widget, Connector) else connector(widget, self.dataType(name))
            for name, widget in mapping.items()
        }
        tag, self._next = self._next, self._next + 1
        self._bindings[tag] = bound
        for name, one in bound.items():
            one.write(self.getValue(name))
            one.onChanged(lambda name=name, one=one: self._from_widget(name, one))
        self._tags[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._to_widgets())
        return tag

    def disconnectGui(self, tag: int) -> None:
        for one in self._bindings.pop(tag, {}).values():
            one.onChanged(None)
        if tag in self._tags:
            self.RemoveObserver(self._tags.pop(tag))

    def _from_widget(self, name: str, one: Connector) -> None:
        if not self._updating:
            with slicer.util.NodeModify(self):
                self.setValue(name, one.read())

    def _to_widgets(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for bound in self._bindings.values():
                    for name, one in bound.items():
                        one.write(self.getValue(name))
        finally:
            self._updating = False

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> None:
        self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event, callback, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


RESERVED = [name for name in vars(_Wrapper) if not name.startswith("__")]


def parameterNodeWrapper(classtype=None):
    """Class decorator: the annotated members become parameters of the node given to the constructor."""
    if classtype is None:
        return parameterNodeWrapper
    parameters = {}
    for name, annotated in typing.get_type_hints(classtype, include_extras=True).items():
        if name in RESERVED:
            raise ValueError(f"The name {name!r} is the wrapper's own; a parameter needs another.")
        kept = stored(annotated)
        default = next((note for note in split(annotated)[1] if isinstance(note, Default)), None)
        if hasattr(classtype, name):
            default = Default(getattr(classtype, name))
        parameters[name] = Parameter(name, kept, default or Default(generator=kept.default), annotated)
        setattr(classtype, name, _property(name))
    for name, member in vars(_Wrapper).items():
        if name in RESERVED or name == "__init__":
            setattr(classtype, name, member)
    classtype.allParameters = parameters
    return classtype


def _property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))

"""How typed parameters lie in a vtkMRMLScriptedModuleNode: names and texts as Slicer writes them into scenes."""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from collections.abc import MutableSequence
from dataclasses import dataclass, field

import slicer

from SlicerHost import errors
from SlicerHost.annotations import IsInstance, NotNone, Validator

PATHS = (pathlib.Path, pathlib.PurePath, pathlib.PosixPath, pathlib.WindowsPath)


def split(annotated) -> tuple[type, tuple]:
    """Type and annotations of a possibly annotated type; ``X | None`` becomes ``Optional[X]``."""
    plain, *notes = typing.get_args(annotated) if typing.get_origin(annotated) is typing.Annotated else (annotated,)
    if isinstance(plain, types.UnionType):
        plain = typing.Union[typing.get_args(plain)]  # noqa: UP007  (this form is what makes it Optional)
    return plain, tuple(notes)


def is_node_type(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def node_types(kind) -> tuple[str, ...] | None:
    """Class names of a node type or a union of node types and None; None for any other type.

    Slicer makes an object of each class to ask for its name, so that abstract classes fail there and here.
    """
    kinds = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    kinds = [split(part)[0] for part in kinds if part is not type(None)]
    return tuple(part().GetClassName() for part in kinds) if kinds and all(map(is_node_type, kinds)) else None


@dataclass
class Stored:
    """Values of one type in a parameter node, under one name; ``validators`` are asked before writing."""

    kind: type
    validators: list[Validator] = field(default_factory=list)

    def validate(self, value) -> None:
        for validator in self.validators:
            validator.validate(value)

    def can_hold(self, value) -> bool:
        try:
            self.validate(value)
        except (TypeError, ValueError):
            return False
        return True

    def default(self):
        return next(iter(self.kind)) if issubclass(self.kind, enum.Enum) else self.kind()

    def is_in(self, node, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        text = value.name if isinstance(value, enum.Enum) else str(value)
        node.SetParameter(name, text)

    def read(self, node, name: str):
        text = node.GetParameter(name)
        if self.kind is bool:
            return text == "True"
        if issubclass(self.kind, enum.Enum):
            if text not in self.kind.__members__:
                raise ValueError(f"Parameter {name!r} is {text!r}, expected one of {list(self.kind.__members__)}")
            return self.kind[text]
        return self.kind(text)

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)


class StoredNode(Stored):
    """A node or None, as a node reference; an empty parameter says that it was set."""

    def default(self):
        return None

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, None if value is None else value.GetID())

    def read(self, node, name: str):
        return node.GetNodeReference(name)

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class StoredNone(Stored):
    """The None of a union."""

    def can_hold(self, value) -> bool:
        return value is None

    def validate(self, value) -> None:
        if value is not None:
            raise ValueError("Value must be None")

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, "True")

    def read(self, node, name: str) -> None:
        return None


@dataclass
class StoredUnion(Stored):
    """One of several types, each under ``name.0``, ``name.1`` ..."""

    parts: list[Stored] = field(default_factory=list)

    def default(self):
        optional = len(self.parts) == 2 and isinstance(self.parts[1], StoredNone)
        return None if optional else self.parts[0].default()

    def is_in(self, node, name: str) -> bool:
        return any(part.is_in(node, f"{name}.{index}") for index, part in enumerate(self.parts))

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        fits = [
            i for i, p in enumerate(self.parts) if p.can_hold(value) and isinstance(p, StoredNone) == (value is None)
        ]
        if not fits:
            raise TypeError(f"Parameter {name!r} cannot be {value!r}, expected {self.kind}")
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self.parts[fits[0]].write(node, f"{name}.{fits[0]}", value)

    def read(self, node, name: str):
        for index, part in enumerate(self.parts):
            if part.is_in(node, f"{name}.{index}"):
                return part.read(node, f"{name}.{index}")
        raise KeyError(name)

    def remove(self, node, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index, part in enumerate(self.parts):
                part.remove(node, f"{name}.{index}")


@dataclass
class StoredList(Stored):
    """A list: its length under ``name.len``, its elements under ``name.0``, ``name.1`` ..."""

    element: Stored | None = None

    def default(self) -> list:
        return []

    def is_in(self, node, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def _length(self, node, name: str) -> int:
        return int(node.GetParameter(f"{name}.len")) if self.is_in(node, name) else 0

    def write(self, node, name: str, values) -> None:
        self.validate(values)
        for value in values:
            self.element.validate(value)
        with slicer.util.NodeModify(node):
            for index in range(len(values), self._length(node, name)):
                self.element.remove(node, f"{name}.{index}")
            for index, value in enumerate(values):
                self.element.write(node, f"{name}.{index}", value)
            node.SetParameter(f"{name}.len", str(len(values)))

    def read(self, node, name: str) -> ObservedList:
        values = [self.element.read(node, f"{name}.{index}") for index in range(self._length(node, name))]
        return ObservedList(self, node, name, values)

    def remove(self, node, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index in range(self._length(node, name)):
                self.element.remove(node, f"{name}.{index}")
            node.UnsetParameter(f"{name}.len")


class ObservedList(MutableSequence):
    """A list in a parameter node: whoever changes it writes it; no ``+`` and ``*``, as in Slicer."""

    def __init__(self, stored: StoredList, node, name: str, values: list):
        self._stored, self._node, self._name, self._list = stored, node, name, values

    def _save(self) -> None:
        self._stored.write(self._node, self._name, self._list)

    def __repr__(self) -> str:
        return f"ObservedList({self._list})"

    def __eq__(self, other) -> bool:
        return self._list == (other._list if isinstance(other, ObservedList) else other)

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, index):
        return self._list[index]

    def __setitem__(self, index, value) -> None:
        self._list[index] = value
        self._save()

    def __delitem__(self, index) -> None:
        del self._list[index]
        self._save()

    def insert(self, index: int, value) -> None:
        self._list.insert(index, value)
        self._save()


def stored(annotated) -> Stored:
    """How a type is stored.

    Raises:
        AttributeError: Slicer or at least the stand-in cannot store it.
    """
    kind, notes = split(annotated)
    limits = [note for note in notes if isinstance(note, Validator)]
    if kind in (bool, str, int, float) or kind in PATHS:
        return Stored(kind, [NotNone(), IsInstance((int, float) if kind is float else kind), *limits])
    if is_node_type(kind):
        return StoredNode(kind, [IsInstance(kind), *limits])
    if kind is type(None):
        return StoredNone(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum) and len(kind):
        return Stored(kind, [NotNone(), IsInstance(kind), *limits])
    if typing.get_origin(kind) is typing.Union:
        return StoredUnion(kind, limits, [stored(part) for part in typing.get_args(kind)])
    if typing.get_origin(kind) is list:
        return StoredList(kind, limits, stored(typing.get_args(kind)[0]))
    raise errors.lacks(f"a parameter of type {kind} (parameterNodeWrapper)")

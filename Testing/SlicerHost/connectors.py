"""How a parameter of a type is bound to a widget: read, written, and told when the user changes it.

As in Slicer the widget's class must match exactly, a combo box is filled from the choices or the enumeration, and
sliders need a range.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from SlicerHost import ctk, node_widgets, qt
from SlicerHost.annotations import (
    Choice,
    Decimals,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
)
from SlicerHost.storage import PATHS, node_types, split


@dataclass
class Connector:
    """A widget with its signal, and how its value is read and written."""

    widget: object
    signal: str | None
    read: Callable[[], object]
    write: Callable[[object], None]
    _callback: Callable | None = None

    def onChanged(self, callback: Callable | None) -> None:
        """Call ``callback`` without arguments whenever the widget changes; None: no longer."""
        if self._callback is not None and self.signal is not None:
            self.widget.disconnect(self.signal, self._callback)
        self._callback = None if callback is None else lambda *_: callback()
        if self._callback is not None and self.signal is not None:
            self.widget.connect(self.signal, self._callback)


def connector(widget, datatype) -> Connector:
    """The connector of a widget to a type.

    Raises:
        RuntimeError: Slicer, or at least the stand-in, has none, or the type lacks an annotation that it needs.
    """
    kind, notes = split(datatype)
    cls = type(widget)
    plain = _PLAIN.get((cls, kind)) or (_PLAIN.get((cls, PATHS[0])) if kind in PATHS else None)
    if plain is not None:
        return _attribute(widget, *plain, (lambda value: kind(value)) if kind in PATHS else None)
    if kind is int and cls in (qt.QSpinBox, qt.QSlider):
        _limit(widget, notes, cls is qt.QSlider, -(2**31), 2**31 - 1)
        return _attribute(widget, "value", "valueChanged(int)")
    if kind in (int, float) and cls in (qt.QDoubleSpinBox, ctk.ctkSliderWidget):
        _limit(widget, notes, cls is ctk.ctkSliderWidget, float("-inf"), float("inf"))
        if kind is int:
            widget.decimals = 0
        return _attribute(widget, "value", "valueChanged(double)", kind)
    if cls is qt.QComboBox:
        if kind in (int, float, str, bool):
            choice = _first(notes, Choice)
            if choice is None:
                raise RuntimeError(f"A combo box needs the annotation Choice, got {datatype}")
            return _combo_box(widget, [(str(value), value) for value in choice.choices])
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            label = getattr(kind, "label", lambda member: member.name)
            return _combo_box(widget, [(label(member), member) for member in kind], keep=True)
    if cls is node_widgets.qMRMLNodeComboBox and node_types(kind) is not None:
        widget.nodeTypes = node_types(kind)
        return Connector(widget, "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"Unable to connect a parameter of type {datatype} to a widget of class {cls.__name__}")


_PLAIN = {
    (qt.QCheckBox, bool): ("checked", "stateChanged(int)"),
    (qt.QPushButton, bool): ("checked", "toggled(bool)"),
    (qt.QLineEdit, str): ("text", "textChanged(QString)"),
    (qt.QLabel, str): ("text", None),
    (qt.QTextEdit, str): ("plainText", "textChanged()"),
    (ctk.ctkPathLineEdit, PATHS[0]): ("currentPath", "currentPathChanged(QString)"),
}


def _attribute(widget, name: str, signal: str | None, kind: Callable | None = None) -> Connector:
    if type(widget) is qt.QPushButton:
        widget.checkable = True  # Slicer does, with a warning

    def read():
        return getattr(widget, name) if kind is None else kind(getattr(widget, name))

    def write(value) -> None:
        value = str(value) if isinstance(value, PATHS) else value
        if name != "text" or value != widget.text:  # the cursor would move
            setattr(widget, name, value)

    return Connector(widget, signal, read, write)


def _first(notes, kind):
    return next((note for note in notes if isinstance(note, kind)), None)


def _limit(widget, notes, is_slider: bool, lowest, highest) -> None:
    decimals, step, both = (_first(notes, kind) for kind in (Decimals, SingleStep, WithinRange))
    low, high = both or _first(notes, Minimum), both or _first(notes, Maximum)
    if is_slider and (low is None or high is None):
        raise RuntimeError(f"A {type(widget).__name__} needs a parameter with both limits (WithinRange).")
    if decimals is not None:
        widget.decimals = decimals.value
    if step is not None:
        widget.singleStep = step.value
    widget.setMinimum(lowest if low is None else low.minimum)
    widget.setMaximum(highest if high is None else high.maximum)


def _combo_box(widget, items: list[tuple[str, object]], keep: bool = False) -> Connector:
    values = [value for _, value in items]

    def write(value) -> None:
        if value not in values:
            raise ValueError(f"{value!r} is not among {values}")
        widget.currentIndex = values.index(value)

    selected = values[widget.currentIndex] if keep else None
    widget.clear()
    widget.addItems([label for label, _ in items])
    if keep:
        write(selected)
    return Connector(widget, "currentIndexChanged(int)", lambda: values[widget.currentIndex], write)

"""Stand-in for ``qt.QUiLoader``: .ui files with Qt's widgets and the stand-in's, strict about names.

Unknown classes, properties, signals and slots fail here; Qt only prints a warning, or makes a dynamic property.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools

from SlicerHost import ctk, errors, manners, node_widgets

CUSTOM = {name: cls for name, cls in vars(ctk).items() if name.startswith("ctk") and isinstance(cls, type)}
CUSTOM |= node_widgets.WIDGETS | {"qSlicerWidget": node_widgets.qMRMLWidget}


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file into widgets with PythonQt's manners."""

    def load(self, device: QtCore.QIODevice, parent=None):
        """The file's top widget.

        Raises:
            StandInError: the file names what Slicer has not, or what the stand-in lacks.
        """
        root = ElementTree.fromstring(bytes(device.readAll()).decode())
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        special = _take_enumerations(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        self._refused, self._made = [], []
        widget = super().load(buffer, parent)
        if self._refused or widget is None:
            raise manners.refuse(f"The .ui file cannot be loaded: {'; '.join(self._refused) or self.errorString()}")
        for name, properties in special.items():
            found = _named(widget, name)
            for key, value in properties.items():
                setattr(found, key, value)
        for element in root.iter("widget"):
            _check(element, _named(widget, element.get("name")))
        for connection in () if connections is None else connections:
            sender, receiver = (_named(widget, connection.findtext(part)) for part in ("sender", "receiver"))
            sender.connect(connection.findtext("signal"), receiver, connection.findtext("slot"))
        widget._made = self._made  # wrappers must live as long as their widgets: they hold Python's part of them
        return widget

    def createWidget(self, class_name, parent=None, name=""):
        if class_name in CUSTOM:
            widget = CUSTOM[class_name](parent)
            widget.setObjectName(name)
        elif class_name in self.availableWidgets() or class_name == "Line":
            widget = super().createWidget(class_name, parent, name)
        else:
            self._refused.append(f"Slicer's stand-in lacks the widget class {class_name!r}")
            widget = super().createWidget("QWidget", parent, name)
        self._made.append(widget)
        return widget


def _named(top, name: str):
    """The widget or action of a name; the file's top widget may be meant."""
    found = top if top.objectName == name else top.findChild(QtCore.QObject, name)
    if found is None:
        raise manners.refuse(f"The .ui file connects {name!r}, which it does not contain.")
    return found


def _take_enumerations(root: ElementTree.Element) -> dict[str, dict]:
    """Enumerations of the stand-in's widgets, which Qt cannot know: taken out of the file, by widget and property."""
    special: dict[str, dict] = {}
    for element in root.iter("widget"):
        cls = CUSTOM.get(element.get("class"))
        for entry in element.findall("property") if cls is not None else ():
            value = entry.find("set") if entry.find("set") is not None else entry.find("enum")
            if value is None or (hasattr(cls.__mro__[1], entry.get("name")) and entry.get("name") not in cls.__dict__):
                continue
            names = [part.split("::")[-1].strip() for part in value.text.split("|")]
            missing = [name for name in names if not hasattr(cls, name)]
            if missing or not hasattr(cls, entry.get("name")):
                raise errors.lacks(f"{cls.__name__}.{entry.get('name')} = {value.text}")
            special.setdefault(element.get("name"), {})[entry.get("name")] = sum(getattr(cls, name) for name in names)
            element.remove(entry)
    return special


def _check(element: ElementTree.Element, widget) -> None:
    """Every property of the file is one of the widget's, unless it says that it is dynamic."""
    for entry in element.findall("property"):
        name = entry.get("name")
        known = widget.metaObject().indexOfProperty(name) >= 0 or (element.get("class"), name) == (
            "Line",
            "orientation",
        )
        if entry.get("stdset") != "0" and not known:
            raise manners.refuse(f"{element.get('class')} {element.get('name')!r} has no property {name!r}.")

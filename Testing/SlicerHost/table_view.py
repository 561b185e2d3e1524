"""Stand-in for qMRMLTableView, and how the stand-in's widgets follow a scene or a node."""

from __future__ import annotations

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Signal

from SlicerHost import manners
from SlicerHost.ctk_paths import attribute

manners.install()


class SceneMixin:
    """A scene and observers that go when the widget goes."""

    _scene = None

    def mrmlScene(self):
        return self._scene

    def _watch(self, observed, events, react) -> None:
        def heard(*_, widget=self) -> None:
            if shiboken6.isValid(widget):
                react()

        tags = [observed.AddObserver(event, heard) for event in events]
        self.destroyed.connect(lambda: [observed.RemoveObserver(tag) for tag in tags])
        self.__dict__.setdefault("_observed", []).append((observed, tags))

    def _unwatch(self, observed) -> None:
        for known, tags in self.__dict__.get("_observed", []):
            if known is observed:
                [known.RemoveObserver(tag) for tag in tags]
        self._observed = [pair for pair in self.__dict__.get("_observed", []) if pair[0] is not observed]


class qMRMLTableView(QtWidgets.QTableView, SceneMixin):
    """A table node's vtkTable, read only here."""

    mrmlSceneChanged = Signal(object)
    selectionChanged = Signal()
    SIGNALS = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}
    SLOTS = ("setMRMLScene(vtkMRMLScene*)", "setMRMLTableNode(vtkMRMLNode*)", "setMRMLTableNode(vtkMRMLTableNode*)")
    transposed = attribute(bool, "transposed", False)
    firstRowLocked = attribute(bool, "firstRowLocked", False)
    firstColumnLocked = attribute(bool, "firstColumnLocked", False)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None
        self.setModel(QtGui.QStandardItemModel(self))

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlTableNode(self):
        return self._node

    def setMRMLTableNode(self, node) -> None:
        if node is not None and not isinstance(node, slicer.vtkMRMLTableNode):
            raise TypeError(f"qMRMLTableView.setMRMLTableNode takes a table node or None, got {node!r}")
        if self._node is not None:
            self._unwatch(self._node)
        self._node = node
        if node is not None:
            self._watch(node, [vtk.vtkCommand.ModifiedEvent], self._show)
        self._show()

    def _show(self) -> None:
        model, table = self.model(), None if self._node is None else self._node.GetTable()
        model.clear()
        if table is None:
            return
        columns = range(table.GetNumberOfColumns())
        model.setHorizontalHeaderLabels([table.GetColumnName(column) or "" for column in columns])
        for row in range(table.GetNumberOfRows()):
            items = [QtGui.QStandardItem(table.GetValue(row, column).ToString()) for column in columns]
            for item in items:
                item.setEditable(False)
            model.appendRow(items)

    def tableModel(self) -> QtCore.QAbstractItemModel:
        return self.model()

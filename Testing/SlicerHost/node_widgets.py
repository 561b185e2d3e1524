"""Stand-ins for Slicer's widgets that follow the scene: qMRMLWidget, qMRMLNodeComboBox, qMRMLTableView."""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal

from SlicerHost import errors, manners
from SlicerHost.ctk_paths import attribute
from SlicerHost.table_view import SceneMixin, qMRMLTableView

manners.install()
NODE_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent")


class qMRMLWidget(QtWidgets.QWidget, SceneMixin):
    """A widget that hands its scene on: connect mrmlSceneChanged to others' setMRMLScene."""

    mrmlSceneChanged = Signal(object)
    SIGNALS = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}
    SLOTS = ("setMRMLScene(vtkMRMLScene*)",)

    def __init__(self, parent=None):
        super().__init__(parent)

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def _setting(kind, name: str) -> Property:
    """A property of the node selector; changing it lists the nodes anew."""

    def write(self, value) -> None:
        self._settings[name] = value
        self._update()

    return Property(kind, lambda self: self._settings[name], write)


class qMRMLNodeComboBox(QtWidgets.QWidget, SceneMixin):
    """The nodes of a scene that are of the node types and have the attributes, by name; actions below, if enabled.

    As Slicer's: without ``noneEnabled`` the first node that appears is selected; a node that is not in the list, or
    was removed, leaves None; a node asked for before the scene is there is selected once it is.
    """

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAddedByUser = Signal(object)
    currentNodeRenamed = Signal(str)
    SIGNALS = {
        f"{name}(vtkMRMLNode*)": f"{name}(PyObject)"
        for name in ("currentNodeChanged", "nodeActivated", "nodeAddedByUser")
    }
    SLOTS = (
        "setMRMLScene(vtkMRMLScene*)",
        "setCurrentNode(vtkMRMLNode*)",
        "setCurrentNodeID(QString)",
        "setCurrentNodeIndex(int)",
    )
    selectNodeUponCreation = attribute(bool, "selectNodeUponCreation", True)
    hideChildNodeTypes = attribute("QStringList", "hideChildNodeTypes", [])
    interactionNodeSingletonTag = attribute(str, "interactionNodeSingletonTag", "")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._types, self._attributes, self._base = [], [], ""
        self._settings = {"none": False, "hidden": False, "children": True, "none text": "None"}
        self._settings |= {"add": True, "remove": True, "edit": False, "rename": False}
        self._current, self._wanted, self._ids, self._followed = "", "", [], {}
        self._box = QtWidgets.QComboBox(self)
        self._box.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._box.activated.connect(self._chosen)
        self.setEnabled(False)

    # what is listed

    def setMRMLScene(self, scene) -> None:
        if scene is self._scene:
            return
        if self._scene is not None:
            self._unwatch(self._scene)
        self._scene = scene
        if scene is not None:
            self._watch(scene, [getattr(slicer.vtkMRMLScene, event) for event in NODE_EVENTS], self._update)
        self.setEnabled(scene is not None)
        wanted, self._wanted = self._wanted, ""
        self._update(wanted or self._current)

    def _of_type(self) -> list:
        """Nodes of the scene of one of the types; asked of the scene, which is quicker than of each node."""
        found = []
        for kind in self._types if self._scene is not None else ():
            nodes = self._scene.GetNodesByClass(kind)
            nodes.UnRegister(None)
            found += [node for node in nodes if self._settings["children"] or node.GetClassName() == kind]
        return found

    def _accepts(self, node) -> bool:
        if node.GetHideFromEditors() and not self._settings["hidden"]:
            return False
        for kind, key, value in self._attributes:
            found = node.GetAttribute(key) if node.IsA(kind) else None
            if node.IsA(kind) and (found is None or (value is not None and found != str(value))):
                return False
        return True

    def _update(self, wanted: str | None = None) -> None:
        scene = self._scene
        if scene is not None and (scene.IsClosing() or scene.IsImporting()):
            return  # Slicer's model waits for the end, too
        typed = {node.GetID(): node for node in self._of_type()}
        for new in typed.keys() - self._followed.keys():
            self._watch(typed[new], [vtk.vtkCommand.ModifiedEvent], self._update)  # its name, its attributes
        for gone in self._followed.keys() - typed.keys():
            self._unwatch(self._followed[gone])
        self._followed = typed
        before, self._ids = self._ids, [node_id for node_id, node in typed.items() if self._accepts(node)]
        target = self._current if wanted is None else wanted
        if target not in self._ids:
            target = ""
            if self._ids and not self._settings["none"]:  # something must be selected, unless None was asked for
                target = self._ids[-1] if self._current else "" if before else self._ids[0]
        self._fill([typed[node_id] for node_id in self._ids])
        self._select(target)

    def _fill(self, nodes) -> None:
        self._box.blockSignals(True)
        self._box.clear()
        if self._settings["none"]:
            self._box.addItem(self._settings["none text"])
        for node in nodes:
            self._box.addItem(node.GetName() or "")
        if self._scene is not None:
            labels = [kind.removeprefix("vtkMRML").removesuffix("Node") for kind in self._types]
            if self._settings["add"]:
                self._box.addItems([f"Create new {label}" for label in labels])
            self._box.addItems([f"{key.capitalize()} current" for key in ("edit", "rename") if self._settings[key]])
            self._box.addItems(["Delete current"] * self._settings["remove"])
        self._box.setCurrentIndex(self._row())
        self._box.blockSignals(False)

    def _row(self) -> int:
        return (
            self._ids.index(self._current) + self._settings["none"]
            if self._current in self._ids
            else (0 if self._settings["none"] else -1)
        )

    # what is selected

    def _select(self, node_id: str) -> None:
        changed, self._current = node_id != self._current, node_id
        self._box.blockSignals(True)
        self._box.setCurrentIndex(self._row())
        self._box.blockSignals(False)
        if changed:
            node = self.currentNode()
            self.currentNodeChanged[object].emit(node)
            self.currentNodeChanged[bool].emit(node is not None)
            self.currentNodeIDChanged.emit(node_id)

    def _chosen(self, row: int) -> None:
        index = row - self._settings["none"]
        if index < len(self._ids):
            self._select(self._ids[index] if index >= 0 else "")
            self.nodeActivated.emit(self.currentNode())
        else:
            text = self._box.itemText(row)
            self._box.setCurrentIndex(self._row())
            if text.startswith("Create new "):
                self.addNode(self._types[index - len(self._ids)])
            elif text == "Delete current":
                self.removeCurrentNode()
            else:
                raise errors.lacks(f"qMRMLNodeComboBox's action {text!r}")

    def currentNode(self):
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    def setCurrentNode(self, node) -> None:
        if node is not None and not isinstance(node, (str, slicer.vtkMRMLNode)):
            raise TypeError(f"qMRMLNodeComboBox.setCurrentNode takes a node, its ID or None, got {node!r}")
        self.setCurrentNodeID(node if isinstance(node, str) else "" if node is None else node.GetID() or "")

    def setCurrentNodeID(self, node_id: str) -> None:
        if self._scene is None:
            self._wanted = node_id
        else:
            self._select(node_id if node_id in self._ids else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self._select(self._ids[index])

    def nodeCount(self) -> int:
        return len(self._ids)

    def nodeFromIndex(self, index: int):
        return self._scene.GetNodeByID(self._ids[index]) if 0 <= index < len(self._ids) else None

    # what can be done

    def addNode(self, kind: str | None = None):
        kind = self._types[0] if kind is None else kind
        if kind not in self._types:
            raise manners.refuse(f"qMRMLNodeComboBox.addNode({kind!r}): its node types are {self._types}.")
        name = self._base or kind.removeprefix("vtkMRML").removesuffix("Node")
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(name))
        for of, key, value in self._attributes:
            if node.IsA(of) and value is not None:
                node.SetAttribute(key, str(value))
        self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    def addAttribute(self, kind: str, name: str, value=None) -> None:
        self._attributes = [a for a in self._attributes if a[:2] != (kind, name)] + [(kind, name, value)]
        self._update()

    def removeAttribute(self, kind: str, name: str) -> None:
        self._attributes = [a for a in self._attributes if a[:2] != (kind, name)]
        self._update()

    def setNodeTypes(self, kinds) -> None:
        self._types = [kind for kind in kinds if kind]
        self._update()

    def setBaseName(self, name: str, kind: str = "") -> None:
        self._base = name

    noneEnabled = _setting(bool, "none")
    showHidden = _setting(bool, "hidden")
    showChildNodeTypes = _setting(bool, "children")
    noneDisplay = _setting(str, "none text")
    addEnabled = _setting(bool, "add")
    removeEnabled = _setting(bool, "remove")
    editEnabled = _setting(bool, "edit")
    renameEnabled = _setting(bool, "rename")
    nodeTypes = Property("QStringList", lambda self: list(self._types), setNodeTypes)
    baseName = Property(str, lambda self: self._base, setBaseName)
    currentNodeID = Property(str, lambda self: self._current, setCurrentNodeID)


WIDGETS = {cls.__name__: cls for cls in (qMRMLWidget, qMRMLNodeComboBox, qMRMLTableView)}

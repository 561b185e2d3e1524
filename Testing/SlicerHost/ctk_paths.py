"""Stand-ins for CTK's widgets that choose paths; part of ``ctk``."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from SlicerHost import dialogs, manners

manners.install()
MAXIMUM_HISTORY = 5


def attribute(kind, name: str, default):
    """A Qt property that is merely kept, for what has no effect on a test."""
    key = f"_{name}"
    return Property(kind, lambda self: self.__dict__.get(key, default), lambda self, v: self.__dict__.update({key: v}))


class ctkPathLineEdit(QtWidgets.QWidget):
    """An editable history of paths and a button "..."; a path that does not fit ``filters`` is kept, but not told."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    SLOTS = ("setCurrentPath(QString)", "browse()", "addCurrentPathToHistory()", "retrieveHistory()")
    Dirs, Files, Drives, NoSymLinks, Readable, Writable, Executable = 1, 2, 4, 8, 0x10, 0x20, 0x40
    AllDirs, NoDotAndDotDot, NoDot, NoDotDot = 0x400, 0x1000, 0x2000, 0x4000
    filters = attribute(int, "filters", Dirs | Files)
    nameFilters = attribute("QStringList", "nameFilters", [])
    label = attribute(str, "label", "")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._key, self._valid = "", True
        self._box, self._browse = QtWidgets.QComboBox(self), QtWidgets.QToolButton(self)
        self._box.editable = True
        self._box.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._browse.text = "..."
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        row.addWidget(self._browse)
        self._box.editTextChanged.connect(self._changed)
        self._browse.clicked.connect(self.browse)

    def comboBox(self) -> QtWidgets.QComboBox:
        return self._box

    def _changed(self, path: str) -> None:
        info, allowed = QtCore.QFileInfo(path), self.filters & (self.Dirs | self.AllDirs | self.Files)
        files_only, dirs_only = allowed == self.Files, not allowed & self.Files
        valid = not ((files_only and info.isDir()) or (dirs_only and info.isFile()))
        if valid:
            self.currentPathChanged.emit(path)
        if valid != self._valid:
            self._valid = valid
            self.validInputChanged.emit(valid)

    def setCurrentPath(self, path: str) -> None:
        if not isinstance(path, str):
            raise TypeError(f"ctkPathLineEdit.currentPath takes a str, got {path!r}")
        self._box.lineEdit().setText(path)

    def setSettingKey(self, key: str) -> None:
        self._key = key
        self.retrieveHistory()

    def _history(self) -> list[str]:
        known = QtCore.QSettings().value("ctkPathLineEdit/" + self._key, [])
        return [known] if isinstance(known, str) else list(known or [])

    def retrieveHistory(self) -> None:
        path, history = self.currentPath, self._history()[:MAXIMUM_HISTORY]
        self._box.blockSignals(True)
        self._box.clear()
        self._box.addItems(history)
        self._box.lineEdit().setText(path)
        self._box.blockSignals(False)
        if not path and history:
            self.setCurrentPath(history[0])

    def addCurrentPathToHistory(self) -> None:
        path = self.currentPath
        if path:
            history = [path, *(known for known in self._history() if known != path)]
            QtCore.QSettings().setValue("ctkPathLineEdit/" + self._key, history)
            self.retrieveHistory()

    def browse(self) -> None:
        if path := dialogs.answer("ctkPathLineEdit.browse", self._key):
            self.setCurrentPath(path)

    def setShowBrowseButton(self, visible: bool) -> None:
        self._browse.setVisible(visible)

    currentPath = Property(str, lambda self: self._box.currentText, setCurrentPath)
    settingKey = Property(str, lambda self: self._key, setSettingKey)
    showBrowseButton = Property(bool, lambda self: not self._browse.isHidden(), setShowBrowseButton)
    showHistoryButton = attribute(bool, "showHistoryButton", True)

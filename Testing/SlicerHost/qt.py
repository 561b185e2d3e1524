"""Stand-in for Slicer's module ``qt``: PySide6's classes with PythonQt's manners (``manners.py``), made on demand."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

from SlicerHost import errors, manners

manners.install()


def __getattr__(name: str):
    if name == "QUiLoader":
        from SlicerHost.ui_loader import QUiLoader

        return QUiLoader
    if name == "Signal" or name == "Qt" or name.startswith(("Q", "q")):
        for module in (QtCore, QtGui, QtWidgets):
            if hasattr(module, name):
                return getattr(module, name)
    if name.startswith("__"):
        raise AttributeError(name)
    raise errors.lacks(f"qt.{name}")

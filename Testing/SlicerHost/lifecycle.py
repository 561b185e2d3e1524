"""The stand-in put in place and taken away again, and what tests do with it."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer

from SlicerHost import (
    application,
    ctk,
    dialogs,
    errors,
    host,
    i18n,
    node_widgets,
    packaging,
    parameter_node,
    qt,
    sample_data,
    scripted,
)

MODULES = {
    "qt": qt,
    "ctk": ctk,
    "slicer.ScriptedLoadableModule": scripted,
    "slicer.parameterNodeWrapper": parameter_node,
    "slicer.i18n": i18n,
    "slicer.packaging": packaging,
    "SampleData": sample_data,
    "PyTorchUtils": types.SimpleNamespace(PyTorchUtilsLogic=packaging.PyTorchUtilsLogic),
}
_loaded: list = []
_before: dict = {}
_scene_before: dict = {}  # a scene host that a test made before
_pip_install = slicer.util.pip_install
_settings = None


class ModuleWidget(node_widgets.qMRMLWidget):
    """The widget around a module's."""

    _entered = False

    @property
    def isEntered(self) -> bool:
        """True while the user has the module open."""
        return self._entered


class Modules(types.SimpleNamespace):
    """``slicer.modules``: the logics of the scene host and the modules that tests load."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise errors.lacks(f"slicer.modules.{name}")


def _slicer_lacks(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise errors.lacks(f"slicer.{name}")


def installed() -> bool:
    """True between ``install`` and ``uninstall``."""
    return bool(_before)


def install() -> None:
    """Put ``qt``, ``ctk`` and Slicer's modules in place, with a new scene and ``slicer.app``.

    The QApplication is made once per process; settings lie in a temporary .ini file that ``uninstall`` removes.
    """
    global _settings
    if installed():
        uninstall()
    _before.update({name: sys.modules.get(name) for name in MODULES})
    _scene_before.update({name: vars(slicer)[name] for name in ("mrmlScene", "modules") if name in vars(slicer)})
    sys.modules.update(MODULES)
    for name, module in MODULES.items():
        if name.startswith("slicer."):
            setattr(slicer, name.removeprefix("slicer."), module)
    for name, widget in node_widgets.WIDGETS.items():
        setattr(slicer, name, widget)
    slicer.__getattr__ = _slicer_lacks
    if qt.QApplication.instance() is None:
        qt.QApplication(["Slicer"])
    qt.QApplication.setOrganizationName("SlicerHost")
    qt.QApplication.setApplicationName("Slicer")
    _settings = tempfile.TemporaryDirectory(prefix="SlicerHostSettings")
    qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
    qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, _settings.name)
    errors.watch()
    dialogs.install()
    new_scene()


def uninstall() -> None:
    """Take everything away that ``install`` put in place, except the QApplication and PythonQt's manners."""
    if not installed():
        return
    _release()
    for name, module in _before.items():
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module
        if name.startswith("slicer."):
            vars(slicer).pop(name.removeprefix("slicer."), None)
    _before.clear()
    for name in (*node_widgets.WIDGETS, "__getattr__", "mrmlScene", "modules", "selfTests"):
        vars(slicer).pop(name, None)
    vars(slicer).update(_scene_before)
    _scene_before.clear()
    slicer.util.pip_install = _pip_install
    dialogs.uninstall()
    dialogs.clear()
    errors.unwatch()
    errors.take()
    _settings.cleanup()


def new_scene():
    """A new empty scene with a new ``slicer.app``, as after a start of Slicer; modules loaded before are gone."""
    _release()
    scene = host.make_host()
    if scene.GetTagByClassName("vtkMRMLScriptedModuleNode") is None:
        scene.RegisterNodeClass(slicer.vtkMRMLScriptedModuleNode())
    slicer.modules = Modules(**vars(slicer.modules))
    slicer.app = application.Application(scene, slicer.modules.stand_in[0])
    for part in (dialogs.clear, packaging.reset, sample_data.reset):
        part()
    return scene


def _release() -> None:
    if "app" not in vars(slicer):
        return
    unload_all()
    slicer.app.release()
    del slicer.app


def without_packaging() -> None:
    """Imitate Slicer 5.10, which has no ``slicer.packaging``; its ``slicer.util.pip_install`` is recorded."""
    sys.modules["slicer.packaging"] = None
    vars(slicer).pop("packaging", None)
    slicer.util.pip_install = packaging.pip_install


def load_module(path: Path | str):
    """Load a scripted module as Slicer does at its start and when the user opens the module.

    Returns:
        the module's widget object; ``widget.parent`` is the Qt widget around it, shown.

    Raises:
        StandInError: something was raised in a slot or an observer.
    """
    path = Path(path).resolve()
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    parent = scripted.ModuleParent(path)
    setattr(slicer.modules, path.stem.lower(), parent)
    setattr(slicer.modules, f"{path.stem}Instance", getattr(module, path.stem)(parent))
    slicer.app.startupCompleted.emit()
    container = ModuleWidget()
    qt.QVBoxLayout(container)
    widget = getattr(module, f"{path.stem}Widget")(container)
    setattr(slicer.modules, f"{path.stem}Widget", widget)
    _loaded.append(widget)
    widget.setup()
    container.setMRMLScene(slicer.mrmlScene)
    container.show()
    container._entered = True
    call(widget, "enter")
    errors.check()
    return widget


def unload_module(widget) -> None:
    """What Slicer does when it quits: leave the module, clean it up, remove its widget."""
    _loaded.remove(widget)
    widget.parent._entered = False
    call(widget, "exit")
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(widget.moduleName)
    container, widget.parent = widget.parent, None
    sys.modules.pop(widget.moduleName, None)
    container.delete()
    qt.QApplication.processEvents()


def unload_all() -> None:
    """Unload every module that ``load_module`` loaded."""
    while _loaded:
        unload_module(_loaded[-1])


def call(widget, hook: str) -> None:
    """Call ``enter`` or ``exit`` if the module has it."""
    if hasattr(widget, hook):
        getattr(widget, hook)()


def process_events(until: Callable[[], object], ceiling_s: float = 300.0) -> None:
    """Run Qt's events until ``until()`` is true.

    Raises:
        StandInError: after ``ceiling_s``, with what was waited for; or an exception was collected meanwhile.
    """
    end = time.monotonic() + ceiling_s
    while not until():
        errors.check()
        if time.monotonic() > end:
            code = getattr(until, "__code__", None)
            place = "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"
            name = getattr(until, "__qualname__", repr(until))
            raise errors.StandInError(f"Waited {ceiling_s} s for {name}{place} in vain.")
        qt.QApplication.processEvents(qt.QEventLoop.AllEvents, 20)
        time.sleep(0.004)  # a processor that looks for events all the time is missing to who makes them
    errors.check()


def screenshot(widget, path: Path | str) -> None:
    """Write what a widget looks like off-screen (``.png``); module widgets may be given, too.

    Raises:
        OSError: the picture could not be written.
    """
    shown = widget if isinstance(widget, qt.QWidget) else widget.parent
    shown.show()
    qt.QApplication.processEvents()
    if not shown.grab().save(str(path)):
        raise OSError(f"The picture {path} could not be written.")

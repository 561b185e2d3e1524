"""PythonQt's manners for PySide6's classes: properties are attributes, signals are connected by their signature.

The classes themselves are changed, once per process, so that every object has these manners: those that Qt makes, those
of a .ui file, and ``type(widget) is qt.QSpinBox`` holds. A stand-in, written from PythonQt's documented behaviour.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

from SlicerHost import errors

MODULES = (QtCore, QtGui, QtWidgets)


class QtProperty:
    """A Qt property as an attribute; ``method`` is Qt's getter of the same name, if there is one.

    A class still gives the method (``QTimer.singleShot``, ``QApplication.applicationName`` are static), and so does an
    object while its getter runs: Shiboken, looking for an override of a virtual getter, must find the method.
    """

    def __init__(self, name: str, method, getter: str | None, setter: str | None):
        self.name, self.method, self.getter, self.setter, self.running = name, method, getter, setter, False

    def __get__(self, instance, owner):
        if instance is None:
            return self.method or self
        if self.running:
            return self.method.__get__(instance, owner)
        self.running = True
        try:
            if self.getter is not None:
                return getattr(instance, self.getter)()
            if self.method is not None:
                return self.method.__get__(instance, owner)()
            return QtCore.QObject.property(instance, self.name)
        finally:
            self.running = False

    def __set__(self, instance, value) -> None:
        meta = instance.metaObject().property(instance.metaObject().indexOfProperty(self.name))
        if not meta.isWritable():
            raise AttributeError(f"Property '{self.name}' of {type(instance).__name__} object is not writable")
        if self.setter is not None:
            getattr(instance, self.setter)(value)
        elif not QtCore.QObject.setProperty(instance, self.name, value):
            raise AttributeError(f"Property '{self.name}' of type '{meta.typeName()}' does not accept {value!r}")


@dataclass
class Connection:
    """One Python callable on one signal of one object."""

    signature: str
    receiver: Callable
    handle: QtCore.QMetaObject.Connection


_connections: dict[int, list[Connection]] = {}  # by the address of the C++ object: wrappers come and go


def install() -> None:
    """Give PySide6's classes the manners; a second call does nothing."""
    if QtCore.QObject.connect is _connect:
        return
    classes = {
        c for m in MODULES for c in vars_of(m) if isinstance(c, type) and issubclass(c, shiboken6.Shiboken.Object)
    }
    for cls in sorted(classes, key=lambda c: len(c.__mro__), reverse=True):  # derived first: bases lend them getters
        if issubclass(cls, QtCore.QObject):
            _make_attributes(cls)
            cls.__getattribute__ = _getter(cls.__getattribute__)
        cls.__setattr__ = _set_attribute
    QtCore.QObject.connect, QtCore.QObject.disconnect = _connect, _disconnect
    QtCore.QObject.delete = lambda self: shiboken6.delete(self)
    QtCore.QObject.name = property(lambda self: self.objectName, lambda self, name: self.setObjectName(name))


def _getter(native: Callable) -> Callable:
    """PySide gives its own connect and disconnect to instances, whatever stands in their class."""

    def get(self, name: str):
        if name == "connect" or name == "disconnect":
            return types.MethodType(_connect if name == "connect" else _disconnect, self)
        return native(self, name)

    return get


def vars_of(module) -> list:
    return [getattr(module, name) for name in dir(module) if not name.startswith("_")]


def _make_attributes(cls: type) -> None:
    meta = cls.staticMetaObject
    for index in range(meta.propertyCount()):
        name = meta.property(index).name()
        own = cls.__dict__.get(name)
        if type(own) is QtCore.Signal or (own is None and index < meta.propertyOffset()):  # isinstance(.., Signal)
            continue  # would free False once too often in PySide6 6.12.0
        method = own if own is not None else getattr(cls, name, None)
        capital = name[0].upper() + name[1:]
        words = ("is",) if method is not None else ("is", "has")  # QTimer.singleShot is another thing than isSingleShot
        getter = next((word + capital for word in words if hasattr(cls, word + capital)), None)
        setter = "set" + capital if hasattr(cls, "set" + capital) else None
        setattr(cls, name, QtProperty(name, method, getter, setter))


def is_plain(cls: type) -> bool:
    """True for the classes of Qt and of the stand-in, False for the ones that the code under test derives."""
    return cls.__module__.split(".")[0] in ("PySide6", "SlicerHost")


def _set_attribute(self, name: str, value) -> None:
    cls = type(self)
    for base in cls.__mro__:
        found = base.__dict__.get(name)
        if type(found) is QtCore.Property:
            if found.fset is None:
                raise AttributeError(f"Property '{name}' of {cls.__name__} object is not writable")
            return found.fset(self, value)
        if hasattr(found, "__set__"):
            return found.__set__(self, value)
    if not is_plain(cls) or (cls.__module__.startswith("SlicerHost") and name.startswith("_")):
        self.__dict__[name] = value
    elif isinstance(value, QtCore.QObject) and value.objectName == name:
        self.__dict__[name] = value  # PySide's loader of .ui files makes children attributes, as PythonQt has them
    elif isinstance(value, QtCore.SignalInstance):
        self.__dict__[name] = value  # PySide keeps the signal that was asked for
    elif isinstance(self, QtCore.QObject) and name.encode() in [bytes(n) for n in self.dynamicPropertyNames()]:
        self.setProperty(name, value)
    else:
        raise AttributeError(f"Attribute '{name}' does not exist in class {cls.__name__}; PythonQt refuses to set it")


def refuse(message: str) -> errors.StandInError:
    """Raise and collect: the code under test may catch what it should not have provoked."""
    error = errors.StandInError(message)
    errors.collected.append(message)
    return error


def normalised(sender: QtCore.QObject, signal: str) -> str:
    """The signature as the meta object has it.

    Raises:
        StandInError: there is none. PythonQt prints a warning and connects nothing.
    """
    for base in type(sender).__mro__:  # signals whose arguments Python cannot name: vtkMRMLNode*
        if signal.replace(" ", "") in base.__dict__.get("SIGNALS", {}):
            return base.__dict__["SIGNALS"][signal.replace(" ", "")]
    signature = bytes(QtCore.QMetaObject.normalizedSignature(signal)).decode()
    if sender.metaObject().indexOfSignal(signature) < 0:
        raise refuse(f"{type(sender).__name__} has no signal {signal!r}; PythonQt would connect nothing.")
    return signature


def trimmed(receiver: Callable, arguments: tuple) -> tuple:
    """The arguments that PythonQt gives: all, but for functions and methods at most as many as they name."""
    function = receiver.__func__ if inspect.ismethod(receiver) else receiver
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return arguments
    return arguments[: function.__code__.co_argcount - inspect.ismethod(receiver)]


def _connect(self, signal: str, receiver, slot: str | None = None) -> bool:
    if callable(slot):  # PySide itself, in QTimer.singleShot: (sender, signal, receiver)
        return _native_connect(signal, receiver, slot)
    if slot is not None:
        receiver = slot_of(receiver, slot)
    if not callable(receiver):
        raise refuse(f"{type(self).__name__}.connect({signal!r}, ...): {receiver!r} cannot be called.")
    signature = normalised(self, signal)

    def call(*arguments) -> None:
        try:
            receiver(*trimmed(receiver, arguments))
        except Exception as error:  # the console takes it in Slicer; Qt must not unwind through its own frames
            errors.collect(error)

    address = shiboken6.getCppPointer(self)[0]
    if address not in _connections:
        _connections[address] = []
        _native_connect(self, QtCore.SIGNAL("destroyed()"), lambda: _connections.pop(address, None))
    handle = _native_connect(self, QtCore.SIGNAL(signature), call)
    if not handle:
        raise refuse(f"{type(self).__name__}: Qt could not connect {signal!r}.")
    _connections[address].append(Connection(signature, receiver, handle))
    return True


def _disconnect(self, signal: str, receiver=None, slot: str | None = None) -> bool:
    signature = normalised(self, signal)
    if slot is not None:
        receiver = slot_of(receiver, slot)
    known = _connections.get(shiboken6.getCppPointer(self)[0], [])
    gone = [c for c in known if c.signature == signature and (receiver is None or c.receiver == receiver)]
    for connection in gone:
        _native_disconnect(connection.handle)
        known.remove(connection)
    return bool(gone)


def slot_of(receiver: QtCore.QObject, slot: str) -> Callable:
    """The method behind a slot's signature, which must be a slot of Qt or in the class's ``SLOTS``.

    Raises:
        StandInError: there is none.
    """
    name, arguments = slot.replace(" ", "").rstrip(")").split("(")
    known = any(f"{name}({arguments})" in base.__dict__.get("SLOTS", ()) for base in type(receiver).__mro__)
    signature = bytes(QtCore.QMetaObject.normalizedSignature(slot)).decode()
    if not known and receiver.metaObject().indexOfMethod(signature) < 0:
        raise refuse(f"{type(receiver).__name__} has no slot {slot!r}.")
    method, count = getattr(receiver, name), len(arguments.split(",")) if arguments else 0
    return _Slot(receiver, name, lambda *given: method(*given[:count]))


@dataclass(eq=True)
class _Slot:
    """A slot named by receiver and signature; two of the same name are equal, so that disconnecting finds it."""

    receiver: QtCore.QObject
    name: str
    call: Callable

    def __eq__(self, other) -> bool:
        return isinstance(other, _Slot) and (self.receiver, self.name) == (other.receiver, other.name)

    def __call__(self, *arguments) -> None:
        self.call(*arguments)


_native_connect, _native_disconnect = QtCore.QObject.connect, QtCore.QObject.disconnect

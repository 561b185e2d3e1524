"""Questions and messages of the user interface: recorded, and answered as the test has said beforehand.

``shown`` holds what was shown, as ``(kind, text)``, and ``details`` what a message shows at its button "Details", in
the same way; ``expect(kind, answer)`` says the answer to the next question of a kind. A question that nobody expected
fails: in Slicer it would wait for a user, without a display for ever.
"""

from __future__ import annotations

import logging

import slicer
from PySide6 import QtWidgets

from SlicerHost import manners

QUESTIONS = ("confirmOkCancelDisplay", "confirmYesNoDisplay", "confirmRetryCloseDisplay", "messageBox")
MESSAGES = {"infoDisplay": logging.INFO, "warningDisplay": logging.WARNING, "errorDisplay": logging.ERROR}
MODAL = {
    QtWidgets.QDialog: ("exec", "exec_"),
    QtWidgets.QMessageBox: ("exec", "exec_", "question", "information", "warning", "critical"),
    QtWidgets.QFileDialog: (
        "getOpenFileName",
        "getOpenFileNames",
        "getSaveFileName",
        "getExistingDirectory",
    ),
    QtWidgets.QInputDialog: ("getText", "getItem", "getInt", "getDouble"),
    QtWidgets.QMenu: ("exec", "exec_"),
}

shown: list[tuple[str, str]] = []
details: list[tuple[str, str]] = []
_answers: list[tuple[str, object]] = []
_originals: dict = {}


def expect(kind: str, answer) -> None:
    """The next question of ``kind`` (``confirmYesNoDisplay``, ``QFileDialog.getSaveFileName`` ...) gets ``answer``."""
    _answers.append((kind, answer))


def unasked() -> list[str]:
    """Kinds of the questions that were expected and have not been asked."""
    return [kind for kind, _ in _answers]


def texts(kind: str) -> list[str]:
    """What was shown of one kind, oldest first."""
    return [text for known, text in shown if known == kind]


def clear() -> None:
    shown.clear()
    details.clear()
    _answers.clear()


def answer(kind: str, text: str = ""):
    """Record a question and give the answer expected for it; StandInError if there is none."""
    shown.append((kind, text))
    for index, (expected, value) in enumerate(_answers):
        if expected == kind:
            del _answers[index]
            return value
    raise manners.refuse(f"{kind} asked {text!r}, and no answer was expected: dialogs.expect({kind!r}, ...)")


def install() -> None:
    """Replace the dialogs of ``slicer.util`` and those of Qt that wait for a user."""
    if _originals:
        return
    for name in (*QUESTIONS, *MESSAGES, "showStatusMessage", "selectModule"):
        _originals[slicer.util, name] = getattr(slicer.util, name)
    for name in QUESTIONS:
        setattr(slicer.util, name, lambda text, *_, kind=name, **__: answer(kind, text))
    for name, level in MESSAGES.items():
        setattr(slicer.util, name, _message(name, level))
    slicer.util.showStatusMessage = lambda text, duration=0: shown.append(("showStatusMessage", text))
    slicer.util.selectModule = lambda module: shown.append(("selectModule", module))
    for cls, names in MODAL.items():
        for name in names:
            kind = f"{cls.__name__}.{name.rstrip('_')}"
            _originals[cls, name] = cls.__dict__.get(name)
            setattr(cls, name, _modal(kind, static=not name.startswith("exec")))


def uninstall() -> None:
    """Undo ``install``."""
    for (owner, name), original in _originals.items():
        if original is None:
            delattr(owner, name)
        else:
            setattr(owner, name, original)
    _originals.clear()


def _message(kind: str, level: int):
    def show(text, windowTitle=None, parent=None, standardButtons=None, *, detailedText=None, **_):
        for given in (text, detailedText):
            if not isinstance(given, str) and given is not None:
                raise TypeError(f"{kind} takes a str, got {given!r}")
        if detailedText == "":  # Slicer widens a box that is given details, even empty ones
            raise ValueError(f"{kind} is given empty details; leave them out.")
        logging.log(level, text)
        shown.append((kind, text))
        details.append((kind, detailedText or ""))

    return show


def _modal(kind: str, static: bool):
    def ask(*arguments, **_):
        if static:
            return answer(kind, " | ".join(a for a in arguments if isinstance(a, str)))
        box = arguments[0]
        return answer(kind, box.text if isinstance(box, QtWidgets.QMessageBox) else box.windowTitle)

    return staticmethod(ask) if static else ask

"""The review by keyboard alone: keys that act while the section is open."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Protocol

import qt

SAMPLES = 9  # that have a key of their own
TYPED_INTO = ("QLineEdit", "QAbstractSpinBox", "QTextEdit", "QPlainTextEdit")


class Reviewing(Protocol):
    """What the keys do."""

    def step(self, by: int) -> None:
        """N and P."""

    def choose_sample(self, number: int) -> None:
        """1 to 9."""

    def choose_mode(self) -> None:
        """M."""

    def choose_consensus(self) -> None:
        """C."""

    def edit(self) -> None:
        """E."""

    def accept(self) -> None:
        """Enter."""

    def take_back(self) -> None:
        """Backspace."""


class ReviewKeys:
    """Qt's shortcuts, which act only while their parent is visible: not when the section is closed or the module left.

    Letters and digits act wherever the focus is in Slicer's window, as in a slice view, but for fields that are typed
    into. Enter and Backspace, which other widgets need, act only where the focus is in the section.
    """

    def __init__(self, ui: SimpleNamespace, reviewing: Reviewing) -> None:
        self._ui = ui
        self._shortcuts: list[qt.QShortcut] = []
        anywhere, within = qt.Qt.WindowShortcut, qt.Qt.WidgetWithChildrenShortcut
        self._add("N", anywhere, lambda: reviewing.step(1))
        self._add("P", anywhere, lambda: reviewing.step(-1))
        self._add("M", anywhere, reviewing.choose_mode)
        self._add("C", anywhere, reviewing.choose_consensus)
        self._add("E", anywhere, reviewing.edit)
        for number in range(1, SAMPLES + 1):
            self._add(str(number), anywhere, lambda number=number: reviewing.choose_sample(number))
        for key in ("Return", "Enter"):
            self._add(key, within, reviewing.accept)
        self._add("Backspace", within, reviewing.take_back)

    def _add(self, key: str, context: int, action) -> None:
        shortcut = qt.QShortcut(qt.QKeySequence(key), self._ui.reviewFrame)
        shortcut.setContext(context)
        shortcut.setAutoRepeat(False)
        shortcut.connect("activated()", lambda: self._act(action))
        self._shortcuts.append(shortcut)

    def _act(self, action) -> None:
        focus = qt.QApplication.focusWidget()
        if focus is None or not any(focus.inherits(name) for name in TYPED_INTO):
            action()
        elif any(focus is field for field in (self._ui.reviewCommentEdit, self._ui.reviewerEdit)):
            self._ui.reviewTable.setFocus()  # what was typed is complete

"""What panels do with widgets: fill them without telling anybody, and only where that changes what they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import qt

ROW_HEIGHT = 22  # pixels


@contextmanager
def silent(*widgets: qt.QWidget) -> Iterator[None]:
    """No signals of these widgets inside: for showing a state, as against changing it."""
    before = [widget.blockSignals(True) for widget in widgets]
    try:
        yield
    finally:
        for widget, blocked in zip(widgets, before):
            widget.blockSignals(blocked)


def on_click(button: qt.QAbstractButton, intent: Callable[[], None]) -> None:
    """Have a button raise an intent."""
    button.connect("clicked(bool)", lambda _checked: intent())


def show_button(button: qt.QAbstractButton, text: str, problem: str, tip: str) -> None:
    """A button is enabled where there is no problem; its tool tip says what it does, or why it cannot."""
    button.text, button.enabled, button.toolTip = text, not problem, problem or tip


def show_note(label: qt.QLabel, text: str) -> None:
    """A label that takes no place where it has nothing to say."""
    label.text, label.visible = text, bool(text)


class Choices:
    """Entries of a combo box; ``chosen`` is told which one the user takes."""

    def __init__(self, box: qt.QComboBox, chosen: Callable[[str], None]) -> None:
        self._box, self._titles = box, {}
        box.connect("activated(int)", lambda index: chosen(list(self._titles)[index]))

    def show(self, titles: Mapping[str, str], current: str | None) -> None:
        """Offer these entries, titles by what stands for each; None: none is chosen."""
        with silent(self._box):
            if list(titles.items()) != list(self._titles.items()):
                self._titles = dict(titles)
                self._box.clear()
                for entry, title in titles.items():
                    self._box.addItem(title, entry)
            self._box.currentIndex = list(titles).index(current) if current in titles else -1


class Rows:
    """Text in a table."""

    def __init__(self, table: qt.QTableWidget) -> None:
        self._table, self._content = table, None
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)

    def show(self, headers: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence | None = None) -> None:
        """Show rows of text; ``colours``: RGB in [0, 1] before the first cell of each row, or None."""
        if (content := (headers, rows, colours)) == self._content:
            return
        table, self._content = self._table, content
        with silent(table):
            table.clear()
            table.setColumnCount(len(headers))
            table.setRowCount(len(rows))
            table.setHorizontalHeaderLabels(headers)
            for number, row in enumerate(rows):
                for column, text in enumerate(row):
                    cell = qt.QTableWidgetItem(text)
                    if column == 0 and colours is not None and colours[number] is not None:
                        cell.setData(qt.Qt.DecorationRole, qt.QColor.fromRgbF(*colours[number]))
                    table.setItem(number, column, cell)

"""A bar with a column for each slice, as high as the samples disagree there, that is clicked to go to a slice.

It is a picture in a label, and a filter for the label's events: what Slicer's Python can do without a class of its own
for the widget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt

GROUND, HERE = (45, 45, 50), (95, 115, 150)  # RGB
COLUMN, COLUMN_HERE = (200, 120, 55), (255, 205, 90)


class DisagreementBar(qt.QObject):
    """Draws into ``label``, and tells ``chosen`` the place, from 0, of the column that was clicked."""

    def __init__(self, label: qt.QLabel, chosen: Callable[[int], None]) -> None:
        super().__init__()
        self._label, self._chosen = label, chosen
        self._drawn: tuple[tuple[float, ...], int | None, int] | None = None
        self._values: tuple[float, ...] = ()
        self._here: int | None = None
        label.installEventFilter(self)

    def show(self, values: Sequence[float], here: int | None) -> None:
        """Show these values, none negative, and mark the column ``here``."""
        self._values, self._here = tuple(values), here
        self._draw()

    def place(self, x: int) -> int | None:
        """The column at a distance from the left in pixels; None if there are no columns."""
        count = len(self._values)
        return min(max(x * count // max(self._label.width, 1), 0), count - 1) if count else None

    def eventFilter(self, _watched: qt.QObject, event: qt.QEvent) -> bool:  # Qt's name
        """A click, and a new size of the label; every event goes on to the label."""
        if event.type() == qt.QEvent.MouseButtonPress and (place := self.place(event.pos().x())) is not None:
            self._chosen(place)
        elif event.type() == qt.QEvent.Resize:
            self._draw()
        return False

    def _draw(self) -> None:
        width, height, count = self._label.width, self._label.height, len(self._values)
        if self._drawn == (self._values, self._here, width):
            return
        self._drawn = (self._values, self._here, width)
        picture = qt.QPixmap(max(width, 1), max(height, 1))
        picture.fill(qt.QColor(*GROUND))
        painter, most = qt.QPainter(), max(self._values, default=0.0)
        painter.begin(picture)
        for place, value in enumerate(self._values):
            left, right = place * width // count, (place + 1) * width // count
            gap = 1 if right - left > 3 else 0
            if place == self._here:
                painter.fillRect(left, 0, max(right - left, 2), height, qt.QColor(*HERE))
            tall = round((height - 2) * value / most) if most else 0
            painter.fillRect(
                left,
                height - tall,
                max(right - left - gap, 1),
                tall,
                qt.QColor(*(COLUMN_HERE if place == self._here else COLUMN)),
            )
        painter.end()
        self._label.setPixmap(picture)

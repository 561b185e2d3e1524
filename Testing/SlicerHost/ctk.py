"""Stand-in for Slicer's module ``ctk``: a few widgets made of Qt's own, with CTK's names and signals."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from SlicerHost import errors, manners
from SlicerHost.ctk_paths import attribute, ctkPathLineEdit  # noqa: F401  (ctk's, too)

manners.install()
HEADER_HEIGHT = 24


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise errors.lacks(f"ctk.{name}")


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A titled section; collapsing it hides its children."""

    contentsCollapsed = Signal(bool)
    SLOTS = ("setCollapsed(bool)",)
    flat = attribute(bool, "flat", False)
    contentsLineWidth = attribute(int, "contentsLineWidth", 1)

    def __init__(self, text_or_parent=None, parent=None):
        is_text = isinstance(text_or_parent, str)
        super().__init__(parent if is_text else text_or_parent)
        if is_text:
            self.text = text_or_parent
        self._hidden = []
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.setContentsMargins(0, HEADER_HEIGHT, 0, 0)
        self.toggled.connect(lambda checked: self.setCollapsed(not checked))
        self._collapsed = False

    def setCollapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        if collapsed:
            self._hide()
        else:
            shown, self._hidden = self._hidden, []
            for child in shown:
                child.setVisible(True)
        self.setMaximumHeight(HEADER_HEIGHT + 10 if collapsed else 16777215)
        self.setChecked(not collapsed)
        self.contentsCollapsed.emit(collapsed)

    collapsed = Property(bool, lambda self: self._collapsed, setCollapsed)

    def _hide(self) -> None:
        found = [child for child in self.children() if child.isWidgetType() and not child.isHidden()]
        self._hidden = self._hidden + found
        for child in found:
            child.setVisible(False)

    def showEvent(self, event) -> None:
        if self._collapsed:  # children that came after it was collapsed
            self._hide()

    def hitButton(self, position) -> bool:
        return position.y() < HEADER_HEIGHT

    def sizeHint(self) -> QtCore.QSize:
        inside = self.layout().totalSizeHint() if self.layout() is not None else QtCore.QSize(100, HEADER_HEIGHT)
        return inside.expandedTo(QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text) + 40, HEADER_HEIGHT))

    def paintEvent(self, event) -> None:
        painter, option = QtGui.QPainter(self), QtWidgets.QStyleOption()
        header = QtCore.QRect(0, 0, self.width, HEADER_HEIGHT)
        painter.fillRect(header, self.palette.window().color().darker(108))
        option.initFrom(self)
        option.rect = QtCore.QRect(4, 4, 16, 16)
        style = QtWidgets.QStyle
        arrow = style.PE_IndicatorArrowRight if self._collapsed else style.PE_IndicatorArrowDown
        self.style().drawPrimitive(arrow, option, painter, self)
        painter.drawText(header.adjusted(26, 0, 0, 0), QtCore.Qt.AlignVCenter, self.text)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box that show one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)
    SLOTS = ("setValue(double)", "reset()", "setDecimals(int)", "setSpinBoxVisible(bool)")
    tracking = attribute(bool, "tracking", True)
    pageStep = attribute(float, "pageStep", 10.0)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider, self._box = QtWidgets.QSlider(QtCore.Qt.Horizontal, self), QtWidgets.QDoubleSpinBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._box)
        self._reported = 0.0
        self._slider.valueChanged.connect(self._slid)
        self._slider.sliderReleased.connect(self._report)
        self._box.valueChanged.connect(self._typed)
        self._box.maximum = 99.0

    def _slid(self, step: int) -> None:
        if abs(step - self._step_of(self._box.value)) >= 1:
            self._box.setValue(self._box.minimum + step * self._box.singleStep)

    def _step_of(self, value: float) -> int:
        return round((value - self._box.minimum) / self._box.singleStep)

    def _typed(self, value: float) -> None:
        self._refresh()
        if self._slider.sliderDown and not self.tracking:
            self.valueIsChanging.emit(value)
        else:
            self._report()

    def _report(self) -> None:
        if self._box.value != self._reported:
            self._reported = self._box.value
            self.valueIsChanging.emit(self._reported)
            self.valueChanged.emit(self._reported)

    def _refresh(self) -> None:
        self._slider.blockSignals(True)
        self._slider.setRange(0, self._step_of(self._box.maximum))
        self._slider.setValue(self._step_of(self._box.value))
        self._slider.blockSignals(False)

    def _set(self, name: str, value) -> None:
        setattr(self._box, name, value)
        self._refresh()

    def setRange(self, minimum: float, maximum: float) -> None:
        self._box.setRange(minimum, maximum)
        self._refresh()

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def setMinimum(self, value: float) -> None:
        self._set("minimum", value)

    def setMaximum(self, value: float) -> None:
        self._set("maximum", value)

    def setSingleStep(self, value: float) -> None:
        self._set("singleStep", value)

    def setDecimals(self, value: int) -> None:
        self._set("decimals", value)
        self.decimalsChanged.emit(value)

    def setSuffix(self, value: str) -> None:
        self._set("suffix", value)

    def setPrefix(self, value: str) -> None:
        self._set("prefix", value)

    def setTracking(self, value: bool) -> None:
        self.tracking = value

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._box.setVisible(visible)

    def reset(self) -> None:
        self.setValue(0.0)

    value = Property(float, lambda self: self._box.value, setValue)
    minimum = Property(float, lambda self: self._box.minimum, setMinimum)
    maximum = Property(float, lambda self: self._box.maximum, setMaximum)
    singleStep = Property(float, lambda self: self._box.singleStep, setSingleStep)
    decimals = Property(int, lambda self: self._box.decimals, setDecimals)
    suffix = Property(str, lambda self: self._box.suffix, setSuffix)
    prefix = Property(str, lambda self: self._box.prefix, setPrefix)
    spinBoxVisible = Property(bool, lambda self: not self._box.isHidden(), setSpinBoxVisible)

"""PythonQt's manners of the stand-in ``qt``: what PythonQt takes is taken, what it refuses fails."""

from __future__ import annotations

import sys

import pytest
from SlicerHost import dialogs, errors
from SlicerHost.errors import StandInError
from SlicerHost.fixtures import slicer_host  # noqa: F401

pytestmark = pytest.mark.usefixtures("slicer_host")


@pytest.fixture
def qt(slicer_host):  # noqa: F811
    return sys.modules["qt"]


def test_properties_are_attributes_and_setters_methods(qt):
    box, label, timer = qt.QSpinBox(), qt.QLabel("before"), qt.QTimer()
    box.value = 3
    assert box.value == 3 and box.maximum == 99
    box.setValue(5)
    assert box.value == 5 and box.property("value") == 5
    label.text, label.enabled = "after", False
    assert (label.text, label.enabled, label.visible) == ("after", False, False)
    with pytest.raises(TypeError):
        box.value()
    timer.singleShot = True
    assert timer.singleShot and callable(qt.QTimer.singleShot)
    label.name = "label"
    assert label.objectName == "label"


@pytest.mark.parametrize(("make", "name"), [("QSpinBox", "valeu"), ("QTreeWidgetItem", "note"), ("QLabel", "visible_")])
def test_unknown_attributes_cannot_be_set(qt, make, name):
    with pytest.raises(AttributeError, match=f"'{name}' does not exist in class {make}"):
        setattr(getattr(qt, make)(), name, 1)


def test_read_only_properties_cannot_be_set(qt):
    with pytest.raises(AttributeError, match="not writable"):
        qt.QComboBox().count = 3


def test_derived_classes_have_attributes_of_their_own(qt):
    class Mine(qt.QLabel):
        pass

    mine = Mine()
    mine.note = 1
    assert mine.note == 1


def test_enumerations_are_flat_and_unknown_names_are_lacking(qt):
    assert qt.QHeaderView.Stretch == qt.QHeaderView.ResizeMode.Stretch
    assert qt.QProcess.NotRunning == qt.QProcess.ProcessState.NotRunning
    for name in ("Slot", "QNothing", "SIGNAL"):
        with pytest.raises(AttributeError, match=f"lacks qt.{name}"):
            getattr(qt, name)


def test_arguments_are_those_of_the_signature_as_many_as_the_callable_names(qt):
    button, heard = qt.QPushButton(), []
    button.checkable = True

    class Receiver:
        def none(self):
            heard.append("none")

        def one(self, checked):
            heard.append(("one", checked))

        def all(self, *given):
            heard.append(("all", given))

    receiver = Receiver()
    for slot in (receiver.none, receiver.one, receiver.all, lambda kept="kept": heard.append(("lambda", kept))):
        assert button.connect("clicked(bool)", slot)
    button.connect("clicked()", lambda *given: heard.append(("without", given)))
    button.click()
    expected = ["none", ("one", True), ("all", (True,)), ("lambda", True), ("without", ())]  # PythonQt fills defaults
    assert sorted(map(str, heard)) == sorted(map(str, expected))


def test_disconnecting_one_and_all(qt):
    box, heard = qt.QSpinBox(), []

    def other(value):
        heard.append(-value)

    box.connect("valueChanged(int)", heard.append)
    box.connect("valueChanged(int)", other)
    assert box.disconnect("valueChanged(int)", other)
    box.value = 1
    assert box.disconnect("valueChanged(int)") and not box.disconnect("valueChanged(int)", other)
    box.value = 2
    assert heard == [1]


@pytest.mark.parametrize("signal", ["valueChanged(double)", "changed()", "valueChanged"])
def test_a_signal_that_does_not_exist_fails_even_if_it_is_caught(qt, signal):
    with pytest.raises(StandInError, match="QSpinBox has no signal"):
        qt.QSpinBox().connect(signal, print)
    assert len(errors.take()) == 1


def test_connecting_to_a_slot_by_its_signature(qt):
    box, label = qt.QLineEdit(), qt.QLabel()
    box.connect("textChanged(QString)", label, "setText(QString)")
    box.text = "typed"
    assert label.text == "typed"
    box.disconnect("textChanged(QString)", label, "setText(QString)")
    box.text = "again"
    assert label.text == "typed"
    with pytest.raises(StandInError, match="has no slot"):
        box.connect("textChanged(QString)", label, "setValue(int)")
    errors.take()


def test_exceptions_in_slots_and_timers_are_collected(qt, slicer_host):  # noqa: F811
    def fail(*_):
        raise ZeroDivisionError("on purpose")

    box = qt.QSpinBox()
    box.connect("valueChanged(int)", fail)
    box.value = 1
    with pytest.raises(StandInError, match="ZeroDivisionError: on purpose"):
        errors.check()
    qt.QTimer.singleShot(0, fail)
    with pytest.raises(StandInError, match="ZeroDivisionError: on purpose"):
        slicer_host.process_events(lambda: False)


def test_waiting_in_vain_names_what_was_waited_for(slicer_host):  # noqa: F811
    def until_pigs_fly():
        return False

    with pytest.raises(StandInError, match="until_pigs_fly"):
        slicer_host.process_events(until_pigs_fly, ceiling_s=0.0)


def test_a_process_tells_of_itself(qt, slicer_host):  # noqa: F811
    process, heard = qt.QProcess(), []
    process.connect("readyReadStandardOutput()", lambda: heard.append(process.readAllStandardOutput().data()))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: heard.append((code, status)))
    process.start(sys.executable, ["-c", "print('hello'); raise SystemExit(3)"])
    slicer_host.process_events(lambda: heard and isinstance(heard[-1], tuple))
    assert b"".join(heard[:-1]).strip() == b"hello" and heard[-1] == (3, qt.QProcess.NormalExit)


def test_settings_are_the_tests_own(qt):
    settings = qt.QSettings()
    assert settings.fileName().endswith(".ini") and "SlicerHostSettings" in settings.fileName()
    settings.setValue("a/b", "kept")
    assert qt.QSettings().value("a/b") == "kept"


def test_questions_get_the_expected_answer_or_fail(qt):
    import slicer

    dialogs.expect("confirmYesNoDisplay", False)
    dialogs.expect("QFileDialog.getExistingDirectory", "/there")
    assert slicer.util.confirmYesNoDisplay("Sure?") is False
    assert qt.QFileDialog.getExistingDirectory(None, "Where") == "/there"
    slicer.util.errorDisplay("Bad", detailedText="line 1")
    assert dialogs.shown == [
        ("confirmYesNoDisplay", "Sure?"),
        ("QFileDialog.getExistingDirectory", "Where"),
        ("errorDisplay", "Bad"),
    ]
    assert dialogs.details == [("errorDisplay", "line 1")]
    with pytest.raises(StandInError, match="no answer was expected"):
        slicer.util.confirmOkCancelDisplay("Really?")
    with pytest.raises(StandInError, match="no answer was expected"):
        qt.QMessageBox().exec_()
    errors.take()


def test_try_with_error_display_shows_the_error(qt):
    import slicer

    with pytest.raises(RuntimeError), slicer.util.tryWithErrorDisplay("It failed.", waitCursor=True):
        raise RuntimeError("because")
    assert dialogs.texts("errorDisplay") == ["It failed.\n\nbecause"]
    assert qt.QApplication.overrideCursor() is None

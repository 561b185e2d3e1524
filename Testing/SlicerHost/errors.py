"""What went wrong where nobody could catch it: in slots, observers and timers, which Slicer reports in its console."""

from __future__ import annotations

import sys
import traceback

collected: list[str] = []
_previous_hook = None


class StandInError(AssertionError):
    """The code under test asked for what Slicer or PythonQt would refuse, or for what this stand-in lacks."""


def lacks(what: str) -> AttributeError:
    """The error for anything that Slicer may have and the stand-in has not."""
    return AttributeError(f"Slicer's stand-in (Testing/SlicerHost) lacks {what}: extend it, or do without.")


def collect(error: BaseException) -> None:
    """Remember an exception, with its traceback, until a test takes it."""
    collected.append("".join(traceback.format_exception(error)))


def take() -> list[str]:
    """The exceptions collected since the last call, oldest first."""
    taken = collected[:]
    collected.clear()
    return taken


def check() -> None:
    """Raise StandInError if any exception was collected; they are taken."""
    if taken := take():
        raise StandInError("\n".join(["Exceptions in slots, observers or timers:", *taken]))


def _hook(kind, error, trace) -> None:
    collect(error)
    _previous_hook(kind, error, trace)


def watch() -> None:
    """Collect what Qt and VTK print instead of raising: both end in ``sys.excepthook``."""
    global _previous_hook
    if _previous_hook is None:
        _previous_hook, sys.excepthook = sys.excepthook, _hook


def unwatch() -> None:
    """Undo ``watch``."""
    global _previous_hook
    if _previous_hook is not None:
        sys.excepthook, _previous_hook = _previous_hook, None

"""ITK's exceptions, a page each, as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

from AmbiguousSegLib.volume.file_checks import shown


@contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Keep ITK's warnings off the terminal and turn its exceptions, a page each, into one line."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as error:
        raise ValueError(
            f"{shown(path)} is not a readable image ({reason(error)}); is it complete, and an image?"
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def reason(error: RuntimeError) -> str:
    """What an exception of ITK says happened, without the lines around it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    while lines[-1].startswith("Reason:"):  # ITK adds the last error of the system, often of another call
        lines.pop()
    return re.sub(r"^.*ERROR:\s*(\w+\(0x\w+\):\s*)?", "", lines[-1]).strip()

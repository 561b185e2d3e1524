"""What this computer has to compute on, found without PyTorch."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
PCI, NVIDIA, DISPLAY = Path("/sys/bus/pci/devices"), "0x10de", "0x03"  # vendor, and class of what draws and computes
NO_CARD = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True)
class Device:
    """What can be computed on.

    Attributes:
        name: torch's, such as "cpu" or "cuda:0".
        title: for people.
        free_bytes: memory that programs can still get; None where the system does not tell.
    """

    name: str
    title: str
    free_bytes: int | None


@dataclass(frozen=True)
class Nvidia:
    """An NVIDIA card, whatever PyTorch knows of it.

    Attributes:
        driver: newest version of CUDA that its driver runs; None: there is no driver.
        error: number of the error with which the driver refuses to work; 0: it works.
    """

    driver: tuple[int, int] | None
    error: int = 0


def nvidia(load: Callable[[str], Any] = ctypes.CDLL, pci: Path = PCI) -> Nvidia | None:
    """The NVIDIA card of this computer, None if there is none; asked is the driver, and without it Linux.

    Args:
        load: loads a library by its name; OSError if it is not there.
        pci: where Linux lists what is built in.
    """
    try:
        driver = load(DRIVER)
    except OSError:
        return Nvidia(None) if any(map(_is_card, _listed(pci))) else None
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    error = int(driver.cuInit(0)) or int(driver.cuDeviceGetCount(ctypes.byref(count)))
    if error == NO_CARD or (error == 0 and count.value == 0):
        return None
    return Nvidia((version.value // 1000, version.value % 1000 // 10), error)


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_card(device: Path) -> bool:
    try:
        vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
    except OSError:
        return False
    return vendor == NVIDIA and kind.startswith(DISPLAY)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that programs can still get; None on systems other than Linux."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024 * kilobytes[0] if kilobytes else None

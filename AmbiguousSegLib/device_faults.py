"""What an error of a device means, and what to do about it: one sentence each, told by how PyTorch words it."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass

LESS_MEMORY = "Choose a region of interest or fewer slices, sample fewer at a time, or close other programs."
NOT_ON_THE_CPU = "nothing was computed on the CPU instead"
REINSTALL = (
    "install PyTorch anew (in 3D Slicer: uninstall it in the module PyTorch Utils, restart, and install it there)"
)
_NO_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory")
_ON_A_GPU = re.compile(r"CUDA|HIP|\bMPS\b|^(cuda|mps)\b")
_ASKED = re.compile(r"allocate ([\d.]+ ?[KMGT]?i?(?:B|bytes))")
_APPLE = re.compile(r"\bMPS\b|\bmps\b|MPSGraph|MPSNDArray")


@dataclass(frozen=True)
class Fault:
    """What happened, in one sentence, and what to do about it, in another.

    Attributes:
        kind: "out_of_memory", "device" or "missing_package".
        fatal: the process must end, as it cannot reach the device any more.
    """

    kind: str
    message: str
    remedy: str
    fatal: bool = False


def explain(error: Exception) -> Fault | None:
    """The fault of a device behind an exception; None for any other exception."""
    text = str(error).strip()
    if "Numpy is not available" in text:
        return other_numpy()
    if _is_of_memory(error, text):
        return _memory(text)
    if not isinstance(error, (RuntimeError, TypeError)):  # NotImplementedError is a RuntimeError
        return None
    line = text.partition("\n")[0].rstrip(".")
    if "no kernel image is available" in text:
        message = f"This PyTorch was not built for the GPU of this computer; {NOT_ON_THE_CPU}."
        return Fault("device", message, f"Choose the device CPU, or {REINSTALL}.", fatal=True)
    if "driver version is insufficient" in text or "NVIDIA driver on your system is too old" in text:
        message = f"The NVIDIA driver is too old for this PyTorch; {NOT_ON_THE_CPU}."
        return Fault("device", message, "Update the driver from nvidia.com/drivers, or choose the device CPU.")
    if "CUDA error" in text or "HIP error" in text or "device-side assert" in text:
        message = f"The GPU has failed ({line}); {NOT_ON_THE_CPU}."
        remedy = (
            "Try again; if it happens again, restart the computer, update the GPU's driver, or choose the device CPU."
        )
        return Fault("device", message, remedy, fatal=True)
    if _APPLE.search(text):
        message = f"The Apple GPU cannot do what this needs ({line}); {NOT_ON_THE_CPU}."
        return Fault("device", message, "Choose the device CPU; a newer macOS and PyTorch may be able to.")
    return None


def other_numpy() -> Fault:
    """The fault of a PyTorch that was built for another NumPy than there is, as the Intel build for macOS is."""
    versions = [getattr(sys.modules.get(name), "__version__", "") for name in ("torch", "numpy")]
    message = "PyTorch {} was built for another NumPy than {}, and can take nothing from it.".format(*versions)
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        remedy = "Install the Apple-silicon build of Slicer; on a Mac with an Intel processor sampling is not possible."
    else:
        remedy = f"{REINSTALL[0].upper()}{REINSTALL[1:]}."
    return Fault("missing_package", message, remedy)


def _is_of_memory(error: Exception, text: str) -> bool:
    lack = getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)  # without PyTorch there is no such error
    return isinstance(error, (MemoryError, lack)) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(text)))


def _memory(text: str) -> Fault:
    asked = _ASKED.search(text)
    amount = f" ({asked[1]} more were asked for)" if asked else ""
    if _ON_A_GPU.search(text):
        message = f"The GPU has not enough memory{amount}; {NOT_ON_THE_CPU}."
        return Fault("out_of_memory", message, f"{LESS_MEMORY[:-1]} that use the GPU, or choose the device CPU.")
    return Fault("out_of_memory", f"This computer has not enough memory{amount}.", LESS_MEMORY)

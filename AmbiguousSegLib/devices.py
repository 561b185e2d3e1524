"""The device to compute on: which there are, which one "auto" takes, and why no GPU if it takes none."""

from __future__ import annotations

import logging
import os
import platform
import sys

import torch

from AmbiguousSegLib.hardware import Device, Nvidia, cores, free_memory, nvidia

log = logging.getLogger(__name__)

WITH_CUDA = (
    "install a PyTorch with CUDA (in 3D Slicer: uninstall PyTorch in the module PyTorch Utils, restart, and choose a "
    "computation backend cu… there)"
)


def choose_device(name: str) -> torch.device:
    """Device by name; "auto" takes a GPU (CUDA, then MPS) if there is one that can be used, else the CPU.

    A GPU that is there and cannot be used is told in the log.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        chosen, reason = _automatic()
        if reason:
            log.warning("%s", reason)
        return torch.device(chosen)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the device "meta" holds no values
    except (RuntimeError, AssertionError, ImportError) as error:  # the last: a device of a package that is not there
        told = (str(error).splitlines() or [""])[0].split(". ")[0].rstrip(".")
        if told.startswith(("Expected one of", "Invalid device string", "Device string")):
            raise ValueError(f"Device {name!r} is not known; choose auto, cpu, cuda, cuda:1 or mps.") from error
        raise ValueError(f"Device {name!r} cannot be used here ({told[:120]}); choose another, or auto.") from error
    return device


def device_of_process(name: str) -> torch.device:
    """Device by name, as ``choose_device``; under ``torchrun`` each process of a machine has a CUDA GPU of its own.

    Raises:
        ValueError: no such device here, or more processes than GPUs.
    """
    device = choose_device(name)
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= count:
        raise ValueError(
            f"Process {local} has no GPU: this machine has {count}; start as many processes (--nproc_per_node {count})."
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def devices_here() -> list[Device]:
    """The CPU, and the GPUs that can be used."""
    found = [Device("cpu", f"CPU, {cores()} cores", free_memory())]
    for index in _cuda_devices():
        try:
            free = torch.cuda.mem_get_info(index)[0]
        except RuntimeError as error:  # in use by another program alone, or out of order
            log.warning("GPU %d is left out: %s", index, error)
            continue
        if _built_for(index):
            found.append(Device(f"cuda:{index}", torch.cuda.get_device_name(index), free))
    if torch.backends.mps.is_available():
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        found.append(Device("mps", "Apple GPU", free))
    return found


def device_note() -> str:
    """One sentence: what "auto" computes on; if that is the CPU, why no GPU does, and what to do about it."""
    chosen, reason = _automatic()
    if chosen.startswith("cuda"):
        return f"The GPU is used: {torch.cuda.get_device_name(torch.device(chosen))}."
    if chosen == "mps":
        return "The GPU of this Mac is used."
    return reason or "The CPU is used, as this computer has no GPU that PyTorch can use; drafts take the least time."


def _automatic() -> tuple[str, str]:
    """What "auto" is here, and why it is not the GPU that is there; empty without one."""
    indices = list(_cuda_devices())
    usable = [index for index in indices if _built_for(index)]
    if usable:
        return "cuda" if usable[0] == 0 else f"cuda:{usable[0]}", ""
    if torch.backends.mps.is_available():
        return "mps", ""
    if indices:
        name, built = torch.cuda.get_device_name(indices[0]), " ".join(torch.cuda.get_arch_list())
        why = f"PyTorch {torch.__version__} was not built for the {name} of this computer (but for {built})"
        return "cpu", _told(why, f"{WITH_CUDA}, of a version for this GPU")
    return "cpu", _why_no_gpu()


def _why_no_gpu() -> str:
    if sys.platform == "darwin":
        return _why_no_apple_gpu()
    found = nvidia()
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        remedy = "unset it and start again if a GPU is to be used"
        return _told("the variable CUDA_VISIBLE_DEVICES hides every GPU", remedy)
    return "" if found is None else _why_not_nvidia(found)


def _why_not_nvidia(card: Nvidia) -> str:
    if card.driver is None:
        return _told("the NVIDIA GPU of this computer has no driver", "install it from nvidia.com/drivers")
    if torch.version.cuda is None:
        why = f"PyTorch {torch.__version__} was built without CUDA, which the NVIDIA GPU of this computer needs"
        return _told(why, WITH_CUDA)
    needed, driver = tuple(map(int, torch.version.cuda.split(".")[:2])), ".".join(map(str, card.driver))
    if card.driver[0] < needed[0]:
        why = f"the NVIDIA driver is too old (it runs CUDA {driver}, PyTorch needs {torch.version.cuda})"
        return _told(why, "update it from nvidia.com/drivers, and restart the computer")
    error = f"error {card.error}" if card.error else "CUDA does not start"
    return _told(f"the NVIDIA driver does not work ({error})", "restart the computer; if that is no help, update it")


def _why_no_apple_gpu() -> str:
    if platform.machine() == "x86_64":
        return _told("this program is the build for Intel processors", "install the Apple-silicon build of Slicer")
    if not torch.backends.mps.is_built():
        return _told(f"PyTorch {torch.__version__} was built without support of Apple's GPU", "install it anew")
    version = platform.mac_ver()[0]
    return _told(f"macOS {version} is too old for PyTorch to use the GPU", "update macOS to 14 or newer")


def _told(why: str, remedy: str) -> str:
    return f"The CPU is used, because {why}: {remedy}."


def _cuda_devices() -> range:
    return range(torch.cuda.device_count() if torch.cuda.is_available() else 0)


def _built_for(index: int) -> bool:
    """Whether this build of PyTorch has code for a GPU: for its generation, or older code that can be translated."""
    architectures = torch.cuda.get_arch_list()
    if torch.version.hip is not None or not architectures:
        return True
    card = torch.cuda.get_device_capability(index)
    for architecture in architectures:  # sm_86, sm_90a, compute_90
        kind, _, number = architecture.partition("_")
        digits, suffix = number.rstrip("af"), number[len(number.rstrip("af")) :]
        built = (int(digits[:-1]), int(digits[-1]))
        if kind == "sm" and built[0] == card[0] and (built == card if suffix == "a" else built[1] <= card[1]):
            return True
        if kind == "compute" and not suffix and built <= card:
            return True
    return False

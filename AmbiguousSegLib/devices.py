"""The device to compute on."""

from __future__ import annotations

import os

import torch


def choose_device(name: str) -> torch.device:
    """Device by name; "auto" takes a GPU (CUDA, then MPS) if there is one, else the CPU.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
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

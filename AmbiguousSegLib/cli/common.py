"""What the verbs share."""

from __future__ import annotations

import torch


class CommandError(Exception):
    """Bad input, said in one line; ends a command with exit code 2."""


def choose_device(name: str) -> torch.device:
    """Device by name; "auto" takes a GPU (CUDA, then MPS) if there is one, else the CPU.

    Raises:
        CommandError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CommandError(f"Device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device

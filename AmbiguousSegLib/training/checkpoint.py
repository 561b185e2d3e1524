"""State of a training run in one safetensors file, so that it can go on bit for bit."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.diffusion.settings import PAST_GRID
from AmbiguousSegLib.files import check_file, replacing
from AmbiguousSegLib.methods import Method
from AmbiguousSegLib.model import load_state
from AmbiguousSegLib.text_files import parse_json
from AmbiguousSegLib.training.config import of_today

log = logging.getLogger(__name__)

FILE = "checkpoint.safetensors"
_REMEDY = "take an earlier copy, or train anew into another folder"


@dataclass(frozen=True)
class Progress:
    """Where a run stands: images seen, and the best validation so far (images, GED)."""

    images: int = 0
    best_images: int | None = None
    best_ged: float | None = None


def save_checkpoint(
    path: Path, method: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, config: dict
) -> None:
    """Write everything that the next step depends on; all random numbers follow from ``progress.images``."""
    tensors = {f"method.{name}": t for name, t in method.state_dict().items()}
    tensors |= {f"ema.{name}": t for name, t in ema.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(t) for name, t in state.items()}
    metadata = {"progress": json.dumps(vars(progress)), "config": json.dumps(config)}
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    data = save_tensors(tensors, metadata | {"sha256": _digest(tensors, metadata)})
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def load_checkpoint(
    path: Path, method: Method, ema: nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any]
) -> Progress:
    """Restore what ``save_checkpoint`` wrote.

    Raises:
        ValueError: truncated or damaged file (by its checksum, which those of version 0.1 lack), or a run of another
            configuration (the message names the first key that differs; only the length of the training, names,
            validation and how often to save may change).
    """
    check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        told = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: cannot be read as a checkpoint ({told}); {_REMEDY}.") from error
    if not {"progress", "config"} <= metadata.keys():
        raise ValueError(f"{path}: not a checkpoint of a training run; {_REMEDY}.")
    if metadata.get("sha256") not in (None, _digest(tensors, metadata)):
        raise ValueError(f"{path} is damaged: it does not agree with its checksum; {_REMEDY}.")
    stored = parse_json(metadata["config"], f"{path}, its configuration,", nan=True)
    progress = parse_json(metadata["progress"], f"{path}, its progress,", nan=True)
    try:
        seen = from_dict(Progress, progress, "progress")
        if not isinstance(stored, dict) or seen.images < 0:
            raise ValueError(f"it has seen {seen.images} images, with a configuration of {len(stored)} entries")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {str(error).rstrip('.')}; {_REMEDY}.") from error
    _refuse_other_config(path, stored, config, method)

    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}

    load_state(method, part("method."), path)
    load_state(ema, part("ema."), path)
    _load_optimizer(path, optimizer, part("optimizer."))
    return seen


def _load_optimizer(path: Path, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """ValueError for tensors that are not the state of this optimiser; those without gradients have none."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        fits = index.isascii() and index.isdecimal() and int(index) < len(parameters)
        if not (fits and key and tensor.shape in ((), parameters[int(index)].shape)):
            raise ValueError(f"{path} is damaged: optimizer.{name} is not part of the optimiser; {_REMEDY}.")
        state.setdefault(int(index), {})[key] = tensor
    if len({frozenset(entries) for entries in state.values()}) > 1:
        raise ValueError(f"{path} is damaged: parts of the state of the optimiser are missing; {_REMEDY}.")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Checksum of everything that a run goes on from."""
    found = hashlib.sha256(f"{metadata['progress']} {metadata['config']}".encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _refuse_other_config(path: Path, stored: dict[str, Any], current: dict[str, Any], method: Method) -> None:
    free = ["optimisation.images", "validation.", "checkpoint_every_images", "tensorboard", "card.", "dataset.workers"]
    if len(current["labels"]) == 1:  # several are told apart by their names
        free.append("labels")
    if stored.get("method") != current["method"]:  # of another method no other key need be known
        old, new = {"method": stored.get("method")}, {"method": current["method"]}
    else:
        sampling = stored.get("sampling")
        if isinstance(sampling, dict) and "grid" not in sampling:  # validation alone depends on it
            free.append("sampling.grid")
            grid = current["sampling"]["grid"]
            if method.samples_by_steps and grid != PAST_GRID:
                log.info("Validation samples on the step grid %s from now on, so far on %s.", grid, PAST_GRID)
        old, new = _flat(_of_today(path, stored)), _flat(current)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not key.startswith(tuple(free)):
            raise ValueError(
                f"{path}: was trained with {key} = {old.get(key)!r}, now it is {new.get(key)!r}; keep it, or train "
                "into another folder."
            )


def _of_today(path: Path, stored: dict[str, Any]) -> dict[str, Any]:
    """The stored configuration under today's names; what it could not name yet has its default."""
    try:
        return of_today(stored)
    except (ValueError, TypeError, AttributeError) as error:
        told = str(error).rstrip(".")
        raise ValueError(f"{path}: was trained with settings that are unknown here: {told}; {_REMEDY}.") from error


def _flat(config: dict, prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out

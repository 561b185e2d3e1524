"""State of a training run in one safetensors file, so that it can go on bit for bit."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.diffusion.settings import PAST_GRID
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.methods import Method
from AmbiguousSegLib.model import load_state
from AmbiguousSegLib.text_files import parse_json
from AmbiguousSegLib.training.config import TrainingConfig, completed, lifted

log = logging.getLogger(__name__)

FILE = "checkpoint.safetensors"


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
    data = save_tensors({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def load_checkpoint(
    path: Path, method: Method, ema: nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any]
) -> Progress:
    """Restore what ``save_checkpoint`` wrote.

    Raises:
        ValueError: truncated file, or a run of another configuration (the message names the first key that differs;
            only the length of the training, names, validation and how often to save may change).
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as a checkpoint: {error}") from error
    if not {"progress", "config"} <= metadata.keys():
        raise ValueError(f"{path}: not a checkpoint of a training run.")
    _refuse_other_config(path, parse_json(metadata["config"], str(path), nan=True), config, method)

    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}

    load_state(method, part("method."), path)
    load_state(ema, part("ema."), path)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in part("optimizer.").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**parse_json(metadata["progress"], str(path), nan=True))


def _refuse_other_config(path: Path, stored: dict[str, Any], current: dict[str, Any], method: Method) -> None:
    free = ["optimisation.images", "validation.", "checkpoint_every_images", "tensorboard", "card.", "dataset.workers"]
    if len(current["labels"]) == 1:  # several are told apart by their names
        free.append("labels")
    if stored.get("method") != current["method"]:  # of another method no other key need be known
        old, new = {"method": stored.get("method")}, {"method": current["method"]}
    else:
        if "grid" not in stored["sampling"]:  # validation alone depends on it
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
        return to_dict(completed(from_dict(TrainingConfig, lifted(stored, quiet=True), "")))
    except ValueError as error:
        raise ValueError(f"{path}: was trained with settings that are unknown here: {error}") from error


def _flat(config: dict, prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out

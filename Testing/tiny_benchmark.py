"""A benchmark of seconds: two tiny systems on a phantom of 16 × 16 pixels."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import yaml
from tiny_training import METHODS

from AmbiguousSegLib.benchmarking.cell import Cell, make
from AmbiguousSegLib.benchmarking.file import TRUTH

BASE = {
    "dataset": {"kind": "phantom", "size": [16, 16], "spacing_mm": 4.0, "channels": ["CT"]},
    "optimisation": {"batch_size": 4, "learning_rate": 1e-3, "ema_decay": 0.9},
    "validation": {"cases": 1, "samples": 2, "raters": 2},
    "sampling": {"name": "ddim", "steps": 1},
    "labels": [{"name": "nodule"}],
}
OTHER = {**METHODS["probabilistic_unet"], "beta": 1.0}


def tiny_benchmark(path: Path, **changes) -> Path:
    """The file ``path``, in which keys of the benchmark are changed."""
    systems = {
        "punet": {"config": {"method": "probabilistic_unet", "method_config": METHODS["probabilistic_unet"]}},
        "other": {"config": {"method": "probabilistic_unet", "method_config": OTHER}},
    }
    content = {
        "title": "tiny",
        "budget": {"images": 12},
        "seeds": [0, 1],
        "samples": [2, 4],
        "base": BASE,
        "systems": systems,
        "test": {"cases": 6, "raters": 3, "mode_samples": 6},
        "reference": "punet",
        "true_distribution": True,
    }
    content = json.loads(json.dumps(content | changes))
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def make_or_not(cell: Cell) -> None:
    """A cell of the true distribution, which takes no training; seed 1 fails, and seed 2 ends its process."""
    if cell.seed == 1:
        raise ValueError("bad luck")
    if cell.seed == 2:
        os._exit(7)
    make(replace(cell, system=TRUTH))

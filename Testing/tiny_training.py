"""Training runs of a second: tiny networks on a few drawn cases, or on the phantom."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import yaml
from safetensors.torch import load_file

from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.training.checkpoint import FILE
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.training.dataset import open_data
from AmbiguousSegLib.training.trainer import Trainer

REPOSITORY = Path(__file__).resolve().parents[1]
SIZE, CASES, RATERS = 16, 10, 3
UNET = {
    "image_size": SIZE,
    "model_channels": 8,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_sizes": (),
    "norm_groups": 4,
}
ENCODER = {"filters": (4, 8), "convolutions": 1, "latent_dim": 2, "log_sigma_limit": 5.0}
METHODS = {
    "cimd": {"unet": UNET, "encoder": ENCODER, "prediction": "x0", "variance": "posterior", "schedule": {"steps": 50}},
    "probabilistic_unet": {"unet": {"filters": (4, 8), "convolutions": 1}, "encoder": ENCODER},
    "ccdm": {"unet": UNET, "schedule": {"kind": "cosine", "steps": 50}},
    "flow_matching": {
        "unet": UNET,
        "start": "ssn",
        "ssn": {"unet": {"filters": (4, 8), "convolutions": 1}, "rank": 2, "loss_samples": 4},
    },
}
SAMPLER_OF = {"ccdm": "categorical", "flow_matching": "euler"}  # of what is no Gaussian diffusion
# A CIMD that learns the two-class phantom, in pixels of 3 mm, in some ten seconds of one core.
TWO_CLASSES = {
    "method_config.unet.model_channels": 16,
    "method_config.unet.use_scale_shift_norm": True,
    "method_config.beta_ambiguity": 0.0,
    "labels": [{"name": "core", "color": [0.9, 0.3, 0.2]}, {"name": "halo", "color": [0.95, 0.75, 0.3]}],
    "card.name": "tiny two classes",
    "dataset.kind": "phantom",
    "dataset.channels": ["CT"],
    "dataset.spacing_mm": 3.0,
    "dataset.plane": "axial",
    "dataset.intensity": {"rule": "window", "low": -1000.0, "high": 200.0},
    "optimisation": {"images": 2400, "batch_size": 8, "learning_rate": 4e-3, "schedule": "cosine", "ema_decay": 0.99},
    "optimisation.warmup_images": 320,
    "validation.raters": 8,
    "sampling": {"name": "dpm++2m", "steps": 6},
}
# Everything that draws random numbers, or changes from step to step, at once.
BUSY = {
    "method_config.unet.dropout": 0.3,
    "augmentation": {"flip": True, "rotate_degrees": 20.0, "scale": 0.1, "translate": 0.1, "gain": 0.1, "offset": 0.05},
    "optimisation.microbatch": 3,
    "optimisation.schedule": "cosine",
    "optimisation.warmup_images": 12,
    "optimisation.weight_decay": 0.01,
}


def sampling_of(method: str) -> SamplerSettings:
    """Two steps of a sampler that the method takes."""
    return SamplerSettings(SAMPLER_OF.get(method, "ddim"), 2)


def tiny_config(changes: dict | None = None, method: str = "cimd") -> TrainingConfig:
    """Ten batches of four, validated and saved at the end only; ``changes`` by dotted key."""
    config = {
        "method": method,
        "method_config": METHODS[method],
        "dataset": {"size": (SIZE, SIZE), "validation_fraction": 0.3, "test_fraction": 0.1},
        "optimisation": {"images": 40, "batch_size": 4, "learning_rate": 1e-3, "ema_decay": 0.9},
        "validation": {"every_images": 10_000, "cases": 2, "samples": 2, "raters": 3},
        "sampling": to_dict(sampling_of(method)),
        "seed": 5,
    }
    config = json.loads(json.dumps(config))  # a copy, as plain as a file
    for key, value in (changes or {}).items():
        *path, name = key.split(".")
        place = config
        for part in path:
            place = place.setdefault(part, {})
        place[name] = value
    return from_dict(TrainingConfig, config)


def write_config(path: Path, config: TrainingConfig) -> Path:
    path.write_text(yaml.safe_dump(to_dict(config)), encoding="utf-8")
    return path


def write_cases(folder: Path, cases: int = CASES, size: int = SIZE, raters: int = RATERS, classes: int = 1) -> Path:
    """Folder of cases: a bright disc in noise, which ``raters`` raters draw larger and larger.

    With two classes, the disc itself is the second one, and what a rater draws around it the first.
    """
    rng, scale = np.random.default_rng(0), size / SIZE
    rows, columns = np.indices((size, size))
    for case in range(cases):
        place = folder / f"case{case}"
        place.mkdir(parents=True)
        distance = np.hypot(rows - rng.uniform(5, 11) * scale, columns - rng.uniform(5, 11) * scale)
        radius = rng.uniform(2, 4) * scale
        image = 120 * (distance < radius) + rng.uniform(0, 100, (size, size))
        sitk.WriteImage(sitk.GetImageFromArray(image.astype(np.uint8)), str(place / "image.png"))
        for rater in range(raters):
            drawn = (distance < radius + rater * scale).astype(np.uint8)
            mask = 255 * drawn if classes == 1 else drawn + (distance < radius)
            sitk.WriteImage(sitk.GetImageFromArray(mask.astype(np.uint8)), str(place / f"rater_{rater}.png"))
    return folder


def make_trainer(config: TrainingConfig, data: Path | None, folder: Path, **options) -> Trainer:
    return Trainer(open_data(config, data), folder, torch.device("cpu"), **options)


@cache
def trained_on_two_classes() -> Trainer:
    """Trainer at the end of its run on ``TWO_CLASSES``, once for all tests of a process."""
    folder = Path(tempfile.mkdtemp(prefix="two_classes_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    trainer = make_trainer(tiny_config(TWO_CLASSES), None, folder)
    trainer.run()
    return trainer


def two_class_model(folder: Path) -> Path:
    """``folder``, in which a model of the labels core and halo is put that was trained on the phantom."""
    shutil.copytree(trained_on_two_classes().folder / "model", folder, dirs_exist_ok=True)
    return folder


def stop_after(trainer: Trainer, images: int):
    """Callback for ``run`` that asks the trainer to stop, as a signal would."""

    def on_progress(seen: int, total: int, losses: dict[str, float]) -> None:
        trainer.stopping = trainer.stopping or seen >= images

    return on_progress


def one_step(config: TrainingConfig, data: Path | None, folder: Path, **options) -> Trainer:
    """Trainer after its first update, not validated and not saved."""
    trainer = make_trainer(config, data, folder, **options)
    trainer._validate = trainer._save = lambda: None
    trainer.run(stop_after(trainer, 0))
    return trainer


def gradients(trainer: Trainer) -> torch.Tensor:
    """The clipped gradient of the first update, all parameters in one vector: Adam's first moment is 0.1 of it."""
    moments = [state["exp_avg"].flatten() for state in trainer.optimizer.state.values()]
    return torch.cat(moments) / (1 - trainer.optimizer.param_groups[0]["betas"][0])


def checkpoint_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / FILE)


def log_of(folder: Path, key: str) -> list[dict]:
    """Lines of the log that have ``key``, read as strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line, parse_constant=refuse) for line in lines]
    return [entry for entry in entries if key in entry]


def assert_same_run(a: Path, b: Path) -> None:
    """The whole state, bit for bit, and the model that was kept."""
    first, second = checkpoint_of(a), checkpoint_of(b)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    names = ("model.safetensors", "model.json")
    assert [n for n in names if (a / "model" / n).read_bytes() != (b / "model" / n).read_bytes()] == []


def with_images(config: TrainingConfig, images: int) -> TrainingConfig:
    return replace(config, optimisation=replace(config.optimisation, images=images))

"""A method, a sampler, a figure and a reader of one's own, each one class or function, through all doors.

Nothing else is edited: ``train``, ``sample``, ``evaluate``, the batch script and the scene know them by their names.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from batch_script import batch_script
from torch import nn

from AmbiguousSegLib import cli
from AmbiguousSegLib.data.readers import READERS
from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import SAMPLERS, Denoised
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.step_grids import steps_of
from AmbiguousSegLib.methods import METHODS, Method
from AmbiguousSegLib.metrics.figures import FIGURES, MaskSets, figure
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_label_map
from AmbiguousSegLib.volume.writing import write_volume

SIZE, GAIN = 16, 3.0
GRID = Geometry((SIZE, SIZE, 3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@dataclass(frozen=True)
class ToyConfig:
    classes: int = 1
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(steps=50))


class Toy(Method):
    """Estimates a mask as the image times a factor that it learns."""

    Config = ToyConfig
    samples_by_steps = True
    image_channels, size_multiple = 1, 1

    def __init__(self, config):
        super().__init__(config)
        self.factor = nn.Parameter(torch.tensor(1.0))

    def training_loss(self, batch, noise):
        return {"loss": ((self.factor * batch.image - batch.mask) ** 2).mean()}

    def sample(self, prepared, noise, settings, on_step=None):
        (image,) = prepared
        schedule = self.config.schedule.build()
        schedule = schedule.respaced(steps_of(settings.grid, len(schedule), settings.steps))
        shape = (self.classes, *image.shape[-2:])
        return samplers.run(settings, lambda x, index: Denoised(image.expand_as(x)), schedule, noise, shape, on_step)


@dataclass(frozen=True)
class ToyCase:
    """One ``.npz`` file."""

    file: Path
    rater_names: tuple[str, ...] = ("a", "b")
    group: str = ""
    part: str = ""
    modality: str = ""

    @property
    def identity(self) -> str:
        return self.file.stem

    subject = identity

    def load_image(self) -> tuple[np.ndarray, Geometry]:
        grid = Geometry((SIZE, SIZE, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        return np.load(self.file)["image"][:, None], grid

    def load_masks(self) -> np.ndarray:
        return np.load(self.file)["masks"][:, None]


@pytest.fixture
def toys():
    """All four, for the length of a test."""
    METHODS.register("toy")(Toy)

    @SAMPLERS.register("toy-look")
    def look(denoise, schedule, noise, shape, *, gain: float = 1.0):
        """The estimate at the noisiest step, and noise of a standard deviation of 1/gain."""
        x = noise.normal(0, shape)
        return denoise(x, torch.full((len(x),), len(schedule) - 1)).x0 + x / gain

    @figure("toy_size", "toy size", "mean number of marked pixels of a sample", better="alike")
    def toy_size(sets: MaskSets) -> float:
        return float(sets.marked()[0].sum() / len(sets.marked()[0]))

    @READERS.register("toy-arrays")
    def read(folder, config, labels):
        return [ToyCase(file) for file in sorted(folder.glob("*.npz"))]

    yield
    for registry, name in ((METHODS, "toy"), (SAMPLERS, "toy-look"), (FIGURES, "toy_size"), (READERS, "toy-arrays")):
        registry.unregister(name)


@pytest.fixture
def batch():
    with batch_script() as module:
        yield module


def write_data(folder: Path) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(8):
        masks = generator.integers(0, 2, (2, SIZE, SIZE), np.uint8)
        image = (masks.mean(0, keepdims=True) * generator.uniform(0.5, 1.0)).astype(np.float32)
        np.savez(folder / f"case{number}.npz", image=image, masks=masks)


def run(*arguments: object) -> None:
    assert cli.main([str(a) for a in arguments]) == 0


def test_what_is_registered_goes_through_every_door(toys, batch, tmp_path):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    write_data(tmp_path / "data")
    preset = {
        "method": "toy",
        "labels": [{"name": "spot"}],
        "dataset": {"kind": "toy-arrays", "size": [SIZE, SIZE], "test_fraction": 0.3, "validation_fraction": 0.3},
        "optimisation": {"images": 8, "batch_size": 4},
        "validation": {"every_images": 8, "samples": 2},
        "sampling": {"name": "toy-look", "steps": 2, "options": {"gain": GAIN}},
        "card": {"name": "toy model"},
    }
    preset["dataset"]["intensity"] = {"rule": "full_scale", "high": 1.0}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(preset), encoding="utf-8")
    model = tmp_path / "run" / "model"
    run("train", "--config", tmp_path / "toy.yaml", "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert json.loads((model / "model.json").read_text(encoding="utf-8"))["card"]["metrics"]["toy_size"] > 0

    volume = np.random.default_rng(1).random(GRID.shape, np.float32)
    write_volume(tmp_path / "scan.nrrd", volume, GRID)
    run("sample", tmp_path / "scan.nrrd", "--model", model, "--samples", 2, "--out", tmp_path / "sampled")
    summary = json.loads((tmp_path / "sampled" / "samples.json").read_text(encoding="utf-8"))
    assert summary["sampler"] == {"name": "toy-look", "steps": 2, "grid": "trailing", "options": {"gain": GAIN}}
    masks = [read_label_map(tmp_path / "sampled" / f"sample_0{n}.seg.nrrd", GRID) for n in (1, 2)]
    # One noise for all slices of a sample: what the masks are follows from the image and two draws.
    for number, mask in enumerate(masks):
        noise = RowNoise(0, [(0, number)]).normal(0, (1, SIZE, SIZE)).numpy()[0]
        values = volume + noise / GAIN
        decided = np.abs(values - 0.5) > 1e-5
        np.testing.assert_array_equal(mask[decided], (values > 0.5)[decided])

    run(
        "evaluate",
        "--model",
        model,
        "--data",
        tmp_path / "data",
        "--samples",
        2,
        "--no-figure",
        "--out",
        tmp_path / "ev",
    )
    rows = list(csv.DictReader((tmp_path / "ev" / "results.csv").open(encoding="utf-8")))
    assert len(rows) == 2 and all(float(row["toy_size"]) > 0 for row in rows)
    assert "toy size" in (tmp_path / "ev" / "summary.md").read_text(encoding="utf-8")
    raters = tmp_path / "sampled" / "sample_01.seg.nrrd"
    run("compare", tmp_path / "sampled", "--raters", raters, "--no-figure", "--out", tmp_path / "compared")
    sizes = [np.count_nonzero(mask) for mask in masks]
    of_volume = list(csv.DictReader((tmp_path / "compared" / "summary.csv").open(encoding="utf-8")))[1]
    assert float(of_volume["toy_size"]) == np.mean(sizes)

    command = [str(tmp_path / "scan.nrrd"), "--model", str(model), "--samples", "2", "--out", str(tmp_path / "study")]
    assert batch.main([*command, "--mrb"]) == 0
    from AmbiguousSegBridge.scene.masks import crops_of
    from AmbiguousSegBridge.scene.runs import find_runs
    from SlicerHost.host import make_host

    scene = make_host()
    assert scene.ReadFromMRB(str(tmp_path / "study" / "scan" / "scene.mrb"))
    (found,) = find_runs(scene)
    assert found.label_names == ["spot"] and found.provenance["model"]["method"] == "toy"
    np.testing.assert_array_equal([crop.full() for crop in crops_of(found)], masks)

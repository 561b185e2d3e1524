"""Every bundled system by its preset: it learns, its masks follow from their seed, and every door gives its method's.

Presets of systems are found by listing. Each is trained by the command ``train`` on one small case that four raters
outline, a bright disc drawn larger and larger: with its own networks, on as few images as show that loss and distance
to the raters fall.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from batch_script import batch_script
from tiny_models import randomised
from tiny_training import log_of, write_cases

pytest.importorskip("jsonargparse", reason="training is not installed")

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.data.evaluation_cases import EvaluationCase, loaded_cases
from AmbiguousSegLib.data.readers import read_all
from AmbiguousSegLib.data.slices import SliceStore, index
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import METHODS, Method, build_method, size_multiple
from AmbiguousSegLib.metrics.figures import compare
from AmbiguousSegLib.metrics.overlap import dice
from AmbiguousSegLib.model import Model, load_model, save_model
from AmbiguousSegLib.outputs.result_folder import read_result_folder
from AmbiguousSegLib.resources import bundled_presets
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.training.config_file import read_config
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_volume
from AmbiguousSegLib.volume.writing import write_volume

SYSTEMS = [name for name in bundled_presets() if name.startswith("systems/")]
LEAST_SIZE, RATERS, BATCH, SAMPLES, STEPS = 16, 4, 8, 8, 4
IMAGES = {1: 320, 2: 480}  # seen in training, by the number of classes
FASTER = 3.0  # than the preset's learning rate, as few images are seen
# Images and rate where the prior has to learn what the posterior knows, before it draws any mask that is not empty.
PATIENT = {"probabilistic_unet": (640, 2.0)}
LABELS = {1: [{"name": "disc"}], 2: [{"name": "rim"}, {"name": "disc"}]}


METHOD_OF = {system: read_config(system)["method"] for system in SYSTEMS}
# Of the systems with a method the one with the shortest name: commands know methods, and nothing of presets.
PLAINEST = {METHOD_OF[system]: system for system in sorted(SYSTEMS, key=len, reverse=True)}
# A method for each way to sample: the families of samplers, and one pass. The script and its scene know no others.
WAYS = {METHODS[name].samples_by_steps and METHODS[name].sampler_family: name for name in reversed([*METHODS])}


def settings_of(system: str, folder: Path, classes: int = 1) -> list[str]:
    """Arguments of ``train``: the system's preset, laid over a common base, and over it what makes it small."""
    base = {
        "labels": LABELS[classes],
        "dataset": {"kind": "folder", "validation_fraction": 0.0, "test_fraction": 0.0},
        "optimisation": {
            "batch_size": BATCH,
            "learning_rate": 1e-3,  # of a training of 100,000 images, unless the preset names one
            "ema_decay": 0.9,
            "precision": "float32",
        },
        "seed": 3,
    }
    layers = ["--config", str(written(folder / f"base_{classes}.yaml", base)), "--config", system]
    _, config = parse([*layers, "--out", str(folder)])
    images, faster = PATIENT.get(config.method, (IMAGES[classes], FASTER))
    size = max(LEAST_SIZE, size_multiple(config.method, config.method_config))
    small = {
        "method_config": with_size(config.method_config, size),
        "dataset": {"size": [size, size]},
        "optimisation": {"images": images, "learning_rate": faster * config.optimisation.learning_rate},
        "sampling": {"steps": STEPS},
    }
    return [*layers, "--config", str(written(folder / f"small_{classes}.yaml", small))]


def with_size(config: Mapping, size: int) -> dict:
    """Every ``image_size`` in a configuration of networks, as ``size``."""
    inner = {key: with_size(value, size) for key, value in config.items() if isinstance(value, Mapping)}
    found = {key: value for key, value in inner.items() if value}
    return found | ({"image_size": size} if "image_size" in config else {})


def size_of(arguments: list[str]) -> int:
    """Pixels along a side of the images."""
    return parse([*arguments, "--out", "unused"])[1].dataset.size[0]


def grid(size: int) -> Geometry:
    """Of a volume of two slices."""
    return Geometry((size, size, 2), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def written(path: Path, content: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def case_of(config: TrainingConfig, folder: Path) -> EvaluationCase:
    """The one case, as training sees it."""
    cases, preprocessing = read_all(folder, config.dataset, config.labels), config.dataset.preprocessing()
    slices, _, limits = index(cases, preprocessing, len(config.labels))
    (case,) = loaded_cases(slices, SliceStore(preprocessing, len(config.labels), limits, 2**20))
    return case


@dataclass(frozen=True)
class Trained:
    """A system after its training on the one case, of which ``data`` is the folder."""

    system: str
    folder: Path
    data: Path
    config: TrainingConfig
    case: EvaluationCase

    @cached_property
    def model(self) -> Model:
        return load_model(self.folder / "model")

    @property
    def deterministic(self) -> bool:
        """It is not meant to draw different masks: it draws nothing, or was trained on the mean of the raters."""
        return self.model.method.deterministic or self.config.dataset.target == "mean"

    @cached_property
    def untrained(self) -> Method:
        """With the weights that training began with."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return build_method(self.config.method, self.config.method_config).requires_grad_(False).eval()

    @cached_property
    def masks(self) -> np.ndarray:
        return self.sampled(self.model.method)

    def sampled(self, method: Method, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
        return sample_case(method, self.case.identity, self.case.image, samples, seed, self.config.sampling, SAMPLES)

    def values(self, samples: int, seed: int, batch_size: int) -> np.ndarray:
        """What the method gives, before it becomes label maps: ``(samples, K, H, W)``."""
        image, method = torch.from_numpy(self.case.image), self.model.method
        drawn = draw_masks(method, lambda _: image, [4], range(samples), seed, self.config.sampling, batch_size)
        return torch.cat([values for _, values in drawn]).numpy()


def train(system: str, folder: Path, classes: int) -> Trained:
    arguments = settings_of(system, folder, classes)
    data = write_cases(folder / "data", 1, size_of(arguments), RATERS, classes)
    assert main(["train", *arguments, "--out", str(folder / "run"), "--data", str(data), "--device", "cpu"]) == 0
    config = from_dict(TrainingConfig, json.loads((folder / "run" / "config.json").read_text(encoding="utf-8")))
    return Trained(system, folder / "run", data, config, case_of(config, data))


def masks_in(folder: Path) -> np.ndarray:
    """Those that ``sample`` or the batch script wrote."""
    return np.stack([crop.full() for crop in read_result_folder(folder).samples])


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> Callable[[str], Trained]:
    """Trains a system once."""
    return cache(lambda system: train(system, tmp_path_factory.mktemp("one class"), 1))


@pytest.fixture(params=SYSTEMS)
def trained(request, training) -> Trained:
    return training(request.param)


def test_every_method_has_the_preset_of_a_system():
    assert set(PLAINEST) == set(METHODS)


plain_ones = pytest.mark.parametrize("trained", PLAINEST.values(), indirect=True)


def test_it_learns_a_case_by_heart(trained):
    """Loss and distance from the raters fall; of what is not meant to differ, the overlap with their majority rises."""
    losses = [entry["loss"] for entry in log_of(trained.folder, "loss")]
    assert len(losses) == trained.config.optimisation.images // BATCH and np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    before, after = trained.sampled(trained.untrained), trained.masks
    if trained.deterministic:
        majority = trained.case.masks.mean(0) > 0.5
        overlap = [dice(masks.mean(0) > 0.5, majority) for masks in (before, after)]
        assert overlap[1] > overlap[0] + 0.25
    else:
        distance = [compare(masks, trained.case.masks)["ged_u"] for masks in (before, after)]
        assert distance[1] < 0.75 * distance[0]  # measured: 0.005 to 0.66


def test_masks_follow_from_seed_and_number_alone(trained):
    few, many = trained.values(5, 7, 8), trained.values(8, 7, 8)
    one_by_one, other = trained.values(3, 7, 1), trained.values(8, 8, 8)
    np.testing.assert_array_equal(trained.values(8, 7, 8), many)
    for values, same in ((few, many[:5]), (one_by_one, many[:3])):
        # Rounding in a batch of another size may turn a number drawn from a few classes, and nothing else.
        assert (np.abs(values - same) < 1e-3).mean() > 0.995
    if not trained.deterministic:
        assert len({mask.tobytes() for mask in many > 0.5}) > 1
        assert not np.array_equal(other > 0.5, many > 0.5)
    if trained.model.method.deterministic:
        for values in (many, other):
            np.testing.assert_array_equal(values, np.broadcast_to(many[:1], many.shape))


def test_a_saved_model_is_the_same(trained, tmp_path):
    save_model(trained.model, tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert again.sampling == trained.config.sampling and to_dict(again.method.config) == trained.config.method_config
    np.testing.assert_array_equal(trained.sampled(again.method), trained.masks)


@plain_ones
def test_the_command_sample_gives_the_librarys_masks(trained, tmp_path):
    volume = np.stack([trained.case.image[0], trained.case.image[0].T]) * 255
    write_volume(tmp_path / "scan.nrrd", volume.astype(np.float32), grid(volume.shape[-1]))
    options = ["--model", str(trained.folder / "model"), "--samples", "3", "--seed", "5", "--device", "cpu"]
    assert main(["sample", str(tmp_path / "scan.nrrd"), "--out", str(tmp_path / "out"), *options]) == 0
    expected = sample_volume(trained.model, *read_volume([tmp_path / "scan.nrrd"]), SampleRequest(3, seed=5))
    assert expected.masks.any()
    np.testing.assert_array_equal(masks_in(tmp_path / "out"), expected.masks)


@plain_ones
def test_the_command_evaluate_judges_these_masks(trained, tmp_path):
    arguments = ["--data", str(trained.data), "--part", "all", "--samples", str(SAMPLES), "--device", "cpu"]
    model = ["--model", str(trained.folder / "model"), "--no-figure", "--out", str(tmp_path / "out")]
    assert main(["evaluate", *arguments, *model]) == 0
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["table"]["rows"]
    expected = compare(trained.masks, trained.case.masks)
    for key in ("ged_v", "ged_u", "distance_samples_v", "hm_iou"):
        assert row[key] == pytest.approx(expected[key], abs=1e-9), key


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if hasattr(METHODS[name].Config(), "classes")])
def test_two_classes_are_learnt_and_drawn(method, tmp_path):
    """Once for each method for several classes."""
    trained = train(PLAINEST[method], tmp_path, 2)
    assert trained.model.method.classes == 2 and [label.name for label in trained.model.labels] == ["rim", "disc"]
    losses = [entry["loss"] for entry in log_of(trained.folder, "loss")]
    assert np.isfinite(losses).all() and np.mean(losses[-5:]) < np.mean(losses[:5])
    assert set(np.unique(trained.masks)) == {0, 1, 2}


@pytest.mark.slow
@pytest.mark.slicer
@pytest.mark.skipif(importlib.util.find_spec("slicer") is None, reason="slicer-core is not installed")
@pytest.mark.parametrize("name", WAYS.values())
def test_the_script_and_its_scene_hold_what_the_command_gives(name, tmp_path):
    """Of networks whose weights are all random, so that nothing is to be trained for it."""
    import slicer
    from AmbiguousSegBridge.scene.host import make_host
    from AmbiguousSegBridge.scene.masks import crops_of
    from AmbiguousSegBridge.scene.runs import find_runs

    config = parse([*settings_of(PLAINEST[name], tmp_path), "--out", str(tmp_path / "run")])[1]
    method = randomised(build_method(config.method, config.method_config))
    preprocessing = config.dataset.preprocessing(method.size_multiple)
    labels = tuple(Label(label["name"]) for label in LABELS[1])
    save_model(Model(method, preprocessing, config.sampling, labels=labels), tmp_path / "model")
    geometry = grid(config.dataset.size[0])
    volume = np.random.default_rng(0).uniform(0, 255, geometry.shape)
    write_volume(tmp_path / "scan.nrrd", volume.astype(np.float32), geometry)
    options = ["--model", str(tmp_path / "model"), "--samples", "2", "--seed", "5", "--device", "cpu"]
    assert main(["sample", str(tmp_path / "scan.nrrd"), "--out", str(tmp_path / "out"), *options]) == 0
    with batch_script() as batch:
        assert batch.main([str(tmp_path / "scan.nrrd"), "--out", str(tmp_path / "batch"), *options, "--mrb"]) == 0
    masks = masks_in(tmp_path / "out")
    np.testing.assert_array_equal(masks_in(tmp_path / "batch" / "scan"), masks)
    scene = make_host()
    assert scene.ReadFromMRB(str(tmp_path / "batch" / "scan" / "scene.mrb"), True)
    (run,) = find_runs(slicer.mrmlScene)
    np.testing.assert_array_equal([crop.full() for crop in crops_of(run)], masks)

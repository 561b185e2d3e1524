"""The loop against closed forms, and what it keeps in its folder."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_training import CASES, SIZE, gradients, log_of, make_trainer, one_step, stop_after, tiny_config

from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.metrics.figures import average
from AmbiguousSegLib.model import load_model
from AmbiguousSegLib.plotting.pictures import RATER
from AmbiguousSegLib.training import trainer as loop
from AmbiguousSegLib.training.checkpoint import FILE
from AmbiguousSegLib.training.config import OptimisationConfig, TrainingConfig
from AmbiguousSegLib.training.learning_rate import learning_rate

pytestmark = pytest.mark.numerical


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()]).clone()


# Gradients


@pytest.mark.parametrize("method", ["cimd", "probabilistic_unet"])
@pytest.mark.parametrize("micro", [1, 2, 3])  # 3 leaves a microbatch of one row, which must weigh a quarter
def test_microbatches_add_up_to_the_whole_batch(data, tmp_path, method, micro):
    whole = one_step(tiny_config(method=method), data, tmp_path / "whole")
    parts = one_step(tiny_config({"optimisation.microbatch": micro}, method), data, tmp_path / "parts")
    assert gradients(whole).norm() == pytest.approx(1, rel=1e-4)  # it was clipped to 1: the tolerance is relative
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=0, atol=1e-6)
    losses = [log_of(tmp_path / name, "loss")[0] for name in ("whole", "parts")]
    names = losses[0].keys() - {"images", "seconds", "cpu_seconds"}
    assert {n: losses[1][n] for n in names} == pytest.approx({n: losses[0][n] for n in names}, rel=1e-6)


def test_clipping_shortens_the_gradient_and_keeps_its_direction(data, tmp_path):
    free = gradients(one_step(tiny_config({"optimisation.gradient_clip": None}), data, tmp_path / "free"))
    for number, clip in enumerate((0.3 * float(free.norm()), 3 * float(free.norm()))):
        clipped = one_step(tiny_config({"optimisation.gradient_clip": clip}), data, tmp_path / f"clip{number}")
        torch.testing.assert_close(gradients(clipped), free * min(1.0, clip / float(free.norm())), rtol=1e-4, atol=1e-7)


def test_the_first_update_is_adams(data, tmp_path):
    """w − lr·(wd·w + g/(|g| + ε)): both moments are corrected for their start at zero."""
    config = tiny_config({"optimisation.weight_decay": 0.5, "optimisation.learning_rate": 0.01})
    start = weights(make_trainer(config, data, tmp_path / "start").method)
    trainer = one_step(config, data, tmp_path / "step")
    g = gradients(trainer)
    expected = start - 0.01 * (0.5 * start + g / (g.abs() + 1e-8))
    torch.testing.assert_close(weights(trainer.method), expected, rtol=1e-4, atol=1e-5)


def test_frozen_encoders_stay_bit_for_bit(data, tmp_path):
    config = tiny_config({"method_config.train_encoders": False})
    start = make_trainer(config, data, tmp_path / "start").method
    trained = one_step(config, data, tmp_path / "step").method
    assert torch.equal(weights(start.amn), weights(trained.amn))
    assert torch.equal(weights(start.acn), weights(trained.acn))
    assert not torch.equal(weights(start.unet), weights(trained.unet))


# Schedules


@pytest.mark.parametrize(
    ("images", "constant", "cosine"),
    [
        (0, 0.5, 0.5),  # warm-up over 8 images, of which the first batch is the half
        (4, 1.0, 0.5 * (1 + math.cos(math.pi / 10))),
        (20, 1.0, 0.5),
        (36, 1.0, 0.5 * (1 + math.cos(0.9 * math.pi))),
        (40, 1.0, 0.0),
        (80, 1.0, 0.0),
    ],
)
def test_learning_rate(images, constant, cosine):
    for schedule, share in (("constant", constant), ("cosine", cosine)):
        settings = OptimisationConfig(40, 4, learning_rate=2.0, schedule=schedule, warmup_images=8)
        assert learning_rate(settings, images) == pytest.approx(2 * share, abs=1e-15)
    assert learning_rate(OptimisationConfig(40, 4, learning_rate=2.0), 0) == 2.0


def test_every_update_takes_its_learning_rate(data, tmp_path):
    config = tiny_config({"optimisation.schedule": "cosine", "optimisation.warmup_images": 12})
    trainer, taken = make_trainer(config, data, tmp_path), []
    trainer.run(lambda *_: taken.append(trainer.optimizer.param_groups[0]["lr"]))
    assert taken == [learning_rate(config.optimisation, images) for images in range(0, 40, 4)]


def test_averaged_weights_follow_their_ramp(data, tmp_path):
    """m₁ = w₁, then mₙ₊₁ = d·mₙ + (1 − d)·wₙ₊₁ with d = min(decay, (1 + n)/(10 + n))."""
    decay = 0.25
    trainer = make_trainer(tiny_config({"optimisation.ema_decay": decay}), data, tmp_path)
    trajectory, averages = [], []
    trainer.run(lambda *_: (trajectory.append(weights(trainer.method)), averages.append(weights(trainer.ema.module))))
    assert len(trajectory) == 10
    mean = trajectory[0].double()
    for n, (w, found) in enumerate(zip(trajectory, averages)):
        if n:
            d = min(decay, (1 + n) / (10 + n))
            mean = d * mean + (1 - d) * w.double()
        torch.testing.assert_close(found.double(), mean, rtol=0, atol=1e-6)
    assert (1 + 1) / (10 + 1) < decay < (1 + 9) / (10 + 9)  # both branches were met


# What stops a run


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_loss_that_is_no_number_stops_before_anything_is_spoilt(data, tmp_path, bad):
    trainer = make_trainer(tiny_config({"checkpoint_every_images": 8}), data, tmp_path)
    good = trainer.method.training_loss
    trainer.method.training_loss = lambda batch, noise: spoilt(good(batch, noise)) if turn() else good(batch, noise)
    turn = iter([False, False, True]).__next__

    def spoilt(losses: dict) -> dict:
        if bad == "loss":
            return losses | {"loss": losses["loss"] * math.nan}
        parameter = next(trainer.method.parameters())
        return losses | {"loss": losses["loss"] + (parameter * 0).sum().sqrt()}  # finite, with an infinite slope

    with pytest.raises(FloatingPointError, match=r"At 8 images .* The last checkpoint is intact") as error:
        trainer.run()
    assert "\n" not in str(error.value)
    resumed = make_trainer(tiny_config({"checkpoint_every_images": 8}), data, tmp_path, resume=True)
    assert resumed.progress.images == 8
    assert torch.isfinite(weights(resumed.method)).all() and torch.isfinite(weights(resumed.ema)).all()
    assert torch.equal(weights(resumed.method), weights(trainer.method))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset.size": [SIZE + 1, SIZE]}, r"dataset\.size must be .* multiples"),
        ({"dataset.plane": "tilted"}, r"dataset\.plane must be one of axial"),
        ({"method_config.image_channels": 2}, r"dataset .* reads 2 channels, preprocessing gives 1"),
        ({"sampling.steps": 51}, r"number of steps must lie in \[1, 50\], got 51"),
        ({"optimisation.images": 3}, r"optimisation.images 3 leaves no batch of 4"),
    ],
)
def test_what_would_fail_at_the_first_validation_fails_at_once(data, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tiny_config(changes), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_processes_cannot_share_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"optimisation.batch_size 4 cannot be shared by 3 processes"):
        make_trainer(tiny_config(), data, tmp_path, processes=3)


@pytest.mark.parametrize("one_subject", [True, False])
def test_without_validation_the_weights_of_the_end_are_kept(data, tmp_path, caplog, one_subject):
    changes = {"dataset.subject_pattern": "(case)"} if one_subject else {"dataset.validation_fraction": 0.0}
    trainer = make_trainer(tiny_config({"validation.every_images": 8, **changes}), data, tmp_path)
    assert "No case is left to validate on: the averaged weights of the end are kept" in caplog.text
    assert trainer.run() and len(trainer.source.slices) == (CASES if one_subject else 9)
    assert (trainer.progress.best_images, trainer.progress.best_ged) == (40, None)
    model = load_model(tmp_path / "model")
    assert model.card.metrics == {"protocol": "none: no case was left to validate on; the averaged weights of the end"}
    for name, value in trainer.averaged.state_dict().items():
        assert torch.equal(model.method.state_dict()[name], value)


# What is kept


@pytest.fixture
def geds(monkeypatch):
    """Lets validations find the GED of a list, one after the other."""

    def give(values: list[float]) -> None:
        left = iter(values)

        def fake(cases):
            real = average(cases)
            return dataclasses.replace(real, mean=real.mean | {"ged_u": next(left)})

        monkeypatch.setattr(loop, "average", fake)

    return give


def kept(folder) -> int:
    return json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))["card"]["training"]["images_seen"]


def test_the_model_with_the_lowest_validation_ged_is_kept(data, tmp_path, geds):
    geds([0.5, 0.3, 0.4, 0.2, 0.2, 0.6, 0.7, 0.8, 0.9, 0.25])
    trainer = make_trainer(tiny_config({"validation.every_images": 4}), data, tmp_path)
    averaged = {}
    trainer.run(lambda images, *_: averaged.update({images: weights(trainer.ema.module)}))
    assert (trainer.progress.best_images, trainer.progress.best_ged) == (16, 0.2)
    assert kept(tmp_path) == 16
    assert torch.equal(weights(load_model(tmp_path / "model").method), averaged[16])


def test_the_best_so_far_is_remembered_across_a_resume(data, tmp_path, geds):
    config = tiny_config({"validation.every_images": 8})
    geds([0.2, 0.3])
    trainer = make_trainer(config, data, tmp_path)
    trainer.run(stop_after(trainer, 16))
    geds([0.25, 0.1, 0.4])
    trainer = make_trainer(config, data, tmp_path, resume=True)
    trainer.run(stop_after(trainer, 24))
    assert kept(tmp_path) == 8
    make_trainer(config, data, tmp_path, resume=True).run()
    assert kept(tmp_path) == 32


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    changes = {"validation.every_images": 20, "card.name": "tiny", "labels": [{"name": "disc"}], "card.licence": "CC0"}
    trainer = make_trainer(tiny_config(changes), data, folder)
    assert trainer.run()
    return trainer


def test_the_folder_holds_what_it_should(finished):
    found = {p.relative_to(finished.folder).as_posix() for p in finished.folder.rglob("*") if p.is_file()}
    assert found == {
        "config.json",
        "split.json",
        "log.jsonl",
        FILE,
        "model/model.json",
        "model/model.safetensors",
        "samples/000000020.png",
        "samples/000000040.png",
    }


def test_the_log_is_json_line_by_line(finished):
    steps = log_of(finished.folder, "loss")
    assert [entry["images"] for entry in steps] == list(range(4, 41, 4))
    for entry in steps:
        assert entry["loss"] == pytest.approx(entry["simple"] + entry["ambiguity"], rel=1e-6)
    validations = log_of(finished.folder, "validation")
    assert [(entry["images"], entry["cases"]) for entry in validations] == [(20, 2), (40, 2)]
    best = min(validations, key=lambda entry: entry["validation"]["ged_u"])
    card = json.loads((finished.folder / "model" / "model.json").read_text(encoding="utf-8"))["card"]
    assert {name: card["metrics"][name] for name in best["validation"]} == best["validation"]
    assert card["training"]["images_seen"] == best["images"]


def test_undefined_figures_are_null_in_the_log(tmp_path):
    """One rater has no pair with another: D_a is undefined."""
    make_trainer(tiny_config({"dataset.kind": "phantom", "validation.raters": 1}), None, tmp_path).run()
    assert log_of(tmp_path, "validation")[0]["validation"]["diversity_agreement"] is None


def test_configuration_and_split_are_written_as_used(finished):
    stored = json.loads((finished.folder / "config.json").read_text(encoding="utf-8"))
    assert stored == to_dict(finished.config) and from_dict(TrainingConfig, stored) == finished.config
    split = json.loads((finished.folder / "split.json").read_text(encoding="utf-8"))
    assert {part: len(subjects) for part, subjects in split.items()} == {"train": 6, "validation": 3, "test": 1}
    assert sorted(itertools.chain(*split.values())) == sorted(f"case{i}" for i in range(10))
    assert {case.identity for case in finished.held_out} <= set(split["validation"])
    assert {case.subject for case in (one.case for one in finished.source.slices)} == set(split["train"])


def test_the_model_says_what_it_was_trained_on(finished):
    model = load_model(finished.folder / "model")
    assert (model.card.name, model.labels[0].name, model.card.training["licence"]) == ("tiny", "disc", "CC0")
    assert from_dict(TrainingConfig, model.card.training["configuration"]) == finished.config
    assert model.preprocessing.size == (SIZE, SIZE) and model.preprocessing.channels == ("image",)
    assert model.sampling == finished.config.sampling
    assert model.card.metrics["protocol"].startswith("validation: 2 cases, 2 samples each")


def test_the_contact_sheet_shows_images_raters_and_samples(finished):
    sheet = sitk.GetArrayFromImage(sitk.ReadImage(str(finished.folder / "samples" / "000000040.png")))
    step = SIZE + 2
    # Two cases; image, room for four raters, two samples, mean.
    assert sheet.shape == (2 * step - 2, (1 + 4 + 2 + 1) * step - 2, 3)
    for row, case in enumerate(finished.held_out):
        tile = sheet[row * step : row * step + SIZE]
        np.testing.assert_array_equal(tile[:, :SIZE, 0], np.round(case.image[0] * 255))
        for rater, mask in enumerate(case.masks):
            drawn = (tile[:, (1 + rater) * step : (1 + rater) * step + SIZE] == RATER).all(axis=2)
            assert drawn.any() and not drawn[mask == 0].any()


def test_a_network_beyond_memory_is_refused_before_it_is_made(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "memory_bytes", lambda: 100_000)
    with pytest.raises(ValueError, match=r"method_config describes a network of [0-9,]+ weights, .* Make it smaller"):
        make_trainer(tiny_config(), data, tmp_path)
    assert not any(tmp_path.iterdir())

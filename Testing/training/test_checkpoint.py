"""A run that was interrupted goes on bit for bit, and a checkpoint that does not fit is refused by name."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_training import (
    BUSY,
    assert_same_run,
    checkpoint_of,
    log_of,
    make_trainer,
    one_step,
    stop_after,
    tiny_config,
    with_images,
)

from AmbiguousSegLib.model import load_model
from AmbiguousSegLib.training.checkpoint import FILE, Progress

pytestmark = pytest.mark.numerical


def run(config, data, folder, **options) -> bool:
    return make_trainer(config, data, folder, **options).run()


@pytest.mark.slow
@pytest.mark.parametrize("labels", [["lesion"], ["core", "halo"]], ids=len)
@pytest.mark.parametrize("method", ["cimd", "probabilistic_unet"])
def test_interrupted_twice_is_uninterrupted(data, tmp_path, method, labels):
    changes = BUSY | {"labels": [{"name": name} for name in labels]}
    if len(labels) > 1:
        data = None
        changes["dataset.kind"] = "phantom"
    if method == "probabilistic_unet":
        del changes["method_config.unet.dropout"]
    config = tiny_config(changes | {"validation.every_images": 12, "checkpoint_every_images": 8}, method)
    assert run(config, data, tmp_path / "whole")
    for images in (8, 20):  # in the warm-up, and after a validation
        trainer = make_trainer(config, data, tmp_path / "parts", resume=images > 8)
        assert not trainer.run(stop_after(trainer, images))
        assert trainer.progress.images == images
        torch.manual_seed(images)  # nothing may depend on the global generator
    assert run(config, data, tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    whole, parts = (log_of(tmp_path / name, "loss") for name in ("whole", "parts"))
    assert [e["loss"] for e in whole] == [e["loss"] for e in parts]
    assert [e["images"] for e in parts] == list(range(4, 41, 4))
    whole, parts = (log_of(tmp_path / name, "validation") for name in ("whole", "parts"))
    assert whole == parts and len(whole) == 4  # on crossing 12, 24, 36, and at the end


def test_a_killed_run_goes_on_from_its_last_checkpoint(data, tmp_path):
    """Without a chance to save: steps after the checkpoint are done again, and give the same."""
    config = tiny_config(BUSY | {"checkpoint_every_images": 16})

    def killed(images: int, total: int, losses: dict) -> None:
        if images == 28:
            raise SystemError

    with pytest.raises(SystemError):
        make_trainer(config, data, tmp_path / "killed").run(killed)
    trainer = make_trainer(config, data, tmp_path / "killed", resume=True)
    assert trainer.progress.images == 16
    trainer.run()
    run(config, data, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_finished_run_goes_on_with_more_images(data, tmp_path):
    config = tiny_config({"validation.every_images": 20})
    run(with_images(config, 20), data, tmp_path / "parts")
    assert run(config, data, tmp_path / "parts", resume=True)
    run(config, data, tmp_path / "whole")
    ours, theirs = checkpoint_of(tmp_path / "parts"), checkpoint_of(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_resuming_a_finished_run_changes_nothing(data, tmp_path):
    run(tiny_config(), data, tmp_path)
    before = (tmp_path / FILE).read_bytes()
    assert run(tiny_config(), data, tmp_path, resume=True)
    assert (tmp_path / FILE).read_bytes() == before


def test_resume_without_a_checkpoint_starts(data, tmp_path):
    assert make_trainer(tiny_config(), data, tmp_path, resume=True).progress.images == 0


def test_a_folder_with_a_run_is_not_overwritten(data, tmp_path):
    run(tiny_config(), data, tmp_path)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(FileExistsError, match="holds a training run; resume it"):
        make_trainer(tiny_config(), data, tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory) -> Path:
    """Folder of a run that stopped after 8 of 40 images."""
    folder = tmp_path_factory.mktemp("stopped")
    trainer = make_trainer(tiny_config(), data, folder)
    trainer.run(stop_after(trainer, 8))
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimisation.learning_rate", 2e-3),
        ("optimisation.batch_size", 8),
        ("method_config.unet.model_channels", 16),
        ("augmentation.flip", True),
        ("dataset.target", "mean"),
        ("seed", 6),
    ],
)
def test_another_configuration_is_refused_by_the_name_of_its_key(data, stopped, key, value):
    with pytest.raises(ValueError, match=rf"was trained with {key} = .*, now it is {value!r}"):
        make_trainer(tiny_config({key: value}), data, stopped, resume=True)


def test_what_does_not_change_the_weights_may_change(data, stopped):
    changes = {
        "optimisation.images": 80,
        "validation.samples": 3,
        "checkpoint_every_images": 7,
        "tensorboard": True,
        "card.name": "new",
        "dataset.workers": 1,
    }
    assert make_trainer(tiny_config(changes), data, stopped, resume=True).progress.images == 8


def test_too_few_images_to_go_on_are_refused(data, stopped):
    with pytest.raises(ValueError, match=r"optimisation.images 10 leaves no batch of 4 .* after the 8 seen"):
        make_trainer(tiny_config({"optimisation.images": 10}), data, stopped, resume=True)


@pytest.mark.parametrize("size", [0, 5, 1000, -1])
def test_a_truncated_checkpoint_is_refused_in_one_line(data, stopped, tmp_path, size):
    whole = (stopped / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:size])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint") as error:
        make_trainer(tiny_config(), data, tmp_path, resume=True)
    assert "\n" not in str(error.value) and str(tmp_path / FILE) in str(error.value)


def test_other_safetensors_are_no_checkpoint(data, tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / FILE)
    with pytest.raises(ValueError, match="not a checkpoint of a training run"):
        make_trainer(tiny_config(), data, tmp_path, resume=True)


def unsealed(metadata):
    """Of version 0.1, which had no checksum."""
    return {key: value for key, value in metadata.items() if key != "sha256"}


def test_a_changed_bit_is_noticed(data, stopped, tmp_path):
    whole = (stopped / FILE).read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(start, len(whole), (len(whole) - start) // 5):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / FILE).write_bytes(changed)
        with pytest.raises(ValueError, match="does not agree with its checksum; take an earlier copy"):
            make_trainer(tiny_config(), data, tmp_path, resume=True)


def test_a_checkpoint_of_version_0_1_has_no_checksum_and_is_read(data, stopped, tmp_path):
    with safe_open(stopped / FILE, "pt") as file:
        save_file(checkpoint_of(stopped), tmp_path / FILE, unsealed(file.metadata()))
    (kept, told) = (make_trainer(tiny_config(), data, place, resume=True) for place in (stopped, tmp_path))
    assert told.progress == kept.progress


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("progress", "[1]", "progress must be a mapping"),
        ("progress", '{"images": -4}', "-4 images"),
        ("progress", '{"images": "many"}', "progress.images must be int"),
        ("progress", '{"epochs": 3}', "Unknown key progress.epochs"),
        ("progress", "[" * 10_000, "nested more than"),
        ("config", "[1]", "a configuration of 1 entries"),
        ("config", "{", "not valid JSON"),
        ("config", "{}", "was trained with method = None"),
        ("config", '{"method": "cimd", "labels": 3}', "unknown here"),
    ],
)
def test_words_of_a_checkpoint_that_cannot_be_are_refused(data, stopped, tmp_path, entry, value, words):
    with safe_open(stopped / FILE, "pt") as file:
        save_file(checkpoint_of(stopped), tmp_path / FILE, unsealed(file.metadata()) | {entry: value})
    with pytest.raises(ValueError, match=words) as error:
        make_trainer(tiny_config(), data, tmp_path, resume=True)
    assert str(tmp_path / FILE) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["optimizer.7", "optimizer.x.step", "optimizer.99999.step"])
def test_what_is_no_part_of_the_optimiser_is_refused(data, stopped, tmp_path, name):
    tensors = checkpoint_of(stopped)
    tensors[name] = tensors.pop("optimizer.0.step")
    with safe_open(stopped / FILE, "pt") as file:
        save_file(tensors, tmp_path / FILE, unsealed(file.metadata()))
    with pytest.raises(ValueError, match=f"{name} is not part of the optimiser"):
        make_trainer(tiny_config(), data, tmp_path, resume=True)


def test_a_checkpoint_that_is_no_file_is_not_waited_for(data, tmp_path):
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(ValueError, match="is a FIFO"):
        make_trainer(tiny_config(), data, tmp_path, resume=True)


def test_a_checkpoint_with_a_tensor_less_is_refused_by_its_name(data, stopped, tmp_path):
    tensors = checkpoint_of(stopped)
    del tensors["ema.module.unet.out.2.bias"]
    with safe_open(stopped / FILE, "pt") as file:
        save_file(tensors, tmp_path / FILE, unsealed(file.metadata()))
    with pytest.raises(ValueError, match=r"another architecture: module.unet.out.2.bias is missing"):
        make_trainer(tiny_config(), data, tmp_path, resume=True)


@pytest.fixture
def full_disk(monkeypatch):
    """From now on, writing bytes stops half-way for lack of space."""

    def fill() -> None:
        write = Path.write_bytes

        def half(path: Path, data: bytes) -> None:
            write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", half)

    return fill


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("every", "intact"), [(10_000, []), (4, ["model/model.safetensors", "model/model.json"])])
def test_a_full_disk_leaves_checkpoint_and_model_as_they_were(data, tmp_path, monkeypatch, full_disk, every, intact):
    """Once in writing a checkpoint, once in writing a model."""
    config = tiny_config({"validation.every_images": every, "checkpoint_every_images": 4})
    trainer = make_trainer(config, data, tmp_path)
    trainer.run(stop_after(trainer, 8))
    before = files(tmp_path)
    full_disk()
    trainer = make_trainer(config, data, tmp_path, resume=True)
    trainer.progress = Progress(8, best_images=4, best_ged=9.0)  # so that the next one is better
    with pytest.raises(OSError, match="No space left"):
        trainer.run()
    after = files(tmp_path)
    assert {name for name in after if name.split("/")[-1].startswith(".")} == set()
    assert all(after[name] == before[name] for name in (FILE, *intact))
    monkeypatch.undo()
    assert make_trainer(config, data, tmp_path, resume=True).progress.images == 8
    if every == 4:
        load_model(tmp_path / "model")


def test_initial_weights_follow_from_the_seed_alone(data, tmp_path):
    torch.manual_seed(99)
    first = one_step(tiny_config(), data, tmp_path / "a").method.state_dict()
    second = one_step(tiny_config(), data, tmp_path / "b").method.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = one_step(tiny_config({"seed": 6}), data, tmp_path / "c").method.state_dict()
    assert not torch.equal(first["unet.input_blocks.0.0.weight"], other["unet.input_blocks.0.0.weight"])


def test_metadata_says_where_the_run_stands(stopped):
    with safe_open(stopped / FILE, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["progress"]) == {"images": 8, "best_images": None, "best_ged": None}
    assert json.loads(metadata["config"])["optimisation"]["learning_rate"] == 1e-3

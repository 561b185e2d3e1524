"""Plans for data as it lies on disks: made and real; each is loaded, and gives a first batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from shared_data import shared_path

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.training import plan as planning
from AmbiguousSegLib.training.config import TrainingConfig, completed
from AmbiguousSegLib.training.dataset import batches, open_data
from AmbiguousSegLib.training.plan import Plan, plan_for
from AmbiguousSegLib.training.plan_file import as_yaml
from AmbiguousSegLib.training.plan_speed import Speed


@pytest.fixture(autouse=True)
def speed(monkeypatch):
    """That of any machine: the same in every run."""
    monkeypatch.setattr(planning, "measured_speed", lambda device: lambda *_: Speed(20, 60, 1000, 400))


def first_batch(made: Plan, folder: Path) -> tuple[TrainingConfig, np.ndarray, np.ndarray]:
    """The configuration as a file gives it, and the first batch of images and masks that it makes of the data."""
    config = completed(from_dict(TrainingConfig, yaml.safe_load(as_yaml(made)), ""))
    method = build_method(config.method, config.method_config)
    batch, _ = next(batches(open_data(config, folder).source, config, 0))
    assert batch.image.shape == (16, method.image_channels, *config.dataset.size)
    assert batch.mask.shape == (16, method.classes, *config.dataset.size)
    return config, batch.image.numpy(), batch.mask.numpy()


def write(file: Path, values: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> None:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing[: values.ndim])
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))


def ball(shape: tuple[int, ...], radius: float) -> np.ndarray:
    middle = [(n - 1) / 2 for n in shape]
    return np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), middle))) <= radius


def linked(source: Path, target: Path, name: str | None = None) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()) if source.is_dir() else [source]:
        (target / (name or file.name)).symlink_to(file.resolve())


# Made data


def test_four_sequences_of_mr_in_volumes(tmp_path):
    """Slices across the axis of 3 mm; a ball of 13 mm · 2 = 26 pixels, in images of 40."""
    rng = np.random.default_rng(0)
    for subject in range(6):
        place = tmp_path / f"p{subject}"
        for channel, factor in (("t1", 1), ("t1ce", 2), ("t2", 3), ("flair", 10)):
            values = (rng.random((12, 40, 40)) * 300 * factor).astype(np.float32)
            write(place / f"image_{channel}.nii.gz", values, (1.0, 1.0, 3.0))
        for rater, radius in (("anna", 5), ("ben", 6)):
            write(place / f"rater_{rater}.nii.gz", ball((12, 40, 40), radius).astype(np.uint8), (1.0, 1.0, 3.0))
    made = plan_for(tmp_path)
    data = made.config["dataset"]
    assert (data["kind"], data["plane"], data["spacing_mm"]) == ("folder", "axial", 1)
    assert data["size"] == [32, 32]  # the least; 26 would do
    assert data["intensity"] == {"rule": "percentile", "low": 0.5, "high": 99.5}
    assert len(data["channels"]) == 4
    assert "empty_share" not in data  # all 12 slices are marked
    assert (data["validation_fraction"], data["test_fraction"]) == (0.2, 0.2)
    _, image, mask = first_batch(made, tmp_path)
    assert 0 <= image.min() < 0.1 and 0.9 < image.max() <= 1
    assert mask.any((1, 2, 3)).mean() > 0.5


def three_classes(folder: Path) -> Path:
    for case in range(4):
        values = np.full((48, 48), 20, np.uint8) + np.arange(48, dtype=np.uint8)
        mask = ball((48, 48), 12).astype(np.uint8) + ball((48, 48), 8) + ball((48, 48), 4)
        write(folder / f"c{case}" / "image.png", values)
        write(folder / f"c{case}" / "rater_a.png", mask.astype(np.uint8))
    return folder


def test_masks_of_several_values_are_classes(tmp_path):
    made = plan_for(three_classes(tmp_path))
    assert [label["name"] for label in made.config["labels"]] == ["class 1", "class 2", "class 3"]
    assert len({tuple(label["color"]) for label in made.config["labels"][1:]}) == 2
    config, _, mask = first_batch(made, tmp_path)
    assert mask.any((0, 2, 3)).all()
    assert len(config.labels) == 3


def test_labels_that_are_given_are_taken(tmp_path):
    names = [Label("rim"), Label("halo"), Label("core")]
    assert plan_for(three_classes(tmp_path), labels=names).config["labels"] == [{"name": label.name} for label in names]
    with pytest.raises(ValueError, match=r"rater_a\.png"):
        plan_for(tmp_path, labels=[Label("one")])


def test_a_file_that_cannot_be_read_is_named_though_it_is_tried_with_classes(tmp_path):
    three_classes(tmp_path)
    (tmp_path / "c2" / "rater_a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"c2.rater_a\.png") as error:
        plan_for(tmp_path)
    assert "\n" not in str(error.value)


def test_names_of_channels_and_classes_come_from_the_data(tmp_path):
    described = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "edema": 1, "core": 2}}
    described |= {"numTraining": 1, "file_ending": ".nii.gz"}
    tmp_path.joinpath("dataset.json").write_text(json.dumps(described), encoding="utf-8")
    values = np.linspace(0, 900, 8 * 40 * 40, dtype=np.float32).reshape(8, 40, 40)
    for channel in range(2):
        write(tmp_path / "imagesTr" / f"a_{channel:04d}.nii.gz", values)
    mask = ball((8, 40, 40), 6).astype(np.uint8) + ball((8, 40, 40), 3)
    write(tmp_path / "labelsTr" / "a.nii.gz", mask.astype(np.uint8))
    made = plan_for(tmp_path)
    assert made.config["dataset"]["channels"] == ["T1", "FLAIR"]
    assert [label["name"] for label in made.config["labels"]] == ["edema", "core"]
    first_batch(made, tmp_path)


def test_prepared_data_know_their_labels(tmp_path):
    folder, names = three_classes(tmp_path / "raw"), ["rim", "halo", "core"]
    labels = json.dumps([{"name": name} for name in names])
    assert main(["prepare", "--data", str(folder), "--out", str(tmp_path / "prepared"), "--labels", labels]) == 0
    original, prepared = plan_for(folder, labels=[Label(name) for name in names]), plan_for(tmp_path / "prepared")
    assert prepared.config["labels"] == original.config["labels"]
    for section in ("method_config", "augmentation", "optimisation"):
        assert prepared.config[section] == original.config[section]
    first_batch(prepared, tmp_path / "prepared")


def arrays(folder: Path, **entries) -> Path:
    """A list of twenty crops in two parts; those of the test have no lesion, and values far from the others'."""
    values = np.tile(np.arange(40, dtype=np.int16), (20, 40, 1))
    masks = np.tile(ball((40, 40), 5), (20, 1, 1, 1)).astype(np.uint8)
    values[15:] = 30_000
    masks[15:] = 0
    parts = np.array(["train"] * 15 + ["test"] * 5)
    np.savez(folder / "crops.npz", values=values, masks=masks, part=parts)
    entry = {"npz": "crops.npz", "image": "values", "raters": "masks", "part": "part"} | entries
    (folder / "cases.json").write_text(json.dumps(entry), encoding="utf-8")
    return folder


def test_nothing_of_a_plan_comes_from_cases_of_the_test(tmp_path):
    made = plan_for(arrays(tmp_path))
    assert made.config["dataset"]["intensity"] == {"rule": "full_scale", "high": 255}
    assert made.config["dataset"]["test_fraction"] == 0
    assert "15 cases" in made.config["card"]["training_data"]
    first_batch(made, tmp_path)


def test_subjects_by_their_pattern(tmp_path):
    folder = three_classes(tmp_path)
    made = plan_for(folder, subject_pattern="(c)")
    assert made.config["dataset"]["subject_pattern"] == "(c)"
    assert made.config["dataset"]["validation_fraction"] == 0  # they are all of one subject


def test_progress_is_told(tmp_path):
    told = []
    plan_for(arrays(tmp_path), on_case=lambda number, of: told.append((number, of)))
    assert told == [(number, 15) for number in range(1, 16)]


# Real data


def test_lidc_nodules(tmp_path):
    folder = shared_path("data/lidc_nodules")
    entry = {"npz": "", "image": "images_hu", "raters": "masks", "subject": "patient", "spacing": "spacing"}
    entries = [{**entry, "npz": str(folder / f"{part}.npz"), "part": part} for part in ("train", "test")]
    (tmp_path / "cases.json").write_text(json.dumps(entries), encoding="utf-8")
    made = plan_for(tmp_path)
    data = made.config["dataset"]
    assert (data["plane"], data["spacing_mm"], data["size"]) == ("axial", 0.70312, [64, 64])
    assert (data["channels"], data["intensity"]) == (["CT"], {"rule": "window", "low": -1000, "high": 400})
    assert (data["validation_fraction"], data["test_fraction"]) == (0.1, 0)
    assert made.config["augmentation"]["translate"] == 0.15
    assert "2012 cases of 649 subjects, each with masks of 4 rater(s)" in made.config["card"]["training_data"]


@pytest.mark.slow
def test_chest_ct_as_a_volume(tmp_path):
    """One nodule of 14 mm on three of 48 slices, in pixels of 0.57 mm."""
    for file, name in (("lung1_image.nrrd", "image.nrrd"), ("lung1_label.nrrd", "label.nrrd")):
        linked(shared_path(f"data/chest_ct/{file}"), tmp_path / "chest", name)
    made = plan_for(tmp_path)
    data = made.config["dataset"]
    assert (data["plane"], data["spacing_mm"], data["size"]) == ("axial", 0.57031, [64, 64])
    assert (data["channels"], data["intensity"]) == (["CT"], {"rule": "window", "low": -1000, "high": 400})
    assert (data["validation_fraction"], data["test_fraction"]) == (0, 0)
    assert (data["empty_share"], data["shift"]) == (0.15, 0.25)
    _, _, mask = first_batch(made, tmp_path)
    assert mask.any((1, 2, 3)).sum() >= 10  # 85 % of the slices have the nodule, which lies in the patch


def test_bu_bil(tmp_path):
    """Four pictures of each set, half of them of 64 pixels and half of 128, of which what is outlined fills 66 %."""
    for place in sorted(shared_path("data/bu_bil").iterdir()):
        for case in sorted(place.iterdir())[:4] if place.is_dir() else []:
            linked(case, tmp_path / place.name / case.name)
    made = plan_for(tmp_path)
    data = made.config["dataset"]
    assert (data["plane"], data["spacing_mm"], data["size"]) == ("stored", None, [72, 72])  # 48 / 0.66
    assert data["intensity"] == {"rule": "full_scale", "high": 255}
    augmentation = made.config["augmentation"]
    assert (augmentation["rotate_degrees"], augmentation["translate"], augmentation["gain"]) == (180, 0.05, 0.15)
    first_batch(made, tmp_path)


def test_lidc_crops():
    folder = shared_path("data/lidc_crops")
    made = plan_for(folder)
    data = made.config["dataset"]
    assert (data["plane"], data["spacing_mm"], data["size"]) == ("stored", None, [128, 128])
    assert data["intensity"] == {"rule": "full_scale", "high": 255}
    assert made.config["method_config"]["unet"]["channel_mult"] == [1, 1, 2, 4, 4]
    first_batch(made, folder)

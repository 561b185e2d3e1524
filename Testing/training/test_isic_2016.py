"""The preset of SegDiff on ISIC 2016 with folders named as they are downloaded: colours, parts, training, judging."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from tiny_training import UNET, log_of

pytest.importorskip("jsonargparse", reason="training is not installed")

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.model import load_model
from AmbiguousSegLib.training.dataset import open_data

SKIN, LESION = (200, 130, 90), (90, 60, 40)
NUMBERS = {"Training": (0, 1, 2, 4, 6, 7), "Test": (3, 12)}
SHAPES = ((32, 48), (64, 96))  # pictures are of many sizes
SMALL = {
    "method_config": {
        "unet": {**UNET, "channel_mult": [1, 2], "attention_sizes": [], "num_heads": 1},
        "encoder": {"filters": 4, "growth": 2, "blocks": 1},
    },
    "dataset": {"size": [16, 16]},
    "optimisation": {"images": 16},
    "validation": {"every_images": 16, "cases": 1, "samples": 2},
    "sampling": {"steps": 2},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Part 1: a lesion in the middle, half as high and as wide as the picture."""
    folder = tmp_path_factory.mktemp("ISIC 2016")
    for part, numbers in NUMBERS.items():
        pictures, masks = (folder / f"ISBI2016_ISIC_Part1_{part}_{kind}" for kind in ("Data", "GroundTruth"))
        pictures.mkdir(), masks.mkdir()
        for number in numbers:
            height, width = SHAPES[number % 2]
            marked = np.zeros((height, width), bool)
            marked[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
            picture = np.where(marked[..., None], LESION, SKIN).astype(np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(pictures / f"ISIC_{number:07d}.jpg"))
            mask = sitk.GetImageFromArray(np.uint8(255) * marked)
            sitk.WriteImage(mask, str(masks / f"ISIC_{number:07d}_Segmentation.png"))
    return folder


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """The preset with small networks on small pictures."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(SMALL))), encoding="utf-8")
    return ["--config", "isic2016-segdiff-256", "--config", str(path)]


def identities(part: str) -> list[str]:
    return [f"ISIC_{number:07d}" for number in NUMBERS[part]]


def test_pictures_are_stretched_in_colour_and_the_folders_names_are_the_parts(data, arguments):
    config = parse([*arguments, "--out", "unused"])[1]
    opened = open_data(config, data)
    split = opened.split.subjects()
    assert split["test"] == identities("Test")
    assert sorted(split["train"] + split["validation"]) == identities("Training")
    assert len(split["validation"]) == 1
    for position in range(5):
        image, mask, corner = opened.source.draw(position, np.random.default_rng(0))
        assert image.shape == (3, 16, 16) and corner == (0, 0)
        np.testing.assert_array_equal(mask[0, 4:12, 4:12], 1)
        assert mask.sum() == 64
        for channel, skin, lesion in zip(image, SKIN, LESION):  # but for JPEG
            assert [255 * channel[1, 1], 255 * channel[8, 8]] == pytest.approx([skin, lesion], abs=8)


@pytest.mark.slow
def test_it_trains_and_is_judged_on_the_test_part(data, arguments, tmp_path):
    places = ["--data", str(data), "--device", "cpu"]
    assert main(["train", *arguments, *places, "--out", str(tmp_path / "run")]) == 0
    losses = [entry["loss"] for entry in log_of(tmp_path / "run", "loss")]
    assert len(losses) == 4 and np.isfinite(losses).all()
    model = load_model(tmp_path / "run" / "model")
    assert model.preprocessing.channels == ("red", "green", "blue") and model.method.name == "segdiff"
    stored = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert stored["augmentation"]["dark_corners"] == 0.3 and stored["method_config"] == to_dict(model.method.config)
    judged = ["--model", str(tmp_path / "run" / "model"), "--part", "test", "--samples", "2", "--no-figure"]
    assert main(["evaluate", *places, *judged, "--out", str(tmp_path / "out")]) == 0
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["table"]["rows"]
    assert np.isfinite(row["ged_u"])

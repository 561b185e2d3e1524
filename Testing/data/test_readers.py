"""A reader is one function: what it gives is trained and evaluated on, and what it gives wrongly is refused."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_training import SIZE, checkpoint_of, make_trainer, tiny_config

from AmbiguousSegLib import cli
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import READERS, load_case
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label


@dataclass(frozen=True)
class ArrayCase:
    """A case of the toy layout: one ``.npz`` file with ``image`` and ``masks``."""

    file: Path
    rater_names: tuple[str, ...] = ("a", "b")
    group: str = ""

    @property
    def identity(self) -> str:
        return self.file.stem

    subject = identity

    def load_image(self) -> np.ndarray:
        return np.load(self.file)["image"]

    def load_masks(self) -> np.ndarray:
        return np.load(self.file)["masks"]


@pytest.fixture
def arrays(tmp_path):
    """The toy reader, known as "arrays" for the length of a test, and a folder for it; what it was called with."""
    asked = []

    @READERS.register("arrays")
    def read(folder, config, labels):
        asked.append((folder, config.kind, [label.name for label in labels]))
        return [ArrayCase(file) for file in sorted(folder.glob("*.npz"))]

    folder = tmp_path / "arrays"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        image = rng.random((1, 2 * SIZE, 2 * SIZE), np.float32)
        masks = rng.integers(0, 2, (2, SIZE, SIZE)).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
        np.savez(folder / f"case{i}.npz", image=image, masks=masks)
    yield folder, asked
    READERS.unregister("arrays")


def test_a_reader_in_one_function_trains_and_evaluates(arrays, tmp_path):
    folder, asked = arrays
    config = tiny_config({"dataset.kind": "arrays", "dataset.test_fraction": 0.3, "optimisation.images": 8})
    trainer = make_trainer(config, folder, tmp_path / "run")
    assert trainer.run()
    assert asked == [(folder, "arrays", ["lesion"])]
    (image, mask) = trainer.source.pair(0, np.random.default_rng(0))
    assert image.shape == mask.shape == (1, SIZE, SIZE)
    assert checkpoint_of(tmp_path / "run")
    command = ["evaluate", "--model", str(tmp_path / "run" / "model"), "--data", str(folder), "--samples", "2"]
    assert cli.main([*command, "--no-figure", "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    split = json.loads((tmp_path / "run" / "split.json").read_text(encoding="utf-8"))
    assert summary["cases"] == split["test"] and len(split["test"]) == 2
    assert [kind for _, kind, _ in asked] == ["arrays"] * 2


def test_an_unknown_kind_lists_the_readers(arrays):
    assert DataConfig("arrays").kind == "arrays"
    with pytest.raises(ValueError, match=r"DataConfig.kind must be one of .*folder, arrays, phantom, got 'dicom'"):
        DataConfig("dicom")


@dataclass(frozen=True, eq=False)
class FixedCase:
    image: np.ndarray
    masks: np.ndarray
    identity: str = "c"

    def load_image(self) -> np.ndarray:
        return self.image

    def load_masks(self) -> np.ndarray:
        return self.masks


def test_what_no_case_should_give_is_refused_by_its_name():
    image, masks = np.zeros((1, 4, 4), np.float32), np.zeros((2, 4, 4), np.uint8)
    good = FixedCase(image, masks)
    assert load_case(good, (4, 4), 1)[1] is masks
    for changes, words in (
        ({"image": image.astype(float)}, "c: expected an image float32"),
        ({"masks": masks.astype(bool)}, "masks uint8"),
        ({"masks": masks[:0]}, "at least one rater"),
        ({"masks": masks[:, :3]}, "on the image's grid"),
        ({"masks": masks + 2}, "a mask holds the label 2, but there are 1"),
    ):
        with pytest.raises(ValueError, match=words):
            load_case(dataclasses.replace(good, **changes), (4, 4), 1)


def test_a_reader_is_given_the_labels(arrays):
    folder, asked = arrays
    config = DataConfig("arrays")
    cases = READERS["arrays"](folder, config, (*DEFAULT_LABELS, Label("edema")))
    assert len(cases) == 8 and asked[-1][2] == ["lesion", "edema"]

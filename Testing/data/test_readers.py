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
from AmbiguousSegLib.data import readers
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import READERS, Layout, load_case, read_all, recognised, with_reader
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.registry import Registry
from AmbiguousSegLib.volume.geometry import Geometry


@dataclass(frozen=True)
class ArrayCase:
    """A case of the toy layout: one ``.npz`` file with ``image`` and ``masks``."""

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
        image = np.load(self.file)["image"][:, None]
        return image, flat(*image.shape[2:])

    def load_masks(self) -> np.ndarray:
        return np.load(self.file)["masks"][:, None]


def flat(rows: int, columns: int) -> Geometry:
    """Grid of a picture."""
    return Geometry((columns, rows, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


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
        image = 255 * rng.random((1, 2 * SIZE, 2 * SIZE), np.float32)
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
    image, mask, _ = trainer.source.draw(0, np.random.default_rng(0))
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
    with pytest.raises(ValueError, match=r"kind must be one of auto, .*folder, .*arrays, phantom, got 'dicom'"):
        DataConfig("dicom")


@dataclass(frozen=True, eq=False)
class FixedCase:
    image: np.ndarray
    masks: np.ndarray
    identity: str = "c"
    rater_names: tuple[str, ...] = ("a", "b")
    shape: tuple[int, int] = (4, 4)

    def load_image(self) -> tuple[np.ndarray, Geometry]:
        return self.image, flat(*self.shape)

    def load_masks(self) -> np.ndarray:
        return self.masks


def test_what_no_case_should_give_is_refused_by_its_name():
    image, masks = np.zeros((1, 1, 4, 4), np.float32), np.zeros((2, 1, 4, 4), np.uint8)
    good = FixedCase(image, masks)
    assert load_case(good, 1)[2] is masks
    for changes, words in (
        ({"image": image > 0}, "c: expected an image of real numbers"),
        ({"image": image[0]}, "c: expected an image of real numbers"),
        ({"image": image[:0]}, "does not fit its grid"),
        ({"shape": (4, 5)}, "does not fit its grid"),
        ({"masks": masks.astype(bool)}, "masks uint8"),
        ({"masks": masks[:0], "rater_names": ()}, "at least one"),
        ({"masks": masks[:1]}, "masks of 2 rater"),
        ({"masks": masks[:, :, :3]}, "on the image's grid"),
        ({"masks": masks + 2}, "a mask holds the label 2, but there are 1"),
    ):
        with pytest.raises(ValueError, match=words):
            load_case(dataclasses.replace(good, **changes), 1)


def test_two_cases_of_one_name_are_refused(arrays):
    folder, _ = arrays
    (folder / "more").mkdir()
    (folder / "case0.npz").rename(folder / "more" / "case1.npz")
    read = READERS["arrays"]

    @READERS.register("deep arrays")
    def read_deep(folder, config, labels):
        return [*read(folder, config, labels), *read(folder / "more", config, labels)]

    try:
        with pytest.raises(ValueError, match="two cases are called 'case1'"):
            read_all(folder, DataConfig("deep arrays"), DEFAULT_LABELS)
    finally:
        READERS.unregister("deep arrays")


@pytest.fixture
def layouts(monkeypatch):
    """Two specific layouts and a general one, which recognise the files that are called so."""
    found = Registry("layout of data")
    for name, specific in (("one", True), ("two", True), ("general", False)):

        @found.register(name)
        def recognise(folder, name=name, specific=specific):
            return Layout(f"data of {name}", specific) if (folder / name).exists() else None

        monkeypatch.setitem(READERS._entries, name, lambda *_: [])
        monkeypatch.setitem(READERS._modules, name, __name__)
    monkeypatch.setattr(readers, "LAYOUTS", found)


@pytest.mark.parametrize(("files", "kind"), [(["one"], "one"), (["two", "general"], "two"), (["general"], "general")])
def test_a_specific_layout_goes_before_a_general_one(layouts, tmp_path, files, kind):
    for name in files:
        (tmp_path / name).touch()
    assert recognised(tmp_path) == (kind, f"data of {kind}")
    assert with_reader(tmp_path, DataConfig()).kind == kind
    assert with_reader(tmp_path, DataConfig("folder")).kind == "folder"  # named is named


def test_what_is_not_or_doubly_recognised_is_refused(layouts, tmp_path):
    with pytest.raises(ValueError, match="no layout of data is recognised here.*dataset.kind: "):
        recognised(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"several ways: one \(data of one\); two \(data of two\)"):
        recognised(tmp_path)
    with pytest.raises(ValueError, match="there is no such folder or file"):
        recognised(tmp_path / "absent")


def test_a_reader_is_given_the_labels(arrays):
    folder, asked = arrays
    config = DataConfig("arrays")
    cases = READERS["arrays"](folder, config, (*DEFAULT_LABELS, Label("edema")))
    assert len(cases) == 8 and asked[-1][2] == ["lesion", "edema"]

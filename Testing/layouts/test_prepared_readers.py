"""Prepared data of every layout give what its own reader gives, whatever the settings say; or refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shared_data import shared_path
from test_one_road import LAYOUTS as ROADS
from test_one_road import brats, mask, picture, raw_nnunet, table_of_files, volume

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import inspect
from AmbiguousSegLib.data.readers import LAYOUTS, read_all
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label

RNG = np.random.default_rng(3)
TOLD = DataConfig(spacing_mm=0.7, size=(24, 10), intensity=DataConfig().intensity)


def arrays(root: Path) -> None:
    """A list of pictures without a spacing and of volumes of two channels in arrays."""
    pictures, volumes = RNG.integers(0, 255, (3, 12, 9), np.uint8), RNG.integers(-900, 300, (2, 2, 5, 8, 7), np.int16)
    np.savez(root / "a.npz", p=pictures, pm=mask((3, 2, 12, 9)), v=volumes, vm=mask((2, 3, 5, 8, 7)), who=["x", "y"])
    entries = [
        {"npz": "a.npz", "image": "p", "raters": "pm", "part": "train"},
        {"npz": "a.npz", "image": "v", "raters": "vm", "subject": "who", "identity": "who", "spacing": [2, 1.5, 0.3]},
    ]
    (root / "cases.json").write_text(json.dumps(entries), encoding="utf-8")


WRITERS: dict[str, Callable[[Path], object]] = {name: write for name, (_, write, _) in ROADS.items()}
WRITERS["arrays"] = arrays


@pytest.fixture
def prepared(tmp_path, capsys):
    """Writes data, prepares them with the options given, and returns both folders."""

    def run(write: Callable[[Path], object], *options: str) -> tuple[Path, Path]:
        data, out = tmp_path / "data", tmp_path / "out"
        data.mkdir()
        write(data)
        assert main(["prepare", "--data", str(data), "--out", str(out), *options]) == 0, capsys.readouterr().err
        return data, out

    return run


def assert_same(out: Path, data: Path, config: DataConfig, labels=DEFAULT_LABELS) -> None:
    cases, originals = read_all(out, config, labels), read_all(data, config, labels)
    assert len(cases) == len(originals) > 0
    for case, original in zip(cases, originals):
        for name in ("identity", "subject", "group", "part", "modality", "rater_names"):
            assert getattr(case, name) == getattr(original, name)
        (values, geometry), (expected, grid) = case.load_image(), original.load_image()
        assert geometry == grid
        assert values.astype(expected.dtype).tobytes() == expected.tobytes()
        np.testing.assert_array_equal(case.load_masks(), original.load_masks())
        assert inspect(case, len(labels)) == inspect(original, len(labels))


@pytest.mark.parametrize("layout", WRITERS)  # test_one_road asks that no reader is missing
def test_every_reader(prepared, layout):
    data, out = prepared(WRITERS[layout])
    for config in (DataConfig(), TOLD):
        assert_same(out, data, config)


FOLDER = ("t1", "flair", "t2")


def folder_of_channels(root: Path) -> None:
    for name in FOLDER:
        volume(root / "a" / f"image_{name}.nrrd", RNG.integers(0, 900, (9, 14, 11), np.int16))
    volume(root / "a" / "rater_x.nrrd", mask((9, 14, 11)))


@pytest.mark.parametrize(
    ("write", "asked"),
    [
        (folder_of_channels, [("t2", "T1"), ("flair",), ("a", "b", "c"), ("flair", "t1", "t2")]),
        (table_of_files, [("t2", "t1"), ("T1",), ("x", "y")]),
        (raw_nnunet, [("b", "a"), ("b",), ("MR", "other")]),
        (brats, [("FLAIR", "T1"), ("t1-c",), ("t2f", "T2w", "t1n", "t1gd"), ("1", "2", "3", "4"), ("T1ce",)]),
    ],
)
def test_channels_are_chosen_by_name_as_from_the_original(prepared, write, asked):
    data, out = prepared(write)
    for channels in asked:
        assert_same(out, data, DataConfig(channels=channels))


def test_images_without_a_name_name_no_channel(prepared):
    _, out = prepared(WRITERS["pictures"])
    assert LAYOUTS["prepared"](out).channels == ()


def test_channels_that_are_not_all_there_are_refused(prepared):
    data, out = prepared(brats)
    assert main(["prepare", "--data", str(data), "--out", str(out), "--overwrite", "--dataset.channels", "PET"]) == 2
    words = r"prepared with the channels T1, T1ce, T2, FLAIR, now FLAIR, PET are asked for; name some of those"
    with pytest.raises(ValueError, match=words):
        read_all(out, DataConfig(channels=("FLAIR", "PET")), DEFAULT_LABELS)


def test_of_channels_chosen_at_first_no_other_is_taken_for_one(prepared):
    """T1 is no mere name where only FLAIR and T2 were kept."""
    data, out = prepared(brats, "--dataset.channels", "flair", "T2")
    for channels in (("T2", "FLAIR"), ("FLAIR",)):
        assert_same(out, data, DataConfig(channels=channels))
    for channels in (("T1", "T1ce"), ("image",)):
        with pytest.raises(ValueError, match="prepared with the channels FLAIR, T2, now"):
            read_all(out, DataConfig(channels=channels), DEFAULT_LABELS)


def test_channels_without_names_cannot_be_chosen(tmp_path, capsys):
    picture(tmp_path / "data" / "a" / "image.png", RNG.integers(0, 255, (6, 5, 3), np.uint8))
    picture(tmp_path / "data" / "a" / "rater_x.png", mask((6, 5)))
    command = ["prepare", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main([*command, "--dataset.channels", "red"]) == 2
    assert "no image of a is called red; they are called by no names" in capsys.readouterr().err
    assert main(command) == 0
    (case,) = read_all(tmp_path / "out", DataConfig(channels=("red", "green", "blue")), DEFAULT_LABELS)
    assert case.load_image()[0].shape == (3, 1, 6, 5)


def nnunet_of_two_classes(root: Path) -> None:
    raw_nnunet(root)
    for name in ("p1", "p2"):
        values = mask((9, 14, 11))
        values[4:] *= 2
        volume(root / "labelsTr" / f"{name}.nii.gz", values)
    described = json.loads((root / "dataset.json").read_text())
    described["labels"] = {"background": 0, "core": 1, "halo": 2}
    (root / "dataset.json").write_text(json.dumps(described))


def test_labels_that_the_data_names_are_those_of_what_is_prepared(prepared):
    data, out = prepared(nnunet_of_two_classes)
    assert_same(out, data, DataConfig(), (Label("core"), Label("halo")))
    with pytest.raises(ValueError, match=r"prepared for the label\(s\) core, halo, now lesion are asked for"):
        read_all(out, DataConfig(), DEFAULT_LABELS)
    layout = LAYOUTS["prepared"](out)
    assert [label.name for label in layout.labels] == ["core", "halo"] and layout.channels == ("a", "b")


def test_one_label_is_a_mere_name_unless_it_chooses_a_class(prepared, tmp_path):
    data, out = prepared(nnunet_of_two_classes, "--labels", "halo")
    assert_same(out, data, DataConfig(), (Label("halo"),))
    with pytest.raises(ValueError, match=r"prepared for the label\(s\) halo, now core are asked for"):
        read_all(out, DataConfig(), (Label("core"),))
    (tmp_path / "one").mkdir()
    raw_nnunet(tmp_path / "one")
    assert main(["prepare", "--data", str(tmp_path / "one"), "--out", str(tmp_path / "of_one")]) == 0
    assert_same(tmp_path / "of_one", tmp_path / "one", DataConfig(), (replace(DEFAULT_LABELS[0], name="nodule"),))


def test_real_crops(tmp_path):
    crops = shared_path("data/lidc_crops")
    assert main(["prepare", "--data", str(crops), "--out", str(tmp_path)]) == 0
    assert_same(tmp_path, crops, DataConfig(spacing_mm=0.6, size=(128, 128)))


@pytest.mark.slow
def test_a_real_volume(prepared):
    scan = shared_path("data/chest_ct")

    def listed(root: Path) -> None:
        row = {"image": str(scan / "lung1_image.nrrd"), "rater": str(scan / "lung1_label.nrrd"), "modality": "CT"}
        (root / "cases.json").write_text(json.dumps([row]), encoding="utf-8")

    data, out = prepared(listed)
    assert_same(out, data, DataConfig())
    (case,) = read_all(out, DataConfig(), DEFAULT_LABELS)
    values, _ = case.load_image()
    assert isinstance(values, np.memmap) and values.dtype == np.int16 and values.shape == (1, 48, 512, 512)

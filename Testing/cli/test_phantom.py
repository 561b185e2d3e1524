"""The subcommand ``phantom``: what it writes is the phantom, in the layout that training reads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib import cli
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.lung_phantom import phantom_case, phantom_volume, window
from AmbiguousSegLib.data.readers import read_all
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.volume.io import read_mask
from AmbiguousSegLib.volume.segments import read_rater_maps


def test_cases_are_read_as_training_data(tmp_path):
    assert cli.main(["phantom", "--cases", "3", "--raters", "5", "--seed", "4", "--out", str(tmp_path)]) == 0
    cases = read_all(tmp_path, DataConfig(), DEFAULT_LABELS)
    assert [len(case.rater_names) for case in cases] == [5, 5, 5]
    for index, case in enumerate(cases):
        phantom = phantom_case(4, index)
        assert np.abs(case.load_image()[0][0, 0] / 255 - window(phantom.image)).max() <= 0.5 / 255 + 1e-6
        masks = phantom.draw_masks(np.random.default_rng([4, 1, index]), 5)
        assert np.array_equal(case.load_masks()[:, 0], masks)
        truth = json.loads((tmp_path / case.identity / "truth.json").read_text(encoding="utf-8"))
        assert np.allclose(truth["probabilities"], phantom.mode_probabilities)


def test_a_volume_comes_with_its_raters(tmp_path):
    assert cli.main(["phantom", "--volume", "--raters", "2", "--out", str(tmp_path)]) == 0
    phantom = phantom_volume(0)
    image = sitk.ReadImage(str(tmp_path / "image.nrrd"))
    assert image.GetSpacing() == (1.0, 1.0, 2.0)
    assert np.array_equal(sitk.GetArrayFromImage(image), phantom.image)
    masks = phantom.draw_masks(np.random.default_rng([0, 1]), 2)
    for k in range(2):
        assert np.array_equal(read_mask(tmp_path / f"rater_{k + 1}.seg.nrrd"), masks[k])


def test_cases_of_two_classes_are_read_as_training_data(tmp_path):
    assert cli.main(["phantom", "--cases", "2", "--classes", "2", "--seed", "4", "--out", str(tmp_path)]) == 0
    for index, case in enumerate(read_all(tmp_path, DataConfig(), (Label("core"), Label("halo")))):
        masks = phantom_case(4, index, classes=2).draw_masks(np.random.default_rng([4, 1, index]), 4)
        assert np.array_equal(case.load_masks()[:, 0], masks)
        assert json.loads((tmp_path / case.identity / "truth.json").read_text(encoding="utf-8"))["labels"] == [
            "core",
            "halo",
        ]


def test_raters_of_a_two_class_volume_are_segmentations_of_core_and_halo(tmp_path):
    command = ["phantom", "--volume", "--classes", "2", "--raters", "2", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    masks = phantom_volume(0, classes=2).draw_masks(np.random.default_rng([0, 1]), 2)
    assert set(np.unique(masks)) == {0, 1, 2}
    for k in range(2):
        read = read_rater_maps(tmp_path / f"rater_{k + 1}.seg.nrrd", ["core", "halo"])
        assert list(read.masks) == [f"rater_{k + 1}"] and np.array_equal(read.masks[f"rater_{k + 1}"], masks[k])


def test_impossible_numbers_are_one_line(tmp_path, capsys):
    assert cli.main(["phantom", "--cases", "0", "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.startswith("error: ") and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("what", "fewer", "stale"),
    [
        (["--cases", "2"], ["--cases", "1"], "case_0001/rater_1.png"),
        (["--cases", "1", "--raters", "3"], ["--cases", "1", "--raters", "2"], "case_0000/rater_3.png"),
        (["--volume", "--raters", "3"], ["--volume", "--raters", "2"], "rater_3.seg.nrrd"),
    ],
)
def test_masks_of_an_earlier_call_are_never_mixed_in(tmp_path, capsys, what, fewer, stale):
    for _ in range(2):  # the same again is written over
        assert cli.main(["phantom", *what, "--out", str(tmp_path)]) == 0
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    assert cli.main(["phantom", *fewer, "--seed", "1", "--out", str(tmp_path)]) == 2
    assert f"holds {stale}, which would stay among the new masks" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()} == before

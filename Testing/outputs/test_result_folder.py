"""Files of a sample set: read back, complete or absent."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.outputs import result_folder as outputs
from AmbiguousSegLib.outputs.result_folder import write_outputs
from AmbiguousSegLib.plotting.overview import most_disagreement, overview
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_mask

ANGLE = np.deg2rad(30)
OBLIQUE = (np.cos(ANGLE), -np.sin(ANGLE), 0, np.sin(ANGLE), np.cos(ANGLE), 0, 0, 0, 1.0)
GRID = Geometry((12, 10, 5), (0.5, 0.5, 2.0), (3.0, -4.0, 5.0), OBLIQUE)  # a voxel is 0.0005 mL


@pytest.fixture
def sample_set():
    masks = np.zeros((3, 5, 10, 12), bool)
    masks[0, 1:3, 2:6, 3:9] = True  # 48 voxels
    masks[1, 1:4, 2:6, 3:9] = True  # 72 voxels; the third sample is empty
    return SampleSet(masks, GRID, {"seed": 7, "first_sample": 0}, "nodule")


@pytest.fixture
def volume():
    return np.random.default_rng(0).random((1, 5, 10, 12), dtype=np.float32)


def test_every_file_reads_back(sample_set, volume, tmp_path):
    written = write_outputs(sample_set, volume, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in written)
    for k in range(3):
        assert np.array_equal(read_mask(tmp_path / f"out/sample_{k + 1:02d}.seg.nrrd", GRID), sample_set.masks[k])
    assert np.array_equal(read_mask(tmp_path / "out/consensus.seg.nrrd", GRID), sample_set.masks[0])
    mean = sitk.ReadImage(str(tmp_path / "out/mean.nrrd"))
    assert mean.GetPixelID() == sitk.sitkFloat32 and Geometry.of(mean).same_grid(GRID)
    expected = np.zeros(GRID.shape)
    expected[1:3, 2:6, 3:9], expected[3, 2:6, 3:9] = 2 / 3, 1 / 3
    assert np.allclose(sitk.GetArrayFromImage(mean), expected, atol=1e-6)
    variance = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out/variance.nrrd")))
    assert np.allclose(variance, 2 / 9 * (expected > 0), atol=1e-6)  # 2/3 · 1/3 both times
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out/overview.png")))
    assert picture.ndim == 3 and picture.std() > 10


def test_summary_states_volumes(sample_set, volume, tmp_path):
    write_outputs(sample_set, volume, tmp_path / "out")
    summary = json.loads((tmp_path / "out/samples.json").read_text())
    assert np.allclose(summary["volume"]["samples"], [0.024, 0.036, 0.0])
    assert np.isclose(summary["volume"]["mean"], 0.02)
    # percentiles by linear interpolation between 0, 0.024 and 0.036: 2.5 % of the way is 0.05 steps from an end
    assert np.allclose(summary["volume"]["interval_95"], [0.05 * 0.024, 0.024 + 0.95 * 0.012])
    assert np.isclose(summary["consensus"]["volume_ml"], 0.024)
    assert summary["seed"] == 7 and summary["grid"]["size"] == [12, 10, 5]


def test_an_earlier_result_is_kept_unless_told(sample_set, volume, tmp_path):
    write_outputs(sample_set, volume, tmp_path / "out")
    fewer = SampleSet(sample_set.masks[:1], GRID, sample_set.provenance, "nodule")
    with pytest.raises(FileExistsError, match="earlier result"):
        write_outputs(fewer, volume, tmp_path / "out")
    (tmp_path / "out/notes.txt").write_text("mine")
    write_outputs(fewer, volume, tmp_path / "out", overwrite=True)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert "sample_01.seg.nrrd" in names and "sample_02.seg.nrrd" not in names and "notes.txt" in names


@pytest.mark.parametrize("name", ["mean.nrrd", "sample_07.seg.nrrd", "overview.png"])
def test_a_file_of_one_of_the_names_is_kept_unless_told(sample_set, volume, tmp_path, name):
    (tmp_path / name).write_text("mine")
    (tmp_path / "sample_edited by Anna.seg.nrrd").write_text("mine")
    (tmp_path / "sample_1.nrrd").write_text("mine")
    with pytest.raises(FileExistsError, match=f"holds {name}"):
        write_outputs(sample_set, volume, tmp_path)
    assert {p.read_text() for p in tmp_path.iterdir()} == {"mine"}
    written = write_outputs(sample_set, volume, tmp_path, overwrite=True)
    others = {"sample_edited by Anna.seg.nrrd", "sample_1.nrrd"}
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in written} | others


def test_names_of_people_are_no_hindrance(sample_set, volume, tmp_path):
    (tmp_path / "sample_edited by Anna.seg.nrrd").write_text("mine")
    write_outputs(sample_set, volume, tmp_path)
    assert (tmp_path / "sample_edited by Anna.seg.nrrd").read_text() == "mine"


@pytest.mark.parametrize("failing", ["write_segmentation", "write_volume", "write_png"])
def test_a_full_disk_leaves_nothing_half_written(sample_set, volume, tmp_path, monkeypatch, failing):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, failing, full)
    with pytest.raises(OSError, match="No space left"):
        write_outputs(sample_set, volume, tmp_path / "new/out")
    assert not list(tmp_path.iterdir())


def test_a_failed_rewrite_keeps_the_earlier_result(sample_set, volume, tmp_path, monkeypatch):
    write_outputs(sample_set, volume, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_png", full)
    with pytest.raises(OSError):
        write_outputs(sample_set, volume, tmp_path, overwrite=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_overview_takes_the_slices_with_most_disagreement():
    variance, mean = np.zeros((5, 2, 2)), np.ones((5, 2, 2))
    variance[3], variance[1] = 0.25, 0.1
    mean[4] = 0
    assert most_disagreement(variance, mean, 2) == [1, 3]
    assert most_disagreement(variance, mean, 9) == [0, 1, 2, 3]
    assert most_disagreement(np.zeros((5, 2, 2)), np.zeros((5, 2, 2)), 3) == [2]


def test_overview_of_empty_samples_and_of_a_photograph():
    empty = SampleSet(np.zeros((2, 5, 10, 12), bool), GRID)
    assert overview(empty, np.random.default_rng(0).random((1, 5, 10, 12))).shape[2] == 3
    flat = Geometry((20, 30, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    masks = np.zeros((2, 1, 30, 20), bool)
    masks[0, 0, 5:9, 5:9] = True
    assert overview(SampleSet(masks, flat), np.random.default_rng(0).random((3, 1, 30, 20))).std() > 10

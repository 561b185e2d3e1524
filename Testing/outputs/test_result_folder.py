"""Files of a sample set: read back, complete or absent."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from shared_data import REPOSITORY

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.labels import DEFAULT_LABELS, LESION_TERMINOLOGY, Label
from AmbiguousSegLib.outputs import result_folder as outputs
from AmbiguousSegLib.outputs.result_folder import earlier_files, read_result_folder, write_outputs
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_mask
from AmbiguousSegLib.volume.segments import read_raters

ANGLE = np.deg2rad(30)
OBLIQUE = (np.cos(ANGLE), -np.sin(ANGLE), 0, np.sin(ANGLE), np.cos(ANGLE), 0, 0, 0, 1.0)
GRID = Geometry((12, 10, 5), (0.5, 0.5, 2.0), (3.0, -4.0, 5.0), OBLIQUE)  # a voxel is 0.0005 mL
NODULE = Label("nodule", (0.2, 0.4, 0.6))
CLASSES = (Label("Core", (0.9, 0.3, 0.2)), Label("halo", (0.2, 0.6, 1.0), "a~b^1^c~d"))


@pytest.fixture
def sample_set():
    masks = np.zeros((3, 5, 10, 12), bool)
    masks[0, 1:3, 2:6, 3:9] = True  # 48 voxels
    masks[1, 1:4, 2:6, 3:9] = True  # 72 voxels; the third sample is empty
    return SampleSet(masks, GRID, {"seed": 7, "first_sample": 0}, (NODULE,))


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
    summary = json.loads((tmp_path / "out/samples.json").read_text(encoding="utf-8"))
    assert np.allclose(summary["volume"]["samples"], [0.024, 0.036, 0.0])
    assert np.isclose(summary["volume"]["mean"], 0.02)
    assert summary["volume"]["interval_95"] is None and np.allclose(summary["volume"]["range"], [0, 0.036])
    assert np.isclose(summary["consensus"]["volume_ml"], 0.024)
    assert summary["seed"] == 7 and summary["grid"]["size"] == [12, 10, 5]
    assert summary["label"] == "nodule"
    assert summary["labels"] == [{"name": "nodule", "color": [0.2, 0.4, 0.6], "terminology": LESION_TERMINOLOGY}]
    assert summary["consensus"]["rule"] == "more than half of the samples"
    assert list(summary)[:6] == ["label", "labels", "samples", "volume", "consensus", "grid"]


def test_an_earlier_result_is_kept_unless_told(sample_set, volume, tmp_path):
    write_outputs(sample_set, volume, tmp_path / "out")
    fewer = SampleSet(sample_set.masks[:1], GRID, sample_set.provenance, (NODULE,))
    with pytest.raises(FileExistsError, match="earlier result"):
        write_outputs(fewer, volume, tmp_path / "out")
    (tmp_path / "out/notes.txt").write_text("mine", encoding="utf-8")
    write_outputs(fewer, volume, tmp_path / "out", overwrite=True)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert "sample_01.seg.nrrd" in names and "sample_02.seg.nrrd" not in names and "notes.txt" in names


@pytest.mark.parametrize("name", ["mean.nrrd", "sample_07.seg.nrrd", "overview.png"])
def test_a_file_of_one_of_the_names_is_kept_unless_told(sample_set, volume, tmp_path, name):
    (tmp_path / name).write_text("mine", encoding="utf-8")
    (tmp_path / "sample_edited by Anna.seg.nrrd").write_text("mine", encoding="utf-8")
    (tmp_path / "sample_1.nrrd").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=f"holds {name}"):
        write_outputs(sample_set, volume, tmp_path)
    assert {p.read_text(encoding="utf-8") for p in tmp_path.iterdir()} == {"mine"}
    written = write_outputs(sample_set, volume, tmp_path, overwrite=True)
    others = {"sample_edited by Anna.seg.nrrd", "sample_1.nrrd"}
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in written} | others


def test_names_of_people_are_no_hindrance(sample_set, volume, tmp_path):
    (tmp_path / "sample_edited by Anna.seg.nrrd").write_text("mine", encoding="utf-8")
    write_outputs(sample_set, volume, tmp_path)
    assert (tmp_path / "sample_edited by Anna.seg.nrrd").read_text(encoding="utf-8") == "mine"


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


# Several classes


@pytest.fixture
def two_classes():
    masks = np.zeros((3, 5, 10, 12), np.uint8)
    masks[0, 1:3, 2:6, 3:9], masks[0, 1:3, 3:5, 4:8] = 2, 1  # 16 voxels of core, 32 of halo
    masks[1, 1:4, 2:6, 3:9] = 2  # 72 voxels of halo
    masks[2, 1:3, 3:5, 4:8] = 1  # 16 voxels of core
    return SampleSet(masks, GRID, {"seed": 7, "first_sample": 8}, CLASSES)


def read(path):
    image = sitk.ReadImage(str(path))
    assert image.GetPixelID() == sitk.sitkFloat32 and Geometry.of(image).same_grid(GRID)
    return sitk.GetArrayFromImage(image)


def test_files_of_several_classes_read_back(two_classes, volume, tmp_path):
    written = write_outputs(two_classes, volume, tmp_path)
    samples = ["sample_09.seg.nrrd", "sample_10.seg.nrrd", "sample_11.seg.nrrd"]
    maps = ["mean_core.nrrd", "variance_core.nrrd", "mean_halo.nrrd", "variance_halo.nrrd", "entropy.nrrd"]
    others = ["consensus.seg.nrrd", "overview.png", "samples.json"]
    assert [path.name for path in written] == [*samples, *maps, *others]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*samples, *maps, *others])
    for name, mask in zip(samples, two_classes.masks):
        ((_, label_map),) = read_raters(tmp_path / name, GRID, ["Core", "halo"])
        np.testing.assert_array_equal(label_map, mask)
    core, halo = read(tmp_path / "mean_core.nrrd"), read(tmp_path / "mean_halo.nrrd")
    np.testing.assert_allclose(core, (two_classes.masks == 1).mean(0), atol=1e-6)
    np.testing.assert_allclose(halo, (two_classes.masks == 2).mean(0), atol=1e-6)
    np.testing.assert_allclose(read(tmp_path / "variance_halo.nrrd"), halo * (1 - halo), atol=1e-6)
    p = np.stack([core, halo, 1 - core - halo])
    np.testing.assert_allclose(read(tmp_path / "entropy.nrrd"), -(p * np.log(np.maximum(p, 1e-9))).sum(0), atol=1e-4)
    expected = np.zeros(GRID.shape, np.uint8)
    expected[1:3, 2:6, 3:9], expected[1:3, 3:5, 4:8] = 2, 1  # two of three each
    ((_, consensus),) = read_raters(tmp_path / "consensus.seg.nrrd", GRID, ["Core", "halo"])
    np.testing.assert_array_equal(consensus, expected)
    image = sitk.ReadImage(str(tmp_path / samples[1]))
    found = [[image.GetMetaData(f"Segment{k}_{key}") for key in ("ID", "Name", "Color")] for k in range(2)]
    assert found == [["core", "Core", "0.9 0.3 0.2"], ["halo", "halo", "0.2 0.6 1"]]
    assert image.GetMetaData("Segment1_Tags") == "TerminologyEntry:a~b^1^c~d|"


def test_summary_states_the_volumes_of_each_class_and_of_all(two_classes, volume, tmp_path):
    write_outputs(two_classes, volume, tmp_path)
    summary = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    assert "label" not in summary and [label["name"] for label in summary["labels"]] == ["Core", "halo"]
    assert np.allclose(summary["volume"]["samples"], [0.024, 0.036, 0.008])
    assert np.allclose(summary["volumes"]["Core"]["samples"], [0.008, 0, 0.008])
    assert np.allclose(summary["volumes"]["halo"]["samples"], [0.016, 0.036, 0])
    consensus = summary["consensus"]
    assert np.isclose(consensus["volume_ml"], 0.024) and "most frequent" in consensus["rule"]
    assert consensus["volumes_ml"] == pytest.approx({"Core": 0.008, "halo": 0.016})


def test_an_earlier_result_of_other_classes_goes_whole(sample_set, two_classes, volume, tmp_path):
    (tmp_path / "mean_brain.nrrd").write_text("mine", encoding="utf-8")
    first = write_outputs(two_classes, volume, tmp_path)
    assert "mean_core.nrrd" in earlier_files(tmp_path) and "mean_brain.nrrd" not in earlier_files(tmp_path)
    with pytest.raises(FileExistsError, match="earlier result"):
        write_outputs(sample_set, volume, tmp_path)
    second = write_outputs(sample_set, volume, tmp_path, overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in second} | {"mean_brain.nrrd"}
    again = write_outputs(two_classes, volume, tmp_path, overwrite=True)
    assert [p.name for p in again] == [p.name for p in first]
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in again} | {"mean_brain.nrrd"}
    assert (tmp_path / "mean_brain.nrrd").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("maps", ["ab", 7, None, {"a": 1}, [{"a": 1}], ["a", 7]])
def test_own_maps_that_are_no_names_hide_no_file_and_take_none(maps, two_classes, volume, tmp_path):
    """The maps of each class still count as the earlier result's."""
    write_outputs(two_classes, volume, tmp_path)
    before = earlier_files(tmp_path)
    content = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    (tmp_path / "samples.json").write_text(json.dumps(content | {"own_maps": maps}), encoding="utf-8")
    (tmp_path / "a.nrrd").write_text("mine", encoding="utf-8")
    assert earlier_files(tmp_path) == before and "mean_core.nrrd" in before


def test_a_file_named_as_a_map_of_a_class_is_kept_unless_told(two_classes, volume, tmp_path):
    (tmp_path / "mean_core.nrrd").write_text("mine", encoding="utf-8")
    assert earlier_files(tmp_path) == [] and earlier_files(tmp_path, CLASSES) == ["mean_core.nrrd"]
    with pytest.raises(FileExistsError, match=r"holds mean_core\.nrrd"):
        write_outputs(two_classes, volume, tmp_path)
    assert (tmp_path / "mean_core.nrrd").read_text(encoding="utf-8") == "mine"


# Reading


def test_a_result_folder_reads_back(sample_set, two_classes, volume, tmp_path):
    for number, written in enumerate((sample_set, two_classes)):
        write_outputs(written, volume, tmp_path / f"{number}")
        result = read_result_folder(tmp_path / f"{number}")
        assert result.labels == written.labels and result.geometry.same_grid(GRID)
        assert result.names == [["sample 1", "sample 2", "sample 3"], ["sample 9", "sample 10", "sample 11"]][number]
        assert result.summary["seed"] == 7
        for crop, mask in zip(result.samples, written.masks, strict=True):
            np.testing.assert_array_equal(crop.full(), mask)


def test_more_than_99_samples_are_in_the_order_of_their_numbers(tmp_path):
    masks = np.zeros((3, *GRID.shape), bool)
    masks[0, 0, 0, 0] = masks[1, 1, 1, :2] = masks[2, 2, 2, :3] = True
    write_outputs(SampleSet(masks, GRID, {"first_sample": 98}), np.zeros((1, *GRID.shape), np.float32), tmp_path)
    result = read_result_folder(tmp_path)
    assert result.names == ["sample 99", "sample 100", "sample 101"]
    assert [int(crop.voxels.sum()) for crop in result.samples] == [1, 2, 3]


@pytest.mark.parametrize(("label", "name"), [({"label": "nodule"}, "nodule"), ({}, DEFAULT_LABELS[0].name)])
def test_a_result_of_before_there_were_several_classes(sample_set, volume, tmp_path, label, name):
    write_outputs(sample_set, volume, tmp_path)
    summary = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in summary.items() if key not in ("label", "labels")}
    (tmp_path / "samples.json").write_text(json.dumps(label | kept), encoding="utf-8")
    result = read_result_folder(tmp_path)
    assert result.labels == (Label(name),)
    for crop, mask in zip(result.samples, sample_set.masks, strict=True):
        np.testing.assert_array_equal(crop.full(), mask)


def test_the_result_that_version_0_1_wrote(tmp_path):
    folder = REPOSITORY / "Testing/Past/results"
    result = read_result_folder(folder)
    assert len(result.samples) == 3 and result.names == ["sample 1", "sample 2", "sample 3"]
    assert [label.name for label in result.labels] == [result.summary["label"]]
    for k, crop in enumerate(result.samples, start=1):
        stored = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"sample_{k:02d}.seg.nrrd")))
        np.testing.assert_array_equal(crop.full(), stored)
    volumes = [int(crop.voxels.sum()) * result.geometry.voxel_volume_ml for crop in result.samples]
    np.testing.assert_allclose(volumes, result.summary["volume"]["samples"])


def test_the_past_is_written_again_byte_for_byte(tmp_path):
    """The samples, maps and consensus that version 0.1 wrote, from its masks."""
    folder = REPOSITORY / "Testing/Past/results"
    result = read_result_folder(folder)
    masks = np.stack([crop.full() for crop in result.samples])
    image = sitk.ReadImage(str(folder / "sample_01.seg.nrrd"))
    color = tuple(float(part) for part in image.GetMetaData("Segment0_Color").split())
    labels = (Label(result.labels[0].name, color),)
    write_outputs(SampleSet(masks, result.geometry, labels=labels), np.zeros((1, *masks.shape[1:])), tmp_path)
    names = ["mean.nrrd", "variance.nrrd", "consensus.seg.nrrd", *(f"sample_{k:02d}.seg.nrrd" for k in (1, 2, 3))]
    for name in names:
        old, new = (sitk.ReadImage(str(place / name)) for place in (folder, tmp_path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(new), sitk.GetArrayFromImage(old))
        assert new.GetMetaDataKeys() == old.GetMetaDataKeys()
        assert [new.GetMetaData(k) for k in new.GetMetaDataKeys()] == [
            old.GetMetaData(k) for k in old.GetMetaDataKeys()
        ]
    summary = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    for key in ("label", "samples", "consensus", "grid"):
        assert summary[key] == result.summary[key]
    for key in ("unit", "samples", "mean"):  # three samples had an interval of 95 %
        assert summary["volume"][key] == result.summary["volume"][key]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "samples.json").unlink(), r"holds no samples\.json"),
        (lambda folder: (folder / "samples.json").write_text("{", encoding="utf-8"), "does not describe samples"),
        (lambda folder: (folder / "samples.json").write_text("[1]", encoding="utf-8"), "does not describe samples"),
        (lambda folder: (folder / "samples.json").write_text('{"samples": 3}', encoding="utf-8"), "'grid'"),
        (lambda folder: edit(folder, labels=[]), r"does not describe samples .*1 to 255 labels, got 0"),
        (lambda folder: edit(folder, labels=["core", "halo"]), "does not describe samples"),
        (lambda folder: edit(folder, labels=[{"name": "core", "colour": 3}]), "does not describe samples"),
        (lambda folder: edit(folder, samples=4), r"holds 3 samples, but samples\.json names 4"),
        (lambda folder: (folder / "sample_10.seg.nrrd").unlink(), r"holds 2 samples, but samples\.json names 3"),
        (lambda folder: edit(folder, labels=[{"name": n, "color": [1, 0, 0]} for n in "ab"]), "'Core', 'halo' do not"),
    ],
)
def test_what_is_no_result_is_told(two_classes, volume, tmp_path, spoil, message):
    write_outputs(two_classes, volume, tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        read_result_folder(tmp_path)
    assert "\n" not in str(error.value)


def edit(folder, **changes):
    path = folder / "samples.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_two_files_of_one_sample_are_refused(sample_set, volume, tmp_path):
    write_outputs(sample_set, volume, tmp_path)
    (tmp_path / "sample_002.seg.nrrd").write_bytes((tmp_path / "sample_02.seg.nrrd").read_bytes())
    with pytest.raises(ValueError, match="holds sample 2 twice"):
        read_result_folder(tmp_path)


@pytest.mark.parametrize("size", [[float("nan")] * 3, [1e400] * 3, [12, 10, "5"], [10**400, 10, 5], [12.5, 10, 5]])
def test_a_grid_of_no_whole_numbers_is_refused(sample_set, volume, tmp_path, size):
    write_outputs(sample_set, volume, tmp_path)
    summary = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    summary["grid"]["size"] = size
    (tmp_path / "samples.json").write_text(json.dumps(summary), encoding="utf-8")
    with pytest.raises(ValueError, match="size must be three positive integers"):
        read_result_folder(tmp_path)

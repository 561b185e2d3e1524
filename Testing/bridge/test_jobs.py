"""What the worker can do, called in this process: against the library called directly."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import asdict, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from AmbiguousSegBridge.worker import jobs, messages, report
from AmbiguousSegBridge.worker.arguments import Sampling
from AmbiguousSegBridge.worker.runner import crops_argument
from tiny_models import randomised, tiny_model

from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.evaluation.rater_comparison import compare_with_raters
from AmbiguousSegLib.evaluation.table import Table
from AmbiguousSegLib.inference import volume_sampling as sampling_volume
from AmbiguousSegLib.inference.estimate import estimate
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.model import load_model, save_model
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.inputs import Inputs, channel_values

GRID = Geometry((16, 16, 6), (1.0, 1.5, 2.0), (3.0, -4.0, 5.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


class Told:
    """What a job has told; cancelled after so many messages."""

    def __init__(self, folder, cancel_after=np.inf):
        self.messages, self.cancel_after = [], cancel_after
        self.folder = folder
        self.report = report.Report(1, folder, self.send, lambda: len(self.messages) >= self.cancel_after)

    def send(self, message):
        assert messages.decode(messages.encode(message), messages.FROM_WORKER) == message  # plain types
        self.messages.append(message)

    def of(self, kind):
        return [message for message in self.messages if isinstance(message, kind)]

    def do(self, kind, arguments, folder=None):
        """The result as it arrives."""
        return plain(jobs.do(kind, plain(arguments), folder or self.folder, self.report))


@pytest.fixture
def told(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PROGRESS_EVERY_S", -1)
    (tmp_path / "job").mkdir()
    return Told(tmp_path / "job")


def plain(value):
    """As it arrives in the worker, or here."""
    return json.loads(json.dumps(value))


def save(folder, **arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def save_crops(folder, prefix, masks):
    entries, arrays = crops_argument(prefix, [Crop.of(mask) for mask in masks])
    for name, array in arrays.items():
        np.save(folder / name, array)
    return plain(entries)


def arguments_for(model_folder, **changes):
    arguments = {
        "model": str(model_folder),
        "device": "cpu",
        "channels": ["a.npy", "b.npy"],
        "geometry": asdict(GRID),
        "samples": 3,
        "first_sample": 0,
        "seed": 0,
        "sampler": None,
        "slice_range": None,
        "pointing": None,
        "refine": None,
        "region": None,
        "modality": "",
        "picture": False,
    }
    return plain({**arguments, **changes})


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(tiny_model(channels=2), folder)
    return folder


@pytest.fixture(scope="module")
def channels():
    random = np.random.default_rng(1)
    return (random.random(GRID.shape) > 0.5).astype(np.int16), random.random(GRID.shape)


@pytest.mark.parametrize(
    ("sampler", "meant"),
    [
        ({"name": "dpm++2m-sde", "steps": 4}, SamplerSettings("dpm++2m-sde", 4, "both_ends")),  # of earlier versions
        ({"name": "ddim", "steps": 4, "grid": "trailing", "options": {"eta": 1.0}}, None),
    ],
)
def test_samples_are_those_of_the_library(told, tmp_path, model_folder, channels, sampler, meant):
    folder = tmp_path / "job"
    save(folder, a=channels[0], b=channels[1])
    region = ((4.0, -2.0, 6.0), (15.0, 12.0, 14.0))
    given = {"seed": 2**53 + 1, "first_sample": 2, "samples": 2, "region": region, "slice_range": (1, 4)}
    result = told.do("sample", arguments_for(model_folder, **given, sampler=sampler), folder)

    model = load_model(model_folder)
    request = SampleRequest(**given, sampler=meant or SamplerSettings(**sampler))
    expected = sample_volume(model, np.stack(channels).astype(np.float32), GRID, request)
    assert expected.masks.any(axis=(1, 2, 3)).all()
    samples = told.of(messages.Sample)
    assert [sample.index for sample in samples] == [2, 3]
    for sample, mask in zip(samples, expected.masks):
        assert np.array_equal(Crop.load(folder / sample.mask.file, vars(sample.mask)).full(), mask)
    assert result["provenance"] == plain(expected.provenance)
    assert result["labels"] == [plain(asdict(Label()))]


def test_what_is_known_of_the_volume_reaches_the_check(told, tmp_path, channels):
    """A picture of unknown pixels, or a scan of another modality than the model knows."""
    model, folder = tiny_model(channels=2, spacing_mm=1.0), tmp_path / "model"
    known = Inputs.of([channel_values(channel) for channel in channels], GRID, "axial", "CT")
    save_model(replace(model, inputs=known), folder)
    save(tmp_path / "job", a=channels[0], b=channels[1])
    for changes, words in (({}, []), ({"modality": "MR"}, ["This is MR"]), ({"picture": True}, ["1 mm is assumed"])):
        given = arguments_for(folder, samples=1, slice_range=(1, 1), **changes)
        notes = told.do("sample", given, tmp_path / "job")["provenance"]["input_warnings"]
        assert len(notes) == len(words) and all(word in note for word, note in zip(words, notes))


def test_progress_says_what_is_done_and_what_is_left(told, tmp_path, model_folder, channels, monkeypatch):
    """Three samples of six slices, four slices at a time, three evaluations each; one second each."""
    monkeypatch.setattr(sampling_volume, "_CPU_BATCH_PIXELS", 4 * 16 * 16)
    seconds = iter(range(100))
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    save(tmp_path / "job", a=channels[0], b=channels[1])
    told.do("sample", arguments_for(model_folder), tmp_path / "job")
    progress = told.of(messages.Progress)
    assert [(p.samples_done, p.slices_done) for p in progress] == [
        *((0, 1), (0, 2), (0, 4)),
        *((0, 5), (0, 6), (0, 6)),  # the first sample is complete with the second batch
        *((1, 3), (1, 4), (1, 6)),
        *((2, 1), (2, 2), (2, 4)),
        *((2, 4), (2, 5), (2, 6)),
    ]
    assert all((p.samples, p.slices) == (3, 6) for p in progress)
    assert [p.share for p in progress[:3]] == pytest.approx([4 / 54, 8 / 54, 12 / 54]) and progress[-1].share == 1
    left = [p.seconds_left for p in progress]
    assert left[0] is None and left[1:4] == pytest.approx([11.5, 10.5, 9.5]) and left[-1] == 0


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_cancelled_job_stops_at_the_next_evaluation(tmp_path, model_folder, channels, monkeypatch, after):
    monkeypatch.setattr(report, "PROGRESS_EVERY_S", -1)
    save(tmp_path, a=channels[0], b=channels[1])
    told = Told(tmp_path, after)
    with pytest.raises(report.Stopped):
        told.do("sample", arguments_for(model_folder, sampler={"name": "ddim", "steps": 10}), tmp_path)
    assert len(told.messages) == after


def test_progress_is_not_told_more_often_than_anybody_sees(tmp_path, monkeypatch):
    times = iter([0.0, 0.03, 0.051, 0.06, 0.07])
    monkeypatch.setattr(report, "time", SimpleNamespace(monotonic=lambda: next(times)))
    told = Told(tmp_path)
    for share in (0.1, 0.2, 0.3, 0.4, 1.0):
        told.report.progress(share)
    assert [p.share for p in told.of(messages.Progress)] == [0.1, 0.3, 1.0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"channels": ["a.npy"]}, ValueError, "expects 2 channel"),
        ({"channels": ["a.npy", "other.npy"]}, ValueError, r"other.npy of shape \(6, 16, 15\)"),
        ({"channels": ["a.npy", "none.npy"]}, FileNotFoundError, "none.npy"),
        ({"model": "nowhere"}, FileNotFoundError, "no model here"),
        ({"device": "cuda:77"}, ValueError, "cuda:77"),
        ({"slice_range": [3, 6]}, ValueError, "Slice range 3 to 6"),
        ({"sampler": {"name": "leap", "steps": 3}}, ValueError, "leap"),
    ],
)
def test_what_cannot_be_sampled(told, tmp_path, model_folder, channels, changes, error, message):
    save(tmp_path / "job", a=channels[0], b=channels[1], other=channels[1][..., 1:])
    with pytest.raises(error, match=message):
        told.do("sample", arguments_for(model_folder, **changes), tmp_path / "job")


def test_a_model_stays_loaded_until_it_changes(tmp_path):
    model, loaded = tiny_model(), jobs.LoadedModel()
    save_model(model, tmp_path / "a")
    save_model(model, tmp_path / "b")
    first = loaded.get(str(tmp_path / "a"), "cpu")
    assert loaded.get(str(tmp_path / "b" / ".." / "a"), "cpu") is first
    assert loaded.get(str(tmp_path / "b"), "cpu") is not first
    first = loaded.get(str(tmp_path / "a"), "cpu")
    randomised(model.method, seed=1)
    save_model(model, tmp_path / "a")
    for file in (tmp_path / "a").iterdir():
        os.utime(file, ns=(0, 0))  # even where the clock of the disk is coarse
    again = loaded.get(str(tmp_path / "a"), "cpu")
    assert again is not first and again.weights_sha256 != first.weights_sha256
    (tmp_path / "a" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="the file was changed or truncated"):
        loaded.get(str(tmp_path / "a"), "cpu")


def test_an_estimate_is_that_of_the_library(told, tmp_path, model_folder):
    result = told.do("estimate", arguments_for(model_folder, channels=[], samples=50), tmp_path)
    expected = asdict(estimate(load_model(model_folder), GRID, SampleRequest(50)))
    assert set(result) == set(expected)
    assert all(result[key] == expected[key] for key in ("memory_bytes", "slices", "evaluations", "device"))
    assert result["seconds"] == pytest.approx(50 * result["seconds_per_sample"])


def test_modes_by_hand(told, tmp_path):
    masks = np.zeros((5, *GRID.shape), bool)
    masks[0, 1, 2:6, 3:8] = True  # 20 voxels
    masks[1, 1, 2:6, 3:7] = True  # 16 of them
    masks[2, 4, 10:12, 10:12] = True
    masks[3] = masks[0]
    entries = save_crops(tmp_path, "mask", masks)
    result = told.do("modes", {"masks": entries, "classes": 1, "cut": 0.5}, tmp_path)
    assert result["labels"] == [0, 0, 1, 0, 2] and result["cut"] == 0.5
    assert result["frequencies"] == pytest.approx([0.6, 0.2, 0.2]) and result["representatives"] == [0, 2, 4]
    # Wilson's of 3 of 5, with z² = 3.8415: (0.6 + 0.38415 ± 1.96·√(0.048 + 0.038415)) / 1.7683
    assert result["intervals"][0] == pytest.approx([0.2307, 0.8824], abs=1e-4)
    assert np.array(result["iou"])[0] == pytest.approx([1, 0.8, 0, 1, 0])
    empty = save_crops(tmp_path, "empty", masks[4:])
    assert told.do("modes", {"masks": empty * 2, "classes": 1, "cut": 0.5}, tmp_path)["labels"] == [0, 0]


def test_masks_of_two_grids_are_refused(told, tmp_path):
    entries = save_crops(tmp_path, "mask", [np.ones((2, 3, 4), bool), np.ones((2, 3, 5), bool)])
    with pytest.raises(ValueError, match="Masks of one grid"):
        told.do("modes", {"masks": entries, "classes": 1, "cut": 0.5}, tmp_path)


@pytest.mark.parametrize("empty", [False, True])
def test_a_comparison_is_that_of_the_whole_grid(told, tmp_path, empty):
    random = np.random.default_rng(3)
    masks = np.zeros((5, *GRID.shape), bool)
    if not empty:
        masks[:, 2:5, 4:9, 6:14] = random.random((5, 3, 5, 8)) > 0.3
    samples, raters, names = masks[:3], masks[3:], ["Ann", "Bob"]
    arguments = {
        "samples": save_crops(tmp_path, "sample", samples),
        "raters": save_crops(tmp_path, "rater", raters),
        "sample_names": ["one", "two", "three"],
        "rater_names": names,
        "labels": ["lesion"],
        "geometry": plain(asdict(GRID)),
    }
    result = told.do("compare", arguments, tmp_path)
    expected = compare_with_raters(samples, raters, GRID, names, ["one", "two", "three"])
    assert result["tables"] == {key: plain(table.as_dict()) for key, table in expected.tables.items()}
    assert all(isinstance(Table.from_dict(table), Table) for table in result["tables"].values())
    assert [entry["name"] for entry in result["fused"]] == list(expected.fused)
    for entry in result["fused"]:
        assert np.array_equal(Crop.load(tmp_path / entry["file"], entry).full(), expected.fused[entry["name"]])
    shares = [p.share for p in told.of(messages.Progress)]
    assert shares and shares == sorted(shares) and shares[-1] == pytest.approx(1)


def to_export(job, out):
    """Arguments, masks and map of an export of three files."""
    random = np.random.default_rng(4)
    masks, mean = random.random((2, *GRID.shape)) > 0.5, random.random(GRID.shape, dtype=np.float32)
    save(job, map=mean)
    entries = save_crops(job, "mask", masks)
    for entry, stem in zip(entries, ("sample_01", "sample_02")):
        entry.update(stem=stem, title=stem.replace("_", " "))
    arguments = {
        "masks": entries,
        "maps": {"mean": "map.npy"},
        "geometry": plain(asdict(GRID)),
        "folder": str(out),
        "form": "nifti",
        "labels": [plain(asdict(Label()))],
        "source_files": [],
        "model_name": "tiny",
        "overwrite": False,
    }
    return arguments, masks, mean


def test_exported_files_hold_what_was_given(told, tmp_path):
    job = tmp_path / "job"
    arguments, masks, mean = to_export(job, tmp_path / "out")
    result = told.do("export", arguments, job)
    assert result["files"] == [str(tmp_path / "out" / f"{name}.nii.gz") for name in ("sample_01", "sample_02", "mean")]
    assert result["notes"] == []
    images = [sitk.ReadImage(file) for file in result["files"]]
    for image, wanted in zip(images, [*masks, mean]):
        assert np.array_equal(sitk.GetArrayFromImage(image), wanted) and Geometry.of(image).same_grid(GRID)
    with pytest.raises(FileExistsError, match="overwrite"):
        told.do("export", arguments, job)


@pytest.mark.parametrize("files", range(3))
def test_an_export_that_is_cancelled_after_some_files_leaves_none(tmp_path, files):
    job, out, asked = tmp_path / "job", tmp_path / "out", itertools.count()
    job.mkdir()
    arguments, *_ = to_export(job, out)
    with pytest.raises(report.Stopped):
        jobs.do("export", arguments, job, report.Report(1, job, print, lambda: next(asked) > files))
    assert next(asked) == files + 2 and not out.exists()


def to_compare(**changes):
    entry = {"file": "m.npy", "start": [0, 0, 0], "shape": [2, 3, 4]}
    names = {"sample_names": ["one"], "rater_names": ["Ann"], "labels": ["lesion"]}
    return {"samples": [entry], "raters": [entry], **names, "geometry": plain(asdict(GRID)), **changes}


@pytest.mark.parametrize("labels", [[asdict(Label())], "lesion", None])
def test_labels_of_a_comparison_are_names(told, labels):
    with pytest.raises(ValueError, match=r"labels(\[0\])? must be (a list|str)"):
        told.do("compare", to_compare(labels=labels))


def test_an_argument_that_is_missing_is_named(told):
    for job, first in (("compare", "geometry"), ("export", "folder"), ("modes", "classes"), ("sample", "channels")):
        with pytest.raises(ValueError, match=f"Missing key {first}; add it. Restart Slicer, so that all") as error:
            told.do(job, {})
        assert report.failed(1, error.value).failure.kind == "bad_input"


def test_arguments_of_the_module_are_those_of_the_worker():
    """Whoever asks for samples writes just these keys."""
    assert arguments_for("model").keys() == {field.name for field in fields(Sampling)}


WRONG = [
    *(("model", value, "model must be str") for value in (7, None, ["x"])),
    ("device", None, "device must be str"),
    ("channels", "a.npy", "channels must be a list"),
    ("channels", [7], r"channels\[0\] must be str"),
    ("channels", ["../a.npy"], "name of a file in the job's folder"),
    ("geometry", None, "geometry must be a mapping of settings, got null"),
    *(("samples", value, "samples must be int") for value in ("two", None, 1.5, True)),
    ("seed", 1.5, "seed must be int"),
    ("sampler", 7, "sampler must be a mapping"),
    ("pointing", {"point_mm": [0, 1]}, "pointing.point_mm must hold 3 values"),
    ("pointing", {"point": [0, 1, 2]}, "Unknown key pointing.point"),
    ("refine", "dense-crf", "refine must be a mapping"),
    ("refine", {"w1": -1.0}, "DenseCRFConfig.w1 must be 0 or more"),
    ("slice_range", [0], "slice_range must hold 2 values"),
    ("slice_range", ["a", "b"], r"slice_range\[0\] must be int"),
    ("slice_range", 7, "slice_range must be a list"),
    ("region", [[0, 0, 0]], "region must hold 2 values"),
    ("region", [[0, 0], [1, 1]], r"region\[0\] must hold 3 values"),
    ("region", [["a"] * 3, ["b"] * 3], r"region\[0\]\[0\] must be float"),
    ("picture", "x", "picture must be bool"),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG)
def test_an_argument_of_another_type_is_named(told, key, value, words):
    with pytest.raises(ValueError, match=words):
        told.do("sample", arguments_for("model") | {key: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": 7}, r"masks\[0\].file must be str"),
        ({"shape": None}, r"masks\[0\].shape must be a list"),
        ({"start": [0, 0]}, r"masks\[0\].start must hold 3 values"),
        ({"more": 1}, r"Unknown key masks\[0\].more"),
        ({"file": "../m.npy"}, "name of a file in the job's folder, got '../m.npy'"),
    ],
)
def test_a_mask_of_another_type_is_named(told, change, words):
    entry = {"file": "m.npy", "start": [0, 0, 0], "shape": [2, 3, 4]} | change
    with pytest.raises(ValueError, match=words):
        told.do("modes", {"masks": [entry], "classes": 1, "cut": 0.5})


def test_a_channel_that_is_no_array_or_of_a_huge_grid_is_refused_before_anything_is_computed(
    told, tmp_path, model_folder, channels
):
    save(tmp_path, a=channels[0])
    with pytest.raises(FileNotFoundError, match="b.npy does not exist; check the path"):
        told.do("sample", arguments_for(model_folder), tmp_path)
    (tmp_path / "b.npy").write_bytes(b"text")
    with pytest.raises(ValueError, match="b.npy is no array that can be read"):
        told.do("sample", arguments_for(model_folder), tmp_path)
    save(tmp_path, b=channels[1])
    huge = asdict(GRID) | {"size": [10**5] * 3}
    with pytest.raises(ValueError, match="does not fit a grid of shape"):
        told.do("sample", arguments_for(model_folder, geometry=huge), tmp_path)


def test_errors_of_the_system_are_told_without_their_numbers(tmp_path):
    with pytest.raises(OSError, match="No such file") as error:
        (tmp_path / "gone").read_bytes()
    assert (
        report.failed(1, error.value).failure.message
        == f"{tmp_path / 'gone'}: no such file or directory; check path, permission and space."
    )

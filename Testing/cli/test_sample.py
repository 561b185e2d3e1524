"""The subcommand ``sample``: the same masks as the library and the batch script, and one clear line for bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from batch_script import batch_script
from shared_data import REPOSITORY, shared_path
from tiny_models import randomised, tiny_cimd, tiny_model
from tiny_training import METHODS

from AmbiguousSegLib import cli
from AmbiguousSegLib.card import quality_lines
from AmbiguousSegLib.description import read_description
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.fusion import Fusion, fused
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.methods.cimd import CIMD
from AmbiguousSegLib.model import Model, load_model, save_model
from AmbiguousSegLib.outputs import result_folder as outputs
from AmbiguousSegLib.outputs.result_folder import read_result_folder
from AmbiguousSegLib.resources import bundled_models
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_mask, read_volume
from AmbiguousSegLib.volume.writing import write_volume

GRID = Geometry((20, 18, 4), (0.8, 0.8, 3.0), (1.0, 2.0, 3.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@pytest.fixture
def study(tmp_path):
    """A model folder and a volume on disk."""
    save_model(tiny_model(), tmp_path / "model")
    write_volume(tmp_path / "scan.nrrd", np.random.default_rng(0).random(GRID.shape, dtype=np.float32), GRID)
    return tmp_path


def run(study, *arguments, volumes=("scan.nrrd",), model="model"):
    paths = [str(study / v) for v in volumes]
    return cli.main(["sample", *paths, "--model", str(study / model), "--out", str(study / "out"), *arguments])


@pytest.mark.slow
def test_three_doors_give_the_same_masks(study, capsys):
    volume, geometry = read_volume([study / "scan.nrrd"])
    expected = sample_volume(load_model(study / "model"), volume, geometry, SampleRequest(3, seed=5))
    assert expected.masks.any()
    assert run(study, "--samples", "3", "--seed", "5", "--device", "cpu") == 0
    script = [sys.executable, str(REPOSITORY / "AmbiguousSeg/Scripts/batch.py"), str(study / "scan.nrrd")]
    options = ["--model", str(study / "model"), "--out", str(study / "batch"), "--samples", "3", "--seed", "5"]
    done = subprocess.run(
        [*script, *options, "--device", "cpu", "--mrb"], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    for k in range(3):
        name = f"sample_{k + 1:02d}.seg.nrrd"
        assert np.array_equal(read_mask(study / "out" / name, GRID), expected.masks[k])
        assert np.array_equal(read_mask(study / "batch/scan" / name, GRID), expected.masks[k])
    assert json.loads((study / "out/samples.json").read_text(encoding="utf-8")) == json.loads(
        (study / "batch/scan/samples.json").read_text(encoding="utf-8")
    )
    with batch_script() as batch:  # in this process, of what the other one has done
        assert batch.main([*script[2:], *options, "--device", "cpu", "--mrb"]) == 0
    assert "1 skipped" in capsys.readouterr().out


def test_the_settings_are_in_the_summary(study):
    assert run(study, "--samples", "2", "--steps", "4", "--sampler", "ddpm", "--slices", "1", "2") == 0
    summary = json.loads((study / "out/samples.json").read_text(encoding="utf-8"))
    assert summary["sampler"] == {"name": "ddpm", "steps": 4, "grid": "trailing", "options": {}}
    assert summary["slice_range"] == [1, 2] and summary["samples"] == 2
    assert summary["model"]["weights_sha256"] == load_model(study / "model").weights_sha256
    assert len(summary["volume"]["samples"]) == 2


@pytest.mark.parametrize(
    ("quality", "expected"), [("fast", ("dpm++2m", 4)), ("balanced", ("dpm++2m", 21)), ("paper", ("ddpm", 21))]
)
def test_a_quality_stands_for_sampler_and_steps(study, quality, expected):
    with_few_training_steps(study)  # fewer than 25
    assert run(study, "--samples", "1", "--quality", quality, "--slices", "1", "1") == 0
    name, steps = expected
    chosen = json.loads((study / "out/samples.json").read_text(encoding="utf-8"))["sampler"]
    assert chosen == {"name": name, "steps": steps, "grid": "trailing", "options": {}}
    volume, geometry = read_volume([study / "scan.nrrd"])
    request = SampleRequest(1, sampler=SamplerSettings(name, steps), slice_range=(1, 1))
    expected_mask = sample_volume(load_model(study / "model"), volume, geometry, request).masks[0]
    assert np.array_equal(read_mask(study / "out/sample_01.seg.nrrd", GRID), expected_mask)


def test_without_a_quality_the_model_is_sampled_with_its_own_settings(study):
    assert run(study, "--samples", "1", "--slices", "1", "1") == 0
    own = json.loads((study / "model/model.json").read_text(encoding="utf-8"))["sampling"]
    assert json.loads((study / "out/samples.json").read_text(encoding="utf-8"))["sampler"] == own


def test_the_help_says_what_the_qualities_of_the_bundled_models_were_measured_to_give(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["sample", "--help"])
    told = capsys.readouterr().out
    assert end.value.code == 0
    for folder in bundled_models():
        lines = quality_lines(read_description(folder))
        assert lines and f"  {folder.name}:\n    " + "\n    ".join(lines) + "\n" in told


def test_slices_are_linked_where_that_is_asked_for(study):
    assert run(study, "--samples", "3", "--coherence-mm", "0", "--link-slices") == 0
    assert json.loads((study / "out/samples.json").read_text(encoding="utf-8"))["linked"] is True
    volume, geometry = read_volume([study / "scan.nrrd"])
    request = SampleRequest(3, coherence_mm=0, linked=True)
    expected = sample_volume(load_model(study / "model"), volume, geometry, request).masks
    for k in range(3):
        assert np.array_equal(read_mask(study / f"out/sample_{k + 1:02d}.seg.nrrd", GRID), expected[k])


def test_samples_are_refined_and_fused_where_that_is_asked_for(study):
    """As the library does it; an earlier fused mask goes with the result it belongs to."""
    options = ("--samples", "5", "--seed", "2")
    told = ("--refine", "dense-crf", "--refine-option", "w1=4", "--refine-option", "iterations=2", "--fuse")
    assert run(study, *options, *told) == 0
    volume, geometry = read_volume([study / "scan.nrrd"])
    refine = DenseCRFConfig(w1=4.0, iterations=2)
    expected = sample_volume(load_model(study / "model"), volume, geometry, SampleRequest(5, seed=2, refine=refine))
    for k in range(5):
        assert np.array_equal(read_mask(study / f"out/sample_{k + 1:02d}.seg.nrrd", GRID), expected.masks[k])
    assert np.array_equal(read_mask(study / "out/fused.seg.nrrd", GRID), fused(expected.masks, 1, 2))
    with batch_script() as batch:
        script = [str(study / "scan.nrrd"), "--model", str(study / "model"), "--out", str(study / "batch"), *options]
        assert batch.main([*script, *told, "--device", "cpu"]) == 0
    for file in (*(f"sample_{k + 1:02d}.seg.nrrd" for k in range(5)), "fused.seg.nrrd"):
        assert np.array_equal(read_mask(study / "batch/scan" / file, GRID), read_mask(study / "out" / file, GRID))
    summary = summary_of(study)
    assert summary == json.loads((study / "batch/scan/samples.json").read_text(encoding="utf-8"))
    assert summary["refinement"] == {"name": "dense-crf", **vars(refine)}
    assert summary["fusion"]["samples"] == [[k + 1 for k in subset] for subset in Fusion().subsets(5, 2)]
    assert run(study, *options, "--overwrite") == 0
    assert not (study / "out/fused.seg.nrrd").exists()
    assert not {"refinement", "fusion"} & summary_of(study).keys()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--refine-option", "w1=4"), "--refine-option belongs to --refine; give --refine dense-crf, too"),
        (("--refine", "dense-crf", "--refine-option", "w1=-1"), "DenseCRFConfig.w1 must be 0 or more"),
        (("--refine", "dense-crf", "--refine-option", "w3=1"), "Unknown key refinement.w3; known keys: w1"),
        (("--samples", "3", "--fuse"), "--fuse: Fusion draws 4 different samples, but there are 3; sample more"),
        (("--refine", "crf"), "invalid choice: 'crf'"),
        (("--refine", "dense-crf", "--refine-option", "w1"), "expected NAME=VALUE, got 'w1'"),
    ],
)
def test_refinement_that_cannot_be_is_refused_in_one_line(study, capsys, arguments, told):
    with suppress(SystemExit):  # argparse's way
        assert run(study, *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in error and not (study / "out").exists()


def test_a_photograph_is_a_volume_of_one_slice(study):
    colour = np.random.default_rng(1).integers(0, 256, (18, 20, 3), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(study / "photo.png"))
    save_model(tiny_model(channels=3, plane="stored"), study / "colour")
    assert run(study, "--samples", "2", volumes=("photo.png",), model="colour") == 0
    assert read_mask(study / "out/sample_01.seg.nrrd").shape == (1, 18, 20)


def summary_of(study) -> dict:
    return json.loads((study / "out/samples.json").read_text(encoding="utf-8"))


def test_what_differs_from_training_is_warned_of_and_noted(study, caplog):
    """The head CT has 3.2 mm, and values that are no HU; the bundled model knows the phantom alone."""
    head = str(shared_path("data/ct_head_dicom"))
    arguments = ["--samples", "1", "--slices", "40", "40", "--device", "cpu", "--out", str(study / "out")]
    assert cli.main(["sample", head, *arguments, "--model", "phantom-cimd-64"]) == 0
    modality, pixels, values = summary_of(study)["input_warnings"]
    assert modality.startswith("This is CT: the model was trained on phantom")
    assert pixels.startswith("Pixels are 3.2 mm large") and "1024 too high" in values
    assert caplog.messages[:3] == [modality, pixels, values]
    assert len(read_result_folder(study / "out").samples) == 1
    assert cli.main(["sample", head, *arguments, "--model", str(study / "model"), "--overwrite"]) == 0
    assert summary_of(study)["input_warnings"] == []  # it does not say what it was trained on


def test_the_pixels_of_a_picture_can_be_told(study, caplog, capsys):
    values = np.random.default_rng(1).integers(0, 2, (18, 20), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(study / "photo.png"))
    sitk.WriteImage(sitk.GetImageFromArray(255 * values), str(study / "anna.png"))
    save_model(tiny_model(spacing_mm=0.5, plane="stored"), study / "model")
    arguments = ("--samples", "1", "--device", "cpu", "--overwrite")
    assert run(study, *arguments, volumes=("photo.png",)) == 0
    (note,) = summary_of(study)["input_warnings"]
    assert "1 mm is assumed" in note and "--spacing-mm" in note and caplog.messages == [note]
    assert summary_of(study)["network_size"] == [36, 40]  # of 18 × 20 mm
    assert run(study, *arguments, "--spacing-mm", "0.5", volumes=("photo.png",)) == 0
    told = summary_of(study)
    assert told["input_warnings"] == [] and told["network_size"] == [18, 20]
    assert told["grid"]["spacing_mm"] == [0.5, 0.5, 1.0]
    compared = ["--raters", str(study / "anna.png"), "--out", str(study / "compared"), "--no-figure"]
    assert cli.main(["compare", str(study / "out"), *compared]) == 0  # the rater's picture has these pixels, too
    capsys.readouterr()
    assert run(study, *arguments, "--spacing-mm", "0.5") == 2
    assert "scan.nrrd tells the size of its pixels, 0.8 × 0.8 mm" in capsys.readouterr().err
    assert run(study, *arguments, "--spacing-mm", "0", volumes=("photo.png",)) == 2
    assert "must be positive, got 0 mm" in capsys.readouterr().err


def test_two_files_are_two_channels(study):
    write_volume(study / "second.nrrd", np.random.default_rng(2).random(GRID.shape, dtype=np.float32), GRID)
    save_model(tiny_model(channels=2), study / "two")
    assert run(study, "--samples", "1", volumes=("scan.nrrd", "second.nrrd"), model="two") == 0


def test_a_dicom_folder_gets_masks_on_its_grid(study):
    series = shared_path("data/ct_head_dicom")
    out = study / "ct"
    arguments = ["--model", str(study / "model"), "--out", str(out), "--samples", "1", "--slices", "40", "41"]
    assert cli.main(["sample", str(series), *arguments]) == 0
    image = sitk.ReadImage(str(out / "mean.nrrd"))
    assert image.GetSize() == (64, 64, 93) and np.allclose(image.GetSpacing(), (3.2, 3.2, 1.5), atol=1e-3)


def test_options_of_a_sampler_and_its_grid(study, caplog):
    arguments = ["--samples", "1", "--slices", "1", "1", "--sampler", "ddim", "--steps", "4"]
    assert run(study, *arguments, "--grid", "both_ends", "--sampler-option", "eta=0.5") == 0
    chosen = json.loads((study / "out/samples.json").read_text(encoding="utf-8"))["sampler"]
    assert chosen == {"name": "ddim", "steps": 4, "grid": "both_ends", "options": {"eta": 0.5}}
    masks = read_mask(study / "out/sample_01.seg.nrrd")
    assert run(study, *arguments, "--grid", "both_ends", "--eta", "0.5", "--overwrite") == 0  # as it was given before
    assert json.loads((study / "out/samples.json").read_text(encoding="utf-8"))["sampler"] == chosen
    np.testing.assert_array_equal(read_mask(study / "out/sample_01.seg.nrrd"), masks)
    assert "--eta is now --sampler-option eta=0.5" in caplog.text


def test_a_model_of_two_classes_gives_each_its_segment_maps_and_volumes(study, capsys):
    one = tiny_model()
    method = randomised(CIMD(replace(tiny_cimd().config, classes=2)))
    labels = (Label("core", (1.0, 0.0, 0.2)), Label("halo", (0.0, 0.4, 1.0)))
    save_model(Model(method, one.preprocessing, one.sampling, one.card, labels), study / "two")
    assert run(study, "--samples", "3", "--seed", "2", model="two") == 0
    volume, geometry = read_volume([study / "scan.nrrd"])
    expected = sample_volume(load_model(study / "two"), volume, geometry, SampleRequest(3, seed=2))
    assert set(np.unique(expected.masks)) == {0, 1, 2} and expected.labels == labels
    result = read_result_folder(study / "out")
    masks = np.stack([crop.full() for crop in result.samples])
    np.testing.assert_array_equal(masks, expected.masks)
    assert result.labels == labels
    maps = {path.name for path in (study / "out").glob("*.nrrd")} - {f"sample_{k:02d}.seg.nrrd" for k in (1, 2, 3)}
    each = {f"{kind}_{label}.nrrd" for kind in ("mean", "variance") for label in ("core", "halo")}
    assert maps == each | {"entropy.nrrd", "consensus.seg.nrrd"}
    told, sample_set = capsys.readouterr().out, SampleSet(masks, GRID, labels=labels)
    for number, label in enumerate(labels, start=1):
        assert f"{label.name}: {sample_set.volumes_ml(number).mean():.3g} mL" in told


def with_few_training_steps(study):
    path = study / "model/model.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    description["method_config"]["schedule"]["steps"] = 21
    path.write_text(json.dumps(description), encoding="utf-8")


def edited(study, **changes):
    path = study / "model/model.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def bad_volume(study, values):
    write_volume(study / "bad.nrrd", values, GRID)
    return {"volumes": ("bad.nrrd",)}


def missing(study):
    return {"volumes": ("nowhere.nrrd",)}


def truncated(study):
    data = (study / "scan.nrrd").read_bytes()
    (study / "bad.nrrd").write_bytes(data[: len(data) // 2])
    return {"volumes": ("bad.nrrd",)}


def not_an_image(study):
    (study / "bad.nrrd").write_text("just text", encoding="utf-8")
    return {"volumes": ("bad.nrrd",)}


def nan(study):
    return bad_volume(study, np.full(GRID.shape, np.nan, np.float32))


def constant(study):
    return bad_volume(study, np.full(GRID.shape, 3, np.float32))


def surplus_channel(study):
    return {"volumes": ("scan.nrrd", "scan.nrrd")}


def other_grid(study):
    shifted = Geometry(GRID.size, GRID.spacing_mm, (9.0, 2.0, 3.0), GRID.direction)
    write_volume(study / "bad.nrrd", np.random.default_rng(0).random(GRID.shape, dtype=np.float32), shifted)
    return {"volumes": ("scan.nrrd", "bad.nrrd")}


def no_samples(study):
    return {"arguments": ("--samples", "0")}


def no_such_slices(study):
    return {"arguments": ("--slices", "2", "9")}


def region_elsewhere(study):
    return {"arguments": ("--region", "500", "600", "0", "10", "0", "10")}


def no_steps(study):
    return {"arguments": ("--steps", "0")}


def quality_and_steps(study):
    return {"arguments": ("--quality", "fast", "--steps", "3")}


def quality_and_sampler(study):
    return {"arguments": ("--quality", "paper", "--sampler", "ddim", "--eta", "1")}


def steps_of_one_pass(study):
    method = build_method("probabilistic_unet", METHODS["probabilistic_unet"])
    save_model(Model(method, tiny_model().preprocessing), study / "one pass")
    return {"arguments": ("--quality", "fast", "--steps", "4"), "model": "one pass"}


def region_of_no_numbers(study):
    return {"arguments": ("--region", "0", "nan", "0", "10", "0", "10")}


def too_many_samples(study):
    return {"arguments": ("--samples", str(10**16))}


def no_such_model(study):
    return {"model": "nothing"}


def unknown_method(study):
    edited(study, method="oracle")
    return {}


def future_format(study):
    edited(study, format_version=99)
    return {}


def changed_weights(study):
    path = study / "model/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    return {}


def no_such_device(study):
    return {"arguments": ("--device", "abacus")}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing, "nowhere.nrrd"),
        (truncated, "bad.nrrd"),
        (not_an_image, "bad.nrrd"),
        (nan, "NaN"),
        (constant, "bad.nrrd"),
        (surplus_channel, r"expects 1 channel"),
        (other_grid, "bad.nrrd"),
        (no_samples, "at least 1, got 0"),
        (no_such_slices, "0 to 3"),
        (region_elsewhere, "[Rr]egion"),
        (region_of_no_numbers, "all finite"),
        (too_many_samples, "Memory cannot hold 10{16} masks of 1440 voxels; sample fewer"),
        (no_steps, "steps"),
        (quality_and_steps, "--quality fast chooses sampler and steps; leave out --steps, or --quality"),
        (quality_and_sampler, "leave out --sampler and --eta, or --quality"),
        (steps_of_one_pass, "in one pass; leave out --steps, --quality"),
        (no_such_model, "neither a folder nor a bundled model"),
        (unknown_method, "Unknown method 'oracle'"),
        (future_format, "format version 99"),
        (changed_weights, "sha256"),
        (no_such_device, "abacus"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_input_is_one_line_and_leaves_nothing(study, capsys, spoil, message):
    changes = spoil(study)
    code = run(study, *changes.pop("arguments", ()), **changes)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1
    assert re.search(message, errors[0]), errors[0]
    assert not (study / "out").exists()


@pytest.mark.parametrize(("number", "reason"), [(28, "No space left on device"), (13, "Permission denied")])
def test_a_failed_write_is_one_line_and_leaves_nothing(study, capsys, monkeypatch, number, reason):
    def fail(*_, **__):
        raise OSError(number, reason)

    monkeypatch.setattr(outputs, "write_volume", fail)
    assert run(study, "--samples", "1") == 1
    assert f"error: {reason.lower()}" in capsys.readouterr().err
    assert not (study / "out").exists()


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="needs a user's rights")
def test_no_permission_is_one_line(study, capsys):
    study.chmod(0o500)
    try:
        assert run(study, "--samples", "1") == 2
    finally:
        study.chmod(0o700)
    assert f"{study} cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "there", "message"),
    [
        ("file", "file", r"file is a file; --out takes a folder"),
        ("file/below/it", "file", r"it cannot be created: .*file is a file; --out"),
        ("out", "out/sample_07.seg.nrrd", r"out holds sample_07.seg.nrrd already; .*--overwrite"),
        ("out", "out/mean.nrrd", r"out holds mean.nrrd already; .*--overwrite"),
    ],
)
def test_out_is_refused_before_anything_is_computed(study, capsys, monkeypatch, out, there, message):
    (study / "out").mkdir()
    (study / there).write_text("mine", encoding="utf-8")
    monkeypatch.setattr("AmbiguousSegLib.cli.sample.load_model", lambda *_: pytest.fail("went on"))
    assert run(study, "--samples", "1", "--out", str(study / out)) == 2
    assert (
        re.search(f"^error: .*{message}", capsys.readouterr().err)
        and (study / there).read_text(encoding="utf-8") == "mine"
    )


def test_too_little_memory_is_one_line(study, capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("AmbiguousSegLib.cli.sample.sample_volume", fail)
    assert run(study, "--samples", "1") == 1
    assert "error: there is not enough memory (9 GiB were asked for); sample fewer" in capsys.readouterr().err


def test_an_earlier_result_is_kept_unless_told(study, capsys):
    assert run(study, "--samples", "2") == 0
    before = (study / "out/samples.json").read_text(encoding="utf-8")
    assert run(study, "--samples", "1") == 2
    assert (
        "--overwrite" in capsys.readouterr().err and (study / "out/samples.json").read_text(encoding="utf-8") == before
    )
    assert run(study, "--samples", "1", "--overwrite") == 0
    assert not (study / "out/sample_02.seg.nrrd").exists()


def test_one_of_several_series_is_sampled(study, capsys):
    pydicom = pytest.importorskip("pydicom")
    from dicom_files import write_series

    files = [write_series(study / "a"), write_series(study / "b")]
    (study / "both").mkdir()
    for name, own in zip("ab", files):
        for file in own:
            file.rename(study / "both" / f"{name}_{file.name}")
    uids = [str(pydicom.dcmread(study / "both" / f"{name}_000.dcm").SeriesInstanceUID) for name in "ab"]
    assert run(study, "--samples", "1", volumes=("both",)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and all(uid in told for uid in uids) and "--series UID" in told
    assert run(study, "--samples", "1", "--series", uids[1], volumes=("both",)) == 0
    assert run(study, "--samples", "1", "--series", "1.2", "--overwrite", volumes=("both",)) == 2
    assert "none of them 1.2" in capsys.readouterr().err
    assert run(study, "--samples", "1", "--series", "1.2", "--overwrite") == 2
    assert "scan.nrrd is not DICOM" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["gone", "no permission", "pipe"])
def test_what_cannot_be_opened_is_one_line_without_a_number(study, capsys, kind):
    path = study / "v.nrrd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "no permission":
        (study / "scan.nrrd").rename(path)
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("root reads everything")
    assert run(study, volumes=("v.nrrd",)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "v.nrrd" in told and "Errno" not in told


def test_what_sampling_refuses_names_the_volume(tmp_path, capsys):
    save_model(tiny_model(), tmp_path / "model")
    colours = np.random.default_rng(0).integers(0, 255, (9, 8, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, True), str(tmp_path / "photo.png"))
    words = [str(tmp_path / "photo.png"), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    assert cli.main(["sample", *words]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith(f"error: {tmp_path / 'photo.png'}: The model expects 1 channel(s)")

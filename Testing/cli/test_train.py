"""``train`` from the command line: what it makes, and one line for everything that is wrong."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_training import (
    REPOSITORY,
    SIZE,
    checkpoint_of,
    log_of,
    make_trainer,
    one_step,
    tiny_config,
    write_cases,
    write_config,
)

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.cli.common import CommandError
from AmbiguousSegLib.cli.train import _base, parse
from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.methods.probabilistic_unet import ProbabilisticUNetConfig
from AmbiguousSegLib.model import Model, load_model, save_model
from AmbiguousSegLib.training.checkpoint import FILE
from AmbiguousSegLib.training.trainer import Trainer
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_cases(tmp_path_factory.mktemp("data") / "cases")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """Folder of a run by the library, which the command line must equal."""
    folder = tmp_path_factory.mktemp("finished")
    make_trainer(tiny_config(), data, folder).run()
    return folder


@pytest.fixture
def train(data, tmp_path, capsys):
    """Runs the subcommand on a configuration; exit code and what was said on standard output and standard error."""

    def run(config: str | dict | None = None, *arguments: str, out: Path = tmp_path / "run", folder: bool = True):
        path = tmp_path / "config.yaml"
        if isinstance(config, str):
            path.write_text(config, encoding="utf-8")
        else:
            write_config(path, tiny_config(config))
        places = ["--out", str(out), "--device", "cpu", *(["--data", str(data)] if folder else [])]
        code = main(["train", "--config", str(path), *places, *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(result: tuple[int, str, str], *words: str, code: int = 2) -> None:
    """One line on standard error, after a progress bar if there was one, that holds the words."""
    lines = [line for line in result[2].splitlines() if line.startswith("error: ")]
    assert result[0] == code and len(lines) == 1 and "Traceback" not in result[2], result[2]
    assert all(word in lines[0] for word in words), lines[0]
    assert result[1] == ""


# What it was trained on


def test_the_model_says_what_it_was_trained_on_and_the_next_run_what_differs(train, finished, data, tmp_path, caplog):
    model = load_model(finished / "model")
    subjects = json.loads((finished / "split.json").read_text(encoding="utf-8"))["train"]
    images = [sitk.GetArrayFromImage(sitk.ReadImage(str(data / case / "image.png"))) for case in subjects]
    found, (channel,) = model.inputs, model.inputs.channels
    assert (found.images, found.pictures, found.pixel_mm, found.rows_px) == (len(images), True, None, (SIZE, SIZE))
    assert channel.least == (min(map(np.min, images)), max(map(np.min, images)))
    assert channel.greatest == (min(map(np.max, images)), max(map(np.max, images)))
    medians = [float(np.median(image)) for image in images]
    assert channel.median == (min(medians), max(medians)) and channel.whole and channel.stored == "uint8"
    assert train(None, "--from", str(finished / "model"), out=tmp_path / "same")[0] == 0
    assert not any("differ" in message for message in caplog.messages)
    dark = replace(channel, low=(0.0, 1.0), median=(2.0, 3.0), high=(8.0, 9.0), greatest=(9.0, 10.0))
    save_model(replace(model, inputs=replace(found, channels=(dark,))), tmp_path / "dark")
    assert train(None, "--from", str(tmp_path / "dark"), out=tmp_path / "other")[0] == 0
    (told,) = [message for message in caplog.messages if "differ" in message]
    assert "started from. The 99.5th percentile of the values is " in told and "it is 8 to 9;" in told
    assert load_model(tmp_path / "other" / "model").inputs == found


def test_what_is_planned_for_a_model_that_is_told_of_a_point_leaves_its_map_as_it_is(data, tmp_path):
    """The plan for pictures varies brightness and contrast, which a configuration with a point refuses."""
    network = {"image_channels": 2, "unet": {"filters": [4, 4], "convolutions": 1}, "rank": 2}
    slices = Preprocessing(("grey",), "stored", 1.0, (16, 16), 2, Intensity("minmax"), point_sigma_mm=3.0)
    save_model(Model(build_method("ssn", network), slices), tmp_path / "told")
    places = ["--data", str(data), "--out", str(tmp_path / "run"), "--device", "cpu"]
    for start, varied in (([], (0.15, 0.05)), (["--from", str(tmp_path / "told")], (0.0, 0.0))):
        below, _ = _base([*start, *places])
        config = parse([*start, *places], below)[1]
        assert (config.augmentation.gain, config.augmentation.offset) == varied
        assert (config.dataset.point is None) == (not start)


# Runs


def test_a_run_is_the_librarys(train, data, finished, tmp_path):
    code, out, _ = train()
    assert code == 0
    best = log_of(finished, "validation")[-1]["validation"]["ged_u"]
    assert out == f"{tmp_path / 'run' / 'model'}: best model, at 40 images, validation GED {best:.4f}\n"
    ours, theirs = checkpoint_of(tmp_path / "run"), checkpoint_of(finished)
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    for name in ("config.json", "split.json", "model/model.json"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()
    assert load_model(tmp_path / "run" / "model").card.training["images_seen"] == 40
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_the_phantom_needs_no_folder(train, tmp_path):
    assert train({"dataset.kind": "phantom", "optimisation.images": 4}, folder=False)[0] == 0
    assert not (tmp_path / "run" / "split.json").exists()


def test_tensorboard_events_hold_the_logged_losses(train, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert train({"optimisation.images": 12}, "--tensorboard=true")[0] == 0
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = log_of(tmp_path / "run", "loss")
    for name in ("loss", "simple", "ambiguity"):
        scalars = events.Scalars(f"loss/{name}")
        assert [s.step for s in scalars] == [4, 8, 12]
        assert [s.value for s in scalars] == pytest.approx([entry[name] for entry in logged], rel=1e-6)


def test_an_existing_run_is_refused_and_resumed_on_request(train, finished):
    before = (finished / FILE).read_bytes()
    refused(train({}, out=finished), str(finished), "holds a training run; resume it", code=1)
    assert train({}, "--resume", out=finished)[0] == 0
    assert (finished / FILE).read_bytes() == before


def test_resuming_with_another_configuration_names_the_key(train, finished):
    faster = train({}, "--resume", "--optimisation.learning_rate=0.5", out=finished)
    refused(faster, "optimisation.learning_rate = 0.001, now it is 0.5")


def test_a_truncated_checkpoint_is_refused(train, finished, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILE).write_bytes((finished / FILE).read_bytes()[:-1])
    refused(train({}, "--resume"), str(tmp_path / "run" / FILE), "cannot be read as a checkpoint")


def test_a_loss_that_is_no_number_ends_in_one_line(train, monkeypatch, tmp_path):
    step = Trainer._step

    def diverging(self, batch, positions):
        if self.progress.images == 8:
            next(self.method.parameters()).data.fill_(math.nan)
        return step(self, batch, positions)

    monkeypatch.setattr(Trainer, "_step", diverging)
    changes = {"checkpoint_every_images": 4, "method_config.beta_ambiguity": 0}
    refused(train(changes), "At 8 images the loss became nan", "checkpoint is intact", code=1)
    monkeypatch.undo()
    code, out, _ = train(changes, "--resume")
    assert code == 0 and "at 40 images" in out


def test_a_full_disk_ends_in_one_line(train, monkeypatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(train({"optimisation.images": 4}), "no space left on device", code=1)


def test_what_training_needs_is_named(train, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    refused(train(), "Training needs jsonargparse; install AmbiguousSegLib[train]")


# Configuration


def arguments(tmp_path: Path, text: str, *more: str) -> list[str]:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    return ["--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run"), *more]


@pytest.mark.parametrize("method", ["cimd", "probabilistic_unet"])
def test_a_file_is_read_as_the_configuration_it_was_written_from(data, tmp_path, method):
    written = one_step(tiny_config({"optimisation.microbatch": 2}, method), data, tmp_path / "run").config
    path = write_config(tmp_path / "config.yaml", written)
    assert parse(["--config", str(path), "--out", "x"])[1] == written
    # And what a run notes down can be run again.
    again = parse(["--config", str(tmp_path / "run" / "config.json"), "--out", "x"])[1]
    assert again == written and to_dict(again) == to_dict(written)


def test_the_command_line_overrides_the_file(tmp_path):
    text = "optimisation: {batch_size: 8, images: 80, learning_rate: 1e-3}\nseed: 3\n"
    more = ["--optimisation.batch_size=16", "--method_config.unet.dropout", "0.2", "--dataset.size=[32,48]"]
    options, config = parse(arguments(tmp_path, text, *more, "--resume", "--data", "cases"))
    assert (config.optimisation.batch_size, config.optimisation.images, config.seed) == (16, 80, 3)
    assert config.optimisation.learning_rate == 1e-3  # a text to YAML
    assert config.method_config["unet"]["dropout"] == 0.2 and config.dataset.size == (32, 48)
    assert (options.out, options.data, options.resume) == (tmp_path / "run", Path("cases"), True)


def test_the_method_can_be_overridden(tmp_path):
    more = ("--method", "probabilistic_unet", "--method_config.beta=3")
    _, config = parse(arguments(tmp_path, "method: cimd", *more))
    assert config.method == "probabilistic_unet"
    assert config.method_config == to_dict(ProbabilisticUNetConfig(beta=3.0))


def test_the_sampler_is_of_the_methods_family(tmp_path):
    """Where none is named, the first of the family."""
    steps = "sampling: {steps: 5}"
    config = parse(arguments(tmp_path, steps, "--method", "ccdm"))[1]
    assert (config.sampling.name, config.sampling.steps) == ("categorical", 5)
    assert parse(arguments(tmp_path, steps, "--method", "flow_matching"))[1].sampling.name == "euler"
    assert parse(arguments(tmp_path, steps, "--method", "cimd"))[1].sampling.name == "ddpm"
    with pytest.raises(CommandError, match="ddim is of the family gaussian, .* of the family categorical; choose cat"):
        parse(arguments(tmp_path, "sampling: {name: ddim}", "--method", "ccdm"))


def test_files_are_laid_over_each_other_and_the_command_line_over_all(tmp_path):
    """Wherever the command line names them; a file that names no method leaves that of the one before."""
    text = (
        "method: probabilistic_unet\nmethod_config: {beta: 2.0}\noptimisation: {batch_size: 8, images: 80}\nseed: 3\n"
    )
    (tmp_path / "over.yaml").write_text(
        "optimisation: {batch_size: 4}\nseed: 4\nlabels: [{name: disc}]\n", encoding="utf-8"
    )
    _, config = parse(arguments(tmp_path, text, "--seed=5", "--config", str(tmp_path / "over.yaml")))
    assert (config.method, config.method_config["beta"], config.labels) == ("probabilistic_unet", 2.0, (Label("disc"),))
    assert (config.optimisation.batch_size, config.optimisation.images, config.seed) == (4, 80, 5)


def test_a_file_of_another_method_starts_from_that_methods_defaults(tmp_path):
    """Of what both methods have, too; data and length stay, and what comes after belongs to the later method."""
    text = "method: cimd\nmethod_config: {image_channels: 3, unet: {model_channels: 8}, prediction: x0}\nseed: 3\n"
    other, after = tmp_path / "other.yaml", tmp_path / "after.yaml"
    other.write_text("method: probabilistic_unet\n", encoding="utf-8")
    after.write_text("method_config: {beta: 2.0}\n", encoding="utf-8")
    config = parse(arguments(tmp_path, text, "--config", str(other)))[1]
    assert (config.method, config.seed) == ("probabilistic_unet", 3)
    assert config.method_config == to_dict(ProbabilisticUNetConfig())
    config = parse(arguments(tmp_path, text, "--config", str(other), "--config", str(after)))[1]
    assert config.method_config == to_dict(ProbabilisticUNetConfig(beta=2.0))
    config = parse(arguments(tmp_path, text, "--method", "probabilistic_unet", "--method_config.beta=2"))[1]
    assert config.method_config == to_dict(ProbabilisticUNetConfig(beta=2.0))


def test_bundled_presets_are_laid_over_each_other_by_name():
    base = parse(["--config", "lidc-cimd-128", "--out", "x"])[1]
    over = parse(["--config", "lidc-cimd-128.yaml", "--config", "ablations/ddpm-det-seg", "--out", "x"])[1]
    assert (base.dataset.target, over.dataset.target) == ("random_rater", "mean")
    assert over.method_config == {**base.method_config, "beta_ambiguity": 0.0}


def test_a_file_goes_before_a_preset_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("phantom").write_text("seed: 77", encoding="utf-8")
    assert parse(["--config", "phantom", "--out", "x"])[1].seed == 77


def test_labels_of_several_classes(tmp_path):
    """In a file and on the command line; the method's number of classes follows."""
    labels = "[{name: core}, {name: halo, color: [0, 0.5, 1]}]"
    expected = (Label("core"), Label("halo", (0.0, 0.5, 1.0)))
    for method in ("cimd", "probabilistic_unet"):
        in_file = parse(arguments(tmp_path, f"labels: {labels}", "--method", method))[1]
        on_line = parse(arguments(tmp_path, "labels: [{name: lesion}]", "--method", method, "--labels", labels))[1]
        assert in_file == on_line and in_file.labels == expected and in_file.method_config["classes"] == 2
        again = parse(["--config", str(write_config(tmp_path / "again.yaml", in_file)), "--out", "x"])[1]
        assert again == in_file


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        ("card: {label: disc}", [], "card.label … write labels: [{name: disc}]."),
        ("seed: 1", ["--card.label=disc"], "card.label … write labels: [{name: disc}]."),
        ("sampling: {name: ddim, eta: 0.5}", [], "sampling.eta … write sampling.options: {eta: 0.5}."),
        ("sampling: {name: ddim}", ["--sampling.eta", "0.5"], "sampling.eta … write sampling.options: {eta: 0.5}."),
        ("sampling: {name: dpm++2m, eta: 0.0}", [], "sampling.eta … leave it out."),
        ("labels: [{name: disc}]\nsampling: {name: ddim, options: {eta: 0.5}}", [], None),
    ],
)
def test_old_names_are_read_and_told_once(tmp_path, caplog, text, more, told):
    with caplog.at_level("WARNING"):
        config = parse(arguments(tmp_path, text, *more))[1]
    said = "is an old name, which the next version will not read;"
    assert caplog.messages == ([] if told is None else [told.replace("…", said)])
    if "disc" in f"{text} {more}":
        assert config.labels == (Label("disc"),)
    if "0.5" in f"{text} {more}":
        assert config.sampling == SamplerSettings("ddim", options={"eta": 0.5})
    elif "dpm" in text:
        assert config.sampling == SamplerSettings("dpm++2m")


def test_settings_of_another_method_are_refused(tmp_path):
    with pytest.raises(CommandError, match=r"method_config.*prediction"):
        parse(arguments(tmp_path, "method_config: {prediction: x0}", "--method=probabilistic_unet"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimisation: {batchsize: 3}", ["optimisation", "batchsize"]),
        ("dataset: {folder: x}", ["dataset", "folder"]),
        ("validation: {every: 3}", ["validation", "every"]),
        ("sampling: {sampler: ddim}", ["sampling", "sampler"]),
        ("augmentation: {mirror: true}", ["augmentation", "mirror"]),
        ("method_config: {unet: {depth: 3}}", ["method_config", "unet.depth"]),
        ("epochs: 3", ["epochs"]),
        ("optimisation: {batch_size: many}", ["optimisation.batch_size", "many"]),
        ("dataset: {size: [16]}", ["dataset.size"]),
        ("dataset: {intensity: {rule: window, low: x, high: 3}}", ["dataset.intensity"]),
        ("validation: {cases: few}", ["validation.cases", "few"]),
        (
            "sampling: {name: ddim, options: {eta: none}}",
            ["option eta of the sampler ddim must be a finite number", "none"],
        ),
        ("sampling: {name: ddim, eta: none}", ["option eta of the sampler ddim must be a finite number", "none"]),
        ("sampling: {options: {eta: 1}}", ["ddpm has no option 'eta'"]),
        ("sampling: {grid: leading}", ["Unknown step grid 'leading'"]),
        ("labels: core", ["labels"]),
        ("labels: [core]", ["labels[0] must be a mapping", "str"]),
        ("labels: [{name: core}, {name: core}]", ["Labels must differ in name, got core, core"]),
        ("labels: [{name: core}]\ncard: {label: core}", ["card.label is now called labels"]),
        ("sampling: {eta: 1, options: {eta: 0}}", ["give options alone, got eta 1 too"]),
        ("sampling: {eta: 1, options: 3}", ["give options alone"]),
        (f"optimisation: {{learning_rate: 1{'0' * 400}}}", ["int too large"]),
        ("method_config: {classes: 2}", ["method_config.classes is 2, but there are 1 label(s), lesion"]),
        ("augmentation: {flip: 3}", ["augmentation.flip", "3"]),
        ("method_config: {unet: {dropout: x}}", ["method_config.unet.dropout", "x"]),
        ("tensorboard: maybe", ["tensorboard", "maybe"]),
        ("seed: x", ["seed", "x"]),
        ("optimisation: {batch_size: -1}", ["OptimisationConfig.batch_size must be at least 1, got -1"]),
        ("dataset: {kind: dicom}", ["DataConfig.kind must be one of", "folder", "phantom"]),
        ("dataset: {subject_pattern: '('}", ["DataConfig.subject_pattern must be a regular expression"]),
        ("dataset: {intensity: {rule: log}}", ["Intensity.rule", "log"]),
        ("validation: {samples: 1}", ["ValidationConfig.samples must be at least 2"]),
        ("sampling: {name: leap}", ["Unknown sampler 'leap'"]),
        ("sampling: {steps: 0}", ["sampling steps must be at least 1"]),
        ("augmentation: {scale: -1}", ["AugmentationConfig.scale must be 0 or more"]),
        ("method_config: {prediction: mask}", ["CIMDConfig.prediction must be one of"]),
        ("seed: -1", ["TrainingConfig.seed must be 0 or more"]),
        ("optimisation: 3", ["optimisation must be a mapping", "got the value 3"]),
        ("card:", ["card must be a mapping", "got nothing"]),
        ("method: diffusion", ["Unknown method 'diffusion'; known: ", "cimd", "probabilistic_unet"]),
        ("method: [cimd]", ["Unknown method"]),
        ("card: {name: [}", ["cannot be read as YAML", "line 1, column"]),
        ("- 1\n- 2", ["expected a mapping"]),
        ("", ["expected a mapping"]),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_key(train, tmp_path, text, words):
    result = train(text)
    refused(result, *words)
    warnings = sum("is an old name" in line for line in result[2].splitlines())
    assert result[2].count("\n") == 1 + warnings and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--optimisation.batchsize=3"], ["optimisation.batchsize"]),
        (["--optimisation.batch_size"], ["optimisation.batch_size", "expected one argument"]),
        (["--method"], ["--method", "expected one argument"]),
        (["--config"], ["--config", "expected one argument"]),
        (["--config", "absent.yaml"], ["There is no file or preset absent.yaml; presets: ", "lidc-cimd-128"]),
        (["--config", str(REPOSITORY)], [f"{REPOSITORY} is a folder, expected a YAML file"]),
        (["--labels", "[{nmae: core}]"], ["labels[0].nmae"]),
        (["--labels=[{name: core}, {name: halo}]", "--method_config.classes=3"], ["classes is 3, but there are 2"]),
        (["--device", "abacus"], ["Device 'abacus' is not known; choose auto"]),
        (["more"], ["more"]),
        (["--data", "absent"], ["absent: there is no such folder or file"]),
        (["--optimisation.images=3"], ["optimisation.images 3 leaves no batch of 4"]),
        (["--dataset.channels=[CT,PET]"], ["the image has 1 channel(s), dataset.channels names 2 (CT, PET)"]),
        (["--dataset.size=[17,16]"], ["dataset.size must be", "17"]),
        (["--dataset.split_file=absent.json"], ["absent.json"]),
        (["--dataset.validation_fraction=0.9"], ["validation=0.9"]),
        (["--dataset.subject_pattern=case(x)"], ["subject_pattern", "not found"]),
        (["--sampling.steps=51"], ["number of steps must lie in [1, 50], got 51"]),
        (["--method_config.image_channels=2"], ["dataset does not fit the method", "reads 2 channels"]),
    ],
)
def test_a_wrong_command_line_is_one_line(train, tmp_path, extra, words):
    refused(train({}, *extra), *words)
    assert not (tmp_path / "run").exists()


def test_bytes_that_are_no_text_are_no_configuration(train, tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    refused(train({}, "--config", str(tmp_path / "binary.yaml")), "binary.yaml", "cannot be read as YAML")


def test_folder_and_output_are_asked_for(train, capsys):
    assert main(["train"]) == 2 and "out" in capsys.readouterr().err
    refused(train(folder=False), "No data folder given; name one with --data")


def test_the_phantom_has_one_channel_and_no_end(train):
    for key, value, word in (
        ("dataset.channels", ["a", "b"], "dataset.channels names 2"),
        ("validation.cases", None, "endless"),
        ("dataset.spacing_mm", 1.0, f"Field of ({SIZE}, {SIZE}) pixels"),
    ):
        refused(train({"dataset.kind": "phantom", key: value}, folder=False), word)


def test_processes_that_cannot_share_a_batch_are_refused(train, monkeypatch):
    """As each of three processes sees it."""
    cpu = torch.device("cpu")
    monkeypatch.setattr("AmbiguousSegLib.cli.train._join_processes", lambda device, processes: cpu)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    monkeypatch.setenv("WORLD_SIZE", "3")
    refused(train(), "optimisation.batch_size 4 cannot be shared by 3 processes evenly")


def test_help_names_every_section(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    for key in ("--optimisation.batch_size", "--method_config.unet.dropout", "--dataset.size", "--resume"):
        assert key in text


def test_labels_under_both_names_are_refused(tmp_path):
    with pytest.raises(CommandError, match="--card.label is now called --labels; give --labels alone"):
        parse(arguments(tmp_path, "seed: 1", "--labels", "[{name: a}]", "--card.label", "b"))

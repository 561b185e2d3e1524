"""``plan`` from the command line: the table, the file, and one line for everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tiny_training import CASES, SIZE, write_cases

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.cli.plan import table
from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.training import plan as planning
from AmbiguousSegLib.training.plan import plan_for
from AmbiguousSegLib.training.plan_speed import Speed


@pytest.fixture(autouse=True)
def speed(monkeypatch):
    monkeypatch.setattr(planning, "measured_speed", lambda device: lambda *_: Speed(20, 1e9, 1e9, 400))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_cases(tmp_path_factory.mktemp("data") / "discs")


@pytest.fixture
def run(data, tmp_path, capsys):
    """Runs the subcommand; exit code, standard output, standard error, and the file."""

    def plan(*arguments: str, out: Path = tmp_path / "plan.yaml", folder: Path = data):
        code = main(["plan", "--data", str(folder), "--out", str(out), "--device", "cpu", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err.rsplit("\r", 1)[-1], out  # without the progress bar

    return plan


def test_the_file_is_what_the_library_plans(run, data):
    code, said, _, file = run()
    made = plan_for(data, device="cpu")
    assert code == 0
    assert yaml.safe_load(file.read_text(encoding="utf-8")) == made.config
    assert made.config["dataset"]["kind"] == "folder"
    assert made.config["card"]["name"] == "discs"
    lines = said.splitlines()
    assert lines[0].startswith("a folder for each case: case0 with image.png and rater_0.png")
    assert f"{CASES} cases of {CASES} subjects" in lines
    assert lines[-2] == "expected: 30 minutes, 912 MB of memory"  # 32,000 images at 20 a second; the cache beside it
    assert lines[-1].endswith(f"train --config {file} --data {data} --out RUN")


def test_the_table_has_every_key_of_the_file_with_its_value(data):
    made = plan_for(data, device="cpu")
    rows = {row["key"]: row for row in table(made).rows}
    in_file = [
        f"{section}.{key}" if isinstance(values, dict) and section != "method_config" else section
        for section, values in made.config.items()
        for key in (values if isinstance(values, dict) and section != "method_config" else [section])
    ]
    assert set(rows) == set(in_file) - {"card.description", "card.training_data"}
    assert rows["dataset.size"]["value"] == f"{SIZE}, {SIZE}"
    assert rows["dataset.spacing_mm"]["value"] == "null"
    assert rows["dataset.intensity"]["value"] == "full_scale 255"
    assert rows["method_config"]["value"] == "U-Net 16: 16, 32, 64"
    assert rows["dataset.intensity"]["reason"] == "all values lie in 0 to 255, a full scale"


def test_train_takes_the_file_and_keys_over_it(run, data, tmp_path):
    *_, file = run("--labels", "disc", "--minutes", "3", "--subject-pattern", r"(case\d)")
    _, config = parse(["--config", str(file), "--data", str(data), "--out", str(tmp_path), "--seed", "3"])
    assert config.labels == (Label("disc", DEFAULT_LABELS[0].color),)
    assert config.optimisation.images == 3200  # 180 s · 0.9 · 20, rounded down
    assert config.dataset.subject_pattern == r"(case\d)"
    assert config.seed == 3
    run("--images", "70", "--overwrite", out=file)
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["optimisation"]["images"] == 70


@pytest.mark.slow
def test_a_planned_model_is_trained(run, data, tmp_path, capsys):
    *_, file = run("--images", "16")
    out = tmp_path / "run"
    assert main(["train", "--config", str(file), "--data", str(data), "--out", str(out), "--device", "cpu"]) == 0
    described = json.loads((out / "model" / "model.json").read_text(encoding="utf-8"))
    assert "discs: 10 cases of 10 subjects, each with masks of 3 rater(s)" in json.dumps(described)


def test_a_file_that_is_there_is_kept_unless_it_may_go(run):
    *_, file = run()
    before = file.read_bytes()
    code, said, error, _ = run("--images", "70")
    assert (code, said) == (2, "")
    assert error == f"error: {file} is there already; choose another --out, or add --overwrite.\n"
    assert file.read_bytes() == before
    assert run("--images", "70", "--overwrite")[0] == 0
    assert file.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "floder"], "Unknown --kind 'floder'; known: auto, "),
        (["--minutes", "0"], "The minutes that a training may take must be positive, got 0.0."),
        (["--images", "0"], "The number of images to train on must be at least 1, got 0."),
        (["--labels", "a", "a"], "Labels must differ in name, got a, a."),
        (["--labels", " "], "A label needs a name, got an empty one."),
        (["--device", "cuda:99"], "Device 'cuda:99' cannot be used here ("),
        (["--subject-pattern", "("], "DataConfig.subject_pattern must be a regular expression, or null"),
    ],
)
def test_bad_settings_are_one_line(run, arguments, message):
    code, said, error, file = run(*arguments)
    assert (code, said, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"error: {message}")
    assert not file.exists()


def test_bad_places_are_one_line(run, data, tmp_path):
    code, _, error, _ = run(out=tmp_path)
    assert (code, error) == (2, f"error: {tmp_path} is a folder; --out takes a file, such as {tmp_path}/plan.yaml.\n")
    (tmp_path / "file").touch()
    code, _, error, _ = run(out=tmp_path / "file" / "plan.yaml")
    assert code == 2 and error.startswith(f"error: {tmp_path}/file/plan.yaml cannot be written: {tmp_path}/file")
    code, _, error, _ = run(folder=tmp_path / "absent")
    assert code in (1, 2) and error.startswith(f"error: {tmp_path}/absent") and error.count("\n") == 1
    code, _, error, _ = run(folder=tmp_path)
    assert code == 2 and "no layout of data is recognised here" in error

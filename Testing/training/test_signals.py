"""SIGTERM and Ctrl-C end a run after its step, with its state saved."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from tiny_training import (
    BUSY,
    REPOSITORY,
    assert_same_run,
    log_of,
    make_trainer,
    tiny_config,
    write_config,
)

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.training.checkpoint import FILE

SCRIPT = REPOSITORY / "Testing" / "training" / "signalled_run.py"


@pytest.fixture(scope="module")
def config():
    return tiny_config(BUSY)


@pytest.fixture(scope="module")
def whole(config, data, tmp_path_factory):
    """Folder of the run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert make_trainer(config, data, folder).run()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "workers"), [("SIGTERM", 0), ("SIGTERM", 1), ("SIGINT", 1)])
def test_a_signalled_run_saves_and_goes_on(config, data, whole, tmp_path, capsys, name, workers):
    options = ["--config", str(write_config(tmp_path / "config.yaml", config)), "--data", str(data)]
    options += ["--out", str(tmp_path / "run"), "--device", "cpu"]
    ended = subprocess.run(
        [sys.executable, SCRIPT, name, "12", "0", "train", *options, f"--dataset.workers={workers}"],
        start_new_session=True,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=900,
        encoding="utf-8",
    )
    assert ended.returncode == 0, ended.stderr
    said = [line for line in ended.stderr.splitlines() if "topped" in line]
    assert said == ["Stopped at 16 images; the same command with --resume goes on."]
    assert "Traceback" not in ended.stderr and ended.stdout == ""
    assert (tmp_path / "run" / FILE).exists() and not (tmp_path / "run" / "model").exists()

    assert main(["train", *options, "--resume"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'run' / 'model'}: best model, at 40 images")
    assert_same_run(whole, tmp_path / "run")
    assert [e["loss"] for e in log_of(tmp_path / "run", "loss")] == [e["loss"] for e in log_of(whole, "loss")]


def test_the_handlers_of_before_are_put_back(config, data, tmp_path):
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    trainer = make_trainer(config, data, tmp_path)
    assert not trainer.run(lambda *_: signal.raise_signal(signal.SIGTERM))
    assert trainer.progress.images == 4
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.fixture
def interruptible():
    """Ctrl-C raises, as in a terminal: a job in the background of a shell starts with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_ends_at_once(config, data, tmp_path, interruptible):
    def twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(config, data, tmp_path / "run").run(twice)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not (tmp_path / "run" / FILE).exists()


def test_a_signal_in_the_last_step_changes_nothing(config, data, whole, tmp_path):
    trainer = make_trainer(config, data, tmp_path)
    assert trainer.run(lambda images, total, _: images == total and signal.raise_signal(signal.SIGTERM))
    assert_same_run(whole, tmp_path)

"""Two processes do what one does with the same global batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import (
    REPOSITORY,
    checkpoint_of,
    log_of,
    make_trainer,
    stop_after,
    tiny_config,
    write_config,
)

from AmbiguousSegLib.training.config import TrainingConfig

pytestmark = [pytest.mark.slow, pytest.mark.numerical]

# No dropout: its masks follow from a process' first row. Three held-out cases: unequal shares. Two microbatches for
# each process: gradients are exchanged once, after the second.
CONFIG = tiny_config({"validation.every_images": 20, "validation.cases": 3, "optimisation.microbatch": 1})


def run_two(config: TrainingConfig, data: Path, folder: Path, program: list[str]) -> subprocess.CompletedProcess:
    """Train on two processes of the CPU, launched as a user would."""
    options = ["--config", write_config(folder / "config.yaml", config), "--data", data, "--out", folder / "run"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.run(
        [*launch, *program, "train", *options, "--device", "cpu"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=900,
        encoding="utf-8",
    )


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.fixture(scope="module")
def one(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    make_trainer(CONFIG, data, folder).run()
    return folder


def test_two_processes_are_one(data, one, tmp_path):
    ended = run_two(CONFIG, data, tmp_path, ["-m", "AmbiguousSegLib"])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("best model, at") == 1  # one process speaks
    # Adam turns any gradient into a step of about the learning rate, 1e-3: after ten of them, weights that agree to
    # 1e-5 had gradients that agree. Moments are compared too, where nothing divides small numbers by small ones.
    assert difference(checkpoint_of(tmp_path / "run"), checkpoint_of(one)) < 1e-5

    ours, theirs = (log_of(folder, "validation") for folder in (tmp_path / "run", one))
    assert [(e["images"], e["cases"]) for e in ours] == [(20, 3), (40, 3)]
    for a, b in zip(ours, theirs, strict=True):
        assert a["validation"] == pytest.approx(b["validation"], abs=1e-6)
    assert len(log_of(tmp_path / "run", "loss")) == 10


def test_a_signal_to_one_process_stops_both_and_one_process_goes_on(data, one, tmp_path):
    script = REPOSITORY / "Testing" / "training" / "signalled_run.py"
    ended = run_two(CONFIG, data, tmp_path, [str(script), "SIGTERM", "12", "1"])
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("Stopped at 16 images") == 1
    trainer = make_trainer(CONFIG, data, tmp_path / "run", resume=True)
    assert trainer.progress.images == 16
    assert trainer.run()
    assert difference(checkpoint_of(tmp_path / "run"), checkpoint_of(one)) < 1e-5


def test_the_comparison_would_see_a_process_left_out(data, one, tmp_path):
    """Half the batch, as if gradients were never exchanged, is far from the whole."""
    half = make_trainer(tiny_config({"optimisation.batch_size": 2, "optimisation.images": 20}), data, tmp_path)
    half.run(stop_after(half, 20))
    assert difference(checkpoint_of(tmp_path), checkpoint_of(one)) > 1e-3

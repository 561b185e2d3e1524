"""``sample`` and ``batch.py`` on two processes, as torchrun starts them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from shared_data import REPOSITORY
from tiny_models import tiny_model

from AmbiguousSegLib import cli
from AmbiguousSegLib.inference import volume_sampling
from AmbiguousSegLib.inference.shared_drawing import WORK_FOLDER
from AmbiguousSegLib.model import save_model
from AmbiguousSegLib.outputs.result_folder import read_result_folder
from AmbiguousSegLib.processes import PeerError, processes_of_run
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.writing import write_volume

GRID = Geometry((20, 18, 6), (0.8, 0.8, 3.0), (1.0, 2.0, 3.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
SAMPLE, BATCH = ("-m", "AmbiguousSegLib", "sample"), ("AmbiguousSeg/Scripts/batch.py",)
# The second process is killed with its first part half-written, or when it waits for the others, if it had none.
KILLED = """
import os, signal, sys
import numpy as np
from AmbiguousSegLib.cli import main
from AmbiguousSegLib.processes import Processes
def end(*arguments, **more): os.kill(os.getpid(), signal.SIGKILL)
if os.environ["RANK"] == "1": np.savez_compressed, Processes.gathered = end, end
raise SystemExit(main(["sample", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A model, three volumes and the masks of the first, by one process."""
    folder = tmp_path_factory.mktemp("study")
    save_model(tiny_model(), folder / "model")
    for number in range(3):
        values = np.random.default_rng(number).random(GRID.shape, dtype=np.float32)
        write_volume(folder / "scans" / f"scan_{number}.nrrd", values, GRID)
    assert cli.main(["sample", str(folder / "scans" / "scan_0.nrrd"), *options(folder, folder / "one")]) == 0
    return folder


def options(folder, out):
    fixed = ["--samples", "3", "--seed", "5", "--device", "cpu"]
    return ["--model", str(folder / "model"), "--out", str(out), *fixed]


def started(program, *arguments, count=2):
    """Each of ``count`` processes with the variables of torchrun, which ends the others when one ends: not here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(count):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        environment = {**os.environ, **own, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        run = [sys.executable, *program, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
        processes.append(subprocess.Popen(run, cwd=REPOSITORY, env=environment, **pipes))
    return processes


def ended(processes):
    """Exit codes and what was said, by each."""
    said = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], [out for out, _ in said], [err for _, err in said]


def masks_in(folder):
    return np.stack([crop.full() for crop in read_result_folder(folder).samples])


@pytest.mark.slow
def test_two_processes_sample_what_one_does(study, tmp_path):
    codes, out, err = ended(started(SAMPLE, study / "scans" / "scan_0.nrrd", *options(study, tmp_path / "two")))
    assert codes == [0, 0], err
    assert "3 samples in" in out[0] and not out[1]  # one process speaks
    assert np.array_equal(masks_in(tmp_path / "two"), masks_in(study / "one")) and masks_in(study / "one").any()
    assert (tmp_path / "two" / "samples.json").read_bytes() == (study / "one" / "samples.json").read_bytes()
    assert not (tmp_path / "two" / WORK_FOLDER).exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_one_that_is_killed_is_told_and_its_share_is_done_on_relaunch(study, tmp_path, monkeypatch):
    arguments = [str(study / "scans" / "scan_0.nrrd"), *options(study, tmp_path / "out")]
    codes, _, err = ended(started(("-c", KILLED), *arguments))
    assert codes == [1, -9]
    (line,) = [line for line in err[0].splitlines() if line.startswith("error:")]
    assert line == (
        "error: Another process of this run has ended, or cannot be reached; what is finished is kept, and the same "
        "command goes on from there."
    )
    assert not (tmp_path / "out" / "samples.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / WORK_FOLDER).glob("[!.]*.npz")}
    assert kept

    drawn = []
    draw_masks = volume_sampling.draw_masks
    monkeypatch.setattr(
        volume_sampling,
        "draw_masks",
        lambda m, i, slices, *a, **k: drawn.extend(slices) or draw_masks(m, i, slices, *a, **k),
    )
    alone(monkeypatch)
    assert cli.main(["sample", *arguments]) == 0
    assert len(drawn) == GRID.shape[0] - len(kept)
    assert np.array_equal(masks_in(tmp_path / "out"), masks_in(study / "one"))
    assert not (tmp_path / "out" / WORK_FOLDER).exists()


@pytest.mark.slow
def test_two_processes_share_the_volumes_of_a_batch(study, tmp_path):
    codes, out, err = ended(started(BATCH, study / "scans", *options(study, tmp_path)))
    assert codes == [0, 0], err
    assert np.array_equal(masks_in(tmp_path / "scan_0"), masks_in(study / "one"))
    report = json.loads((tmp_path / "batch.json").read_text(encoding="utf-8"))
    names = [f"scan_{number}" for number in range(3)]
    assert [(row["name"], row["status"]) for row in report["volumes"]] == [(name, "done") for name in names]
    assert all(sum(text.count(f"{name}: done (") for text in out) == 1 for name in names)  # by one of them
    assert "3 done, 0 skipped, 0 failed" in out[0] and "skipped" not in out[1]


def alone(monkeypatch):
    """As the only process of a run of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    own = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in own.items():
        monkeypatch.setenv(name, value)


def test_each_part_is_taken_once_in_every_round(monkeypatch):
    alone(monkeypatch)
    with processes_of_run() as processes:
        assert processes.first and processes.count == 1
        first, second = processes.take(3), processes.take(2)
        assert [next(first), next(first)] == [0, 1] and list(second) == [0, 1] and list(first) == [2]
        assert processes.agreed({"a": 1}) == {"a": 1} and processes.gathered(3) == [3]
        assert processes.first_to_tell() and not processes.first_to_tell()


def test_being_ended_by_torchrun_is_told(monkeypatch):
    alone(monkeypatch)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(PeerError, match="torchrun ends this process, as it does when another one"), processes_of_run():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit), processes_of_run() as processes:
        assert processes.first_to_tell()  # another one has said so
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_torchrun_there_is_nothing_to_share(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with processes_of_run() as processes:
        assert processes is None
    monkeypatch.setenv("RANK", "0")
    with processes_of_run() as processes:  # other launchers set one of them
        assert processes is None
    for values, told in (
        ({"WORLD_SIZE": "2"}, "but not LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start by torchrun, or unset them"),
        ({"LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1", "WORLD_SIZE": "x"}, "got '0' of 'x'"),
    ):
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=told), processes_of_run():
            pass

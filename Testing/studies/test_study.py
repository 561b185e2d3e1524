"""The subcommand ``study`` on a tiny model: its table by hand, what a kill leaves, two at once, shares, names."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_models import tiny_model

from AmbiguousSegLib import cli
from AmbiguousSegLib.labels import DEFAULT_LABELS
from AmbiguousSegLib.model import save_model
from AmbiguousSegLib.outputs.result_folder import read_result_folder
from AmbiguousSegLib.studies.jobs import name_problem
from AmbiguousSegLib.studies.locks import HeldError, held, lock_of
from AmbiguousSegLib.studies.owners import Owner
from AmbiguousSegLib.studies.places import sweep, whole_case
from AmbiguousSegLib.studies.progress import Progress
from AmbiguousSegLib.studies.settings import printable
from AmbiguousSegLib.studies.tables import CHANGING
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.writing import write_segmentation, write_volume

GRID = Geometry((16, 16, 4), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A model, four volumes with a rater each, and a table of them."""
    folder = tmp_path_factory.mktemp("study")
    save_model(tiny_model(), folder / "model")
    lines = ["name,CT,rater_anna"]
    for number in range(4):
        values = np.random.default_rng(number).random(GRID.shape, np.float32)
        write_volume(folder / f"scan{number}.nrrd", values, GRID)
        write_segmentation(folder / f"anna{number}.seg.nrrd", values > 0.5, GRID, DEFAULT_LABELS)
        lines.append(f"=p{number},scan{number}.nrrd,anna{number}.seg.nrrd")
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def words(inputs, out, *more):
    fixed = ("--model", inputs / "model", "--out", out, "--samples", 3, "--device", "cpu")
    return ["study", *map(str, (inputs / "t.csv", *fixed, *more))]


def rows(out, file="study.csv"):
    with (out / file).open(newline="", encoding="utf-8") as stream:
        return [{key: v for key, v in row.items() if key not in CHANGING} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def undisturbed(inputs):
    assert cli.main(words(inputs, inputs / "undisturbed")) == 0
    return inputs / "undisturbed"


def left_behind(out):
    return sorted(path.name for path in out.rglob(".*"))


def test_the_table_is_that_of_the_masks(undisturbed):
    told = rows(undisturbed)
    assert [row["case"] for row in told] == [f"'=p{number}" for number in range(4)]  # no formula
    for number, row in enumerate(told):
        masks = np.stack([crop.full() for crop in read_result_folder(undisturbed / f"=p{number}").samples]) > 0
        volumes = masks.sum((1, 2, 3)) * 0.002
        assert float(row["volume_mean_ml"]) == pytest.approx(volumes.mean())
        assert float(row["volume_median_ml"]) == pytest.approx(np.median(volumes))
        assert float(row["volume_low_ml"]) == pytest.approx(volumes.min())
        assert float(row["consensus_ml"]) == pytest.approx((masks.sum(0) >= 2).sum() * 0.002)
        pairs = [(masks[a] & masks[b]).sum() / (masks[a] | masks[b]).sum() for a, b in ((0, 1), (0, 2), (1, 2))]
        assert float(row["disagreement"]) == pytest.approx(1 - np.mean(pairs))
        rater = np.random.default_rng(number).random(GRID.shape, np.float32) > 0.5
        dice = [2 * (mask & rater).sum() / (mask.sum() + rater.sum()) for mask in masks]
        assert float(row["mean_dice"]) == pytest.approx(np.mean(dice))
        assert "marked at the border of the volume" in row["flags"]
    assert left_behind(undisturbed) == [] and (undisturbed / "study.yaml").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_at_random_and_resumed_it_is_the_undisturbed_one(inputs, undisturbed, tmp_path):
    command, generator = (
        [sys.executable, "-m", "AmbiguousSegLib", *words(inputs, tmp_path / "out")],
        np.random.default_rng(0),
    )
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
        while not (tmp_path / "out" / "study.yaml").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert cli.main(words(inputs, tmp_path / "out")) == 0
    assert rows(tmp_path / "out") == rows(undisturbed) and left_behind(tmp_path / "out") == []
    for path in undisturbed.rglob("*.nrrd"):
        assert (tmp_path / "out" / path.relative_to(undisturbed)).read_bytes() == path.read_bytes()


def test_a_corrupt_request_is_not_done_and_a_done_one_is_not_sampled(inputs, undisturbed, capsys):
    before = (undisturbed / "=p1" / "samples.json").stat().st_mtime_ns
    (undisturbed / "=p0" / "request.json").write_bytes(b'{"samples": \xff')
    assert cli.main(words(inputs, undisturbed)) == 0
    assert "1 done, 3 skipped, 0 failed" in capsys.readouterr().out
    assert (undisturbed / "=p1" / "samples.json").stat().st_mtime_ns == before


def test_shares_make_the_whole(inputs, tmp_path, capsys):
    for number in (1, 2):
        assert cli.main(words(inputs, tmp_path, "--shard", f"{number}/2", "--samples", "1")) == 0
    assert [row["case"] for row in rows(tmp_path, "study.2-of-2.csv")] == ["'=p1", "'=p3"]
    capsys.readouterr()
    assert cli.main(words(inputs, tmp_path, "--samples", "1")) == 0
    assert "0 done, 4 skipped" in capsys.readouterr().out


def test_the_stored_settings_start_the_same_study(inputs, undisturbed, tmp_path):
    assert cli.main(["study", "--config", str(undisturbed / "study.yaml"), "--out", str(tmp_path)]) == 0
    assert rows(tmp_path) == rows(undisturbed)


def test_more_samples_than_memory_holds_are_refused_before_any_is_made(inputs, tmp_path, capsys):
    assert cli.main(words(inputs, tmp_path, "--samples", str(10**12))) == 1
    assert "sample fewer" in capsys.readouterr().out and not list(tmp_path.glob("=p*"))


def test_a_lock_has_one_holder_and_that_of_a_dead_process_none(tmp_path):
    with held(lock_of(tmp_path, "p")):
        with pytest.raises(HeldError, match=f"process {os.getpid()} on"), held(lock_of(tmp_path, "p")):
            pass
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    me = Owner.this()
    dead = Owner(me.host, process.pid, "1", "0" * 8)
    (lock_of(tmp_path, "p") / str(dead)).mkdir(parents=True)
    (lock_of(tmp_path, "p") / str(dead)).rmdir()
    (lock_of(tmp_path, "p") / str(dead)).touch()
    with held(lock_of(tmp_path, "p")):
        pass
    assert list(tmp_path.iterdir()) == []
    elsewhere = Owner("another_host", process.pid, "1", "0" * 8)
    lock_of(tmp_path, "p").mkdir()
    (lock_of(tmp_path, "p") / str(elsewhere)).touch()
    with pytest.raises(HeldError, match="on another_host; if that has ended, remove"), held(lock_of(tmp_path, "p")):
        pass


def test_files_of_others_stay_with_a_new_result_and_come_back_from_a_dead_one(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "mine.txt").write_text("mine", encoding="utf-8")
    with whole_case(tmp_path, "p") as place:
        (place / "new").touch()
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["mine.txt", "new"]
    dead = tmp_path / f".writing-{Owner(Owner.this().host, 2**22 + 1, '1', '0' * 8)}"
    (dead / "old").mkdir(parents=True)
    (tmp_path / "p").rename(dead / "old" / "p")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["p"] and (tmp_path / "p" / "mine.txt").is_file()


@pytest.mark.parametrize("name", ["a\nb", "..\\x", "CON", "nul.txt", ".x", "a.", "\udcff", "a/b", "", "..", "x" * 201])
def test_odd_names_are_refused(name):
    assert name_problem(name)


@pytest.mark.parametrize("name", ["c.d", "患者", "consul", "a b", "=1"])
def test_other_names_are_not(name):
    assert name_problem(name) == ""


def test_what_would_move_a_terminals_cursor_is_written_out():
    assert printable("a\x1b[2Jb\u202ec é") == "a\\x1b[2Jb\\u202ec é"


def test_the_time_left():
    now, told = [0.0], []
    progress = Progress(3, told.append, True, lambda: now[0])
    progress.begin("p1")
    now[0] = 10.0
    progress.advance(0.25)
    assert told == ["[1/3] p1: 25 %, 0:30 left; study: 1:50 left"]
    now[0] = 40.0
    progress.end(sampled=True)
    progress.begin("p2")
    assert progress.left_s() == (40.0, 80.0)


def test_a_table_in_json(inputs, tmp_path):
    entry = {"name": "p", "channels": [str(inputs / "scan0.nrrd")], "slices": [1, 2], "subject": "s"}
    (tmp_path / "t.json").write_text(json.dumps([entry]), encoding="utf-8")
    arguments = words(inputs, tmp_path / "out")
    arguments[1] = str(tmp_path / "t.json")
    assert cli.main(arguments) == 0
    (row,) = rows(tmp_path / "out")
    assert (row["case"], row["subject"]) == ("p", "s")
    summary = json.loads((tmp_path / "out" / "p" / "samples.json").read_text(encoding="utf-8"))
    assert summary["slice_range"] == [1, 2] and "border of what was sampled" in row["flags"]

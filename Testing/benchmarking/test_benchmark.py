"""``benchmark`` end to end on tiny systems: what it makes, goes on with, refuses, and says of what failed."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from shared_data import REPOSITORY
from tiny_benchmark import BASE, make_or_not, tiny_benchmark
from tiny_training import assert_same_run

from AmbiguousSegLib.benchmarking import cell as cells
from AmbiguousSegLib.benchmarking import runner
from AmbiguousSegLib.benchmarking.budget import Allowance, allowance
from AmbiguousSegLib.benchmarking.cell import Cell, StoppedError, make, spent
from AmbiguousSegLib.benchmarking.file import TRUTH, Budget, read_benchmark
from AmbiguousSegLib.cli import main
from AmbiguousSegLib.data.evaluation_cases import held_out_cases
from AmbiguousSegLib.evaluation.benchmark_result import CellResult
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.metrics.figures import compare
from AmbiguousSegLib.model import load_model
from AmbiguousSegLib.training.dataset import open_data
from AmbiguousSegLib.training.trainer import Trainer

OUTPUTS = ("table.md", "table.csv", "summary.json", "samples.png")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path]:
    """File and folder of a benchmark that is done."""
    folder = tmp_path_factory.mktemp("benchmark")
    file = tiny_benchmark(folder / "tiny.yaml")
    assert main(["benchmark", str(file), "--out", str(folder / "out"), "--device", "cpu"]) == 0
    return file, folder / "out"


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "table.csv").read_text(encoding="utf-8"))))


def numbers(folder: Path) -> list[dict[str, str]]:
    """All of the table that does not depend on time."""
    return [row for row in rows_of(folder) if row["figure"]]


def result(folder: Path, system: str = "punet", seed: int = 0) -> CellResult:
    return CellResult.read(folder / "cells" / system / f"seed-{seed}" / "figures.json")


def run(file: Path, out: Path, *arguments: str, capsys) -> tuple[int, str, list[str]]:
    """Exit code, standard output and the lines of errors."""
    code = main(["benchmark", str(file), "--out", str(out), "--device", "cpu", *arguments])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, [line for line in said.err.splitlines() if line.startswith("error: ")]


def test_figures_are_those_of_the_model_on_the_test_cases(finished):
    """At 4 samples and at the first 2 of them, drawn one case at a time here, all at once there."""
    file, out = finished
    found = result(out, seed=1)
    config = read_benchmark(file).systems[0].config
    model = load_model(out / "cells" / "punet" / "seed-1" / "run" / "model")
    cases = held_out_cases(config.dataset, "test", 6, 3, config.labels)
    assert [case.identity for case in found.cases] == [case.identity for case in cases]
    for case, kept in zip(cases, found.cases, strict=True):
        masks = sample_case(model.method, case.identity, case.image, 4, 1, model.sampling, 3)
        for count in (2, 4):
            expected = compare(masks[:count], case.masks, (4.0, 4.0))
            known = {key: value for key, value in kept.figures[str(count)].items() if value is not None}
            assert known == pytest.approx({k: v for k, v in expected.items() if not np.isnan(v)}, abs=1e-12)
        assert kept.marked_by_all == all(mask.any() for mask in case.masks)
    assert (found.cost.images, found.cost.masks, found.cost.batch_size) == (12, sum_of_masks(found), cells.CPU_ROWS)
    assert found.cost.parameters == sum(p.numel() for p in model.method.parameters())


def sum_of_masks(found: CellResult) -> int:
    return sum(4 if case.mode_probabilities is None else 6 for case in found.cases)


def test_means_and_differences_are_those_of_the_cells(finished):
    _, out = finished
    mean = {}
    for system in ("punet", "other", TRUTH):
        each = [[case.figures["4"]["ged_u"] for case in result(out, system, seed).cases] for seed in (0, 1)]
        mean[system] = np.mean(each)
    for row in rows_of(out):
        if (row["subset"], row["figure"], row["samples"]) == ("all cases", "ged_u", "4"):
            other = mean[row["minus"]] if row["minus"] else 0.0
            assert float(row["value"]) == pytest.approx(mean[row["system"]] - other)
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
            assert (row["seeds"], row["ranked"]) == ("2", "true")
    ratio = next(r for r in rows_of(out) if (r["system"], r["figure"], r["samples"]) == (TRUTH, "spread_ratio", "4"))
    each = []
    for seed in (0, 1):
        figures = [case.figures["4"] for case in result(out, TRUTH, seed).cases]
        ours, theirs = (sum(f[key] for f in figures) for key in ("distance_samples_u", "distance_raters"))
        each.append(ours / (theirs * 3 / 2))  # three raters: pairs of different ones are 6 of 9
    assert float(ratio["value"]) == pytest.approx(np.mean(each))


def test_what_it_leaves(finished):
    _, out = finished
    text = (out / "table.md").read_text(encoding="utf-8")
    assert text.startswith("# tiny\n") and "12 images" in text and "all raters marked" in text
    assert all(f"| {system} |" in text for system in ("punet", "other", TRUTH))
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [(one["system"], one["seed"]) for one in summary["cells"]][:2] == [("punet", 0), ("punet", 1)]
    assert summary["failed"] == {} and summary["benchmark"]["title"] == "tiny"
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "samples.png")))
    assert picture.shape[0] == 4 * 128 + 3 * 2  # raters and three systems; both cases in the same rows


def test_a_finished_cell_is_not_made_again(finished, capsys, monkeypatch):
    file, out = finished

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    before = numbers(out)
    monkeypatch.setattr(runner, "_attempt", refuse)
    assert run(file, out, capsys=capsys)[0] == 0
    assert numbers(out) == before


@pytest.mark.slow
def test_killed_and_resumed_it_comes_to_the_same(finished, tmp_path, capsys, monkeypatch):
    """First a signal during the second training, then an end without one between training and figures."""
    file, out = finished
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_anyone_stopping", lambda self: self.config.seed == 1 and self.progress.images == 8)
        assert run(file, tmp_path / "out", capsys=capsys)[0] == 1
    assert not (tmp_path / "out" / "table.md").exists()
    assert (tmp_path / "out" / "cells" / "punet" / "seed-0" / "figures.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(cells, "_judged", killed)
        with pytest.raises(SystemExit):
            run(file, tmp_path / "out", capsys=capsys)
    assert run(file, tmp_path / "out", capsys=capsys)[0] == 0
    assert numbers(tmp_path / "out") == numbers(out)
    for system in ("punet", "other"):
        places = [folder / "cells" / system / "seed-1" / "run" for folder in (out, tmp_path / "out")]
        assert_same_run(*places)


def killed(*_: object) -> None:
    raise SystemExit(9)


def test_one_that_fails_does_not_lose_the_others(tmp_path, capsys, monkeypatch):
    file = tiny_benchmark(tmp_path / "tiny.yaml", seeds=[0])
    train = cells._train

    def fails(cell: Cell, *rest: object):
        if cell.system == "punet":
            raise RuntimeError("no memory\nat all")
        return train(cell, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(cells, "_train", fails)
        code, said, errors = run(file, tmp_path / "out", capsys=capsys)
    assert (code, errors) == (1, ["error: punet seed 0 failed: no memory at all"])
    assert "punet seed 0 failed: no memory at all" in said and "0; 1 failed" in said and "1, not ranked" in said
    assert not any(row["minus"] for row in rows_of(tmp_path / "out"))  # the reference is not there
    code, said, errors = run(file, tmp_path / "out", "--table-only", capsys=capsys)
    assert code == 1 and len(errors) == 1
    code, said, errors = run(file, tmp_path / "out", "--systems", "punet", capsys=capsys)
    assert (code, errors) == (0, []) and not (tmp_path / "out" / "cells" / "punet" / "seed-0" / "error.txt").exists()


def test_a_second_run_into_the_folder_is_refused(finished, tmp_path, capsys):
    file, out = finished
    code = "import sys, time; from pathlib import Path; from AmbiguousSegLib.locks import only_one\n"
    code += "with only_one(Path(sys.argv[1]), 'benchmark.lock'): print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, cwd=REPOSITORY)
    try:
        assert process.stdout.readline().strip() == b"held"
        status, _, errors = run(file, out, "--table-only", capsys=capsys)
        assert status == 2 and len(errors) == 1 and f"in use by process {process.pid} on " in errors[0]
    finally:
        process.kill()
        process.communicate()
    assert (out / "benchmark.lock").read_text(encoding="utf-8").startswith('{"pid"')  # left by the dead one
    assert run(file, out, "--table-only", capsys=capsys)[0] == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"budget": {"images": 16}}, "budget.images = 12, now it is 16"),
        ({"budget": {"cpu_seconds": 3}}, "budget.images = 12, now it is None"),
        ({"samples": [2, 8]}, "samples = [2, 4], now it is [2, 8]"),
        ({"test": {"cases": 5, "raters": 3, "mode_samples": 6}}, "test.cases = 6, now it is 5"),
        ({"true_distribution": False, "systems": {"punet": {"config": {"method": "cimd"}}}}, "systems.punet.method"),
    ],
)
def test_another_benchmark_in_the_folder_is_refused(finished, tmp_path, capsys, changes, named):
    file = tiny_benchmark(tmp_path / "tiny.yaml", **changes)
    code, _, errors = run(file, finished[1], capsys=capsys)
    assert code == 2 and len(errors) == 1 and named in errors[0]


def test_a_folder_that_was_begun_before_a_setting_existed_goes_on(finished, tmp_path, capsys):
    """What an earlier version could not name has its default, as in a checkpoint."""
    file, out = finished
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    begun = json.loads((copy / "benchmark.json").read_text(encoding="utf-8"))
    for config in begun["systems"].values():
        del config["dataset"]["raters"]
    (copy / "benchmark.json").write_text(json.dumps(begun), encoding="utf-8")
    assert run(file, copy, "--table-only", capsys=capsys)[0] == 0
    begun["systems"]["punet"]["dataset"]["colour"] = 1
    (copy / "benchmark.json").write_text(json.dumps(begun), encoding="utf-8")
    code, _, errors = run(file, copy, "--table-only", capsys=capsys)
    assert code == 2 and len(errors) == 1 and "settings that are unknown here" in errors[0] and "colour" in errors[0]


def halved(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def without_samples(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace('"4": {', '"5": {'), encoding="utf-8")


def of_another(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 9'), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "damage", "named"),
    [
        ("figures.json", halved, "it is made again"),
        ("figures.json", without_samples, "expected punet seed 0 and figures of 2, 4 samples; remove it"),
        ("figures.json", of_another, "holds punet seed 9"),
        ("pictures.npz", halved, "damaged or gone; remove figures.json"),
        ("pictures.npz", lambda path: path.write_bytes(b""), "damaged or gone; remove figures.json"),
        ("pictures.npz", lambda path: path.write_bytes(b"text"), "damaged or gone; remove figures.json"),
        ("pictures.npz", Path.unlink, "damaged or gone; remove figures.json"),
    ],
)
def test_a_cell_that_was_damaged_is_named(finished, tmp_path, capsys, monkeypatch, name, damage, named):
    file, out = finished
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    damage(copy / "cells" / "punet" / "seed-0" / name)
    if name == "figures.json":  # known before anything else is trained
        shutil.rmtree(copy / "cells" / "other")
        monkeypatch.setattr(runner, "_attempt", never)
    before = sorted(copy.rglob("*"))
    code, _, errors = run(file, copy, capsys=capsys)
    assert code == 2 and len(errors) == 1 and name in errors[0] and named in errors[0]
    assert sorted(copy.rglob("*")) == before


def test_what_is_wrong_is_refused_before_anything_is_made(tmp_path, capsys):
    phantom, folder, out = tmp_path / "phantom.yaml", tmp_path / "folder.yaml", tmp_path / "out"
    tiny_benchmark(phantom)
    tiny_benchmark(folder, base={**BASE, "dataset": {"size": [16, 16]}}, true_distribution=False)
    for file, arguments, named in [
        (phantom, ["--data", str(tmp_path)], "leave out --data"),
        (phantom, ["--table-only"], "holds no benchmark"),
        (phantom, ["--jobs", "0"], "--jobs must be 1 to 64, got 0"),
        (phantom, ["--jobs", "1000"], "--jobs must be 1 to 64, got 1000"),
        (phantom, ["--budget-cpu-seconds", "inf"], "cpu_seconds must be positive and finite"),
        (folder, [], "No data folder given; name one with --data"),
        (folder, ["--data", str(tmp_path / "nope")], "there is no such folder or file"),
        (folder, ["--data", str(phantom)], "no layout of data is recognised"),
    ]:
        code, _, errors = run(file, out, *arguments, capsys=capsys)
        assert code == 2 and len(errors) == 1 and named in errors[0], errors
        assert not out.exists()


def test_the_budget_of_the_command_line_is_another(finished, capsys):
    file, out = finished
    code, _, errors = run(file, out, "--budget-images", "20", capsys=capsys)
    assert code == 2 and "budget.images = 12, now it is 20" in errors[0]


def test_systems_and_seeds_may_be_added(finished, tmp_path, capsys):
    file, out = finished
    text = file.read_text(encoding="utf-8").replace("  punet:", "  third: {config: {method: cimd}}\n  punet:")
    (tmp_path / "more.yaml").write_text(text.replace("- 1\n", "- 1\n- 7\n"), encoding="utf-8")
    code, said, errors = run(tmp_path / "more.yaml", out, "--table-only", "--systems", "punet", "other", capsys=capsys)
    assert (code, errors) == (0, []) and "not run yet: punet seed 7, other seed 7" in said


# The budget in CPU seconds


def test_cpu_seconds_become_images_by_the_speed_of_the_first_steps(tmp_path):
    """A clock on which the first two steps take 100 s and each later one half a second: 4 images by 0.5 s are 8 a s."""
    config = read_benchmark(tiny_benchmark(tmp_path / "tiny.yaml")).systems[0].config
    ticks = iter([0.0, 50.0, 100.0, *(100 + 0.5 * i for i in range(1, 1000))])
    data = open_data(config, None)
    found = allowance(tmp_path, Budget(cpu_seconds=60.3), data, cells.choose_device("cpu"), lambda: next(ticks))
    assert found == Allowance(480, 8.0)  # 482.4, in whole batches of 4
    again = allowance(tmp_path, Budget(cpu_seconds=60.3), data, cells.choose_device("cpu"), never)
    assert again == found


def never(*_: object) -> float:
    raise AssertionError("measured again")


def test_a_training_of_a_budget_in_cpu_seconds_resumes_exactly(tmp_path, monkeypatch):
    file = tiny_benchmark(tmp_path / "tiny.yaml", budget={"cpu_seconds": 2.0})
    benchmark = read_benchmark(file)
    system, parts = benchmark.systems[0], benchmark.file

    def cell(folder: str) -> Cell:
        where = tmp_path / folder
        return Cell(system.name, system.config, 1, parts.budget, (2, 4), parts.test, None, where, "cpu")

    def clock(step: float):
        ticks = iter(step * i for i in range(1000))
        return lambda: next(ticks)

    make(cell("whole"), clock(0.5))  # 8 images a second
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_anyone_stopping", stops_half_way)
        with pytest.raises(StoppedError, match="stopped at 8 images"):
            make(cell("half"), clock(0.5))
    make(cell("half"), clock(0.1))
    ways = [CellResult.read(tmp_path / name / "figures.json") for name in ("whole", "half")]
    assert ways[0].cases == ways[1].cases
    assert [(w.cost.images, w.cost.images_per_cpu_second) for w in ways] == [(16, 8.0)] * 2
    assert_same_run(tmp_path / "whole" / "run", tmp_path / "half" / "run")


def stops_half_way(trainer: Trainer) -> bool:
    """As asked, which ends the timing; and, in the run itself, after two steps."""
    return trainer.stopping or ("half" in str(trainer.folder) and trainer.progress.images > 7)


def test_what_was_spent_counts_every_attempt(tmp_path):
    log = tmp_path / "log.jsonl"
    entries = [(1.0, 2.0), (3.0, 5.0), None, (0.5, 0.25), (1.5, 1.0)]
    lines = [json.dumps({"x": 1} if e is None else {"seconds": e[0], "cpu_seconds": e[1]}) for e in entries]
    log.write_text("\n".join([*lines[:3], '{"images": 1', *lines[3:]]), encoding="utf-8")
    assert spent(log) == (4.5, 6.0)
    log.write_bytes(b"12\n\xff\n" + log.read_bytes())  # no lines of ours
    assert spent(log) == (4.5, 6.0)


# Several at a time


@pytest.mark.slow
def test_cells_in_processes_of_their_own(tmp_path):
    """One that fails and one whose process dies do not lose the third."""
    benchmark = read_benchmark(tiny_benchmark(tmp_path / "tiny.yaml"))
    config, test = benchmark.systems[0].config, benchmark.file.test
    made = [
        Cell("one", config, seed, Budget(images=4), (2,), test, None, tmp_path / str(seed), "cpu") for seed in range(3)
    ]
    assert runner.run_cells(made, 3, make_or_not)
    assert [cell.done for cell in made] == [True, False, False]
    assert runner.failure(made[0]) == "" and runner.failure(made[1]) == "bad luck"
    assert "ended with code 7" in runner.failure(made[2])

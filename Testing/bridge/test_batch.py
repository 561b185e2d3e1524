"""The loop of batch.py with a fake sampler: what is done, skipped, failed and reported, and how the script ends."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from batch_script import SCRIPT, batch_script
from packaging.requirements import Requirement
from shared_data import REPOSITORY
from tiny_models import tiny_model

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.model import save_model
from AmbiguousSegLib.quality import Quality
from AmbiguousSegLib.studies.requests import pointing_of
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.writing import write_volume

LPS, RAS = "point_x,point_y,point_z", "point_r,point_a,point_s"


@pytest.fixture
def batch():
    with batch_script() as module:
        yield module


class Study:
    """Three volumes, a model, and a sampler that only notes what it is asked for; it fails on names with 'bad'."""

    def __init__(self, batch, folder: Path) -> None:
        self.batch, self.folder, self.out, self.asked = batch, folder, folder / "out", []
        self.volumes = folder / "volumes"
        self.volumes.mkdir()
        for name in ("a.nii.gz", "b.nrrd", "c.d.mha"):
            (self.volumes / name).write_text(name, encoding="utf-8")
        (self.volumes / "notes.txt").write_text("not a volume", encoding="utf-8")
        (folder / "model").mkdir()
        (folder / "model" / "model.json").write_text("{}", encoding="utf-8")

    def sampler(self, options):
        def sample(job, folder):
            self.asked.append(job)
            if "bad" in job.name:
                raise ValueError("the volume is bad")
            if options.mrb:
                (folder / "scene.mrb").write_text("scene", encoding="utf-8")
            (folder / "samples.json").write_text("{}", encoding="utf-8")

        return sample

    def run(self, *arguments, inputs=None) -> int:
        self.asked = []
        inputs = inputs or [self.volumes]
        fixed = ["--model", self.folder / "model", "--out", self.out]
        return self.batch.main([str(a) for a in (*inputs, *fixed, *arguments)], self.sampler)

    def asked_names(self) -> list[str]:
        return [job.name for job in self.asked]

    def status(self) -> dict[str, str]:
        report = json.loads((self.out / "batch.json").read_text(encoding="utf-8"))
        return {row["name"]: row["status"] for row in report["volumes"]}


@pytest.fixture
def study(batch, tmp_path):
    return Study(batch, tmp_path)


def test_every_volume_of_a_folder_is_sampled_once(study):
    assert study.run() == 0
    assert study.asked_names() == ["a", "b", "c.d"]
    assert study.status() == {"a": "done", "b": "done", "c.d": "done"}


def test_what_is_done_is_skipped(study, capsys):
    study.run()
    assert study.run() == 0
    assert study.asked == [] and set(study.status().values()) == {"skipped"}
    assert "0 done, 3 skipped, 0 failed" in capsys.readouterr().out


def test_in_what_a_volume_differs_from_training_stands_in_the_report(study, capsys):
    def sampler(options):
        def sample(job, folder):
            note = {"input_warnings": ["Pixels are large.", "Slices are thick."]} if job.name == "b" else {}
            (folder / "samples.json").write_text(json.dumps(note), encoding="utf-8")

        return sample

    study.sampler = sampler
    for status in ("done", "skipped"):
        assert study.run() == 0
        with (study.out / "batch.csv").open(newline="", encoding="utf-8") as file:
            rows = {row["name"]: row for row in csv.DictReader(file)}
        assert rows["b"]["status"] == status and rows["b"]["warnings"] == "Pixels are large. Slices are thick."
        assert rows["a"]["warnings"] == rows["a"]["message"] == ""
        assert f"{status:8s} b Pixels are large. Slices are thick." in capsys.readouterr().out
    report = json.loads((study.out / "batch.json").read_text(encoding="utf-8"))
    assert report["volumes"][1]["warnings"] == "Pixels are large. Slices are thick."


def test_what_version_0_1_did_is_skipped_unless_a_grid_is_asked_for(study):
    study.run()
    for path in study.out.glob("*/request.json"):
        request = json.loads(path.read_text(encoding="utf-8"))
        for key in ("grid", "spacing_mm", "pointing", "refinement", "fuse"):  # it had one grid, and did not name it
            del request[key]
        path.write_text(json.dumps(request), encoding="utf-8")
    assert study.run() == 0 and study.asked == []
    assert study.run("--grid", "both_ends") == 0 and len(study.asked) == 3


def test_resumes_with_what_an_interruption_left(study):
    study.run()
    (study.out / "b" / "samples.json").unlink()  # written last: without it the volume is not complete
    assert study.run() == 0
    assert study.asked_names() == ["b"]


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--samples", 9), ("--seed", 1), ("--steps", 3), ("--sampler", "ddim"), ("--quality", "fast")),
        *(("--mrb",), ("--overwrite",), ("--spacing-mm", 0.5), ("--refine", "dense-crf"), ("--fuse",)),
    ],
)
def test_other_settings_are_sampled_again(study, arguments):
    study.run()
    assert study.run(*arguments) == 0
    assert study.asked_names() == ["a", "b", "c.d"]


def test_a_changed_volume_or_model_is_sampled_again(study):
    study.run()
    (study.volumes / "b.nrrd").write_text("longer than before", encoding="utf-8")
    study.run()
    assert study.asked_names() == ["b"]
    (study.folder / "model" / "model.json").write_text('{"trained": "longer"}', encoding="utf-8")
    study.run()
    assert study.asked_names() == ["a", "b", "c.d"]


def rewrite(path: Path, content: bytes) -> None:
    """As programs do that write into the file: the folder around it stays as it is."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def test_a_file_of_a_series_is_rewritten_added_or_removed(study):
    series = study.folder / "series"
    (series / "below").mkdir(parents=True)
    for number in range(3):
        (series / f"{number}.dcm").write_bytes(b"slice")
    before = series.stat()
    changes = [
        lambda: rewrite(series / "1.dcm", b"other"),  # of the same length
        lambda: (series / "3.dcm").write_bytes(b"slice"),
        lambda: (series / "0.dcm").unlink(),
    ]
    assert study.run(inputs=[series]) == 0 and study.asked_names() == ["series"]
    for change in changes:
        (series / "below" / "of_another_program").write_text(str(change), encoding="utf-8")
        assert study.run(inputs=[series]) == 0 and study.asked == []
        change()
        os.utime(series, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert study.run(inputs=[series]) == 0 and study.asked_names() == ["series"]


@pytest.mark.parametrize(
    ("header", "content", "rewritten"),
    [
        ("scan.mhd", b"NDims = 3\nElementDataFile = voxels.raw\n", True),
        ("scan.nhdr", b"NRRD0004\r\ndata file: voxels.raw\r\n", True),
        ("scan.nhdr", b"NRRD0004\ndatafile: voxels.raw\n", True),
        ("scan.mhd", b"NDims = 3\nElementDataFile = LIST\nvoxels.raw\n", False),  # as the script's help says
    ],
)
def test_a_header_whose_data_was_rewritten(study, header, content, rewritten):
    folder = study.folder / "scans"
    folder.mkdir()
    (folder / header).write_bytes(content)
    (folder / "voxels.raw").write_bytes(bytes(8))
    assert study.run(inputs=[folder]) == 0 and study.asked_names() == ["scan"]
    assert study.run(inputs=[folder]) == 0 and study.asked == []
    rewrite(folder / "voxels.raw", bytes([1] * 8))
    assert study.run(inputs=[folder]) == 0 and study.asked_names() == ["scan"] * rewritten


def test_a_name_that_the_output_cannot_hold_ends_nothing(study, monkeypatch):
    names = ["\u60a3\u8005", "z\udcff"]  # Japanese, and a byte that is no UTF-8, as Linux allows
    try:
        for name in names:
            (study.volumes / f"{name}.nii.gz").write_text("volume", encoding="utf-8")
    except (OSError, UnicodeError):  # not on this system
        names = [names[0]]
    console = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(console, "cp1252", write_through=True))
    study.sampler = lambda options, make=study.sampler: _refusing(make(options), names[0])
    assert study.run() == 1
    others = {name.encode(errors="surrogateescape").decode("utf-8", "backslashreplace"): "failed" for name in names[1:]}
    assert study.status() == {"a": "done", "b": "done", "c.d": "done", names[0]: "failed"} | others
    assert len(names) == 1 or b"the name is not UTF-8, as it must be for reading; rename it" in console.getvalue()
    assert b"\\u60a3\\u8005: failed" in console.getvalue() and b"no \\u60a3" in console.getvalue()
    assert names[0] in (study.out / "batch.csv").read_text(encoding="utf-8")


def _refusing(sample, name):
    def refuse(job, folder):
        if job.name == name:
            raise ValueError(f"no {name}")
        sample(job, folder)

    return refuse


def test_a_console_that_cannot_be_reconfigured(study, monkeypatch):
    """As Slicer's, which takes any text."""
    told = []
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=told.append, flush=lambda: None))
    assert study.run() == 0 and "3 done" in "".join(told)


def test_a_bad_volume_is_reported_and_the_others_follow(study, capsys):
    (study.volumes / "bad.nii").write_text("bad", encoding="utf-8")
    assert study.run() == 1
    assert study.status() == {"a": "done", "b": "done", "bad": "failed", "c.d": "done"}
    assert "1 failed" in capsys.readouterr().out
    with (study.out / "batch.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["bad"]["message"] == "the volume is bad"
    report = json.loads((study.out / "batch.json").read_text(encoding="utf-8"))
    assert "Traceback" in report["volumes"][2]["detail"]
    assert study.run() == 1 and study.asked_names() == ["bad"]


def test_an_old_result_does_not_pass_for_a_failed_new_one(study):
    assert study.run() == 0
    study.sampler = lambda options: lambda job, folder: (_ for _ in ()).throw(MemoryError("too large"))
    assert study.run("--samples", 99) == 1
    assert not (study.out / "a" / "samples.json").exists()


def test_a_sampler_that_writes_nothing_has_failed(study):
    study.sampler = lambda options: lambda job, folder: None
    assert study.run() == 1
    assert set(study.status().values()) == {"failed"}


def test_what_is_no_scan_is_left_out_of_the_samples_and_told_in_the_report(study, capsys):
    (study.volumes / "a.seg.nrrd").write_text("segments", encoding="utf-8")
    (study.volumes / "._b.nrrd").write_text("of another system", encoding="utf-8")
    below = study.volumes / "p1"
    below.mkdir()
    (below / "a.nrrd").write_text("another volume", encoding="utf-8")
    assert study.run() == 0 and study.asked_names() == ["a", "b", "c.d", "p1_a"]
    with (study.out / "batch.csv").open(newline="") as file:
        rows = [(row["name"], row["status"], row["message"]) for row in csv.DictReader(file)]
    assert rows[0] == ("a", "left out", "a segmentation (a .seg.nrrd)")
    assert "4 done, 0 skipped, 0 failed, 1 left out" in capsys.readouterr().out
    assert study.run(inputs=[study.volumes / "a.seg.nrrd"]) == 1  # asked for by name: not sampled either
    assert study.asked == [] and study.status() == {"a.seg": "failed"}


def test_only_what_is_left_out_starts_nothing(study, capsys):
    masks = study.folder / "masks"
    masks.mkdir()
    (masks / "a.seg.nrrd").write_text("segments", encoding="utf-8")
    assert study.run(inputs=[masks]) == 2
    assert "No volume found (left out: a is a segmentation (a .seg.nrrd))" in capsys.readouterr().err


def test_results_inside_the_folder_of_volumes_are_no_volumes(study):
    study.out = study.volumes / "out"
    assert study.run() == 0
    (study.out / "a" / "mean.nrrd").write_text("a result", encoding="utf-8")
    assert study.run() == 0 and study.asked == []


def test_each_series_of_a_folder_is_a_volume_and_one_can_be_chosen(study, capsys):
    pytest.importorskip("pydicom")
    from dicom_kinds import slice_file

    folder = study.folder / "dicom"
    for uid in ("1.2.3", "1.2.4"):
        for k in range(4):
            slice_file(folder / f"{uid}_{k}.dcm", np.full((6, 8), k), 2.0 * k, uid, SeriesDescription=f"T{uid[-1]}")
    assert study.run(inputs=[folder]) == 0
    assert [(job.name, job.series) for job in study.asked] == [("dicom_T3", "1.2.3"), ("dicom_T4", "1.2.4")]
    assert study.run(inputs=[folder]) == 0 and study.asked == []
    assert study.run("--series", "1.2.4", inputs=[folder]) == 0
    assert [(job.name, job.series) for job in study.asked] == [("dicom", "1.2.4")]
    assert study.run("--series", "1.2.4", inputs=[folder, study.volumes]) == 2
    assert "--series chooses in one folder or file" in capsys.readouterr().err
    (study.folder / "t.csv").write_text("name,series,ct\nx,1.2.3,dicom\n", encoding="utf-8")
    assert study.run(inputs=[study.folder / "t.csv"]) == 0
    assert [(job.name, job.series) for job in study.asked] == [("x", "1.2.3")]


def test_table_gives_channels_names_seeds_and_slices(study):
    table = study.volumes / "study.csv"
    lines = ["name,t1,flair,slice_first,slice_last,seed", "p1,a.nii.gz,b.nrrd,2,5,11", ",c.d.mha,b.nrrd,,,"]
    table.write_text("\n".join(lines), encoding="utf-8-sig")
    assert study.run(inputs=[table]) == 0
    first, second = study.asked
    assert first.channels == (study.volumes / "a.nii.gz", study.volumes / "b.nrrd")
    assert (first.name, first.slices, first.seed) == ("p1", (2, 5), 11)
    assert (second.name, second.slices, second.seed) == ("c.d", None, None)
    assert json.loads((study.out / "p1" / "request.json").read_text(encoding="utf-8"))["seed"] == 11


def test_rows_of_a_table_point_at_lesions(study):
    table = study.volumes / "study.csv"
    lines = [
        "name,ct,point_x,point_y,point_z,point_r,point_a,point_s,window_mm",
        *("first,a.nii.gz,1.5,-2,30,,,,", "second,a.nii.gz,,,,-1.5,2,30,60", "whole,b.nrrd,,,,,,,"),
    ]
    table.write_text("\n".join(lines), encoding="utf-8")
    assert study.run(inputs=[table]) == 0
    assert [job.point_mm for job in study.asked] == [(1.5, -2.0, 30.0), (1.5, -2.0, 30.0), None]
    requests = [json.loads((study.out / job.name / "request.json").read_text(encoding="utf-8")) for job in study.asked]
    place = {"point_mm": [1.5, -2.0, 30.0], "grow": False}
    first, second, whole = (request["pointing"] for request in requests)
    assert (first, second, whole) == ({**place, "window_mm": None}, {**place, "window_mm": 60.0}, None)
    assert study.run(inputs=[table]) == 0 and study.asked == []
    assert study.run("--window", 50, "--grow-window", inputs=[table]) == 0  # the second has a size of its own
    assert study.asked_names() == ["first", "second"]
    sizes = {j.name: pointing_of(j, SimpleNamespace(window=50.0, grow_window=True)) for j in study.asked}
    assert [sizes[name].window_mm for name in ("first", "second")] == [50.0, 60.0] and sizes["first"].grow
    assert study.run("--grow-window") == 2  # a folder, which points at nothing
    assert study.run("--window", 0, inputs=[table]) == 2 and study.asked == []


def test_what_was_pointed_at_is_sampled_around_and_warned_of(study):
    save_model(tiny_model(spacing_mm=1.0), study.folder / "model")
    geometry = Geometry((40, 36, 3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    values = np.random.default_rng(0).random(geometry.shape, np.float32)
    write_volume(study.folder / "scan.nrrd", values, geometry)
    table = "name,ct,point_r,point_a,point_s\nhere,scan.nrrd,-20,-18,2\noutside,scan.nrrd,20,18,2\n"
    (study.folder / "t.csv").write_text(table, encoding="utf-8")
    study.sampler = study.batch.library_sampler
    assert study.run("--samples", 1, "--device", "cpu", inputs=[study.folder / "t.csv"]) == 1
    result = json.loads((study.out / "here" / "samples.json").read_text(encoding="utf-8"))
    assert result["window"]["point_lps_mm"] == [20.0, 18.0, 2.0] and result["slice_range"] == [0, 2]
    here, outside = json.loads((study.out / "batch.json").read_text(encoding="utf-8"))["volumes"]
    assert here["warnings"] == result["window"]["warnings"][0] != ""
    assert (
        outside["status"] == "failed" and "with the signs of x and y turned it would lie inside" in outside["message"]
    )


def test_a_missing_file_in_a_table_fails_that_row_alone(study):
    table = study.volumes / "study.csv"
    table.write_text("t1\na.nii.gz\nnowhere.nii\n", encoding="utf-8")
    assert study.run(inputs=[table]) == 1
    assert study.status() == {"a": "done", "nowhere": "failed"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a first line"),
        ("name,seed\np1,2\n", "one column per channel"),
        ("t1;flair\na.nii;b.nii\n", "separated by commas"),
        ("t1,flair\na.nii.gz\n", "line 2: expected one cell"),
        ("t1\na.nii.gz,b.nrrd\n", "line 2: expected one cell"),
        ("t1,seed\na.nii.gz,x\n", "line 2: seed must be an integer"),
        ("t1,seed\na.nii.gz,-1\n", "line 2: seed must be an integer"),
        ("t1,slice_first\na.nii.gz,1\n", "line 2: give both"),
        ("t1,slice_first,slice_last\na.nii.gz,5,4\n", "line 2: give both"),
        ("t1,point_x,point_y\na.nii.gz,5,4\n", "line 2: give point_x, point_y, point_z (LPS mm) or point_r"),
        ("t1,point_x,point_y,point_z\na.nii.gz,5,4,\n", "line 2: give point_x, point_y, point_z (LPS mm) or point_r"),
        ("t1,point_r,point_a,point_s\na.nii.gz,5,4,b\n", "point_s must be numbers, in mm, got 5, 4, b"),
        ("t1,point_X,point_y,point_z\na.nii.gz,5,4,3\n", "a column is named 'point_X'; name it 'point_x'."),
        ("t1,Window_mm\na.nii.gz,5\n", "a column is named 'Window_mm'; name it 'window_mm'."),
        (f"t1,{LPS}\na.nii.gz,5,nan,3\n", "line 2: point_x, point_y, point_z must be numbers, in mm, got 5, nan, 3."),
        (f"t1,{RAS}\na.nii.gz,5,4,inf\n", "line 2: point_r, point_a, point_s must be numbers, in mm, got 5, 4, inf."),
        (f"t1,{LPS},window_mm\na.nii.gz,5,4,3,0\n", "line 2: The size of a window must be positive, got 0.0 mm."),
        (f"t1,{LPS},{RAS}\na.nii.gz,5,4,3,-5,-4,3\n", "line 2: both point_x, point_y, point_z (LPS mm) and point_r"),
        ("t1,window_mm\na.nii.gz,50\n", "line 2: window_mm belongs to a point"),
        ("t1,slice_first,slice_last,point_x,point_y,point_z\na.nii.gz,1,2,3,4,5\n", "a point chooses slices by itself"),
        ("name,t1\n../up,a.nii.gz\n", "name of a folder"),
        ("t1\n", "No volume found"),
        ("t1\na.nii.gz\na.nii.gz\n", "Two volumes are named 'a'"),
    ],
)
def test_a_table_that_cannot_be_read_starts_nothing(study, capsys, text, message):
    table = study.volumes / "study.csv"
    table.write_text(text, encoding="utf-8")
    assert study.run(inputs=[table]) == 2
    assert message in capsys.readouterr().err and not study.out.exists()


def test_missing_input_and_missing_arguments_start_nothing(study, capsys):
    assert study.run(inputs=[study.folder / "nowhere"]) == 2
    assert "No such file or folder" in capsys.readouterr().err
    assert study.batch.main(["--samples", "many"], study.sampler) == 2
    assert study.batch.main(["--help"], study.sampler) == 0


def test_a_model_that_cannot_be_loaded_starts_nothing(study, capsys):
    def fails(options):
        raise ImportError("No module named 'torch'. Install the extension PyTorch.")

    study.sampler = fails
    assert study.run() == 2
    assert "Install the extension PyTorch" in capsys.readouterr().err


def test_without_torch_outside_of_slicer_the_command_that_installs_everything_is_told(study, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n", encoding="utf-8")
    command = [sys.executable, SCRIPT, study.volumes, "--out", study.out]
    run = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, encoding="utf-8"
    )
    (line,) = run.stderr.splitlines()
    assert run.returncode == 2 and not study.out.exists()
    assert line.startswith("Nothing was started. ") and "torch" in line
    words = shlex.split(line.partition("Run: ")[2])
    requirements = SCRIPT.parents[1] / "Resources" / "requirements.txt"
    assert words[:4] == [sys.executable, "-m", "pip", "install"] and words[-2:] == ["-r", str(requirements)]
    named = [
        *words[4:-2],
        *(line for line in requirements.read_text(encoding="utf-8").splitlines() if not line.startswith("#")),
    ]
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)[1]
    names = {Requirement(text).name for text in named}
    assert {Requirement(text).name for text in re.findall('"(.*)"', needed)} == names | {
        "numpy",
        "Pillow",
    }  # which scipy and scikit-image bring


@pytest.mark.parametrize("missing", ["torch", "Apple silicon"])
def test_what_slicer_lacks_is_named_with_its_remedy_and_nobody_is_asked(study, capsys, monkeypatch, missing):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from AmbiguousSegBridge.worker import packages

    application = SimpleNamespace(commandOptions=None, testingEnabled=lambda: False, slicerHome=str(study.out))
    monkeypatch.setitem(sys.modules, "slicer", SimpleNamespace(app=application))  # has nothing to ask or install with
    monkeypatch.setattr(packages, "slicer", sys.modules["slicer"])
    monkeypatch.setattr(packages, "missing", lambda _file: ["safetensors>=0.4.5"])
    monkeypatch.setattr(packages, "torch_missing", lambda: True)
    monkeypatch.setattr(sys, "platform", "linux")
    if missing == "Apple silicon":
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(packages.platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(packages.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="1"))
    assert study.run() == 2 and study.asked == [] and not study.out.exists()
    told = capsys.readouterr().err
    if missing == "torch":
        assert "Not installed: safetensors>=0.4.5, torch>=2.6" in told and "-m light_the_torch install" in told
    else:
        assert "Install the Apple-silicon build of Slicer" in told
    assert "pip install torch" not in told and told.count("Run: ") == (missing == "torch")


def test_the_qualities_are_the_librarys(study, capsys):
    for quality in Quality:
        assert study.run("--quality", quality.value) == 0
        assert json.loads((study.out / "a" / "request.json").read_text(encoding="utf-8"))["quality"] == quality.value
    assert study.run("--quality", "best") == 2
    assert "choose from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--quality", "fast", "--steps", 3), "leave out --steps, or --quality"),
        (("--sampler", "leap"), "Unknown sampler 'leap'"),
    ],
)
def test_settings_that_contradict_start_nothing(study, capsys, arguments, message):
    save_model(tiny_model(), study.folder / "model")
    study.sampler = study.batch.library_sampler
    assert study.run(*arguments) == 2
    assert message in capsys.readouterr().err and not study.out.exists()


def test_without_slicer_core_a_scene_is_refused_before_anything_is_sampled(study, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    study.sampler = study.batch.library_sampler
    monkeypatch.delitem(sys.modules, "slicer", raising=False)
    assert study.run("--mrb") == 2
    assert "Nothing was started. --mrb needs slicer-core. Run: " in capsys.readouterr().err
    assert not study.out.exists()


def test_a_quality_reaches_the_samples(study):
    save_model(tiny_model(), study.folder / "model")
    geometry = Geometry((18, 16, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    values = np.random.default_rng(0).random(geometry.shape, np.float32)
    write_volume(study.folder / "scan.nrrd", values, geometry)
    study.sampler = study.batch.library_sampler
    arguments = ("--quality", "fast", "--samples", 1, "--device", "cpu")
    assert study.run(*arguments, inputs=[study.folder / "scan.nrrd"]) == 0
    result = json.loads((study.out / "scan" / "samples.json").read_text(encoding="utf-8"))
    assert result["sampler"] == {"name": "dpm++2m", "steps": 4, "grid": "trailing", "options": {}}


def test_what_is_known_of_a_volume_reaches_the_check(study):
    save_model(tiny_model(spacing_mm=0.5, plane="stored"), study.folder / "model")
    picture = np.random.default_rng(0).integers(0, 2, (16, 18), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(study.folder / "photo.png"))
    study.sampler = study.batch.library_sampler
    for arguments, spacing, words in (((), 1.0, "1 mm is assumed"), (("--spacing-mm", 0.5), 0.5, "")):
        arguments = (*arguments, "--samples", 1, "--device", "cpu")
        assert study.run(*arguments, inputs=[study.folder / "photo.png"]) == 0
        result = json.loads((study.out / "photo.png" / "samples.json").read_text(encoding="utf-8"))
        assert result["grid"]["spacing_mm"] == [spacing, spacing, 1.0]
        report = json.loads((study.out / "batch.json").read_text(encoding="utf-8"))
        assert words in report["volumes"][0]["warnings"] and bool(words) == bool(report["volumes"][0]["warnings"])


def test_in_slicer_every_way_out_goes_through_its_exit(study, monkeypatch):
    codes = []
    app = SimpleNamespace(commandOptions=None)
    stand_in = SimpleNamespace(app=app, util=SimpleNamespace(exit=codes.append))
    monkeypatch.setitem(sys.modules, "slicer", stand_in)
    for outcome in (0, 1, 2):
        monkeypatch.setattr(study.batch, "main", lambda argv, outcome=outcome: outcome)
        study.batch.run_and_exit()
    assert codes == [0, 1, 2]

    def breaks(argv):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(study.batch, "main", breaks)
    with pytest.raises(RuntimeError):
        study.batch.run_and_exit()
    assert codes == [0, 1, 2, 1]


def test_as_a_script_it_ends_with_the_code_and_is_ascii(tmp_path):
    run = subprocess.run([sys.executable, SCRIPT, tmp_path / "none", "--model", "m", "--out", "o"], capture_output=True)
    assert run.returncode == 2 and b"No such file" in run.stderr
    assert SCRIPT.read_bytes().isascii()


def test_no_name_of_an_option_is_one_of_slicers():
    # Slicer parses the whole line first and keeps what it knows (its own options, as of 5.13).
    slicers = {"help", "version", "testing", "verbose", "home", "settings-path", "python-script", "python-code", "exit"}
    slicers |= {"no-splash", "no-main-window", "program-path", "temporary-path", "additional-module-path"}
    text = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, encoding="utf-8").stdout
    own = set(re.findall(r"^  (?:-\w, )?--([\w-]+)", text, re.MULTILINE)) - {"help"}  # argparse's, as its text says
    assert {"model", "out", "samples", "mrb"} < own and not own & slicers


@pytest.mark.parametrize("classes", [1, 2])
def test_scene_of_a_volume(batch, tmp_path, classes):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from AmbiguousSegBridge.scene.grid import read_channels
    from AmbiguousSegBridge.scene.masks import crops_of
    from AmbiguousSegBridge.scene.runs import find_runs
    from SlicerHost.host import make_host

    geometry = Geometry((6, 5, 4), (1.0, 1.0, 2.0), (1.0, 2.0, 3.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    masks = np.random.default_rng(0).integers(0, classes, (2, *geometry.shape), np.uint8, endpoint=True)
    labels = tuple(Label(f"class {number}") for number in range(1, classes + 1))
    volume = np.random.default_rng(1).random((1, *geometry.shape), np.float32)
    batch.write_scene(SampleSet(masks, geometry, labels=labels), volume, "p1", tmp_path / "scene.mrb")
    loaded = make_host()
    assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"))
    np.testing.assert_array_equal(read_channels([loaded.GetFirstNodeByName("p1")])[0], volume)
    (run,) = find_runs(loaded)
    assert run.name == "p1 samples" and run.label_names == [label.name for label in labels]
    np.testing.assert_array_equal([crop.full() for crop in crops_of(run)], masks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"CT\n\xe9.nrrd\n", "t.csv is not UTF-8 (byte 3)"),
        ("CT\nct.nrrd\n".encode("utf-16"), "t.csv is not UTF-8 (byte 0)"),
        (b"CT\na\0b.nrrd\n", "line 2: a cell holds the character of number 0"),
        (b'CT\n"a.nrrd\n', "cannot be read as a table"),
        (b"CT,name\na.nrrd," + b"n" * 300 + b"\n", "usable as the name of a folder, got 'nnn"),
    ],
)
def test_a_table_with_what_no_path_or_table_holds_starts_nothing(study, capsys, text, message):
    table = study.folder / "t.csv"
    table.write_bytes(text)
    assert study.run(inputs=[table]) == 2
    told = capsys.readouterr().err
    assert message in told and "codec" not in told and len(told.strip().splitlines()) == 1 and len(told) < 500


def test_a_place_that_no_report_can_be_written_to_starts_nothing(study, capsys):
    study.out = study.folder / "model" / "model.json"
    assert study.run() == 2 and not study.asked
    assert "model.json is a file; --out takes a folder" in capsys.readouterr().err
    study.out = study.out / "below"
    assert study.run() == 2
    assert "cannot be created" in capsys.readouterr().err


def test_an_input_whose_name_no_file_can_have_starts_nothing(study, capsys):
    for name in ("a\0b.nrrd", "x" * 300):
        assert study.run(inputs=[name]) == 2
        assert "No such file or folder" in capsys.readouterr().err

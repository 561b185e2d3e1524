"""``prepare`` from the command line: what it writes and says, and one line for everything that is wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections import namedtuple

import numpy as np
import pytest

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import read_all, recognised
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label


@pytest.fixture
def data(tmp_path):
    """A list of three volumes in arrays, of two subjects: two raters, the second of whom marks nothing in the last."""
    images = np.arange(3 * 4 * 6 * 5, dtype=np.int16).reshape(3, 4, 6, 5) - 100
    raters = np.zeros((3, 2, 4, 6, 5), np.uint8)
    raters[:, 0, 1:3, 2:5, 1] = 1
    raters[:2, 1, 3, 0, 4] = 1
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "v.npz", images=images, raters=raters, who=["x", "x", "y"])
    entry = {"npz": "v.npz", "image": "images", "raters": "raters", "subject": "who", "axes": "nzyx"}
    entry |= {"spacing": [2.5, 1.0, 0.5], "modality": "MR"}
    (folder / "cases.json").write_text(json.dumps([entry]), encoding="utf-8")
    return folder


@pytest.fixture
def prepare(data, tmp_path, capsys):
    """Runs the subcommand; exit code, and what was said on standard output and standard error."""

    def run(*arguments, out=tmp_path / "out", source=data):
        code = main(["prepare", "--data", str(source), "--out", str(out), *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def spoil(data, change) -> None:
    """The arrays of the list, changed."""
    with np.load(data / "v.npz") as file:
        arrays = dict(file)
    change(arrays)
    np.savez(data / "v.npz", **arrays)


def a_bad_case(arrays) -> None:
    arrays["images"] = arrays["images"].astype(np.float32)
    arrays["images"][1, 0, 0, 0] = np.inf


def test_what_is_prepared_is_recognised_and_reported(prepare, tmp_path):
    code, out, err = prepare()
    assert code == 0
    assert "3 case(s) of 2 subject(s), 0 skipped" in out and "modality: MR in 3 case(s)" in out
    assert "list of cases" in err and "3 case(s) take about" in err and "are free" in err
    cases = read_all(tmp_path / "out", DataConfig(), DEFAULT_LABELS)
    assert recognised(tmp_path / "out")[0] == "prepared" and [case.subject for case in cases] == ["x", "x", "y"]
    with open(tmp_path / "out" / "report.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert rows[2] == {
        **{"identity": "v/0002", "subject": "y", "group": "", "part": "", "modality": "MR"},
        **{"size": "5 × 6 × 4", "spacing_mm": "0.5 × 1 × 2.5", "channels": "1", "stored": "int16", "kept": "int16"},
        **{"least": "140.0", "greatest": "259.0", "raters": "2", "empty_raters": "1", "labels": "lesion"},
        **{"marked_slices": "2", "largest_mm": "5.0", "status": "ok", "reason": ""},  # 2 slices of 2.5 mm
    }
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["kind"] == "list" and report["rows"][2]["largest_mm"] == 5.0


def test_a_bad_case_is_skipped_told_and_fails_unless_it_may(prepare, data, tmp_path):
    spoil(data, a_bad_case)
    code, out, err = prepare()
    assert code == 1
    assert "skipped: v/0001: the image holds NaN or infinite values" in out
    assert "error: 1 of 3 case(s) cannot be read and are left out" in err and "--skip-bad" in err
    cases = read_all(tmp_path / "out", DataConfig(), DEFAULT_LABELS)
    assert [case.identity for case in cases] == ["v/0000", "v/0002"]
    code, out, err = prepare("--skip-bad", "--overwrite")
    assert code == 0 and "skipped: v/0001" in out and "error" not in err
    rows = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["rows"]
    assert [row["status"] for row in rows] == ["ok", "skipped", "ok"] and "NaN" in rows[1]["reason"]


def test_an_output_folder_is_replaced_only_when_it_may_be(prepare, data, tmp_path):
    assert prepare()[0] == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    code, _, err = prepare()
    assert code == 2 and "holds prepared.json already; choose another --out, or add --overwrite" in err
    spoil(data, lambda arrays: arrays.update(images=arrays["images"] + 1))
    assert prepare("--overwrite")[0] == 0
    after = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert len(after) == len(before) == 5 and after != before
    for place, words in (
        (data, "lies in the data"),
        (data / "out", "lies in the data"),
        (tmp_path, "holds other files, such as data; choose a new or an empty folder"),
        (data / "cases.json", "is a file"),
    ):
        code, _, err = prepare("--overwrite", out=place)
        assert code == 2 and words in err and err.count("\n") == 1


def test_too_little_room_is_said_before_anything_is_written(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: namedtuple("Usage", "free")(100))
    code, _, err = prepare()
    assert code == 2 and "3 case(s) take about" in err and "100 bytes are free; make room" in err
    assert not (tmp_path / "out").exists()


def test_what_an_interrupted_run_left_is_pointed_at(prepare, tmp_path, caplog):
    (tmp_path / "out" / ".writing-12").mkdir(parents=True)
    assert prepare()[0] == 0
    assert "holds .writing-12, which an interrupted run has left; remove it" in caplog.text


@pytest.mark.parametrize("labels", [["core", "halo"], ["[{name: core}, {name: halo, color: [0, 0.5, 1]}]"]])
def test_labels_are_given_by_name_or_as_to_train(prepare, data, tmp_path, labels):
    spoil(data, lambda arrays: arrays.update(raters=2 * arrays["raters"]))
    code, out, _ = prepare("--labels", *labels)
    assert code == 0 and "LABELS THAT NOBODY MARKED ANYWHERE: core" in out
    cases = read_all(tmp_path / "out", DataConfig(), (Label("core"), Label("halo")))
    assert cases[0].load_masks().max() == 2
    with pytest.raises(ValueError, match=r"prepared for the label\(s\) core, halo, now lesion are asked for"):
        read_all(tmp_path / "out", DataConfig(), DEFAULT_LABELS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "core", "core"], "--labels: Labels must differ in name"),
        (["--labels", "[core]"], "--labels: labels[0] must be a mapping"),
        (["--labels", "[{name: a"], "--labels cannot be read as YAML"),
        (["--labels", "[{title: a}]"], "Unknown key labels[0].title"),
        (["--labels", "[{name: a}, {name: a}]"], "Labels must differ in name"),
        (["--labels", "[" * 500], "--labels cannot be read as YAML"),
        (["--dataset.kind", "dicom"], "kind must be one of auto"),
        (["--dataset.kind", "phantom"], "--data takes original files"),
        (["--dataset.kind", "prepared"], "--data takes original files"),
        (["--dataset.subject_pattern", "("], "a regular expression"),
        (["--jobs", "0"], "--jobs must be at least 1"),
    ],
)
def test_bad_options_are_one_line(prepare, tmp_path, arguments, words):
    code, _, err = prepare(*arguments)
    assert code == 2 and words in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_data_that_are_not_there_or_prepared_already_are_one_line(prepare, tmp_path):
    code, _, err = prepare(source=tmp_path / "nowhere")
    assert code in (1, 2) and "there is no such folder or file" in err
    assert prepare()[0] == 0
    code, _, err = prepare(source=tmp_path / "out", out=tmp_path / "again")
    assert code == 2 and "is prepared already; train on it as it is" in err


def test_many_cases_are_shown_in_part(prepare, data, tmp_path):
    def many(arrays):
        arrays["images"] = np.arange(40 * 4 * 4, dtype=np.uint8).reshape(40, 4, 4)
        arrays["raters"] = (arrays["images"] % 3 == 0)[:, None]
        arrays["who"] = [str(n) for n in range(40)]

    spoil(data, many)
    (data / "cases.json").write_text('{"npz": "v.npz", "image": "images", "raters": "raters"}', encoding="utf-8")
    code, out, _ = prepare()
    assert code == 0 and out.count("4 × 4 × 1") == 30 and "… and 10 more, in report.csv" in out
    assert "40 case(s) are pictures, which do not know the size of their pixels" in out
    rows = (tmp_path / "out" / "report.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 41

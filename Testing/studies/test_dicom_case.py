"""A DICOM series in a study: its samples come as a DICOM segmentation, too, and SIGTERM closes with a report."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from tiny_models import tiny_model

from AmbiguousSegLib import cli
from AmbiguousSegLib.model import save_model
from AmbiguousSegLib.outputs.result_folder import read_result_folder
from AmbiguousSegLib.studies import sampling


@pytest.fixture
def study(tmp_path):
    pytest.importorskip("highdicom")
    from dicom_files import STRAIGHT, write_series

    save_model(tiny_model(), tmp_path / "model")
    write_series(tmp_path / "scans" / "one", STRAIGHT, slices=4)
    fixed = ("--model", tmp_path / "model", "--out", tmp_path / "out", "--samples", 2, "--device", "cpu")
    return tmp_path / "out", ["study", *map(str, (tmp_path / "scans", *fixed))]


def test_the_segmentation_holds_the_samples(study):
    from AmbiguousSegLib.volume.segments import read_segments

    out, command = study
    assert cli.main(command) == 0
    result = read_result_folder(out / "one")
    segments, _, _ = read_segments(out / "one" / "segmentations.dcm", result.geometry)
    for crop, (name, mask) in zip(result.samples, segments.items()):
        np.testing.assert_array_equal(np.asarray(mask) > 0, crop.full() > 0, err_msg=name)
    assert len(segments) == 3  # with the consensus


def test_sigterm_closes_with_a_report_and_leaves_nothing(study, monkeypatch, capsys):
    out, command = study
    monkeypatch.setattr(sampling, "sample_volume", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert cli.main(command) == 1
    assert "Stopped. What is finished is kept" in capsys.readouterr().err
    assert json.loads((out / "batch.json").read_text(encoding="utf-8"))["volumes"] == []
    assert not [path for path in out.iterdir() if path.is_dir()]

"""``sample --point``: the same masks as the library, what is said of the window, and one line for what cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
from shared_data import shared_path
from tiny_models import tiny_model

from AmbiguousSegLib import cli
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import load_model, save_model
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_mask, read_volume
from AmbiguousSegLib.volume.writing import write_volume

GRID = Geometry((40, 36, 4), (0.8, 0.8, 3.0), (1.0, 2.0, 3.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
POINT = (14.0, 16.5, 6.0)  # LPS mm


@pytest.fixture
def study(tmp_path):
    """A model of a field of 16 mm, one that stretches, and a volume."""
    save_model(tiny_model(spacing_mm=1.0), tmp_path / "model")
    save_model(tiny_model(), tmp_path / "stretching")
    write_volume(tmp_path / "scan.nrrd", np.random.default_rng(0).random(GRID.shape, dtype=np.float32), GRID)
    return tmp_path


def run(study, *arguments, model="model"):
    paths = [str(study / "scan.nrrd"), "--model", str(study / model), "--out", str(study / "out"), "--overwrite"]
    return cli.main(["sample", *paths, "--samples", "2", "--device", "cpu", *map(str, arguments)])


def test_a_point_in_lps_and_in_ras_gives_the_masks_of_the_library(study, caplog):
    volume, geometry = read_volume([study / "scan.nrrd"])
    request = SampleRequest(2, pointing=Pointing(POINT, 20.0))
    expected = sample_volume(load_model(study / "model"), volume, geometry, request)
    assert expected.masks.any((1, 2, 3)).all() and expected.provenance["window"]["size_mm"] == [20.0, 20.0]
    x, y, z = POINT
    for place in (("--point", x, y, z), ("--point-ras", -x, -y, z)):
        assert run(study, *place, "--window", 20) == 0
        for k in range(2):
            assert np.array_equal(read_mask(study / f"out/sample_{k + 1:02d}.seg.nrrd", GRID), expected.masks[k])
        summary = json.loads((study / "out/samples.json").read_text(encoding="utf-8"))
        assert summary["window"] == expected.provenance["window"]
    (warning,) = summary["window"]["warnings"]  # masks of noise touch every border
    assert "2 samples touch the border of the window of 20 × 20 mm" in warning and warning in caplog.messages


def test_a_window_that_grows_names_what_was_tried(study):
    assert run(study, "--point", *POINT, "--grow-window") == 0
    summary = json.loads((study / "out/samples.json").read_text(encoding="utf-8"))
    assert summary["window"]["tried_mm"] == [[16.0, 16.0], [24.0, 24.0], [28.8, 32.0]]  # the whole volume
    assert summary["window"]["touches_border"] == [] and summary["network_size"] == [30, 32]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--point-ras", *POINT), "with the signs of x and y turned it would lie inside"),
        (("--point", *POINT, "--slices", 0, 1), "A point chooses slices and region by itself; leave out"),
        (("--point", *POINT, "--region", 0, 9, 0, 9, 0, 9), "A point chooses slices and region by itself; leave out"),
        (
            ("--point", *POINT, "--window", 8),
            "at least as large as the model's field of view, 16 mm, got 8 mm; leave --window out",
        ),
        (("--window", 30, "--grow-window"), "--window and --grow-window belong to a point; give --point X Y Z, too"),
        (("--window", 0), "--window belongs to a point; give --point X Y Z, too"),
        (("--point", "nan", 0, 0), "all finite"),
    ],
)
def test_what_cannot_be_pointed_at_is_one_line(study, capsys, arguments, message):
    assert run(study, *arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line and not (study / "out").exists()


def test_a_model_without_spacing_has_no_window(study, capsys):
    assert run(study, "--point", *POINT, model="stretching") == 2
    assert "stretches any region to 16 × 16 pixels" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["sample", "scan.nrrd", "--out", "out", "--point", "1", "2", "3", "--point-ras", "1", "2", "3"])


@pytest.mark.parametrize("option", ["--precision", "--random-source"])
def test_how_is_computed_is_chosen_among_what_there_is(study, capsys, option):
    with pytest.raises(SystemExit):
        run(study, option, "float16")
    said = capsys.readouterr().err
    known = ("'float32', 'bfloat16'", "'addressed', 'device'")[option == "--random-source"]
    assert "invalid choice: 'float16'" in said and (known in said or known.replace("'", "") in said)


def test_one_sample_touches(study):
    assert run(study, "--point", *POINT, "--samples", 1) == 0
    summary = json.loads((study / "out/samples.json").read_text(encoding="utf-8"))
    assert summary["window"]["warnings"][0].startswith("1 sample touches the border of the window of 16 × 16 mm")


@pytest.mark.slow
def test_the_nodule_of_the_chest_ct_is_outlined(tmp_path):
    """Pointed at: Dice of the consensus with the outline that comes with it above .7 on its three slices."""
    folder = shared_path("data/chest_ct")
    place = [
        "--point",
        "-21.9",
        "-120.5",
        "-611.5",
        "--samples",
        "4",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main(["sample", str(folder / "lung1_image.nrrd"), "--model", "lung-nodule", *place]) == 0
    label = read_mask(folder / "lung1_label.nrrd") > 0
    consensus = read_mask(tmp_path / "out/consensus.seg.nrrd") > 0
    assert 2 * np.count_nonzero(label & consensus) / (label.sum() + consensus.sum()) > 0.7
    first, last = json.loads((tmp_path / "out/samples.json").read_text(encoding="utf-8"))["slice_range"]
    assert first <= 32 and last >= 34

"""The subcommand ``compare``: the library's own tables in files, and one clear line for bad input."""

from __future__ import annotations

import csv
import json
import re
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib import cli
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.evaluation.rater_comparison import compare_with_raters
from AmbiguousSegLib.evaluation.table import Table
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.outputs.result_folder import write_outputs
from AmbiguousSegLib.studies.rater_files import resampled
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.writing import write_segmentation

GRID = Geometry((14, 12, 8), (0.7, 0.9, 3.1), (-12.0, 5.0, 40.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
TABLES = ["summary", "slices", "dice", "hd95", "dice_max", "consensus", "disagreement"]
FILES = {*(f"{name}.csv" for name in TABLES), "comparison.json", "comparison.md", "disagreement.png"}


def lesions(n, seed):
    rng = np.random.default_rng(seed)
    grid = np.indices(GRID.shape)
    radii = rng.uniform(1.5, 3, (n, 3))
    return np.stack([sum(((g - c) / r) ** 2 for g, c, r in zip(grid, (4, 6, 7), radius)) < 1 for radius in radii])


SAMPLES, RATERS = lesions(3, 0), lesions(2, 1)


@pytest.fixture
def study(tmp_path):
    """Samples as ``sample`` writes them, numbered from 9 on, and two raters: a segmentation and a label volume."""
    region = [[-12, 5, 40], [0, 20, 70]]
    provenance = {"seed": 7, "model": {"name": "toy"}, "first_sample": 8, "region_lps_mm": region, "network_size": 64}
    sample_set = SampleSet(SAMPLES, GRID, provenance)
    write_outputs(sample_set, np.random.default_rng(2).random((1, *GRID.shape), np.float32), tmp_path / "results")
    write_segmentation(tmp_path / "A.seg.nrrd", RATERS[0], GRID, [Label("Segment_1")])
    sitk.WriteImage(GRID.image(RATERS[1]), str(tmp_path / "B.nii.gz"))
    return tmp_path


def run(study, *arguments, raters=("A.seg.nrrd", "B.nii.gz"), results="results", out="out"):
    files = [str(study / rater) for rater in raters]
    return cli.main(["compare", str(study / results), "--raters", *files, "--out", str(study / out), *arguments])


def read(study, out="out"):
    return json.loads((study / out / "comparison.json").read_text(encoding="utf-8"))


def test_what_differed_from_training_is_told_again(study):
    path = study / "results" / "samples.json"
    note = "Pixels are 3 mm large: the model was trained on 1 mm; outlines may be unreliable."
    content = {**json.loads(path.read_text(encoding="utf-8")), "input_warnings": [note]}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert run(study, "--no-figure") == 0
    assert read(study)["samples"]["input_warnings"] == [note]
    assert note in read(study)["tables"]["summary"]["notes"]
    assert note in (study / "out/comparison.md").read_text(encoding="utf-8")


def test_files_hold_the_tables_of_the_library(study, capsys):
    pytest.importorskip("matplotlib")
    assert run(study) == 0
    names = ["sample 9", "sample 10", "sample 11"]
    expected = compare_with_raters(SAMPLES, RATERS, GRID, ["Segment_1", "B"], names).tables
    content = read(study)
    markdown = (study / "out/comparison.md").read_text(encoding="utf-8")
    assert {path.name for path in (study / "out").iterdir()} == FILES
    assert list(content["tables"]) == TABLES
    part = "ONLY A REGION WAS SAMPLED: what raters marked elsewhere counts as missed by every sample"
    for key in TABLES:
        stored = Table.from_dict(content["tables"][key])
        notes = (part,) * (key == "summary") + expected[key].notes
        assert (stored.columns, stored.notes) == (expected[key].columns, notes)
        for row, wanted in zip(stored.rows, expected[key].rows, strict=True):
            assert row == pytest.approx(wanted)
        assert stored.markdown() in markdown
        rows = list(csv.DictReader((study / f"out/{key}.csv").read_text(encoding="utf-8").splitlines()))
        assert [list(row) for row in rows] == [[column.key for column in stored.columns]] * len(stored.rows)
    region = [[-12, 5, 40], [0, 20, 70]]
    expected = {"label": "lesion", "model": {"name": "toy"}, "seed": 7, "first_sample": 8, "region_lps_mm": region}
    assert content["samples"] == expected
    assert [(r["name"], r["segment"], r["resampled"]) for r in content["raters"]] == [
        ("Segment_1", "Segment_1", False),
        ("B", "B", False),
    ]
    assert Table.from_dict(content["tables"]["summary"]).text() == capsys.readouterr().out
    picture = sitk.ReadImage(str(study / "out/disagreement.png"))
    assert np.ptp(sitk.GetArrayViewFromImage(picture)) > 0


@pytest.mark.parametrize(("slices", "notes"), [([2, 5], ["ONLY SLICES 2 TO 5 WERE SAMPLED"]), (None, [])])
def test_a_part_of_the_slices_is_told(study, slices, notes):
    settings = {"seed": 7, "model": {"name": "toy"}, "slice_range": slices, "region_lps_mm": None}
    image = np.zeros((1, *GRID.shape), np.float32)
    write_outputs(SampleSet(SAMPLES, GRID, settings), image, study / "part")
    assert run(study, "--no-figure", results="part") == 0
    told = read(study)["tables"]["summary"]["notes"]
    assert [note.split(":")[0] for note in told if "SAMPLED" in note] == notes


def test_that_samples_were_refined_is_told(study):
    refinement = DenseCRFConfig(w1=3.0).in_json()
    settings = {"seed": 7, "model": {"name": "toy"}, "refinement": refinement}
    write_outputs(SampleSet(SAMPLES, GRID, settings), np.zeros((1, *GRID.shape), np.float32), study / "moved")
    for results, expected in (("moved", ["refined, each sample by itself: name dense-crf, w1 3.0"]), ("results", [])):
        assert run(study, "--no-figure", results=results, out=f"{results}_out") == 0
        told = read(study, f"{results}_out")
        assert told["samples"].get("refinement") == (refinement if expected else None)
        notes = [note for note in told["tables"]["summary"]["notes"] if note.startswith("refined")]
        assert [note.partition(", theta")[0] for note in notes] == expected


def test_one_sample_has_no_picture_of_disagreement(study, capsys):
    write_outputs(SampleSet(SAMPLES[:1], GRID, {}), np.zeros((1, *GRID.shape), np.float32), study / "one")
    assert run(study, results="one") == 0
    assert {path.name for path in (study / "out").iterdir()} == FILES - {"disagreement.png"}
    assert "There is no disagreement.png, as one sample disagrees with no other." in capsys.readouterr().err


def test_every_segment_of_a_file_is_a_rater(study):
    both = sitk.Compose([GRID.image(mask) for mask in RATERS])
    for k, name in enumerate("XY"):
        for key, value in {"ID": name, "Name": name, "Layer": str(k), "LabelValue": "1"}.items():
            both.SetMetaData(f"Segment{k}_{key}", value)
    sitk.WriteImage(both, str(study / "both.seg.nrrd"))
    assert run(study, "--no-figure", raters=["both.seg.nrrd"]) == 0
    assert run(study, "--no-figure", out="two") == 0
    one, two = read(study)["tables"], read(study, "two")["tables"]
    assert [row["rater"] for row in one["dice"]["rows"]] == ["X", "Y"]
    assert one["summary"] == two["summary"] and one["disagreement"] == two["disagreement"]


def test_raters_of_one_segment_name_are_told_apart_by_their_files(study):
    write_segmentation(study / "B.seg.nrrd", RATERS[1], GRID, [Label("Segment_1")])
    assert run(study, "--no-figure", raters=["A.seg.nrrd", "B.seg.nrrd", "B.nii.gz"]) == 0
    assert [rater["name"] for rater in read(study)["raters"]] == ["A: Segment_1", "B: Segment_1", "B"]


def test_another_grid_is_resampled_when_asked_to(study, capsys):
    # Each voxel of the samples' grid in eight of half the size: the nearest of their centres are again the voxels.
    fine = RATERS[0].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    spacing = tuple(s / 2 for s in GRID.spacing_mm)
    corner = tuple(GRID.to_mm(np.full(3, -0.25)))
    grid = Geometry(tuple(2 * n for n in GRID.size), spacing, corner, GRID.direction)
    sitk.WriteImage(grid.image(fine), str(study / "fine.nii.gz"))
    assert run(study, "--no-figure", raters=["fine.nii.gz", "B.nii.gz"]) == 2
    assert "fine.nii.gz does not lie on the samples' grid: size (14, 12, 8)" in capsys.readouterr().err
    assert run(study, "--no-figure", "--resample", raters=["fine.nii.gz", "B.nii.gz"]) == 0
    assert run(study, "--no-figure", out="same") == 0
    assert read(study)["tables"]["summary"] == read(study, "same")["tables"]["summary"]
    assert [rater["resampled"] for rater in read(study)["raters"]] == [True, False]


def turned(angle, centre, spacing=(0.6, 1.1, 2.0)):
    """A grid of 9 × 10 × 11 voxels about a point, turned against GRID."""
    c, s = np.cos(angle), np.sin(angle)
    axes = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    origin = np.array(centre) - axes @ (np.array((4, 4.5, 5)) * spacing)
    return Geometry((9, 10, 11), spacing, tuple(origin), tuple(axes.ravel()))


@pytest.mark.parametrize("angle", [0.01, 0.4, 2.0])
@pytest.mark.parametrize("move", [0.0, 4.0, -9.0])
def test_resampling_loses_nothing_unseen(angle, move):
    grid = turned(angle, (-7.45 + move, 9.95, 50.85 + move))  # the middle of GRID
    mask = np.zeros(grid.shape, bool)
    mask[4:7, 3:7, 2:7] = np.random.default_rng(3).random((3, 4, 5)) < 0.5
    crop, outside = resampled(Crop.of(mask), grid, GRID)
    # A grid that reaches 30 voxels further to every side
    size, origin = tuple(n + 60 for n in GRID.size), tuple(GRID.to_mm(np.full(3, -30.0)))
    to = (size, sitk.Transform(), sitk.sitkNearestNeighbor, origin, GRID.spacing_mm, GRID.direction)
    whole = sitk.GetArrayFromImage(sitk.Resample(grid.image(mask), *to)) > 0
    inside = whole[30:-30, 30:-30, 30:-30]
    np.testing.assert_array_equal(crop.full(), inside)
    assert outside == whole.sum() - inside.sum() and (outside > 0) == (move != 0)


def test_what_a_rater_drew_beyond_the_volume_is_not_cut_off(study, capsys):
    steps = 14 - np.flatnonzero(RATERS[0].any(axis=(0, 1)))[-1]  # the last column drawn on is the first outside
    shifted = Geometry(GRID.size, GRID.spacing_mm, tuple(GRID.to_mm(np.array((steps + 0.3, 0, 0)))), GRID.direction)
    sitk.WriteImage(shifted.image(RATERS[0]), str(study / "half.nii.gz"))
    assert run(study, "--no-figure", "--resample", raters=["half.nii.gz"]) == 2
    lost = RATERS[0][:, :, 14 - steps].sum() * 0.7 * 0.9 * 3.1 / 1000
    assert f"half.nii.gz: half marks {lost:.3g} mL outside the samples' volume" in capsys.readouterr().err
    assert not (study / "out").exists()


def test_only_a_segmentation_may_be_a_part_of_the_grid(study, capsys):
    cut = GRID.image(RATERS[1])[2:13, 1:12, 1:7]
    sitk.WriteImage(cut, str(study / "cut.nii.gz"))
    cut.SetMetaData("Segment0_ID", "B")
    sitk.WriteImage(cut, str(study / "cut.seg.nrrd"))
    assert run(study, "--no-figure", raters=["cut.nii.gz"]) == 2
    assert "cut.nii.gz does not lie on the samples' grid: size" in capsys.readouterr().err
    found = []
    for number, (rater, more) in enumerate({"cut.seg.nrrd": [], "cut.nii.gz": ["--resample"], "B.nii.gz": []}.items()):
        assert run(study, "--no-figure", *more, raters=[rater], out=f"{number}") == 0
        found.append(read(study, f"{number}")["tables"]["summary"])
    assert found[0] == found[1] == found[2]


def test_nothing_marked_leaves_the_figure_out_and_says_so(study, capsys):
    pytest.importorskip("matplotlib")
    empty = np.zeros_like(SAMPLES)
    write_outputs(SampleSet(empty, GRID), np.zeros((1, *GRID.shape), np.float32), study / "empty")
    write_segmentation(study / "none.seg.nrrd", empty[0], GRID, [Label("nobody")])
    assert run(study, results="empty", raters=["none.seg.nrrd"]) == 0
    assert {path.name for path in (study / "out").iterdir()} == FILES - {"disagreement.png"}
    assert "marks anything" in capsys.readouterr().err


@pytest.mark.parametrize("raters", [["A.seg.nrrd"], ["none.seg.nrrd", "B.nii.gz"]])
def test_one_rater_and_an_empty_one_make_a_figure(study, raters):
    pytest.importorskip("matplotlib")
    write_segmentation(study / "none.seg.nrrd", np.zeros_like(RATERS[0]), GRID, [Label("nobody")])
    assert run(study, raters=raters) == 0
    assert (study / "out/disagreement.png").stat().st_size > 0


def test_one_sample_makes_a_figure(study):
    pytest.importorskip("matplotlib")
    write_outputs(SampleSet(SAMPLES[:1], GRID), np.zeros((1, *GRID.shape), np.float32), study / "one")
    assert run(study, results="one") == 0
    assert read(study)["tables"]["summary"]["rows"][1]["ged_u"] is None


def test_an_earlier_comparison_is_kept_unless_told(study, capsys):
    assert run(study, "--no-figure") == 0
    before = read(study)
    (study / "out/disagreement.png").write_bytes(b"old")
    assert run(study, "--no-figure", raters=["B.nii.gz"]) == 2
    assert "--overwrite" in capsys.readouterr().err and read(study) == before
    assert run(study, "--no-figure", "--overwrite", raters=["B.nii.gz"]) == 0
    assert len(read(study)["raters"]) == 1 and not (study / "out/disagreement.png").exists()


def test_without_matplotlib_the_figure_must_be_left_out(study, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "AmbiguousSegLib.plotting.charts", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(study) == 2
    assert "--no-figure" in capsys.readouterr().err and not (study / "out").exists()
    assert run(study, "--no-figure") == 0


def missing_rater(study):
    return {"raters": ["nowhere.seg.nrrd"]}


def no_results(study):
    return {"results": "nowhere"}


def broken_summary(study):
    (study / "results/samples.json").write_text("{", encoding="utf-8")
    return {}


def summary_without_grid(study):
    (study / "results/samples.json").write_text('{"samples": 3}', encoding="utf-8")
    return {}


def deep_summary(study):
    (study / "results/samples.json").write_text("[" * 100_000, encoding="utf-8")
    return {}


def missing_sample(study):
    (study / "results/sample_10.seg.nrrd").unlink()
    return {}


def labels(study):
    sitk.WriteImage(GRID.image((RATERS[0] * 3 + RATERS[1]).astype(np.uint8)), str(study / "labels.nii.gz"))
    return {"raters": ["labels.nii.gz"]}


def not_an_image(study):
    (study / "text.nii.gz").write_text("just text", encoding="utf-8")
    return {"raters": ["A.seg.nrrd", "text.nii.gz"]}


def given_twice(study):
    return {"raters": ["B.nii.gz", "B.nii.gz"]}


def other_patient(study):
    elsewhere = Geometry(GRID.size, GRID.spacing_mm, (500.0, 0, 0), GRID.direction)
    sitk.WriteImage(elsewhere.image(RATERS[0]), str(study / "far.nii.gz"))
    return {"raters": ["far.nii.gz"], "arguments": ["--resample"]}


def out_is_a_file(study):
    (study / "file").write_text("here", encoding="utf-8")
    return {"out": "file"}


def out_below_a_file(study):
    (study / "file").write_text("here", encoding="utf-8")
    return {"out": "file/out"}


def picture(study):
    sitk.WriteImage(sitk.GetImageFromArray(RATERS[0][4].astype(np.uint8) * 255), str(study / "slice.png"))
    return {"raters": ["slice.png"]}


def resampled_picture(study):
    return picture(study) | {"arguments": ["--resample"]}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing_rater, "nowhere.seg.nrrd"),
        (no_results, "holds no samples.json"),
        (broken_summary, "does not describe samples"),
        (summary_without_grid, "'grid'"),
        (deep_summary, "samples.json does not describe samples"),
        (missing_sample, "holds 2 samples, but samples.json names 3"),
        (labels, "labels.nii.gz is not a binary mask"),
        (not_an_image, "text.nii.gz"),
        (given_twice, "named B: B"),
        (other_patient, "far marks nothing on the samples' grid"),
        (out_is_a_file, "is a file"),
        (out_below_a_file, "out cannot be created: .*file is a file"),
        (picture, "slice.png does not lie on the samples' grid: .* does not say which slice it shows"),
        (resampled_picture, "slice.png does not lie on the samples' grid: .* does not say which slice it shows"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_input_is_one_line_and_leaves_nothing(study, capsys, spoil, message):
    changes = spoil(study)
    before = sorted(study.rglob("*"))
    assert run(study, "--no-figure", *changes.pop("arguments", ()), **changes) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and re.search(message, errors[0]), errors
    assert sorted(study.rglob("*")) == before


def test_a_failed_write_leaves_nothing(study, capsys, monkeypatch):
    def fail(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Table, "markdown", fail)
    before = sorted(study.rglob("*"))
    assert run(study, "--no-figure") == 1
    assert "error: no space left on device" in capsys.readouterr().err
    assert sorted(study.rglob("*")) == before


# Several classes

LABELS = (Label("core"), Label("halo", (0.2, 0.6, 1.0)))


def of_two_classes(masks, seed):
    """The middle of each mask is core, the rest halo."""
    middles = lesions(len(masks), seed) & masks & (np.indices(GRID.shape)[1] > 5)
    return np.where(middles, 1, 2 * masks).astype(np.uint8)


@pytest.fixture
def two_classes(tmp_path):
    """Results of two classes; rater A is a segmentation of ours, B the same in Slicer's layers, C a label volume."""
    samples, raters = of_two_classes(SAMPLES, 5), of_two_classes(lesions(3, 1), 6)
    sample_set = SampleSet(samples, GRID, {"seed": 7}, LABELS)
    write_outputs(sample_set, np.random.default_rng(2).random((1, *GRID.shape), np.float32), tmp_path / "results")
    write_segmentation(tmp_path / "A.seg.nrrd", raters[0], GRID, LABELS)
    in_layers(tmp_path / "B.seg.nrrd", {"halo": raters[1] == 2, "core": raters[1] == 1})
    sitk.WriteImage(GRID.image(raters[2]), str(tmp_path / "C.nii.gz"))
    return tmp_path, samples, raters


def in_layers(path, masks):
    image = sitk.Compose([GRID.image(mask) for mask in masks.values()])
    for k, name in enumerate(masks):
        for key, value in {"ID": name, "Name": name, "Layer": str(k), "LabelValue": "1"}.items():
            image.SetMetaData(f"Segment{k}_{key}", value)
    sitk.WriteImage(image, str(path))


def test_raters_with_classes_are_compared_class_by_class(two_classes):
    study, samples, raters = two_classes
    assert run(study, "--no-figure", raters=["A.seg.nrrd", "B.seg.nrrd", "C.nii.gz"]) == 0
    content = read(study)
    expected = compare_with_raters(samples, raters, GRID, ["A", "B", "C"], labels=["core", "halo"]).tables
    for key in TABLES:
        stored = Table.from_dict(content["tables"][key])
        assert (stored.columns, stored.notes) == (expected[key].columns, expected[key].notes)
        for row, wanted in zip(stored.rows, expected[key].rows, strict=True):
            assert row == pytest.approx(wanted)
    rows = content["tables"]["summary"]["rows"]
    assert {row["label"] for row in rows} == {"core", "halo", "all classes"}
    assert content["samples"] == {"labels": ["core", "halo"], "seed": 7}
    # Each class on its own is the comparison of its binary masks.
    for number, label in enumerate(("core", "halo"), start=1):
        alone = compare_with_raters(samples == number, raters == number, GRID, ["A", "B", "C"]).tables["summary"]
        of_label = next(row for row in rows if row["label"] == label and row["scope"] == "whole volume")
        for key in ("ged_u", "ged_v", "hm_iou", "mean_dice", "hd95_mm"):
            assert of_label[key] == pytest.approx(alone.rows[1][key]), (label, key)


def test_raters_with_classes_are_resampled_with_their_classes(two_classes):
    study, _, raters = two_classes
    fine = raters[2].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    spacing, corner = tuple(s / 2 for s in GRID.spacing_mm), tuple(GRID.to_mm(np.full(3, -0.25)))
    grid = Geometry(tuple(2 * n for n in GRID.size), spacing, corner, GRID.direction)
    sitk.WriteImage(grid.image(fine), str(study / "fine.nii.gz"))
    assert run(study, "--no-figure", "--resample", raters=["fine.nii.gz"]) == 0
    assert run(study, "--no-figure", raters=["C.nii.gz"], out="same") == 0
    assert read(study)["tables"]["summary"] == read(study, "same")["tables"]["summary"]


def test_what_segments_are_can_be_said(two_classes, capsys):
    study, _, raters = two_classes
    nested = {"core": raters[1] == 1, "halo": raters[1] > 0}
    in_layers(study / "nested.seg.nrrd", nested)
    assert run(study, "--no-figure", raters=["nested.seg.nrrd"]) == 2
    shared = np.count_nonzero(raters[1] == 1)
    assert f"nested.seg.nrrd: core and halo overlap in {shared} voxels" in capsys.readouterr().err
    assert run(study, "--no-figure", "--segments-are", "raters", raters=["nested.seg.nrrd"]) == 0
    assert [rater["name"] for rater in read(study)["raters"]] == ["core", "halo"]
    in_layers(study / "mixed.seg.nrrd", {"core": raters[1] == 1, "Dr. B": raters[1] == 2})
    for more in ([], ["--segments-are", "classes"]):
        assert run(study, "--no-figure", *more, raters=["mixed.seg.nrrd"], out="none") == 2
        assert re.search(r"mixed\.seg\.nrrd: The segments 'Dr\. B' do not have", capsys.readouterr().err)
    assert not (study / "none").exists()


def test_values_beyond_the_labels_are_refused(two_classes, capsys):
    study, _, raters = two_classes
    sitk.WriteImage(GRID.image(raters[0] + (raters[0] == 2) * np.uint8(1)), str(study / "three.nii.gz"))
    assert run(study, "--no-figure", raters=["three.nii.gz"]) == 2
    assert "three.nii.gz is not a label map of 2 classes: it holds 3 values (0, 1, 3)" in capsys.readouterr().err


def test_a_segment_named_as_the_only_label_is_a_rater(study):
    """As ever: where there is one class, the names of segments are those of raters."""
    in_layers(study / "both.seg.nrrd", {"lesion": RATERS[0], "Dr. B": RATERS[1]})
    assert run(study, "--no-figure", raters=["both.seg.nrrd"]) == 0
    assert [rater["name"] for rater in read(study)["raters"]] == ["lesion", "Dr. B"]
    write_segmentation(study / "Dr. C.seg.nrrd", RATERS[0], GRID, [Label("lesion")])
    classes = ["--segments-are", "classes"]
    assert run(study, "--no-figure", *classes, raters=["Dr. C.seg.nrrd"], out="named") == 0
    assert [rater["name"] for rater in read(study, "named")["raters"]] == ["Dr. C"]


def test_results_of_before_there_were_classes(study):
    path = study / "results/samples.json"
    assert run(study, "--no-figure", out="now") == 0
    summary = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({key: value for key, value in summary.items() if key != "labels"}), encoding="utf-8")
    assert run(study, "--no-figure") == 0
    assert read(study)["tables"] == read(study, "now")["tables"]


def test_a_dicom_segmentation_gives_its_segments_as_raters(tmp_path):
    """Two raters on a series of which most slices have no frame: compared as the same raters in ``.seg.nrrd``."""
    pytest.importorskip("highdicom")
    from dicom_files import COLUMNS, ROWS, write_series

    from AmbiguousSegLib.volume.dicom_seg import write_dicom_seg
    from AmbiguousSegLib.volume.io import read_volume

    files = write_series(tmp_path / "ct", slices=9)
    volume, grid = read_volume(tmp_path / "ct")
    masks = np.zeros((4, 9, ROWS, COLUMNS), bool)
    for k, mask in enumerate(masks):
        mask[[1, 2 + k, 7], 1:3, k : k + 3] = True
    write_outputs(SampleSet(masks[2:], grid, {"seed": 1, "model": {"name": "toy"}}), volume, tmp_path / "results")
    raters = [("Anna", masks[0]), ("Ben", masks[1])]
    write_dicom_seg(tmp_path / "r.dcm", raters, grid, files, [Label()], model_name="m", software_version="1")
    for name, mask in raters:
        write_segmentation(tmp_path / f"{name}.seg.nrrd", mask, grid, [Label(name)])
    assert run(tmp_path, "--no-figure", raters=("r.dcm",)) == 0
    assert run(tmp_path, "--no-figure", raters=("Anna.seg.nrrd", "Ben.seg.nrrd"), out="other") == 0
    mine, theirs = read(tmp_path), read(tmp_path, "other")
    assert [r["name"] for r in mine["raters"]] == ["Anna", "Ben"] and not any(r["resampled"] for r in mine["raters"])
    assert mine["tables"] == theirs["tables"]

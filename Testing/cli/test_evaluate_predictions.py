"""``evaluate --predictions`` and ``--ensemble-sizes``: against metrics called directly; bad input is one line."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_models import tiny_cimd

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.description import Card
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.consensus import majority
from AmbiguousSegLib.inference.case_sampling import case_number
from AmbiguousSegLib.metrics.figures import MaskSets, average, figures_of
from AmbiguousSegLib.metrics.overlap import dice
from AmbiguousSegLib.model import Model, save_model
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

SIZE = 16
GRID = Geometry((SIZE, SIZE, 3), (0.5, 1.5, 3.0), (5.0, 6.0, 7.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
DESCRIBED = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
NAMES = ("p1", "p2", "p3")


def blobs(seed, shift=0):
    """A box in slices 0 and 1 of three, bool (3, 16, 16)."""
    mask = np.zeros((3, SIZE, SIZE), bool)
    a, b = 2 + seed % 3, 3 + seed % 4
    mask[:2, a + shift : a + 6, b : b + 5 + shift] = True
    return mask


def nifti(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(GRID.image(np.asarray(values)), str(path))


def probability(mask):
    """Softmax of two classes: .8 inside, .3 on the pixels right of it, .05 elsewhere."""
    p = np.where(mask, 0.8, np.where(np.roll(mask, 2, axis=2), 0.3, 0.05)).astype(np.float32)
    return np.stack([1 - p, p])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An nnU-Net dataset with two raters of test cases, one prediction of each, three folds, and a model."""
    root = tmp_path_factory.mktemp("world")
    data, rng = root / "Dataset001_Lesion", np.random.default_rng(0)
    for k, name in enumerate(NAMES):
        nifti(data / "imagesTs" / f"{name}_0000.nii.gz", rng.normal(size=(3, SIZE, SIZE)).astype(np.float32))
        nifti(data / "labelsTs" / f"{name}.nii.gz", blobs(k).astype(np.uint8))
        nifti(data / "labelsTs_anna" / f"{name}.nii.gz", blobs(k, 1).astype(np.uint8))
        predicted = blobs(k + 1)
        nifti(root / "nnunet" / f"{name}.nii.gz", predicted.astype(np.uint8))
        np.savez_compressed(root / "nnunet" / f"{name}.npz", probabilities=probability(predicted))
        (root / "nnunet" / f"{name}.pkl").write_bytes(pickle.dumps({}))
        for fold in range(3):
            nifti(root / "folds" / f"fold_{fold}" / f"{name}.nii.gz", blobs(k + fold).astype(np.uint8))
    nifti(data / "imagesTr" / "t1_0000.nii.gz", rng.normal(size=(3, SIZE, SIZE)).astype(np.float32))
    nifti(data / "labelsTr" / "t1.nii.gz", blobs(0).astype(np.uint8))
    for place in (data, root / "nnunet", root / "folds"):
        (place / "dataset.json").write_text(json.dumps(DESCRIBED), encoding="utf-8")
    config = DataConfig("nnunet", (SIZE, SIZE), ("CT",), 1.0, "axial", Intensity("percentile", 1.0, 99.0))
    pre = Preprocessing(("CT",), "axial", 1.0, (SIZE, SIZE), 4, Intensity("percentile", 1.0, 99.0))
    training = {"configuration": to_dict(TrainingConfig(dataset=config))}
    model = Model(tiny_cimd(size=SIZE), pre, SamplerSettings("ddim", 2), Card("tiny", training=training))
    save_model(model, root / "model")
    return root


def evaluate(world, out, *arguments, figure=False):
    command = ["evaluate", "--data", str(world / "Dataset001_Lesion"), *map(str, arguments)]
    command += [] if figure else ["--no-figure"]
    assert main([*command, "--out", str(out)]) == 0
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def expected(masks_of, numbers=(0, 1, 2)):
    """Figures of slices 0 and 1 of each case, called directly, and their means."""
    rows = []
    for k in numbers:
        for z in (0, 1):
            raters = np.stack([blobs(k)[z], blobs(k, 1)[z]])
            sets = MaskSets(np.stack([m[z] for m in masks_of(k)]), raters, spacing_mm=(1.5, 0.5))
            rows.append(figures_of(sets))
    return average(rows).mean


def test_one_prediction_of_each_case_on_the_datas_own_grid(world, tmp_path):
    summary = evaluate(world, tmp_path / "out", "--predictions", world / "nnunet")
    (row,) = summary["table"]["rows"]
    assert (row["model"], row["method"], row["sampler"]) == ("nnunet", "nnunet", "as written")
    means = expected(lambda k: [blobs(k + 1)])
    for key in ("mean_dice", "hd95_mm", "assd_mm", "hm_iou", "ged_v", "dice_max", "combined_sensitivity"):
        assert row[key] == pytest.approx(means[key]), key
    assert row["ged_u"] is None and len(summary["cases"]) == 6  # the slice that nobody marks is none
    assert sorted(summary["cases"])[0] == "p1/slice_0000" and "more_tables" not in summary
    assert "the test part, as the data has it" not in summary["table"]["notes"][0]
    assert "test part, as the data has it" in summary["table"]["notes"][0]
    assert (tmp_path / "out" / "samples.png").read_bytes()[:4] == b"\x89PNG"


def test_folds_are_samples_and_tables_part_by_their_number(world, tmp_path, capsys):
    arguments = ["--predictions", world / "folds", world / "nnunet", "--names", "five folds", "one mask"]
    summary = evaluate(world, tmp_path / "out", *arguments)
    three, one = summary["table"]["rows"], summary["more_tables"][0]["rows"]
    assert [row["model"] for row in three] == ["five folds"]
    assert [row["model"] for row in one] == ["five folds", "one mask"]
    means = expected(lambda k: [blobs(k), blobs(k + 1), blobs(k + 2)])
    assert three[0]["ged_u"] == pytest.approx(means["ged_u"]) and three[0]["hm_iou"] == pytest.approx(means["hm_iou"])
    first = expected(lambda k: [blobs(k)])
    assert one[0]["mean_dice"] == pytest.approx(first["mean_dice"])  # the first fold alone, beside the one mask
    assert one[1]["mean_dice"] == pytest.approx(expected(lambda k: [blobs(k + 1)])["mean_dice"])
    printed = capsys.readouterr().out
    assert "n = 3 samples" in printed and "n = 1 samples" in printed


def test_draws_are_thresholds_of_the_probabilities(world, tmp_path):
    arguments = ["--predictions", world / "nnunet", "--predictions-as", "draws"]
    summary = evaluate(world, tmp_path / "out", *arguments, "--samples", 6)
    (row,) = summary["table"]["rows"]
    assert row["sampler"] == "thresholds of probabilities"
    assert any("no model of raters" in note for note in summary["table"]["notes"])

    def drawn(k):  # one threshold for all slices of a case
        thresholds = np.random.default_rng([0, 6, case_number(NAMES[k])]).random(9)[:6]
        return [probability(blobs(k + 1))[1] > u for u in thresholds]

    means = expected(drawn)
    for key in ("mean_dice", "ged_u", "hd95_mm"):
        assert row[key] == pytest.approx(means[key]), key


def test_beside_a_model_on_the_models_pixels(world, tmp_path):
    arguments = ["--model", world / "model", "--predictions", world / "folds", "--samples", 3, "--part", "test"]
    summary = evaluate(world, tmp_path / "out", *arguments)
    model, folds = summary["table"]["rows"]
    assert (model["model"], folds["model"]) == ("tiny", "folds") and "more_tables" not in summary
    # 0.5 × 1.5 mm become 1 mm: the raters as predictions of their own agree with themselves as before.
    for k, name in enumerate(NAMES):
        for number, shift in enumerate((0, 1)):
            nifti(tmp_path / "raters" / f"{number}" / f"{name}.nii.gz", blobs(k, shift).astype(np.uint8))
    arguments = ["--model", world / "model", "--predictions", tmp_path / "raters", "--samples", 2]
    own = evaluate(world, tmp_path / "own", *arguments)["table"]["rows"][1]
    assert own["ged_v"] == pytest.approx(0) and own["hm_iou"] == 1
    assert own["distance_samples_v"] == pytest.approx(model["distance_raters"])


def test_ensembles_by_their_size_are_in_files_of_their_own(world, tmp_path):
    out = tmp_path / "out"
    arguments = ["--predictions", world / "folds", world / "nnunet", "--samples", 3, "--ensemble-sizes", 3, 1]
    evaluate(world, out, *arguments, "--ensemble-reference", "each", figure=True)
    with open(out / "ensemble_size.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["n"]) for row in rows] == [("folds", "1"), ("folds", "3"), ("nnunet", "1")]
    for row, numbers in zip(rows, ((0,), (0, 1, 2), (1,)), strict=True):
        found = []
        for k in range(3):
            fused = majority(np.stack([blobs(k + j) for j in numbers]))
            found += [dice(fused[z], blobs(k, shift)[z]) for z in (0, 1) for shift in (0, 1)]
        assert float(row["dice"]) == pytest.approx(np.mean(found)) and row["cases"] == "6"
        assert float(row["dice_low"]) - 1e-9 <= float(row["dice"]) <= float(row["dice_high"]) + 1e-9
    told = json.loads((out / "ensemble_size.json").read_text(encoding="utf-8"))
    assert told["settings"] == {"sizes": [1, 3], "reference": "each", "subsets": 0, "seed": 0}
    assert {case["subject"] for case in told["curves"][0]["cases"]} == set(NAMES)
    assert "| folds | 3 |" in (out / "ensemble_size.md").read_text(encoding="utf-8")
    assert (out / "ensemble_size.png").read_bytes()[:4] == (out / "figure.png").read_bytes()[:4] == b"\x89PNG"
    evaluate(world, out, *arguments[:3], "--overwrite", "--samples", 3)
    assert not list(out.glob("ensemble_size.*"))  # they were of the evaluation that is replaced


def test_what_does_not_fit_is_one_line_and_writes_nothing(world, tmp_path, capsys):
    nnunet, data = str(world / "nnunet"), world / "Dataset001_Lesion"
    for name in NAMES[:2]:
        nifti(tmp_path / "two" / f"{name}.nii.gz", blobs(0).astype(np.uint8))
    for fold, names in enumerate((NAMES, NAMES[:2])):
        for name in names:
            nifti(tmp_path / "uneven" / f"fold_{fold}" / f"{name}.nii.gz", blobs(0).astype(np.uint8))
    for arguments, words in (
        ([], "give --model, --predictions, or both"),
        (["--predictions", str(tmp_path / "two")], "no prediction of 1 of 3 cases: p3; predict them"),
        (["--predictions", str(tmp_path / "uneven")], "different numbers of masks (1 of p3, 2 of p1)"),
        (["--predictions", str(tmp_path / "gone")], "gone is no folder"),
        (["--predictions", nnunet, nnunet], "is named twice"),
        (["--predictions", nnunet, "--names", "a", "b"], "gives 2 names for 1 --predictions"),
        (["--names", "a"], "--names and --predictions-as need --predictions"),
        (["--predictions", nnunet, "--part", "all"], "t1"),  # a training case, which was not predicted
        (["--predictions", nnunet, "--raters", "2"], "--raters and --spacing-mm are for models"),
        (["--predictions", nnunet, "--model", str(world / "model"), "--plane", "axial"], "leave it out"),
        (["--predictions", nnunet, "--steps", "5"], "No model has a sampler"),
        (["--predictions", nnunet, "--ensemble-sizes", "17"], "must lie in 1 to 16"),
        (["--predictions", nnunet, "--ensemble-subsets", "2"], "need --ensemble-sizes"),
        (
            ["--predictions", nnunet, "--ensemble-sizes", "1", "--ensemble-subsets", "1000000000"],
            "at most 1000, got 10",
        ),
        (["--predictions", nnunet, "--names", " "], "names of one line that can be read, got ' '"),
        (["--predictions", nnunet, "--names", "a\nb"], "names of one line that can be read, got 'a\\nb'"),
        (["--predictions", nnunet, "--names", "a\udcff"], "the name is not UTF-8"),
        (["--predictions", nnunet, "--ensemble-sizes", "2"], "No source has the 2 samples"),
        (["--predictions", str(world / "folds"), "--predictions-as", "draws"], "p1.npz does not exist"),
    ):
        assert main(["evaluate", "--data", str(data), *arguments, "--out", str(tmp_path / "out")]) == 2, arguments
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and words in lines[0], (arguments, lines)
    assert not (tmp_path / "out").exists()
    assert main(["evaluate", "--data", "phantom", "--predictions", nnunet, "--out", str(tmp_path / "out")]) == 2
    assert "held-out phantoms are generated" in capsys.readouterr().err


def test_two_classes_are_matched_by_their_names(tmp_path):
    """A prediction that is the rater's mask with other numbers, and probabilities that are sure of it."""
    data, out = tmp_path / "data", tmp_path / "pred"
    mask = blobs(0).astype(np.uint8)
    mask[:2, 5:7, 5:7] = 2
    nifti(data / "imagesTs" / "a_0000.nii.gz", np.random.default_rng(0).normal(size=mask.shape))
    nifti(data / "labelsTs" / "a.nii.gz", mask)
    nifti(data / "imagesTr" / "t_0000.nii.gz", np.random.default_rng(1).normal(size=mask.shape))
    nifti(data / "labelsTr" / "t.nii.gz", mask)
    swapped = np.array([0, 2, 1], np.uint8)[mask]
    nifti(out / "a.nii.gz", swapped)
    np.savez(out / "a.npz", probabilities=np.stack([swapped == k for k in range(3)]).astype(np.float32))
    for place, values in ((data, (1, 2)), (out, (2, 1))):
        labels = {"background": 0, **dict(zip(("halo", "core"), values, strict=True))}
        (place / "dataset.json").write_text(json.dumps(DESCRIBED | {"labels": labels}), encoding="utf-8")
    for how, n in (("masks", 1), ("draws", 3)):
        command = [
            "evaluate",
            "--data",
            str(data),
            "--predictions",
            str(out),
            "--predictions-as",
            how,
            "--samples",
            "3",
        ]
        command += ["--ensemble-sizes", "1", "--no-figure", "--overwrite", "--out", str(tmp_path / "out")]
        assert main(command) == 0
        summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
        rows = summary["table"]["rows"]
        assert [row["label"] for row in rows] == ["halo", "core", "all classes"] and summary["labels"] == [
            "halo",
            "core",
        ]
        assert all(row["mean_dice"] == 1 and row["hd95_mm"] == 0 for row in rows)
        assert summary["results"][0]["averages"]["n_samples"] == n
        told = json.loads((tmp_path / "out" / "ensemble_size.json").read_text(encoding="utf-8"))
        assert [curve["label"] for curve in told["curves"]] == ["halo", "core", "all classes"]
        assert all(case["dice"] == [1] for curve in told["curves"] for case in curve["cases"])


def test_compare_takes_one_case_of_predictions(world, tmp_path, capsys):
    raters = []
    for number, shift in enumerate((0, 1)):
        raters.append(str(tmp_path / f"r{number}.nii.gz"))
        nifti(tmp_path / f"r{number}.nii.gz", blobs(1, shift).astype(np.uint8))
    command = ["compare", str(world / "folds"), "--raters", *raters, "--no-figure"]
    assert main([*command, "--case", "p2", "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    samples, drawn = (np.stack(m) for m in ([blobs(1), blobs(2), blobs(3)], [blobs(1), blobs(1, 1)]))
    whole = figures_of(MaskSets(samples, drawn, spacing_mm=(3.0, 1.5, 0.5)))
    (row,) = [row for row in told["tables"]["summary"]["rows"] if "whole" in json.dumps(row)]
    for key in ("ged_u", "hm_iou", "hd95_mm"):
        assert row[key] == pytest.approx(whole[key]), key
    assert [Path(file).name for file in told["samples"]["predictions"]] == 3 * ["p2.nii.gz"]
    assert main([*command, "--case", "p9", "--out", str(tmp_path / "none")]) == 2
    assert "holds no prediction of 'p9'; it has p1, p2, p3." in capsys.readouterr().err
    assert main([*command, "--case", "p\n9", "--out", str(tmp_path / "other")]) == 2
    assert r"holds no prediction of 'p\n9'; it has" in capsys.readouterr().err

"""``evaluate`` from the command line: known masks give figures worked out by hand, and bad input writes nothing."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_models import Untrained, UntrainedConfig, tiny_cimd

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.description import Card
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.dense_crf import refined_label_maps
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.evaluation.comparison import ALL_CLASSES
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.methods import METHODS, Method
from AmbiguousSegLib.metrics.figures import FIGURES, MaskSets, compare, figure
from AmbiguousSegLib.model import Model, load_model, save_model
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.inputs import Inputs, channel_values
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

SIZE = 16
FOLDER = DataConfig(size=(SIZE, SIZE), spacing_mm=0.5)
PHANTOM = DataConfig("phantom", (SIZE, SIZE), ("CT",), 4.0)
FILES = ["figure.png", "results.csv", "samples.png", "summary.json", "summary.md"]
A, B = np.zeros((2, SIZE, SIZE), bool)
A[4:8, 4:8] = B[4:8, 4:12] = True  # IoU 1/2, Dice 2/3


@dataclass(frozen=True)
class AlternatingConfig(UntrainedConfig):
    classes: int = 1


class Alternating(Untrained):
    """Draws A for samples of even number, B for those of odd number, whatever is shown, as the last of its classes."""

    Config = AlternatingConfig

    def sample(self, prepared, noise, settings, on_step=None):
        masks = np.zeros((len(noise.rows), self.classes, SIZE, SIZE), np.float32)
        masks[:, -1] = [(A, B)[sample % 2] for _, sample in noise.rows]
        return torch.from_numpy(masks)


@pytest.fixture(autouse=True)
def alternating():
    METHODS.register("alternating")(Alternating)
    yield
    METHODS.unregister("alternating")


def save(
    folder: Path, method: Method, data: DataConfig | None, name: str = "", size: int = SIZE, labels=DEFAULT_LABELS
) -> str:
    channels = tuple(f"c{i}" for i in range(method.image_channels))
    preprocessing = Preprocessing(
        channels, "stored", None, (size, size), method.size_multiple, Intensity("full_scale", high=255.0)
    )
    training = {} if data is None else {"configuration": to_dict(TrainingConfig(dataset=data, labels=labels))}
    card = Card(name or folder.name, training=training)
    save_model(Model(method, preprocessing, SamplerSettings("ddim", 2), card, labels), folder)
    return str(folder)


@pytest.fixture
def data(tmp_path) -> Path:
    """Twelve cases of raters A and B, in three of which nobody marks anything."""
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / "data" / f"case{i}"
        folder.mkdir(parents=True)
        png(folder / "image.png", rng.integers(0, 256, (SIZE, SIZE)))
        for name, mask in (("a", A), ("b", B)):
            png(folder / f"rater_{name}.png", 255 * mask * (i % 4 > 0))
    return tmp_path / "data"


def png(path: Path, values: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(values.astype(np.uint8)), str(path))


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(arguments: list[str], out: Path, capsys) -> str:
    """Message of a command that must end with exit code 2, one line, and no output."""
    before = sorted(out.iterdir()) if out.is_dir() else None
    assert main(["evaluate", *arguments, "--out", str(out)]) == 2
    lines = capsys.readouterr().err.splitlines()
    message = [line for line in lines if line.strip() and not line.strip().startswith("evaluating: ")]
    assert len(message) == 1 and message[0].startswith("error: ")
    assert (sorted(out.iterdir()) if out.is_dir() else None) == before
    return message[0]


def test_what_differs_from_training_is_warned_of_and_noted(tmp_path, data, caplog):
    folder = save(tmp_path / "known", Alternating(AlternatingConfig()), FOLDER)
    model, fitting = load_model(folder), tmp_path / "fitting"
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(data / "case0" / "image.png")))
    grid = Geometry((SIZE, SIZE, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    known = Inputs.of([channel_values(image)], grid, "stored", picture=True)
    save_model(replace(model, inputs=known), fitting)
    save_model(replace(model, inputs=replace(known, rows_px=(40, 40), columns_px=(40, 40))), folder)
    arguments = ["evaluate", "--data", str(data), "--part", "all", "--cases", "1", "--samples", "2", "--no-figure"]
    assert main([*arguments, "--model", folder, str(fitting), "--out", str(tmp_path / "out")]) == 0
    (note,) = [message for message in caplog.messages if "trained on 40" in message]
    assert note.startswith(f"known ({folder}): Slices have 16 × 16 pixels: the model was trained on 40 × 40")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert note in summary["table"]["notes"]
    assert not any(str(fitting) in message for message in caplog.messages)


def test_refined_masks_are_scored_where_that_is_asked_for(tmp_path, data):
    model, out = save(tmp_path / "known", Alternating(AlternatingConfig()), FOLDER), tmp_path / "out"
    arguments = ["--data", str(data), "--part", "all", "--cases", "2", "--samples", "2", "--no-figure"]
    told = ["--refine", "dense-crf", "--refine-option", "w1=8", "--refine-option", "theta_beta=0.5"]
    assert main(["evaluate", "--model", model, *arguments, *told, "--out", str(out)]) == 0
    for row in rows_of(out):
        case = data / row["case"]
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "image.png")))[None] / np.float32(255)
        drawn = np.stack([A, B]).astype(np.uint8)
        masks = refined_label_maps(image, drawn, 1, DenseCRFConfig(w1=8.0, theta_beta=0.5))
        raters = [sitk.GetArrayFromImage(sitk.ReadImage(str(case / f"rater_{name}.png"))) > 0 for name in "ab"]
        expected = compare(masks, np.stack(raters))
        assert float(row["ged_v"]) == pytest.approx(expected["ged_v"], abs=1e-6)
        assert not np.array_equal(masks, drawn)
    notes = json.loads((out / "summary.json").read_text(encoding="utf-8"))["table"]["notes"]
    assert any(note.startswith("refined, each sample by itself: name dense-crf, w1 8.0") for note in notes)


def test_figures_by_hand_and_files_that_agree(tmp_path, data, capsys):
    model, out = save(tmp_path / "known", Alternating(AlternatingConfig()), FOLDER), tmp_path / "out"
    split = tmp_path / "split.json"
    split.write_text(
        json.dumps(
            {
                "test": ["case1", "case4", "case6"],
                "unused": [f"case{i}" for i in (0, 2, 3, 5)] + [f"case{i}" for i in range(7, 12)],
            }
        ),
        encoding="utf-8",
    )
    arguments = ["evaluate", "--model", model, "--data", str(data), "--split", str(split), "--samples", "4"]
    assert main([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == FILES
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    (row,) = summary["table"]["rows"]
    # Two cases with raters A, B, one where both are empty: there d(S, Y) = 1 and every overlap is 0.
    assert row["ged_v"] == pytest.approx((0 + 0 + 2 - 1 / 4) / 3)
    assert row["ged_u"] == pytest.approx((2 * (1 / 2 - 1 / 3 - 1 / 4) + 2 - 1 / 3) / 3)
    assert row["distance_samples_v"] == pytest.approx(1 / 4)
    assert row["distance_raters"] == pytest.approx((1 / 4 + 1 / 4 + 0) / 3)
    assert row["hm_iou"] == pytest.approx(2 / 3) and row["dice_max"] == pytest.approx(2 / 3)
    assert row["mean_dice"] == pytest.approx(2 * (5 / 6) / 3)
    assert row["combined_sensitivity"] == 1
    # A and B in pixels of 0.5 mm, three quarters of B's border beyond A: HD95 2.0 mm from B to A, 0 within a pair.
    assert row["hd95_mm"] == pytest.approx((0 + 2.0) / 2)
    assert summary["results"][0]["surface"]["undefined_pairs"] == 8
    assert summary["results"][0]["weights_sha256"] == load_model(model).weights_sha256
    assert summary["cases"] == ["case1", "case4", "case6"] and summary["spacing_mm"] == 0.5
    assert summary["results"][0]["averages"]["all_raters_empty"] == 1

    rows = rows_of(out)
    assert [r["case"] for r in rows] == summary["cases"]
    assert np.mean([float(r["ged_u"]) for r in rows]) == pytest.approx(row["ged_u"])
    shown = (out / "summary.md").read_text(encoding="utf-8")
    for note in summary["table"]["notes"]:
        assert f"- {note}\n" in shown and f"{note}\n" in printed
    line = next(line for line in shown.splitlines() if line.startswith("| known |"))
    assert line.split(" | ")[3:5] == [f"{row['ged_v']:.3f}", f"{row['ged_u']:.3f}"]
    assert f"{row['ged_v']:.3f}  {row['ged_u']:.3f}" in printed
    assert (out / "figure.png").read_bytes()[:4] == (out / "samples.png").read_bytes()[:4] == b"\x89PNG"


def test_held_out_part_follows_the_training_split(tmp_path, data):
    model, out = save(tmp_path / "m", Alternating(AlternatingConfig()), FOLDER), tmp_path / "out"
    found = {}
    for part in ("test", "validation", "all"):
        assert (
            main(
                [
                    "evaluate",
                    "--model",
                    model,
                    "--data",
                    str(data),
                    "--part",
                    part,
                    "--samples",
                    "2",
                    "--no-figure",
                    "--overwrite",
                    "--out",
                    str(out),
                ]
            )
            == 0
        )
        found[part] = {row["case"] for row in rows_of(out)}
    assert len(found["test"]) == len(found["validation"]) == 1 and len(found["all"]) == 12
    assert not found["test"] & found["validation"]
    assert "MAY BE INCLUDED" in (out / "summary.md").read_text(encoding="utf-8")
    assert not (out / "figure.png").exists()


@pytest.mark.slow
def test_phantom_two_models_and_the_truth(tmp_path):
    models = [
        save(tmp_path / "diffusion", tiny_cimd(size=SIZE), PHANTOM),
        save(tmp_path / "known", Alternating(AlternatingConfig()), PHANTOM),
    ]
    command = ["evaluate", "--model", *models, "--data", "phantom", "--samples", "8", "--mode-samples", "32"]
    command += ["--batch-size", "8"]
    assert main([*command, "--cases", "12", "--sampler", "dpm++2m", "--out", str(tmp_path / "all")]) == 0
    rows = json.loads((tmp_path / "all" / "summary.json").read_text(encoding="utf-8"))["table"]["rows"]
    assert [row["model"] for row in rows] == ["diffusion", "known", "true distribution"]
    assert [row["sampler"] for row in rows] == ["dpm++2m, 2 steps, trailing", "one pass", "independent draws"]
    truth = rows[2]
    assert truth["mode_correlation"] > 0.9 > max(rows[0]["mode_correlation"], rows[1]["mode_correlation"])
    assert truth["ged_u"] < 0.15 < 0.5 < min(rows[0]["ged_u"], rows[1]["ged_u"])
    assert truth["distance_raters"] == rows[0]["distance_raters"]

    # Fewer cases, and next to no masks for frequencies: what remains is the same.
    small = ["--cases", "4", "--sampler", "dpm++2m", "--mode-samples", "1", "--no-figure"]
    assert main([*command, *small, "--out", str(tmp_path / "few")]) == 0
    everything = {(row["model"], row["case"]): row for row in rows_of(tmp_path / "all")}
    few = rows_of(tmp_path / "few")
    assert len(few) == 3 * 4
    for row in few:
        full = everything[row["model"], row["case"]]
        assert {k: v for k, v in row.items() if k != "mode_frequencies"} == {
            k: v for k, v in full.items() if k != "mode_frequencies"
        }


def test_a_second_run_writes_the_same_table_and_needs_overwrite(tmp_path, data, capsys):
    model, out = save(tmp_path / "m", tiny_cimd(size=SIZE), FOLDER), tmp_path / "out"
    arguments = ["--model", model, "--data", str(data), "--samples", "3", "--no-figure"]
    assert main(["evaluate", *arguments, "--out", str(out)]) == 0
    capsys.readouterr()
    first = (out / "results.csv").read_bytes()
    assert "holds results.csv already" in refused(arguments, out, capsys)
    assert main(["evaluate", *arguments, "--out", str(out), "--overwrite"]) == 0
    assert (out / "results.csv").read_bytes() == first
    assert main(["evaluate", *arguments, "--out", str(out), "--overwrite", "--seed", "1"]) == 0
    assert (out / "results.csv").read_bytes() != first


def test_cases_of_another_size_are_brought_to_the_models(tmp_path, data):
    model, out = save(tmp_path / "m", Alternating(AlternatingConfig()), FOLDER), tmp_path / "out"
    for folder in data.iterdir():
        for file in folder.iterdir():
            png(file, sitk.GetArrayFromImage(sitk.ReadImage(str(file))).repeat(2, axis=0).repeat(2, axis=1))
    split = tmp_path / "split.json"
    split.write_text(
        json.dumps({"test": ["case1"], "unused": [f"case{i}" for i in range(12) if i != 1]}), encoding="utf-8"
    )
    arguments = ["evaluate", "--model", model, "--data", str(data), "--split", str(split), "--samples", "2"]
    assert main([*arguments, "--no-figure", "--out", str(out)]) == 0
    assert float(rows_of(out)[0]["hm_iou"]) == 1
    assert "brought to the models' 16 × 16 pixels" in (out / "summary.md").read_text(encoding="utf-8")


def test_models_of_one_name_are_told_apart(tmp_path, data):
    models = [save(tmp_path / n, Alternating(AlternatingConfig()), FOLDER, name="twin $x_{$") for n in ("p", "q")]
    arguments = ["evaluate", "--model", *models, "--data", str(data), "--samples", "2"]
    assert main([*arguments, "--out", str(tmp_path / "o")]) == 0
    assert {row["model"] for row in rows_of(tmp_path / "o")} == {f"twin $x_{{$ ({model})" for model in models}


def test_networks_of_other_multiples_are_one_way_to_prepare_slices(tmp_path, data):
    folder, arguments = tmp_path / "by_1", ["--data", str(data), "--part", "all", "--samples", "2", "--no-figure"]
    model = load_model(save(folder, Alternating(AlternatingConfig()), FOLDER))
    save_model(replace(model, preprocessing=replace(model.preprocessing, size_multiple=8)), tmp_path / "by_8")
    models = [str(folder), str(tmp_path / "by_8")]
    assert main(["evaluate", "--model", *models, *arguments, "--out", str(tmp_path / "both")]) == 0
    assert main(["evaluate", "--model", models[0], *arguments, "--out", str(tmp_path / "alone")]) == 0
    rows, alone = rows_of(tmp_path / "both"), rows_of(tmp_path / "alone")
    assert len(rows) == 24 and [row["ged_v"] for row in rows] == 2 * [row["ged_v"] for row in alone]


def test_bad_input_is_one_line_and_writes_nothing(tmp_path, data, capsys):
    known = save(tmp_path / "known", Alternating(AlternatingConfig()), FOLDER)
    colour = save(tmp_path / "colour", Alternating(AlternatingConfig(3)), FOLDER)
    large = save(tmp_path / "large", Alternating(AlternatingConfig()), FOLDER, size=32)
    imported = save(tmp_path / "imported", Alternating(AlternatingConfig()), None)
    other = save(tmp_path / "other", Alternating(AlternatingConfig()), replace(FOLDER, split_seed=7))
    missing = save(tmp_path / "missing", Alternating(AlternatingConfig()), replace(FOLDER, split_file="gone.json"))
    phantoms = [save(tmp_path / f"phantom{s}", tiny_cimd(size=SIZE), replace(PHANTOM, phantom_seed=s)) for s in (0, 1)]
    folder = ["--data", str(data)]
    for arguments, words in (
        (["--model", str(tmp_path / "none"), *folder], "neither a folder nor a bundled model"),
        (["--model", str(data), *folder], "no model here"),
        (["--model", known, known, *folder], "named twice"),
        (["--model", known, "--data", str(tmp_path / "empty")], "empty"),
        (["--model", colour, *folder], "images of 1 channels, colour reads 3"),
        (["--model", known, large, *folder], "different sizes (known 16 × 16, large 32 × 32)"),
        (["--model", imported, *folder], "give --split FILE, or --part all"),
        (["--model", known, other, *folder], "different splits"),
        (["--model", missing, *folder], "does not fit this data"),
        (["--model", known, *folder, "--part", "all", "--split", "x.json"], "leave --split out"),
        (["--model", known, *folder, "--split", "x.json"], "x.json"),
        (["--model", known, *folder, "--raters", "3"], "--raters is for the phantom"),
        (["--model", known, *folder, "--cases", "0"], "--cases must be positive"),
        (["--model", known, *folder, "--spacing-mm", "-1"], "--spacing-mm must be positive"),
        (["--model", known, *folder, "--samples", "0"], "--samples must be at least 1"),
        (["--model", known, *folder, "--seed", "-1"], "--seed"),
        (["--model", known, *folder, "--steps", "5"], "No model has a sampler"),
        (["--model", phantoms[0], "--data", "phantom", "--sampler", "ddpm", "--sampler-option", "eta=1"], "eta"),
        (["--model", phantoms[0], "--data", "phantom", "--steps", "5000"], "5000"),
        (["--model", phantoms[0], "--data", "phantom", "--part", "all"], "test and validation"),
        (["--model", phantoms[0], "--data", "phantom", "--split", "x.json"], "--split is for folders"),
        (["--model", *phantoms, "--data", "phantom"], "different phantoms"),
        (["--model", known, *folder, "--device", "nowhere"], "nowhere"),
    ):
        assert words in refused(arguments, tmp_path / "out", capsys), arguments
    occupied = tmp_path / "file"
    occupied.write_text("", encoding="utf-8")
    assert "is a file" in refused(["--model", known, *folder], occupied, capsys)


def test_without_matplotlib_the_figure_must_be_declined(tmp_path, data, capsys, monkeypatch):
    model = save(tmp_path / "m", Alternating(AlternatingConfig()), FOLDER)
    monkeypatch.setitem(__import__("sys").modules, "AmbiguousSegLib.plotting.charts", None)
    arguments = ["--model", model, "--data", str(data), "--samples", "2"]
    assert "give --no-figure" in refused(arguments, tmp_path / "out", capsys)
    assert main(["evaluate", *arguments, "--no-figure", "--out", str(tmp_path / "out")]) == 0


def test_a_figure_of_ones_own_is_in_every_file(tmp_path, data):
    """Written here, in one function: nothing else is edited."""

    @figure("toy_size", "toy size", "mean number of marked pixels of a sample")
    def toy_size(sets: MaskSets) -> float:
        return float(sets.marked()[0].sum() / len(sets.samples))

    model, out = save(tmp_path / "m", Alternating(AlternatingConfig()), FOLDER), tmp_path / "out"
    try:
        assert main(["evaluate", "--model", model, "--data", str(data), "--samples", "4", "--out", str(out)]) == 0
    finally:
        FIGURES.unregister("toy_size")
    assert all(float(row["toy_size"]) == (16 + 32) / 2 for row in rows_of(out))
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["table"]["rows"][0]["toy_size"] == summary["results"][0]["averages"]["mean"]["toy_size"] == 24
    assert "toy size: mean number of marked pixels" in (out / "summary.md").read_text(encoding="utf-8")


TWO = (Label("core", (0.9, 0.2, 0.2)), Label("halo", (0.2, 0.4, 0.9)))


def test_two_classes_have_rows_of_their_own_and_one_together(tmp_path, capsys):
    """The known model draws the halo alone; the truth's figures are near those of a perfect model."""
    models = [
        save(tmp_path / "known", Alternating(AlternatingConfig(classes=2)), PHANTOM, labels=TWO),
        save(tmp_path / "other", Alternating(AlternatingConfig(classes=2)), PHANTOM, labels=TWO),
    ]
    out, command = tmp_path / "out", ["evaluate", "--data", "phantom", "--samples", "6", "--mode-samples", "32"]
    assert main([*command, "--cases", "8", "--raters", "12", "--model", *models, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    rows = summary["table"]["rows"]
    names = ["core", "halo", ALL_CLASSES]
    assert [(row["model"], row["label"]) for row in rows] == [
        (model, label) for model in ("known", "other", "true distribution") for label in names
    ]
    assert summary["labels"] == ["core", "halo"]
    assert [result["label"] for result in summary["results"]] == 3 * names
    of = {(row["model"], row["label"]): row for row in rows}
    for label in names:
        known, truth = of["known", label], of["true distribution", label]
        assert known["distance_raters"] == truth["distance_raters"] and truth["ged_u"] < 0.2
    assert of["known", "core"]["distance_samples_v"] == 0 < of["known", "halo"]["distance_samples_v"]
    # modes are label maps: all classes have the correlation, and only they
    assert [row["mode_correlation"] is not None for row in rows] == [False, False, True] * 3
    assert of["true distribution", ALL_CLASSES]["mode_correlation"] > 0.9

    cases = rows_of(out)
    assert len(cases) == 3 * 3 * 8
    samples = np.stack([A, B] * 3).astype(np.uint8) * 2
    for i, (name, label) in enumerate(zip(names, (1, 2, None), strict=True)):
        found = [row for row in cases if row["model"] == "known" and row["label"] == name]
        assert np.mean([float(row["ged_v"]) for row in found]) == pytest.approx(rows[i]["ged_v"])
        # the samples are the same for every case, so their spread is known
        expected = compare(samples, samples, classes=2, label=label)["distance_samples_v"]
        assert rows[i]["distance_samples_v"] == pytest.approx(expected)
    assert "rows of a class" in capsys.readouterr().out
    assert (out / "figure.png").stat().st_size > 1000

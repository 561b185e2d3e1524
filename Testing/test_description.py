"""A description says what the loaded model says, refuses what loading refuses, and lifts those of format 1."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import tiny_cimd, tiny_model
from tiny_training import METHODS as CONFIGURATIONS

from AmbiguousSegLib.description import DESCRIPTION_FILE, INTENDED_USE, WEIGHTS_FILE, Card, read_description
from AmbiguousSegLib.diffusion.samplers import names_of
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.labels import LESION_TERMINOLOGY, Label
from AmbiguousSegLib.methods import build_method, method_config
from AmbiguousSegLib.model import Model, load_model, save_model
from AmbiguousSegLib.quality import Measured, QualityPreset
from AmbiguousSegLib.resources import bundled_models, find_model
from AmbiguousSegLib.volume.preprocessing import RULES, Intensity, Preprocessing

PAST = Path(__file__).resolve().parent / "Past"
WORDS = {
    "window": (Intensity("window", -1000.0, 200.0), "window -1000 to 200"),
    "percentile": (Intensity("percentile", 0.5, 99.0), "percentiles 0.5 to 99 of the volume"),
    "full_scale": (Intensity("full_scale", high=255.0), "full scale 0 to 255"),
    "minmax": (Intensity("minmax"), "least to greatest value of the volume"),
}
CARD = Card("lesions <2>", "of two raters", {"data": "a set"}, {"ged_u": 0.03445}, limits=("Children: none was seen.",))
QUALITIES = {"fast": QualityPreset(SamplerSettings("ddim", 2, options={"eta": 1.0}), 0.02, 0.97)}


def saved(model: Model, folder: Path) -> Path:
    save_model(model, folder)
    return folder


def edited(folder: Path, place: list[str], value: object) -> Path:
    """Change an entry of the description; ``...`` takes it away."""
    path = folder / DESCRIPTION_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def agrees(folder: Path) -> None:
    said, model = read_description(folder), load_model(folder)
    assert (said.labels, said.card, said.sampling, said.qualities) == (
        model.labels,
        model.card,
        model.sampling,
        model.qualities,
    )
    assert said.preprocessing == model.preprocessing and said.folder == folder and said.inputs == model.inputs
    assert (said.method, said.samples_by_steps) == (model.method.name, model.method.samples_by_steps)
    assert said.sampler_family == model.method.sampler_family
    for name in ("channels", "plane", "spacing_mm", "size"):
        assert getattr(said, name) == getattr(model.preprocessing, name)
    assert said.training_steps == model.training_steps
    assert said.training_steps == (len(model.method.schedule) if hasattr(model.method, "schedule") else None)
    assert said.weights_sha256 == model.weights_sha256
    assert said.weights_bytes == len((folder / WEIGHTS_FILE).read_bytes())


@pytest.mark.parametrize("folder", bundled_models(), ids=lambda folder: folder.name)
def test_a_bundled_model_is_described_as_it_loads(folder):
    agrees(folder)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_method_is_described_as_it_loads(name, tmp_path):
    method = build_method(name, {**CONFIGURATIONS[name], "classes": 2})
    preprocessing = Preprocessing(("CT",), "coronal", 1.5, (16, 32), method.size_multiple, Intensity("minmax"))
    labels = (Label("core"), Label("halo", (0.0, 0.5, 1.0), "a terminology"))
    family = method.sampler_family
    options = {"eta": 0.5} if family == "gaussian" else {}
    sampling = SamplerSettings("ddim" if family == "gaussian" else names_of(family)[0], 3, "both_ends", options)
    qualities = {"fast": replace(QUALITIES["fast"], sampling=replace(sampling, steps=2))}
    agrees(saved(Model(method, preprocessing, sampling, CARD, labels, qualities), tmp_path))


@pytest.mark.parametrize("rule", RULES)
def test_intensity_in_words(rule, tmp_path):
    intensity, words = WORDS[rule]
    model = tiny_model()
    saved(replace(model, preprocessing=replace(model.preprocessing, intensity=intensity)), tmp_path)
    assert read_description(tmp_path).intensity == words


def test_intensity_of_each_channel(tmp_path):
    rules = (Intensity("minmax"), Intensity("window", 0.0, 80.0))
    preprocessing = Preprocessing(("T1", "T2"), "stored", None, (16, 16), 2, rules)
    said = read_description(saved(Model(tiny_cimd(2), preprocessing), tmp_path))
    assert said.intensity == "T1: least to greatest value of the volume; T2: window 0 to 80"


def test_the_weights_are_not_read(tmp_path):
    saved(tiny_model(), tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"spoilt")
    assert read_description(tmp_path).weights_bytes == 6


# Format 1


def test_the_bundled_models_description_of_format_1_says_the_same(tmp_path):
    """What that file said, entry by entry; it sampled with both ends of the schedule."""
    bundled = find_model("phantom-cimd-64")
    shutil.copyfile(PAST / "bundled_model_v1.json", tmp_path / DESCRIPTION_FILE)
    shutil.copyfile(bundled / WEIGHTS_FILE, tmp_path / WEIGHTS_FILE)
    old, now = read_description(tmp_path), read_description(bundled)
    assert old.labels == (Label("nodule", (0.9, 0.3, 0.2), LESION_TERMINOLOGY),)
    assert old.sampling == SamplerSettings("dpm++2m", 10, "both_ends") and old.qualities == {}
    assert (old.method, old.samples_by_steps, old.training_steps) == ("cimd", True, 1000)
    assert old.preprocessing == Preprocessing(
        ("CT",), "axial", 1.0, (64, 64), 8, Intensity("window", low=-1000.0, high=200.0)
    )
    assert (old.card.name, old.card.training["images_seen"]) == ("phantom-cimd-64", 136000)
    assert (old.card.intended_use, old.card.limits) == (INTENDED_USE, ())
    assert old.card.metrics["ged_u"] == 0.03445105375514612
    # And the file of today differs in nothing that an image sees but how it is sampled.
    assert now.sampling == replace(old.sampling, steps=4, grid="trailing")
    assert (now.labels, now.preprocessing, now.weights_sha256) == (old.labels, old.preprocessing, old.weights_sha256)
    same = method_config("cimd", old.method_config)  # what could not be told then has its default
    assert method_config("cimd", now.method_config) == replace(same, classes=1)
    agrees(tmp_path)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({"name": "ddim", "steps": 3, "eta": 0.5}, SamplerSettings("ddim", 3, "both_ends", {"eta": 0.5})),
        ({"name": "ddim", "steps": 3, "eta": 0.0}, SamplerSettings("ddim", 3, "both_ends")),
        ({"name": "ddpm", "steps": 3, "eta": 0.5}, SamplerSettings("ddpm", 3, "both_ends")),  # which read no η
        ({"name": "ddim", "steps": 3}, SamplerSettings("ddim", 3, "both_ends")),
        ({"steps": 3, "grid": "trailing", "options": {}}, SamplerSettings("ddpm", 3)),
    ],
)
def test_samplers_of_earlier_versions(sampling, expected):
    assert SamplerSettings.from_json(sampling) == expected


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (["ddim"], "sampler must be a mapping of settings, got list"),
        ({"name": "ddim", "step": 3}, r"Unknown key sampler\.step"),
        ({"name": 3}, r"sampler\.name must be str"),
        ({"name": "ddim", "eta": 1, "options": {"eta": 0.2}}, "give options alone, got eta 1 too"),
        ({"name": "ddim", "eta": 1, "options": 3}, "give options alone"),
    ],
)
def test_samplers_that_are_wrong_are_refused(sampling, message):
    with pytest.raises(ValueError, match=message):
        SamplerSettings.from_json(sampling)


def test_a_model_of_format_1_is_saved_in_format_2(tmp_path):
    model = load_model(PAST / "model")
    agrees(saved(model, tmp_path))
    content = json.loads((tmp_path / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    assert content["format_version"] == 2 and content["labels"][0]["name"] == "nodule"
    assert content["sampling"] == {"name": "ddim", "steps": 3, "grid": "both_ends", "options": {}}
    assert content["samples_by_steps"] is True and content["method_config"]["classes"] == 1


# What is refused

PLACES = [
    (["format_version"], 3, "format version 3, this software reads versions 1 and 2; update the software"),
    (["format_version"], "2", "format version '2', this software reads"),
    (["format_version"], True, "format version True, this software reads"),
    (["format_version"], ..., "not a model description"),
    (["method"], ..., "Missing key method; add it."),
    (["method"], ["cimd"], "method must be str"),
    (["method_config"], 3, "method_config must be a mapping"),
    (["method_config", "schedule", "kind"], "sigmoid", "'linear' or 'cosine'"),
    (["method_config", "schedule", "betas"], 1, "Unknown key method_config.schedule.betas"),
    (["preprocessing"], ..., "Missing key preprocessing; add it."),
    (["preprocessing", "plane"], "tilted", "plane must be one of axial"),
    (["preprocessing", "channels"], [], "at least one channel"),
    (["preprocessing", "window"], 3, "Unknown key preprocessing.window"),
    (["preprocessing", "intensity"], [], "0 rules for 1 channels"),
    (["preprocessing", "intensity", "rule"], "log", "rule must be one of"),
    (["preprocessing", "intensity", "high"], None, "takes low and high for window"),
    (["sampling"], ..., "Missing key sampling; add it."),
    (["sampling", "steps"], 2.5, "sampling.steps must be int"),
    (["card"], ..., "Missing key card; add it."),
    (["card", "title"], "x", "Unknown key card.title"),
    (["weights_sha256"], ..., "Missing key weights_sha256; add it."),
]
LATER = [
    (["labels"], ..., "Missing key labels; add it."),
    (["labels"], [], "1 to 255 labels, got 0"),
    (["labels"], [{"name": "a"}, {"name": "a"}], "Labels must differ in name, got a, a"),
    (["labels"], [{"name": "a", "color": [1, 2]}], "labels[0].color must hold 3 values"),
    (["labels"], [{"name": "a\nb"}], "Label.name must be one line"),
    (["labels"], [{"name": "a", "size": 1}], "Unknown key labels[0].size"),
    (["samples_by_steps"], "yes", "samples_by_steps must be bool"),
    (["sampling", "eta"], 0.5, "Unknown key sampling.eta"),
    (["qualities"], {"best": {"sampling": {}}}, "Unknown quality qualities.best; known: fast, balanced, paper"),
    (["qualities"], {"fast": {"sampling": {"grids": 1}}}, "Unknown key qualities.fast.sampling.grids"),
    (["qualities"], {"fast": {"sampling": {}, "ged_u": "low"}}, "qualities.fast.ged_u must be float"),
    (["qualities"], {"fast": {"ged_u": 0.1}}, "Missing key qualities.fast.sampling"),
    (["qualities"], {"fast": {"sampling": {}, "ged_u": {"value": 1, "interval_95": [2, 3]}}}, "within its interval_95"),
    (["qualities"], {"fast": {"sampling": {}, "ged_u": {"low": 1}}}, "Unknown key qualities.fast.ged_u.low"),
    (["qualities"], {"one_pass": {}}, "Unknown quality qualities.one_pass"),
    (["folder"], "/", "folder must be Path"),
    (["inputs"], {}, "Missing key inputs.channels"),
    (["inputs"], {"channels": [], "rows_px": [8, 9], "columns_px": [8, 9]}, "inputs.channels describes 0 channel(s)"),
    (["inputs"], {"channels": [], "rows_px": [9, 8], "columns_px": [8, 9]}, "inputs.rows_px must be two positive"),
    (["inputs"], {"channels": [{}], "rows_px": [8, 9], "columns_px": [8, 9]}, "Missing key inputs.channels[0].gr"),
]
EARLIER = [
    (["card", "label", "color"], [1, 2], "labels[0].color must hold 3 values"),
    (["card", "label", "size"], 1, "Unknown key labels[0].size"),
    (["card"], 3, "card must be a mapping"),
    (["labels"], [{"name": "a"}], "labels is no key of format version 1"),
    (["samples_by_steps"], True, "samples_by_steps is no key of format version 1"),
    (["inputs"], None, "inputs is no key of format version 1"),
    (["sampling", "order"], 2, "Unknown key sampling.order"),
]


@pytest.mark.parametrize(
    ("version", "place", "value", "message"),
    [(2, *entry) for entry in PLACES + LATER] + [(1, *entry) for entry in PLACES + EARLIER],
)
def test_what_loading_refuses_is_refused_in_one_line(tmp_path, version, place, value, message):
    if version == 1:
        shutil.copytree(PAST / "model", tmp_path, dirs_exist_ok=True)
    else:
        saved(tiny_model(), tmp_path)
    path = edited(tmp_path, place, value)
    for read in (read_description, load_model):
        with pytest.raises(ValueError) as error:
            read(tmp_path)
        assert "\n" not in str(error.value) and str(error.value).startswith(f"{path}: ")
        assert message in str(error.value)


def test_what_was_measured_is_read_with_its_interval_and_without(tmp_path):
    """Earlier files have plain numbers, and neither mode correlation nor protocol."""
    sampling = {"name": "ddim", "steps": 2}
    for said, expected in (
        ({"ged_u": 0.02, "spread_ratio": 1}, QualityPreset(SamplerSettings("ddim", 2), 0.02, 1.0)),
        (
            {"ged_u": {"value": 0.02, "interval_95": [0.01, 0.03]}, "mode_correlation": 0.9, "protocol": "9 cases"},
            QualityPreset(SamplerSettings("ddim", 2), Measured(0.02, (0.01, 0.03)), None, 0.9, "9 cases"),
        ),
    ):
        edited(saved(tiny_model(), tmp_path), ["qualities"], {"fast": {"sampling": sampling, **said}})
        agrees(tmp_path)
        assert read_description(tmp_path).qualities == {"fast": expected}
        again = saved(load_model(tmp_path), tmp_path / "again")
        assert read_description(again).qualities == {"fast": expected}


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "{}", "3", "[" * 100000, "\x00\x01", '"format_version"'])
def test_a_file_that_is_no_description_is_refused(tmp_path, text):
    (saved(tiny_model(), tmp_path) / DESCRIPTION_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="not a model description"):
        read_description(tmp_path)


def test_no_model_and_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model here; expected a folder with model\.json"):
        read_description(tmp_path)
    (saved(tiny_model(), tmp_path) / WEIGHTS_FILE).unlink()
    for read in (read_description, load_model):
        with pytest.raises(FileNotFoundError, match=r"weights are missing beside model\.json"):
            read(tmp_path)

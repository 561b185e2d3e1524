"""A summary says what the loaded model says, and refuses what loading refuses; a card shows text as text."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from html import unescape

import pytest
from tiny_models import tiny_cimd, tiny_model
from tiny_training import METHODS as CONFIGURATIONS

from AmbiguousSegLib import card
from AmbiguousSegLib.card import CARD_FILE, WEIGHTS_FILE, Card, Label, card_html, read_summary
from AmbiguousSegLib.diffusion.samplers import SamplerSettings
from AmbiguousSegLib.methods import METHODS, build_method
from AmbiguousSegLib.model import Model, load_model, save_model
from AmbiguousSegLib.resources import bundled_models
from AmbiguousSegLib.volume.preprocessing import RULES, Intensity, Preprocessing

WORDS = {
    "window": (Intensity("window", -1000.0, 200.0), "window -1000 to 200"),
    "percentile": (Intensity("percentile", 0.5, 99.0), "percentiles 0.5 to 99 of the volume"),
    "full_scale": (Intensity("full_scale", high=255.0), "full scale 0 to 255"),
    "minmax": (Intensity("minmax"), "least to greatest value of the volume"),
}
SPOKEN = Card(
    "lesions <2>",
    "of two raters & one more",
    Label("tumour", (0.1, 0.2, 0.3)),
    training={"data": "a <b>set</b>", "licence": "CC BY 3.0", "images_seen": 136000, "configuration": {"seed": 3}},
    metrics={"protocol": "32 cases", "ged_u": 0.03445, "diversity_agreement": None, "mean_dice": 0.5},
)


def saved(model, folder):
    save_model(model, folder)
    return folder


def plain(html: str) -> str:
    return unescape(re.sub("<[^>]*>", "", html))


# Summary


@pytest.mark.parametrize("folder", bundled_models(), ids=lambda folder: folder.name)
def test_a_bundled_model_is_summarised_as_it_loads(folder):
    agrees(folder)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_summarised_as_it_loads(name, tmp_path):
    method = build_method(name, CONFIGURATIONS[name])
    rules = (Intensity("minmax"), Intensity("percentile", 1.0, 99.0))[: method.image_channels]
    names = ("T1", "T2")[: method.image_channels]
    preprocessing = Preprocessing(names, "coronal", 1.5, (16, 32), method.size_multiple, rules)
    agrees(saved(Model(method, preprocessing, SamplerSettings("ddim", 3, 0.5), SPOKEN), tmp_path))


def agrees(folder):
    summary, model = read_summary(folder), load_model(folder)
    own = Card(
        summary.name, summary.description, summary.label, summary.training, summary.metrics, summary.intended_use
    )
    assert own == model.card and summary.folder == folder
    assert (summary.method, summary.samples_by_steps) == (model.method.name, model.method.samples_by_steps)
    for name in ("channels", "plane", "spacing_mm", "size"):
        assert getattr(summary, name) == getattr(model.preprocessing, name)
    assert summary.training_steps == model.training_steps
    if model.method.samples_by_steps:
        assert summary.training_steps == len(model.method.schedule)
        assert summary.sampler == (model.sampling.name, model.sampling.steps)
    else:
        assert summary.training_steps is None and summary.sampler is None
    assert summary.weights_bytes == len((folder / WEIGHTS_FILE).read_bytes())


@pytest.mark.parametrize("rule", RULES)
def test_intensity_in_words(rule, tmp_path):
    intensity, words = WORDS[rule]
    model = tiny_model()
    saved(replace(model, preprocessing=replace(model.preprocessing, intensity=intensity)), tmp_path)
    assert read_summary(tmp_path).intensity == words


def test_intensity_of_each_channel(tmp_path):
    rules = (Intensity("minmax"), Intensity("window", 0.0, 80.0))
    preprocessing = Preprocessing(("T1", "T2"), "stored", None, (16, 16), 2, rules)
    summary = read_summary(saved(Model(tiny_cimd(2), preprocessing), tmp_path))
    assert summary.intensity == "T1: least to greatest value of the volume; T2: window 0 to 80"


@pytest.mark.parametrize(
    ("own", "theirs"),
    [(card._Intensity, Intensity), (card._Preprocessing, Preprocessing), (card._Sampler, SamplerSettings)],
)
def test_what_is_read_without_torch_has_the_fields_of_what_is_written(own, theirs):
    def described(cls):
        return [(f.name, f.default, str(f.type).replace("_Intensity", "Intensity")) for f in fields(cls)]

    assert described(own) == described(theirs)
    assert set(card._INTENSITY) == set(RULES)


def test_the_weights_are_not_read(tmp_path):
    saved(tiny_model(), tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"spoilt")
    assert read_summary(tmp_path).weights_bytes == 6


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["format_version"], 2, "format version 2"),
        (["format_version"], ..., "not a model description"),
        (["method"], ..., "missing key 'method'"),
        (["method"], ["cimd"], "method"),
        (["method_config"], 3, "method_config"),
        (["method_config", "schedule", "kind"], "sigmoid", "'linear' or 'cosine'"),
        (["method_config", "schedule", "betas"], 1, "Unknown key method_config.schedule.betas"),
        (["preprocessing"], ..., "missing key 'preprocessing'"),
        (["preprocessing", "plane"], "tilted", "planes axial"),
        (["preprocessing", "channels"], [], "at least one channel"),
        (["preprocessing", "window"], 3, "Unknown key preprocessing.window"),
        (["preprocessing", "intensity"], [], "0 rules for 1 channels"),
        (["preprocessing", "intensity", "rule"], "log", "rule must be one of"),
        (["preprocessing", "intensity", "high"], None, "window lacks a limit"),
        (["sampling", "steps"], 2.5, "sampling.steps must be int"),
        (["card"], ..., "missing key 'card'"),
        (["card", "label", "color"], [1, 2], "card.label.color must hold 3 values"),
    ],
)
def test_what_loading_refuses_is_refused_in_one_line(tmp_path, place, value, message):
    path = saved(tiny_model(), tmp_path) / CARD_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    for read in (read_summary, load_model):
        with pytest.raises(ValueError) as error:
            read(tmp_path)
        assert "\n" not in str(error.value) and str(path) in str(error.value)
        if read is read_summary:
            assert message in str(error.value)


def test_no_model_and_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model here"):
        read_summary(tmp_path)
    (saved(tiny_model(), tmp_path) / WEIGHTS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match="weights are missing beside model.json"):
        read_summary(tmp_path)


# Card


def test_the_card_says_what_is_known(tmp_path):
    model = tiny_model(spacing_mm=0.5)
    text = plain(card_html(read_summary(saved(replace(model, card=SPOKEN), tmp_path))))
    for words in (
        "lesions <2>",
        "of two raters & one more",
        "tumour",
        "channel 0; axial slices, resampled to pixels of 0.5 mm, at least 16 × 16 pixels; values: window 0 to 1",
        "a <b>set</b>",
        "136,000",
        "CC BY 3.0",
        "32 cases",
        "GED², unbiased (0 is best): 0.034",
        "D_a (1 is best): undefined",
        "Research use only",
    ):
        assert words in text
    assert "seed" not in text and "0.5 (" not in text  # configuration and lesser figures stay in the file


def test_the_card_is_balanced_html_without_the_models_tags(tmp_path):
    html = card_html(read_summary(saved(replace(tiny_model(), card=SPOKEN), tmp_path)))
    assert "<2>" not in html and "<b>set" not in html and "two raters &amp; one" in html
    for tag in ("p", "b", "i", "table", "tr", "td"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>")


def test_a_card_that_says_nothing(tmp_path):
    model = replace(tiny_model(plane="stored"), card=Card(intended_use="none"))
    text = plain(card_html(read_summary(saved(model, tmp_path))))
    assert "slices as stored in the file, each stretched to 16 × 16 pixels" in text
    assert "not stated" in text and "none stated" in text and "Images seen" not in text

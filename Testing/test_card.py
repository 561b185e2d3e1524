"""A card shows what is known of a model, and text as text."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

from tiny_models import tiny_model
from tiny_training import METHODS

from AmbiguousSegLib.card import card_html, quality_lines
from AmbiguousSegLib.description import Card, read_description
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.metrics.figures import FIGURES, figure
from AmbiguousSegLib.model import save_model
from AmbiguousSegLib.quality import Measured, QualityPreset
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.inputs import ChannelValues, Inputs

SPOKEN = Card(
    "lesions <2>",
    "of two raters & one more",
    training={"data": "a <b>set</b>", "licence": "CC BY 3.0", "images_seen": 136000, "configuration": {"seed": 3}},
    metrics={"protocol": "32 cases", "diversity_agreement": None, "ged_u": 0.03445, "distance_cross": 0.5, "f_1": 0.25},
    limits=("Children < 12: none was seen.", "Contrast agents."),
)


def html_of(tmp_path, **changes) -> str:
    save_model(replace(tiny_model(spacing_mm=0.5), **changes), tmp_path)
    return card_html(read_description(tmp_path))


def plain(html: str) -> str:
    return unescape(re.sub("<[^>]*>", "", html))


def test_the_card_says_what_is_known(tmp_path):
    text = plain(html_of(tmp_path, card=SPOKEN, labels=(Label("tumour"),)))
    for words in (
        "lesions <2>",
        "of two raters & one more",
        "Marks\xa0tumour",
        "channel 0; axial slices, resampled to pixels of 0.5 mm, at least 16 × 16 pixels; values: window 0 to 1",
        "a <b>set</b>",
        "136,000",
        "CC BY 3.0",
        "Does not know\xa0Children < 12: none was seen.Contrast agents.",
        "Research use only",
    ):
        assert words in text
    assert "seed" not in text  # the configuration stays in the file


def test_the_card_says_what_images_it_was_trained_on(tmp_path):
    grid = Geometry((128, 96, 40), (0.5, 0.5, 3.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    known = Inputs.of([ChannelValues(-1024, -1000, -700, 300, 3071, True)], grid, "axial", "CT")
    text = plain(html_of(tmp_path, inputs=known))
    assert "Images were\xa0CTslices of 96 × 128 pixels of 0.5 mm, 3 mm apartvalues: -1024 to 3071, medians -700" in text
    assert "Images were" not in plain(html_of(tmp_path))


def test_results_are_the_protocol_then_figures_in_the_order_of_their_table_then_others_by_key(tmp_path):
    html = html_of(tmp_path, card=SPOKEN)
    row = re.search(r"<b>Results</b>&nbsp;</td><td>(.*?)</td>", html)[1]
    assert unescape(row).split("<br>") == [
        "32 cases",
        "GED u (lower is better): 0.034",
        "D_a (higher is better): undefined",
        "f_1: 0.250",
    ]


def test_a_figure_that_is_registered_has_its_title_and_decimals(tmp_path):
    figure("f_1", "F <1>", "a figure of this test", better="alike", decimals=1)(lambda sets: 0.0)
    try:
        text = plain(html_of(tmp_path, card=SPOKEN))
    finally:
        FIGURES.unregister("f_1")
    assert "F <1> (best as among raters): 0.2" in text


def test_the_card_is_balanced_html_without_the_models_tags(tmp_path):
    html = html_of(tmp_path, card=SPOKEN, labels=(Label("<i>"),))
    assert "<2>" not in html and "<b>set" not in html and "two raters &amp; one" in html and "<i></td>" not in html
    for tag in ("p", "b", "i", "table", "tr", "td"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>")


def test_the_card_of_the_bundled_model_says_what_was_measured_with_each_quality():
    model = read_description(find_model("phantom-cimd-64"))
    row = re.search(r"<b>Qualities</b>&nbsp;</td><td>(.*?)</td>", card_html(model))[1]
    fast, balanced, protocol = unescape(row).split("<br>")
    for line, name, steps in ((fast, "fast", 4), (balanced, "balanced", 10)):
        figures = [getattr(model.qualities[name], key) for key in ("ged_u", "spread_ratio", "mode_correlation")]
        told = [f"{f.value:.3f} ({f.interval_95[0]:.3f} to {f.interval_95[1]:.3f})" for f in figures]
        assert line == (
            f"{name.capitalize()} (dpm++2m, {steps} steps, trailing): GED u {told[0]}, spread ratio {told[1]}, "
            f"mode correlation {told[2]}"
        )
    assert protocol == f"Measured on {model.qualities['fast'].protocol}" and "interval" in protocol


def test_the_qualities_are_in_their_order_and_each_protocol_is_told_once(tmp_path):
    ddim = SamplerSettings("ddim", 2)
    said = {
        "paper": QualityPreset(SamplerSettings("ddpm", 1000), None, 1.0, protocol="8 < 9 cases"),
        "balanced": QualityPreset(SamplerSettings("ddim", 3)),  # nothing was measured
        "fast": QualityPreset(ddim, Measured(0.25, (0.2, 0.3)), protocol="8 < 9 cases"),
    }
    save_model(replace(tiny_model(), qualities=said), tmp_path)
    assert quality_lines(read_description(tmp_path)) == [
        "Fast (ddim, 2 steps, trailing): GED u 0.250 (0.200 to 0.300)",
        "As in the paper (ddpm, 1000 steps, trailing): spread ratio 1.000",
        "Measured on 8 < 9 cases",
    ]


def test_a_model_of_one_pass_has_one_quality(tmp_path):
    method = build_method("probabilistic_unet", METHODS["probabilistic_unet"])
    said = {"one_pass": QualityPreset(None, Measured(0.231, (0.21, 0.25)), 1.04, protocol="12 cases")}
    save_model(replace(tiny_model(), method=method, qualities=said), tmp_path)
    expected = ["One pass: GED u 0.231 (0.210 to 0.250), spread ratio 1.040", "Measured on 12 cases"]
    assert quality_lines(read_description(tmp_path)) == expected


def test_a_card_that_says_nothing(tmp_path):
    preprocessing = replace(tiny_model().preprocessing, plane="stored")
    text = plain(html_of(tmp_path, card=Card(intended_use="none"), preprocessing=preprocessing))
    assert "slices as stored in the file, each stretched to 16 × 16 pixels" in text
    assert "not stated" in text and "none stated" in text
    assert "Images seen" not in text and "Does not know" not in text

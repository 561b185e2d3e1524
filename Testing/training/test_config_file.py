"""Configurations from files: what no configuration can hold is refused by its key and the file."""

from __future__ import annotations

import pytest

from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.resources import bundled_presets
from AmbiguousSegLib.training.config_file import read_config


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.yaml"


@pytest.mark.parametrize("name", bundled_presets())
def test_every_preset_holds_keys_that_are_known(name):
    assert read_config(name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "holds a list, expected a mapping"),
        ("", "holds nothing, expected"),
        ("modell: {}", "unknown key modell; known: method, "),
        ("1: 2", "unknown key 1; known: "),
        ("dataset: {sizes: [3, 3]}", "unknown key dataset.sizes; known: kind, size, "),
        ("dataset: folder", "dataset must be a mapping of settings, got text"),
        ("dataset: [3]", "dataset must be a mapping of settings, got a list"),
        ("card: {name: 2020-01-01}", "no number, text, list or mapping, such as a date; put text in quotes"),
        ("card: {label: a}\nlabels: [{name: b}]", "card.label is now called labels; give labels alone"),
    ],
)
def test_what_no_configuration_holds_is_refused_by_the_file_and_the_key(file, text, words):
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words) as error:
        read_config(str(file))
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "limits"),
    [
        ("{rule: minmax}", (None, None)),
        ("{rule: full_scale, high: 4095}", (None, 4095.0)),
        ("{rule: window, low: -1000, high: 200}", (-1000.0, 200.0)),
    ],
)
def test_a_rule_of_intensity_has_the_limits_that_are_given_with_it(file, rule, limits):
    """Not one of the default rule besides."""
    file.write_text(f"dataset: {{intensity: {rule}}}", encoding="utf-8")
    _, config = parse(["--config", str(file), "--out", "here"])
    assert (config.dataset.intensity.low, config.dataset.intensity.high) == limits

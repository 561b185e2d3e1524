"""What each quality stands for, and that samplers know it."""

from __future__ import annotations

import math

import pytest

from AmbiguousSegLib.description import read_description
from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.quality import ONE_PASS, Measured, Quality, QualityPreset, check_qualities, sampler_of
from AmbiguousSegLib.resources import bundled_models

FAST, BALANCED, PAPER = Quality.FAST, Quality.BALANCED, Quality.PAPER


@pytest.mark.parametrize(
    ("quality", "training_steps", "expected"),
    [
        (FAST, 1000, ("dpm++2m", 4)),
        (BALANCED, 1000, ("dpm++2m", 25)),
        (PAPER, 1000, ("ddpm", 1000)),
        (PAPER, 4000, ("ddpm", 4000)),
        (BALANCED, 24, ("dpm++2m", 24)),
        (FAST, 3, ("dpm++2m", 3)),
        (PAPER, 1, ("ddpm", 1)),
    ],
)
def test_what_a_quality_stands_for(quality, training_steps, expected):
    settings = sampler_of(quality, training_steps)
    assert settings == SamplerSettings(*expected, grid="trailing")
    samplers.check(settings)


def test_a_models_own_choice_goes_first():
    own = SamplerSettings("ddim", 4, "both_ends", {"eta": 1.0})
    qualities = {"fast": QualityPreset(own, ged_u=0.02, spread_ratio=0.98)}
    assert sampler_of(FAST, 1000, qualities) == own
    assert sampler_of(BALANCED, 1000, qualities) == sampler_of(BALANCED, 1000)


@pytest.mark.parametrize("quality", Quality)
def test_a_method_without_steps_has_nothing_to_choose(quality):
    assert sampler_of(quality, None) is None


@pytest.mark.parametrize("quality", Quality)
@pytest.mark.parametrize(("family", "training_steps"), [("gaussian", 1000), ("categorical", 250), ("flow", None)])
def test_every_family_has_its_samplers(quality, family, training_steps):
    settings = sampler_of(quality, training_steps, family=family)
    samplers.check(settings, family)
    expected = {
        "gaussian": {FAST: 4, BALANCED: 25, PAPER: training_steps},
        "categorical": {FAST: 10, BALANCED: 25, PAPER: training_steps},
        "flow": {FAST: 4, BALANCED: 10, PAPER: 100},
    }
    assert settings.steps == expected[family][quality]


@pytest.mark.parametrize("model", bundled_models(), ids=lambda folder: folder.name)
def test_a_bundled_model_takes_four_evaluations_at_most_unless_told_otherwise(model):
    said = read_description(model)
    chosen = sampler_of(FAST, said.training_steps, said.qualities, said.sampler_family)
    assert chosen == (said.sampling if said.samples_by_steps else None)
    assert not said.samples_by_steps or chosen.steps <= 4
    (preset, *_) = (said.qualities[name] for name in (FAST.value, ONE_PASS) if name in said.qualities)
    assert isinstance(preset.ged_u, Measured) and preset.ged_u.interval_95 and preset.protocol


def test_what_was_measured_in_words():
    plain = QualityPreset(SamplerSettings(), 0.0554, 1.07)
    assert plain.in_words() == "GED u 0.055, spread ratio 1.070"
    known = QualityPreset(SamplerSettings(), Measured(0.0554, (0.051, 0.0594)), None, Measured(0.9), "64 phantoms")
    assert known.in_words() == "GED u 0.055 (0.051 to 0.059), mode correlation 0.900"
    assert QualityPreset(SamplerSettings()).in_words() == ""


@pytest.mark.parametrize(
    ("value", "interval"),
    [(0.1, (0.2, 0.3)), (0.3, (0.1, 0.2)), (math.nan, None), (0.1, (math.nan, 0.2)), (0.1, (-math.inf, 0.2))],
)
def test_an_interval_holds_its_value(value, interval):
    with pytest.raises(ValueError, match=r"a number within its interval_95, got .*; give the interval as \[lowest, hi"):
        Measured(value, interval)


def test_a_method_of_one_pass_has_one_quality():
    one = {ONE_PASS: QualityPreset(ged_u=0.23)}
    check_qualities(one, by_steps=False)
    check_qualities({"fast": QualityPreset(SamplerSettings(), 0.23)}, by_steps=False)  # as an earlier file may say
    check_qualities({}, by_steps=False)
    with pytest.raises(ValueError, match="has one quality, got fast, one_pass; keep one, and name it one_pass"):
        check_qualities({"fast": QualityPreset(), **one}, by_steps=False)
    with pytest.raises(ValueError, match="Unknown quality qualities.one_pass; known: fast, balanced, paper"):
        check_qualities(one, by_steps=True)
    with pytest.raises(ValueError, match="Missing key qualities.fast.sampling; say what it is sampled with"):
        check_qualities({"fast": QualityPreset()}, by_steps=True)


def test_a_schedule_has_steps():
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        sampler_of(FAST, 0)


def test_the_names_are_those_of_the_command_line():
    assert [quality.value for quality in Quality][:3] == ["fast", "balanced", "paper"]

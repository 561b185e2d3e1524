"""What each quality stands for, and that samplers know it."""

from __future__ import annotations

import pytest

from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.quality import Quality, QualityPreset, sampler_of

FAST, BALANCED, PAPER = Quality.FAST, Quality.BALANCED, Quality.PAPER


@pytest.mark.parametrize(
    ("quality", "training_steps", "expected"),
    [
        (FAST, 1000, ("dpm++2m", 10)),
        (BALANCED, 1000, ("dpm++2m", 25)),
        (PAPER, 1000, ("ddpm", 1000)),
        (PAPER, 4000, ("ddpm", 4000)),
        (BALANCED, 24, ("dpm++2m", 24)),
        (FAST, 4, ("dpm++2m", 4)),
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
    expected = (
        {FAST: 4, BALANCED: 10, PAPER: 100} if family == "flow" else {FAST: 10, BALANCED: 25, PAPER: training_steps}
    )
    assert settings.steps == expected[quality]


def test_a_schedule_has_steps():
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        sampler_of(FAST, 0)


def test_the_names_are_those_of_the_command_line():
    assert [quality.value for quality in Quality][:3] == ["fast", "balanced", "paper"]

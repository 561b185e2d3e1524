"""How a command line says in what way a diffusion model is sampled."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace

import pytest
from tiny_models import randomised, tiny_model
from tiny_training import METHODS as CONFIGURATIONS

from AmbiguousSegLib.cli.common import CommandError
from AmbiguousSegLib.cli.sample import given_of_sampler, parser, sampler_settings
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.quality import QualityPreset

OWN = SamplerSettings("ddim", 7, "both_ends", {"eta": 0.5})
CHEAP = SamplerSettings("dpm++2m", 3)


def settings(*arguments: str, model=None) -> SamplerSettings:
    options = parser().parse_args(["scan.nrrd", "--out", "unused", *arguments])
    return sampler_settings(
        model or replace(tiny_model(), sampling=OWN, qualities={"fast": QualityPreset(CHEAP)}), options
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], OWN),
        (["--steps", "4"], replace(OWN, steps=4)),
        (["--grid", "trailing"], replace(OWN, grid="trailing")),
        (["--sampler-option", "eta=1"], replace(OWN, options={"eta": 1.0})),
        (["--sampler", "ddim"], OWN),
        (["--sampler", "ddpm"], replace(OWN, name="ddpm", options={})),  # which has no such option
        (["--sampler", "ddpm", "--steps", "9", "--grid", "trailing"], SamplerSettings("ddpm", 9)),
        (["--quality", "fast"], CHEAP),  # the model's own
        (["--quality", "balanced"], SamplerSettings("dpm++2m", 25)),
        (["--quality", "paper"], SamplerSettings("ddpm", 1000)),
    ],
)
def test_what_is_given_takes_the_place_of_the_models_own(arguments, expected):
    assert settings(*arguments) == expected


def test_eta_is_still_taken_and_says_what_it_is_now(caplog):
    with caplog.at_level(logging.WARNING, logger="AmbiguousSegLib"):
        assert settings("--eta", "0.25") == replace(OWN, options={"eta": 0.25})
    assert [record.getMessage() for record in caplog.records] == [
        "--eta is now --sampler-option eta=0.25; --eta will go in the next version."
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "ddpm", "--eta", "1"], "The sampler ddpm has no option 'eta'; its options: none"),
        (["--sampler-option", "rho=7"], "The sampler ddim has no option 'rho'; its options: eta"),
        (["--sampler-option", "eta=much"], "option eta of the sampler ddim must be a finite number, got 'much'"),
        (["--sampler-option", "eta=nan"], "must be a finite number, got nan"),
        (["--sampler-option", "eta=inf"], "must be a finite number, got inf"),
        (["--quality", "fast", "--grid", "trailing"], "--quality fast chooses sampler and steps; leave out --grid"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises((ValueError, CommandError), match=message):
        settings(*arguments)


@pytest.mark.parametrize("arguments", [["--sampler-option", "eta"], ["--grid", "leading"], ["--sampler", "leap"]])
def test_what_cannot_be_read_ends_the_command(arguments, capsys):
    with pytest.raises(SystemExit):
        settings(*arguments)
    assert arguments[0] in capsys.readouterr().err


def other_family(name: str, sampling: SamplerSettings):
    model = tiny_model(size=16)
    return replace(model, method=build_method(name, CONFIGURATIONS[name]), sampling=sampling)


def test_a_method_takes_samplers_of_its_own_family():
    model = other_family("ccdm", SamplerSettings("categorical", 7))
    assert settings("--steps", "4", model=model) == SamplerSettings("categorical", 4)
    assert settings("--quality", "paper", model=model) == SamplerSettings("categorical", 50)
    flow = other_family("flow_matching", SamplerSettings("euler", 4))
    assert settings("--sampler", "midpoint", "--steps", "6", model=flow) == SamplerSettings("midpoint", 6)
    assert settings("--quality", "balanced", model=flow) == SamplerSettings("midpoint", 10)
    with pytest.raises(CommandError, match="tiny is a flow, which has no training steps to choose from; leave out --g"):
        settings("--grid", "both_ends", model=flow)
    with pytest.raises(ValueError, match="ddim is of the family gaussian, .* choose categorical"):
        settings("--sampler", "ddim", model=model)
    with pytest.raises(ValueError, match="ddpm is of the family gaussian, .* choose categorical"):
        other_family("ccdm", SamplerSettings())
    with pytest.raises(ValueError, match="categorical is of the family categorical, .* choose ddpm or"):
        settings("--sampler", "categorical")


def test_a_method_of_one_pass_takes_no_sampler():
    config = {"unet": {"filters": [4, 8]}, "encoder": {"filters": [4]}}
    model = replace(tiny_model(), method=randomised(build_method("probabilistic_unet", config)))
    assert settings(model=model) == model.sampling
    with pytest.raises(CommandError, match="draws a mask in one pass; leave out --steps, --sampler-option"):
        settings("--steps", "3", "--sampler-option", "eta=1", model=model)


@pytest.mark.parametrize("quality", ["fast", "paper"])
def test_any_quality_of_a_method_of_one_pass_is_its_only_one(quality, caplog):
    config = {"unet": {"filters": [4, 8]}, "encoder": {"filters": [4]}}
    model = replace(tiny_model(), method=randomised(build_method("probabilistic_unet", config)))
    assert settings("--quality", quality, model=model) == model.sampling
    assert [record.getMessage() for record in caplog.records] == [
        f"tiny draws a mask in one pass, its only quality: --quality {quality} changes nothing."
    ]
    with pytest.raises(CommandError, match="draws a mask in one pass; leave out --steps, --quality"):
        settings("--quality", quality, "--steps", "3", model=model)


def test_another_programs_options_need_not_have_them_all():
    """The batch script's, which are read before the library is there."""
    options = argparse.Namespace(sampler=None, steps=5, quality=None)
    assert given_of_sampler(options) == ["--steps"]
    assert sampler_settings(replace(tiny_model(), sampling=OWN), options) == replace(OWN, steps=5)

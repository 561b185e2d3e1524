"""The subcommand ``import``: what is written, said and refused."""

from __future__ import annotations

import pytest
import torch

from AmbiguousSegLib.cli import main
from AmbiguousSegLib.diffusion.noise import SAMPLING, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.model import load_model
from AmbiguousSegLib.networks.unet import UNet, UNetConfig
from AmbiguousSegLib.volume.preprocessing import Intensity


@pytest.fixture
def checkpoint(tmp_path):
    network = UNet(UNetConfig(32, 5, 2, 32, (1, 2), 1, (16,)))
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, tmp_path / "ema.pt")
    return tmp_path / "ema.pt"


def imported(checkpoint, *options):
    out = checkpoint.parent / "model"
    assert main(["import", str(checkpoint), "--kind", "cimd", "--out", str(out), "--image-size", "32", *options]) == 0
    return load_model(out)


def test_an_imported_model_loads_and_samples(checkpoint, capsys, caplog):
    model = imported(checkpoint)
    image, noise = torch.rand(2, 1, 32, 32), RowNoise(0, [(0, 0), (0, 1)], SAMPLING, torch.device("cpu"))
    mask = model.method.sample(model.method.prepare(image), noise, SamplerSettings("ddpm", 2))
    assert mask.shape == (2, 1, 32, 32) and mask.isfinite().all()
    said = capsys.readouterr().out
    for words in ("Inferred", "attention at (16,)", "summed", "1 attention head", "linear schedule of 1000 steps"):
        assert words in said
    assert "trusted sources" in caplog.text


def test_options_reach_the_model(checkpoint):
    model = imported(
        checkpoint,
        *("--image-channels", "4", "--channels", "PD", "FLAIR", "MPRAGE", "T2", "--plane", "sagittal"),
        *("--spacing-mm", "0.5", "--intensity", "window", "-1000", "200", "--mask-levels", "-1", "1"),
        *("--num-heads", "2", "--schedule", "cosine", "--steps", "500", "--prediction", "v"),
        *("--name", "mine", "--label", "plaque"),
    )
    config, prepared = model.method.config, model.preprocessing
    assert (model.method.image_channels, prepared.channels) == (4, ("PD", "FLAIR", "MPRAGE", "T2"))
    assert (prepared.plane, prepared.spacing_mm) == ("sagittal", 0.5)
    assert prepared.intensity == Intensity("window", -1000, 200)
    assert (config.mask_levels, config.unet.num_heads, config.prediction) == ((-1, 1), 2, "v")
    assert (config.schedule.kind, config.schedule.steps, model.sampling.steps) == ("cosine", 500, 500)
    assert (model.card.name, model.labels[0].name) == ("mine", "plaque")


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["full_scale", "65535"], Intensity("full_scale", high=65535.0)), (["minmax"], Intensity("minmax"))],
)
def test_intensity_rules_with_fewer_limits(checkpoint, words, expected):
    assert imported(checkpoint, "--intensity", *words).preprocessing.intensity == expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--intensity", "window", "low", "high"], "low high"),
        (["--intensity", "window", "1", "2", "3"], "at most two"),
        (["--intensity", "median"], "median"),
        (["--mask-levels", "0", "3"], "mask_levels"),
        (["--steps", "5"], "steps"),
        (["--spacing-mm", "0"], "spacing_mm"),
    ],
)
def test_bad_options_end_with_one_line_and_no_model(checkpoint, capsys, options, named):
    out = checkpoint.parent / "model"
    code = main(["import", str(checkpoint), "--kind", "cimd", "--out", str(out), "--image-size", "32", *options])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and error.startswith("error: ") and named in error
    assert not out.exists()


def test_a_model_is_not_overwritten(checkpoint, capsys):
    imported(checkpoint)
    code = main(["import", str(checkpoint), "--kind", "cimd", "--out", str(checkpoint.parent / "model")])
    assert code == 2 and "another folder" in capsys.readouterr().err


def test_missing_and_foreign_files(tmp_path, capsys):
    assert main(["import", str(tmp_path / "no.pt"), "--kind", "cimd", "--out", str(tmp_path / "m")]) == 1
    (tmp_path / "text.pt").write_text("no checkpoint", encoding="utf-8")
    assert main(["import", str(tmp_path / "text.pt"), "--kind", "cimd", "--out", str(tmp_path / "m")]) == 2
    with pytest.raises(SystemExit):
        main(["import", str(tmp_path / "text.pt"), "--kind", "segdiff", "--out", str(tmp_path / "m")])
    assert "segdiff" in capsys.readouterr().err

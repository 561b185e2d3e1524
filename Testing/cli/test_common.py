"""What the subcommands share."""

from __future__ import annotations

import io
import os
import sys

import pytest

from AmbiguousSegLib import cli
from AmbiguousSegLib.cli.common import CommandError, program, progress_bar, said_of_arguments
from AmbiguousSegLib.cli.train import parse


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("/usr/bin/ambiguousseg", "ambiguousseg"),
        ("C:/Scripts/ambiguousseg.exe", "ambiguousseg"),
        ("/site-packages/AmbiguousSegLib/__main__.py", "python -m AmbiguousSegLib"),
    ],
)
def test_usage_texts_name_the_program_as_it_was_called(monkeypatch, capsys, called, name):
    monkeypatch.setattr(sys, "argv", [called])
    assert program("train") == f"{name} train"
    assert cli.main(["--help"]) == 0
    assert f"usage: {name} SUBCOMMAND …" in capsys.readouterr().out
    for subcommand in cli.SUBCOMMANDS:
        with pytest.raises(SystemExit):
            cli.main([subcommand, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: {name} {subcommand} ")


def test_progress_without_tqdm_is_a_line_for_every_tenth(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress_bar("sampling") as advance:
        for share in (0.05, 0.1, 0.19, 0.55, 1.0):
            advance(share)
    assert capsys.readouterr().err.splitlines() == [f"sampling: {n} %" for n in (10, 50, 100)]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_stream_that_lacks_a_character_shows_another(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # has no encoding to choose
    assert cli.main([]) == 2  # its usage holds an ellipsis
    print("9 − 2 = 7", flush=True)
    assert raw.getvalue().decode(encoding).splitlines()[-1] == "9 ? 2 = 7"


def test_options_that_are_missing_are_named_as_they_are_typed():
    told = said_of_arguments(ValueError("the following arguments are required: out, optimisation.images"))
    assert told == "the following arguments are required: --out, --optimisation.images"
    assert said_of_arguments(ValueError("unknown key\n a")) == "unknown key a"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--dataset.spacing_mm", "big"], "dataset.spacing_mm must be a number or null, got big."),
        (["--dataset.size", "[a, b]"], "dataset.size must be a whole number, got a."),
        (["--dataset.size", "[1, 2, 3]"], "dataset.size must be a list of 2 values, got [1, 2, 3]."),
        (["--dataset.channels", "3"], "dataset.channels must be a list, got 3."),
        (["--dataset.intensity", "3"], "dataset.intensity must be a mapping, got 3."),
        (["--nope", "3"], "Unknown argument --nope 3; correct it, or see --help."),
        (["--resume=maybe"], "--resume takes no value, got 'maybe'; leave the value out."),
    ],
)
def test_arguments_that_are_wrong_are_told_in_words(given, told):
    with pytest.raises(CommandError) as error:
        parse(["--out", "here", *given])
    assert str(error.value) == told


def test_an_output_whose_name_is_not_utf_8_is_refused_before_anything_is_made(tmp_path, capsys):
    name = str(tmp_path / os.fsdecode(b"out_\xe9"))
    train = ["train", "--config", "phantom", "--optimisation.images", "32"]
    sample = ["sample", str(tmp_path / "scan.nrrd")]
    evaluate = ["evaluate", "--model", "phantom-cimd-64", "--data", "phantom"]
    for command in (sample, evaluate, ["plan", "--data", str(tmp_path)], train):
        assert cli.main([*command, "--out", name]) == 2
        assert "out_\\xe9: the name is not UTF-8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

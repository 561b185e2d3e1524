"""What the subcommands share."""

from __future__ import annotations

import io
import sys

import pytest

from AmbiguousSegLib import cli
from AmbiguousSegLib.cli.common import program, progress_bar, said_of_arguments


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

"""What the verbs share."""

from __future__ import annotations

import sys

import pytest

from AmbiguousSegLib.cli.common import CommandError, choose_device, progress_bar


def test_progress_without_tqdm_is_a_line_for_every_tenth(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress_bar("sampling") as advance:
        for share in (0.05, 0.1, 0.19, 0.55, 1.0):
            advance(share)
    assert capsys.readouterr().err.splitlines() == [f"sampling: {n} %" for n in (10, 50, 100)]


def test_a_device_that_is_not_there_is_named():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(CommandError, match="'abacus' cannot be used here"):
        choose_device("abacus")

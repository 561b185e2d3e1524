"""Bundled models and presets are found by name, wherever the library is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shared_data import REPOSITORY

from AmbiguousSegLib.resources import (
    DEFAULT_MODEL,
    bundled_models,
    bundled_presets,
    find_benchmark,
    find_model,
    find_preset,
)

RESOURCES = REPOSITORY / "Resources"


def test_everything_in_the_repository_is_found_by_name():
    presets = RESOURCES / "Presets"
    assert bundled_presets() == {
        path.relative_to(presets).as_posix().removesuffix(".yaml"): path for path in presets.rglob("*.yaml")
    }
    assert bundled_models() == sorted((RESOURCES / "Models").iterdir())
    assert find_model(None) == find_model(DEFAULT_MODEL) == RESOURCES / "Models" / DEFAULT_MODEL


@pytest.mark.parametrize("name", ["ablations/cimd-fc", "ablations/cimd-fc.yaml", Path("ablations") / "cimd-fc"])
def test_a_preset_in_a_folder(name):
    assert find_preset(name) == RESOURCES / "Presets" / "ablations" / "cimd-fc.yaml"


def test_what_exists_goes_before_what_is_bundled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_preset("phantom").is_relative_to(RESOURCES)
    Path("phantom").write_text("seed: 1", encoding="utf-8")
    assert find_preset("phantom") == Path("phantom")
    Path(DEFAULT_MODEL).mkdir()
    assert find_model(DEFAULT_MODEL) == Path(DEFAULT_MODEL)


def test_what_there_is_not_is_answered_with_what_there_is():
    with pytest.raises(
        FileNotFoundError, match=r"nope: neither .* a bundled model \(bundled: lung-nodule, phantom-cimd"
    ):
        find_model("nope")
    for name in ("nope", "cimd-fc", "../Presets/phantom"):
        with pytest.raises(FileNotFoundError, match=f"There is no file or preset {name}; presets: ablations/cimd-fc, "):
            find_preset(name)
    with pytest.raises(FileNotFoundError, match="Resources is a folder, expected a YAML file"):
        find_preset(str(RESOURCES))


@pytest.mark.parametrize(
    ("find", "expected"),
    [
        (find_model, "folder or bundled model"),
        (find_preset, "YAML file or preset"),
        (find_benchmark, "YAML file or bundled benchmark"),
    ],
)
@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_folder_one_is_in(find, expected, name):
    with pytest.raises(FileNotFoundError, match=f"^The name of a {expected} is empty, got '{name}'; give one.$"):
        find(name)


@pytest.mark.parametrize("place", ["AmbiguousSegLib/Resources", "Resources"])
def test_resources_inside_the_package_or_beside_it(tmp_path, place):
    """As a wheel has them, and as Slicer's folder of modules has; another folder of that name beside is no matter."""
    (tmp_path / "Resources" / "Icons").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "AmbiguousSegLib", tmp_path / "AmbiguousSegLib")
    for folder in ("Benchmarks", "Models", "Presets"):
        shutil.copytree(RESOURCES / folder, tmp_path / place / folder)
    code = (
        "from AmbiguousSegLib.resources import *\n"
        "print(find_model(None), find_preset('ablations/cimd-fc'), bundled_presets()['phantom'], sep='\\n')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    folder = tmp_path / place
    assert list(map(Path, run.stdout.splitlines())) == [
        folder / "Models" / DEFAULT_MODEL,
        folder / "Presets" / "ablations" / "cimd-fc.yaml",
        folder / "Presets" / "phantom.yaml",
    ]

"""The wheel alone, in a new environment and away from the checkout: it samples with the bundled model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shared_data import REPOSITORY

pytestmark = [pytest.mark.wheel, pytest.mark.slow]
CONSTRAINTS = REPOSITORY / "constraints.txt"


def run(*command: object, folder: Path) -> str:
    """Standard output of a command that is run in ``folder`` without the variables that lead back to the checkout."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(c) for c in command], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> tuple[Path, Path]:
    """Folder of the programs of a new environment that holds the wheel and its dependencies, and an empty folder."""
    place = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place, folder=REPOSITORY)
    (wheel,) = place.glob("*.whl")
    run(sys.executable, "-m", "venv", place / "venv", folder=place)
    programs = place / "venv" / ("Scripts" if os.name == "nt" else "bin")
    (place / "elsewhere").mkdir()
    run(programs / "python", "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, wheel, folder=place / "elsewhere")
    return programs, place / "elsewhere"


def test_the_wheel_samples_without_the_checkout(environment):
    programs, folder = environment
    code = "import AmbiguousSegLib as a; print(a.__file__); print(a.__version__)"
    origin, version = run(programs / "python", "-c", code, folder=folder).split()
    assert Path(origin).is_relative_to(programs.parent), f"{origin} is not of the new environment"
    run(programs / "ambiguousseg", "phantom", "--volume", "--out", "phantom", folder=folder)
    sampling = ("--model", "phantom-cimd-64", "--samples", "2", "--slices", "11", "12", "--steps", "2")
    run(programs / "ambiguousseg", "sample", "phantom/image.nrrd", *sampling, "--out", "results", folder=folder)
    summary = json.loads((folder / "results" / "samples.json").read_text(encoding="utf-8"))
    assert summary["software"] == f"AmbiguousSegLib {version}"
    assert summary["model"]["name"] == "phantom-cimd-64"
    assert max(summary["volume"]["samples"]) > 0  # the middle slices of this phantom hold a nodule
    assert (folder / "results" / "sample_02.seg.nrrd").stat().st_size > 0

"""Every file compiles under the oldest and the newest Python that is promised, where such an interpreter is at hand."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from shared_data import REPOSITORY


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_every_file_compiles(version, tmp_path):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"Python {version} is not at hand")
    for folder in ("AmbiguousSegLib", "AmbiguousSeg"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    run = subprocess.run([python, "-m", "compileall", "-q", tmp_path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout

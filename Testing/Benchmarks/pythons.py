"""What Slicer's own process imports of the library, under every Python at hand.

    python Testing/Benchmarks/pythons.py

For each interpreter a new environment is made with the wheels that the torch-free modules need; there all files are
compiled, those modules imported, and the tests that need nothing else run. Prints a table in Markdown.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
PACKAGES = ("numpy", "scipy", "SimpleITK", "scikit-image", "Pillow", "pytest")
MODULES = (
    *("card", "configuration", "description", "files", "labels", "quality", "registry", "resources"),
    *("data.lung_phantom", "diffusion.settings", "diffusion.schedule", "ensemble.sample_set"),
    *("evaluation.rater_comparison", "evaluation.table", "metrics.figures", "outputs.export_formats"),
    *("outputs.result_folder", "plotting.overview", "volume.io", "volume.preprocessing", "volume.segments"),
)
TESTS = (
    *("test_labels.py", "test_files.py", "test_registry.py"),
    *("volume/test_geometry.py", "volume/test_crops.py", "volume/test_label_maps.py"),
)


def run(*command: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([str(c) for c in command], cwd=REPOSITORY, env=environment, capture_output=True, text=True)


def row(version: str, folder: Path) -> str:
    """The line of the table for one Python."""
    python = shutil.which(f"python{version}")
    if python is None or run(python, "-c", "").returncode:
        return f"| {version} | not at hand | | |"
    run(python, "-m", "venv", folder)
    own = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    installed = run(own, "-m", "pip", "install", "--quiet", *PACKAGES)
    if installed.returncode:
        return f"| {version} | packages cannot be installed | | |"
    full = run(own, "-c", "import platform; print(platform.python_version())").stdout.strip()
    compiled = run(own, "-m", "compileall", "-q", "-f", "AmbiguousSegLib", "AmbiguousSeg").returncode == 0
    names = ", ".join(f"AmbiguousSegLib.{name}" for name in MODULES)
    imported = run(own, "-c", f"import {names}")
    # Testing/conftest.py needs torch, these tests do not.
    tested = run(own, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", *(f"Testing/{t}" for t in TESTS))
    last = (tested.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    told = "yes" if imported.returncode == 0 else imported.stderr.strip().splitlines()[-1]
    return f"| {full} | {'yes' if compiled else 'no'} | {told} | {last} |"


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        rows = [row(version, Path(place) / version) for version in VERSIONS]
    lines = [
        "# The torch-free part under other Pythons",
        "",
        f"Made by `python Testing/Benchmarks/pythons.py`, {date.today()}, {sys.platform}. The whole suite runs under",
        "3.11; there is no PyTorch in these environments.",
        "",
        f"| Python | all files compile | {len(MODULES)} modules are imported | tests |",
        "|---|---|---|---|",
        *rows,
    ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()

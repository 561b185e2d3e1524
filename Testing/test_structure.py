"""Who may import whom: a room imports only rooms below it, and the library knows nothing of Slicer."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from shared_data import REPOSITORY

LIBRARY = REPOSITORY / "AmbiguousSegLib"
FLOORS = [
    {"__init__", "files", "configuration", "resources", "quality", "devices"},
    {"networks", "diffusion", "metrics", "volume", "data"},
    {"methods", "ensemble", "card"},
    {"model", "evaluation"},
    {"inference", "plotting", "published"},
    {"outputs", "training"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(LIBRARY.rglob("*.py"))
TORCH_FREE = [  # what Slicer's own process may import: importing torch would block it for seconds
    *("card", "configuration", "files", "quality", "resources"),
    *("data.lung_phantom", "ensemble.sample_set", "evaluation.table", "outputs.export_formats"),
    *("volume.dicom_seg", "volume.geometry", "volume.io"),
]


def room_of(path):
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imports(path):
    """Every module imported anywhere in the file, with its dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == "AmbiguousSegLib":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_a_room_imports_only_rooms_below_it(path):
    own = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "AmbiguousSegLib" or len(parts) == 1:
            continue
        other = parts[1] if parts[1] in FLOOR else "__init__"
        assert other == own or FLOOR[other] < FLOOR[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_the_library_knows_nothing_of_slicer(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"slicer", "vtk", "vtkmodules", "qt", "ctk", "PySide6", "AmbiguousSegBridge"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_only_the_command_line_prints(path):
    if room_of(path) == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        assert not isinstance(node, ast.Assert), f"{path}: assert on line {node.lineno}"


def test_what_slicers_process_imports_is_free_of_torch():
    names = [f"AmbiguousSegLib.{name}" for name in TORCH_FREE]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(name + ' imports torch')\n"
        "import torch; print('torch' in sys.modules)"  # it is there to be imported
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "True"

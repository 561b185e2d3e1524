"""Who may import whom: a room imports only rooms below it, and the library knows nothing of Slicer."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from functools import cache
from typing import Protocol

import pytest
from shared_data import REPOSITORY

LIBRARY = REPOSITORY / "AmbiguousSegLib"
FLOORS = [
    {"registry", "labels", "label_maps", "boxes", "configuration", "files", "resources", "processes", "locks"}
    | {"hardware"},
    {"text_files", "networks", "diffusion", "metrics", "volume", "devices", "device_faults"},
    {"data", "methods", "ensemble", "calibration", "quality"},
    {"description", "evaluation", "layouts"},
    {"model", "model_store", "card"},
    {"inference", "plotting", "published"},
    {"outputs", "training"},
    {"benchmarking", "studies"},
    {"cli"},
    {"__main__", "__init__"},  # the public interface names what it offers, and imports it when it is asked for
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(LIBRARY.rglob("*.py"))
TORCH_FREE = [  # what Slicer's own process may import: importing torch would block it for seconds
    *("card", "configuration", "description", "device_faults", "files", "hardware", "labels", "locks"),
    *("quality", "resources", "text_files"),
    *("calibration.figures", "data.lung_phantom", "ensemble.refinement", "ensemble.sample_set"),
    *("evaluation.rater_comparison", "evaluation.rater_tables", "evaluation.review"),
    *("evaluation.table", "metrics.figures", "outputs.export_formats", "outputs.result_folder"),
    *("volume.dicom_seg", "volume.geometry", "volume.input_check", "volume.io", "volume.preprocessing"),
    *("volume.scan_kind", "inference.point_sampling", "model_store.store"),
]
MOST_LINES = 300


def room_of(path):
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """Every module imported anywhere in the file, with its dots."""
    for node in ast.walk(parsed(path)):
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
        if parts[1] not in FLOOR:  # __version__, of the package itself
            assert parts[1] == "__version__", f"{own} imports {name}"
            continue
        other = parts[1]
        assert other == own or FLOOR[other] < FLOOR[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_the_library_knows_nothing_of_slicer(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"slicer", "vtk", "vtkmodules", "qt", "ctk", "PySide6", "AmbiguousSegBridge"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_only_the_command_line_prints(path):
    if room_of(path) == "cli":
        return
    for node in ast.walk(parsed(path)):
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        assert not isinstance(node, ast.Assert), f"{path}: assert on line {node.lineno}"


def test_what_slicers_process_imports_is_free_of_torch():
    names = [f"AmbiguousSegLib.{name}" for name in TORCH_FREE]
    code = (
        "import importlib.util, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(name + ' imports torch')\n"
        "print(importlib.util.find_spec('torch') is not None)"  # it is there to be imported
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "True"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_a_file_reads_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def described(label, member):
    """Whether it has a docstring of its own or of what it overrides; a dataclass gets its signature as one."""
    text = inspect.getdoc(member)
    return bool(text) and not text.startswith(f"{label}(")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_what_is_public_says_what_it_does(path):
    """Modules, classes, functions and methods; a method may leave it to the class it overrides."""
    if path.stem in ("__main__", "__init__"):
        return
    name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    module = importlib.import_module(name)
    silent = [] if inspect.getdoc(module) else [name]
    for key, value in vars(module).items():
        if key.startswith("_") or getattr(value, "__module__", None) != name or not callable(value):
            continue
        members = [(key, value)]
        if inspect.isclass(value):
            own = {k: getattr(value, k) for k in vars(value) if not k.startswith("_")}
            members += [(f"{key}.{k}", v) for k, v in own.items() if inspect.isroutine(v) or isinstance(v, property)]
        if not (inspect.isclass(value) and issubclass(value, Protocol)):
            silent += [f"{name}.{label}" for label, member in members if not described(label, member)]
    assert silent == []

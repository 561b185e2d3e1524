"""Who knows whom in the module: panels, controller, actions; how often the scene is looked through; what users read."""

from __future__ import annotations

import ast
import string
import sys
import traceback
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.scene.live_run import LiveRun
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, add_volume
from AmbiguousSegBridge.worker import packages
from module_driver import FakeRunner
from shared_data import REPOSITORY
from SlicerHost.samples import PLAIN

from AmbiguousSegLib.ensemble.sample_set import SampleSet

MODULE = REPOSITORY / "AmbiguousSeg"
BRIDGE = MODULE / "AmbiguousSegBridge"
SHARED = {"snapshot", "widgets", "disagreement_bar", "review_keys", "review_words"}  # parts of panels, none itself
PANELS = sorted(path for path in (BRIDGE / "panels").glob("*.py") if path.stem not in SHARED | {"__init__"})
ACTORS = [*sorted((BRIDGE / "actions").glob("*.py")), *(BRIDGE / f"{name}.py" for name in ("context", "controller"))]
MOST_LINES, MOST_HOPS = 300, 9
SHOWN = {"text", "toolTip", "windowTitle"}  # attributes and arguments that users read
TOLD = {"ValueError", "tell", "_say", "_end", "show_button", "show_note", "errorDisplay", "confirmOkCancelDisplay"}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", [*PANELS, *ACTORS], ids=lambda path: path.stem)
def test_no_panel_is_known_to_another_or_to_what_acts_for_it(path):
    others = {f"AmbiguousSegBridge.panels.{panel.stem}" for panel in PANELS if panel != path}
    assert not imported(path) & others


@pytest.mark.parametrize("path", PANELS, ids=lambda path: path.stem)
def test_a_panel_touches_the_widgets_of_its_own_section_alone(path, driver):
    section = next(
        name for name, panel in sys.modules["AmbiguousSeg"].SECTIONS.items() if path.stem in panel.__module__
    )
    root = ElementTree.parse(MODULE / "Resources" / "UI" / f"{section}.ui").getroot()
    own = {widget.get("name") for widget in root.iter("widget")}
    touched = {
        node.attr
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("ui", "self.ui")
    }
    assert touched and touched <= own
    (panel,) = [panel for panel in driver.widget.panels if type(panel).__module__.endswith(f".{path.stem}")]
    assert set(vars(panel.ui)) & set(vars(driver.ui)) >= touched
    assert not {name for name in vars(panel.ui) if "Section" in name} - own - {f"{path.stem}SectionLayout"}


@pytest.mark.parametrize("path", ACTORS, ids=lambda path: path.stem)
def test_what_acts_knows_no_widget(path):
    assert not [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute) and node.attr == "ui"]


@pytest.mark.parametrize("path", [*PANELS, *ACTORS, MODULE / "AmbiguousSeg.py"], ids=lambda path: path.stem)
def test_a_file_reads_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def glued(node: ast.AST) -> bool:
    """Whether a text is put together of parts, or stands there untranslated."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and any(letter.isalpha() for letter in node.value)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add))


def is_translation(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_"


@pytest.mark.parametrize("path", [*PANELS, *ACTORS], ids=lambda path: path.stem)
def test_what_users_read_is_whole_and_can_be_translated(path):
    for node in ast.walk(parsed(path)):
        shown = []
        if is_translation(node):
            (text,) = node.args
            if isinstance(text, ast.Constant):
                names = [name for _, name, _, _ in string.Formatter().parse(text.value) if name is not None]
                assert all(name.isidentifier() for name in names), f"{path.stem}: {text.value!r} names no placeholders"
            else:  # looked up where it is written, never made here
                assert not glued(text), f"{path.stem}:{node.lineno}"
        elif isinstance(node, ast.BinOp | ast.JoinedStr | ast.AugAssign):
            parts = [part for part in ast.walk(node) if is_translation(part)]
            assert not parts or (isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Add)), (
                f"{path.stem}:{node.lineno} glues what is translated"
            )
        elif isinstance(node, ast.Assign):
            targets = [part for target in node.targets for part in getattr(target, "elts", [target])]
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] * len(targets)
            shown = [v for t, v in zip(targets, values) if isinstance(t, ast.Attribute) and t.attr in SHOWN]
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            shown = [*node.args] if name in TOLD else []
            shown += [keyword.value for keyword in node.keywords if keyword.arg in SHOWN]
        assert not any(map(glued, shown)), f"{path.stem}:{node.lineno} shows a text that cannot be translated"


@pytest.fixture
def five_runs(driver, monkeypatch):
    """Five runs of 16 samples, of volumes of their own."""
    monkeypatch.setattr(packages, "torch_missing", lambda: True)
    for number in range(5):
        volume = add_volume(slicer.mrmlScene, np.zeros(PLAIN.shape, np.int16), PLAIN, f"scan {number}")
        masks = np.zeros((16, *PLAIN.shape), bool)
        masks[:, 1:3, 2:5, 2:5] = True
        add_sample_set(slicer.mrmlScene, SampleSet(masks, PLAIN), f"run {number}", volume)
    driver.settle()
    return driver


def test_a_refresh_looks_the_runs_up_once(five_runs, monkeypatch):
    asked = []
    for name, module in list(sys.modules.items()):
        for found in ("find_runs", "find_run_of") if name.startswith("AmbiguousSeg") and module else ():
            if hasattr(module, found):
                real = getattr(module, found)
                monkeypatch.setattr(module, found, lambda *of, real=real, f=found: (asked.append(f), real(*of))[1])
    five_runs.widget.refresh()
    assert asked == ["find_runs"] and five_runs.ui.runSelector.count == 5


def hops() -> list[str]:
    """Calls of the module's own code that are under way: name and file."""
    return [f"{f.name} {Path(f.filename).name}" for f in traceback.extract_stack() if str(MODULE) in f.filename]


def test_few_hops_from_the_press_to_the_job_and_from_the_sample_to_the_scene(driver, monkeypatch):
    ways, runner = {}, FakeRunner()
    start, add, real = runner.start, LiveRun.add, driver.widget.context.runner
    driver.load_sample_data()
    monkeypatch.setattr(
        runner, "start", lambda job, listener: (ways.setdefault(job.kind, hops()), start(job, listener))[1]
    )
    driver.widget.context.runner = runner
    driver.start(1, limitSlices=True, firstSlice=10, lastSlice=10)
    list(runner.last("sample")[2].cancelled())
    driver.widget.context.runner = real
    monkeypatch.setattr(LiveRun, "add", lambda *of: (ways.setdefault("back", [*hops(), "add"]), add(*of))[1])
    driver.generate(1, firstSlice=10, lastSlice=10)
    assert 1 <= len(ways["sample"]) <= MOST_HOPS, ways["sample"]
    assert 1 <= len(ways["back"]) <= MOST_HOPS, ways["back"]

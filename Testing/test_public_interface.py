"""What the package offers under its own name, and that importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from shared_data import REPOSITORY

import AmbiguousSegLib as ambiguous
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.metrics import figures


@pytest.mark.parametrize("name", ambiguous.__all__)
def test_every_public_name_is_there_and_documented(name):
    found = getattr(ambiguous, name)
    assert found.__name__ == name and found.__doc__
    assert found.__module__.startswith("AmbiguousSegLib.")
    assert name in dir(ambiguous)


def test_public_names_are_the_librarys_own():
    assert ambiguous.Label is Label and ambiguous.compare is figures.compare


def test_what_static_checkers_see_is_what_is_offered():
    text = (REPOSITORY / "AmbiguousSegLib" / "__init__.py").read_text(encoding="utf-8")
    for name in ambiguous.__all__:
        home = ambiguous._HOMES[name]
        line = next(line for line in text.splitlines() if line.startswith(f"    from AmbiguousSegLib.{home} import"))
        assert name in line.split(" import ")[1].split(", ")
    assert set(ambiguous._HOMES) == set(ambiguous.__all__)


def test_another_name_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="module 'AmbiguousSegLib' has no attribute 'load_modle'"):
        ambiguous.load_modle  # noqa: B018


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys; before = set(sys.modules)\n"
        "import AmbiguousSegLib as ambiguous; ambiguous.__version__, dir(ambiguous)\n"
        "print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] in "
        "('torch', 'numpy', 'scipy', 'SimpleITK', 'AmbiguousSegLib')))\n"
        "ambiguous.Label, ambiguous.SampleSet, ambiguous.compare, ambiguous.read_volume\n"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert run.stdout.splitlines() == ["['AmbiguousSegLib']", "False"]

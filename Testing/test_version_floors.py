"""What is needed, and from which version on, is written down once; where it has to be said again, it is the same."""

from __future__ import annotations

import re

from packaging.requirements import Requirement
from shared_data import REPOSITORY

MODULE = REPOSITORY / "AmbiguousSeg"


def floors(text: str) -> dict[str, str]:
    """Versions by name of all requirements that stand in quotes in a text."""
    found = [Requirement(quoted) for quoted in re.findall(r"""["']([A-Za-z][\w-]*>=[\d.]+)["']""", text)]
    return {requirement.name: str(requirement.specifier) for requirement in found}


def text_of(*parts: str) -> str:
    return REPOSITORY.joinpath(*parts).read_text(encoding="utf-8")


def test_the_module_asks_for_the_versions_of_the_library():
    wanted = floors(text_of("pyproject.toml"))
    lines = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    said = {requirement.name: str(requirement.specifier) for requirement in listed}
    said |= floors(text_of("AmbiguousSeg", "AmbiguousSegBridge", "worker", "packages.py"))
    assert set(said) == {"scikit-image", "safetensors", "torch"}
    assert said == {name: wanted[name] for name in said}
    assert floors(text_of("AmbiguousSeg", "Scripts", "batch.py")) == {"torch": wanted["torch"]}


def test_messages_name_the_versions_that_are_needed():
    wanted = floors(text_of("pyproject.toml"))
    (said,) = re.findall(r"needs highdicom ([\d.]+) or later", text_of("AmbiguousSegLib", "volume", "dicom_seg.py"))
    assert wanted["highdicom"] == f">={said}"

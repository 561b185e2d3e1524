"""What CMake installs is what lies in the tree: a file forgotten in a list would be missing in Slicer without a word.

``python Testing/test_cmake_lists.py`` writes the lists anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MODULE, LIBRARY, RESOURCES = (REPOSITORY / name for name in ("AmbiguousSeg", "AmbiguousSegLib", "Resources"))
# List -> its CMakeLists.txt, the folder its paths are relative to, and the files it is to name.
LISTS = {
    "MODULE_PYTHON_SCRIPTS": (MODULE, MODULE, lambda: files(MODULE, "*.py")),
    "MODULE_PYTHON_RESOURCES": (MODULE, MODULE, lambda: files(MODULE / "Resources", "*")),
    "LIBRARY_PYTHON_SCRIPTS": (LIBRARY, REPOSITORY, lambda: files(LIBRARY, "*.py")),
    "LIBRARY_PYTHON_RESOURCES": (
        LIBRARY,
        REPOSITORY,
        lambda: [path for part in ("Models", "Presets") for path in files(RESOURCES / part, "*")],
    ),
}


def files(folder: Path, pattern: str) -> list[Path]:
    """Files below ``folder``, alphabetically, without hidden ones and Python's cache."""
    found = [path for path in folder.rglob(pattern) if path.is_file()]
    return sorted(p for p in found if not any(part[0] == "." or part == "__pycache__" for part in p.parts))


def expected(name: str) -> list[str]:
    _, base, find = LISTS[name]
    return [path.relative_to(base).as_posix() for path in find()]


def pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(set\({name}\n)(.*?)(  \))", re.DOTALL)


@pytest.mark.parametrize("name", LISTS)
def test_list_names_what_is_there(name):
    text = (LISTS[name][0] / "CMakeLists.txt").read_text(encoding="utf-8")
    assert pattern(name).search(text)[2].split() == expected(name), "run: python Testing/test_cmake_lists.py"


def test_a_path_without_spaces_and_semicolons_is_one_word_to_cmake():
    for name in LISTS:
        assert not [path for path in expected(name) if re.search(r"[\s;\"$#()]", path)]


def test_names_at_the_top_of_slicers_module_folder_are_few_and_ours():
    """All extensions of a custom Slicer share one folder; what is not named after us is Resources and Scripts."""
    tops = {path.split("/")[0] for name in LISTS for path in expected(name)}
    assert tops - {"AmbiguousSeg.py", "AmbiguousSegBridge", "AmbiguousSegLib"} <= {"Resources", "Scripts"}


def write_lists() -> None:
    for name, (folder, _, _) in LISTS.items():
        path = folder / "CMakeLists.txt"
        lines = "".join(f"  {entry}\n" for entry in expected(name))
        text = path.read_text(encoding="utf-8")
        path.write_text(pattern(name).sub(lambda found: found[1] + lines + found[3], text), encoding="utf-8")


if __name__ == "__main__":
    write_lists()

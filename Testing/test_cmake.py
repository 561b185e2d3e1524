"""What CMake installs is what lies in the tree: a file forgotten would be missing in Slicer without a word."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from shared_data import REPOSITORY

MODULE, LIBRARY, RESOURCES = (REPOSITORY / name for name in ("AmbiguousSeg", "AmbiguousSegLib", "Resources"))
# The top level as Slicer configures it, with Slicer's macros replaced by what writes down their arguments.
PROJECT = """
cmake_minimum_required(VERSION 3.16.3)
project(AmbiguousSeg NONE)
set(AmbiguousSeg_SOURCE_DIR "@SOURCE@")
function(note file)
  string(REPLACE ";" "\\n" lines "${ARGN}")
  file(WRITE "${CMAKE_BINARY_DIR}/${file}" "${lines}")
endfunction()
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(A "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  note(module_scripts ${A_SCRIPTS})
  note(module_resources ${A_RESOURCES})
endfunction()
function(ctkMacroCompilePythonScript)
  cmake_parse_arguments(A "NO_INSTALL_SUBDIR" "TARGET_NAME;SOURCE_DIR;DESTINATION_DIR;INSTALL_DIR" "SCRIPTS;RESOURCES"
    ${ARGN})
  note(library_scripts ${A_SCRIPTS})
  note(library_resources ${A_RESOURCES})
endfunction()
add_subdirectory("@SOURCE@/AmbiguousSegLib" library)
add_subdirectory("@SOURCE@/AmbiguousSeg" module)
"""


def files(base: Path, *patterns: str) -> list[str]:
    """Files below ``base``, without hidden ones and Python's cache."""
    found = [path.relative_to(base) for pattern in patterns for path in base.glob(pattern) if path.is_file()]
    return sorted(p.as_posix() for p in found if not any(part[0] == "." or part == "__pycache__" for part in p.parts))


EXPECTED = {
    "module_scripts": files(MODULE, "**/*.py"),
    "module_resources": files(MODULE, "Resources/**/*"),
    "library_scripts": files(REPOSITORY, "AmbiguousSegLib/**/*.py"),
    "library_resources": files(
        REPOSITORY, "Resources/Benchmarks/**/*", "Resources/Models/**/*", "Resources/Presets/**/*"
    ),
}


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Path:
    """Build folder of the extension as CMake configures it."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("CMake is not on the path")
    source, build = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("build")
    (source / "CMakeLists.txt").write_text(PROJECT.replace("@SOURCE@", REPOSITORY.as_posix()), encoding="utf-8")
    run = subprocess.run(
        [cmake, "-S", source, "-B", build], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr
    return build


@pytest.mark.parametrize("name", EXPECTED)
def test_what_lies_in_the_tree_is_installed(build, name):
    assert sorted((build / name).read_text(encoding="utf-8").splitlines()) == EXPECTED[name]


def test_a_path_without_spaces_and_semicolons_is_one_word_to_cmake():
    assert not [path for paths in EXPECTED.values() for path in paths if re.search(r"[\s;\"$#()]", path)]


def test_names_at_the_top_of_slicers_module_folder_are_few_and_ours():
    """All extensions of a custom Slicer share one folder; what is not named after us is Resources and Scripts."""
    tops = {path.split("/")[0] for paths in EXPECTED.values() for path in paths}
    assert tops - {"AmbiguousSeg.py", "AmbiguousSegBridge", "AmbiguousSegLib"} <= {"Resources", "Scripts"}

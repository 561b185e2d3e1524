"""The repository's address stands in one line, and what the Extensions Index asks of the extension is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import SimpleITK as sitk
from repository_address import COPIES, address, brought_up_to_date
from shared_data import REPOSITORY

import AmbiguousSegLib

HERE = {"AmbiguousSegLib/__init__.py", *COPIES}


def tracked() -> list[str]:
    git = shutil.which("git")
    done = git and subprocess.run([git, "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8")
    if not done or done.returncode:
        pytest.skip("this is no checkout of git")
    return done.stdout.splitlines()


def test_the_copies_hold_the_address_of_the_library():
    assert address() == AmbiguousSegLib.REPOSITORY
    for path, text in brought_up_to_date().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} holds another address: make address"
        assert text.count(address()) == (3 if path.name == "pyproject.toml" else 1)


def test_it_stands_nowhere_else():
    owner_and_name = address().split("://")[1].split("/", 1)[1].encode()
    elsewhere = [
        name
        for name in tracked()
        if name not in HERE and (path := REPOSITORY / name).is_file() and owner_and_name in path.read_bytes()
    ]
    assert elsewhere == []


def test_one_line_is_enough_to_move_it(tmp_path):
    (tmp_path / "AmbiguousSegLib").mkdir()
    for name in HERE:
        shutil.copy(REPOSITORY / name, tmp_path / name)
    init, moved = tmp_path / "AmbiguousSegLib" / "__init__.py", "https://gitlab.example.org/clinic/plausible"
    init.write_text(init.read_text(encoding="utf-8").replace(address(), moved), encoding="utf-8")
    for path, text in brought_up_to_date(tmp_path).items():
        assert address() not in text and moved in text
        path.write_text(text, encoding="utf-8")
    assert json.loads((tmp_path / "AmbiguousSeg.json").read_text(encoding="utf-8"))["scm_url"] == f"{moved}.git"
    assert f"{moved}/blob/main/CHANGELOG.md" in (tmp_path / "pyproject.toml").read_text(encoding="utf-8")


def extension() -> dict[str, str]:
    """The variables of the extension, with references to others filled in."""
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    values: dict[str, str] = {}
    for name, value in re.findall(r'^set\((EXTENSION_\w+) "(.*)"\)$', text, re.MULTILINE):
        values[name] = re.sub(r"\$\{(\w+)\}", lambda m: values[m[1]], value)
    return values


def test_the_extension_says_what_the_index_asks_for():
    said = extension()
    assert set(said) == {
        f"EXTENSION_{key}"
        for key in ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS")
    }
    assert said["EXTENSION_CONTRIBUTORS"] == "AmbiguousSeg contributors"
    catalog = json.loads((REPOSITORY / "AmbiguousSeg.json").read_text(encoding="utf-8"))
    assert catalog["build_dependencies"] == said["EXTENSION_DEPENDS"].split()
    assert catalog["category"] == said["EXTENSION_CATEGORY"]
    module = (REPOSITORY / "AmbiguousSeg" / "AmbiguousSeg.py").read_text(encoding="utf-8")
    assert 'contributors = ["AmbiguousSeg contributors"]' in module
    assert (REPOSITORY / "LICENSE").is_file()


def test_icon_and_screenshots_are_pictures_of_the_repository():
    said, start = extension(), f"{address()}/raw/main/"
    urls = [said["EXTENSION_ICONURL"], *said["EXTENSION_SCREENSHOTURLS"].split()]
    assert len(urls) >= 2 and all(url.startswith(start) for url in urls)
    sizes = [sitk.ReadImage(str(REPOSITORY / url.removeprefix(start))).GetSize() for url in urls]
    assert sizes[0][0] == sizes[0][1] >= 128 and all(width >= 600 for width, _ in sizes[1:])

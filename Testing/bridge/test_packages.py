"""What is missing is found without importing it, installed only with consent, and explained when it is not there."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.worker import packages, python  # noqa: E402
from AmbiguousSegBridge.worker.packages import PackagesError, ensure, missing, torch_missing  # noqa: E402
from packaging.requirements import Requirement  # noqa: E402

TOY = "toypackage>=1.2"


class Environment:
    """A folder that stands for Slicer's site-packages, and a record of what was asked and installed."""

    def __init__(self, site):
        self.site, self.calls = site, []
        self.requirements = site / "requirements.txt"
        self.requirements.write_text(TOY + "\n", encoding="utf-8")

    def install(self, name, version):
        metadata = self.site / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (self.site / name).mkdir()
        (self.site / name / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")

    def version(self, name):
        for distribution in importlib.metadata.distributions(name=name, path=[str(self.site)]):
            return distribution.version
        raise importlib.metadata.PackageNotFoundError(name)

    def find_spec(self, name):
        importlib.invalidate_caches()
        return importlib.machinery.PathFinder.find_spec(name, [str(self.site)])


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Neither packages nor extension; a Slicer with a window, whose Linux hides what machine the tests run on."""
    environment = Environment(tmp_path)
    monkeypatch.setattr(importlib.metadata, "version", environment.version)
    monkeypatch.setattr(importlib.util, "find_spec", environment.find_spec)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(packages, "slicer_python", lambda: "/opt/Slicer with space/PythonSlicer")
    monkeypatch.setattr(slicer, "app", SimpleNamespace(testingEnabled=lambda: False), raising=False)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    return environment


@pytest.fixture
def slicer_512(environment, monkeypatch):
    """``slicer.packaging``, as far as used: asks, installs the requirements given, or raises as Slicer's does."""

    def pip_ensure(requirements, prompt_install=True, prompt_restart=True, requester=None):
        assert not prompt_restart  # only the worker loads them
        environment.calls.append((requirements, requester, prompt_install))
        if stand_in.answer == "decline":
            raise RuntimeError("User declined package installation")
        if stand_in.answer == "fail":
            raise subprocess.CalledProcessError(1, "pip install")
        if stand_in.answer == "install":
            for requirement in map(Requirement, requirements):
                environment.install(requirement.name, "1.5")

    stand_in = ModuleType("slicer.packaging")
    stand_in.pip_ensure, stand_in.answer = pip_ensure, "install"
    monkeypatch.setitem(sys.modules, "slicer.packaging", stand_in)
    monkeypatch.setattr(slicer, "packaging", stand_in, raising=False)
    return stand_in


@pytest.fixture
def slicer_510(environment, monkeypatch):
    """No ``slicer.packaging``; a question and pip instead."""
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    stand_in = SimpleNamespace(agrees=True)

    def confirm(text, windowTitle=None, parent=None, **_more):
        environment.calls.append(text)
        return stand_in.agrees

    def pip_install(requirements):
        environment.calls.append(requirements)
        for requirement in map(Requirement, requirements):
            environment.install(requirement.name, "1.2")

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", confirm)
    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    return stand_in


@pytest.fixture
def pytorch_extension(environment, monkeypatch):
    """The module PyTorchUtils: its logic takes what the extension's takes."""

    class Logic:
        broken = False
        outcome = "install"

        @staticmethod
        def torchInstalled():
            if Logic.broken:
                raise TypeError("'NoneType' object is not iterable")
            return False

        def installTorch(
            self,
            askConfirmation=False,
            forceComputationBackend=None,
            torchVersionRequirement=None,
            torchvisionVersionRequirement=None,
        ):
            environment.calls.append((askConfirmation, forceComputationBackend, torchVersionRequirement))
            if Logic.outcome == "decline":
                return None
            if Logic.outcome == "fail":
                raise OSError("[Errno 28] No space left on device")
            if Logic.outcome == "install":
                environment.install("torch", "2.8.0+cu128")
            return object()

    monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=Logic))
    return Logic


def failure(environment, interactive=True) -> PackagesError:
    with pytest.raises(PackagesError) as caught:
        ensure(interactive, environment.requirements)
    assert str(caught.value) == f"{caught.value.message} {caught.value.remedy}"
    return caught.value


@pytest.mark.parametrize(
    ("installed", "expected"),
    [(None, [TOY]), ("1.1", [TOY]), ("1.2", []), ("1.10", []), ("1.3.dev4+local", [])],
)
def test_missing_compares_versions_as_pip_does(environment, installed, expected):
    if installed:
        environment.install("toypackage", installed)
    assert missing(environment.requirements) == expected


def test_comments_blank_lines_and_requirements_of_other_systems_are_passed_over(environment):
    text = f"# nothing\n\nother; sys_platform == 'not-{sys.platform}'\n{TOY}  # needed\n"
    environment.requirements.write_text(text, encoding="utf-8")
    assert missing(environment.requirements) == [TOY]


def test_a_line_that_is_no_requirement_is_an_error(environment):
    environment.requirements.write_text("--index-url https://example.org\n", encoding="utf-8")
    with pytest.raises(ValueError, match="index-url"):
        missing(environment.requirements)


def test_the_modules_own_requirements_name_no_torch():
    names = [requirement.name for requirement in packages._read(packages.REQUIREMENTS_FILE)]
    assert names == ["scikit-image", "safetensors"]


def test_torch_is_there_missing_or_left_in_pieces(environment):
    assert torch_missing()
    (environment.site / "torch" / "lib").mkdir(parents=True)  # what an uninstallation on Windows leaves behind
    assert torch_missing()
    (environment.site / "torch" / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    assert not torch_missing()


def test_nothing_happens_where_everything_is_there(environment, slicer_512, pytorch_extension):
    environment.install("toypackage", "1.2")
    environment.install("torch", "2.6.0")
    ensure(True, environment.requirements)
    ensure(False, environment.requirements)
    assert environment.calls == []


def test_everything_is_installed_once_in_slicer_512(environment, slicer_512, pytorch_extension):
    ensure(True, environment.requirements)
    assert environment.calls == [([TOY], "AmbiguousSeg", True), (True, None, ">=2.6")]
    ensure(True, environment.requirements)
    assert len(environment.calls) == 2


def test_slicer_510_asks_and_then_installs(environment, slicer_510, pytorch_extension):
    ensure(True, environment.requirements)
    question, installed, torch = environment.calls
    assert TOY in question and installed == [TOY] and torch == (True, None, ">=2.6")


@pytest.mark.parametrize("version", ["5.10", "5.12"])
def test_who_declines_gets_nothing_installed(environment, request, version, pytorch_extension):
    if version == "5.10":
        request.getfixturevalue("slicer_510").agrees = False
    else:
        request.getfixturevalue("slicer_512").answer = "decline"
    error = failure(environment)
    assert error.message == f"Nothing was installed: {TOY} is needed."
    assert len(environment.calls) == 1, "PyTorch was asked for after a refusal"
    assert missing(environment.requirements) == [TOY]


def test_who_declines_pytorch_is_told_that_it_is_needed(environment, slicer_512, pytorch_extension):
    pytorch_extension.outcome = "decline"
    assert failure(environment).message == "Nothing was installed: PyTorch is needed."


def test_a_failed_installation_names_the_exit_code_and_the_command(environment, slicer_512, pytorch_extension):
    slicer_512.answer = "fail"
    error = failure(environment)
    assert error.message == f"{TOY} could not be installed (exit code 1); Slicer's log says more."
    assert error.remedy.endswith(f"'/opt/Slicer with space/PythonSlicer' -m pip install '{TOY}'")


def test_an_installation_without_effect_is_noticed(environment, slicer_512, pytorch_extension):
    slicer_512.answer = "nothing"
    assert failure(environment).message == f"Still missing after the installation: {TOY}."
    slicer_512.answer, pytorch_extension.outcome = "install", "nothing"
    assert failure(environment).message == "PyTorch is still missing after its installation."


def test_without_the_extension_its_name_and_place_are_told(environment, slicer_512):
    error = failure(environment)
    assert '"PyTorch"' in error.remedy and "Extensions Manager" in error.remedy


def test_a_half_installed_torch_is_explained(environment, slicer_512, pytorch_extension):
    pytorch_extension.broken = True
    error = failure(environment)
    assert error.message.startswith("PyTorch could not be installed ('NoneType'")
    assert "uninstall" in error.remedy and "PyTorch Utils" in error.remedy


def test_a_full_disk_is_explained(environment, slicer_512, pytorch_extension):
    pytorch_extension.outcome = "fail"
    assert "No space left on device" in failure(environment).message


@pytest.mark.parametrize("interactive", [True, False])
def test_an_old_torch_is_not_used(environment, slicer_512, pytorch_extension, interactive):
    environment.install("toypackage", "1.2")
    environment.install("torch", "2.5.1+cu121")
    error = failure(environment, interactive)
    assert error.message == "PyTorch 2.5.1+cu121 is installed; torch>=2.6 is needed."
    assert "uninstall" in error.remedy and environment.calls == []


def test_a_torch_without_its_metadata_is_half_installed(environment, slicer_512, pytorch_extension):
    (environment.site / "torch").mkdir()
    (environment.site / "torch" / "__init__.py").write_text("", encoding="utf-8")
    assert failure(environment).message == "PyTorch is half installed; torch>=2.6 is needed."


@pytest.mark.parametrize("why", ["not interactive", "testing mode", "no application"])
def test_without_anybody_to_ask_nothing_is_asked_or_installed(
    environment, slicer_512, pytorch_extension, monkeypatch, why
):
    if why == "testing mode":
        monkeypatch.setattr(slicer, "app", SimpleNamespace(testingEnabled=lambda: True))
    if why == "no application":
        monkeypatch.delattr(slicer, "app")
    error = failure(environment, interactive=why != "not interactive")
    assert environment.calls == []
    assert error.message.startswith(f"Not installed: {TOY}, torch>=2.6.")
    python = "'/opt/Slicer with space/PythonSlicer'"
    assert f"Run: {python} -m pip install '{TOY}'." in error.remedy
    assert error.remedy.endswith(f"{python} -m light_the_torch install 'torch>=2.6'")


def test_commands_name_this_python_where_there_is_no_pythonslicer(environment, monkeypatch):
    monkeypatch.setattr(packages, "slicer_python", lambda: None)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert f"Run: /usr/bin/python3 -m pip install '{TOY}'" in failure(environment, interactive=False).remedy


@pytest.mark.parametrize(
    ("translated", "message", "remedy"),
    [
        ("1\n", "build for Intel processors", "Install the Apple-silicon build of Slicer"),
        ("0\n", "This Mac has an Intel processor", "another computer"),
        ("", "This Mac has an Intel processor", "another computer"),  # older systems do not know the question
    ],
)
def test_intel_slicer_on_a_mac_is_told_what_it_needs(environment, monkeypatch, translated, message, remedy):
    environment.install("toypackage", "1.2")
    environment.install("torch", "2.6.0")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_kwargs: SimpleNamespace(stdout=translated))
    error = failure(environment)
    assert message in error.message and remedy in error.remedy and "Apple-silicon build of Slicer" in str(error)


def test_a_mac_with_apple_silicon_is_like_any_other_computer(environment, monkeypatch):
    environment.install("toypackage", "1.2")
    environment.install("torch", "2.6.0")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    ensure(False, environment.requirements)


@pytest.mark.parametrize("file", ["PythonSlicer", "PythonSlicer.exe"])
def test_pythonslicer_of_slicers_own_folder_comes_before_the_path(tmp_path, monkeypatch, file):
    monkeypatch.setattr(slicer, "app", SimpleNamespace(slicerHome=str(tmp_path)), raising=False)
    monkeypatch.setattr(python.shutil, "which", lambda _name: "/elsewhere/PythonSlicer")
    assert python.find_python() == Path("/elsewhere/PythonSlicer")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / file).write_text("", encoding="utf-8")
    assert python.find_python() == tmp_path / "bin" / file

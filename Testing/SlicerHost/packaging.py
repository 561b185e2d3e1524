"""Stand-in for ``slicer.packaging`` and ``PyTorchUtils``: what would be installed is recorded, nothing ever is.

Tests say what is there by ``installed`` and ``torch_state``, and read ``asked``.
"""

from __future__ import annotations

import slicer
from packaging.requirements import Requirement

from SlicerHost import errors

installed: set[str] = set()  # names of distributions that count as there, whatever the version
asked: list[tuple[str, list[str]]] = []  # (function, requirements)
torch_state: dict = {"installed": True, "error": None}


def reset() -> None:
    """Nothing is asked, torch is there, no other distribution is."""
    installed.clear()
    asked.clear()
    torch_state.update(installed=True, error=None)


def _to_requirements(requirements) -> list[Requirement]:
    if isinstance(requirements, Requirement):
        return [requirements]
    if isinstance(requirements, str):
        try:
            return [Requirement(requirements)]
        except ValueError:
            return [Requirement(part) for part in requirements.split()]
    return [found for part in requirements for found in _to_requirements(part)]


def _missing(requirements) -> list[Requirement]:
    needed = [r for r in _to_requirements(requirements) if r.marker is None or r.marker.evaluate()]
    return [requirement for requirement in needed if requirement.name not in installed]


def pip_check(req) -> bool:
    return not _missing(req)


def pip_ensure(
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    """As Slicer's: nothing if all is there; asks first if ``prompt_install``; RuntimeError if the user declines."""
    missing = _missing(requirements)
    if not missing:
        return None
    names = [str(requirement) for requirement in missing]
    if skip_in_testing and slicer.app.testingEnabled():
        return None
    if prompt_install and not slicer.util.confirmOkCancelDisplay(f"To be installed: {', '.join(names)}"):
        raise RuntimeError("User declined package installation")
    asked.append(("pip_ensure", names))
    installed.update(requirement.name for requirement in missing)
    return None


def pip_install(requirements, **options) -> None:
    asked.append(("pip_install", [str(r) for r in _to_requirements(requirements)]))
    installed.update(requirement.name for requirement in _to_requirements(requirements))


def pip_uninstall(requirements, **options) -> None:
    asked.append(("pip_uninstall", [str(r) for r in _to_requirements(requirements)]))


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise errors.lacks(f"slicer.packaging.{name}")


class PyTorchUtilsLogic:
    """The PyTorch extension's logic; ``torch_state["error"]`` makes ``torchInstalled`` raise, as half a torch does."""

    @staticmethod
    def torchInstalled() -> bool:
        if torch_state["error"] is not None:
            raise torch_state["error"]
        return torch_state["installed"]

    def installTorch(
        self,
        askConfirmation: bool = False,
        forceComputationBackend: str | None = None,
        torchVersionRequirement: str | None = None,
        torchvisionVersionRequirement: str | None = None,
    ):
        if askConfirmation and not slicer.util.confirmOkCancelDisplay("PyTorch is to be installed"):
            return None
        asked.append(("installTorch", [torchVersionRequirement or ""]))
        torch_state.update(installed=True, error=None)
        return object()

"""What sampling needs beyond Slicer's own packages: whether it is there, and how it comes there.

Nothing is installed without the user's consent, nothing without a window, and PyTorch by the extension PyTorch alone.
Nothing here imports the packages: the process that has the windows never loads PyTorch by itself.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import slicer
from packaging.requirements import Requirement

from AmbiguousSegBridge.worker.python import slicer_python

log = logging.getLogger(__name__)

REQUESTER = "AmbiguousSeg"
REQUIREMENTS_FILE = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
TORCH = Requirement("torch>=2.6")
REINSTALL_TORCH = (
    "Restart Slicer, open the module PyTorch Utils, uninstall PyTorch there, restart Slicer, and install it again."
)


class PackagesError(RuntimeError):
    """Something needed is not there: ``message`` says what, in plain words, ``remedy`` what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.message, self.remedy = message, remedy


def missing(requirements_file: Path | str = REQUIREMENTS_FILE) -> list[str]:
    """Requirements of the file that are not installed, or in another version; those of other systems are passed over.

    Raises:
        ValueError: a line is not a requirement. OSError: the file cannot be read.
    """
    return [str(requirement) for requirement in _read(requirements_file) if not _satisfied(requirement)]


def torch_missing() -> bool:
    """Whether there is no PyTorch to import. Remains that an uninstallation left behind do not count as one."""
    spec = importlib.util.find_spec("torch")
    return spec is None or spec.origin is None  # a folder without __init__.py has a spec, but no origin


def incomplete() -> bool:
    """Whether the worker would miss PyTorch or a requirement."""
    return torch_missing() or bool(missing())


def ensure(interactive: bool, requirements_file: Path | str = REQUIREMENTS_FILE) -> None:
    """Return once everything is installed; what is missing is installed if the user agrees.

    Args:
        interactive: whether there is somebody to ask. If not, or in Slicer's testing mode, nothing is asked and
            nothing installed.

    Raises:
        PackagesError: something is still missing: this Slicer cannot have it, there was nobody to ask, the user
            declined, or the installation failed.
        ValueError, OSError: as ``missing``.
    """
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise _intel_mac()
    wanted, no_torch = missing(requirements_file), torch_missing()
    if not no_torch and not _satisfied(TORCH):
        found = _version("torch")  # None: the package is there, but not what pip writes last
        what = "PyTorch is half installed" if found is None else f"PyTorch {found} is installed"
        raise PackagesError(f"{what}; {TORCH} is needed.", REINSTALL_TORCH)
    if not wanted and not no_torch:
        return
    if not interactive or not hasattr(slicer, "app") or slicer.app.testingEnabled():
        raise _nobody_to_ask(wanted, no_torch)
    if wanted:
        _install(wanted)
        if still := missing(requirements_file):
            raise PackagesError(f"Still missing after the installation: {', '.join(still)}.", _by_hand(still))
    if no_torch:
        _install_torch()
        if torch_missing():
            raise PackagesError("PyTorch is still missing after its installation.", REINSTALL_TORCH)


def _read(path: Path | str) -> Iterator[Requirement]:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            yield Requirement(text)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _satisfied(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    installed = _version(requirement.name)
    return installed is not None and requirement.specifier.contains(installed, prereleases=True)


def _install(wanted: Sequence[str]) -> None:
    with _explained(f"{', '.join(wanted)} could not be installed", _by_hand(wanted)):
        try:
            from slicer import packaging as slicer_packaging  # Slicer 5.12 and later
        except ImportError:
            question = f"AmbiguousSeg needs Python packages that are not installed yet:\n\n{', '.join(wanted)}\n\n"
            if not slicer.util.confirmOkCancelDisplay(question + "Install them into Slicer now?", REQUESTER):
                raise _declined(", ".join(wanted)) from None
            slicer.util.pip_install(list(wanted))
        else:
            try:
                slicer_packaging.pip_ensure(list(wanted), requester=REQUESTER, prompt_restart=False)
            except RuntimeError as error:
                if "declined" not in str(error).lower():
                    raise
                raise _declined(", ".join(wanted)) from error
    importlib.invalidate_caches()


def _install_torch() -> None:
    try:
        import PyTorchUtils  # module of the extension PyTorch
    except ImportError as error:
        raise PackagesError(
            "PyTorch is not installed, and neither is the extension that installs it.",
            'Install the extension "PyTorch" in the Extensions Manager, restart Slicer and try again.',
        ) from error
    with _explained("PyTorch could not be installed", REINSTALL_TORCH):
        logic = PyTorchUtils.PyTorchUtilsLogic()
        # torchInstalled loads PyTorch, so it is asked only where none was found. No computation backend is named: the
        # extension chooses the build that suits this computer.
        if not logic.torchInstalled() and (
            logic.installTorch(askConfirmation=True, torchVersionRequirement=str(TORCH.specifier)) is None
        ):
            raise _declined("PyTorch")
    importlib.invalidate_caches()


@contextmanager
def _explained(what: str, remedy: str) -> Iterator[None]:
    """Whatever an installation raises becomes a PackagesError; the log keeps all of it."""
    try:
        yield
    except PackagesError:
        raise
    except Exception as error:  # pip, the extension and a half-installed PyTorch raise what they like
        log.exception("%s", what)
        if isinstance(error, subprocess.CalledProcessError):  # its text is a command line
            reason = f"exit code {error.returncode}"
        else:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise PackagesError(f"{what} ({reason}); Slicer's log says more.", remedy) from error


def _declined(what: str) -> PackagesError:
    return PackagesError(f"Nothing was installed: {what} is needed.", "Start again and agree to the installation.")


def _nobody_to_ask(wanted: Sequence[str], no_torch: bool) -> PackagesError:
    what = ", ".join([*wanted, *([str(TORCH)] if no_torch else [])])
    remedies = [f"Run: {_command('pip', 'install', *wanted)}"] if wanted else []
    if no_torch:
        # What the extension PyTorch does; it finds the build that suits the computer.
        remedies.append(
            "Install PyTorch with Slicer's module PyTorch Utils, or run: "
            f"{_command('pip', 'install', 'light-the-torch')} and then "
            f"{_command('light_the_torch', 'install', str(TORCH))}"
        )
    return PackagesError(
        f"Not installed: {what}. Without a window nothing is installed by itself.", ". ".join(remedies)
    )


def _by_hand(wanted: Sequence[str]) -> str:
    return f"Check network and proxy, see Slicer's log, or install by hand: {_command('pip', 'install', *wanted)}"


def _command(*arguments: str) -> str:
    """Command line, to be copied into a terminal, that runs a Python module in Slicer's Python."""
    command = [str(slicer_python() or sys.executable), "-m", *arguments]
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)


def _intel_mac() -> PackagesError:
    translated = subprocess.run(
        ["/usr/sbin/sysctl", "-in", "sysctl.proc_translated"], capture_output=True, text=True, check=False
    )
    if translated.stdout.strip() == "1":  # Apple's processor runs the Intel program
        return PackagesError(
            "This Slicer is the build for Intel processors, for which there is no current PyTorch.",
            "Install the Apple-silicon build of Slicer: this Mac can run it.",
        )
    return PackagesError(
        "This Mac has an Intel processor, for which there is no current PyTorch; sampling needs a Mac with Apple "
        "silicon, and the Apple-silicon build of Slicer.",
        "Sample on another computer: Apple silicon, Linux or Windows. Scenes saved there open here.",
    )

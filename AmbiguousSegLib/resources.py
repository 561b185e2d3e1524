"""What comes with the software, bundled models and presets, and the models that a user installed, found by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DEFAULT_MODEL = "lung-nodule"  # for CT volumes
DEMO_MODEL = "phantom-cimd-64"  # for the software's own phantom, whose raters it knows
MODELS_VARIABLE = "AMBIGUOUSSEG_MODELS"  # names another folder of installed models than the usual one
_PLACES = (
    Path(__file__).resolve().parent / "Resources",  # installed from a wheel
    Path(__file__).resolve().parents[1] / "Resources",  # checkout, and installed in Slicer beside the library
)


def resources_folder() -> Path:
    """Folder that holds ``Models``, ``Presets`` and ``Benchmarks``.

    Raises:
        FileNotFoundError: the library was installed without them.
    """
    for place in _PLACES:
        if (place / "Models").is_dir():
            return place
    raise FileNotFoundError(f"No bundled models found in {' or '.join(map(str, _PLACES))}; name a model folder.")


def bundled_models() -> list[Path]:
    """Folders of the bundled models, by name."""
    return sorted(path.parent for path in (resources_folder() / "Models").glob("*/model.json"))


def models_folder() -> Path:
    """The user's folder of installed models, which need not exist; ``$AMBIGUOUSSEG_MODELS`` names another one."""
    if named := os.environ.get(MODELS_VARIABLE, "").strip():
        return Path(named).absolute()
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "AmbiguousSeg" / "Models"


def installed_models() -> list[Path]:
    """Folders of the models that the user installed, by name; see ``model_store``."""
    store = models_folder()
    if not store.is_dir():
        return []
    return sorted(p for p in store.iterdir() if p.name[0] != "." and p.is_dir() and not p.is_symlink())


def bundled_presets() -> dict[str, Path]:
    """Files of the bundled training configurations by name: that of the file, after its folder if it lies in one.

    Such as "lidc-cimd-128", and "ablations/cimd-fc", which is laid over others.
    """
    folder = resources_folder() / "Presets"
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    return dict(sorted(files.items()))


def find_model(name: str | Path | None) -> Path:
    """Folder of a model: a folder that exists, or the name of a bundled or an installed model; None: the default one.

    Raises:
        FileNotFoundError: none of them; the message lists the bundled and the installed models.
    """
    if name is not None:
        _check_name(name, "folder or bundled model")
        if Path(name).is_dir():
            return Path(name)
    wanted = DEFAULT_MODEL if name is None else str(name)
    for folder in [*bundled_models(), *installed_models()]:
        if folder.name == wanted:
            return folder
    bundled, installed = (
        ", ".join(folder.name for folder in folders) or "none" for folders in (bundled_models(), installed_models())
    )
    raise FileNotFoundError(
        f"{wanted}: neither a folder nor a bundled model (bundled: {bundled}) nor an installed one ({installed})."
    )


def find_split(name: str | Path) -> Path:
    """A file of a split: one that exists, or a bundled one by its path in ``Presets``, with or without ``.json``.

    What is neither is given back as it came, for whoever opens it to say so.
    """
    if Path(name).is_file() or Path(name).is_absolute() or ".." in Path(name).parts:
        return Path(name)
    bundled = resources_folder() / "Presets" / f"{Path(name).as_posix().removesuffix('.json')}.json"
    return bundled if bundled.is_file() else Path(name)


def bundled_benchmarks() -> dict[str, Path]:
    """Files of the bundled benchmarks, by name."""
    files = (resources_folder() / "Benchmarks").glob("*.yaml")
    return {path.stem: path for path in sorted(files)}


def find_benchmark(name: str | Path) -> Path:
    """A benchmark: a file that exists, or the name of a bundled one, with or without ``.yaml``.

    Raises:
        FileNotFoundError: neither; the message lists the bundled ones.
    """
    _check_name(name, "YAML file or bundled benchmark")
    if Path(name).is_file():
        return Path(name)
    known = bundled_benchmarks()
    wanted = str(name).removesuffix(".yaml")
    if wanted not in known:
        raise FileNotFoundError(f"There is no file or benchmark {name}; benchmarks: {', '.join(known) or 'none'}.")
    return known[wanted]


def find_preset(name: str | Path) -> Path:
    """A training configuration: a file that exists, or the name of a bundled preset, with or without ``.yaml``.

    Raises:
        FileNotFoundError: neither; the message lists the bundled presets.
    """
    _check_name(name, "YAML file or preset")
    if Path(name).is_file():
        return Path(name)
    presets = bundled_presets()
    wanted = Path(name).as_posix().removesuffix(".yaml")
    if wanted not in presets:
        known = ", ".join(presets) or "none"
        if Path(name).exists():
            kind = "folder" if Path(name).is_dir() else "file on disk"
            raise FileNotFoundError(f"{name} is {'a' if kind == 'folder' else 'no'} {kind}, expected a YAML file.")
        raise FileNotFoundError(f"There is no file or preset {name}; presets: {known}.")
    return presets[wanted]


def _check_name(name: str | Path, expected: str) -> None:
    """FileNotFoundError for an empty name, which would be the current folder."""
    if not str(name).strip():
        raise FileNotFoundError(f"The name of a {expected} is empty, got {str(name)!r}; give one.")

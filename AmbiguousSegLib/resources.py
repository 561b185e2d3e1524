"""What comes with the software: bundled models and presets."""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = "phantom-cimd-64"
_PLACES = (
    Path(__file__).resolve().parents[1] / "Resources",  # checkout, and installed in Slicer beside the library
    Path(__file__).resolve().parent / "Resources",
)


def resources_folder() -> Path:
    """Folder that holds ``Models`` and ``Presets``.

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


def find_model(name: str | Path | None) -> Path:
    """Folder of a model: a folder that exists, or the name of a bundled model; None: the default one.

    Raises:
        FileNotFoundError: neither; the message lists the bundled models.
    """
    if name is not None and Path(name).is_dir():
        return Path(name)
    wanted = DEFAULT_MODEL if name is None else str(name)
    for folder in bundled_models():
        if folder.name == wanted:
            return folder
    known = ", ".join(folder.name for folder in bundled_models()) or "none"
    raise FileNotFoundError(f"{wanted}: neither a folder nor a bundled model (bundled: {known}).")

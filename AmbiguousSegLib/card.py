"""What a model folder says of itself, read without its weights and without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.volume.geometry import PLANES
from AmbiguousSegLib.volume.io import LESION_TERMINOLOGY

FORMAT_VERSION = 1
WEIGHTS_FILE, CARD_FILE = "model.safetensors", "model.json"
INTENDED_USE = "Research use only; not a medical device and not for clinical decisions."

_INTENSITY = {
    "window": "window {low:g} to {high:g}",
    "percentile": "percentiles {low:g} to {high:g} of the volume",
    "full_scale": "full scale 0 to {high:g}",
    "minmax": "least to greatest value of the volume",
}
_METRICS = {
    "ged_u": "GED², unbiased (0 is best)",
    "ged_v": "GED², as papers print it (0 is best)",
    "hm_iou": "HM-IoU (1 is best)",
    "dice_max": "D_max (1 is best)",
    "combined_sensitivity": "S_c (1 is best)",
    "diversity_agreement": "D_a (1 is best)",
    "ci_harmonic": "CI, harmonic mean (1 is best)",
}


@dataclass(frozen=True)
class Label:
    """What is segmented: a name, a colour (red, green, blue in [0, 1]) and a Slicer TerminologyEntry."""

    name: str = "lesion"
    color: tuple[float, float, float] = (0.9, 0.3, 0.2)
    terminology: str = LESION_TERMINOLOGY


@dataclass(frozen=True)
class Card:
    """What a model says of itself.

    Attributes:
        name, description: for people.
        label: what its masks show.
        training: data, licence, images seen, configuration; plain JSON types.
        metrics: results with their protocol; plain JSON types.
        intended_use: statement shown with every result.
    """

    name: str = "unnamed"
    description: str = ""
    label: Label = field(default_factory=Label)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    intended_use: str = INTENDED_USE


@dataclass(frozen=True)
class ModelSummary:
    """What can be said of a model before its weights are read.

    Attributes:
        folder: where it lies.
        name, description, label, intended_use, training, metrics: of its ``Card``.
        method: key of the method.
        channels: names of the input channels, in order.
        plane: of the slices: ``axial``, ``coronal``, ``sagittal`` or ``stored``.
        spacing_mm: edge of the network's square pixels; None: each slice is stretched to ``size``.
        size: least height and width in pixels of what the network sees.
        intensity: how stored values are scaled, in one line of words.
        sampler: default sampler and its number of steps; None for a method that does not sample by steps.
        training_steps: steps of the diffusion schedule; None for a method that does not sample by steps.
        weights_bytes: size of the weights' file.
        weights_sha256: of the weights, as the description names it.
    """

    folder: Path
    name: str
    description: str
    label: Label
    intended_use: str
    method: str
    channels: tuple[str, ...]
    plane: str
    spacing_mm: float | None
    size: tuple[int, int]
    intensity: str
    training: dict[str, Any]
    metrics: dict[str, Any]
    sampler: tuple[str, int] | None
    training_steps: int | None
    weights_bytes: int
    weights_sha256: str

    @property
    def samples_by_steps(self) -> bool:
        """Whether sampling runs a diffusion sampler, so that sampler, steps and quality can be chosen."""
        return self.training_steps is not None


@dataclass(frozen=True)
class _Intensity:
    """As ``volume.preprocessing.Intensity``, which needs torch; Testing/test_card.py compares the fields."""

    rule: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in _INTENSITY:
            raise ValueError(f"Intensity.rule must be one of {', '.join(_INTENSITY)}, got {self.rule!r}.")
        needed = {"window": (self.low, self.high), "percentile": (self.low, self.high), "full_scale": (self.high,)}
        if None in needed.get(self.rule, ()):
            raise ValueError(f"Intensity {self.rule} lacks a limit, got low {self.low} and high {self.high}.")

    def words(self) -> str:
        return _INTENSITY[self.rule].format(low=self.low, high=self.high)


@dataclass(frozen=True)
class _Preprocessing:
    """As ``volume.preprocessing.Preprocessing``."""

    channels: tuple[str, ...]
    plane: str
    spacing_mm: float | None
    size: tuple[int, int]
    size_multiple: int
    intensity: _Intensity | tuple[_Intensity, ...]

    def __post_init__(self) -> None:
        if not self.channels or self.plane not in PLANES:
            raise ValueError(
                f"Preprocessing needs at least one channel and one of the planes {', '.join(PLANES)}, got "
                f"{self.channels} and {self.plane!r}."
            )
        if isinstance(self.intensity, tuple) and len(self.intensity) != len(self.channels):
            raise ValueError(
                f"Preprocessing.intensity has {len(self.intensity)} rules for {len(self.channels)} channels."
            )

    def intensity_words(self) -> str:
        if isinstance(self.intensity, _Intensity):
            return self.intensity.words()
        return "; ".join(f"{channel}: {rule.words()}" for channel, rule in zip(self.channels, self.intensity))


@dataclass(frozen=True)
class _Sampler:
    """As ``diffusion.samplers.SamplerSettings``."""

    name: str = "ddpm"
    steps: int = 50
    eta: float = 0.0


def read_description(folder: Path) -> dict[str, Any]:
    """Content of ``model.json``, its format checked.

    Raises:
        FileNotFoundError: no model in ``folder``.
        ValueError: not a model description, or one of another format.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no model here; expected a folder with {CARD_FILE} and {WEIGHTS_FILE}.")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a model description.") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {version!r}, this software reads version {FORMAT_VERSION}; update the software, "
            "or save the model again with the version it was made by."
        )
    return description


def read_summary(folder: Path | str) -> ModelSummary:
    """What ``model.json`` says, and how large the weights are. They are not read: whether they fit shows on loading.

    Raises:
        FileNotFoundError: no model in ``folder``, or no weights beside its description.
        ValueError: not a model description, one of another format, an unknown, missing or ill-typed key. One line.
    """
    folder = Path(folder)
    description, weights = read_description(folder), folder / WEIGHTS_FILE
    try:
        method, config = description["method"], description["method_config"]
        if not isinstance(method, str) or not isinstance(config, dict):
            raise ValueError(f"method must be a name and method_config a mapping, got {method!r} and {config!r:.40}.")
        # A method that samples by steps is one whose configuration has a schedule (Testing/test_card.py).
        schedule = (
            from_dict(ScheduleConfig, config["schedule"], "method_config.schedule") if "schedule" in config else None
        )
        images = from_dict(_Preprocessing, description["preprocessing"], "preprocessing")
        sampler = from_dict(_Sampler, description["sampling"], "sampling")
        card = from_dict(Card, description["card"], "card")
        sha256 = str(description["weights_sha256"])
    except KeyError as error:
        raise ValueError(f"{folder / CARD_FILE}: missing key {error}.") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / CARD_FILE}: {error}") from error
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: the weights are missing beside {CARD_FILE}.")
    return ModelSummary(
        folder=folder,
        name=card.name,
        description=card.description,
        label=card.label,
        intended_use=card.intended_use,
        method=method,
        channels=images.channels,
        plane=images.plane,
        spacing_mm=images.spacing_mm,
        size=images.size,
        intensity=images.intensity_words(),
        training=card.training,
        metrics=card.metrics,
        sampler=(sampler.name, sampler.steps) if schedule else None,
        training_steps=schedule.steps if schedule else None,
        weights_bytes=weights.stat().st_size,
        weights_sha256=sha256,
    )


def card_html(summary: ModelSummary) -> str:
    """Short description of a model for its user, as HTML for a Qt label or text browser; all text is escaped."""
    seen = summary.training.get("images_seen")
    rows = [
        ("Marks", summary.label.name),
        ("Expects", _expects(summary)),
        ("Trained on", _text(summary.training.get("data")) or "not stated"),
        ("Images seen", f"{seen:,}" if isinstance(seen, int) else _text(seen)),
        ("Licence", _text(summary.training.get("licence"))),
        ("Results", "<br>".join(escape(line) for line in _results(summary.metrics))),
    ]
    cells = "".join(
        f"<tr><td><b>{name}</b>&nbsp;</td><td>{value if name == 'Results' else escape(value)}</td></tr>"
        for name, value in rows
        if value
    )
    description = f"<p>{escape(summary.description)}</p>" if summary.description else ""
    return (
        f"<p><b>{escape(summary.name)}</b></p>{description}<table>{cells}</table>"
        f"<p><i>{escape(summary.intended_use)}</i></p>"
    )


def _expects(summary: ModelSummary) -> str:
    planes = "slices as stored in the file" if summary.plane == "stored" else f"{summary.plane} slices"
    height, width = summary.size
    pixels = f"{height} × {width} pixels"
    if summary.spacing_mm is None:
        size = f"each stretched to {pixels}"
    else:
        size = f"resampled to pixels of {summary.spacing_mm:g} mm, at least {pixels}"
    return f"{', '.join(summary.channels)}; {planes}, {size}; values: {summary.intensity}"


def _results(metrics: dict[str, Any]) -> list[str]:
    lines = [f"{_METRICS[key]}: {_text(metrics[key]) or 'undefined'}" for key in _METRICS if key in metrics]
    protocol = _text(metrics.get("protocol"))
    return [*([protocol] if protocol else []), *lines] or ["none stated"]


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

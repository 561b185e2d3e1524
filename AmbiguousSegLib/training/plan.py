"""From the data to a training configuration that fits it and the machine, each choice with its reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import Inspection, inspect_all
from AmbiguousSegLib.data.readers import AUTO, LAYOUTS, read_all, recognised
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.training.plan_images import plan_images
from AmbiguousSegLib.training.plan_intensity import Choice
from AmbiguousSegLib.training.plan_run import Machine, measured_speed, network, plan_run, plan_split

EMPTY_SHARE = 0.15  # of slices that nobody marked: a model that never sees one marks something on every slice
_DIFFUSION = (
    "on BU-BIL, at equal time, as good as CIMD and well ahead of the Probabilistic U-Net in GED: "
    "Testing/Benchmarks/bu_bil.md"
)
_SAMPLER = "four evaluations on trailing steps spread as ten do: Testing/Benchmarks/phantom_model.md"


@dataclass(frozen=True)
class Plan:
    """A configuration and why it is as it is.

    Attributes:
        config: nested plain types, as a file for ``train --config``.
        reasons: key, value and reason of each choice, in the order of the configuration.
        seen: what the data was recognised as and what is in it, a line each.
        minutes: that the training is expected to take.
        memory_mb: that it is expected to need.
    """

    config: dict[str, Any]
    reasons: tuple[Choice, ...]
    seen: tuple[str, ...]
    minutes: float
    memory_mb: float


def plan(
    inspections: Sequence[Inspection],
    labels: Sequence[Label],
    machine: Machine,
    *,
    name: str = "unnamed",
    source: str = "",
    channels: Sequence[str] = (),
) -> Plan:
    """The configuration for data in which this was seen. A pure function, but for ``machine.speed``.

    Args:
        labels: 1 to K of the masks.
        name: of the model.
        source: where the data comes from, in words, for the model's card.
        channels: their names, where they are known.

    Raises:
        ValueError: no case; cases with different numbers of channels; nobody marked anything.
    """
    images = plan_images(inspections, machine.gpu, channels)
    values = {key: value for key, value, _ in images.choices}
    if not any(all(case.marked) for case in inspections):
        raise ValueError("Nobody marked anything in any case: there is nothing to train on; check the masks.")
    split, train, validation = plan_split(inspections)
    empty, items = _slices(train or inspections, values["dataset.plane"], images.flat)
    method = network(images.size, len(values["dataset.channels"]), machine.gpu)
    run = plan_run(method, images.size, len(labels), items, validation, machine)
    method_reasons: list[Choice] = [
        ("method", "cimd", f"diffusion over masks without CIMD's encoders (beta_ambiguity 0): {_DIFFUSION}"),
        ("method_config", method, f"the network of the presets, with levels for {images.size[0]} × {images.size[1]}"),
        ("labels", _plain_labels(labels), _said_of_labels(inspections, labels)),
        *_card(inspections, name, source),
    ]
    data: list[Choice] = [*images.choices[:5], *split]
    if empty is not None:
        data.append(("dataset.empty_share", empty, "of the slices that nobody marked, which are most, a few"))
        data.append(("dataset.shift", 0.25, "the marked place lies anywhere in the middle half of a patch"))
    sampling: list[Choice] = [
        ("sampling.name", "dpm++2m", _SAMPLER),
        ("sampling.steps", 4, _SAMPLER),
        ("sampling.grid", "trailing", _SAMPLER),
    ]
    choices = [*method_reasons, *data, *images.choices[5:], *run.choices, *sampling]
    order = ["method", "method_config", "labels", "card", "dataset", "augmentation", "optimisation", "validation"]
    order += ["sampling", "checkpoint_every_images"]
    choices.sort(key=lambda choice: order.index(choice[0].split(".")[0]))
    return Plan(_nested(choices), tuple(choices), _seen(inspections, labels), run.minutes, run.memory_mb)


def plan_for(
    folder: Path,
    kind: str = AUTO,
    labels: Sequence[Label] | None = None,
    minutes: float = 60.0,
    device: str = "auto",
    *,
    images: int | None = None,
    subject_pattern: str | None = None,
    on_case: Callable[[int, int], None] | None = None,
) -> Plan:
    """Read every case of a folder or list, measure this machine, and plan.

    Args:
        kind: name of a reader, or "auto".
        labels: 1 to K of the masks; None: as the data names them, or one lesion.
        minutes: that the training may take.
        device: as ``devices.choose_device``.
        images: to train on; None: as many as fit in the time.
        subject_pattern: as ``DataConfig.subject_pattern``.
        on_case: called with the number of cases read so far, and of all.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: data that is not recognised or cannot be read, or as ``plan``.
    """
    kind, words = recognised(folder) if kind == AUTO else (kind, f"data of the reader {kind}")
    layout = LAYOUTS[kind](folder) if kind in LAYOUTS else None
    labels = labels or getattr(layout, "labels", None) or DEFAULT_LABELS
    config = DataConfig(kind=kind, subject_pattern=subject_pattern)
    cases = read_all(folder, config, labels)
    told = (lambda number: on_case(number, len(cases))) if on_case is not None else None
    seen = inspect_all(cases, len(labels), told)
    where = choose_device(device).type
    machine = Machine(where, os.cpu_count() or 1, minutes, measured_speed(device), images)
    made = plan(
        seen, labels, machine, name=folder.resolve().stem, source=words, channels=getattr(layout, "channels", ())
    )
    extra: list[Choice] = [("dataset.kind", kind, f"recognised: {words}")]
    if subject_pattern is not None:
        extra.append(("dataset.subject_pattern", subject_pattern, "as given"))
    at = next(i for i, choice in enumerate(made.reasons) if choice[0].startswith("dataset."))
    reasons = (*made.reasons[:at], *extra, *made.reasons[at:])
    return Plan(_nested(reasons), reasons, (words, *made.seen), made.minutes, made.memory_mb)


def _slices(train: Sequence[Inspection], plane: str, flat: bool) -> tuple[float | None, int]:
    """The share of items from slices that nobody marked (None: as they are), and how many slices there are to see."""
    if flat:
        return None, len(train)
    counts, marked = zip(*((count, len(found)) for count, found in (case.marked_slices(plane) for case in train)))
    if sum(marked) > (1 - EMPTY_SHARE) * sum(counts):
        return None, sum(counts)
    return EMPTY_SHARE, max(1, round(sum(marked) / (1 - EMPTY_SHARE)))


def _plain_labels(labels: Sequence[Label]) -> list[dict[str, Any]]:
    """Without what is by default."""
    default = to_dict(Label())
    return [{k: v for k, v in to_dict(label).items() if k == "name" or v != default[k]} for label in labels]


def _said_of_labels(seen: Sequence[Inspection], labels: Sequence[Label]) -> str:
    found = sorted({label for case in seen for label in case.labels})
    return f"the masks hold {', '.join(map(str, found))}" + (", which mean" if len(labels) > 1 else "")


def _card(seen: Sequence[Inspection], name: str, source: str) -> list[Choice]:
    subjects, raters = len({case.subject for case in seen}), sorted({len(case.raters) for case in seen})
    by = f"{raters[0]} to {raters[-1]}" if len(raters) > 1 else f"{raters[0]}"
    data = f"{source or name}: {len(seen)} cases of {subjects} subjects, each with masks of {by} rater(s)"
    return [
        ("card.name", name, "of the data's folder or file"),
        (
            "card.description",
            f"Plausible outlines, learned from {name} by a configuration that was planned from it.",
            "",
        ),
        ("card.training_data", data, "as recognised"),
        ("card.licence", "not stated", "the data does not tell: state it before the model is given away"),
        ("card.half_weights", True, "half the space"),
    ]


def _seen(seen: Sequence[Inspection], labels: Sequence[Label]) -> tuple[str, ...]:
    """What is in the data, in lines for people."""
    parts = Counter(case.part or "not stated" for case in seen)
    raters = Counter(len(case.raters) for case in seen)
    empty, masks = sum(case.empty_raters for case in seen), sum(len(case.raters) for case in seen)
    sizes = Counter(case.geometry.size for case in seen)
    shown = ", ".join(" × ".join(map(str, size)) for size, _ in sizes.most_common(3))
    low, high = (fold(case.geometry.spacing_mm[0] for case in seen) for fold in (min, max))
    stored = sorted({case.stored for case in seen})
    least = min(v.least for case in seen for v in case.values)
    greatest = max(v.greatest for case in seen for v in case.values)
    return (
        f"{len(seen)} cases of {len({case.subject for case in seen})} subjects; parts: "
        + ", ".join(f"{part} {count}" for part, count in parts.items()),
        f"size (x, y, z): {shown}" + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""),
        f"spacing along x: {low:.3g} to {high:.3g} mm",
        f"values: {least:g} to {greatest:g}, {len(seen[0].values)} channel(s), {', '.join(stored)}",
        "raters: "
        + ", ".join(f"{count} in {cases} cases" for count, cases in sorted(raters.items()))
        + f"; {empty} of {masks} masks are empty",
        f"labels: {', '.join(label.name for label in labels)}",
    )


def _nested(choices: Sequence[Choice]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for key, value, _ in choices:
        place = config
        *sections, leaf = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return config

"""From the data to a training configuration that fits it and the machine, each choice with its reason.

The rules lie in ``plan_images`` (spacing, plane, size), ``plan_intensity``, ``plan_augmentation`` and ``plan_run``
(network, time, checks); here they are put together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.data.readers import AUTO, LAYOUTS, recognised
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label, check_labels
from AmbiguousSegLib.training.plan_cases import in_lines, inspected, near_marks
from AmbiguousSegLib.training.plan_images import plan_images
from AmbiguousSegLib.training.plan_intensity import Choice, Near
from AmbiguousSegLib.training.plan_run import Machine, network, plan_run, plan_split
from AmbiguousSegLib.training.plan_speed import measured_speed

EMPTY_SHARE = 0.15  # of slices that nobody marked: a model that never sees one marks something on every slice
_SECTIONS = ("method", "method_config", "labels", "card", "dataset", "augmentation", "optimisation", "validation")
_ORDER = (*_SECTIONS, "sampling", "checkpoint_every_images", "seed")


@dataclass(frozen=True)
class Plan:
    """A configuration and why it is as it is.

    Attributes:
        config: nested plain types, as a file for ``train --config``.
        reasons: key, value and reason of each choice, in the order of the configuration; an empty reason where another
            speaks for it.
        seen: what the data was recognised as and what is in it, a line each.
        minutes: that the training is expected to take.
        memory_mb: that it is expected to need, of the GPU where there is one; nan: unknown.
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
    words: str = "",
    channels: Sequence[str] = (),
    near: Near = (),
    given: Sequence[Choice] = (),
    pointed: bool = False,
) -> Plan:
    """The configuration for data in which this was seen. A pure function, but for ``machine.speed``.

    Args:
        inspections: of each case, those of the part "test" left out.
        labels: 1 to K of the masks.
        name: of the model.
        words: what the data is, for people.
        channels: their names, where they are known.
        near: values around the marks of some cases; empty: those of whole images are taken.
        given: choices that are made already.
        pointed: as ``plan_augmentation.augmentation``.

    Raises:
        ValueError: no case; cases with different numbers of channels; nobody marked anything.
    """
    images = plan_images(inspections, machine.gpu, channels, near, pointed)
    if not any(all(case.marked) for case in inspections):
        raise ValueError("Nobody marked anything in any case: there is nothing to train on; check the masks.")
    chosen = {key: value for key, value, _ in images.choices}
    of_split, train, held_out = plan_split(inspections)
    of_slices, items = _slices(train, chosen["dataset.plane"], images.flat)
    validation = len(held_out) if images.flat else sum(_marked(case, chosen["dataset.plane"])[1] for case in held_out)
    method = network(images.size, len(chosen["dataset.channels"]), machine.gpu)
    run = plan_run(method, images.size, len(labels), items, validation, machine)
    choices = [
        *_method(method, images.size),
        ("labels", _plain_labels(labels), _of_labels(inspections)),
        *_card(inspections, name),
        *given,
        *images.choices,
        *of_split,
        *of_slices,
        *run.choices,
    ]
    choices.sort(key=lambda choice: _ORDER.index(choice[0].split(".")[0]))  # stable
    memory = run.memory_mb + (0 if machine.gpu else _data_mb(inspections))
    told = (*([words] if words else []), *in_lines(inspections, labels))
    return Plan(_nested(choices), tuple(choices), told, run.minutes, memory)


def plan_for(
    folder: Path,
    kind: str = AUTO,
    labels: Sequence[Label] | None = None,
    minutes: float | None = None,
    device: str = "auto",
    *,
    images: int | None = None,
    subject_pattern: str | None = None,
    pointed: bool = False,
    on_case: Callable[[int, int], None] | None = None,
) -> Plan:
    """Read every case of a folder or list, measure this machine, and plan.

    Args:
        kind: name of a reader, or "auto".
        labels: 1 to K of the masks; None: as the data names them, else as ``plan_cases.inspected``.
        minutes: that the training may take; None: as ``Machine.minutes``.
        device: as ``devices.choose_device``.
        images: to train on; None: as many as fit in the time.
        subject_pattern: as ``DataConfig.subject_pattern``.
        pointed: whether the model to start from is told of a point, as ``plan_augmentation.augmentation``.
        on_case: called with the number of cases read so far, and of all.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: data that is not recognised or cannot be read, no such device, or as ``plan``.
    """
    check_labels(labels or DEFAULT_LABELS)
    where = choose_device(device)
    machine = Machine(where.type, os.cpu_count() or 1, minutes, measured_speed(device), images)
    kind, words = recognised(folder) if kind == AUTO else (kind, f"data of the reader {kind}")
    layout = LAYOUTS[kind](folder) if kind in LAYOUTS else None
    config = DataConfig(kind=kind, subject_pattern=subject_pattern)
    cases, seen, found = inspected(folder, config, labels or (layout and layout.labels) or None, on_case)
    given: list[Choice] = [("dataset.kind", kind, "as recognised")]
    if subject_pattern is not None:
        given.append(("dataset.subject_pattern", subject_pattern, "as given"))
    return plan(
        seen,
        found,
        machine,
        name=folder.resolve().stem,
        words=words,
        channels=layout.channels if layout else (),
        near=near_marks(cases, seen),
        given=given,
        pointed=pointed,
    )


def _method(method: dict[str, Any], size: tuple[int, int]) -> list[Choice]:
    why = (
        "diffusion over masks without CIMD's encoders (beta_ambiguity 0): on BU-BIL, at equal time, as good as CIMD "
        "and well ahead of the Probabilistic U-Net in GED (Testing/Benchmarks/bu_bil.md)"
    )
    few = "on trailing steps 4 evaluations are near to 10 in GED and spread (Testing/Benchmarks/phantom_model.md)"
    return [
        ("method", "cimd", why),
        ("method_config", method, f"the network of the presets, with levels for {size[0]} × {size[1]} pixels"),
        ("sampling.name", "dpm++2m", few),
        ("sampling.steps", 4, ""),
        ("sampling.grid", "trailing", ""),
    ]


def _slices(train: Sequence[Inspection], plane: str, flat: bool) -> tuple[list[Choice], int]:
    """Settings of how slices are drawn from volumes, and how many different ones there are to see."""
    if flat:
        return [], len(train)
    counts, marked = zip(*(_marked(case, plane) for case in train))
    chosen: list[Choice] = [("dataset.shift", 0.25, "the marked place lies anywhere in the middle half of a patch")]
    if sum(marked) >= (1 - EMPTY_SHARE) * sum(counts):
        return chosen, sum(counts)
    why = f"{sum(marked)} of {sum(counts)} slices are marked: of the others a few, so that it learns to mark nothing"
    chosen.append(("dataset.empty_share", EMPTY_SHARE, why))
    return chosen, max(1, round(sum(marked) / (1 - EMPTY_SHARE)))


def _marked(case: Inspection, plane: str) -> tuple[int, int]:
    """Number of slices, and of those that are marked."""
    count, found = case.marked_slices(plane)
    return count, len(found)


def _data_mb(seen: Sequence[Inspection]) -> float:
    """The largest case as it is read, twice, and the cache of slices."""
    largest = max(
        len(case.values) * 4 * case.geometry.size[0] * case.geometry.size[1] * case.geometry.size[2] for case in seen
    )
    return 2 * largest / 1e6 + DataConfig.cache_mb


def _plain_labels(labels: Sequence[Label]) -> list[dict[str, Any]]:
    """Without what is by default."""
    default = to_dict(Label())
    return [{k: v for k, v in to_dict(label).items() if k == "name" or v != default[k]} for label in labels]


def _of_labels(seen: Sequence[Inspection]) -> str:
    found = sorted({label for case in seen for label in case.labels})
    return f"the masks hold {', '.join(map(str, found))}"


def _card(seen: Sequence[Inspection], name: str) -> list[Choice]:
    subjects, raters = len({case.subject for case in seen}), sorted({len(case.raters) for case in seen})
    by = f"{raters[0]} to {raters[-1]}" if len(raters) > 1 else f"{raters[0]}"
    data = f"{name}: {len(seen)} cases of {subjects} subjects, each with masks of {by} rater(s)"
    return [
        ("card.name", name, "of the data's folder or file"),
        (
            "card.description",
            f"Plausible outlines, learned from {name} by a configuration that was planned from it.",
            "",
        ),
        ("card.training_data", data, ""),
        ("card.licence", "not stated", "the data does not tell: state it before the model is given away"),
        ("card.half_weights", True, "half the space"),
    ]


def _nested(choices: Sequence[Choice]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for key, value, _ in choices:
        place = config
        *sections, leaf = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return config

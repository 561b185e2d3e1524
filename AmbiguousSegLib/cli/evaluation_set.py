"""Which cases models may be evaluated on: those of the data that they were not trained on."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from AmbiguousSegLib.cli.common import CommandError
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.config import PHANTOM, DataConfig
from AmbiguousSegLib.data.evaluation_cases import (
    EvaluationCase,
    held_out_cases,
    held_out_phantoms,
    held_out_seed,
    loaded_cases,
)
from AmbiguousSegLib.data.inspection import Inspection, inspect
from AmbiguousSegLib.data.lung_phantom import Phantom
from AmbiguousSegLib.data.readers import AUTO, LAYOUTS, Case, read_all
from AmbiguousSegLib.data.slices import SliceStore, index
from AmbiguousSegLib.data.split import split_by_file, split_cases
from AmbiguousSegLib.data.trained_inputs import inputs_of
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.input_check import compare_inputs

log = logging.getLogger(__name__)

PARTS = ("test", "validation", "all")
PHANTOM_CASES = 64


@dataclass(frozen=True)
class EvaluationSet:
    """Cases to judge models on, at the models' size.

    Attributes:
        labels: names of the labels 1 to K of all masks.
        cases: images and raters' masks.
        phantoms: of the same cases, where they are phantoms; otherwise empty.
        spacing_mm: edge of their square pixels, None if unknown.
        notes: what they are, for people.
    """

    labels: tuple[str, ...]
    cases: tuple[EvaluationCase, ...]
    phantoms: tuple[Phantom, ...]
    spacing_mm: float | None
    notes: tuple[str, ...]

    def spacing_of(self, case: EvaluationCase) -> tuple[float, float] | None:
        """Spacing in mm along rows and columns of a case: its own, or that of all; None: unknown."""
        if case.spacing_mm is not None or self.spacing_mm is None:
            return case.spacing_mm
        return self.spacing_mm, self.spacing_mm


def add_data_arguments(p: argparse.ArgumentParser, part: str | None = None) -> None:
    """Arguments that choose the cases.

    Args:
        part: the only part there is to choose from; None: ``--part`` chooses.
    """
    p.add_argument("--data", required=True, help=f"folder of cases, or {PHANTOM}: its true distribution is known")
    if part is None:
        p.add_argument("--part", choices=PARTS, default="test", help="which part of the data (default: test)")
    else:
        p.set_defaults(part=part)
    p.add_argument(
        "--split", type=Path, metavar="FILE", help="JSON file of the split (default: as the models were trained)"
    )
    p.add_argument("--subject-pattern", help="regular expression that finds the subject (default: the models')")
    p.add_argument(
        "--cases", type=int, metavar="K", help=f"only the first K cases (default: all; {PHANTOM_CASES} phantoms)"
    )
    p.add_argument("--raters", type=int, metavar="M", help="raters of a phantom case (default: 16)")
    p.add_argument("--spacing-mm", type=float, help="edge of a pixel at the models' size (default: as in training)")


def choose_cases(options: argparse.Namespace, models: Sequence[tuple[str, Model]]) -> EvaluationSet:
    """Cases for the named models.

    Raises:
        CommandError: options that do not fit the data, models that cannot be evaluated on the same cases, no
            case left.
        ValueError: unusable data or split.
    """
    for name in ("cases", "raters", "spacing_mm"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise CommandError(f"--{name.replace('_', '-')} must be positive, got {value:g}.")
    sizes = {name: model.preprocessing.size for name, model in models}
    if len(set(sizes.values())) > 1:
        named = ", ".join(f"{name} {h} × {w}" for name, (h, w) in sizes.items())
        raise CommandError(f"The models work at different sizes ({named}); evaluate each size on its own.")
    labels = {name: ", ".join(label.name for label in model.labels) for name, model in models}
    if len(set(labels.values())) > 1 and any(len(model.labels) > 1 for _, model in models):  # one is a mere name
        named = "; ".join(f"{name}: {names}" for name, names in labels.items())
        raise CommandError(f"The models segment different labels ({named}); evaluate each set of labels on its own.")
    evaluation_set = _phantoms(options, models) if options.data == PHANTOM else _folder(options, models)
    size = models[0][1].preprocessing.size
    line = f"images and raters' masks are brought to the models' {size[0]} × {size[1]} pixels"
    return replace(evaluation_set, notes=(*evaluation_set.notes, line))


def _phantoms(options: argparse.Namespace, models: Sequence[tuple[str, Model]]) -> EvaluationSet:
    for name, forbidden in (("--split", options.split), ("--subject-pattern", options.subject_pattern)):
        if forbidden is not None:
            raise CommandError(f"{name} is for folders; held-out phantoms are generated.")
    if options.part == "all" or options.spacing_mm is not None:
        raise CommandError("The phantom has the parts test and validation and its own spacing; leave the option out.")
    _check_channels(models, 1, PHANTOM)
    for name, model in models:
        if model.preprocessing.point_sigma_mm is not None:
            raise CommandError(
                f"{name} is told where somebody points, and nobody points at phantoms; choose other data."
            )
    first = models[0][1]
    configs = {name: c for name, model in models if (c := _trained_on(name, model)) and c.kind == PHANTOM}
    if len({(c.phantom_seed, c.size, c.phantom_spacing_mm) for c in configs.values()}) > 1:
        raise CommandError(f"{', '.join(configs)} were trained on different phantoms; evaluate each on its own.")
    unknown = DataConfig(PHANTOM, first.preprocessing.size, spacing_mm=first.preprocessing.spacing_mm)
    config = next(iter(configs.values()), unknown)
    count, raters = options.cases or PHANTOM_CASES, options.raters or 16
    phantoms = held_out_phantoms(config, options.part, count, first.labels)
    cases = held_out_cases(config, options.part, count, raters, first.labels)
    seed, spacing = held_out_seed(config, options.part), config.phantom_spacing_mm
    note = f"phantom, {options.part} part (seed {seed}): {count} cases, pixels of {spacing:g} mm, distribution known"
    return EvaluationSet(_names(first), tuple(cases), tuple(phantoms), spacing, (note,))


def _folder(options: argparse.Namespace, models: Sequence[tuple[str, Model]]) -> EvaluationSet:
    if options.raters is not None:
        raise CommandError("--raters is for the phantom; a folder has the raters it has.")
    configs = {name: c for name, model in models if (c := _trained_on(name, model)) and c.kind != PHANTOM}
    own = {config.kind for config in configs.values() if config.kind not in LAYOUTS}  # readers that recognise nothing
    if len(own - {AUTO}) > 1:
        kinds = ", ".join(f"{name} {config.kind}" for name, config in configs.items())
        raise CommandError(f"The models read data of different kinds ({kinds}); evaluate each kind on its own.")
    # Which multiples of pixels a network takes beyond its size is no other way to prepare: all take the common ones.
    ways = {
        name: replace(model.preprocessing, channels=("",) * len(model.preprocessing.channels), size_multiple=1)
        for name, model in models
    }
    if len(set(ways.values())) > 1:
        described = "; ".join(
            f"{name}: {way.plane}, {way.spacing_mm} mm, {', '.join(rule.words() for rule in way.rules)}"
            + ("" if way.point_sigma_mm is None else f", told of a point ({way.point_sigma_mm:g} mm)")
            for name, way in ways.items()
        )
        raise CommandError(f"The models prepare slices in different ways ({described}); evaluate each on its own.")
    patterns = {config.subject_pattern for config in configs.values()}
    if options.subject_pattern is None and len(patterns) > 1:
        raise CommandError("The models were trained with different subject patterns; give one with --subject-pattern.")
    first = models[0][1]
    multiple = math.lcm(*(model.preprocessing.size_multiple for _, model in models))
    preprocessing = replace(first.preprocessing, size_multiple=multiple)
    config = next(iter(configs.values()), DataConfig())
    pattern = options.subject_pattern or next(iter(patterns), None)
    config = replace(config, kind=next(iter(own), AUTO), subject_pattern=pattern)
    cases = read_all(Path(options.data), config, first.labels)
    _check_channels(models, len(inspect(cases[0], len(first.labels)).values), options.data)
    chosen, how = _part(options, configs, cases)
    if not chosen:
        raise CommandError(f"{options.data}: the {options.part} part holds no case; choose another --part or --split.")
    slices, seen, limits = index(chosen, preprocessing, len(first.labels), leave_out=config.leave_out)
    notes = [f"{name}: {note}" for name, model in models for note in _differences(model, seen)]
    for text in notes:
        log.warning("%s", text)
    store = SliceStore(preprocessing, len(first.labels), limits, config.cache_mb * 2**20)
    loaded = tuple(loaded_cases(slices, store, options.cases))
    spacing, pixels = _spacing(options, configs)
    note = f"{options.data}: {len(loaded)} cases, {how}; {pixels}"
    return EvaluationSet(_names(first), loaded, (), spacing, (note, *notes))


def _differences(model: Model, seen: Sequence[Inspection]) -> list[str]:
    """In what the cases differ from what a model was trained on, if it says that."""
    if model.inputs is None:
        return []
    return compare_inputs(model.inputs, inputs_of(seen, model.preprocessing.plane), model.preprocessing)


def _part(
    options: argparse.Namespace, configs: dict[str, DataConfig], cases: Sequence[Case]
) -> tuple[Sequence[Case], str]:
    """Cases of the part asked for, and in words which those are."""
    if options.part == "all":
        if options.split is not None:
            raise CommandError("--part all takes every case; leave --split out.")
        log.warning("warning: --part all includes cases that the models may have been trained on.")
        return cases, "all parts, CASES THAT MODELS WERE TRAINED ON MAY BE INCLUDED"
    if options.split is not None:
        return getattr(split_by_file(cases, options.split), options.part), f"{options.part} part of {options.split}"
    if not configs:
        raise CommandError(
            "No model says how its training cases were split from this data; give --split FILE, or --part all."
        )
    parts = {}
    for name, config in configs.items():
        try:
            parts[name] = getattr(split_cases(config, cases), options.part)
        except ValueError as error:
            raise CommandError(f"{name}: its training split does not fit this data ({error}); give --split.") from error
    if len(set(parts.values())) > 1:
        raise CommandError(f"{', '.join(parts)} were trained with different splits; give one with --split.")
    return next(iter(parts.values())), f"{options.part} part of the split that {', '.join(parts)} trained with"


def _trained_on(name: str, model: Model) -> DataConfig | None:
    """Data configuration of the training, None for a model that does not say (an imported one)."""
    configuration = model.card.training.get("configuration")
    if configuration is None:
        return None
    try:
        return from_dict(DataConfig, configuration["dataset"], "dataset")
    except (KeyError, TypeError, ValueError) as error:
        raise CommandError(f"{name}: its training configuration cannot be read: {error}") from error


def _spacing(options: argparse.Namespace, configs: dict[str, DataConfig]) -> tuple[float | None, str]:
    """Edge of a pixel, and in words where it comes from: never from a model that was trained on other data."""
    own = {config.spacing_mm for config in configs.values()}
    if options.spacing_mm is not None:
        return options.spacing_mm, f"pixels of {options.spacing_mm:g} mm, as given"
    if len(own) > 1:
        raise CommandError("The models were trained with different pixel spacings; give one with --spacing-mm.")
    spacing = next(iter(own), None)
    return spacing, "pixel spacing unknown" if spacing is None else f"pixels of {spacing:g} mm, as in training"


def _names(model: Model) -> tuple[str, ...]:
    return tuple(label.name for label in model.labels)


def _check_channels(models: Sequence[tuple[str, Model]], channels: int, data: str) -> None:
    for name, model in models:
        reads = len(model.preprocessing.channels)
        if reads != channels:
            raise CommandError(f"{data}: images of {channels} channels, {name} reads {reads}; choose fitting data.")

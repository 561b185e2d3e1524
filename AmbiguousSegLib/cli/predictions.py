"""Masks that other programs predicted, as rows of ``evaluate``: arguments, matching with the cases, reading."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from AmbiguousSegLib.cli.common import CommandError
from AmbiguousSegLib.cli.evaluation_set import EvaluationSet
from AmbiguousSegLib.data.config import PHANTOM, DataConfig
from AmbiguousSegLib.data.evaluation_cases import native_cases
from AmbiguousSegLib.data.readers import LAYOUTS, Case, read_all, with_reader
from AmbiguousSegLib.data.split import split_by_file, split_cases
from AmbiguousSegLib.files import check_name, said
from AmbiguousSegLib.inference.case_sampling import case_number
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.layouts.names import some
from AmbiguousSegLib.layouts.nnunet_predictions import Predictions, find_predictions
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.geometry import PLANES

SHEET_CASES = 6  # in the contact sheet
MASKS, DRAWS = "masks", "draws"
_STREAM = 6  # of random numbers under the seed, for thresholds

Sources = list[tuple[str, Predictions]]


def add_prediction_arguments(p: argparse.ArgumentParser) -> None:
    """Arguments that name predictions."""
    p.add_argument(
        "--predictions",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="masks of another system, one folder for each: as nnU-Net writes them, or any CASE.nii.gz; folders in it "
        "are several samples of a case",
    )
    p.add_argument("--names", nargs="+", metavar="NAME", help="of the --predictions (default: the folders')")
    p.add_argument(
        "--predictions-as",
        choices=(MASKS, DRAWS),
        default=MASKS,
        help="the masks as they are, or --samples masks drawn from the probabilities beside them, each by one "
        "threshold for the whole of it (default: masks)",
    )
    p.add_argument("--plane", choices=list(PLANES), help="of the slices to score without a model (default: axial)")


def find_all(options: argparse.Namespace) -> Sources:
    """The predictions by name; CommandError for folders that are none, and for options that have no effect."""
    if options.plane is not None and options.model:
        raise CommandError("--plane is for predictions without a model; a model's own plane counts, leave it out.")
    if not options.predictions:
        if options.names or options.predictions_as != MASKS:
            raise CommandError("--names and --predictions-as need --predictions; give the folders.")
        return []
    if options.data == PHANTOM:
        raise CommandError("--predictions are of images on disk; held-out phantoms are generated.")
    names = options.names or [Path(folder).resolve().name for folder in options.predictions]
    if len(names) != len(options.predictions):
        raise CommandError(f"--names gives {len(names)} names for {len(options.predictions)} --predictions.")
    for name in names:
        check_name(name)
        if not name.strip() or not name.isprintable():
            raise CommandError(f"--names takes names of one line that can be read, got {name!r}; give another by it.")
    try:
        return [(name, find_predictions(Path(folder))) for name, folder in zip(names, options.predictions)]
    except OSError as error:
        raise CommandError(said(error)) from error


def named(predicted: Sources, models: Sequence[tuple[str, Model]]) -> Sources:
    """Under names that tell them apart, of each other and of the models: with the folder where two agree."""
    names = [name for name, _ in (*models, *predicted)]
    found = [(f"{name} ({source.folder})" if names.count(name) > 1 else name, source) for name, source in predicted]
    names = [name for name, _ in (*models, *found)]
    if len(set(names)) < len(names):
        raise CommandError(f"{max(names, key=names.count)} is named twice; name each of --predictions once.")
    return found


def native_set(options: argparse.Namespace, predicted: Sources) -> EvaluationSet:
    """Cases of the data on their own grids, for predictions without a model.

    Raises:
        CommandError: options that do not fit; no case left. ValueError: unusable data or split.
    """
    if options.raters is not None or options.spacing_mm is not None:
        raise CommandError("--raters and --spacing-mm are for models; predictions are scored on the data's own grid.")
    if options.cases is not None and options.cases < 1:
        raise CommandError(f"--cases must be positive, got {options.cases}.")
    folder, plane = Path(options.data), options.plane or "axial"
    config = with_reader(folder, DataConfig(subject_pattern=options.subject_pattern))
    layout = LAYOUTS[config.kind](folder)
    own = next((labels for _, source in predicted if (labels := source.labels())), ())
    labels = (layout.labels if layout is not None else ()) or own or DEFAULT_LABELS
    cases, how = _part(options, read_all(folder, config, labels))
    if not cases:
        raise CommandError(f"{folder}: the {options.part} part holds no case; choose another --part or --split.")
    for name, source in predicted if options.cases is None else []:  # at once; otherwise when they are read
        _check_there(name, source, [case.identity for case in cases])
    found = native_cases(cases, len(labels), plane, options.cases, SHEET_CASES)
    if not found:
        raise CommandError(f"{folder}: no rater marks any slice of the {options.part} part; there is nothing to score.")
    note = f"{folder}: {len(found)} slices of {len(cases)} cases that a rater marks, {how}; {plane}, on their own grid"
    return EvaluationSet(tuple(label.name for label in labels), tuple(found), (), None, (note,))


def predicted_masks(
    source: Predictions, evaluation_set: EvaluationSet, options: argparse.Namespace
) -> list[np.ndarray]:
    """Masks of every case of the set, brought onto its pixels as the raters' masks were: uint8 ``(N, H, W)`` each.

    Drawn ones share a threshold over all slices of a volume; the first thresholds are the same however many there are.

    Raises:
        CommandError: cases without a prediction, or with another number of masks than others. ValueError: as
            ``Predictions.masks`` and ``draws``.
    """
    by_volume: dict[Case, list[int]] = {}
    for place, case in enumerate(evaluation_set.cases):
        if case.volume is not None:
            by_volume.setdefault(case.volume, []).append(place)
    _check_there(str(source.folder), source, [volume.identity for volume in by_volume])
    labels = tuple(Label(name) for name in evaluation_set.labels)
    counts: dict[int, str] = {}
    found: list[np.ndarray] = [np.empty(0)] * len(evaluation_set.cases)
    for volume, places in by_volume.items():
        geometry = volume.load_image()[1]
        if options.predictions_as == DRAWS:
            rng = np.random.default_rng([options.seed, _STREAM, case_number(volume.identity)])
            maps = source.draws(volume.identity, geometry, labels, rng.random(options.samples).tolist())
        else:
            maps = source.masks(volume.identity, geometry, labels)
        parts: list[list[np.ndarray]] = [[] for _ in places]
        for label_map in maps:
            for place, own in zip(places, parts):
                part_of = evaluation_set.cases[place].part_of
                if part_of is not None:
                    own.append(part_of(label_map[None]))
        for place, own in zip(places, parts):
            found[place] = np.concatenate(own)
        counts.setdefault(len(parts[0]), volume.identity)
    if len(counts) > 1:
        told = ", ".join(f"{n} of {identity}" for n, identity in sorted(counts.items()))
        raise CommandError(f"{source.folder} holds different numbers of masks ({told}); give each case as many.")
    return found


def how_taken(options: argparse.Namespace) -> str:
    """A line for tables: what a sample of the predictions is."""
    if options.predictions_as == MASKS:
        return "a sample of predictions is a mask as it was written"
    return (
        f"seed {options.seed}; a sample of predictions is what has a probability above one threshold, drawn uniformly "
        "for the whole mask: nested masks of one network's uncertainty, no model of raters"
    )


def _check_there(name: str, source: Predictions, identities: Sequence[str]) -> None:
    missing = [identity for identity in identities if not source.of(identity)]
    if missing:
        raise CommandError(
            f"{name} has no prediction of {len(missing)} of {len(identities)} cases: {some(missing)}; predict them, or "
            "choose the others by --part or --split."
        )


def _part(options: argparse.Namespace, cases: Sequence[Case]) -> tuple[Sequence[Case], str]:
    """Cases of the part asked for, and in words which those are."""
    if options.part == "all":
        if options.split is not None:
            raise CommandError("--part all takes every case; leave --split out.")
        return cases, "all parts, CASES THAT THE PREDICTING SYSTEMS WERE TRAINED ON MAY BE INCLUDED"
    if options.split is not None:
        return getattr(split_by_file(cases, options.split), options.part), f"{options.part} part of {options.split}"
    if not any(case.part for case in cases):
        raise CommandError("The data does not say which cases are for testing; give --split FILE, or --part all.")
    return getattr(split_cases(DataConfig(), cases), options.part), f"{options.part} part, as the data has it"

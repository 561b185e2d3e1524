"""``evaluate``: score models, and masks that other programs predicted, against several raters on held-out cases."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from AmbiguousSegLib import __version__
from AmbiguousSegLib.cli import ensemble_size, predictions
from AmbiguousSegLib.cli.common import CommandError, check_out, figure_writer, program, progress_bar
from AmbiguousSegLib.cli.evaluation_set import EvaluationSet, add_data_arguments, choose_cases
from AmbiguousSegLib.cli.refinement_arguments import add_refinement_arguments, refinement_asked
from AmbiguousSegLib.cli.sample import add_sampler_arguments, given_of_sampler, sampler_settings
from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.description import ONE_MASK
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.refinement import refinement_in_words
from AmbiguousSegLib.evaluation.comparison import CaseResult, Result, by_label, case_table, evaluate_case
from AmbiguousSegLib.evaluation.mode_frequencies import mode_frequencies
from AmbiguousSegLib.evaluation.tables_by_samples import most_samples, tables_of
from AmbiguousSegLib.files import said, write_together
from AmbiguousSegLib.inference.batches import OnBatchStep
from AmbiguousSegLib.inference.case_sampling import sample_case, true_masks
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.nnunet_predictions import Predictions
from AmbiguousSegLib.metrics.mask_sets import MaskSets
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.plotting.pictures import enlarged, ensemble_row, sheet, write_png
from AmbiguousSegLib.resources import find_model

HELP = "score models, or masks predicted elsewhere, against several raters on held-out cases"
TRUTH = "true distribution"
CASES_FILE, SUMMARY_FILE, TABLE_FILE = "results.csv", "summary.json", "summary.md"
FIGURE_FILE, SHEET_FILE = "figure.png", "samples.png"
_SHEET_RATERS, _SHEET_SAMPLES, _SHEET_PIXELS = 4, 8, 96

Draw = Callable[[int, int, OnBatchStep], np.ndarray]  # number of a case, how many masks -> uint8 (N, H, W)


@dataclass(frozen=True)
class Candidate:
    """A source of masks: a model with its sampler, or (no model) predictions or the true distribution.

    ``most`` is how many masks of a case it has; None: as many as are asked for.
    """

    name: str
    draw: Draw
    model: Model | None = None
    settings: SamplerSettings | None = None
    method: str = "exact"
    sampler: str = "independent draws"
    most: int | None = None

    def result(self, cases: Sequence[CaseResult], label: str) -> Result:
        """What its cases come to, of one label or of all."""
        if self.model is None:
            return Result(self.name, self.method, self.sampler, tuple(cases), label=label)
        method = self.model.method
        sampler = "one pass" if self.settings is None else self.settings.in_words(method.sampler_family)
        return Result(self.name, method.name, sampler, tuple(cases), self.model.weights_sha256, label)


def parser() -> argparse.ArgumentParser:
    """Arguments of the subcommand."""
    p = argparse.ArgumentParser(prog=program("evaluate"), description=HELP, allow_abbrev=False)
    p.add_argument("--model", nargs="+", default=[], metavar="MODEL", help="model folders, or names of bundled ones")
    predictions.add_prediction_arguments(p)
    add_data_arguments(p)
    p.add_argument("--samples", type=int, default=16, metavar="N", help="masks per case (default: 16)")
    p.add_argument(
        "--mode-samples", type=int, default=64, metavar="N", help="masks per phantom case for frequencies (default: 64)"
    )
    add_sampler_arguments(p)
    add_refinement_arguments(p)
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same masks (default: 0)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_argument("--batch-size", type=int, default=16, metavar="B", help="masks computed together (default: 16)")
    ensemble_size.add_ensemble_arguments(p)
    p.add_argument("--out", type=Path, required=True, help="folder for tables, figure and pictures")
    p.add_argument("--overwrite", action="store_true", help="replace an earlier evaluation in --out")
    p.add_argument("--no-figure", action="store_true", help=f"leave {FIGURE_FILE} out (it needs matplotlib)")
    return p


def main(arguments: list[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parser().parse_args(arguments)
    write_figure = _checked(options)  # None: none is wanted
    sizes, draw_sizes = ensemble_size.ensemble_sizes(options), None
    if sizes is not None and write_figure is not None:
        draw_sizes = ensemble_size.chart_writer()
    predicted = predictions.find_all(options)
    models = _load_models(options)
    evaluation_set = choose_cases(options, models) if models else predictions.native_set(options, predicted)
    candidates = [_candidate(name, model, evaluation_set, options) for name, model in models]
    candidates += [
        _predicted(name, source, evaluation_set, options) for name, source in predictions.named(predicted, models)
    ]
    if evaluation_set.phantoms:
        candidates.append(_truth(evaluation_set, options.seed))
    results, rows = _run(candidates, evaluation_set, options, sizes)
    alike = [f"{c.name}: {ONE_MASK}" for c in candidates if c.model is not None and c.model.method.deterministic]
    tables = tables_of(results, [*evaluation_set.notes, *_notes(results, options), *alike])
    summary = {
        "format_version": 1,
        "software": f"AmbiguousSegLib {__version__}",
        "settings": {key: str(v) if isinstance(v, Path) else v for key, v in vars(options).items()},
        "samplers": {c.name: None if c.settings is None else to_dict(c.settings) for c in candidates},
        "spacing_mm": evaluation_set.spacing_mm,
        "labels": list(evaluation_set.labels),
        "cases": [case.identity for case in evaluation_set.cases],
        "results": [result.as_dict() for result in results],
        "table": tables[0].as_dict(),
    }
    if len(tables) > 1:  # by the number of samples
        summary["more_tables"] = [table.as_dict() for table in tables[1:]]
    text = "\n".join(table.markdown() for table in tables)
    order = f"{SHEET_FILE}: image, raters, samples, mean of the samples; per case the rows are " + ", ".join(
        candidate.name for candidate in candidates
    )

    def write(place: Path) -> list[str]:
        (place / CASES_FILE).write_text(case_table(results).csv(), encoding="utf-8")
        (place / TABLE_FILE).write_text(f"{text}\n{order}.\n", encoding="utf-8")
        content = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
        (place / SUMMARY_FILE).write_text(content + "\n", encoding="utf-8")
        write_png(
            place / SHEET_FILE, enlarged(sheet(rows), max(1, _SHEET_PIXELS // evaluation_set.cases[0].image.shape[-1]))
        )
        if write_figure is not None:
            write_figure(place / FIGURE_FILE, most_samples(results))
        ensembles = [] if sizes is None else sizes.write(place, evaluation_set.notes, draw_sizes)
        return [*_files(options), *ensembles]

    # What is not always written goes with the evaluation that is replaced, also where none follows it.
    write_together(options.out, write, surplus=[FIGURE_FILE, *ensemble_size.FILES])
    print("\n".join(table.text() for table in tables), end="")
    return 0


def _checked(options: argparse.Namespace) -> Callable[[Path, Sequence[Result]], None] | None:
    """What writes the figure, None if none is wanted; CommandError for what can be refused at once."""
    for name in ("samples", "mode_samples", "batch_size"):
        if getattr(options, name) < 1:
            raise CommandError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}.")
    if not 0 <= options.seed < 2**63:
        raise CommandError(f"--seed must lie in [0, 2**63), got {options.seed}.")
    if refinement_asked(options) is not None and not options.model:
        raise CommandError("--refine belongs to models, which are sampled; leave it out with --predictions alone.")
    check_out(options.out, (*_files(options), FIGURE_FILE, *ensemble_size.FILES), options.overwrite)
    return None if options.no_figure else figure_writer(FIGURE_FILE)


def _files(options: argparse.Namespace) -> list[str]:
    return [CASES_FILE, SUMMARY_FILE, TABLE_FILE, SHEET_FILE, *([] if options.no_figure else [FIGURE_FILE])]


def _load_models(options: argparse.Namespace) -> list[tuple[str, Model]]:
    """Models under names that tell them apart: the card's, with the folder where two cards agree."""
    if not options.model and not options.predictions:
        raise CommandError("Nothing to score: give --model, --predictions, or both.")
    device = choose_device(options.device)
    try:
        folders = [find_model(name) for name in options.model]
        models = [load_model(folder, device) for folder in folders]
    except FileNotFoundError as error:
        raise CommandError(said(error)) from error
    given = given_of_sampler(options)
    if given and not any(model.method.samples_by_steps for model in models):
        raise CommandError(f"No model has a sampler: {', '.join(given)} have no effect here; leave them out.")
    names = [model.card.name for model in models]
    names = [f"{n} ({f})" if (*names, TRUTH).count(n) > 1 else n for n, f in zip(names, folders)]
    if len(set(names)) < len(names):
        raise CommandError(f"{max(names, key=names.count)} is named twice by --model; name each model once.")
    return list(zip(names, models))


def _candidate(name: str, model: Model, evaluation_set: EvaluationSet, options: argparse.Namespace) -> Candidate:
    settings = sampler_settings(model, options) if model.method.samples_by_steps else None
    config = refinement_asked(options)
    refine = None if config is None else (config, len(model.preprocessing.channels))

    def draw(number: int, samples: int, on_step: OnBatchStep) -> np.ndarray:
        case, used = evaluation_set.cases[number], settings or model.sampling
        how = (options.seed, used, options.batch_size, on_step, refine)
        return sample_case(model.method, case.identity, case.image, samples, *how)

    return Candidate(name, draw, model, settings)


def _predicted(name: str, source: Predictions, evaluation_set: EvaluationSet, options: argparse.Namespace) -> Candidate:
    found = predictions.predicted_masks(source, evaluation_set, options)

    def draw(number: int, samples: int, on_step: OnBatchStep) -> np.ndarray:
        return found[number][:samples]

    draws = options.predictions_as == "draws"
    sampler = "thresholds of probabilities" if draws else "as written"
    method = "nnunet" if source.described else "files"
    return Candidate(name, draw, method=method, sampler=sampler, most=len(found[0]))


def _truth(evaluation_set: EvaluationSet, seed: int) -> Candidate:
    """What a perfect model would score: masks of more raters."""

    def draw(number: int, samples: int, on_step: OnBatchStep) -> np.ndarray:
        return true_masks(evaluation_set.phantoms[number], evaluation_set.cases[number].identity, samples, seed)

    return Candidate(TRUTH, draw)


def _run(
    candidates: Sequence[Candidate],
    evaluation_set: EvaluationSet,
    options: argparse.Namespace,
    sizes: ensemble_size.EnsembleSizes | None,
) -> tuple[list[Result], list[list[np.ndarray | None]]]:
    """Results of each candidate, number of samples and label, and the rows of the contact sheet: of the first cases,
    one per candidate.

    Where a candidate has fewer masks than are asked for, the first so many of all others are scored beside it.
    """
    modes: list[tuple[np.ndarray, np.ndarray] | None] = [p.distinct_modes() for p in evaluation_set.phantoms]
    modes = modes or [None] * len(evaluation_set.cases)
    # More masks than are scored are drawn only where there are modes to count; the first are the same either way.
    most = max(options.samples, options.mode_samples)
    draws = [most if mode is not None and len(mode[1]) >= 2 else options.samples for mode in modes]
    numbers = sorted({min(c.most or options.samples, options.samples) for c in candidates}, reverse=True)
    total, done = len(candidates) * sum(draws), 0
    found: list[dict[tuple[int, str], list[CaseResult]]] = [{} for _ in candidates]
    pictures, classes, first = [], len(evaluation_set.labels), evaluation_set.cases[0].image.shape

    def on_step(rows: int, step: int, steps: int) -> None:
        nonlocal done
        advance((done + rows * step / steps) / total)
        done += rows if step == steps else 0

    with progress_bar("evaluating") as advance:
        for number, (case, mode, count) in enumerate(zip(evaluation_set.cases, modes, draws)):
            for place, (candidate, results) in enumerate(zip(candidates, found), start=1):
                masks = candidate.draw(number, count, on_step)
                done = len(candidates) * sum(draws[:number]) + place * count
                for n in numbers:
                    if n > len(masks):
                        continue
                    sets = MaskSets(masks[:n], case.masks, classes, spacing_mm=evaluation_set.spacing_of(case))
                    for label, of_label in by_label(sets, evaluation_set.labels).items():
                        results.setdefault((n, label), []).append(evaluate_case(case.identity, of_label))
                    if mode is not None and len(mode[1]) >= 2:  # what comes last is of all labels
                        frequencies = mode_frequencies(masks[: options.mode_samples], mode[0], classes)
                        last = results[n, label][-1]
                        told = replace(last, mode_frequencies=frequencies, mode_probabilities=mode[1])
                        results[n, label][-1] = told
                scored = masks[: options.samples]
                if sizes is not None:
                    sets = MaskSets(scored, case.masks, classes, spacing_mm=evaluation_set.spacing_of(case))
                    sizes.add(candidate.name, case.identity, case.subject, sets, evaluation_set.labels)
                if number < predictions.SHEET_CASES and case.image.shape == first:
                    labels = _labels(candidates, evaluation_set)
                    pictures.append(ensemble_row(case.image, case.masks, scored, _SHEET_RATERS, _SHEET_SAMPLES, labels))
    results_of = zip(candidates, found)
    return [c.result(cases, label) for c, own in results_of for (_, label), cases in own.items()], pictures


def _labels(candidates: Sequence[Candidate], evaluation_set: EvaluationSet) -> tuple[Label, ...]:
    own = tuple(Label(name) for name in evaluation_set.labels)
    return next((candidate.model.labels for candidate in candidates if candidate.model is not None), own)


def _notes(results: Sequence[Result], options: argparse.Namespace) -> list[str]:
    """How the masks were drawn."""
    levels = "binarised at the midpoint of the two mask levels"
    cut = "given the largest class, background among them" if results[0].label else levels
    lines = [f"seed {options.seed}; a sample is {cut}"] if options.model else []
    lines += [predictions.how_taken(options)] if options.predictions else []
    if (refine := refinement_asked(options)) is not None:
        lines.append(refinement_in_words(refine.in_json()))
    modes = next(result for result in results if result.overall).modes()
    if modes is not None:
        lines.append(
            f"mode corr.: Pearson's correlation between a mode's frequency among {options.mode_samples} samples, each "
            f"given to the mode of largest IoU, and its true probability, over all {modes.pairs} pairs (case, mode) of "
            f"the {modes.cases} cases with two or more modes; {TRUTH}: as many true draws, a perfect model's score"
        )
    return lines

"""``study``: plausible segmentations of many volumes, one after another, and one table of all."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from AmbiguousSegLib.cli.common import CommandError, check_out, program
from AmbiguousSegLib.cli.computation import add_computation_arguments, computation_of
from AmbiguousSegLib.cli.refinement_arguments import (
    add_fusion_argument,
    add_refinement_arguments,
    check_fusion,
    refinement_asked,
)
from AmbiguousSegLib.files import check_name, said
from AmbiguousSegLib.quality import Quality
from AmbiguousSegLib.studies.jobs import LEFT_OUT, Job, Row, find_jobs, shard_of, with_models
from AmbiguousSegLib.studies.requests import pointing_of
from AmbiguousSegLib.studies.settings import printable, with_config, write_settings

if TYPE_CHECKING:
    from AmbiguousSegLib.model import Model
    from AmbiguousSegLib.studies.runner import Sample
    from AmbiguousSegLib.studies.sampling import WriteScene

HELP = "sample many volumes, and write one table of all"
MakeSampler = Callable[[argparse.Namespace], "Sample"]
_EPILOG = """
Each INPUT is a volume, a folder (every volume and DICOM series below it), or a table (.csv, .json) with a row for each
volume: columns name, subject, model, seed, series, slice_first and slice_last, region, point_x .. point_z (LPS mm) or
point_r .. point_s (RAS mm), window_mm, raters (files separated by semicolons) or rater_NAME; every other column is a
channel. What is done with the same settings is skipped. Exit code: 0 if every volume is done, 1 if some failed or the
study was stopped, 2 if nothing could be started.
"""


def study_parser(prog: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """Arguments of a study, read without torch."""
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(prog, None, description, epilog, formatter_class=form, allow_abbrev=False)
    p.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="volume, folder, .csv or .json")
    p.add_argument("--config", type=Path, metavar="YAML", help="settings of a study, as study.yaml holds them")
    series_help = "which of several DICOM series or volumes of the one INPUT, as the message that lists them names it"
    p.add_argument("--series", metavar="UID", help=series_help)
    model_help = "model folder, or name of a bundled model (default: the bundled one); several times: each of them"
    p.add_argument("--model", action="append", help=model_help)
    p.add_argument("--out", type=Path, help="folder for the results")
    p.add_argument("--samples", type=int, default=8, help="segmentations per volume (default 8)")
    p.add_argument("--seed", type=int, default=0, help="seed, unless the table gives one (default 0)")
    p.add_argument("--spacing-mm", type=float, help="size of a pixel of pictures, which do not tell it")
    p.add_argument("--sampler", help="sampler (default: the model's)")
    p.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    p.add_argument("--grid", help="which of the training steps they are, such as trailing (default: the model's)")
    p.add_argument(
        "--quality",
        choices=[q.value for q in Quality],
        help="in place of sampler, steps and grid; a model's card says what each gives",
    )
    window_help = "size of what is looked at around a row's point (default: the model's field of view)"
    p.add_argument("--window", type=float, metavar="MM", help=window_help)
    grow_help = "sample again in a larger window where its border cuts off what is marked around a point"
    p.add_argument("--grow-window", action="store_true", help=grow_help)
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps ... (default: a GPU if there is one)")
    add_computation_arguments(p)
    add_refinement_arguments(p)
    add_fusion_argument(p)
    p.add_argument("--shard", type=shard_of, metavar="I/N", help="of a job array: every N-th volume from the I-th on")
    p.add_argument("--overwrite", action="store_true", help="sample again what is done already")
    p.set_defaults(mrb=False)
    return p


def main(arguments: list[str]) -> int:
    """Run the subcommand; the exit code."""
    return run(study_parser(program("study"), HELP, _EPILOG), arguments, library_sampler)


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    make_sampler: MakeSampler,
    check_packages: Callable[[], None] = lambda: None,
    remedy: Callable[[], str] = lambda: "",
    extra: Callable[[argparse.Namespace], tuple[str, ...]] = lambda _options: (),
) -> int:
    """Run a study and return the exit code; ``SystemExit`` where argparse has said why.

    Args:
        make_sampler: loads models and gives what samples a job; ImportError, OSError or ValueError if it cannot be.
        check_packages: raises ImportError for what is missing, before anything is loaded.
        remedy: what is said behind an ImportError.
        extra: files that each case has beside the library's own.
    """
    from AmbiguousSegLib.processes import PeerError, processes_of_run

    def nothing_started(error: Exception) -> int:
        after = remedy() if isinstance(error, ImportError) else ""
        print(printable(f"Nothing was started. {error}{f'. {after}' if after else ''}"), file=sys.stderr)
        return 2

    try:
        options = parser.parse_args(with_config(arguments, parser))
        jobs, left_out = _jobs(options)
        check_packages()
    except (ImportError, OSError, ValueError) as error:
        return nothing_started(error)
    try:
        with ExitStack() as until_the_end:
            try:
                processes = until_the_end.enter_context(processes_of_run())
                first = processes is None or processes.first
                from AmbiguousSegLib.studies.progress import Progress

                options.progress = Progress(len(jobs), *_teller(first))
                sample = make_sampler(options)
                from AmbiguousSegLib.studies import runner
            except (ImportError, OSError, ValueError) as error:
                return nothing_started(error)
            if processes is None:
                until_the_end.enter_context(runner.stopped_by_signal())
            try:
                rows = _sampled(jobs, left_out, options, sample, extra(options), processes)
            except runner.StudyError as error:
                print(printable(f"Stopped. {error}"), file=sys.stderr)
                return 1
            except (runner.StoppedError, KeyboardInterrupt):
                told = f"Stopped. What is finished is kept, and the same command goes on from there; see {options.out}."
                print(printable(told), file=sys.stderr)
                return 1
    except PeerError as error:
        print(f"Stopped. {error}", file=sys.stderr)
        return 1
    if not first:
        return 0
    return _summed_up(rows, options)


def _jobs(options: argparse.Namespace) -> tuple[list[Job], list[Row]]:
    """What there is to do, checked as far as it can be before a model is loaded; settles ``options.models``."""
    from AmbiguousSegLib.resources import find_model

    if not options.inputs or options.out is None:
        raise ValueError("Give at least one INPUT, and --out for the results; --help says more.")
    try:
        check_out(options.out, (), overwrite=True)
    except CommandError as error:
        raise ValueError(str(error)) from error
    check_name(options.out)
    jobs, left_out = find_jobs(options.inputs, options.out, options.series)
    if (options.window is not None or options.grow_window) and all(job.point_mm is None for job in jobs):
        raise ValueError("--window and --grow-window belong to points; name points in the columns of a table.")
    for job in jobs:
        pointing_of(job, options)  # a size that is none fails here, before the model is loaded
    needed = options.model or any(job.model is None for job in jobs)
    models = [find_model(name) for name in options.model or [None]] if needed else [j.model for j in jobs if j.model]
    jobs = with_models(jobs, models[:1] if not needed else models)
    options.model = models[0]
    options.models = list(dict.fromkeys(job.model for job in jobs if job.model is not None))
    if options.shard is not None:
        number, count = options.shard
        jobs = jobs[number - 1 :: count]
    return jobs, left_out if options.shard is None or options.shard[0] == 1 else []


def _sampled(
    jobs: Sequence[Job],
    left_out: Sequence[Row],
    options: argparse.Namespace,
    sample: Sample,
    extra: tuple[str, ...],
    processes: object,
) -> list[Row]:
    from AmbiguousSegLib.studies.places import sweep
    from AmbiguousSegLib.studies.report_files import ReportFiles
    from AmbiguousSegLib.studies.runner import Study, StudyError, run_jobs
    from AmbiguousSegLib.studies.sampling import judge_again

    try:
        options.out.mkdir(parents=True, exist_ok=True)
        sweep(options.out, [job.name for job in jobs if not job.problem])
        if processes is None or processes.first:  # type: ignore[attr-defined]
            write_settings(options.out / "study.yaml", options)
    except OSError as error:
        raise StudyError(said(error)) from error
    refine = refinement_asked(options)
    report = ReportFiles(jobs, options)
    study = Study(options, sample, _say, report.write, options.progress, judge_again, refine, extra)
    return run_jobs(jobs, study, left_out, processes)  # type: ignore[arg-type]


def _summed_up(rows: Sequence[Row], options: argparse.Namespace) -> int:
    from AmbiguousSegLib.studies.case import CASE, NOTHING
    from AmbiguousSegLib.studies.requests import read_object

    count = Counter(row.status for row in rows)
    empty = 0
    for row in rows:
        case = read_object(options.out / row.name / CASE) if row.status in ("done", "skipped") else None
        nothing = case is not None and NOTHING in case.get("flags", [])
        empty += nothing
        told = f"{row.message or row.warnings}{f' ({NOTHING})' if nothing else ''}"
        _say(f"{row.status:8s} {row.name} {told}")
    told = ", ".join(f"{count[status]} {status}" for status in ("done", "skipped", "failed"))
    told += f", {count[LEFT_OUT]} left out" if count[LEFT_OUT] else ""
    told += f"; in {empty} {NOTHING}" if empty else ""
    _say(f"{told}; report in {options.out}")
    return 1 if count["failed"] else 0


def library_sampler(options: argparse.Namespace, write_scene: WriteScene | None = None) -> Sample:
    """What samples a job with its model, the one that was used last being kept.

    Every model is loaded once here: ImportError, OSError or ValueError if one cannot be, or settings do not fit it.
    """
    import torch  # noqa: F401  (first: where it is missing, scipy fails in words that say nothing)

    from AmbiguousSegLib.cli.sample import sampler_settings
    from AmbiguousSegLib.devices import device_of_process
    from AmbiguousSegLib.inference.volume_sampling import SampleRequest
    from AmbiguousSegLib.model import load_model
    from AmbiguousSegLib.studies.sampling import CaseSampler

    loaded: dict[Path, tuple[Model, dict]] = {}

    def ready(folder: Path) -> tuple[Model, dict]:
        if folder not in loaded:
            loaded.clear()
            model = load_model(folder, device_of_process(options.device))
            settings = {"sampler": sampler_settings(model, options)}
            loaded[folder] = model, settings | {"computation": computation_of(options, model.method, model.device)}
        return loaded[folder]

    try:
        refine = refinement_asked(options)
        check_fusion(options)
        for folder in reversed(getattr(options, "models", [options.model])):
            model, _ = ready(folder)
            _say(f"Model {model.card.name!r} on {model.device}, {model.card.intended_use}")
    except CommandError as error:
        raise ValueError(str(error)) from error
    case = CaseSampler(options.spacing_mm, options.fuse, options.progress.advance, write_scene)

    def sample(job: Job, place: Path) -> None:
        model, settings = ready(job.model or options.model)
        request = SampleRequest(
            options.samples,
            seed=options.seed if job.seed is None else job.seed,
            slice_range=job.slices,
            region=job.region,
            pointing=pointing_of(job, options),
            refine=refine,
            **settings,
        )
        case.sample(model, job, request, place)

    return sample


def _say(line: str) -> None:
    print(printable(line), flush=True)


def _teller(first: bool) -> tuple[Callable[[str], None], bool]:
    """What takes lines of progress, and whether they replace each other, as on a terminal."""
    terminal = bool(getattr(sys.stderr, "isatty", lambda: False)())

    def tell(line: str) -> None:
        if first:
            text = printable(line)
            print(f"\r{text:<79}\r" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)

    return tell, terminal

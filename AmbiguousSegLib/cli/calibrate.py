"""``calibrate``: fit what a model's samples are worth to several raters of its validation cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from AmbiguousSegLib.calibration.fit import Drawn, fit
from AmbiguousSegLib.calibration.parts import LEVELS
from AmbiguousSegLib.cli.common import CommandError, program, progress_bar
from AmbiguousSegLib.cli.evaluation_set import EvaluationSet, add_data_arguments, choose_cases
from AmbiguousSegLib.cli.quality_arguments import add_quality_argument
from AmbiguousSegLib.cli.sample import add_sampler_arguments, sampler_settings
from AmbiguousSegLib.data.config import PHANTOM
from AmbiguousSegLib.description import DESCRIPTION_FILE, write_calibration
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.evaluation.calibration_table import calibration_table
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.model import load_model
from AmbiguousSegLib.resources import find_model

HELP = "fit what a model's samples are worth to several raters of validation cases"
PART = "validation"  # test cases calibrate nothing: what is promised is measured on them
NUMBERS = (4, 8, 16, 32)


def parser() -> argparse.ArgumentParser:
    """Arguments of the subcommand."""
    p = argparse.ArgumentParser(
        prog=program("calibrate"),
        description=f"{HELP}; the result goes into the model's {DESCRIPTION_FILE}, in place of an earlier one of the "
        "same sampler. Test cases are never used.",
        allow_abbrev=False,
    )
    p.add_argument("--model", required=True, help="model folder, which is written to; no bundled model")
    add_data_arguments(p, PART)
    p.add_argument("--data-name", metavar="TEXT", help="what the cases are, for the description (default: the folder)")
    numbers = " ".join(map(str, NUMBERS))
    p.add_argument(
        "--samples",
        type=int,
        nargs="+",
        default=list(NUMBERS),
        metavar="N",
        help=f"for which numbers of samples; as many as the greatest are drawn of each case (default: {numbers})",
    )
    levels = " ".join(f"{level:g}" for level in LEVELS)
    p.add_argument(
        "--levels", type=float, nargs="+", default=list(LEVELS), help=f"of the intervals of area (default: {levels})"
    )
    add_quality_argument(p)
    add_sampler_arguments(p)
    p.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_argument("--batch-size", type=int, default=16, metavar="B", help="masks computed together (default: 16)")
    return p


def main(arguments: list[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parser().parse_args(arguments)
    if min(options.samples) < 1 or options.batch_size < 1:
        raise CommandError(
            f"--samples and --batch-size must be at least 1, got {min(options.samples)} and {options.batch_size}."
        )
    if not 0 <= options.seed < 2**63:
        raise CommandError(f"--seed must lie in [0, 2**63), got {options.seed}.")
    if not all(0 < level < 1 for level in options.levels):
        raise CommandError(f"--levels must lie between 0 and 1, got {options.levels}; .95 is 95 %.")
    folder = find_model(options.model)
    if not Path(options.model).is_dir():
        raise CommandError(
            f"{options.model} is a bundled model, whose {DESCRIPTION_FILE} others read; copy its folder {folder}, and "
            "give the copy by its path."
        )
    model = load_model(folder, choose_device(options.device))
    if len(model.labels) > 1:
        raise CommandError(f"{folder}: calibration is of one label, this model has {len(model.labels)}; take another.")
    settings = sampler_settings(model, options)
    chosen = choose_cases(options, [(model.card.name, model)])
    numbers, drawn = sorted(set(options.samples)), []
    with progress_bar("calibrating") as advance:
        for done, case in enumerate(chosen.cases, start=1):
            masks = sample_case(
                model.method, case.identity, case.image, numbers[-1], options.seed, settings, options.batch_size
            )
            drawn.append(Drawn(case.subject or case.identity, masks, case.masks))
            advance(done / len(chosen.cases))
    sampling = settings if model.method.samples_by_steps else None
    calibration = fit(drawn, numbers, sampling, _name(options, chosen), sorted(set(options.levels)))
    write_calibration(folder, calibration)
    print(calibration_table(calibration).text(), end="")
    print(f"{folder / DESCRIPTION_FILE} has it; what it promises is to be measured on test cases.")
    return 0


def _name(options: argparse.Namespace, chosen: EvaluationSet) -> str:
    data = options.data_name or (PHANTOM if options.data == PHANTOM else Path(options.data).resolve().name)
    patients = len({case.subject or case.identity for case in chosen.cases})
    return f"{data}, {PART} part: {len(chosen.cases)} cases of {patients} patients"

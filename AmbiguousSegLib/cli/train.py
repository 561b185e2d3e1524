"""``train``: train a method from a configuration file."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from AmbiguousSegLib.cli.common import CommandError, program, progress_bar, said_of_arguments
from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.data.readers import AUTO
from AmbiguousSegLib.devices import device_of_process
from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.files import check_name, said
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.text_files import parse_yaml
from AmbiguousSegLib.training.config import TrainingConfig, completed, lifted
from AmbiguousSegLib.training.config_file import SECTIONS, laid_over, read_config
from AmbiguousSegLib.training.dataset import open_data
from AmbiguousSegLib.training.plan import plan_for
from AmbiguousSegLib.training.plan_file import in_words
from AmbiguousSegLib.training.start import check_start, config_from
from AmbiguousSegLib.training.trainer import Trainer
from AmbiguousSegLib.volume.input_check import compare_inputs

log = logging.getLogger(__name__)

HELP = "train a method from a configuration file"


def main(arguments: list[str]) -> int:
    """Run the subcommand; its exit code."""
    try:
        import jsonargparse  # noqa: F401
        from tqdm import tqdm
    except ImportError as error:
        raise CommandError(f"Training needs {error.name}; install AmbiguousSegLib[train].") from error
    base, start = _base(arguments)
    options, config = parse(arguments, base)
    if start is not None:
        check_start(config, start)
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = _join_processes(options.device, processes)
    try:
        with tqdm(unit="case", desc="reading", disable=rank > 0, leave=False) as reading:

            def read(cases: int, of: int) -> None:
                reading.total = of
                reading.update(cases - reading.n)

            data = open_data(config, options.data, read)
        if start is not None and start.inputs is not None and rank == 0:
            for note in compare_inputs(start.inputs, data.inputs, start.preprocessing):
                log.warning("The images differ from those of the model that is started from. %s", note)
        begin = None if start is None else start.method
        trainer = Trainer(data, options.out, device, options.resume, begin, rank, processes)
        config = data.config
        total = config.optimisation.images
        with tqdm(total=total, initial=trainer.progress.images, unit="img", disable=rank > 0) as bar:
            writer = _tensorboard(options.out) if config.tensorboard and rank == 0 else None

            def show(images: int, total: int, losses: dict[str, float]) -> None:
                bar.update(images - bar.n)
                bar.set_postfix({name: f"{value:.4f}" for name, value in losses.items()}, refresh=False)
                if writer is not None:
                    for name, value in losses.items():
                        writer.add_scalar(f"loss/{name}", value, images)

            finished = trainer.run(show)
        if writer is not None:
            writer.close()
    finally:
        if processes > 1:
            torch.distributed.destroy_process_group()
    if rank == 0 and not finished:
        print(f"Stopped at {trainer.progress.images} images; the same command with --resume goes on.", file=sys.stderr)
    elif rank == 0:
        best = trainer.progress
        if best.best_ged is None:
            print(f"{options.out / 'model'}: model of the end, at {best.best_images} images, not validated")
        else:
            told = f"at {best.best_images} images, validation GED {best.best_ged:.4f}"
            print(f"{options.out / 'model'}: best model, {told}")
    return 0


def _base(arguments: list[str]) -> tuple[list[dict[str, Any]], Model | None]:
    """Configurations that lie below those of the command line, and the model to start from.

    Without a file, a run that is resumed goes on as it began, and any other on a folder of data is planned first.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--config", "--from", "--dataset.kind", "--dataset.subject_pattern", "--labels", "--device"):
        early.add_argument(name, dest=name.strip("-").replace(".", "_"))
    for name in ("--data", "--out"):
        early.add_argument(name, type=Path, dest=name.strip("-"))
    early.add_argument("--resume", action="store_true")
    try:
        known, _ = early.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise CommandError(str(error)) from error
    if known.out is not None:
        check_name(known.out)
    start = None if vars(known)["from"] is None else load_model(find_model(vars(known)["from"]), torch.device("cpu"))
    below: list[dict[str, Any]] = []
    if known.config is None and known.data is not None and "--help" not in arguments:
        earlier = None if known.out is None else known.out / "config.json"
        if known.resume and earlier is not None and earlier.is_file():
            below.append(_read_config(str(earlier)))
        elif int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise CommandError("Several processes need one plan: write it with plan, and give it with --config.")
        else:
            below.append(_planned(known, start is not None and start.preprocessing.point_sigma_mm is not None))
    if start is not None:
        taken, planned = config_from(start), below[0] if below else {}
        below = [{**planned, **taken, "dataset": {**planned.get("dataset", {}), **taken["dataset"]}}]
    return below, start


def parse(arguments: list[str], below: Sequence[dict[str, Any]] = ()) -> tuple[Any, TrainingConfig]:
    """Options and configuration from a command line.

    Later files are laid over earlier ones, and keys on the command line over all files. A method that is named over
    another one starts from its own defaults: what is below says of its network (``method_config``) is left out.

    Args:
        below: configurations over which those of the command line are laid.

    Raises:
        CommandError: unknown preset, unreadable file, unknown method, unknown key or value of the wrong type; the key
            is named.
    """
    import jsonargparse

    # The method decides which keys method_config has, so files are read before the real parser is made.
    method, below_line, rest = _read_early(arguments, below)
    parser = _parser(method)
    try:
        parsed = parser.parse_args(["--config", json.dumps(below_line), *rest])
        settings = parsed.as_dict() | {"method": method}
        given = {key: value for key, value in settings["method_config"].items() if (key, value) != ("classes", None)}
        settings["method_config"] = given
        config = from_dict(TrainingConfig, {f.name: settings[f.name] for f in dataclasses.fields(TrainingConfig)})
        config = completed(config)
        if METHODS[method].samples_by_steps:
            samplers.check(config.sampling, METHODS[method].sampler_family)
    except (jsonargparse.ArgumentError, ValueError, TypeError, OverflowError) as error:
        raise CommandError(said_of_arguments(error)) from error
    return parsed, config


def _read_early(arguments: list[str], below: Sequence[dict[str, Any]]) -> tuple[str, dict[str, Any], list[str]]:
    """The method, all configurations laid over each other, and the arguments that name neither."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--config", action="append", default=[])
    early.add_argument("--method")
    early.add_argument("--card.label", dest="label")  # old names: see training.config.lifted
    early.add_argument("--sampling.eta", dest="eta", type=float)
    try:
        known, rest = early.parse_known_args(arguments)
        old: dict[str, Any] = {} if known.label is None else {"card": {"label": known.label}}
        old |= {} if known.eta is None else {"sampling": {"eta": known.eta}}
        if known.label is not None and any(word.partition("=")[0] == "--labels" for word in rest):
            raise CommandError("--card.label is now called --labels; give --labels alone.")
        named = {} if known.method is None else {"method": known.method}
        config = laid_over([*below, *map(_read_config, known.config), lifted(old), named])
    except (argparse.ArgumentError, ValueError) as error:
        raise CommandError(str(error)) from error
    method = config.get("method", TrainingConfig.method)
    if not isinstance(method, str) or method not in METHODS:
        raise CommandError(f"Unknown method {method!r}; known: {', '.join(METHODS)}.")
    return method, config, rest


def _parser(method: str) -> Any:
    import jsonargparse

    defaults = to_dict(TrainingConfig())
    parser = jsonargparse.ArgumentParser(prog=program("train"), description=HELP, exit_on_error=False)
    config_help = (
        "YAML file, or name of a bundled preset; of several, later ones are laid over earlier ones, and one of "
    )
    config_help += "another method leaves out their method_config"
    parser.add_argument("--config", action="config", help=config_help)
    parser.add_argument("--out", type=Path, required=True, help="folder for model, checkpoint, log and pictures")
    parser.add_argument("--data", type=Path, default=None, help="folder of cases, or file that lists them")
    from_help = "folder or name of a model to start from, on new cases or raters"
    parser.add_argument("--from", type=str, default=None, help=from_help)
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    parser.add_argument("--method", type=str, default=method, help=", ".join(METHODS))
    parser.add_class_arguments(METHODS[method].Config, "method_config")
    if "method_config.classes" in parser.get_defaults():
        parser.set_defaults({"method_config.classes": None})  # follows from the labels
    labels_help = "what the values 1, 2, … of the masks are: [{name: core}, {name: halo, color: [0, 0.5, 1]}]"
    parser.add_argument("--labels", type=list, default=defaults["labels"], help=labels_help)
    for name, section in SECTIONS.items():
        parser.add_class_arguments(section, name)
    # Of the family that the method takes; for a method of one pass it is never read.
    parser.set_defaults({"sampling.name": samplers.names_of(METHODS[method].sampler_family)[0]})
    parser.add_argument("--checkpoint_every_images", type=int, default=defaults["checkpoint_every_images"])
    parser.add_argument("--tensorboard", type=bool, default=False)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _read_config(name: str) -> dict[str, Any]:
    try:
        return read_config(name)
    except OSError as error:
        raise CommandError(said(error)) from error


def _planned(known: argparse.Namespace, pointed: bool) -> dict[str, Any]:
    """A configuration planned for the data and this machine, and for a point or none; what was chosen is told."""
    with progress_bar("looking at the data to plan") as bar:
        made = plan_for(
            known.data,
            known.dataset_kind or AUTO,
            _labels_given(known.labels),
            device=known.device or "auto",
            subject_pattern=known.dataset_subject_pattern,
            pointed=pointed,
            on_case=lambda number, of: bar(number / of),
        )
    for line in in_words(made).splitlines():
        log.info("%s", line)
    return made.config


def _labels_given(text: str | None) -> tuple[Label, ...] | None:
    if text is None:
        return None
    return from_dict(TrainingConfig, {"labels": parse_yaml(text, "--labels")}, "").labels


def _join_processes(device: str, processes: int) -> torch.device:
    """The device of this process; under torchrun also the process group."""
    chosen = device_of_process(device)
    if processes == 1:
        return chosen
    torch.distributed.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo", timeout=datetime.timedelta(minutes=30)
    )
    return chosen


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise CommandError("tensorboard: true needs TensorBoard; install AmbiguousSegLib[train].") from error
    return SummaryWriter(str(folder / "tensorboard"))

"""``plan``: a training configuration that fits the data and the machine."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from AmbiguousSegLib.cli.common import CommandError, program, progress_bar
from AmbiguousSegLib.data.readers import AUTO, READERS
from AmbiguousSegLib.evaluation.table import Column, Table
from AmbiguousSegLib.files import check_name, replacing
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.training.plan import Plan, plan_for
from AmbiguousSegLib.training.plan_file import as_yaml, expected

_IN_FILE_ONLY = ("card.description", "card.training_data")  # long, and nothing to decide
HELP = "write a training configuration that fits the data and this machine"


def main(arguments: list[str]) -> int:
    """Run the subcommand; returns the exit code."""
    p = argparse.ArgumentParser(prog=program("plan"), description=HELP, allow_abbrev=False)
    p.add_argument("--data", type=Path, required=True, help="folder of cases, or a list of them")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="YAML file for train --config")
    p.add_argument("--kind", default=AUTO, help=f"how the data lies: {AUTO} (default), {', '.join(READERS)}")
    p.add_argument(
        "--labels",
        nargs="+",
        metavar="NAME",
        help="what the values 1, 2, … of the masks are (default: as the data says)",
    )
    p.add_argument("--subject-pattern", metavar="REGEX", help="with one group, that finds the subject in a case's name")
    p.add_argument("--minutes", type=float, metavar="M", help="that training may take (default: 60, or what it needs)")
    p.add_argument("--images", type=int, metavar="N", help="to train on, whatever time it takes")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_argument("--overwrite", action="store_true", help="replace --out if it is there")
    options = p.parse_args(arguments)
    _check_out(options.out, options.overwrite)
    if options.kind not in (AUTO, *READERS):
        raise CommandError(f"Unknown --kind {options.kind!r}; known: {AUTO}, {', '.join(READERS)}.")
    with progress_bar("looking at the data") as bar:
        made = plan_for(
            options.data,
            options.kind,
            [Label(name) for name in options.labels] if options.labels else None,
            options.minutes,
            options.device,
            images=options.images,
            subject_pattern=options.subject_pattern,
            on_case=lambda number, of: bar(number / of),
        )
    with replacing(options.out) as temporary:
        temporary.write_text(as_yaml(made), encoding="utf-8")
    print(table(made).text())
    print(expected(made))
    print(f"{options.out}: done; next: {program('train')} --config {options.out} --data {options.data} --out RUN")
    return 0


def table(plan: Plan) -> Table:
    """Key, value and reason of each choice; what was seen in the data above it."""
    rows = [
        {"key": key, "value": text, "reason": reason}
        for key, value, reason in plan.reasons
        if key not in _IN_FILE_ONLY
        for key, text in _flat(key, value)
    ]
    columns = Column("key", "key"), Column("value", "value"), Column("reason", "reason")
    return Table(columns, tuple(rows), plan.seen)


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    """A value in short; of the network only its shape."""
    if key == "method_config":
        net = value["unet"]
        widths = ", ".join(str(net["model_channels"] * n) for n in net["channel_mult"])
        return [(key, f"U-Net {net['image_size']}: {widths}")]
    if isinstance(value, dict):
        return [(key, " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value.values()))]
    if isinstance(value, list):
        return [(key, ", ".join(_flat(key, v)[0][1] for v in value))]
    return [(key, "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value))]


def _check_out(file: Path, overwrite: bool) -> None:
    check_name(file)
    if file.is_dir():
        raise CommandError(f"{file} is a folder; --out takes a file, such as {file / 'plan.yaml'}.")
    if os.path.lexists(file) and not overwrite:
        raise CommandError(f"{file} is there already; choose another --out, or add --overwrite.")
    parent = next((place for place in file.resolve().parents if place.exists()), None)
    if parent is None or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise CommandError(
            f"{file} cannot be written: {parent} is no folder that can be written to; choose another --out."
        )

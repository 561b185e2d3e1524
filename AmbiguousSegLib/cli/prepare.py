"""``prepare``: read and check all of some data once, and keep it in a form that trains fast."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from AmbiguousSegLib.cli.common import CommandError, check_out, program, progress_bar
from AmbiguousSegLib.cli.data_report import for_people, report, report_json
from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.data.config import PHANTOM, DataConfig
from AmbiguousSegLib.data.prepared_index import INDEX
from AmbiguousSegLib.data.prepared_writing import Outcome, Skipped, bytes_needed, probing, write_prepared
from AmbiguousSegLib.data.readers import AUTO, LAYOUTS, READERS, Case, read_all, recognised
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label, check_labels
from AmbiguousSegLib.layouts.prepared import place_of
from AmbiguousSegLib.text_files import parse_yaml
from AmbiguousSegLib.volume.file_checks import size_text

log = logging.getLogger(__name__)

HELP = "read and check data once, and keep it in a form that trains fast"
_KIND = "prepared"
_REPORTS = ("report.csv", "report.json")


def main(arguments: list[str]) -> int:
    """Run the subcommand; its exit code: 1 where a case was skipped, without ``--skip-bad``."""
    options = _options(arguments)
    data, out = options.data, options.out
    labels = _labels(options.labels)
    try:
        config = DataConfig(kind=options.kind, subject_pattern=options.subject_pattern)
        kind, words = (options.kind, f"reader {options.kind}") if options.kind != AUTO else recognised(data)
        _check_places(data, out, kind, options.overwrite)
        print(f"{data}: {words}", file=sys.stderr)
        labels = labels or _stated_labels(data, kind)
        cases = read_all(data, probing(replace(config, kind=kind), options.channels), labels)
        _check_channels(cases, options.channels, data)
        _check_space(out, bytes_needed(cases, len(labels)), len(cases))
        head: dict[str, Any] = {
            **{"data": data.resolve().name, "kind": kind, "words": words},
            **{"labels": to_dict(labels), "channels": options.channels, "subject_pattern": config.subject_pattern},
        }
        tables = []

        def reports(outcomes: Sequence[Outcome]) -> dict[str, str]:
            tables.append(report(outcomes, labels))
            return dict(zip(_REPORTS, (tables[0].csv(), report_json(tables[0], head))))

        with progress_bar("prepare") as show:
            done = lambda number: show(number / len(cases))  # noqa: E731
            outcomes = write_prepared(out, cases, len(labels), head, reports, options.jobs, done)
    except ImportError as error:  # of what a reader needs
        raise CommandError(f"{data} needs {error.name or error}; install AmbiguousSegLib[dicom].") from error
    print(for_people(tables[0]))
    skipped = sum(isinstance(one, Skipped) for one in outcomes)
    size = sum(file.stat().st_size for file in out.iterdir() if file.is_file())
    print(f"{out}: {len(outcomes) - skipped} case(s), {size_text(size)}")
    if skipped and not options.skip_bad:
        print(
            f"error: {skipped} of {len(outcomes)} case(s) cannot be read and are left out, for the reasons above; mend "
            "them and prepare again, or say with --skip-bad that they are to be left out.",
            file=sys.stderr,
        )
        return 1
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog=program("prepare"), description=HELP, allow_abbrev=False)
    p.add_argument("--data", type=Path, required=True, help="folder of cases, or list of them (CSV, JSON)")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder; it becomes --data of train")
    kinds = f"how the data are read: {', '.join(READERS)} (default: {AUTO}, by what recognises them)"
    p.add_argument("--dataset.kind", "--kind", dest="kind", default=AUTO, metavar="KIND", help=kinds)
    pattern = "regular expression with one group that finds the subject in a case's name"
    names = "--dataset.subject_pattern", "--subject-pattern"
    p.add_argument(*names, dest="subject_pattern", metavar="REGEX", help=pattern)
    channels = "channels to keep, by their names in the data (default: all)"
    p.add_argument("--dataset.channels", dest="channels", nargs="+", default=[], metavar="NAME", help=channels)
    labels = "what the values 1, 2, … of the masks are: core halo, or '[{name: core}, {name: halo}]' (default: as the "
    labels += "data says)"
    p.add_argument("--labels", nargs="+", metavar="NAME", help=labels)
    p.add_argument("--skip-bad", action="store_true", help="exit with 0 though cases were skipped")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="read N cases at once (default: 1)")
    p.add_argument("--overwrite", action="store_true", help="replace what was prepared in FOLDER before")
    options = p.parse_args(arguments)
    if options.jobs < 1:
        raise CommandError(f"--jobs must be at least 1, got {options.jobs}.")
    if options.kind in (PHANTOM, _KIND) or (str(options.data) == PHANTOM and not options.data.exists()):
        raise CommandError("Generated and prepared data are trained on as they are; --data takes original files.")
    return options


def _check_channels(cases: Sequence[Case], channels: Sequence[str], data: Path) -> None:
    """CommandError for a channel that is to be kept, of which the data know nothing: nothing would be chosen."""
    for case in cases:
        names = getattr(case, "channel_names", ())
        if unknown := [channel for channel in channels if place_of(channel, names) is None]:
            told = ", ".join(own[0] for own in names if own[0]) or "by no names"
            raise CommandError(
                f"{data}: no image of {case.identity} is called {unknown[0]}; they are called {told}. Correct "
                "--dataset.channels, or leave it out."
            )


def _stated_labels(data: Path, kind: str) -> tuple[Label, ...]:
    """The labels that the data itself names; one lesion, if it names none."""
    layout = LAYOUTS[kind](data) if kind in LAYOUTS else None
    labels = tuple(getattr(layout, "labels", ())) or DEFAULT_LABELS
    print(f"{data}: the masks are of {', '.join(label.name for label in labels)}", file=sys.stderr)
    return labels


def _labels(words: Sequence[str] | None) -> tuple[Label, ...]:
    """Labels from the command line: names, or a list as ``train`` takes it; none, if nothing is given."""
    if words is None:
        return ()
    given = _yaml(" ".join(words)) if words[0].startswith("[") else [{"name": word} for word in words]
    try:
        labels = tuple(from_dict(Label, label, f"labels[{i}]") for i, label in enumerate(given))
        check_labels(labels)
    except ValueError as error:
        raise CommandError(f"--labels: {error}") from error
    return labels


def _yaml(text: str) -> list[Any]:
    try:
        return list(parse_yaml(text, "--labels"))
    except ImportError as error:
        raise CommandError(f"--labels needs {error.name}; install AmbiguousSegLib[train], or give names.") from error


def _check_places(data: Path, out: Path, kind: str, overwrite: bool) -> None:
    """CommandError for data that are prepared already, and for an output folder that is not free for them."""
    if kind == _KIND:
        raise CommandError(f"{data} is prepared already; train on it as it is.")
    check_out(out, (), overwrite)
    inside, outside = out.resolve(), data.resolve()
    if inside == outside or (data.is_dir() and outside in inside.parents):
        raise CommandError(f"{out} lies in the data, which it would become a part of; choose another --out.")
    if not out.exists():
        return
    held = sorted(entry.name for entry in out.iterdir())
    if left := [name for name in held if name.startswith(".writing-")]:
        log.warning("%s holds %s, which an interrupted run has left; remove it.", out, ", ".join(left))
    if INDEX in held:
        if not overwrite:
            raise CommandError(f"{out} holds {INDEX} already; choose another --out, or add --overwrite.")
    elif others := [name for name in held if name not in left]:
        raise CommandError(f"{out} holds other files, such as {others[0]}; choose a new or an empty folder as --out.")


def _check_space(out: Path, needed: int, cases: int) -> None:
    """Say how much room the cases will take, about; CommandError if there is less."""
    nearest = next(place for place in (out.resolve(), *out.resolve().parents) if place.exists())
    free = shutil.disk_usage(nearest).free
    told = f"{cases} case(s) take about {size_text(needed)}, {size_text(free)} are free"
    if needed > free:
        raise CommandError(f"{out}: {told}; make room, or choose another --out.")
    print(f"{out}: {told}", file=sys.stderr)

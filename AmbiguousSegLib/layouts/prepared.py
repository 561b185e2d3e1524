"""The reader "prepared": what ``ambiguousseg prepare`` wrote; it equals the original, and is faster to read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.prepared_cases import INDEX, REMEDY, START, PreparedCase, case_of, read_head, read_index
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.names import some, subject_finder
from AmbiguousSegLib.volume.file_checks import check_file, shown

log = logging.getLogger(__name__)


@LAYOUTS.register("prepared")
def recognise(folder: Path) -> Layout | None:
    """A folder with a ``prepared.json`` of ours; what is wrong with a damaged one, the reader says."""
    path = folder / INDEX
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            ours = file.read(len(START)) == START.encode()
    except OSError:
        return None
    if not ours:
        return None
    try:
        head = read_head(path)
        return Layout(f"prepared data, {head['cases']} case(s) from: {head['words']}", labels=labels_of(head))
    except (ValueError, KeyError, OSError):
        return Layout("prepared data")


@READERS.register("prepared")
def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[PreparedCase]:
    """The cases of prepared data. Says in one line which are missing because they could not be read.

    Raises:
        FileNotFoundError: no ``prepared.json``, or a file that belongs to it is gone.
        ValueError: damaged, or files of other sizes; prepared for other labels; a subject pattern that is not found.
    """
    path = folder / INDEX
    head, lines = read_index(path)
    try:
        prepared_for = [label.name for label in labels_of(head)]
        files = {key: folder / head["files"][name]["file"] for key, name in (("image", "values"), ("marks", "marks"))}
        sizes = {folder / entry["file"]: entry["bytes"] for entry in head["files"].values()}
        skipped = [identity for identity, _ in head["skipped"]]
        cases = [case_of(line, files) for line in lines]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{shown(path)} cannot be read ({' '.join(str(error).split())}); {REMEDY}.") from error
    wanted = [label.name for label in labels]
    if prepared_for != wanted and not len(prepared_for) == len(wanted) == 1:  # one label is a mere name
        raise ValueError(
            f"{folder} was prepared for the label(s) {', '.join(prepared_for)}, now {', '.join(wanted)} are asked for; "
            "give the same labels, or prepare the data again with --labels."
        )
    for file, size in sizes.items():
        check_file(file)
        if file.stat().st_size != size:
            raise ValueError(f"{shown(file)} has {file.stat().st_size} bytes, expected {size}; {REMEDY}.")
    if skipped:
        log.warning(
            "%s: %d of %d cases are missing, as prepare could not read them: %s (report.csv says why).",
            *(folder, len(skipped), len(skipped) + len(cases), some(skipped)),
        )
    subject_of = None if config.subject_pattern is None else subject_finder(config.subject_pattern)
    return [_as_told(case, config, subject_of) for case in cases]


def labels_of(head: dict) -> tuple[Label, ...]:
    """The labels that data were prepared for, from their head (``read_head``)."""
    return tuple(from_dict(Label, label, "labels") for label in head["labels"])


def _as_told(case: PreparedCase, config: DataConfig, subject_of: Callable[[str], str] | None) -> PreparedCase:
    """A case with what the settings tell of subjects and of the pixels of pictures, as the other readers tell it."""
    if case.pictured:
        case = replace(case, field_mm=config.field_mm)
    if subject_of is not None:
        case = replace(case, seen=replace(case.seen, subject=subject_of(case.identity)))
    return case

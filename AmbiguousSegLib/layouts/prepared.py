"""The reader "prepared": what ``ambiguousseg prepare`` wrote; it equals the original, and is faster to read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.prepared_cases import PreparedCase, case_of
from AmbiguousSegLib.data.prepared_index import INDEX, REMEDY, START, read_head, read_index
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.challenges import plain
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
        words = f"prepared data, {head['cases']} case(s) from: {head['words']}"
        names = tuple(head["channel_names"])
        return Layout(words, channels=names if all(names) else (), labels=_labels(head))
    except (ValueError, KeyError, TypeError, OSError):
        return Layout("prepared data")


@READERS.register("prepared")
def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[PreparedCase]:
    """The cases of prepared data. Says in one line which are missing because they could not be read.

    Raises:
        FileNotFoundError: no ``prepared.json``, or a file that belongs to it is gone.
        ValueError: damaged, or files of other sizes; prepared for other labels or channels; a subject pattern that is
            not found.
    """
    path = folder / INDEX
    head, lines = read_index(path)
    try:
        prepared_for, by_name = [label.name for label in _labels(head)], bool(head["labels_by_name"])
        files = {key: folder / head["files"][name]["file"] for key, name in (("image", "values"), ("marks", "marks"))}
        sizes = {folder / entry["file"]: entry["bytes"] for entry in head["files"].values()}
        skipped = [identity for identity, _ in head["skipped"]]
        cases = [case_of(line, files) for line in lines]
        chosen = bool(head["channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{shown(path)} cannot be read ({' '.join(str(error).split())}); {REMEDY}.") from error
    wanted = [label.name for label in labels]
    if prepared_for != wanted and (by_name or not len(prepared_for) == len(wanted) == 1):  # else it is a mere name
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
    return [_with_channels(_as_told(case, config, subject_of), config.channels, chosen, folder) for case in cases]


def _labels(head: Mapping[str, Any]) -> tuple[Label, ...]:
    return tuple(from_dict(Label, label, "labels") for label in head["labels"])


def _as_told(case: PreparedCase, config: DataConfig, subject_of: Callable[[str], str] | None) -> PreparedCase:
    """A case with what the settings tell of subjects and of the pixels of pictures, as the other readers tell it."""
    if case.pictured:
        case = replace(case, field_mm=config.field_mm)
    if subject_of is not None:
        case = replace(case, seen=replace(case.seen, subject=subject_of(case.identity)))
    return case


def _with_channels(case: PreparedCase, wanted: Sequence[str], chosen: bool, folder: Path) -> PreparedCase:
    """A case with the channels that the settings name, where they name any by what the data call them; else with all.

    Args:
        chosen: they were chosen by name when the data were prepared, and so others are missing.
    """
    names = case.channel_names
    if not names:
        return case
    places = [place_of(channel, names) for channel in wanted]
    if not chosen and all(place is None for place in places):
        return case
    found = tuple(place for place in places if place is not None)
    if len(found) < len(places):
        raise ValueError(
            f"{folder} was prepared with the channels {', '.join(own[0] for own in names)}, now {', '.join(wanted)} "
            "are asked for; name some of those, or prepare the data again with --dataset.channels."
        )
    if found == tuple(range(len(names))):
        return case
    if len(names) != len(case.seen.values):
        raise ValueError(
            f"{folder}: the images {', '.join(own[0] for own in names)} of {case.identity} are {len(case.seen.values)} "
            "channels together, so that single ones cannot be chosen; prepare the data again with --dataset.channels."
        )
    return replace(case, channels=found)


def place_of(channel: str, names: Sequence[Sequence[str]]) -> int | None:
    """Which of the images is called so, by their names as ``FileCase.channel_names`` has them; None: none is."""
    for k, (name, *others) in enumerate(names):
        if name and (channel.casefold() == name.casefold() or plain(channel) in others):
            return k
    return None

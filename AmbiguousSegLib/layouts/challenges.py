"""What readers of published challenge data share: a cheap look for their files, and MR sequences by their names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from AmbiguousSegLib.layouts.names import look_below

log = logging.getLogger(__name__)

Key = TypeVar("Key")

_MOST_FOLDERS, _MOST_ENTRIES, _DEEPEST = 60, 500, 4


def seen_below(folder: Path, fits: Callable[[Sequence[str]], str | None]) -> str | None:
    """What ``fits`` says of the files of the first folder it fits, this one or one below it; None: nothing, nowhere.

    For recognisers: the nearest folders are looked at first, at most 60, at most 500 names of each, four levels deep.

    Args:
        fits: called with the names of the files of a folder.
    """
    below = look_below(folder, _MOST_FOLDERS, _DEEPEST, _MOST_ENTRIES)
    return next((said for _, _, files in below if (said := fits(files)) is not None), None)


def put(files: dict[Key, Path], key: Key, file: Path) -> None:
    """Enter the file that is ``key``; ValueError if there is another already."""
    if key in files:
        raise ValueError(f"{files[key]} and {file} are both there, expected one of them; remove the other.")
    files[key] = file


def plain(name: str) -> str:
    """A name in the letters and digits by which it is compared, in lower case: "T2-FLAIR" is t2flair."""
    return "".join(c for c in name.lower() if c.isalnum())


def sequences_asked(channels: Sequence[str], known: Mapping[str, Collection[str]], folder: Path) -> list[str]:
    """MR sequences that the channels of a configuration name, in its order; all, in theirs, if none is named.

    Args:
        channels: ``dataset.channels``.
        known: names of the sequences that there are, each with the other names it goes by, as ``plain`` gives them.
        folder: for messages.

    Raises:
        ValueError: a sequence is named twice, or beside names that are none.
    """
    by_name = {other: name for name, others in known.items() for other in (plain(name), *others)}
    named = [by_name.get(plain(channel), "") for channel in channels]
    if not any(named):
        log.info("%s: the channels are %s, in this order.", folder, ", ".join(known))
        return list(known)
    if not all(named) or len(set(named)) < len(named):
        raise ValueError(
            f"{folder}: dataset.channels is {', '.join(channels)}, expected names of sequences, each once: "
            f"{', '.join(known)}; correct dataset.channels."
        )
    return named

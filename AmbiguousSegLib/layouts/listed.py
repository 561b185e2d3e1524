"""What data that describes itself has in common: names that follow from paths, channels, labels, parts of a split."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from AmbiguousSegLib.data.readers import Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.names import stem_of

_log = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Described(Layout):
    """A layout that names its channels and the labels of its masks, each () where it does not."""

    channels: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()


def identity_of(path: Path, folder: Path) -> str:
    """Name of a case by the place of its file below ``folder``, without the ending: ``p7/ct.nii.gz`` is ``p7/ct``.

    Of a file elsewhere it is the way there, without the steps up: ``../scans/p7.nrrd`` is ``scans/p7``.
    """
    try:
        steps = PurePath(os.path.relpath(path, folder)).parts
    except ValueError:  # another drive of Windows
        steps = path.parts[1:]
    *places, name = (step for step in steps if step != os.pardir)
    return "/".join([*places, stem_of(name)])


def check_part(part: str) -> None:
    """ValueError for another part than train, validation, test, or none."""
    if part and part not in PARTS:
        raise ValueError(f"unknown part {part!r}; the parts are {', '.join(PARTS)}, or nothing.")


def channel_order(names: Sequence[str], channels: Sequence[str], where: str) -> list[int]:
    """Which of the images of a case become the channels, in their order.

    Args:
        names: of the images, as the data calls them; "" where it does not.
        channels: those of the configuration. Where all of them are names, they choose; else all images are taken in
            the order they have.
        where: for messages.
    """
    there = [name.casefold() for name in names]
    wanted = [channel.casefold() for channel in channels]
    if len(set(there)) == len(there) and all(there) and all(channel in there for channel in wanted):
        unused = [name for name in names if name.casefold() not in wanted]
        if unused:
            _log.info("%s: the images %s are no channel of the configuration and left out.", where, ", ".join(unused))
        return [there.index(channel) for channel in wanted]
    if len(names) > 1:
        _log.info("%s: the images %s are the channels, in this order.", where, ", ".join(names))
    return list(range(len(names)))

"""Readers of data on disk, by name, and what each of them gives: cases.

A reader is one function in one file of the room ``layouts``, which registers itself::

    @READERS.register("my_layout")
    def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[Case]: ...

Then ``dataset.kind: my_layout`` trains on what it finds, and evaluation reads the same way. A second function,
registered in ``LAYOUTS`` under the same name, lets ``dataset.kind: auto`` find it by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.registry import Registry
from AmbiguousSegLib.volume.geometry import Geometry

if TYPE_CHECKING:
    from AmbiguousSegLib.data.config import DataConfig

log = logging.getLogger(__name__)

AUTO = "auto"


class Case(Hashable, Protocol):
    """One image and its raters' masks. A reader gives many, so nothing should be read before it is asked for."""

    @property
    def identity(self) -> str:
        """Name of the case, unique in its data; the noise of its samples follows from it."""

    @property
    def subject(self) -> str:
        """Whom it shows; cases of one subject never go to different parts of a split."""

    @property
    def group(self) -> str:
        """Set that it belongs to, each of which is split on its own; empty if there is one."""

    @property
    def part(self) -> str:
        """Part of the split that the data itself puts it in: "train", "validation" or "test"; empty if it says none."""

    @property
    def modality(self) -> str:
        """As DICOM names it: "CT", "MR"; empty if unknown."""

    @property
    def rater_names(self) -> tuple[str, ...]:
        """Raters in the order of ``load_masks``."""

    def load_image(self) -> tuple[np.ndarray, Geometry]:
        """Channels as stored, real numbers ``(C, Z, Y, X)``, and their grid; a picture is a volume of one slice."""

    def load_masks(self) -> np.ndarray:
        """Masks of R ≥ 1 raters on the image's grid: label maps, uint8 ``(R, Z, Y, X)``, of the reader's labels.

        Whoever marked nothing is an empty mask.
        """


Reader = Callable[[Path, "DataConfig", Sequence[Label]], Sequence[Case]]
"""Called with the data folder or file, the settings of the data and the labels 1 to K of the masks; gives all cases."""


@dataclass(frozen=True)
class Layout:
    """What a folder or file was recognised as.

    Attributes:
        words: for people: "nnU-Net dataset Dataset007_Lesion: 120 training images".
        specific: it bears marks of its own, such as ``dataset.json``; general layouts count where no specific one fits.
        channels: names of the images' channels, where the data says them.
        labels: 1 to K of the masks, where the data says them.
    """

    words: str
    specific: bool = True
    channels: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()


READERS: Registry[Reader] = Registry("reader of data", room="AmbiguousSegLib.layouts")
LAYOUTS: Registry[Callable[[Path], Layout | None]] = Registry("layout of data", room="AmbiguousSegLib.layouts")
"""What recognises the data of the reader of the same name, by the data folder or file; None: it is not that."""


def recognised(folder: Path) -> tuple[str, str]:
    """Name of the reader for this folder or file, and in words what it was recognised as.

    Raises:
        ValueError: nothing is there; no layout is recognised, or several are, and the readers to choose from are named.
    """
    if not folder.exists():
        raise ValueError(f"{folder}: there is no such folder or file; check the path given as data.")
    found = {name: layout for name in LAYOUTS if (layout := LAYOUTS[name](folder)) is not None}
    fitting = {name: layout for name, layout in found.items() if layout.specific} or found
    if not fitting:
        raise ValueError(
            f"{folder}: no layout of data is recognised here; arrange the files as the documentation shows, list them "
            f"in a CSV or JSON file, or name the reader with dataset.kind: {', '.join(READERS)}."
        )
    if len(fitting) > 1:
        seen = "; ".join(f"{name} ({layout.words})" for name, layout in fitting.items())
        raise ValueError(f"{folder} can be read in several ways: {seen}. Name the one you mean with dataset.kind.")
    ((name, layout),) = fitting.items()
    return name, layout.words


def with_reader(folder: Path, config: DataConfig) -> DataConfig:
    """The settings with the reader's name in place of "auto", which is logged. Errors as ``recognised``."""
    if config.kind != AUTO:
        return config
    kind, words = recognised(folder)
    log.info("%s: recognised as %s (reader %s).", folder, words, kind)
    return replace(config, kind=kind)


def read_all(folder: Path, config: DataConfig, labels: Sequence[Label]) -> Sequence[Case]:
    """All cases that the reader ``config.kind``, see ``with_reader``, finds in ``folder``.

    Raises:
        ValueError: there is none, two bear one identity, or by the reader.
    """
    config = with_reader(folder, config)
    cases = READERS[config.kind](folder, config, labels)
    if not cases:
        raise ValueError(f"{folder}: no cases found by the reader {config.kind}; check the folder, and dataset.kind.")
    seen: set[str] = set()
    for case in cases:
        if case.identity in seen:
            raise ValueError(f"{folder}: two cases are called {case.identity!r}; give each a name of its own.")
        seen.add(case.identity)
    return cases


def load_case(case: Case, classes: int) -> tuple[np.ndarray, Geometry, np.ndarray]:
    """Channels ``(C, Z, Y, X)``, their grid and the masks ``(R, Z, Y, X)`` of a case, checked.

    Raises:
        ValueError: by the reader; or it gave something else than a ``Case`` should, for ``classes`` labels.
    """
    values, geometry = case.load_image()
    masks = case.load_masks()
    if values.ndim != 4 or values.dtype.kind not in "iuf" or masks.dtype != np.uint8 or masks.ndim != 4:
        raise ValueError(
            f"{case.identity}: expected an image of real numbers (C, Z, Y, X) and masks uint8 (R, Z, Y, X), got "
            f"{values.dtype} {values.shape} and {masks.dtype} {masks.shape}; correct the reader."
        )
    if not len(values) or values.shape[1:] != geometry.shape:
        raise ValueError(
            f"{case.identity}: an image of shape {values.shape} does not fit its grid {geometry.shape}; correct the "
            "reader."
        )
    if len(masks) != len(case.rater_names) or len(masks) == 0 or masks.shape[1:] != values.shape[1:]:
        raise ValueError(
            f"{case.identity}: expected masks of {len(case.rater_names)} rater(s), at least one, on the image's grid "
            f"{values.shape[1:]}, got {masks.shape}; correct the reader."
        )
    if masks.max() > classes:
        raise ValueError(
            f"{case.identity}: a mask holds the label {masks.max()}, but there are {classes}; name every label."
        )
    return values, geometry, masks

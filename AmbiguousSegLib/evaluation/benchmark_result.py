"""What one cell of a benchmark came to, a system trained with one seed, as it is kept in ``figures.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.evaluation.table import plain
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.text_files import read_json


@dataclass(frozen=True)
class CaseFigures:
    """A case under one cell.

    Attributes:
        identity, subject: of the case; cases of one subject are drawn together by the bootstrap.
        raters: how many there are.
        marked_by_all: no rater left it empty.
        figures: by number of samples, as text, and by key; None where undefined.
        mode_frequencies, mode_probabilities: of a phantom with two modes or more.
    """

    identity: str
    subject: str
    raters: int
    marked_by_all: bool
    figures: dict[str, dict[str, float | None]]
    mode_frequencies: tuple[float, ...] | None = None
    mode_probabilities: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Cost:
    """What a cell took.

    Attributes:
        parameters: weights of the method that are trained or used.
        images, best_images: seen in training, and by the model that validation chose.
        images_per_cpu_second: by which a budget in CPU seconds was turned into images.
        training_seconds, training_cpu_seconds: of the training process, all attempts together, validation included.
        seconds_per_mask, cpu_seconds_per_mask: of the masks that were judged.
        masks, batch_size: how many these were, and how many were drawn together.
    """

    parameters: int = 0
    images: int = 0
    best_images: int | None = None
    images_per_cpu_second: float | None = None
    training_seconds: float = 0.0
    training_cpu_seconds: float = 0.0
    seconds_per_mask: float = 0.0
    cpu_seconds_per_mask: float = 0.0
    masks: int = 0
    batch_size: int = 0


@dataclass(frozen=True)
class CellResult:
    """A system trained with one seed, judged case by case. ``device`` to ``software`` say where and with what."""

    system: str
    seed: int
    method: str
    sampler: str
    cost: Cost
    cases: tuple[CaseFigures, ...]
    device: str = ""
    machine: str = ""
    date: str = ""
    commit: str = ""
    software: str = ""
    format_version: int = 1

    def write(self, path: Path) -> None:
        """Write it as JSON; a reader never meets half of it."""
        with replacing(path) as temporary:
            text = json.dumps(plain(to_dict(self)), indent=1, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> CellResult:
        """What ``write`` wrote. ValueError: something else."""
        try:
            found = from_dict(cls, read_json(path), "")
            if found.format_version != cls.format_version:
                raise ValueError(f"format_version is {found.format_version}, expected {cls.format_version}")
        except ValueError as error:
            told = str(error).rstrip(".")
            raise ValueError(f"{path} is no result of a cell: {told}; remove it, and it is made again.") from error
        return found


def values_of(cells: Sequence[CellResult], samples: int, key: str) -> np.ndarray:
    """A figure of the cells of one system: float64 ``(seeds, cases)``, nan where undefined or not known."""
    return np.array([[_number(case.figures[str(samples)], key) for case in cell.cases] for cell in cells])


def same_cases(cells: Sequence[CellResult]) -> None:
    """ValueError unless all cells were judged on the same cases."""
    for cell in cells:
        ours, first = ([(case.identity, case.subject, case.raters) for case in c.cases] for c in (cell, cells[0]))
        if ours != first:
            raise ValueError(
                f"{cell.system} seed {cell.seed} was judged on other cases than {cells[0].system} seed "
                f"{cells[0].seed}; remove its figures.json, and run it again on the same data."
            )


def _number(figures: Mapping[str, float | None], key: str) -> float:
    value = figures.get(key)
    return math.nan if value is None else value

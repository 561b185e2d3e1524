"""The cases that all systems of a benchmark are judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from AmbiguousSegLib.benchmarking.file import TestSet
from AmbiguousSegLib.data.config import PHANTOM, DataConfig
from AmbiguousSegLib.data.evaluation_cases import EvaluationCase, held_out_cases, held_out_phantoms, loaded_cases
from AmbiguousSegLib.data.lung_phantom import Phantom
from AmbiguousSegLib.data.readers import Case, read_all, with_reader
from AmbiguousSegLib.data.slices import SliceStore, index
from AmbiguousSegLib.data.split import split_cases
from AmbiguousSegLib.methods import size_multiple
from AmbiguousSegLib.training.config import TrainingConfig

PHANTOM_CASES = 64


@dataclass(frozen=True)
class HeldOut:
    """Cases, the phantoms that they are of (else none), and the edge of their square pixels, None if unknown."""

    cases: tuple[EvaluationCase, ...]
    phantoms: tuple[Phantom, ...]
    spacing_mm: float | None


def check_data(config: TrainingConfig, test: TestSet, folder: Path | None) -> None:
    """ValueError for data that is missing, cannot be recognised, or has no case to judge on; no pixels are read."""
    if config.dataset.kind != PHANTOM:
        _chosen(config, test, folder)
    elif folder is not None:
        raise ValueError(f"The phantom is made, not read from {folder}; leave out --data.")


def held_out(config: TrainingConfig, test: TestSet, folder: Path | None) -> HeldOut:
    """The part of the data that is judged, as the network of ``config`` sees it.

    Raises:
        ValueError: data that cannot be read, or a part without a case.
    """
    data = config.dataset
    if data.kind == PHANTOM:
        count = test.cases or PHANTOM_CASES
        cases = held_out_cases(data, test.part, count, test.raters, config.labels)
        return HeldOut(
            tuple(cases), tuple(held_out_phantoms(data, test.part, count, config.labels)), data.phantom_spacing_mm
        )
    data, chosen = _chosen(config, test, folder)
    preprocessing, classes = data.preprocessing(size_multiple(config.method, config.method_config)), len(config.labels)
    slices, _, limits = index(chosen, preprocessing, classes, leave_out=data.leave_out)
    store = SliceStore(preprocessing, classes, limits, data.cache_mb * 2**20)
    return HeldOut(tuple(loaded_cases(slices, store, test.cases)), (), data.spacing_mm)


def _chosen(config: TrainingConfig, test: TestSet, folder: Path | None) -> tuple[DataConfig, Sequence[Case]]:
    """The settings with the reader's name, and the cases of the part that is judged."""
    if folder is None:
        raise ValueError("No data folder given; name one with --data.")
    data = with_reader(folder, config.dataset)
    chosen = getattr(split_cases(data, read_all(folder, data, config.labels)), test.part)
    if not chosen:
        raise ValueError(f"{folder}: the {test.part} part holds no case; choose another part, or another split.")
    return data, chosen

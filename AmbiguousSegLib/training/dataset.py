"""Training items as a pure function of their position, and held-out cases.

Position p is the p-th image seen since the start of training. Because an item depends on (seed, p) alone, resuming
means starting at another p, and processes share the work by taking positions.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from AmbiguousSegLib.data.cases import Case, check_cases, read_cases, resized
from AmbiguousSegLib.data.lung_phantom import phantom_case, window
from AmbiguousSegLib.data.split import Split, split_by_file, split_by_fraction
from AmbiguousSegLib.data.transforms import AugmentationConfig, draw_augmentation
from AmbiguousSegLib.methods import Batch
from AmbiguousSegLib.metrics.overlap import as_tensor
from AmbiguousSegLib.training.config import DataConfig, TrainingConfig

_GRACE_S = 30.0  # how long a worker outlives SIGTERM
_ORDER, _ITEM = 1, 2  # streams of random numbers under the training seed
HELD_OUT_PHANTOM = {"validation": 1, "test": 2}  # added to the seed of the training phantom


@dataclass(frozen=True)
class HeldOutCase:
    """A case to score: image float32 ``(C, H, W)`` in [0, 1], raters' masks bool ``(R, H, W)``."""

    identity: str
    image: np.ndarray
    masks: np.ndarray


class Source(Protocol):
    """Training cases."""

    def pair(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image float32 ``(C, H, W)`` in [0, 1] and target float32 ``(1, H, W)`` in [0, 1]."""


@dataclass(frozen=True)
class FolderSource:
    """Cases on disk in random order, each once per epoch; decoded cases are kept in memory."""

    cases: tuple[Case, ...]
    size: tuple[int, int]
    target: str
    seed: int

    def pair(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(position, len(self.cases))
        image, masks = load_case(self.cases[_order(self.seed, epoch, len(self.cases))[place]], self.size)
        if self.target == "mean":
            return image, masks.mean(0, dtype=np.float32)[None]
        return image, masks[rng.integers(len(masks))][None].astype(np.float32)


@dataclass(frozen=True)
class PhantomSource:
    """Endless phantom cases, never the same twice."""

    phantom_seed: int
    size: tuple[int, int]
    spacing_mm: float
    target: str

    def pair(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        case = phantom_case(self.phantom_seed, position, self.size, self.spacing_mm)
        image = window(case.image)[None]
        if self.target == "mean":
            return image, case.probability_map().astype(np.float32)[None]
        return image, case.draw_masks(rng, 1).astype(np.float32)


@lru_cache(maxsize=None)
def load_case(case: Case, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Image and masks of a case at ``size``, read once."""
    return resized(case.load_image(), case.load_masks(), size)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(n)


class Items(Dataset):
    """Positions ``start`` to ``stop`` of a source, augmented, of which this process takes its share of each batch."""

    def __init__(self, source: Source, augmentation: AugmentationConfig, seed: int, positions: Sequence[int]) -> None:
        self.source, self.augmentation, self.seed, self.positions = source, augmentation, seed, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        position = self.positions[i]
        rng = np.random.default_rng([self.seed, _ITEM, position])
        image, mask = self.source.pair(position, rng)
        image, mask = draw_augmentation(self.augmentation, rng)(image, mask)
        return as_tensor(image), as_tensor(mask), position


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C and job managers signal all processes at once; the trainer still needs its workers for its last step."""

    def leave_later(*_: object) -> None:  # not never: whoever ends the trainer by force must not wait for its workers
        timer = threading.Timer(_GRACE_S, os._exit, (0,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave_later)


def batches(
    source: Source, config: TrainingConfig, start: int, rank: int = 0, processes: int = 1
) -> Iterator[tuple[Batch, list[int]]]:
    """This process' share of each global batch from position ``start`` on, with the positions of its rows."""
    share = config.optimisation.batch_size // processes
    stop = config.optimisation.images
    size = config.optimisation.batch_size
    positions = [first + rank * share + i for first in range(start, stop - size + 1, size) for i in range(share)]
    loader = DataLoader(
        Items(source, config.augmentation, config.seed, positions),
        batch_size=share,
        num_workers=config.dataset.workers,
        multiprocessing_context="spawn" if config.dataset.workers else None,
        worker_init_fn=_leave_signals_to_the_trainer,
    )
    for image, mask, rows in loader:
        yield Batch(image, mask), rows.tolist()


def open_data(config: DataConfig, folder: Path | None, seed: int) -> tuple[Source, Split | None, int]:
    """Source of training items, the split (None for the phantom), and the number of image channels.

    Raises:
        ValueError: no folder given, unusable cases, an empty training part.
    """
    if config.kind == "phantom":
        return PhantomSource(config.phantom_seed, config.size, _phantom_spacing(config), config.target), None, 1
    if folder is None:
        raise ValueError("No data folder given; name one with --data, or set dataset.kind to phantom.")
    cases = read_cases(folder, config.subject_pattern)
    channels = check_cases(cases)
    split = split_cases(config, cases)
    if not split.train:
        raise ValueError(f"{folder}: the split leaves no case to train on.")
    return FolderSource(split.train, config.size, config.target, seed), split, channels


def split_cases(config: DataConfig, cases: Sequence[Case]) -> Split:
    """Split by the file that the configuration names, else by its fractions."""
    if config.split_file:
        return split_by_file(cases, config.split_file)
    return split_by_fraction(cases, config.validation_fraction, config.test_fraction, config.split_seed)


def held_out_cases(
    config: DataConfig, split: Split | None, part: str, count: int | None, raters: int
) -> list[HeldOutCase]:
    """The first ``count`` cases (None: all) of the part "validation" or "test"; phantom cases are made with ``raters``.

    Raises:
        ValueError: the phantom without a count.
    """
    if split is not None:
        cases = getattr(split, part)[:count]
        return [HeldOutCase(case.identity, *load_case(case, config.size)) for case in cases]
    if count is None:
        raise ValueError("The phantom is endless; say how many cases to hold out.")
    seed = config.phantom_seed + HELD_OUT_PHANTOM[part]
    made = []
    for index in range(count):
        case = phantom_case(seed, index, config.size, _phantom_spacing(config))
        masks = case.draw_masks(np.random.default_rng([seed, _ITEM, index]), raters)
        made.append(HeldOutCase(f"phantom/{seed}/{index}", window(case.image)[None], masks))
    return made


def _phantom_spacing(config: DataConfig) -> float:
    """Pixel size of phantom cases: the one asked for, or what makes the field 64 mm high."""
    return 64 / config.size[0] if config.spacing_mm is None else config.spacing_mm

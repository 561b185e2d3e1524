"""Training items as a pure function of their position.

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

from AmbiguousSegLib.data.config import PHANTOM, DataConfig
from AmbiguousSegLib.data.lung_phantom import phantom_case, phantom_classes, window
from AmbiguousSegLib.data.readers import Case, load_case, read_all
from AmbiguousSegLib.data.split import Split, split_cases
from AmbiguousSegLib.data.transforms import AugmentationConfig, draw_augmentation, one_hot
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.methods import Batch
from AmbiguousSegLib.training.config import TrainingConfig

_GRACE_S = 30.0  # how long a worker outlives SIGTERM
_ORDER, _ITEM = 1, 2  # streams of random numbers under the training seed


class Source(Protocol):
    """Training cases, whose masks have ``classes`` labels."""

    @property
    def classes(self) -> int:
        """Number of labels K."""

    def pair(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image float32 ``(C, H, W)`` in [0, 1] and target float32 ``(K, H, W)`` in [0, 1], a channel per class."""


@dataclass(frozen=True)
class FolderSource:
    """Cases on disk in random order, each once per epoch; decoded cases are kept in memory. A ``Source``."""

    cases: tuple[Case, ...]
    size: tuple[int, int]
    target: str
    seed: int
    classes: int = 1

    def pair(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image and target, as ``Source.pair``."""
        epoch, place = divmod(position, len(self.cases))
        case = self.cases[_order(self.seed, epoch, len(self.cases))[place]]
        image, masks = load_case(case, self.size, self.classes)
        if self.target == "mean":
            return image, one_hot(masks, self.classes).mean(1)
        return image, one_hot(masks[rng.integers(len(masks))], self.classes)


@dataclass(frozen=True)
class PhantomSource:
    """Endless phantom cases, never the same twice. A ``Source``."""

    phantom_seed: int
    size: tuple[int, int]
    spacing_mm: float
    target: str
    classes: int = 1

    def pair(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image and target, as ``Source.pair``."""
        case = phantom_case(self.phantom_seed, position, self.size, self.spacing_mm, self.classes)
        image = window(case.image)[None]
        if self.target == "mean":
            return image, case.probability_maps().astype(np.float32)
        return image, one_hot(case.draw_masks(rng, 1)[0], self.classes)


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
        return torch.from_numpy(image.copy()), torch.from_numpy(mask.copy()), position


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


def open_data(
    config: DataConfig, folder: Path | None, seed: int, labels: Sequence[Label] = DEFAULT_LABELS
) -> tuple[Source, Split | None, int]:
    """Source of training items, the split (None for the phantom), and the number of image channels.

    Args:
        folder: of the data; None for the phantom.
        seed: of the order of the cases.
        labels: of the masks, 1 to K.

    Raises:
        ValueError: no folder given, or one for the phantom, unusable cases, an empty training part, a phantom with
            other labels than it has.
    """
    if config.kind == PHANTOM:
        if folder is not None:
            raise ValueError(
                f"{folder} would not be read, as dataset.kind is phantom; add --dataset.kind folder, or drop --data."
            )
        classes = phantom_classes([label.name for label in labels])
        return (
            PhantomSource(config.phantom_seed, config.size, config.phantom_spacing_mm, config.target, classes),
            None,
            1,
        )
    if folder is None:
        raise ValueError("No data folder given; name one with --data, or set dataset.kind to phantom.")
    cases = read_all(folder, config, labels)
    split = split_cases(config, cases)
    if not split.train:
        raise ValueError(f"{folder}: the split leaves no case to train on.")
    source = FolderSource(split.train, config.size, config.target, seed, len(labels))
    return source, split, len(cases[0].load_image())

"""Training items as a pure function of their position.

Position p is the p-th image seen since the start of training. Because an item depends on (seed, p) alone, resuming
means starting at another p, and processes share the work by taking positions.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from AmbiguousSegLib.data.config import PHANTOM
from AmbiguousSegLib.data.evaluation_cases import EvaluationCase, held_out_cases, loaded_cases
from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.data.lung_phantom import phantom_case, phantom_classes, window
from AmbiguousSegLib.data.pointing import PointConfig, pointed
from AmbiguousSegLib.data.readers import read_all, with_reader
from AmbiguousSegLib.data.slices import Slice, SliceStore, index
from AmbiguousSegLib.data.split import Split, split_cases
from AmbiguousSegLib.data.trained_inputs import inputs_of, phantom_inputs
from AmbiguousSegLib.data.transforms import AugmentationConfig, draw_augmentation, one_hot
from AmbiguousSegLib.methods import Batch, size_multiple
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.volume.inputs import Inputs

_GRACE_S = 30.0  # how long a worker outlives SIGTERM
_ORDER, _ITEM, _EMPTY_ORDER = 1, 2, 3  # streams of random numbers under the training seed


class Source(Protocol):
    """Training cases, whose masks have ``classes`` labels."""

    @property
    def classes(self) -> int:
        """Number of labels K."""

    def draw(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Image float32 ``(C, H, W)`` in [0, 1], target float32 ``(K, H, W)`` in [0, 1], a channel per class, or
        ``(M, K, H, W)`` of M raters, and the row and column where the patch to train on begins in them."""


@dataclass(frozen=True)
class CaseSource:
    """Slices of cases in random order, each once per epoch. A ``Source``.

    With ``empty_share``, slices that nobody marked come from an order of their own, spread evenly among the others.

    Attributes:
        slices: what is trained on.
        store: gives their images and masks.
        size: of the patches.
        target, raters, shift, empty_share, point: as ``DataConfig``.
        seed: of the order.
    """

    slices: tuple[Slice, ...]
    store: SliceStore
    size: tuple[int, int]
    target: str
    seed: int
    shift: float = 0.0
    empty_share: float | None = None
    raters: int = 1
    point: PointConfig | None = None

    @property
    def classes(self) -> int:
        """Number of labels K."""
        return self.store.classes

    def draw(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Image, target and corner, as ``Source.draw``."""
        one = self.slice_at(position)
        image, masks = self.store.load(one.case, one.number)
        place = None
        if self.point is not None:
            image, masks, place = pointed(self.point, image, masks, self.store.preprocessing, rng)
        if self.target == "mean":
            target = one_hot(masks, self.classes).mean(1)
        elif self.raters == 1:
            target = one_hot(masks[rng.integers(len(masks))], self.classes)
        else:
            turns = [rng.permutation(len(masks)) for _ in range(-(-self.raters // len(masks)))]
            target = _one_hots(masks[np.concatenate(turns)[: self.raters]], self.classes)
        return image, target, self._corner(image, masks, rng, place)

    def slice_at(self, position: int) -> Slice:
        """The slice of a position: a pure function of it and the seed."""
        stream, slices = _ORDER, self.slices
        if self.empty_share is not None and (empty := self._parted[0]) and (full := self._parted[1]):
            before, after = (int((position + i) * self.empty_share + 1e-9) for i in (0, 1))
            is_empty = after > before
            stream, slices, position = (_EMPTY_ORDER, empty, before) if is_empty else (_ORDER, full, position - before)
        epoch, place = divmod(position, len(slices))
        return slices[_order(self.seed, stream, epoch, len(slices))[place]]

    @cached_property
    def _parted(self) -> tuple[tuple[Slice, ...], tuple[Slice, ...]]:
        """Slices that nobody marked, and the others; kept, as finding them takes a second where there are 100,000."""
        return tuple(s for s in self.slices if not s.marked), tuple(s for s in self.slices if s.marked)

    def _corner(
        self, image: np.ndarray, masks: np.ndarray, rng: np.random.Generator, place: tuple[int, int] | None
    ) -> tuple[int, int]:
        """Where the patch begins: the place pointed at, or else a marked pixel, or one that is not black, lies around
        its middle."""
        room = np.array(image.shape[1:]) - self.size
        if not room.any():
            return 0, 0
        if place is None:
            marked = masks.any(0)
            places = np.flatnonzero(marked if marked.any() else image.any(0))
            pixel = places[rng.integers(len(places))] if len(places) else rng.integers(image[0].size)
            place = divmod(int(pixel), image.shape[2])
        aim = np.array(place) + self.shift * rng.uniform(-1, 1, 2) * self.size
        row, column = np.clip(np.round(aim - (np.array(self.size) - 1) / 2), 0, room).astype(int).tolist()
        return row, column


@dataclass(frozen=True)
class PhantomSource:
    """Endless phantom cases, never the same twice. A ``Source``."""

    phantom_seed: int
    size: tuple[int, int]
    spacing_mm: float
    target: str
    classes: int = 1
    raters: int = 1

    def draw(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Image and target, as ``Source.draw``."""
        case = phantom_case(self.phantom_seed, position, self.size, self.spacing_mm, self.classes)
        image = window(case.image)[None]
        if self.target == "mean":
            return image, case.probability_maps().astype(np.float32), (0, 0)
        masks = _one_hots(case.draw_masks(rng, self.raters), self.classes)
        return image, masks[0] if self.raters == 1 else masks, (0, 0)


def _one_hots(masks: np.ndarray, classes: int) -> np.ndarray:
    """Label maps ``(M, H, W)`` as ``(M, classes, H, W)``."""
    return np.stack([one_hot(mask, classes) for mask in masks])


@lru_cache(maxsize=4)
def _order(seed: int, stream: int, epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng([seed, stream, epoch]).permutation(n)


class Items(Dataset):
    """Positions of a source, cut to patches of ``size`` and augmented."""

    def __init__(
        self,
        source: Source,
        size: tuple[int, int],
        augmentation: AugmentationConfig,
        seed: int,
        positions: Sequence[int],
    ) -> None:
        self.source, self.size, self.augmentation = source, size, augmentation
        self.seed, self.positions = seed, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        position = self.positions[i]
        rng = np.random.default_rng([self.seed, _ITEM, position])
        image, mask, corner = self.source.draw(position, rng)
        image, mask = draw_augmentation(self.augmentation, rng)(image, mask, corner, self.size)
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
        Items(source, config.dataset.size, config.augmentation, config.seed, positions),
        batch_size=share,
        num_workers=config.dataset.workers,
        multiprocessing_context="spawn" if config.dataset.workers else None,
        worker_init_fn=_leave_signals_to_the_trainer,
    )
    for image, mask, rows in loader:
        yield (Batch(image, mask) if mask.dim() == 4 else Batch(image, mask[:, 0], mask)), rows.tolist()


@dataclass(frozen=True)
class TrainingData:
    """What a run trains and is validated on.

    Attributes:
        config: of the run, with the reader that recognised the data.
        source: of training items.
        split: None for the phantom.
        held_out: cases of the validation; empty where nothing is left for it.
        inspections: what was seen in the cases for training; empty for the phantom.
    """

    config: TrainingConfig
    source: Source
    split: Split | None
    held_out: tuple[EvaluationCase, ...]
    inspections: tuple[Inspection, ...] = ()

    @property
    def inputs(self) -> Inputs:
        """What the images are like that are trained on."""
        data = self.config.dataset
        return inputs_of(self.inspections, data.plane) if self.inspections else phantom_inputs(data)


def open_data(
    config: TrainingConfig, folder: Path | None, on_case: Callable[[int, int], None] | None = None
) -> TrainingData:
    """The data of a run. Every file for training and validation is read once, so that a bad one is found now.

    Args:
        folder: of the data, or a file that lists them; None for the phantom.
        on_case: called with the number of cases read so far and of all.

    Raises:
        ValueError: no folder given, or one for the phantom; cases that cannot be read, or that do not go with the
            configuration; an empty training part; a phantom with other labels than it has.
    """
    data, labels, validation = config.dataset, config.labels, config.validation
    if data.kind == PHANTOM:
        if folder is not None:
            raise ValueError(
                f"{folder} would not be read, as dataset.kind is phantom; add --dataset.kind auto, or drop --data."
            )
        if validation.cases is None:
            raise ValueError("The phantom is endless; say with validation.cases how many cases to hold out.")
        if len(data.channels) != 1:
            raise ValueError(f"dataset.channels names {len(data.channels)} channels, the phantom has one.")
        classes = phantom_classes([label.name for label in labels])
        phantom = PhantomSource(
            data.phantom_seed, data.size, data.phantom_spacing_mm, data.target, classes, data.raters
        )
        held_out = held_out_cases(data, "validation", validation.cases, validation.raters, labels)
        return TrainingData(config, phantom, None, tuple(held_out))
    if folder is None:
        raise ValueError("No data folder given; name one with --data, or set dataset.kind to phantom.")
    data = with_reader(folder, data)
    cases = read_all(folder, data, labels)
    split = split_cases(data, cases)
    if not split.train:
        raise ValueError(f"{folder}: the split leaves no case to train on.")
    preprocessing = data.preprocessing(size_multiple(config.method, config.method_config))
    used = [*split.train, *split.validation]
    slices, seen, limits = index(
        used, preprocessing, len(labels), on_case and (lambda n: on_case(n, len(used))), data.leave_out
    )
    store = SliceStore(preprocessing, len(labels), limits, data.cache_mb * 2**20)
    trained = set(split.train)
    source = CaseSource(
        tuple(s for s in slices if s.case in trained),
        store,
        data.size,
        data.target,
        config.seed,
        data.shift,
        data.empty_share,
        data.raters,
        data.point,
    )
    held_out = loaded_cases([s for s in slices if s.case not in trained], store, validation.cases)
    return TrainingData(replace(config, dataset=data), source, split, tuple(held_out), tuple(seen[: len(split.train)]))

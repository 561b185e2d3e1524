"""Cases that a model was not trained on, to judge it by: those of a part of the split, or phantoms of other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.lung_phantom import Phantom, phantom_case, phantom_classes, window
from AmbiguousSegLib.data.readers import Case, load_case
from AmbiguousSegLib.data.split import Split
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label

HELD_OUT_SEEDS = {"validation": 1, "test": 2}  # added to the seed of the training phantom
_RATERS = 2  # stream of random numbers under the phantom's seed


@dataclass(frozen=True)
class EvaluationCase:
    """A case to score: image float32 ``(C, H, W)`` in [0, 1], raters' masks, uint8 label maps ``(R, H, W)``."""

    identity: str
    image: np.ndarray
    masks: np.ndarray


def loaded_cases(cases: Sequence[Case], size: tuple[int, int], classes: int) -> list[EvaluationCase]:
    """Cases of a reader at ``size``; ValueError as ``load_case``."""
    return [EvaluationCase(case.identity, *load_case(case, size, classes)) for case in cases]


def held_out_cases(
    config: DataConfig,
    split: Split | None,
    part: str,
    count: int | None,
    raters: int,
    labels: Sequence[Label] = DEFAULT_LABELS,
) -> list[EvaluationCase]:
    """The first ``count`` cases (None: all) of the part "validation" or "test"; phantom cases are made with ``raters``.

    Args:
        split: of ``open_data``; None for the phantom.
        labels: of the masks, 1 to K.

    Raises:
        ValueError: the phantom without a count, or with other labels than it has; cases that cannot be read.
    """
    if split is not None:
        return loaded_cases(getattr(split, part)[:count], config.size, len(labels))
    if count is None:
        raise ValueError("The phantom is endless; say how many cases to hold out.")
    seed = held_out_seed(config, part)
    made = []
    for index, phantom in enumerate(held_out_phantoms(config, part, count, labels)):
        masks = phantom.draw_masks(np.random.default_rng([seed, _RATERS, index]), raters)
        made.append(EvaluationCase(f"phantom/{seed}/{index}", window(phantom.image)[None], masks))
    return made


def held_out_phantoms(
    config: DataConfig, part: str, count: int, labels: Sequence[Label] = DEFAULT_LABELS
) -> list[Phantom]:
    """The phantoms of :func:`held_out_cases`, whose true distribution is known."""
    seed, spacing = held_out_seed(config, part), config.phantom_spacing_mm
    classes = phantom_classes([label.name for label in labels])
    return [phantom_case(seed, index, config.size, spacing, classes) for index in range(count)]


def held_out_seed(config: DataConfig, part: str) -> int:
    """Seed of the phantoms of the part "validation" or "test"."""
    return config.phantom_seed + HELD_OUT_SEEDS[part]

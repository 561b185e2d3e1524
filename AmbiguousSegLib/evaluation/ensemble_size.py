"""How good the consensus of n samples is, for each n: the score of an implicit ensemble against its size.

Wolleb et al., Diffusion Models for Implicit Image Segmentation Ensembles, MIDL 2022: Table 1 (one sample and the
ensemble of five, cases of an empty prediction counted and left out in square brackets) and Fig. 4 (Dice against the
number of samples). The ensemble is the mean of the masks thresholded at 0.5; here a pixel must be marked by *more* than
half of the n masks (the paper is silent on exactly one half), so that an even n marks no more than n − 1 would
(of several classes, where the most frequent one is marked, it may: the last sample can break a tie).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from AmbiguousSegLib.ensemble.consensus import majority_of
from AmbiguousSegLib.evaluation.comparison import by_label
from AmbiguousSegLib.metrics.mask_sets import SPACING, MaskSets

REFERENCES = ("majority", "each")
_STREAM = 5  # of random numbers under the seed, for subsets


@dataclass(frozen=True)
class SizeScores:
    """One case with a reference that marks something, of one class or of all; float64 ``(sizes,)`` each.

    Attributes:
        identity, subject: of the case, and whom it shows.
        dice, iou: of the consensus of n samples with the reference; 0 where the consensus is empty.
        empty: share of the consensuses that mark nothing: 0 or 1 without random subsets.
        hd95_mm: sum of HD95 over the pairs of a consensus and a reference where it is defined, by the number of all
            pairs; ``measured``: share of the pairs where it is. nan where the pixel spacing is unknown.
        single_dice, single_iou: means over all N samples, each on its own (the paper's Table 2, "Average").
    """

    identity: str
    subject: str
    dice: np.ndarray
    iou: np.ndarray
    empty: np.ndarray
    hd95_mm: np.ndarray
    measured: np.ndarray
    single_dice: float
    single_iou: float


@dataclass(frozen=True)
class SizeCurve:
    """All cases of one source of samples, of one class or of all.

    Attributes:
        name: of the source.
        label: the class; empty where there is one.
        sizes: numbers of samples n, ascending.
        samples: N, how many there were to choose from.
        cases: those whose reference marks something.
        without_reference: identities of those whose reference marks nothing; they are left out, as the paper does.
    """

    name: str
    label: str
    sizes: tuple[int, ...]
    samples: int
    cases: tuple[SizeScores, ...]
    without_reference: tuple[str, ...] = ()


def checked_sizes(sizes: Sequence[int], samples: int) -> tuple[int, ...]:
    """Sizes in ascending order, each once; ValueError for one that is not 1 to ``samples``, or for none."""
    found = tuple(sorted(set(sizes)))
    if not found or found[0] < 1 or found[-1] > samples:
        told = ", ".join(map(str, found)) or "none"
        raise ValueError(f"Ensemble sizes must lie in 1 to {samples}, the number of samples, got {told}.")
    return found


def chosen_samples(sizes: Sequence[int], samples: int, subsets: int = 0, seed: int = 0) -> dict[int, np.ndarray]:
    """Which samples make up an ensemble of each size: int ``(S, n)`` for each n.

    Args:
        sizes: numbers of samples n, each 1 to ``samples``.
        samples: N.
        subsets: how many random subsets of each size, drawn without replacement from all N, the same for all cases; 0:
            one, the first n. There is one alone of size N.
        seed: of the subsets; those of one size do not depend on which others are asked for.
    """
    if subsets < 0:
        raise ValueError(f"The number of random subsets must be 0 or more, got {subsets}.")
    chosen = {}
    for n in sizes:
        if subsets == 0 or n == samples:
            chosen[n] = np.arange(n)[None]
        else:
            rng = np.random.default_rng([seed, _STREAM, n])
            chosen[n] = np.stack([rng.permutation(samples)[:n] for _ in range(subsets)])
    return chosen


def size_scores(
    identity: str,
    subject: str,
    sets: MaskSets,
    labels: Sequence[str],
    chosen: Mapping[int, np.ndarray],
    reference: str = REFERENCES[0],
) -> dict[str, SizeScores | None]:
    """Scores of one case for each class and for all, under the keys of ``by_label``; None: its reference is empty.

    Consensus and the raters' majority are those of ``majority_of``: more than half, ties to background.

    Args:
        sets: samples and raters, with the pixel spacing where it is known.
        labels: names of the classes 1 to K.
        chosen: as ``chosen_samples``.
        reference: "majority": what more than half of the raters mark; "each": each rater who marks something, and the
            mean over them.

    Raises:
        ValueError: an unknown reference; as ``by_label``.
    """
    if reference not in REFERENCES:
        raise ValueError(f"The reference of an ensemble is one of {', '.join(REFERENCES)}, got {reference!r}.")
    raters = sets.raters if reference == "each" else majority_of(sets.raters, sets.classes)[None]
    ensembles = np.stack([majority_of(sets.samples[one], sets.classes) for rows in chosen.values() for one in rows])
    fused = replace(sets, samples=ensembles, raters=raters, label=None, _found={})
    alone = replace(sets, raters=raters, label=None, _found={})
    starts = np.cumsum([0, *(len(rows) for rows in chosen.values())])
    both = zip(by_label(fused, labels).items(), by_label(alone, labels).values())
    return {label: _scores(identity, subject, own, single, starts) for (label, own), single in both}


def _scores(identity: str, subject: str, own: MaskSets, single: MaskSets, starts: np.ndarray) -> SizeScores | None:
    ensembles, raters = (np.array([mask.any() for mask in masks], bool) for masks in own.marked())
    if not raters.any():
        return None

    def by_size(values: np.ndarray) -> np.ndarray:
        return np.array([values[a:b].mean() for a, b in itertools.pairwise(starts.tolist())])

    known, unknown = SPACING in own.has, np.full(len(starts) - 1, math.nan)
    distances = own.surface()[0][:, raters] if known else np.empty(0)
    return SizeScores(
        identity,
        subject,
        by_size(own.cross.dice[:, raters]),
        by_size(own.cross.iou[:, raters]),
        by_size(~ensembles),
        by_size(np.nan_to_num(distances)) if known else unknown,
        by_size(~np.isnan(distances)) if known else unknown,
        float(single.cross.dice[:, raters].mean()),
        float(single.cross.iou[:, raters].mean()),
    )

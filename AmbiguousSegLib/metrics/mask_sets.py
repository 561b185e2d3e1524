"""What a figure is computed from: sampled masks and raters' masks, with their pairs counted once for all figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from AmbiguousSegLib.label_maps import class_mask
from AmbiguousSegLib.metrics.distribution import combined_sensitivity
from AmbiguousSegLib.metrics.overlap import Counts, as_label_maps, pairwise_counts
from AmbiguousSegLib.metrics.surface import pairwise_surface_metrics

SPACING, VOLUME, PLANE = "spacing", "volume", "plane"
NEEDS = {
    SPACING: "the spacing of the pixels in mm",
    VOLUME: "the volume of a voxel in mL",
    PLANE: "2-D masks",
}


@dataclass(frozen=True)
class Pairs:
    """All pairs of masks of two sets, or of one set with itself.

    Attributes:
        counts: with the classes looked at along the first axis: ``intersection`` ``(classes, A, B)``.
    """

    counts: Counts

    @cached_property
    def iou(self) -> np.ndarray:
        """IoU, mean over the classes present in either mask: float64 ``(A, B)``; no class present: 1."""
        return self.counts.mean_over_present(self.counts.iou(), none=1.0)

    @cached_property
    def dice(self) -> np.ndarray:
        """Dice, mean over the classes present in either mask: float64 ``(A, B)``; no class present: 1."""
        return self.counts.mean_over_present(self.counts.dice(), none=1.0)


@dataclass(frozen=True)
class MaskSets:
    """Samples and raters on one grid, looked at for one class or for all.

    Attributes:
        samples, raters: label maps, uint8 ``(N, *spatial)`` and ``(M, *spatial)``, N and M ≥ 1: 0 background, 1 to K
            the classes. Bool masks are taken as label maps of one class, without a copy.
        classes: K.
        label: the class looked at, 1 to K; None: all of them.
        spacing_mm: of a pixel along each spatial axis; None if unknown.
        voxel_volume_ml: None if unknown, as for 2-D images.

    Raises:
        ValueError: masks of another type, an empty set, grids that differ, a label beyond K.
    """

    samples: np.ndarray
    raters: np.ndarray
    classes: int = 1
    label: int | None = None
    spacing_mm: tuple[float, ...] | None = None
    voxel_volume_ml: float | None = None
    _found: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)  # of each class, for all views

    def __post_init__(self) -> None:
        for name in ("samples", "raters"):
            object.__setattr__(self, name, as_label_maps(getattr(self, name), self.classes, name))
        if self.samples.shape[1:] != self.raters.shape[1:]:
            raise ValueError(
                f"Samples and raters must lie on one grid, got {self.samples.shape[1:]} and {self.raters.shape[1:]}. "
                "Resample one set onto the grid of the other."
            )
        if self.label is not None and not 1 <= self.label <= self.classes:
            raise ValueError(f"A label is one of 1 to {self.classes}, got {self.label}.")

    def of_class(self, label: int | None) -> MaskSets:
        """The same masks looked at for another class (None: all); what was computed of a class is kept."""
        return replace(self, label=label)

    @property
    def labels(self) -> tuple[int, ...]:
        """The classes looked at."""
        return tuple(range(1, self.classes + 1)) if self.label is None else (self.label,)

    @property
    def has(self) -> frozenset[str]:
        """Which of ``NEEDS`` are met."""
        met = {
            SPACING: self.spacing_mm is not None,
            VOLUME: self.voxel_volume_ml is not None,
            PLANE: self.samples.ndim == 3,
        }
        return frozenset(need for need, there in met.items() if there)

    def known_spacing(self) -> tuple[float, ...]:
        """``spacing_mm``; ValueError if it is unknown."""
        if self.spacing_mm is None:
            raise ValueError(f"Lengths in mm need {NEEDS[SPACING]}; give it.")
        return self.spacing_mm

    def masks(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Where samples and raters have a class: bool, shapes of both; views if there is one class."""
        return class_mask(self.samples, label, self.classes), class_mask(self.raters, label, self.classes)

    def marked(self) -> tuple[np.ndarray, np.ndarray]:
        """Where samples and raters have any of the classes looked at: bool, shapes of both."""
        return self.masks(self.labels[0]) if len(self.labels) == 1 else (self.samples != 0, self.raters != 0)

    @cached_property
    def cross(self) -> Pairs:
        """Each sample with each rater."""
        return self._pairs(0)

    @cached_property
    def among_samples(self) -> Pairs:
        """Each sample with each sample, itself included."""
        return self._pairs(1)

    @cached_property
    def among_raters(self) -> Pairs:
        """Each rater with each rater, himself included."""
        return self._pairs(2)

    @cached_property
    def combined_sensitivity(self) -> float:
        """S_c, mean over the classes that any rater marks; 1 if there are none."""
        found = [combined_sensitivity(*self.masks(label)) for label in self.labels if self._raters_mark(label)]
        return float(np.mean(found)) if found else 1.0

    @cached_property
    def all_raters_empty(self) -> bool:
        """Whether no rater marks any of the classes looked at."""
        return not any(self._raters_mark(label) for label in self.labels)

    def samples_differ(self) -> np.ndarray:
        """Share of the pixels in which two samples have different labels: float64 ``(N, N)`` in [0, 1]."""
        counts = self.among_samples.counts
        if len(self.labels) == 1:
            return counts.difference()[0] / counts.pixels
        marked = self.samples != 0
        either = pairwise_counts(marked, marked)
        union = either.size_a + either.size_b - either.intersection
        return (union - counts.intersection.sum(axis=0)) / counts.pixels

    def surface(self, on_map: Callable[[], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """HD95 and ASSD in mm of each sample with each rater: float64 ``(N, M)`` each, nan where undefined.

        Means over the classes present in both masks; nan where a class is present in one of them only; 0 where none
        is present in either.

        Args:
            on_map: called N + M times for each class that was not measured before; it may raise to stop.
        """
        for label in self.labels:
            if ("surface", label) not in self._found:
                found = pairwise_surface_metrics(*self.masks(label), self.known_spacing(), on_map)
                self._found["surface", label] = found
        hd95_mm, assd_mm = (np.stack(v) for v in zip(*(self._found["surface", label] for label in self.labels)))
        counts = self.cross.counts
        return counts.mean_over_present(hd95_mm, none=0.0), counts.mean_over_present(assd_mm, none=0.0)

    def _raters_mark(self, label: int) -> bool:
        return bool(self._counts(label)[2].size_a.any())

    def _pairs(self, which: int) -> Pairs:
        return Pairs(Counts.of_classes([self._counts(label)[which] for label in self.labels]))

    def _counts(self, label: int) -> tuple[Counts, Counts, Counts]:
        if label not in self._found:
            samples, raters = self.masks(label)
            pairs = ((samples, raters), (samples, samples), (raters, raters))
            self._found[label] = tuple(pairwise_counts(a, b) for a, b in pairs)
        return self._found[label]

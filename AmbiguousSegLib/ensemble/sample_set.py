"""The set of sampled masks: everything that is shown or written derives from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from AmbiguousSegLib.ensemble.consensus import consensus_of_means
from AmbiguousSegLib.ensemble.disagreement import predictive_entropy
from AmbiguousSegLib.label_maps import as_label_map, class_mask
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label, check_labels
from AmbiguousSegLib.metrics.order_statistics import least_draws, level_of_range
from AmbiguousSegLib.volume.geometry import Geometry

INTERVAL_PERCENTILES = (2.5, 97.5)
LEAST_FOR_INTERVAL = least_draws(0.95)
LEAST, GREATEST = "least", "greatest"


@dataclass(frozen=True)
class SampleSet:
    """N masks of one volume on its own grid, with where they came from.

    Attributes:
        masks: label maps, uint8 ``(N, Z, Y, X)``: 0 background, 1 to K the ``labels``. A bool array is taken as label
            maps of one class, without a copy.
        geometry: grid of the masks; its shape equals ``masks.shape[1:]``.
        provenance: what made them (seed, model name and weights' sha256, settings, slice range, region); plain
            JSON types.
        labels: what the classes 1 to K are.
        maps: what the model itself says of each voxel beside its masks, by name: float32 ``(Z, Y, X)`` each.

    Raises:
        ValueError: masks or maps of another type or shape, no mask, a label beyond K, labels that ``check_labels``
            refuses.
    """

    masks: np.ndarray
    geometry: Geometry
    provenance: dict[str, Any] = field(default_factory=dict)
    labels: tuple[Label, ...] = DEFAULT_LABELS
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    _means: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_labels(self.labels)
        object.__setattr__(self, "masks", as_label_map(self.masks))
        if self.masks.ndim != 4 or len(self.masks) == 0:
            raise ValueError(f"SampleSet.masks must be uint8 (N, Z, Y, X) with N ≥ 1, got {self.masks.shape}.")
        if self.masks.shape[1:] != self.geometry.shape:
            raise ValueError(
                f"SampleSet.masks of shape {self.masks.shape[1:]} do not fit the grid {self.geometry.shape} (Z, Y, X)."
            )
        if self.masks.max() > self.classes:
            raise ValueError(
                f"SampleSet.masks hold the label {self.masks.max()}, but there are {self.classes}; name every label."
            )

        for name, values in self.maps.items():
            if values.shape != self.geometry.shape or values.dtype != np.float32:
                raise ValueError(
                    f"SampleSet.maps must be float32 {self.geometry.shape} (Z, Y, X), got {values.dtype} "
                    f"{values.shape} for {name}."
                )

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.labels)

    def of_class(self, label: int) -> np.ndarray:
        """Where each sample has ``label`` (1 to K): bool ``(N, Z, Y, X)``; a view of the masks if K = 1."""
        self._check(label)
        return class_mask(self.masks, label, self.classes)

    def mean(self, label: int = 1) -> np.ndarray:
        """Share of samples that give a voxel this label: float32 ``(Z, Y, X)`` in [0, 1], read-only."""
        self._check(label)
        if label not in self._means:
            # One mask at a time, as bytes: no (N, Z, Y, X) array of a wider type is made, and sums stay in registers.
            count = np.zeros(self.geometry.shape, np.uint8 if len(self) < 256 else np.uint16)
            for mask in self.masks:
                count += class_mask(mask, label, self.classes).view(np.uint8)
            mean = count.astype(np.float32)
            mean /= np.float32(len(self))
            mean.flags.writeable = False
            self._means[label] = mean
        return self._means[label]

    def variance(self, label: int = 1) -> np.ndarray:
        """Variance of "has this label", mean·(1 − mean): float32 ``(Z, Y, X)`` in [0, 0.25]."""
        variance = 1 - self.mean(label)
        variance *= self.mean(label)
        return variance

    def entropy(self) -> np.ndarray:
        """Predictive entropy −Σ p·ln p over background and all classes: float32 ``(Z, Y, X)`` in [0, ln(K + 1)], nats.

        p is the share of samples that give a voxel the class, as ``predictive_entropy`` takes it.
        """
        means = [self.mean(label) for label in range(1, self.classes + 1)]
        entropy = np.empty(self.geometry.shape, np.float32)
        for z, plane in enumerate(entropy):  # so that what is computed on the way is one slice
            plane[...] = predictive_entropy([mean[z] for mean in means])
        return entropy

    def consensus(self, threshold: float | None = None) -> np.ndarray:
        """One mask of all samples, as ``consensus_of_means``: label map, uint8 ``(Z, Y, X)``.

        Args:
            threshold: with one class, the share of samples above which a voxel is marked (None: 0.5, a strict
                majority); several classes take none.
        """
        return consensus_of_means([self.mean(label) for label in range(1, self.classes + 1)], threshold)

    def volumes_ml(self, label: int | None = None) -> np.ndarray:
        """Volume of each sample in millilitres, of one class or (None) of all together: float64 ``(N,)``."""
        if label is not None:
            self._check(label)
        marked = [np.count_nonzero(m if label is None else class_mask(m, label, self.classes)) for m in self.masks]
        return np.array(marked) * self.geometry.voxel_volume_ml

    def volume_summary(self, label: int | None = None) -> dict[str, Any]:
        """Volume of each sample in mL, their mean, range, and the interval that holds one more in 95 % of cases.

        Of one class, or (None) of all together; plain JSON types. The interval is None with fewer samples than hold one
        (``least_draws``), and "interval_meaning" says so; "range_level" is ``level_of_range``.
        """
        volumes, n = self.volumes_ml(label), len(self)
        low, high = ends(volumes).values()
        enough = n >= LEAST_FOR_INTERVAL
        return {
            "unit": "mL",
            "samples": [float(v) for v in volumes],
            "mean": float(volumes.mean()),
            "range": [float(volumes.min()), float(volumes.max())],
            "range_level": level_of_range(n),
            "interval_95": [low, high] if enough else None,
            "interval_meaning": "2.5th to 97.5th percentile of the samples"
            if enough
            else f"none: one more sample lies within the range of {n} in {100 * level_of_range(n):.0f} % of cases, and "
            f"95 % needs {LEAST_FOR_INTERVAL} samples",
        }

    def _check(self, label: int) -> None:
        if not 1 <= label <= self.classes:
            raise ValueError(f"A label is one of 1 to {self.classes}, got {label}.")


def ends(values: np.ndarray) -> dict[str, float]:
    """How far figures of samples reach, by the names of both ends: percentiles between which one more lies in 95 % of
    cases, or the least and the greatest of fewer samples than hold such an interval.

    The k-th of N is the percentile k/(N + 1) (Weibull 1939), the share below it that is expected: so 39 samples, the
    fewest, have their range, and 79 all but the outermost two; numbers between interpolate. Percentiles
    (k − 1)/(N − 1), as numpy takes them by itself, would hold .902 with 39.

    Args:
        values: float ``(N,)``, N ≥ 1.
    """
    if len(values) < LEAST_FOR_INTERVAL:
        return {LEAST: float(values.min()), GREATEST: float(values.max())}
    low, high = np.percentile(values, INTERVAL_PERCENTILES, method="weibull")
    return {f"{p:g}th percentile": float(v) for p, v in zip(INTERVAL_PERCENTILES, (low, high))}

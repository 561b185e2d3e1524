"""The set of sampled masks: everything that is shown or written derives from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from AmbiguousSegLib.volume.geometry import Geometry

INTERVAL_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class SampleSet:
    """N binary masks of one volume on its own grid, with where they came from.

    Attributes:
        masks: bool ``(N, Z, Y, X)``.
        geometry: grid of the masks; its shape equals ``masks.shape[1:]``.
        provenance: what made them (seed, model name and weights' sha256, settings, slice range, region); plain
            JSON types.
        label: name of what is segmented, shown to the user.
    """

    masks: np.ndarray
    geometry: Geometry
    provenance: dict[str, Any] = field(default_factory=dict)
    label: str = "lesion"

    def __post_init__(self) -> None:
        if self.masks.ndim != 4 or self.masks.dtype != bool or len(self.masks) == 0:
            raise ValueError(
                f"SampleSet.masks must be bool (N, Z, Y, X) with N ≥ 1, got {self.masks.dtype} {self.masks.shape}."
            )
        if self.masks.shape[1:] != self.geometry.shape:
            raise ValueError(
                f"SampleSet.masks of shape {self.masks.shape[1:]} do not fit the grid {self.geometry.shape} (Z, Y, X)."
            )

    def __len__(self) -> int:
        return len(self.masks)

    def mean(self) -> np.ndarray:
        """Share of samples that mark a voxel: float32 ``(Z, Y, X)`` in [0, 1], read-only."""
        return self._mean

    @cached_property
    def _mean(self) -> np.ndarray:
        # One mask at a time, as bytes: no (N, Z, Y, X) array of a wider type is made, and sums stay in registers.
        count = np.zeros(self.geometry.shape, np.uint8 if len(self) < 256 else np.uint16)
        for mask in self.masks:
            count += mask.view(np.uint8)
        mean = count.astype(np.float32)
        mean /= np.float32(len(self))
        mean.flags.writeable = False
        return mean

    def variance(self) -> np.ndarray:
        """Variance of the binary samples, mean·(1 − mean): float32 ``(Z, Y, X)`` in [0, 0.25]."""
        variance = 1 - self.mean()
        variance *= self.mean()
        return variance

    def consensus(self, threshold: float = 0.5) -> np.ndarray:
        """Voxels marked by more than ``threshold`` of the samples (0.5: strict majority): bool ``(Z, Y, X)``."""
        if not 0 <= threshold < 1:
            raise ValueError(f"Consensus threshold must lie in [0, 1), got {threshold}.")
        return self.mean() > threshold

    def volumes_ml(self) -> np.ndarray:
        """Volume of each sample in millilitres: float64 ``(N,)``."""
        return np.array([np.count_nonzero(mask) for mask in self.masks]) * self.geometry.voxel_volume_ml

    def volume_summary(self) -> dict[str, Any]:
        """Volume of each sample in mL, their mean, and the interval that holds the central 95 % of the samples."""
        volumes = self.volumes_ml()
        low, high = np.percentile(volumes, INTERVAL_PERCENTILES)
        return {
            "unit": "mL",
            "samples": [float(v) for v in volumes],
            "mean": float(volumes.mean()),
            "interval_95": [float(low), float(high)],
            "interval_meaning": "2.5th to 97.5th percentile of the samples",
        }

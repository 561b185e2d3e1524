"""One picture of a sample set: the slices where the samples disagree most."""

from __future__ import annotations

import numpy as np

from AmbiguousSegLib.ensemble.disagreement import slices_by_disagreement
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.plotting.pictures import CONSENSUS, SAMPLE, captioned, fitted, heat, outlined, photograph, sheet
from AmbiguousSegLib.volume.geometry import SliceAxes

_SIDE = 160  # pixels of one picture
_SLICES, _SAMPLES = 6, 6
_LEAST_FIELD_MM, _MARGIN = 40.0, 0.35


def overview(sample_set: SampleSet, volume: np.ndarray) -> np.ndarray:
    """RGB uint8: a row for each of the slices with most disagreement, top to bottom in the order of the stack.

    A row shows the image, the first samples' outlines, the consensus' outline, the mean map (black 0, white 1) and the
    variance map (black 0, white 0.25), all cut to where any sample marks something.

    Args:
        volume: ``(C, Z, Y, X)`` on the set's grid; shown between its 1st and 99th percentile.
    """
    plane = "axial" if sample_set.geometry.size[2] > 1 else "stored"
    axes = SliceAxes.of(sample_set.geometry, plane)
    mean, variance = axes.view(sample_set.mean()), axes.view(sample_set.variance())
    slices = most_disagreement(variance, mean, _SLICES)
    window = _window(mean.max(0) > 0, axes.of_index(sample_set.geometry.spacing_mm)[1:])
    low, high = np.percentile(volume, (1, 99), axis=(1, 2, 3))
    rows = []
    for z in slices:
        scale = np.maximum(high - low, 1e-6)[:, None, None]
        image = np.clip((axes.view(volume)[(slice(None), z, *window)] - low[:, None, None]) / scale, 0, 1)
        base = fitted(photograph(image), (_SIDE, _SIDE))

        def drawn(mask: np.ndarray, color: tuple[int, int, int], base: np.ndarray = base) -> np.ndarray:
            large = fitted(np.repeat(mask[..., None] * np.uint8(255), 3, 2), (_SIDE, _SIDE))[..., 0] > 127
            return outlined(base, large, color)

        cut = (z, *window)
        row = [captioned(base, f"slice {z}")]
        for k, mask in enumerate(sample_set.masks[:_SAMPLES]):
            row.append(captioned(drawn(axes.view(mask)[cut], SAMPLE), f"sample {k + 1}"))
        row.append(captioned(drawn(mean[cut] > 0.5, CONSENSUS), "consensus"))
        row.append(captioned(fitted(heat(mean[cut], 1.0), (_SIDE, _SIDE)), "mean"))
        row.append(captioned(fitted(heat(variance[cut], 0.25), (_SIDE, _SIDE)), "variance"))
        rows.append(row)
    return sheet(rows)


def most_disagreement(variance: np.ndarray, mean: np.ndarray, count: int) -> list[int]:
    """The first ``count`` of ``slices_by_disagreement``, in stack order; the middle slice if nothing is marked."""
    return sorted(slices_by_disagreement(variance, mean)[:count]) or [len(variance) // 2]


def _window(marked: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Square field (in mm) around all that is marked, with a margin; as much of it as the plane has."""
    if not marked.any():
        return slice(None), slice(None)
    spans = [np.flatnonzero(marked.any(axis)) for axis in (1, 0)]
    field = max(_LEAST_FIELD_MM, *((s[-1] - s[0] + 1) * mm * (1 + 2 * _MARGIN) for s, mm in zip(spans, spacing_mm)))
    window = []
    for span, mm, length in zip(spans, spacing_mm, marked.shape):
        half, centre = field / mm / 2, (span[0] + span[-1] + 1) / 2
        begin = int(np.clip(round(centre - half), 0, max(0, length - round(2 * half))))
        window.append(slice(begin, min(length, begin + round(2 * half))))
    return tuple(window)

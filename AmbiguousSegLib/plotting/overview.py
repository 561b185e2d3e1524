"""One picture of a sample set: the slices where the samples disagree most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from AmbiguousSegLib.boxes import bounding_box
from AmbiguousSegLib.ensemble.consensus import consensus_of_means
from AmbiguousSegLib.ensemble.disagreement import slices_by_disagreement
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.plotting.pictures import (
    CONSENSUS,
    SAMPLE,
    WHITE,
    Color,
    captioned,
    colors_of,
    fitted,
    heat,
    outlined,
    photograph,
    sheet,
)
from AmbiguousSegLib.volume.geometry import SliceAxes

_SIDE = 160  # pixels of one picture
_SLICES, _SAMPLES, _MEANS = 6, 6, 3
_LEAST_FIELD_MM, _MARGIN = 40.0, 0.35


def overview(sample_set: SampleSet, volume: np.ndarray) -> np.ndarray:
    """RGB uint8: a row for each of the slices with most disagreement, top to bottom in the order of the stack.

    A row shows the image, the first samples' outlines, the consensus' outline, the mean map (black 0, white 1) and the
    variance map (black 0, white 0.25), all cut to where any sample marks something. Several classes are outlined in
    their own colours; there is a mean map for each of up to three, titled in its colour, of more one of all together,
    and, in place of the variance, the entropy (black 0, white its largest, ln(K + 1)).

    Args:
        volume: ``(C, Z, Y, X)`` on the set's grid; shown between its 1st and 99th percentile.
    """
    plane = "axial" if sample_set.geometry.size[2] > 1 else "stored"
    axes = SliceAxes.of(sample_set.geometry, plane)
    means = [axes.view(sample_set.mean(label)) for label in range(1, 1 + sample_set.classes)]
    marked, spread, maps = _maps(sample_set, axes, means)
    slices = most_disagreement(spread, marked, _SLICES)
    y, x = _window(marked.max(0) > 0, axes.of_index(sample_set.geometry.spacing_mm)[1:])
    low, high = np.percentile(volume, (1, 99), axis=(1, 2, 3))
    rows = []
    for z in slices:
        scale = np.maximum(high - low, 1e-6)[:, None, None]
        image = np.clip((axes.view(volume)[:, z, y, x] - low[:, None, None]) / scale, 0, 1)
        base = fitted(photograph(image), (_SIDE, _SIDE))

        def drawn(label_map: np.ndarray, single: Color, base: np.ndarray = base) -> np.ndarray:
            for number, color in enumerate(colors_of(sample_set.labels, single), start=1):
                bright = np.repeat((label_map == number)[..., None] * np.uint8(255), 3, 2)
                base = outlined(base, fitted(bright, (_SIDE, _SIDE))[..., 0] > 127, color)
            return base

        row = [captioned(base, f"slice {z}")]
        for k, mask in enumerate(sample_set.masks[:_SAMPLES]):
            row.append(captioned(drawn(axes.view(mask)[z, y, x], SAMPLE), f"sample {k + 1}"))
        row.append(captioned(drawn(consensus_of_means([mean[z, y, x] for mean in means]), CONSENSUS), "consensus"))
        for caption, values, largest, color in maps:
            row.append(captioned(fitted(heat(values[z, y, x], largest), (_SIDE, _SIDE)), caption, color))
        rows.append(row)
    return sheet(rows)


def _maps(
    sample_set: SampleSet, axes: SliceAxes, means: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, np.ndarray, float, Color]]]:
    """Share of samples that mark a voxel at all, their disagreement, and each map with title, maximum and colour."""
    labels = sample_set.labels
    if len(labels) == 1:
        variance = axes.view(sample_set.variance())
        return means[0], variance, [("mean", means[0], 1.0, WHITE), ("variance", variance, 0.25, WHITE)]
    marked, entropy = sum(means[1:], means[0]), axes.view(sample_set.entropy())
    colors = colors_of(labels, WHITE)
    shown = [(f"mean {label.name}", mean, 1.0, color) for label, mean, color in zip(labels, means, colors)]
    if len(labels) > _MEANS:
        shown = [("mean of all", marked, 1.0, WHITE)]
    return marked, entropy, [*shown, ("entropy", entropy, math.log(1 + len(labels)), WHITE)]


def most_disagreement(variance: np.ndarray, mean: np.ndarray, count: int) -> list[int]:
    """The first ``count`` of ``slices_by_disagreement``, in stack order; the middle slice if nothing is marked."""
    return sorted(slices_by_disagreement(variance, mean)[:count]) or [len(variance) // 2]


def _window(marked: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[slice, ...]:
    """Square field (in mm) around all that is marked, with a margin; as much of it as the plane has."""
    box = bounding_box(marked)
    if box is None:
        return slice(None), slice(None)
    field = max(_LEAST_FIELD_MM, *((s.stop - s.start) * mm * (1 + 2 * _MARGIN) for s, mm in zip(box, spacing_mm)))
    window = []
    for span, mm, length in zip(box, spacing_mm, marked.shape):
        half, centre = field / mm / 2, (span.start + span.stop) / 2
        begin = int(np.clip(round(centre - half), 0, max(0, length - round(2 * half))))
        window.append(slice(begin, min(length, begin + round(2 * half))))
    return tuple(window)

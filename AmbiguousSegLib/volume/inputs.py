"""What images are like: grid, values and modality, of one image or of all that a model was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from AmbiguousSegLib.volume.geometry import Geometry, Region, SliceAxes

_MOST_VALUES = 2_000_000  # percentiles are taken of about so many where there are more

Span = tuple[float, float]
"""Lowest and highest over the images."""
N = TypeVar("N", int, float)


@dataclass(frozen=True)
class ChannelValues:
    """Stored values of a channel: extremes, percentiles 0.5, 50 and 99.5, and whether all are whole numbers."""

    least: float
    low: float
    median: float
    high: float
    greatest: float
    whole: bool


def channel_values(channel: np.ndarray) -> ChannelValues | None:
    """What is in a channel, an array of any shape; None if it holds NaN or infinity."""
    least, greatest = float(channel.min()), float(channel.max())  # a NaN survives min and max
    if not np.isfinite([least, greatest]).all():
        return None
    step = max(1, channel.size // _MOST_VALUES)
    while math.gcd(step, channel.size) > 1:  # else it would see some rows or columns, and others never
        step += 1
    some = channel.ravel()[::step]
    low, median, high = (float(v) for v in np.percentile(some.astype(float), (0.5, 50, 99.5)))
    whole = channel.dtype.kind in "iu" or bool(np.array_equal(some, np.rint(some)))
    return ChannelValues(least, low, median, high, greatest, whole)


@dataclass(frozen=True)
class ChannelSpans:
    """Stored values of a channel over several images.

    Attributes:
        least, low, median, high, greatest: spans of what ``ChannelValues`` says of each image.
        middle: span of where an image's median lies between its percentiles 0.5 and 99.5, in [0, 1]: the same in
            whatever unit values are.
        whole: every image holds whole numbers.
    """

    least: Span
    low: Span
    median: Span
    high: Span
    greatest: Span
    middle: Span
    whole: bool

    def __post_init__(self) -> None:
        for name in ("least", "low", "median", "high", "greatest", "middle"):
            _check_span(getattr(self, name), f"channels.{name}", -math.inf)

    @classmethod
    def of(cls, values: ChannelValues) -> ChannelSpans:
        """Those of one image."""
        width = values.high - values.low
        middle = (values.median - values.low) / width if width > 0 else 0.0
        return cls(
            least=(values.least, values.least),
            low=(values.low, values.low),
            median=(values.median, values.median),
            high=(values.high, values.high),
            greatest=(values.greatest, values.greatest),
            middle=(middle, middle),
            whole=values.whole,
        )

    @classmethod
    def merged(cls, images: Sequence[ChannelSpans]) -> ChannelSpans:
        """Those of all these images together, at least one."""
        return cls(
            least=_around(one.least for one in images),
            low=_around(one.low for one in images),
            median=_around(one.median for one in images),
            high=_around(one.high for one in images),
            greatest=_around(one.greatest for one in images),
            middle=_around(one.middle for one in images),
            whole=all(one.whole for one in images),
        )

    @property
    def stored(self) -> str:
        """Smallest type that holds them: "uint8", "uint16", "int16", "int32" or, with fractions, "float32"."""
        for kind in (np.uint8, np.uint16, np.int16, np.int32) if self.whole else ():
            if np.iinfo(kind).min <= self.least[0] and self.greatest[1] <= np.iinfo(kind).max:
                return np.dtype(kind).name
        return "float32"


@dataclass(frozen=True)
class Inputs:
    """What images are like, of one or of all that a model was trained on; part of the model, stored as plain JSON.

    Attributes:
        channels: values as stored, of each channel.
        rows_px, columns_px: spans of height and width of slices, before patches were cut from them.
        modalities: as DICOM names them: "CT", "MR"; those of images that do not tell are missing.
        pixel_mm: span of the edges of pixels within a slice; None where no image tells them.
        slice_mm: span of the distances of slices; None where no image has several.
        pictures: some were pictures that do not tell the size of their pixels.
        images: how many images this was seen in.
    """

    channels: tuple[ChannelSpans, ...]
    rows_px: tuple[int, int]
    columns_px: tuple[int, int]
    modalities: tuple[str, ...] = ()
    pixel_mm: Span | None = None
    slice_mm: Span | None = None
    pictures: bool = False
    images: int = 1

    def __post_init__(self) -> None:
        for name in ("rows_px", "columns_px", "pixel_mm", "slice_mm"):
            if getattr(self, name) is not None:
                _check_span(getattr(self, name), name, 0)

    @classmethod
    def of(
        cls,
        values: Sequence[ChannelValues],
        geometry: Geometry,
        plane: str,
        modality: str = "",
        picture: bool = False,
        region: Region | None = None,
    ) -> Inputs:
        """Those of one image.

        Args:
            values: of each channel.
            geometry: grid of the image.
            plane: of the slices, one of ``PLANES``.
            modality: as DICOM names it; empty: unknown.
            picture: a picture that does not tell the size of its pixels.
            region: box outside of which nothing is seen; None: all of the image is.

        Raises:
            ValueError: a region outside of the image.
        """
        axes = SliceAxes.of(geometry, plane)
        shape, spacing = axes.of_index(geometry.size), axes.of_index(geometry.spacing_mm)
        seen = shape if region is None else tuple(b - a + 1 for a, b in axes.box(geometry, region))
        return cls(
            channels=tuple(ChannelSpans.of(channel) for channel in values),
            rows_px=(seen[1], seen[1]),
            columns_px=(seen[2], seen[2]),
            modalities=(modality,) if modality else (),
            pixel_mm=None if picture else (min(spacing[1:]), max(spacing[1:])),
            slice_mm=None if picture or shape[0] == 1 else (spacing[0], spacing[0]),
            pictures=picture,
        )

    @classmethod
    def merged(cls, images: Iterable[Inputs]) -> Inputs:
        """Those of all these images together.

        Raises:
            ValueError: there is none, or they differ in their number of channels.
        """
        several = list(images)
        counts = sorted({len(one.channels) for one in several})
        if len(counts) != 1:
            raise ValueError(f"Images with one number of channels are needed, got images with {counts or 'none'}.")
        pixels, slices = ([mm for one in several if (mm := getattr(one, n))] for n in ("pixel_mm", "slice_mm"))
        return cls(
            channels=tuple(ChannelSpans.merged(channel) for channel in zip(*(one.channels for one in several))),
            rows_px=_around(one.rows_px for one in several),
            columns_px=_around(one.columns_px for one in several),
            modalities=tuple(sorted({name for one in several for name in one.modalities})),
            pixel_mm=_around(pixels) if pixels else None,
            slice_mm=_around(slices) if slices else None,
            pictures=any(one.pictures for one in several),
            images=sum(one.images for one in several),
        )

    def words(self) -> list[str]:
        """For people, a line each: modality, grid, values."""
        lines = [", ".join(self.modalities)] if self.modalities else []
        size = f"slices of {in_words(self.rows_px)} × {in_words(self.columns_px)} pixels"
        lines.append(size if self.pixel_mm is None else f"{size} of {in_words(self.pixel_mm)} mm")
        if self.slice_mm is not None:
            lines[-1] += f", {in_words(self.slice_mm)} mm apart"
        for number, channel in enumerate(self.channels, start=1):
            name = "values" if len(self.channels) == 1 else f"values of channel {number}"
            ends = in_words((channel.least[0], channel.greatest[1]))
            lines.append(f"{name}: {ends}, medians {in_words(channel.median)} ({channel.stored})")
        return lines


def in_words(span: Span) -> str:
    """A span for people, three digits of each end: "0.46 to 0.98"; "1" where both are that."""
    low, high = (f"{v:.0f}" if abs(v) >= 100 else f"{v:.3g}" for v in span)
    return low if low == high else f"{low} to {high}"


def _around(spans: Iterable[tuple[N, N]]) -> tuple[N, N]:
    """Smallest span that holds all of these, at least one."""
    lowest, highest = zip(*spans)
    return min(lowest), max(highest)


def _check_span(span: Span, name: str, above: float) -> None:
    if not above < span[0] <= span[1] < math.inf:
        expected = "finite numbers" if above < 0 else "positive numbers"
        raise ValueError(f"inputs.{name} must be two {expected}, the lower one first, got {list(span)}.")

"""How a model wants its slices: plain settings, read without torch, and what makes slices by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from AmbiguousSegLib.volume.geometry import PLANES, Geometry, Point, Region, SliceAxes, Window

if TYPE_CHECKING:
    from AmbiguousSegLib.volume.prepared import PreparedVolume

_WORDS = {
    "window": "window {low:g} to {high:g}",
    "percentile": "percentiles {low:g} to {high:g} of the volume",
    "full_scale": "full scale 0 to {high:g}",
    "minmax": "least to greatest value of the volume",
}
RULES = tuple(_WORDS)
_FULL_SCALES = {"uint8": 255.0, "uint16": 65535.0}


@dataclass(frozen=True)
class Intensity:
    """Affine map of a channel onto [0, 1], clipped; its limits depend on the whole volume, never on a slice range.

    Attributes:
        rule: ``window``: ``low`` … ``high`` in stored units (HU). ``percentile``: from the ``low``-th to the
            ``high``-th percentile of the volume. ``full_scale``: 0 … ``high`` (255, 65535); other values are refused.
            ``minmax``: least to greatest value of the volume.
        low, high: as the rule says, None where it has no use for them.
    """

    rule: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"Intensity.rule must be one of {', '.join(RULES)}, got {self.rule!r}.")
        needed = {"window": (True, True), "percentile": (True, True), "full_scale": (False, True)}
        if (self.low is not None, self.high is not None) != needed.get(self.rule, (False, False)):
            raise ValueError(
                "Intensity takes low and high for window and percentile, high for full_scale and neither for minmax, "
                f"got {self}."
            )
        if self.high is not None and not -np.inf < (self.low or 0) < self.high < np.inf:
            raise ValueError(f"Intensity.low (0 for full_scale) must be below Intensity.high, got {self}.")
        if self.rule == "percentile" and not ((self.low or 0) >= 0 and (self.high or 0) <= 100):
            raise ValueError(f"Percentiles must lie in [0, 100], got {self}.")

    def words(self) -> str:
        """For people, in a few words: "window -1000 to 200"."""
        return _WORDS[self.rule].format(low=self.low, high=self.high)

    def limits(self, channel: np.ndarray, name: str) -> tuple[float, float]:
        """Values of ``channel``, any shape, that become 0 and 1.

        Raises:
            ValueError: as ``check_stored``; NaN or infinity; values outside full scale; limits that coincide. ``name``
                is named.
        """
        self.check_stored(channel.dtype.name, name)
        least, greatest = float(channel.min()), float(channel.max())  # a NaN survives min and max
        if self.rule == "percentile" and np.isfinite([least, greatest]).all():
            low, high = np.percentile(np.asarray(channel, np.float32), (float(self.low or 0), float(self.high or 0)))
            return self._apart(float(low), float(high), name)
        return self.limits_of_extremes(least, greatest, name)

    def check_stored(self, kind: str, name: str) -> None:
        """ValueError where this is the full scale of 8 or 16 bits, and values are stored in the other: "uint16"."""
        own = _FULL_SCALES.get(kind)
        if self.rule == "full_scale" and own is not None and own != self.high and self.high in _FULL_SCALES.values():
            bits, other = (8, 16) if own == 255 else (16, 8)
            raise ValueError(
                f"Channel {name} is stored in {bits} bits, of full scale {own:g}; the model expects that of {other} "
                f"bits, {self.high:g}. Convert the image to {other} bits; for training on images of {bits} bits set "
                f"dataset.intensity to {{rule: full_scale, high: {own:g}}}."
            )

    def limits_of_extremes(self, least: float, greatest: float, name: str) -> tuple[float, float]:
        """``limits`` of a channel of these extremes, by a rule that needs no more: any but ``percentile``."""
        if not np.isfinite([least, greatest]).all():
            raise ValueError(f"Channel {name} holds NaN or infinite values; replace them before use.")
        low, high = float(self.low or 0), float(self.high or 0)
        if self.rule == "full_scale":
            if least < 0 or greatest > high:
                raise ValueError(
                    f"Channel {name} reaches from {least:g} to {greatest:g}, the model expects 0 to {high:g}; "
                    "convert the image to that range."
                )
            return 0.0, high
        return (low, high) if self.rule == "window" else self._apart(least, greatest, name)

    def _apart(self, low: float, high: float, name: str) -> tuple[float, float]:
        if not low < high:
            raise ValueError(f"Channel {name} is {low:g} (nearly) everywhere; is it the intended image?")
        return low, high


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its slices; part of the model, stored as plain JSON.

    Attributes:
        channels: names of the input channels, in order.
        plane: ``axial``, ``coronal``, ``sagittal``, or ``stored`` (array order, for photographs and microscopy).
        spacing_mm: edge of the model's square pixels; None: each region is stretched to ``size``.
        size: least height and width in pixels of what the network sees.
        size_multiple: height and width beyond ``size`` are padded to multiples of this.
        intensity: one rule for all channels, or one for each.
        point_sigma_mm: σ of the ``point_map`` that the network reads as one more channel, the last: where somebody
            pointed. None: it reads none.
    """

    channels: tuple[str, ...]
    plane: str
    spacing_mm: float | None
    size: tuple[int, int]
    size_multiple: int
    intensity: Intensity | tuple[Intensity, ...]
    point_sigma_mm: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.channels, tuple) or not self.channels:
            raise ValueError(f"Preprocessing.channels must name at least one channel, got {self.channels!r}.")
        if self.plane not in PLANES:
            raise ValueError(f"Preprocessing.plane must be one of {', '.join(PLANES)}, got {self.plane!r}.")
        if self.spacing_mm is not None and not 0 < self.spacing_mm < np.inf:
            raise ValueError(f"Preprocessing.spacing_mm must be positive or None, got {self.spacing_mm}.")
        if len(self.size) != 2 or self.size_multiple < 1 or any(n < 1 or n % self.size_multiple for n in self.size):
            raise ValueError(
                "Preprocessing.size must be a height and a width that are positive multiples of size_multiple, got "
                f"{self.size} and {self.size_multiple}."
            )
        if isinstance(self.intensity, tuple) and len(self.intensity) != len(self.channels):
            raise ValueError(
                f"Preprocessing.intensity has {len(self.intensity)} rules for {len(self.channels)} channels; give one "
                "rule, or one for each channel."
            )
        if self.point_sigma_mm is not None and not (self.spacing_mm and 0 < self.point_sigma_mm < np.inf):
            raise ValueError(
                "Preprocessing.point_sigma_mm must be positive and needs spacing_mm, or be None, got "
                f"{self.point_sigma_mm} and spacing_mm {self.spacing_mm}."
            )

    @property
    def network_channels(self) -> int:
        """Channels that the network reads: those of the image, and the map of the point where there is one."""
        return len(self.channels) + (self.point_sigma_mm is not None)

    @property
    def pixel_mm(self) -> float:
        """``spacing_mm``; ValueError of a model without, which stretches whatever it is given."""
        if self.spacing_mm is None:
            raise ValueError(
                f"This model has no pixel spacing: it stretches any region to {self.size[0]} × {self.size[1]} pixels, "
                "and there is no window of its own around a point; give a region instead."
            )
        return self.spacing_mm

    @property
    def point_sigma(self) -> float | None:
        """``point_sigma_mm`` in the model's pixels."""
        return None if self.point_sigma_mm is None else self.point_sigma_mm / self.pixel_mm

    @property
    def rules(self) -> tuple[Intensity, ...]:
        """Intensity rule of each channel."""
        return self.intensity if isinstance(self.intensity, tuple) else (self.intensity,) * len(self.channels)

    def limits(self, volume: np.ndarray) -> list[tuple[float, float]]:
        """Values of each channel of ``volume`` that become 0 and 1; ValueError as ``Intensity.limits``."""
        return [rule.limits(channel, name) for rule, channel, name in zip(self.rules, volume, self.channels)]

    def prepare(
        self,
        volume: np.ndarray,
        geometry: Geometry,
        slice_range: tuple[int, int] | None = None,
        region: Region | Window | None = None,
        limits: Sequence[tuple[float, float]] | None = None,
        point: Point | None = None,
    ) -> PreparedVolume:
        """Slices of ``volume`` as the model wants them; computed one at a time, when asked for.

        The grid is turned, by views and without interpolation, to the patient orientation (LPS) nearest to its axes;
        an oblique volume is sliced along its own axes. Slices count from 0 at the feet (axial), the front (coronal),
        the patient's right (sagittal) or the start of the file (stored), over the whole volume.

        Args:
            volume: real numbers ``(C, Z, Y, X)``, one volume per channel of the model, in that order. It is kept.
            geometry: grid of ``volume``.
            slice_range: first and last slice, both included; None: all. Leaves the images of slices unchanged.
            region: box outside of which nothing is seen or written: all voxels it touches, in an oblique volume those
                of the box around it that is parallel to the grid. A window: just these rows and columns. None: the
                whole volume.
            limits: of each channel, where ``limits`` of this volume is known already; None: computed here.
            point: where somebody pointed, in LPS mm, for a network that is told so; None: the middle of the region.

        Raises:
            ValueError: channels or shape that do not fit, values that ``Intensity.limits`` refuses, a volume one pixel
                wide in the model's plane, a slice range or region outside the volume.
        """
        from AmbiguousSegLib.volume.prepared import PreparedVolume  # needs torch, which the settings do without

        if volume.ndim != 4:
            raise ValueError(f"Expected an array (C, Z, Y, X), got one of shape {volume.shape}.")
        if len(volume) != len(self.channels):
            hints = {(3, 1): "save the colour picture in grey", (1, 3): "save the grey picture in colour (RGB)"}
            hint = hints.get((len(volume), len(self.channels)), "give one file for each channel, in this order")
            raise ValueError(
                f"The model expects {len(self.channels)} channel(s), {', '.join(self.channels)}, got {len(volume)}; "
                f"{hint}, or choose a model that is made for it."
            )
        if volume.shape[1:] != geometry.shape:
            raise ValueError(f"Volume of shape {volume.shape[1:]} does not fit a grid of shape {geometry.shape}.")
        axes = SliceAxes.of(geometry, self.plane)
        count, rows, columns = axes.view(volume).shape[1:]
        if min(rows, columns) == 1:
            raise ValueError(
                f"In the {self.plane} plane this volume is {rows} × {columns} pixels; the model needs slices in that "
                "plane."
            )
        first, last = slice_range or (0, count - 1)
        if not 0 <= first <= last < count:
            raise ValueError(
                f"Slice range {first} to {last} is not within this volume's slices, 0 to {count - 1}; choose "
                "among them."
            )
        box = axes.box(geometry, region) if region else ((0, count - 1), (0, rows - 1), (0, columns - 1))
        first, last = max(first, box[0][0]), min(last, box[0][1])
        if first > last:
            raise ValueError(f"Slice range {slice_range} and region (slices {box[0][0]} to {box[0][1]}) do not meet.")
        limits = self.limits(volume) if limits is None else limits
        spacing = axes.of_index(geometry.spacing_mm)
        crop = tuple(slice(a, b + 1) for a, b in box[1:])
        shape = [s.stop - s.start for s in crop]
        resized: tuple[int, ...] = self.size
        canvas: tuple[int, ...] = self.size
        if self.spacing_mm is not None:
            resized = tuple(max(1, round(n * mm / self.spacing_mm)) for n, mm in zip(shape, spacing[1:]))
            m = self.size_multiple
            canvas = tuple(least if n <= least else -(-n // m) * m for n, least in zip(resized, self.size))
        numbers = list(range(first, last + 1))
        prepared = PreparedVolume(volume, axes, numbers, spacing[0], crop, resized, canvas, limits)
        if self.point_sigma is not None:
            prepared.point_at(None if point is None else axes.place(geometry, point)[1:], self.point_sigma)
        return prepared

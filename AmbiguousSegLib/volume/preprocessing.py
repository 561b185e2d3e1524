"""The way from a volume to the slices a network sees, and from its answers back to the voxels of the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from AmbiguousSegLib import configuration
from AmbiguousSegLib.volume.geometry import PLANES, Geometry, Region, SliceAxes

RULES = ("window", "percentile", "full_scale", "minmax")


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
        if self.rule == "percentile" and not 0 <= self.low < self.high <= 100:
            raise ValueError(f"Percentiles must lie in [0, 100], got {self}.")

    def limits(self, channel: np.ndarray, name: str) -> tuple[float, float]:
        """Values of ``channel``, any shape, that become 0 and 1.

        Raises:
            ValueError: NaN or infinity; values outside full scale; limits that coincide. ``name`` is named.
        """
        least, greatest = float(channel.min()), float(channel.max())  # a NaN survives min and max
        if not np.isfinite([least, greatest]).all():
            raise ValueError(f"Channel {name} holds NaN or infinite values; replace them before use.")
        if self.rule == "full_scale":
            if least < 0 or greatest > self.high:
                raise ValueError(
                    f"Channel {name} reaches from {least:g} to {greatest:g}, the model expects 0 to {self.high:g}; "
                    "convert the image to that range."
                )
            return 0.0, float(self.high)
        if self.rule == "window":
            return float(self.low), float(self.high)
        low, high = (least, greatest) if self.rule == "minmax" else np.percentile(channel, (self.low, self.high))
        if not low < high:
            raise ValueError(f"Channel {name} is {low:g} (nearly) everywhere; is it the intended image?")
        return float(low), float(high)


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
    """

    channels: tuple[str, ...]
    plane: str
    spacing_mm: float | None
    size: tuple[int, int]
    size_multiple: int
    intensity: Intensity | tuple[Intensity, ...]

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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``from_dict`` makes an equal object of them."""
        return configuration.to_dict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Preprocessing:
        """Inverse of ``to_dict``. Raises ValueError on a key that is unknown or missing, and on bad values."""
        return configuration.from_dict(cls, data)

    def prepare(
        self,
        volume: np.ndarray,
        geometry: Geometry,
        slice_range: tuple[int, int] | None = None,
        region: Region | None = None,
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
                of the box around it that is parallel to the grid. None: the whole volume.

        Raises:
            ValueError: channels or shape that do not fit, values that ``Intensity.limits`` refuses, a volume one pixel
                wide in the model's plane, a slice range or region outside the volume.
        """
        if volume.ndim != 4 or len(volume) != len(self.channels):
            raise ValueError(
                f"The model expects {len(self.channels)} channel(s), {', '.join(self.channels)}, as an array "
                f"(C, Z, Y, X); got one of shape {volume.shape}."
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
            raise ValueError(f"Slice range {first} to {last} is not within this volume's slices, 0 to {count - 1}.")
        box = axes.box(geometry, region) if region else ((0, count - 1), (0, rows - 1), (0, columns - 1))
        first, last = max(first, box[0][0]), min(last, box[0][1])
        if first > last:
            raise ValueError(f"Slice range {slice_range} and region (slices {box[0][0]} to {box[0][1]}) do not meet.")
        rules = self.intensity if isinstance(self.intensity, tuple) else (self.intensity,) * len(volume)
        limits = [rule.limits(channel, name) for rule, channel, name in zip(rules, volume, self.channels)]
        spacing = axes.of_index(geometry.spacing_mm)
        crop = tuple(slice(a, b + 1) for a, b in box[1:])
        shape = [s.stop - s.start for s in crop]
        if self.spacing_mm is None:
            resized = canvas = self.size
        else:
            resized = tuple(max(1, round(n * mm / self.spacing_mm)) for n, mm in zip(shape, spacing[1:]))
            m = self.size_multiple
            canvas = tuple(least if n <= least else -(-n // m) * m for n, least in zip(resized, self.size))
        return PreparedVolume(volume, axes, list(range(first, last + 1)), spacing[0], crop, resized, canvas, limits)


class PreparedVolume:
    """Slices of one volume on the model's grid, and the way back. Made by ``Preprocessing.prepare``.

    Slices are named by their index in the whole volume, whatever the slice range (see ``prepare``).

    Attributes:
        slice_indices: indices of the slices in the range and region, ascending.
        slice_spacing_mm: distance of neighbouring slices.
        crop_shape: rows and columns of the region on the volume's own grid.
        canvas: height and width of what the network sees, the same for all slices.
    """

    def __init__(
        self,
        volume: np.ndarray,
        axes: SliceAxes,
        slice_indices: list[int],
        slice_spacing_mm: float,
        crop: tuple[slice, slice],
        resized: tuple[int, int],
        canvas: tuple[int, int],
        limits: Sequence[tuple[float, float]],
    ) -> None:
        self.slice_indices, self.slice_spacing_mm, self.canvas = slice_indices, slice_spacing_mm, canvas
        self.crop_shape = tuple(s.stop - s.start for s in crop)
        self._shape, self._slices, self._axes, self._crop = volume.shape[1:], axes.view(volume), axes, crop
        top, left = ((outer - inner) // 2 for outer, inner in zip(canvas, resized))
        self._inner = (slice(top, top + resized[0]), slice(left, left + resized[1]))
        self._low, self._high = np.array(limits, np.float32).T[..., None, None]

    def image(self, i: int) -> torch.Tensor:
        """Slice ``i``: float32 ``(C, H, W)`` in [0, 1] on the CPU, 0 around the region."""
        self._check_slice(i)
        pixels = self._slices[(slice(None), i, *self._crop)].astype(np.float32)
        pixels = np.clip((pixels - self._low) / (self._high - self._low), 0, 1)
        return self.to_canvas(torch.from_numpy(np.ascontiguousarray(pixels))).clamp_(0, 1)

    def to_canvas(self, planes: torch.Tensor) -> torch.Tensor:
        """Region's pixels ``(..., rows, columns)`` to the model's grid: float32 ``(..., H, W)`` on the CPU.

        Linear and antialiased, extent onto extent, then centred in zeros.
        """
        if tuple(planes.shape[-2:]) != self.crop_shape:
            raise ValueError(f"Expected planes (..., {self.crop_shape}), got shape {tuple(planes.shape)}.")
        rows, columns = self._inner
        result = torch.zeros(*planes.shape[:-2], *self.canvas)
        result[..., rows, columns] = _resize(planes, (rows.stop - rows.start, columns.stop - columns.start))
        return result

    def restore(self, value: torch.Tensor) -> torch.Tensor:
        """Way back of ``to_canvas``: ``(..., H, W)`` to the region's float32 ``(..., rows, columns)`` on the CPU.

        Restore continuous values and threshold after, so that borders stay smooth.
        """
        if tuple(value.shape[-2:]) != self.canvas:
            raise ValueError(f"Expected values (..., {self.canvas}), got shape {tuple(value.shape)}.")
        return _resize(value[(..., *self._inner)], self.crop_shape)

    def write(self, out: np.ndarray, i: int, mask: np.ndarray | torch.Tensor) -> None:
        """Put the ``mask`` of slice ``i``, bool ``(rows, columns)``, into ``out``, bool ``(Z, Y, X)`` of the volume.

        Nothing outside the region changes.
        """
        self._check_slice(i)
        mask = np.asarray(mask)
        if out.shape != self._shape or out.dtype != bool or mask.shape != self.crop_shape or mask.dtype != bool:
            raise ValueError(
                f"Expected a bool mask {self.crop_shape} and a bool volume {self._shape}, got {mask.dtype} "
                f"{mask.shape} and {out.dtype} {out.shape}; threshold after restore()."
            )
        self._axes.view(out)[(i, *self._crop)] = mask

    def _check_slice(self, i: int) -> None:
        if not self.slice_indices[0] <= i <= self.slice_indices[-1]:
            prepared = f"{self.slice_indices[0]} to {self.slice_indices[-1]}"
            raise ValueError(f"Slice {i} was not prepared, slices {prepared} were; prepare a range that holds it.")


def _resize(planes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    planes = planes.detach().to("cpu", torch.float32)
    if tuple(planes.shape[-2:]) == shape:
        return planes
    batch = planes.reshape(1, -1, *planes.shape[-2:])
    batch = functional.interpolate(batch, shape, mode="bilinear", antialias=True, align_corners=False)
    return batch.reshape(*planes.shape[:-2], *shape)

"""Slices of a volume on a model's grid, and the way back from its answers to the voxels of the volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from AmbiguousSegLib.volume.geometry import SliceAxes
from AmbiguousSegLib.volume.label_resizing import resized_label_maps
from AmbiguousSegLib.volume.point_map import point_map


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
        crop: tuple[slice, ...],
        resized: tuple[int, ...],
        canvas: tuple[int, ...],
        limits: Sequence[tuple[float, float]],
    ) -> None:
        self.slice_indices, self.slice_spacing_mm, self.canvas = slice_indices, slice_spacing_mm, canvas
        self.crop_shape = tuple(s.stop - s.start for s in crop)
        self._shape, self._slices, self._axes, self._crop = volume.shape[1:], axes.view(volume), axes, crop
        top, left = ((outer - inner) // 2 for outer, inner in zip(canvas, resized))
        self._inner = (slice(top, top + resized[0]), slice(left, left + resized[1]))
        self._low, self._high = np.array(limits, np.float32).T[..., None, None]
        self._point: torch.Tensor | None = None

    def point_at(self, place: tuple[float, ...] | None, sigma: float) -> None:
        """Give each ``image`` one more channel, the ``point_map`` of a place.

        Args:
            place: row and column on the volume's own grid, turned as the slices are; None: the middle of the region.
            sigma: in the model's pixels.
        """
        on_canvas = []
        for axis, (inner, crop) in enumerate(zip(self._inner, self._crop)):
            length, pixels = crop.stop - crop.start, inner.stop - inner.start
            own = (length - 1) / 2 if place is None else place[axis] - crop.start
            on_canvas.append(inner.start + (own + 0.5) * pixels / length - 0.5)  # extent onto extent, as ``_resize``
        self._point = torch.from_numpy(point_map((self.canvas[0], self.canvas[1]), on_canvas[0], on_canvas[1], sigma))

    @property
    def crop(self) -> tuple[slice, ...]:
        """Rows and columns of the region in the slices of the volume."""
        return self._crop

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that show the region; around them it is padded."""
        return self._inner

    def image(self, i: int) -> torch.Tensor:
        """Slice ``i``: float32 ``(C, H, W)`` in [0, 1] on the CPU, 0 around the region; after ``point_at`` C + 1."""
        self._check_slice(i)
        pixels = self._slices[:, i, self._crop[0], self._crop[1]].astype(np.float32)
        pixels = np.clip((pixels - self._low) / (self._high - self._low), 0, 1)
        seen = self.to_canvas(torch.from_numpy(np.ascontiguousarray(pixels))).clamp_(0, 1)
        return seen if self._point is None else torch.cat([seen, self._point])

    def label_maps(self, masks: np.ndarray, i: int) -> np.ndarray:
        """Raters' masks of slice ``i`` on the model's grid: uint8 label maps ``(R, H, W)``, 0 around the region.

        Args:
            masks: label maps on the grid of the volume, uint8 ``(R, Z, Y, X)``; resized as ``resized_label_maps``.

        Raises:
            ValueError: masks of another grid or type; a slice that was not prepared.
        """
        self._check_slice(i)
        if masks.ndim != 4 or masks.shape[1:] != self._shape or masks.dtype != np.uint8:
            raise ValueError(f"Expected uint8 masks (R, {self._shape}), got {masks.dtype} {masks.shape}.")
        rows, columns = self._inner
        planes = np.ascontiguousarray(self._axes.view(masks)[:, i, self._crop[0], self._crop[1]])
        result = np.zeros((len(masks), *self.canvas), np.uint8)
        result[:, rows, columns] = resized_label_maps(planes, (rows.stop - rows.start, columns.stop - columns.start))
        return result

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

        Restore continuous values and take ``label_map_of`` after, so that borders stay smooth.
        """
        if tuple(value.shape[-2:]) != self.canvas:
            raise ValueError(f"Expected values (..., {self.canvas}), got shape {tuple(value.shape)}.")
        return _resize(value[(..., *self._inner)], self.crop_shape)

    def write(self, out: np.ndarray, i: int, mask: np.ndarray) -> None:
        """Put the label map of slice ``i``, uint8 ``(rows, columns)``, into ``out``, uint8 ``(Z, Y, X)`` of the volume.

        Nothing outside the region changes.
        """
        self._check_slice(i)
        if out.shape != self._shape or out.dtype != np.uint8 or mask.shape != self.crop_shape or mask.dtype != np.uint8:
            raise ValueError(
                f"Expected a uint8 label map {self.crop_shape} and a uint8 volume {self._shape}, got {mask.dtype} "
                f"{mask.shape} and {out.dtype} {out.shape}; take label_map_of after restore()."
            )
        self._axes.view(out)[i, self._crop[0], self._crop[1]] = mask

    def empty_map(self) -> np.ndarray:
        """Zeros on the grid of the volume: float32 ``(Z, Y, X)``, to be written to by way of ``region_of``."""
        return np.zeros(self._shape, np.float32)

    def region_of(self, volumes: np.ndarray, i: int) -> np.ndarray:
        """The region of slice ``i`` in volumes ``(N, Z, Y, X)``: a view, ``(N, rows, columns)``."""
        self._check_slice(i)
        return self._axes.view(volumes)[:, i, self._crop[0], self._crop[1]]

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

"""Sampling at a place that somebody points at: the model's field of view around it, and as many slices as are marked.

From the point's slice on, slices are taken in both directions, each on its own. A sample goes on while its mask of a
slice overlaps with that of the slice before it: what it marks beyond is something else, such as a vessel, and stays
empty from there on. Slices are taken until no sample goes on. So a sample follows from itself alone, whatever others
there are, and as far as it goes its masks are those of sampling these slices in this window directly, because the noise
of a mask follows from its slice, sample and seed alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from AmbiguousSegLib.volume.field_of_view import field_of_view_mm, slice_at, window_at, window_pixels
from AmbiguousSegLib.volume.geometry import Geometry, Point, Region, SliceAxes, Window
from AmbiguousSegLib.volume.preprocessing import Preprocessing

if TYPE_CHECKING:
    from AmbiguousSegLib.volume.prepared import PreparedVolume  # needs torch, which a request does without

log = logging.getLogger(__name__)

GROWTH = (1.0, 1.5, 2.0, 3.0)  # sizes of the windows that are tried one after the other, in fields of view
_LARGER = 1.01  # a window that is so much larger is another one

Tell = Callable[[float], None]  # of the share that is done, in [0, 1]


@dataclass(frozen=True)
class Pointing:
    """A place that is pointed at, and how much is looked at around it.

    Attributes:
        point_mm: in LPS mm.
        window_mm: shorter side of the window, which has the proportions of the model's field of view and is at least
            as large; None: the field of view.
        grow: whether a window that cuts a mask off is followed by the next larger one of ``GROWTH``.

    Raises:
        ValueError: numbers that are not finite, or a size that is not positive.
    """

    point_mm: Point
    window_mm: float | None = None
    grow: bool = False

    def __post_init__(self) -> None:
        if len(self.point_mm) != 3 or not np.all(np.isfinite(self.point_mm)):
            raise ValueError(f"A point is x, y and z in LPS mm, all finite, got {self.point_mm}.")
        if self.window_mm is not None and not 0 < self.window_mm < math.inf:
            raise ValueError(f"The size of a window must be positive, got {self.window_mm} mm.")

    def check_alone(self, slice_range: tuple[int, int] | None, region: object | None) -> None:
        """ValueError where slices or a region are chosen beside the point."""
        if slice_range is not None or region is not None:
            raise ValueError("A point chooses slices and region by itself; leave out the slice range and the region.")

    def sizes(self, preprocessing: Preprocessing) -> list[tuple[int, int]]:
        """Heights and widths, in the model's pixels, of the windows that may be tried, in their order.

        Raises:
            ValueError: as ``window_pixels``.
        """
        least_mm = min(field_of_view_mm(preprocessing))
        first_mm = least_mm if self.window_mm is None else self.window_mm
        larger_mm = [share * least_mm for share in GROWTH if share * least_mm > _LARGER * first_mm]
        return [window_pixels(preprocessing, mm) for mm in [first_mm, *(larger_mm if self.grow else [])]]

    def likely_slices(self, preprocessing: Preprocessing, geometry: Geometry) -> tuple[int, int]:
        """First and last slice if the lesion is as deep as the window is wide: a guess, for time and progress.

        Raises:
            ValueError: as ``slice_at`` and ``window_pixels``.
        """
        axes, start = SliceAxes.of(geometry, preprocessing.plane), slice_at(preprocessing, geometry, self.point_mm)
        side_mm = min(self.sizes(preprocessing)[0]) * preprocessing.pixel_mm
        reach = math.ceil(side_mm / 2 / axes.of_index(geometry.spacing_mm)[0])
        return max(0, start - reach), min(axes.of_index(geometry.size)[0] - 1, start + reach)


class Drawing(Protocol):
    """Draws masks of the slices of one prepared volume.

    Attributes:
        at_once: slices that it takes no longer to draw together than one by one; some may turn out not to be needed.
    """

    at_once: int

    def draw(self, slices: Sequence[int], tell: Tell) -> Iterator[tuple[int, int]]:
        """Draw the masks of these slices; gives slice and sample of each mask that is there."""


@dataclass(frozen=True)
class Around:
    """What was sampled around a point.

    Attributes:
        prepared: the volume in the window that was used last.
        slices: first and last slice that the masks are of.
        region: box in LPS mm around these slices in this window.
        window: for the provenance, in plain JSON types.
    """

    prepared: PreparedVolume
    slices: tuple[int, int]
    region: Region
    window: dict[str, Any]


def sample_around(
    pointing: Pointing,
    preprocessing: Preprocessing,
    geometry: Geometry,
    masks: np.ndarray,
    first_sample: int,
    prepare: Callable[[Window], PreparedVolume],
    drawing: Callable[[PreparedVolume], Drawing],
    tell: Tell,
) -> Around:
    """Sample what somebody points at; what he should know is logged, and kept in ``Around.window``.

    Args:
        masks: uint8 ``(N, Z, Y, X)`` of the volume, which the drawings write to.
        first_sample: number of the first of them.
        prepare: all slices of the volume in a window.
        drawing: draws in what was prepared.
        tell: called with the share done, in (0, 1]; how much there will be is a guess until the end.

    Raises:
        ValueError: a point outside of the volume; a window smaller than the model's field of view, or a model that
            has none.
    """
    axes, sizes = SliceAxes.of(geometry, preprocessing.plane), pointing.sizes(preprocessing)
    start = slice_at(preprocessing, geometry, pointing.point_mm)
    low, high = pointing.likely_slices(preprocessing, geometry)
    tried_mm: list[list[float]] = []
    for number, pixels in enumerate(sizes):
        window = window_at(preprocessing, geometry, pointing.point_mm, pixels)
        tried_mm.append(_sides_mm(window, axes.of_index(geometry.spacing_mm)[1:]))
        prepared = prepare(window)
        seen = axes.view(masks)[:, :, _span(window.rows), _span(window.columns)]
        masks[...] = 0

        def told(share: float, number: int = number) -> None:  # each further window takes half of what is left
            tell(share if len(sizes) == 1 else 1 - (1 - share / 2) / 2**number)

        slices = _outward(drawing(prepared), seen, start, high - low + 1, told)
        seen[:, : slices[0]], seen[:, slices[1] + 1 :] = 0, 0  # where nothing went on
        cut = _cut_off(seen, window, axes.of_index(geometry.size)[1:])
        if not cut:
            break
    tell(1.0)
    touching = [{"slice": z, "samples": [1 + first_sample + k for k in samples]} for z, samples in cut.items()]
    content: dict[str, Any] = {
        "point_lps_mm": list(pointing.point_mm),
        "size_mm": tried_mm[-1],
        "asked_mm": [round(n * preprocessing.pixel_mm, 6) for n in sizes[number]],
        "tried_mm": tried_mm,
        "slices": list(slices),
        "touches_border": touching,
        "warnings": _warnings(pointing, start, bool(seen.any()), tried_mm[-1], touching),
    }
    for warning in content["warnings"]:
        log.warning("%s", warning)
    return Around(prepared, slices, axes.region(geometry, (slices, window.rows, window.columns)), content)


def _outward(drawing: Drawing, seen: np.ndarray, start: int, likely: int, tell: Tell) -> tuple[int, int]:
    """Draw slices on both sides of ``start``, as far as any sample goes on on each; first and last slice of these.

    Args:
        seen: where the masks are drawn to, ``(N, slices, rows, columns)``.
        likely: how many slices it may be.
    """
    drawn = 0

    def draw(numbers: Sequence[int]) -> None:
        nonlocal drawn

        def told(share: float) -> None:
            done = drawn + share * len(numbers)
            tell(done / max(likely, done + 1))

        for _ in drawing.draw(numbers, told):
            pass
        drawn += len(numbers)

    draw([start])
    ends, going = {-1: start, 1: start}, [-1, 1] if seen[:, start].any() else []
    while wanted := {side: zs for side in going if (zs := _next(ends[side], side, drawing.at_once, seen.shape[1]))}:
        draw([z for numbers in wanted.values() for z in numbers])
        for side, numbers in wanted.items():
            for z in numbers:
                goes_on = ((seen[:, z] != 0) & (seen[:, ends[side]] != 0)).any((1, 2))
                seen[~goes_on, z] = 0
                if not goes_on.any():
                    break
                ends[side] = z
        going = [side for side, numbers in wanted.items() if ends[side] == numbers[-1]]
    return ends[-1], ends[1]


def _next(end: int, side: int, count: int, slices: int) -> list[int]:
    """The next ``count`` slices on a side, as far as there are."""
    return [z for z in range(end + side, end + side * (count + 1), side) if 0 <= z < slices]


def _cut_off(seen: np.ndarray, window: Window, shape: Sequence[int]) -> dict[int, list[int]]:
    """Samples that touch the window's border where the volume goes on, by slice.

    Args:
        seen: masks in the window, ``(N, slices, rows, columns)``.
        shape: rows and columns of the volume.
    """
    inner = np.zeros(seen.shape[:2], bool)
    for axis, (first, last), count in zip((2, 3), (window.rows, window.columns), shape):
        for index, there in ((0, first > 0), (-1, last < count - 1)):
            if there:
                inner |= seen.take(index, axis).any(-1)
    return {int(z): np.flatnonzero(inner[:, z]).tolist() for z in np.flatnonzero(inner.any(0))}


def _warnings(
    pointing: Pointing, start: int, anything: bool, size_mm: list[float], touching: list[dict[str, Any]]
) -> list[str]:
    place = ", ".join(f"{v:g}" for v in pointing.point_mm)
    if not anything:
        return [
            f"No sample marks anything on slice {start}, where the point ({place}) mm (LPS) lies: the result is empty; "
            "point into the lesion, or sample more."
        ]
    if not touching:
        return []
    slices = [entry["slice"] for entry in touching]
    samples = {number for entry in touching for number in entry["samples"]}
    size, touch = " × ".join(f"{mm:.4g}" for mm in size_mm), "sample touches" if len(samples) == 1 else "samples touch"
    return [
        f"{len(samples)} {touch} the border of the window of {size} mm, on slices {slices[0]} to {slices[-1]}: "
        "what they mark may be cut off. "
        + (
            "There is no larger window among those that are tried; give one by --window."
            if pointing.grow
            else "Give --grow-window, or a larger --window."
        )
    ]


def _span(ends: tuple[int, int]) -> slice:
    return slice(ends[0], ends[1] + 1)


def _sides_mm(window: Window, spacing_mm: Sequence[float]) -> list[float]:
    """Height and width of a window, as far as the volume goes."""
    return [round((last - first + 1) * mm, 6) for (first, last), mm in zip((window.rows, window.columns), spacing_mm)]

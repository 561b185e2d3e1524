"""A sheet of the samples of several systems beside the raters: a row for each system, the cases side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.plotting.pictures import (
    GAP,
    RATER,
    SAMPLE,
    Color,
    captioned,
    colors_of,
    fitted,
    outlined_classes,
    photograph,
    sheet,
)

MOST_HEIGHT = 2400
"""Pixels of a sheet; more systems than fit at ``_LEAST_TILE`` make it higher."""

_RATERS, _SAMPLES, _LEAST_TILE, _MOST_TILE = 4, 8, 64, 128
_NAME_WIDTH, _FONT, _LETTERS = 250, 22, 20


@dataclass(frozen=True)
class Shown:
    """A case to show: image ``(C, H, W)`` in [0, 1], raters ``(M, H, W)``, samples of each system ``(N, H, W)``."""

    name: str
    image: np.ndarray
    raters: np.ndarray
    samples: Mapping[str, np.ndarray]


def system_sheet(cases: Sequence[Shown], labels: Sequence[Label]) -> np.ndarray:
    """RGB uint8 ``(H, W, 3)``: of each case a row of image and raters, and below it a row of samples for each system.

    The cases are of the same systems, in one order.
    """
    systems = list(cases[0].samples)
    tile = min(_MOST_TILE, max(_LEAST_TILE, MOST_HEIGHT // (1 + len(systems)) - GAP))
    names = sheet([[_named(name, tile)] for name in ("image and raters", *systems)])
    parts = [names, *(_rows(case, systems, labels, tile) for case in cases)]
    between = np.full((len(names), 4 * GAP, 3), 0, np.uint8)
    return np.hstack([picture for part in parts for picture in (part, between)][:-1])


def _rows(case: Shown, systems: Sequence[str], labels: Sequence[Label], tile: int) -> np.ndarray:
    base = photograph(case.image)
    height, width = (max(1, round(side * tile / max(base.shape[:2]))) for side in base.shape[:2])
    large = _centred(fitted(base, (height, width)), tile)

    def drawn(masks: np.ndarray, colors: Sequence[Color]) -> list[np.ndarray | None]:
        y, x = (np.arange(n) * side // n for n, side in zip((height, width), base.shape[:2], strict=True))
        return [outlined_classes(large, _centred(mask[np.ix_(y, x)], tile), colors) for mask in masks]

    first = [captioned(large, case.name, size=_FONT), *drawn(case.raters[:_RATERS], colors_of(labels, RATER))]
    rows = [drawn(case.samples[system][:_SAMPLES], colors_of(labels, SAMPLE)) for system in systems]
    return sheet([first, *rows])


def _centred(picture: np.ndarray, tile: int) -> np.ndarray:
    """On a square of ``tile`` pixels, with zeros around."""
    room = [((tile - side) // 2, tile - side - (tile - side) // 2) for side in picture.shape[:2]]
    return np.pad(picture, [*room, *[(0, 0)] * (picture.ndim - 2)])


def _named(name: str, tile: int) -> np.ndarray:
    """The name of a row, in lines that fit."""
    lines = [""]
    for part in re.findall(r"[^-/ ]*[-/ ]?", name):
        if lines[-1] and len(lines[-1]) + len(part) > _LETTERS:
            lines.append("")
        lines[-1] += part
    return captioned(np.full((tile, _NAME_WIDTH, 3), 40, np.uint8), "\n".join(lines), size=_FONT)

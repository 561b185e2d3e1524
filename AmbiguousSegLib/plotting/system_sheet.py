"""A sheet of the samples of several systems beside the raters, each row under its system's name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.plotting.pictures import (
    RATER,
    SAMPLE,
    captioned,
    colors_of,
    enlarged,
    outlined_classes,
    photograph,
    sheet,
)

_RATERS, _SAMPLES, _PIXELS, _LETTERS = 4, 8, 128, 19


@dataclass(frozen=True)
class Shown:
    """A case to show: image ``(C, H, W)`` in [0, 1], raters ``(M, H, W)``, samples of each system ``(N, H, W)``."""

    name: str
    image: np.ndarray
    raters: np.ndarray
    samples: Mapping[str, np.ndarray]


def system_sheet(cases: Sequence[Shown], labels: Sequence[Label]) -> np.ndarray:
    """RGB uint8 ``(H, W, 3)``: of each case a row of image and raters, then a row of samples for each system."""
    rows: list[list[np.ndarray | None]] = []
    for case in cases:
        base = photograph(case.image)
        factor = max(1, _PIXELS // base.shape[1])

        def drawn(masks: np.ndarray, colors: list, base: np.ndarray = base, factor: int = factor) -> list[np.ndarray]:
            return [enlarged(outlined_classes(base, mask, colors), factor) for mask in masks]

        large = enlarged(base, factor)
        raters = drawn(case.raters[:_RATERS], colors_of(labels, RATER))
        rows.append([_named(large, f"{case.name}: image, raters"), large, *raters])
        for system, masks in case.samples.items():
            rows.append([_named(large, system), *drawn(masks[:_SAMPLES], colors_of(labels, SAMPLE))])
    return sheet(rows)


def _named(like: np.ndarray, name: str) -> np.ndarray:
    """A tile with a name on it, in lines that fit."""
    lines = [""]
    for part in re.findall(r"[^-/ ]*[-/ ]?", name):
        if lines[-1] and len(lines[-1]) + len(part) > _LETTERS:
            lines.append("")
        lines[-1] += part
    return captioned(np.full_like(like, 40), "\n".join(lines))

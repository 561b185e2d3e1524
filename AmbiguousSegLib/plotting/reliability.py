"""Pictures of a calibration: what is said against what is so. Needs matplotlib (extra ``figures``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from AmbiguousSegLib.evaluation.calibration_judged import Judged, Reliability

_BEFORE, _AFTER = "0.6", "C0"
_LEAST_SHARE = 1e-3  # of all, below which a bin is not drawn: its mean is of next to nothing


def calibration_figure(judged: Judged) -> Figure:
    """Reliability diagrams of the mean map and of "no outline", before and after, and coverage by class of sizes.

    Left and middle, a point for each bin of what is said, its area by what is in it. Right, the share of outlines
    covered with the interval over patients, beside the level promised.
    """
    figure = Figure(figsize=(15, 5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _diagram(left, judged.mean_map, "pixel: share of samples, calibrated", "share of readers who mark it")
    _diagram(middle, judged.no_outline, "no outline: share of samples, calibrated", "share of readers who draw none")
    levels = sorted({one.level for one in judged.coverage})
    titles = list(dict.fromkeys(one.title for one in judged.coverage))
    for number, level in enumerate(levels):
        own = [one for one in judged.coverage if one.level == level]
        places = np.array([titles.index(one.title) for one in own]) + 0.15 * (number - (len(levels) - 1) / 2)
        values = np.array([[one.share.value, one.share.low, one.share.high] for one in own]).T
        right.axhline(level, color=f"C{number}", linewidth=1, linestyle="--")
        right.vlines(places, values[1], values[2], color=f"C{number}")
        right.plot(places, values[0], "o", color=f"C{number}", label=f"{100 * level:g} % promised")
    right.set_xticks(range(len(titles)), titles, rotation=15)
    right.set(ylabel="outlines whose area is covered", ylim=(min(0.5, right.get_ylim()[0]), 1.01))
    right.legend(fontsize="small", loc="lower right")
    return figure


def write_calibration_figure(path: Path | str, judged: Judged) -> None:
    """``calibration_figure`` as a file whose suffix gives the format."""
    calibration_figure(judged).savefig(path, dpi=120)


def _diagram(axes: Axes, pair: tuple[Reliability, Reliability], x: str, y: str) -> None:
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for one, colour, title in zip(pair, (_BEFORE, _AFTER), ("before", "after")):
        shown = one.weights > _LEAST_SHARE
        size = 20 + 300 * np.sqrt(one.weights[shown])
        label = f"{title}: ECE {one.error.value:.3f}"
        axes.plot(one.predicted[shown], one.observed[shown], color=colour, linewidth=1)
        axes.scatter(one.predicted[shown], one.observed[shown], s=size, color=colour, alpha=0.7, label=label)
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(fontsize="small", loc="upper left")

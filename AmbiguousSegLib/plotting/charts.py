"""Figures of an evaluation. Needs matplotlib (extra ``figures``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from AmbiguousSegLib.evaluation.comparison import Result


def disagreement_figure(results: Sequence[Result]) -> Figure:
    """Left: disagreement of the samples against that of the raters, a point per case. Right: GED of the cases.

    Left, d = 1 − IoU is averaged over pairs of different masks on both axes; cases with one rater have no point there.
    r is Pearson's correlation over the cases. Right, the u estimator: every case as a dot, box from quartile to
    quartile with the median. Of several classes all together are shown.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    groups, names = [], []
    shown = [result for result in results if result.overall]
    for k, result in enumerate(shown):
        points = np.array([case.disagreement() for case in result.cases])
        r = result.disagreement_correlation()
        name = result.name.replace("$", r"\$")  # not the start of a formula
        names.append(name)
        label = f"{name} (r = {r:.2f})" if np.isfinite(r) else name
        left.scatter(*points.T, s=14, alpha=0.6, color=f"C{k}", label=label)
        ged = np.array([case.figures["ged_u"] for case in result.cases])
        groups.append(ged[np.isfinite(ged)])
        shift = np.linspace(-0.15, 0.15, len(groups[-1])) if len(groups[-1]) > 1 else 0.0
        right.scatter(k + 1 + shift + np.zeros(len(groups[-1])), groups[-1], s=8, alpha=0.4, color=f"C{k}")
    left.set(
        xlabel="observed: mean 1 − IoU of two raters",
        ylabel="predicted: mean 1 − IoU of two samples",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
    left.legend(fontsize="small")
    right.boxplot(groups, showfliers=False)
    right.set_xticks(range(1, len(shown) + 1), names, rotation=15)
    right.set_ylabel("GED², u estimator, per image")
    return figure


def write_figure(path: Path | str, results: Sequence[Result]) -> None:
    """``disagreement_figure`` as a file whose suffix gives the format."""
    disagreement_figure(results).savefig(path, dpi=120)

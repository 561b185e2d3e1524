"""Chart of ensembles by their size, as Wolleb et al. 2022, Fig. 4. Needs matplotlib (extra ``figures``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from AmbiguousSegLib.evaluation.comparison import ALL_CLASSES
from AmbiguousSegLib.evaluation.table import Table

_PANELS = (("dice", "Dice of the consensus"), ("hd95_mm", "HD95 in mm"), ("empty", "cases of an empty consensus"))


def ensemble_size_figure(table: Table) -> Figure:
    """Dice, HD95 and empty cases of the consensus of n samples against n, with intervals of 95 % over subjects.

    Dice: solid over all cases, dashed without the cases of an empty consensus. Where no HD95 is known its panel is
    left out. Of several classes all together are shown.

    Args:
        table: as ``size_table`` gives it.
    """
    rows = [row for row in table.rows if row.get("label", ALL_CLASSES) == ALL_CLASSES]
    known = any(not _missing(row["hd95_mm"]) for row in rows)
    panels = [panel for panel in _PANELS if panel[0] != "hd95_mm" or known]
    figure = Figure(figsize=(5 * len(panels), 4.5), layout="constrained")
    names = list(dict.fromkeys(str(row["model"]) for row in rows))
    for axes, (key, title) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels):
        for k, name in enumerate(names):
            _curve(axes, [row for row in rows if row["model"] == name], key, f"C{k}", name.replace("$", r"\$"))
        axes.set(xlabel="samples n in the ensemble", ylabel=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if key == "empty":
            axes.set_ylabel(f"{title}, of {', '.join(dict.fromkeys(str(row['cases']) for row in rows))}")
            axes.set_ylim(bottom=0)
            axes.yaxis.get_major_locator().set_params(integer=True)
    figure.axes[0].legend(fontsize="small", title="dashed: not empty", title_fontsize="small")
    return figure


def write_ensemble_size_figure(path: Path | str, table: Table) -> None:
    """``ensemble_size_figure`` as a file whose suffix gives the format."""
    ensemble_size_figure(table).savefig(path, dpi=120)


def _curve(axes: Axes, rows: Sequence, key: str, colour: str, name: str) -> None:
    n = [row["n"] for row in rows]
    values = _values(rows, key)
    axes.plot(n, values, "o-", color=colour, markersize=4, label=name)
    if key != "empty":
        axes.fill_between(n, _values(rows, f"{key}_low"), _values(rows, f"{key}_high"), color=colour, alpha=0.15, lw=0)
    if key == "dice" and not np.allclose(values, _values(rows, "dice_marked"), equal_nan=True):
        axes.plot(n, _values(rows, "dice_marked"), "--", color=colour, linewidth=1)


def _values(rows: Sequence, key: str) -> np.ndarray:
    return np.array([math.nan if _missing(row[key]) else row[key] for row in rows], float)


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))

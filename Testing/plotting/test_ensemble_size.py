"""The chart of ensembles by their size draws what the table says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from AmbiguousSegLib.evaluation.ensemble_size import SizeCurve, SizeScores
from AmbiguousSegLib.evaluation.ensemble_size_table import size_table
from AmbiguousSegLib.plotting.ensemble_size import ensemble_size_figure


def curve(name, label="", hd95=1.0):
    cases = tuple(
        SizeScores(
            identity=str(k),
            subject="",
            dice=np.array([0.0 if k == 0 else 0.6, 0.8]),
            iou=np.array([0.0 if k == 0 else 0.5, 0.7]),
            empty=np.array([float(k == 0), 0.0]),
            hd95_mm=np.array([0.0 if k == 0 else hd95, hd95]),
            measured=np.array([float(k != 0), 1.0]) * (1.0 if np.isfinite(hd95) else np.nan),
            single_dice=0.5,
            single_iou=0.4,
        )
        for k in range(3)
    )
    return SizeCurve(name, label, (1, 5), 5, cases)


def drawn(axes):
    return [line.get_ydata().tolist() for line in axes.get_lines()]


def test_every_source_is_a_curve_of_the_tables_values():
    dice, distance, empty = ensemble_size_figure(size_table([curve("a $x"), curve("b")])).axes
    assert drawn(dice) == 2 * [pytest.approx([0.4, 0.8]), pytest.approx([0.6, 0.8])]  # all cases, then not empty
    assert drawn(distance) == 2 * [pytest.approx([1, 1])] and drawn(empty) == 2 * [[1, 0]]
    assert [text.get_text() for text in dice.get_legend().get_texts()] == [r"a \$x", "b"]


def test_sizes_are_whole_numbers_on_the_axis():
    for axes in ensemble_size_figure(size_table([replace(curve("a"), sizes=(1, 3))])).axes:
        assert all(float(n).is_integer() for n in axes.get_xticks())


def test_all_classes_together_and_no_panel_without_a_spacing():
    curves = [curve("a", "core", np.nan), curve("a", "all classes", np.nan)]
    dice, empty = ensemble_size_figure(size_table(curves)).axes
    assert len(drawn(dice)) == 2 and drawn(empty) == [[1, 0]]

"""Raters over a whole study: how reliable their volumes are, who draws large or small, who agrees with whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from AmbiguousSegLib.evaluation.bootstrap import Bootstrap, Estimate, mean_of, ratio_of
from AmbiguousSegLib.evaluation.table import Column, Table

THIRDS = ("small", "middle", "large")


@dataclass(frozen=True)
class RatedCase:
    """What raters say of one case.

    Attributes:
        subject: whom it shows; cases of one subject are drawn together in the bootstrap.
        volumes_ml: by rater.
        dice: by pair of raters, in the order of their names.
        interval_ml: between which the model expects one more volume; None where it is not known.
    """

    name: str
    subject: str
    volumes_ml: Mapping[str, float]
    dice: Mapping[tuple[str, str], float]
    interval_ml: tuple[float, float] | None = None


def icc_2_1(ratings: np.ndarray) -> float:
    """ICC(2,1): absolute agreement of single ratings, raters drawn at random; nan if it is undefined.

    (BMS − EMS) / (BMS + (k − 1)·EMS + k·(JMS − EMS)/n for n targets and k judges (Shrout and Fleiss, Psychological
    Bulletin 86, 1979, page 423): mean squares between targets, between judges, and residual.

    Args:
        ratings: float ``(n, k)``, a row for each target, a column for each judge.

    Raises:
        ValueError: an array of another kind, or one with nan.
    """
    if ratings.ndim != 2 or not np.isfinite(ratings).all():
        raise ValueError(f"Ratings must be finite, (targets, judges), got shape {ratings.shape}; leave gaps out.")
    n, k = ratings.shape
    if n < 2 or k < 2:
        return math.nan
    mean, rows, columns = ratings.mean(), ratings.mean(axis=1), ratings.mean(axis=0)
    between = k * float(((rows - mean) ** 2).sum()) / (n - 1)
    judges = n * float(((columns - mean) ** 2).sum()) / (k - 1)
    residual = float(((ratings - rows[:, None] - columns + mean) ** 2).sum()) / ((n - 1) * (k - 1))
    whole = between + (k - 1) * residual + k * (judges - residual) / n
    return (between - residual) / whole if whole else math.nan


def rater_table(cases: Sequence[RatedCase]) -> Table:
    """A row for each rater: how large he draws beside the others of a case, and how often outside the model's interval.

    The area ratio is the sum of his volumes over the sum of the mean volumes of the others in the same cases; 1 is
    alike. The bias in mL is his volume less the mean of the others', over all cases and over thirds of them by the
    mean volume of all their raters. Intervals are of 95 %, by the bootstrap over subjects.
    """
    names = _names(cases)
    own = [_among_others(cases, name) for name in names]
    rows = [_rater_row(cases, name, *found) for name, found in zip(names, own)]
    keys = ["rater", "cases", *_interval("area_ratio"), *_interval("bias_ml"), *(f"bias_{t}_ml" for t in THIRDS)]
    columns = [*keys, "judged_cases", "outside_interval", "outside_share"]
    return Table(tuple(Column(key, key.replace("_", " ")) for key in columns), tuple(rows), _notes(cases))


def pair_table(cases: Sequence[RatedCase]) -> Table:
    """A row for each pair of raters, and one for all: mean Dice, with its interval over subjects.

    In the last row each case counts once, by the mean of its pairs.
    """
    pairs = sorted({pair for case in cases for pair in case.dice})
    columns = tuple(Column(key, key.replace("_", " ")) for key in ("rater_a", "rater_b", "cases", *_interval("dice")))
    rows = []
    for a, b in pairs:
        rows.append({"rater_a": a, "rater_b": b, **_mean(cases, [case.dice.get((a, b), math.nan) for case in cases])})
    if pairs:
        each = [float(np.mean(list(case.dice.values()))) if case.dice else math.nan for case in cases]
        rows.append({"rater_a": "all pairs", "rater_b": "", **_mean(cases, each)})
    return Table(columns, tuple(rows))


def rating_table(cases: Sequence[RatedCase]) -> Table:
    """A row for each case and rater: volume, and whether it lies in the interval of the model."""
    keys = ("case", "subject", "rater", "volume_ml", "model_low_ml", "model_high_ml", "outside")
    rows: list[dict[str, Any]] = []
    for case in cases:
        for name, volume in case.volumes_ml.items():
            low, high = case.interval_ml or (None, None)
            outside = None if low is None or high is None else not low <= volume <= high
            rows.append(dict(zip(keys, (case.name, case.subject, name, volume, low, high, outside))))
    return Table(tuple(Column(key, key.replace("_", " ")) for key in keys), tuple(rows))


def reliability(cases: Sequence[RatedCase]) -> tuple[float, int, int]:
    """ICC(2,1) of the volumes, of how many cases, and how many raters: of the cases that all raters have read."""
    names = _names(cases)
    full = [[case.volumes_ml[name] for name in names] for case in cases if set(names) == set(case.volumes_ml)]
    return (icc_2_1(np.array(full)), len(full), len(names)) if full else (math.nan, 0, len(names))


def _names(cases: Sequence[RatedCase]) -> list[str]:
    return list(dict.fromkeys(name for case in cases for name in case.volumes_ml))


def _among_others(cases: Sequence[RatedCase], name: str) -> tuple[np.ndarray, np.ndarray]:
    """His volume, and the mean of the others', in each case; nan where he or everybody else is missing."""
    pairs = []
    for case in cases:
        others = [volume for rater, volume in case.volumes_ml.items() if rater != name]
        known = name in case.volumes_ml and others
        pairs.append((case.volumes_ml[name], float(np.mean(others))) if known else (math.nan, math.nan))
    own, other = np.array(pairs).T
    return own, other


def _rater_row(cases: Sequence[RatedCase], name: str, own: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    bootstrap = Bootstrap([case.subject for case in cases])
    ratio = bootstrap.estimate(ratio_of(own[None], others[None]))
    bias = own - others
    row: dict[str, Any] = {"rater": name, "cases": sum(name in case.volumes_ml for case in cases)}
    row |= _estimated("area_ratio", ratio) | _estimated("bias_ml", bootstrap.estimate(mean_of(bias[None])))
    size = np.array([np.mean(list(case.volumes_ml.values())) if case.volumes_ml else math.nan for case in cases])
    known = np.flatnonzero(~np.isnan(bias))
    parts = np.array_split(known[np.argsort(size[known], kind="stable")], len(THIRDS))
    row |= {f"bias_{t}_ml": float(bias[part].mean()) if len(part) else math.nan for t, part in zip(THIRDS, parts)}
    judged = [case for case in cases if name in case.volumes_ml and case.interval_ml is not None]
    out = sum(not case.interval_ml[0] <= case.volumes_ml[name] <= case.interval_ml[1] for case in judged)  # type: ignore[index]
    share = out / len(judged) if judged else math.nan
    return row | {"judged_cases": len(judged), "outside_interval": out, "outside_share": share}


def _mean(cases: Sequence[RatedCase], values: Sequence[float]) -> dict[str, Any]:
    known = np.array(values, float)
    found = Bootstrap([case.subject for case in cases]).estimate(mean_of(known[None]))
    return {"cases": int((~np.isnan(known)).sum()), **_estimated("dice", found)}


def _interval(key: str) -> tuple[str, str, str]:
    return key, f"{key}_low", f"{key}_high"


def _estimated(key: str, found: Estimate) -> dict[str, float]:
    return dict(zip(_interval(key), (found.value, found.low, found.high)))


def _notes(cases: Sequence[RatedCase]) -> tuple[str, ...]:
    icc, complete, raters = reliability(cases)
    told = "undefined" if math.isnan(icc) else f"{icc:.3f}"
    return (
        f"ICC(2,1) of volumes (Shrout and Fleiss 1979; absolute agreement of single ratings): {told}, of {complete} "
        f"of {len(cases)} cases, which all {raters} raters have read",
        "intervals are of 95 %, by the bootstrap over subjects",
    )

"""Tables of a calibration: what it is, and what of it holds."""

from __future__ import annotations

from AmbiguousSegLib.calibration.parts import Calibration
from AmbiguousSegLib.evaluation.bootstrap import Estimate
from AmbiguousSegLib.evaluation.calibration_judged import Judged
from AmbiguousSegLib.evaluation.table import Column, Table, Value

Row = dict[str, Value]

_CURVES = (("mean_map", "mean map"), ("no_outline", "no outline"))
_ENDS = (("", ""), ("_low", ", from"), ("_high", ", to"))


def calibration_table(calibration: Calibration) -> Table:
    """A row for each number of samples: the curves and the factors of the intervals."""
    levels = [one.level for one in calibration.of_samples[0].areas]
    columns = [Column("samples", "samples")]
    columns += [Column(f"{a}_{b}", f"{title}: {b}") for a, title in _CURVES for b in ("offset", "slope")]
    columns += [Column(f"factor_{level:g}", f"factor for {100 * level:g} %") for level in levels]
    rows: list[Row] = []
    for entry in calibration.of_samples:
        row: Row = {"samples": entry.samples}
        for key, _ in _CURVES:
            curve = getattr(entry, key)
            row |= {f"{key}_offset": curve.offset, f"{key}_slope": curve.slope}
        rows.append(row | {f"factor_{one.level:g}": one.factor for one in entry.areas})
    note = (
        f"{calibration.data}; {calibration.readers} statements of readers, {calibration.outlines} of them outlines",
        "frequency among readers = sigmoid(offset + slope · logit((k + 1/2)/(N + 1))) where k of N samples say so; an "
        "interval goes by factor · scale beyond two percentiles of the samples' log areas, on both sides",
    )
    return Table(tuple(columns), tuple(rows), note)


def curves_table(judged: Judged) -> Table:
    """Errors of both curves and Brier score, before (the shares as they are) and after; intervals are over patients."""
    rows: list[Row] = []
    for figure, pair in (
        ("ECE of the mean map", tuple(one.error for one in judged.mean_map)),
        ("ECE of no outline", tuple(one.error for one in judged.no_outline)),
        ("Brier score of no outline", judged.brier),
    ):
        before, after = (_estimate(name, one) for name, one in zip(("before", "after"), pair))
        rows.append({"figure": figure, **before, **after})
    columns = [Column(f"{key}{end}", f"{key}{title}") for key in ("before", "after") for end, title in _ENDS]
    return Table((Column("figure", "figure"), *columns), tuple(rows))


def coverage_table(judged: Judged) -> Table:
    """Share of the outlines whose area lies in their interval, by level and class of sizes, with widths."""
    rows: list[Row] = []
    for one in judged.coverage:
        row: Row = {"level": one.level, "size": one.title, "outlines": one.outlines, "without": one.without}
        row |= _estimate("covered", one.share) | {"width": one.width}
        rows.append(row | _estimate("plain", one.plain_share) | {"plain_width": one.plain_width})
    columns = [Column("level", "level", 2), Column("size", "outlines of"), Column("outlines", "outlines")]
    columns += [Column("without", "without interval")]
    columns += [Column(f"covered{end}", f"covered{title}") for end, title in _ENDS]
    columns += [Column("width", "width", 2)]
    columns += [Column(f"plain{end}", f"plain covers{title}") for end, title in _ENDS]
    columns += [Column("plain_width", "plain width", 2)]
    note = (
        "width: median width of the intervals over the median area of the outlines; plain: percentiles of the samples' "
        "areas, widened about their median by one factor that was calibrated in the same way"
    )
    return Table(tuple(columns), tuple(rows), (note,))


def _estimate(key: str, one: Estimate) -> Row:
    return {key: one.value, f"{key}_low": one.low, f"{key}_high": one.high}

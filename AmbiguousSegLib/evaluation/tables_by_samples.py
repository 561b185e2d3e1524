"""Results of sources with different numbers of samples: a table for each number, as figures of two share no column."""

from __future__ import annotations

from collections.abc import Sequence

from AmbiguousSegLib.evaluation.comparison import Result, summary_table
from AmbiguousSegLib.evaluation.table import Table


def tables_of(results: Sequence[Result], notes: Sequence[str] = ()) -> list[Table]:
    """``summary_table`` of the results of each number of samples, the largest number first."""
    numbers = sorted({result.cases[0].n_samples for result in results}, reverse=True)
    return [summary_table([r for r in results if r.cases[0].n_samples == n], notes) for n in numbers]


def most_samples(results: Sequence[Result]) -> list[Result]:
    """Of each source and class the result with the most samples, in the order of the results."""
    found: dict[tuple[str, str], Result] = {}
    for result in results:
        key = (result.name, result.label)
        if key not in found or found[key].cases[0].n_samples < result.cases[0].n_samples:
            found[key] = result
    return list(found.values())

"""What an entry of the registry of figures is, and the decorator that makes one; see `figures`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from AmbiguousSegLib.metrics.mask_sets import NEEDS, MaskSets
from AmbiguousSegLib.registry import Registry

BETTER = ("lower", "higher", "alike", "")
EVALUATE, COMPARE = "evaluate", "compare"
TABLES = (EVALUATE, COMPARE)

Compute = Callable[[MaskSets], float]


@dataclass(frozen=True)
class Figure:
    """A figure and how to show it.

    Attributes:
        key: name in files and code.
        title: head of a column, with the unit if it has one.
        meaning: one sentence for people, without a full stop.
        better: "lower" or "higher" is better, "alike": should be as among raters, or "".
        unit: such as "mm"; empty for a plain number.
        decimals: how many people see.
        needs: of ``mask_sets.NEEDS``; without them the figure is left out.
        tables: whose columns it is among, of ``TABLES``; files have every figure.
        note: line under which tables explain it; empty if their notes do so anyway.
        compute: a `MaskSets` to a float, nan where the figure is undefined.
    """

    key: str
    title: str
    meaning: str
    better: str
    unit: str
    decimals: int
    needs: frozenset[str]
    tables: frozenset[str]
    note: str
    compute: Compute

    def __post_init__(self) -> None:
        unknown = sorted((self.needs - set(NEEDS)) | (self.tables - set(TABLES)))
        if unknown or self.better not in BETTER:
            raise ValueError(
                f"The figure {self.key!r} names {', '.join(unknown) or self.better!r}; needs are {', '.join(NEEDS)}, "
                f"tables {', '.join(TABLES)}, better one of {', '.join(map(repr, BETTER))}."
            )


FIGURES: Registry[Figure] = Registry("figure", room="AmbiguousSegLib.metrics", first="figures")


def figure(
    key: str,
    title: str,
    meaning: str,
    better: str = "",
    unit: str = "",
    decimals: int = 3,
    needs: Collection[str] = (),
    tables: Collection[str] = TABLES,
    note: str | None = None,
) -> Callable[[Compute], Compute]:
    """Decorator that enters a function of a `MaskSets` as a figure; arguments as the attributes of `Figure`.

    Args:
        note: None: title and meaning.

    Raises:
        ValueError: a figure bears the key already, or an argument is not among what it may be.
    """

    def enter(compute: Compute) -> Compute:
        told = f"{title}: {meaning}" if note is None else note
        made = Figure(key, title, meaning, better, unit, decimals, frozenset(needs), frozenset(tables), told, compute)
        FIGURES.register(key, compute.__module__)(made)
        return compute

    return enter

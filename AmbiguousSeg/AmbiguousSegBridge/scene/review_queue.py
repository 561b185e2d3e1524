"""The order in which lesions, or slices, are reviewed: the ones that samples disagree about most come first."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from AmbiguousSegBridge.scene import tables
from AmbiguousSegBridge.scene.runs import Run
from AmbiguousSegBridge.scene.views import MarkedSlice, marked_slices
from AmbiguousSegLib.evaluation.review import in_falling_order

MEDIAN, LOW, HIGH = -3, -2, -1  # rows of the volumes table, from its end


class ReviewOf(enum.Enum):
    """What is reviewed one after another."""

    LESIONS = "lesions"
    SLICES = "slices"

    def label(self) -> str:
        """For people."""
        return {"lesions": "Lesions", "slices": "Slices of all lesions"}[self.value]


class ReviewBy(enum.Enum):
    """What comes first."""

    DISAGREEMENT = "disagreement"
    INTERVAL = "interval"
    INTERVAL_SHARE = "interval share"

    def label(self) -> str:
        """For people."""
        named = {"disagreement": "Disagreement (mL)", "interval": "Width of the interval of volume (mL)"}
        return named.get(self.value, "Width of the interval, as a share of the median")


@dataclass(frozen=True)
class Item:
    """What is looked at next.

    Attributes:
        run: the lesion's.
        value: by which it is ordered; None if it is not known.
        place: the slice that is gone to; None if the samples mark nothing.
    """

    run: Run
    value: float | None
    place: MarkedSlice | None


class ReviewQueue:
    """Puts runs, or their slices, in order; maps are read again only where they were renewed since."""

    def __init__(self) -> None:
        self._slices: dict[tuple[int, ...], list[MarkedSlice]] = {}

    def items(self, runs: Sequence[Run], of: ReviewOf, by: ReviewBy) -> list[Item]:
        """The queue of these runs. Slices are always ordered by disagreement; unknown values come last."""
        if of is ReviewOf.SLICES:
            found = [Item(run, disagreement_ml(run, [one]), one) for run in runs for one in self.slices(run)]
        else:
            found = [Item(run, self._value(run, by), self.worst(run)) for run in runs]
        return [found[place] for place in in_falling_order([item.value for item in found])]

    def slices(self, run: Run) -> list[MarkedSlice]:
        """The marked slices of a run from the feet to the head; none if its maps cannot be read."""
        try:
            stamp = (*(mean.GetImageData().GetMTime() for mean in run.means), run.mean.GetMTime())
            if stamp not in self._slices:
                self._slices[stamp] = marked_slices(run)
            return self._slices[stamp]
        except (AttributeError, ValueError):  # a map was deleted or emptied, or lies on no grid any more
            return []

    def worst(self, run: Run) -> MarkedSlice | None:
        """The slice of most disagreement; None if nothing is marked."""
        return max(self.slices(run), key=lambda one: (one.disagreement, one.marked, -one.number), default=None)

    def _value(self, run: Run, by: ReviewBy) -> float | None:
        if by is ReviewBy.DISAGREEMENT:
            slices = self.slices(run)
            return disagreement_ml(run, slices) if slices else None
        if tables.VOLUMES not in run.tables:
            return None
        rows = tables.read_table(run.tables[tables.VOLUMES])["rows"]
        median, low, high = (rows[place][tables.VOLUME_ML] for place in (MEDIAN, LOW, HIGH))
        if by is ReviewBy.INTERVAL:
            return high - low
        return (high - low) / median if median else None


def disagreement_ml(run: Run, slices: Sequence[MarkedSlice]) -> float:
    """Variance (of several classes: entropy, in nats) summed over slices, times the volume of a voxel."""
    return sum(one.disagreement for one in slices) * run.geometry.voxel_volume_ml

"""Ensembles by their size in ``evaluate``: arguments, the curves that grow case by case, and their files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from AmbiguousSegLib import __version__
from AmbiguousSegLib.cli.common import CommandError
from AmbiguousSegLib.evaluation.ensemble_size import (
    REFERENCES,
    SizeCurve,
    SizeScores,
    checked_sizes,
    chosen_samples,
    size_scores,
)
from AmbiguousSegLib.evaluation.ensemble_size_table import curves_as_dict, shown_table, size_table
from AmbiguousSegLib.evaluation.table import Table
from AmbiguousSegLib.metrics.mask_sets import MaskSets

_STEM = "ensemble_size"
MOST_SUBSETS = 1000
PICTURE = f"{_STEM}.png"
FILES = (f"{_STEM}.csv", f"{_STEM}.json", f"{_STEM}.md", PICTURE)


def add_ensemble_arguments(p: argparse.ArgumentParser) -> None:
    """Arguments that ask for ensembles by their size."""
    p.add_argument(
        "--ensemble-sizes",
        nargs="+",
        type=int,
        metavar="N",
        help="score the consensus of the first N samples, for each N, as an ensemble of that size",
    )
    p.add_argument(
        "--ensemble-reference",
        choices=REFERENCES,
        default=REFERENCES[0],
        help="what an ensemble is scored against: the majority of the raters, or each of them (default: majority)",
    )
    p.add_argument(
        "--ensemble-subsets",
        type=int,
        default=0,
        metavar="S",
        help="of each size the mean over S random subsets of the samples (default: 0, the first N)",
    )


@dataclass
class EnsembleSizes:
    """Scores of all sources, gathered while cases are evaluated.

    Attributes:
        sizes: as asked for; of a source with fewer samples only those that it has.
        reference, subsets, seed: as ``size_scores`` and ``chosen_samples``.
    """

    sizes: tuple[int, ...]
    reference: str
    subsets: int
    seed: int
    _found: dict[tuple[str, str], list[tuple[str, SizeScores | None]]] = field(default_factory=dict)
    _samples: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, identity: str, subject: str, sets: MaskSets, labels: Sequence[str]) -> None:
        """The samples of one source in one case; ``labels`` are the names of the classes 1 to K."""
        n = self._samples.setdefault(name, len(sets.samples))
        if not (sizes := [size for size in self.sizes if size <= n]):
            return
        chosen = chosen_samples(sizes, n, self.subsets, self.seed)
        for label, scores in size_scores(identity, subject, sets, labels, chosen, self.reference).items():
            self._found.setdefault((name, label), []).append((identity, scores))

    def curves(self) -> list[SizeCurve]:
        """Of each source and class; CommandError where no source has as few samples as the smallest size."""
        if not self._found:
            raise CommandError(
                f"No source has the {self.sizes[0]} samples of the smallest of --ensemble-sizes; give a smaller one."
            )
        return [
            SizeCurve(
                name,
                label,
                tuple(size for size in self.sizes if size <= self._samples[name]),
                self._samples[name],
                tuple(scores for _, scores in found if scores is not None),
                tuple(identity for identity, scores in found if scores is None),
            )
            for (name, label), found in self._found.items()
        ]

    def write(self, place: Path, notes: Sequence[str], draw: Callable[[Path, Table], None] | None) -> list[str]:
        """Write all files into a folder, the chart only where it can be drawn; their names."""
        curves = self.curves()
        against = "what more than half of the raters mark" if self.reference == "majority" else "each rater, averaged"
        which = f"mean over {self.subsets} random subsets" if self.subsets else "the first n samples"
        table = size_table(curves, [*notes, f"reference: {against}; ensembles: {which}"])
        (place / FILES[0]).write_text(table.csv(), encoding="utf-8")
        settings = {"sizes": self.sizes, "reference": self.reference, "subsets": self.subsets, "seed": self.seed}
        content = {"format_version": 1, "software": f"AmbiguousSegLib {__version__}", "settings": settings}
        content |= {"table": table.as_dict(), "curves": curves_as_dict(curves)}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (place / FILES[1]).write_text(text + "\n", encoding="utf-8")
        (place / FILES[2]).write_text(shown_table(table).markdown(), encoding="utf-8")
        if draw is None:
            return [*FILES[:3]]
        draw(place / PICTURE, table)
        return [*FILES]


def ensemble_sizes(options: argparse.Namespace) -> EnsembleSizes | None:
    """What was asked for, None if nothing. CommandError: sizes beyond the samples, settings without sizes."""
    if not 0 <= options.ensemble_subsets <= MOST_SUBSETS:
        raise CommandError(
            f"--ensemble-subsets must be 0 or more, at most {MOST_SUBSETS}, got {options.ensemble_subsets}; the "
            "masks of all are made at once, take fewer."
        )
    if options.ensemble_sizes is None:
        if options.ensemble_subsets or options.ensemble_reference != REFERENCES[0]:
            raise CommandError("--ensemble-subsets and --ensemble-reference need --ensemble-sizes; give the sizes.")
        return None
    try:
        sizes = checked_sizes(options.ensemble_sizes, options.samples)
    except ValueError as error:
        raise CommandError(f"--ensemble-sizes: {error} Change them, or --samples.") from error
    return EnsembleSizes(sizes, options.ensemble_reference, options.ensemble_subsets, options.seed)


def chart_writer() -> Callable[[Path, Table], None]:
    """What draws the chart; CommandError without matplotlib."""
    try:
        from AmbiguousSegLib.plotting.ensemble_size import write_ensemble_size_figure
    except ImportError as error:
        raise CommandError(
            f"{PICTURE} needs {error.name}; install AmbiguousSegLib[figures], or give --no-figure."
        ) from error
    return write_ensemble_size_figure

"""``compare``: the samples of one volume against several raters' segmentations of it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib import __version__
from AmbiguousSegLib.cli.common import CommandError, check_out, figure_writer, progress_bar
from AmbiguousSegLib.evaluation.comparison import Result
from AmbiguousSegLib.evaluation.raters import RaterComparison, compare_with_raters
from AmbiguousSegLib.files import write_together
from AmbiguousSegLib.sampling.outputs import SUMMARY
from AmbiguousSegLib.volume.crops import Crop, joint_box, stack
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import file_stem, placed_on, read_mask, read_segments

HELP = "compare the samples of a volume with several raters' segmentations"
JSON_FILE, MARKDOWN_FILE, FIGURE_FILE = "comparison.json", "comparison.md", "disagreement.png"
TABLES = {
    "summary": "Samples against raters",
    "dice": "Dice of each pair",
    "hd95": "HD95 of each pair, mm",
    "dice_max": "Closest sample to each rater",
    "consensus": "Raters' and samples' consensus",
    "disagreement": "Disagreement, slice by slice",
}
_KEPT = ("label", "model", "seed", "sampler", "coherence_mm", "slice_range", "region")  # of samples.json


@dataclass(frozen=True)
class _Rater:
    """One rater's mask on the samples' grid, and where it came from."""

    segment: str
    file: Path
    resampled: bool
    crop: Crop


def parser() -> argparse.ArgumentParser:
    """Arguments of the verb."""
    p = argparse.ArgumentParser(prog="AmbiguousSegLib compare", description=HELP, allow_abbrev=False)
    p.add_argument("results", type=Path, metavar="RESULTS", help="folder that the verb sample has written")
    p.add_argument(
        "--raters",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="Slicer segmentations (.seg.nrrd, each segment a rater) or binary label volumes",
    )
    p.add_argument("--out", type=Path, required=True, help="folder for tables and figure")
    p.add_argument(
        "--resample", action="store_true", help="bring raters of other grids onto the samples' (nearest neighbour)"
    )
    p.add_argument("--overwrite", action="store_true", help="replace an earlier comparison in --out")
    p.add_argument("--no-figure", action="store_true", help=f"leave {FIGURE_FILE} out (it needs matplotlib)")
    return p


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    write_figure = _checked(options)  # None: none is wanted
    try:
        summary, geometry, sample_names, samples = _read_samples(options.results)
        raters = [rater for file in options.raters for rater in _read_raters(file, geometry, options.resample)]
    except OSError as error:
        raise CommandError(str(error)) from error
    names = _names(raters)
    drawn = [rater.crop for rater in raters]
    box = joint_box([*samples, *drawn]) or (slice(0, 0),) * 3
    with progress_bar("comparing") as advance:
        comparison = compare_with_raters(
            stack(samples, box),
            stack(drawn, box),
            geometry,
            names,
            sample_names,
            box_start=tuple(span.start for span in box),
            on_progress=advance,
        )
    origin = {
        "results": str(options.results),
        "samples": {key: summary[key] for key in _KEPT if key in summary},
        "raters": [
            {"name": name, "file": str(rater.file), "segment": rater.segment, "resampled": rater.resampled}
            for name, rater in zip(names, raters)
        ],
    }
    _write(comparison, origin, options.out, write_figure if comparison.slices.cases else None)
    print(comparison.tables["summary"].text(), end="")
    if write_figure is not None and not comparison.slices.cases:
        print(f"No sample and no rater marks anything, so that there is no {FIGURE_FILE}.", file=sys.stderr)
    return 0


def _checked(options: argparse.Namespace) -> Callable[[Path, Sequence[Result]], None] | None:
    """What writes the figure, None if none is wanted; CommandError for what can be refused at once."""
    check_out(options.out, (*_files(), FIGURE_FILE), options.overwrite)
    return None if options.no_figure else figure_writer(FIGURE_FILE)


def _read_samples(folder: Path) -> tuple[dict[str, Any], Geometry, list[str], list[Crop]]:
    """Content of the folder's summary, the grid, and the samples in the order of their numbers."""
    if not (folder / SUMMARY).is_file():
        raise CommandError(f"{folder} holds no {SUMMARY}; give a folder that the verb sample has written.")
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        grid, count = summary["grid"], summary["samples"]
        keys = ("size", "spacing_mm", "origin_lps_mm", "direction_lps")
        geometry = Geometry(*(tuple(grid[key]) for key in keys))
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{folder / SUMMARY} does not describe samples ({error}); sample again.") from error
    files = {int(m[1]): f for f in folder.iterdir() if (m := re.fullmatch(r"sample_(\d+)\.seg\.nrrd", f.name))}
    if len(files) != count or count == 0:
        raise CommandError(f"{folder} holds {len(files)} samples, but {SUMMARY} names {count}; sample again.")
    numbers = sorted(files)
    names = [f"sample {k}" for k in numbers]
    return summary, geometry, names, [Crop.of(read_mask(files[k], geometry)).copy() for k in numbers]


def _read_raters(file: Path, geometry: Geometry, resample: bool) -> list[_Rater]:
    """Every mask of a file on the samples' grid."""
    masks, grid = read_segments(file)
    found = []
    for name, mask in masks.items():
        placed = placed_on(geometry, mask, grid)
        if resampled := placed is None:
            if not resample:
                raise CommandError(
                    f"{file} does not lie on the samples' grid: {geometry.difference(grid)}. Resample it, or add "
                    "--resample (nearest neighbour)."
                )
            placed = _resampled(mask, grid, geometry)
            if mask.any() and not placed.any():
                raise CommandError(f"{file}: nothing of {name} is left on the samples' grid; is it the same patient?")
        found.append(_Rater(name, file, resampled, Crop.of(placed).copy()))
    return found


def _resampled(mask: np.ndarray, grid: Geometry, geometry: Geometry) -> np.ndarray:
    to = (geometry.size, sitk.Transform(), sitk.sitkNearestNeighbor)
    lies = (geometry.origin_mm, geometry.spacing_mm, geometry.direction)
    return sitk.GetArrayFromImage(sitk.Resample(grid.image(mask), *to, *lies)).astype(bool)


def _names(raters: Sequence[_Rater]) -> list[str]:
    """Names of the segments, with their files' where several agree."""
    segments = [rater.segment for rater in raters]
    names = [
        f"{file_stem(rater.file)}: {rater.segment}" if segments.count(rater.segment) > 1 else rater.segment
        for rater in raters
    ]
    if len(set(names)) < len(names):
        raise CommandError(
            f"Two raters are named {max(names, key=names.count)}; give each once, in files of own names."
        )
    return names


def _write(
    comparison: RaterComparison,
    origin: dict[str, Any],
    folder: Path,
    write_figure: Callable[[Path, Sequence[Result]], None] | None,
) -> None:
    tables = comparison.tables
    content = {"format_version": 1, "software": f"AmbiguousSegLib {__version__}", **origin}
    content["tables"] = {key: table.as_dict() for key, table in tables.items()}
    sections = [f"## {title}\n\n{tables[key].markdown()}" for key, title in TABLES.items()]

    def write(place: Path) -> list[str]:
        for key in TABLES:
            (place / f"{key}.csv").write_text(tables[key].csv(), encoding="utf-8")
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (place / JSON_FILE).write_text(text + "\n", encoding="utf-8")
        (place / MARKDOWN_FILE).write_text("\n".join(sections), encoding="utf-8")
        if write_figure is None:
            return _files()
        write_figure(place / FIGURE_FILE, [comparison.slices])
        return [*_files(), FIGURE_FILE]

    write_together(folder, write)
    if write_figure is None:
        (folder / FIGURE_FILE).unlink(missing_ok=True)  # of a comparison that was to be replaced


def _files() -> list[str]:
    return [*(f"{key}.csv" for key in TABLES), JSON_FILE, MARKDOWN_FILE]

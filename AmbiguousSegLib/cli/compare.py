"""``compare``: the samples of one volume against several raters' segmentations of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib import __version__
from AmbiguousSegLib.cli.common import CommandError, check_out, figure_writer, program, progress_bar
from AmbiguousSegLib.ensemble.refinement import refinement_in_words
from AmbiguousSegLib.evaluation.comparison import Result
from AmbiguousSegLib.evaluation.rater_comparison import RaterComparison, compare_with_raters
from AmbiguousSegLib.evaluation.rater_tables import TABLE_TITLES
from AmbiguousSegLib.files import said, write_together
from AmbiguousSegLib.labels import DEFAULT_LABELS, SEGMENTS_ARE
from AmbiguousSegLib.layouts.names import some
from AmbiguousSegLib.layouts.nnunet_predictions import find_predictions
from AmbiguousSegLib.outputs.result_folder import ResultFolder, read_result_folder
from AmbiguousSegLib.volume.crops import Crop, joint_box, stack
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.headers import read_header
from AmbiguousSegLib.volume.io import file_stem, is_flat, placed_on
from AmbiguousSegLib.volume.scan_kind import is_picture
from AmbiguousSegLib.volume.segments import read_rater_maps

HELP = "compare the samples of a volume with several raters' segmentations"
JSON_FILE, MARKDOWN_FILE, FIGURE_FILE = "comparison.json", "comparison.md", "disagreement.png"
# What of samples.json is told again
_KEPT = (
    *("label", "model", "seed", "first_sample", "sampler", "coherence_mm", "linked", "slice_range", "region_lps_mm"),
    *("window", "refinement"),
    "predictions",
    *("input_warnings", "notes"),
)
_TOLD = ("input_warnings", "notes")  # sentences of it, for the reader of the table


@dataclass(frozen=True)
class _Rater:
    """One rater's label map on the samples' grid, and where it came from; ``name`` is the segment's or the file's."""

    name: str
    file: Path
    resampled: bool
    crop: Crop


def parser() -> argparse.ArgumentParser:
    """Arguments of the subcommand."""
    p = argparse.ArgumentParser(prog=program("compare"), description=HELP, allow_abbrev=False)
    p.add_argument(
        "results",
        type=Path,
        metavar="RESULTS",
        help="folder that the subcommand sample has written; with --case, one of predictions as for evaluate",
    )
    p.add_argument("--case", metavar="NAME", help="compare the predictions of this case, nnU-Net's or any masks")
    p.add_argument(
        "--raters",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="Slicer segmentations (.seg.nrrd), DICOM segmentations, or label volumes (0 background, 1 the first label "
        "and so on)",
    )
    p.add_argument(
        "--segments-are",
        choices=SEGMENTS_ARE,
        default="auto",
        help="what the segments of one file are: raters, or the classes of one rater (default: classes if there are "
        "several labels and every segment has the name of one, otherwise raters)",
    )
    p.add_argument("--out", type=Path, required=True, help="folder for tables and figure")
    p.add_argument(
        "--resample", action="store_true", help="bring raters of other grids onto the samples' (nearest neighbour)"
    )
    p.add_argument("--overwrite", action="store_true", help="replace an earlier comparison in --out")
    p.add_argument("--no-figure", action="store_true", help=f"leave {FIGURE_FILE} out (it needs matplotlib)")
    return p


def main(arguments: list[str]) -> int:
    """Run the subcommand; the exit code."""
    options = parser().parse_args(arguments)
    write_figure = _checked(options)  # None: none is wanted
    try:
        result = read_result_folder(options.results) if options.case is None else _predicted(options)
        raters = [rater for file in options.raters for rater in _read_raters(file, result, options)]
    except (OSError, ImportError) as error:
        raise CommandError(said(error)) from error
    names = _names(raters)
    drawn = [rater.crop for rater in raters]
    box = joint_box([*result.samples, *drawn]) or (slice(0, 0),) * 3
    with progress_bar("comparing") as advance:
        comparison = compare_with_raters(
            stack(result.samples, box),
            stack(drawn, box),
            result.geometry,
            names,
            result.names,
            labels=[label.name for label in result.labels],
            box_start=(box[0].start, box[1].start, box[2].start),
            on_progress=advance,
        )
    several = {"labels": [label.name for label in result.labels]} if len(result.labels) > 1 else {}
    origin = {
        "results": str(options.results),
        "samples": several | {key: result.summary[key] for key in _KEPT if key in result.summary},
        "raters": [
            {"name": name, "file": str(rater.file), "segment": rater.name, "resampled": rater.resampled}
            for name, rater in zip(names, raters)
        ],
    }
    part = _sampled_part(result.summary)
    refined = result.summary.get("refinement")
    told = [] if refined is None else [refinement_in_words(refined)]
    notes = [*([] if part is None else [part]), *told, *(t for key in _TOLD for t in result.summary.get(key, []))]
    summary = comparison.tables["summary"]
    comparison.tables["summary"] = replace(summary, notes=(*notes, *summary.notes))
    nothing = "one sample disagrees with no other" if len(result.samples) == 1 else None
    if not comparison.slices.cases:
        nothing = "no sample and no rater marks anything"
    _write(comparison, origin, options.out, None if nothing else write_figure)
    print(comparison.tables["summary"].text(), end="")
    if write_figure is not None and nothing:
        print(f"There is no {FIGURE_FILE}, as {nothing}.", file=sys.stderr)
    return 0


def _sampled_part(summary: dict[str, Any]) -> str | None:
    """What to know where only a part of the volume was sampled; None where all of it was."""
    slices = summary.get("slice_range")
    if slices is None and summary.get("region_lps_mm") is None:
        return None
    part = "A REGION WAS" if slices is None else f"SLICES {slices[0]} TO {slices[1]} WERE"
    return f"ONLY {part} SAMPLED: what raters marked elsewhere counts as missed by every sample"


def _checked(options: argparse.Namespace) -> Callable[[Path, Sequence[Result]], None] | None:
    """What writes the figure, None if none is wanted; CommandError for what can be refused at once."""
    check_out(options.out, (*_files(), FIGURE_FILE), options.overwrite)
    return None if options.no_figure else figure_writer(FIGURE_FILE)


def _predicted(options: argparse.Namespace) -> ResultFolder:
    """Masks of one case in a folder of predictions, on the grid of the first."""
    found = find_predictions(options.results)
    if not (files := found.of(options.case)):
        raise CommandError(
            f"{options.results} holds no prediction of {options.case!r}; it has {some(list(found.files))}."
        )
    labels, geometry = found.labels() or DEFAULT_LABELS, read_header(files[0]).geometry
    samples = [Crop.of(mask).copy() for mask in found.masks(options.case, geometry, labels)]
    summary = {"model": {"name": options.results.resolve().name}, "predictions": [str(file) for file in files]}
    return ResultFolder(summary, geometry, [f"sample {k}" for k in range(1, 1 + len(files))], labels, samples)


def _read_raters(file: Path, result: ResultFolder, options: argparse.Namespace) -> list[_Rater]:
    """Every rater of a file on the samples' grid."""
    geometry = result.geometry
    maps, grid, part = read_rater_maps(file, [label.name for label in result.labels], options.segments_are, geometry)
    if is_picture(file) and geometry.size[2] == 1 and grid.size == geometry.size:
        grid = geometry  # a picture does not tell the size of its pixels, which the samples know
    found = []
    for name, label_map in maps.items():
        placed = placed_on(geometry, label_map, grid, part)
        if placed is not None:
            found.append(_Rater(name, file, False, Crop.of(placed).copy()))
            continue
        differs = f"{file} does not lie on the samples' grid: {geometry.difference(grid)}."
        if geometry.size[2] > 1 and is_flat(file):
            raise CommandError(
                f"{differs} A picture does not say which slice it shows; save the rater's mask as a volume."
            )
        if not options.resample:
            raise CommandError(f"{differs} Resample it, or add --resample (nearest neighbour).")
        crop, outside = _resampled(Crop.of(label_map), grid, geometry)
        if label_map.any() and crop.empty:
            raise CommandError(f"{file}: {name} marks nothing on the samples' grid; is it the same patient?")
        if outside:
            raise CommandError(
                f"{file}: {name} marks {outside * geometry.voxel_volume_ml:.3g} mL outside the samples' volume, which "
                "would be lost; crop the rater's mask, or sample the larger volume."
            )
        found.append(_Rater(name, file, True, crop))
    return found


def _resampled(drawn: Crop, grid: Geometry, geometry: Geometry) -> tuple[Crop, int]:
    """What is drawn on ``grid`` by the nearest voxels of ``geometry``, and how many voxels it takes beyond that."""
    if drawn.empty:
        return Crop.nothing(geometry.shape), 0
    # Both grids are cut to what is drawn, or go on beyond the volume to hold it.
    start = tuple(grid.to_mm(np.array(drawn.start[::-1])))
    source = Geometry(drawn.voxels.shape[::-1], grid.spacing_mm, start, grid.direction)
    corners = geometry.to_index(source.outer_corners_mm())
    first, end = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int) + 1
    to = ((end - first).tolist(), sitk.Transform(), sitk.sitkNearestNeighbor)
    lies = (tuple(geometry.to_mm(first)), geometry.spacing_mm, geometry.direction)
    found = sitk.GetArrayFromImage(sitk.Resample(source.image(drawn.voxels), *to, *lies))
    low, high = np.clip([first, end], 0, geometry.size)
    inside = Crop.of(found[tuple(slice(a, b) for a, b in zip((low - first)[::-1], (high - first)[::-1]))])
    outside = np.count_nonzero(found) - np.count_nonzero(inside.voxels)
    return inside.copy().placed(low[::-1], geometry.shape), int(outside)


def _names(raters: Sequence[_Rater]) -> list[str]:
    """Names of the raters, with their files' where several agree."""
    own = [rater.name for rater in raters]
    names = [f"{file_stem(r.file)}: {r.name}" if own.count(r.name) > 1 else r.name for r in raters]
    if len(set(names)) < len(names):
        raise CommandError(
            f"Two raters are named {max(names, key=names.count)}; give each once, in files of different names."
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
    sections = [f"## {title}\n\n{tables[key].markdown()}" for key, title in TABLE_TITLES.items()]

    def write(place: Path) -> list[str]:
        for key in TABLE_TITLES:
            (place / f"{key}.csv").write_text(tables[key].csv(), encoding="utf-8")
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (place / JSON_FILE).write_text(text + "\n", encoding="utf-8")
        (place / MARKDOWN_FILE).write_text("\n".join(sections), encoding="utf-8")
        if write_figure is None:
            return _files()
        write_figure(place / FIGURE_FILE, [comparison.slices])
        return [*_files(), FIGURE_FILE]

    # The figure of a comparison that is replaced goes also where none follows it.
    write_together(folder, write, surplus=[FIGURE_FILE])


def _files() -> list[str]:
    return [*(f"{key}.csv" for key in TABLE_TITLES), JSON_FILE, MARKDOWN_FILE]

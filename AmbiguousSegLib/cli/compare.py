"""``compare``: the samples of one volume against several raters' segmentations of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from AmbiguousSegLib.studies.rater_files import distinct_names, read_rater_masks
from AmbiguousSegLib.volume.crops import Crop, joint_box, stack
from AmbiguousSegLib.volume.headers import read_header

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
        onto = (result.geometry, result.labels, options.segments_are, options.resample)
        raters = [rater for file in options.raters for rater in read_rater_masks(file, *onto)]
    except (OSError, ImportError) as error:
        raise CommandError(said(error)) from error
    names = distinct_names(raters)
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

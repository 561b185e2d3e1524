"""``phantom``: phantom cases or a phantom volume, with raters, as files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.cli.common import CommandError, program
from AmbiguousSegLib.data.lung_phantom import MODES, TWO_CLASSES, Phantom, phantom_case, phantom_volume, window
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.writing import write_image, write_segmentation, write_volume

HELP = "write phantom cases or a phantom volume with raters"
_RATER_COLOR = (0.35, 0.85, 0.45)
_CLASS_COLORS = (0.9, 0.3, 0.2), (0.95, 0.75, 0.3)


def main(arguments: list[str]) -> int:
    """Run the subcommand; returns the exit code."""
    p = argparse.ArgumentParser(prog=program("phantom"), description=HELP, allow_abbrev=False)
    p.add_argument("--out", type=Path, required=True)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--volume", action="store_true", help="one CT-like volume with three nodules")
    what.add_argument("--cases", type=int, metavar="N", help="N slices, in the folder layout that training reads")
    p.add_argument("--raters", type=int, default=4)
    p.add_argument("--seed", type=int, default=0)
    names = " and ".join(TWO_CLASSES)
    p.add_argument("--classes", type=int, choices=(1, 2), default=1, help=f"1: all that a rater marks; 2: {names}")
    options = p.parse_args(arguments)
    if options.raters < 1 or options.seed < 0 or (options.cases is not None and options.cases < 1):
        raise CommandError("--raters and --cases must be at least 1, --seed at least 0.")
    _check_stale(options)
    if options.volume:
        _write_volume(options.out, options)
    else:
        for index in range(options.cases):
            _write_case(options.out / f"case_{index:04d}", index, options)
    print(f"{options.out}: done")
    return 0


def _check_stale(options: argparse.Namespace) -> None:
    """CommandError if masks of an earlier call would stay among those of this one."""
    raters = range(1, options.raters + 1)
    if options.volume:
        pattern, written = "rater_*.seg.nrrd", {f"rater_{k}.seg.nrrd" for k in raters}
    else:
        pattern = "case_*/rater_*.png"
        written = {f"case_{index:04d}/rater_{k}.png" for index in range(options.cases) for k in raters}
    stale = sorted({file.relative_to(options.out).as_posix() for file in options.out.glob(pattern)} - written)
    if stale:
        raise CommandError(
            f"{options.out} holds {stale[0]}, which would stay among the new masks; choose another --out."
        )


def _write_volume(out: Path, options: argparse.Namespace) -> None:
    phantom = phantom_volume(options.seed, classes=options.classes)
    z, y, x = phantom.spacing_mm
    geometry = Geometry(phantom.image.shape[::-1], (x, y, z), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    write_volume(out / "image.nrrd", phantom.image, geometry)
    for k, mask in enumerate(phantom.draw_masks(np.random.default_rng([options.seed, 1]), options.raters), start=1):
        if options.classes == 1:
            labels, ids = [Label(f"rater {k}", _RATER_COLOR)], [f"rater_{k}"]
        else:
            labels, ids = list(map(Label, TWO_CLASSES, _CLASS_COLORS)), list(TWO_CLASSES)
        write_segmentation(out / f"rater_{k}.seg.nrrd", mask, geometry, labels, ids)
    _write_truth(out, phantom)


def _write_case(folder: Path, index: int, options: argparse.Namespace) -> None:
    phantom = phantom_case(options.seed, index, classes=options.classes)
    _write_png(folder / "image.png", (255 * window(phantom.image)).round().astype(np.uint8))
    masks = phantom.draw_masks(np.random.default_rng([options.seed, 1, index]), options.raters)
    for k, mask in enumerate(masks, start=1):
        # One class is white, for all the world to see; of two the numbers are the labels.
        _write_png(folder / f"rater_{k}.png", 255 * mask if options.classes == 1 else mask)
    _write_truth(folder, phantom)


def _write_truth(folder: Path, phantom: Phantom) -> None:
    """The exact probabilities that the raters' masks were drawn with."""
    truth = {"modes": list(MODES), "probabilities": phantom.mode_probabilities.tolist()}
    if phantom.classes == 2:
        truth["labels"] = list(TWO_CLASSES)
    with replacing(folder / "truth.json") as path:
        path.write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")


def _write_png(path: Path, array: np.ndarray) -> None:
    write_image(path, sitk.GetImageFromArray(array), compress=False)

"""``sample``: plausible segmentations of volumes and images."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.calibration.figures import calibrated_lines
from AmbiguousSegLib.cli.common import CommandError, check_out, name_and_value, program, progress_bar
from AmbiguousSegLib.cli.computation import add_computation_arguments, computation_of
from AmbiguousSegLib.cli.quality_arguments import ParserWithQualities, add_quality_argument
from AmbiguousSegLib.cli.refinement_arguments import (
    add_fusion_argument,
    add_refinement_arguments,
    check_fusion,
    refinement_asked,
)
from AmbiguousSegLib.devices import device_of_process
from AmbiguousSegLib.diffusion import samplers
from AmbiguousSegLib.diffusion.samplers import SAMPLERS
from AmbiguousSegLib.diffusion.settings import FLOW, SamplerSettings
from AmbiguousSegLib.diffusion.step_grids import STEP_GRIDS
from AmbiguousSegLib.ensemble.fusion import with_fusion
from AmbiguousSegLib.files import said, shown
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.inference.shared_drawing import Sharing, forget_parts
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.outputs.result_folder import OVERVIEW, SUMMARY, earlier_files, write_outputs
from AmbiguousSegLib.processes import processes_of_run
from AmbiguousSegLib.quality import Quality, sampler_of
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.geometry import lps_of_ras
from AmbiguousSegLib.volume.io import read_volume
from AmbiguousSegLib.volume.scan_kind import is_picture, modality_of, with_pixels_of

HELP = "sample plausible segmentations of a volume or image"

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Arguments of the subcommand."""
    p = ParserWithQualities(prog=program("sample"), description=HELP, allow_abbrev=False)
    p.add_argument(
        "volume",
        nargs="+",
        type=Path,
        metavar="VOLUME",
        help="file or DICOM folder; several: the channels of one subject, in the order the model names them",
    )
    p.add_argument(
        "--series",
        metavar="UID",
        help="which of several DICOM series or volumes, as the message that lists them names it",
    )
    p.add_argument(
        "--spacing-mm",
        type=float,
        metavar="MM",
        help="size of a pixel of a picture (PNG, JPEG, …), which does not tell it",
    )
    p.add_argument("--model", default=None, help="model folder, or name of a bundled model (default: the bundled one)")
    p.add_argument("--samples", type=int, default=8, metavar="N", help="number of segmentations (default: 8)")
    p.add_argument("--out", type=Path, required=True, help="folder for the results")
    add_sampling_arguments(p)
    add_quality_argument(p)
    p.add_argument("--slices", type=int, nargs=2, metavar=("FIRST", "LAST"), help="only these slices, both included")
    p.add_argument(
        "--region",
        type=float,
        nargs=6,
        metavar=("X0", "X1", "Y0", "Y1", "Z0", "Z1"),
        help="only this box, in LPS millimetres",
    )
    add_point_arguments(p)
    p.add_argument("--overwrite", action="store_true", help="replace an earlier result in --out")
    return p


def add_point_arguments(p: argparse.ArgumentParser) -> None:
    """Arguments of what is pointed at, which ``_pointing`` reads."""
    place = p.add_mutually_exclusive_group()
    place.add_argument(
        "--point",
        type=float,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="place in the lesion, in LPS millimetres: the model's field of view around it is sampled, slice by slice "
        "outward; a sample goes on while its masks of neighbouring slices overlap",
    )
    place.add_argument(
        "--point-ras",
        type=float,
        nargs=3,
        metavar=("R", "A", "S"),
        help="the same in RAS millimetres, as 3D Slicer shows them",
    )
    p.add_argument(
        "--window",
        type=float,
        metavar="MM",
        help="size of what is looked at around the point (default: the model's field of view, the least)",
    )
    p.add_argument(
        "--grow-window",
        action="store_true",
        help="sample again in a larger window where the border of the window cuts a mask off",
    )


def add_sampling_arguments(p: argparse.ArgumentParser) -> None:
    """Arguments of how a volume is sampled."""
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same masks (default: 0)")
    add_sampler_arguments(p)
    p.add_argument(
        "--coherence-mm",
        type=float,
        default=math.inf,
        help="distance along the slice axis over which choices change; 0: each slice on its own (default: inf)",
    )
    p.add_argument(
        "--link-slices",
        action="store_true",
        help="pair the masks of neighbouring slices anew, for shapes that --coherence-mm leaves ragged; which mask "
        "belongs to which sample then depends on --samples, no slice's masks do",
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add_computation_arguments(p)
    add_refinement_arguments(p)
    add_fusion_argument(p)
    p.add_argument("--batch-size", type=int, help="slices computed together (default: what fits the device)")


def add_sampler_arguments(p: argparse.ArgumentParser) -> None:
    """Arguments of how a diffusion model is sampled, which ``sampler_settings`` reads."""
    p.add_argument("--sampler", choices=list(SAMPLERS), help="default: the model's own")
    p.add_argument("--steps", type=int, help="network evaluations per mask (default: the model's own)")
    p.add_argument("--grid", choices=list(STEP_GRIDS), help="which of the training steps (default: the model's own)")
    p.add_argument(
        "--sampler-option",
        type=name_and_value,
        action="append",
        metavar="NAME=VALUE",
        help="option of the sampler, such as eta=1 for ddim; may be given several times",
    )
    p.add_argument("--eta", type=float, help=argparse.SUPPRESS)  # for one version: --sampler-option eta=…


def given_of_sampler(options: argparse.Namespace) -> list[str]:
    """Which of the sampler's arguments, and of ``--quality`` where there is one, were given."""
    names = ("sampler", "steps", "grid", "sampler_option", "eta", "quality")
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name, None) is not None]


def sampler_settings(model: Model, options: argparse.Namespace) -> SamplerSettings:
    """The model's sampler with what was given put in its place, or the one that ``--quality`` stands for.

    A model that does not sample by steps has one quality: a warning says that any of them is that one.

    Another sampler takes no options of the model's own. Arguments that ``options`` does not have count as not given.

    Raises:
        CommandError: settings for a method that has no sampler, a grid for a flow, or a quality beside other settings.
        ValueError: a sampler, grid or option that there is not, a sampler of another family, or no steps.
    """
    given = given_of_sampler(options)
    if not model.method.samples_by_steps:
        if given == ["--quality"]:
            name, quality = model.card.name, options.quality
            log.warning("%s draws a mask in one pass, its only quality: --quality %s changes nothing.", name, quality)
        elif given:
            raise CommandError(f"{model.card.name} draws a mask in one pass; leave out {', '.join(given)}.")
        return model.sampling
    if getattr(options, "quality", None) is not None:
        if len(given) > 1:
            raise CommandError(
                f"--quality {options.quality} chooses sampler and steps; leave out {' and '.join(given[:-1])}, or "
                "--quality."
            )
        settings = sampler_of(
            Quality(options.quality), model.training_steps, model.qualities, model.method.sampler_family
        )
        return settings or model.sampling
    grid = getattr(options, "grid", None)
    if grid is not None and model.method.sampler_family == FLOW:
        raise CommandError(
            f"{model.card.name} is a flow, which has no training steps to choose from; leave out --grid."
        )
    asked = {"name": options.sampler, "steps": options.steps, "grid": grid}
    settings = replace(model.sampling, **{key: value for key, value in asked.items() if value is not None})
    chosen = dict(settings.options) if settings.name == model.sampling.name else {}
    chosen |= dict(getattr(options, "sampler_option", None) or ())
    if getattr(options, "eta", None) is not None:
        log.warning("--eta is now --sampler-option eta=%g; --eta will go in the next version.", options.eta)
        chosen["eta"] = options.eta
    settings = replace(settings, options=chosen)
    samplers.check(settings, model.method.sampler_family)
    return settings


def _pointing(options: argparse.Namespace) -> Pointing | None:
    if options.point is None and options.point_ras is None:
        given = ["--window"] * (options.window is not None) + ["--grow-window"] * options.grow_window
        if given:
            verb = "belongs" if len(given) == 1 else "belong"
            raise CommandError(f"{' and '.join(given)} {verb} to a point; give --point X Y Z, too.")
        return None
    x, y, z = options.point or lps_of_ras(options.point_ras)
    return Pointing((x, y, z), options.window, options.grow_window)


def _request(options: argparse.Namespace, model: Model) -> SampleRequest:
    r = options.region
    return SampleRequest(
        samples=options.samples,
        seed=options.seed,
        sampler=sampler_settings(model, options),
        slice_range=tuple(options.slices) if options.slices else None,
        region=((r[0], r[2], r[4]), (r[1], r[3], r[5])) if r else None,
        pointing=_pointing(options),
        coherence_mm=options.coherence_mm,
        batch_size=options.batch_size,
        computation=computation_of(options, model.method, model.device),
        linked=options.link_slices,
        refine=refinement_asked(options),
    )


def _in_words(volumes: dict[str, Any]) -> str:
    low, high = volumes["interval_95"] or volumes["range"]
    of = "95 % of the samples" if volumes["interval_95"] else f"least to greatest of {len(volumes['samples'])}"
    return f"{volumes['mean']:.3g} mL ({of}: {low:.3g} to {high:.3g} mL)"


def main(arguments: list[str]) -> int:
    """Run the subcommand; the exit code. Under ``torchrun`` processes share the slices, and the first one writes."""
    options = parser().parse_args(arguments)
    with processes_of_run() as processes:
        if processes is None:
            return _run(options, None)
        if not processes.first:
            logging.getLogger("AmbiguousSegLib").setLevel(logging.ERROR)  # what the first one says, too
        return _run(options, Sharing(processes, options.out))


def _run(options: argparse.Namespace, sharing: Sharing | None) -> int:
    speaks = sharing is None or sharing.processes.first
    check_out(options.out, earlier_files(options.out), options.overwrite)
    check_fusion(options)
    try:
        model = load_model(find_model(options.model), device_of_process(options.device))
        own = earlier_files(options.out, model.labels, model.method.own_map_names)  # maps of each class, and its own
        check_out(options.out, own, options.overwrite)
        request = _request(options, model)
        volume, geometry = read_volume(options.volume, options.series)
        modality, picture = modality_of(options.volume, options.series), any(map(is_picture, options.volume))
    except OSError as error:
        raise CommandError(said(error)) from error
    try:
        np.empty((options.samples, *geometry.shape), bool)  # fails at once, where sampling would first fill the memory
    except (MemoryError, ValueError) as error:
        raise CommandError(
            f"Memory cannot hold {options.samples} masks of {math.prod(geometry.size)} voxels; sample fewer."
        ) from error
    if options.spacing_mm is not None:
        geometry, picture = with_pixels_of(options.spacing_mm, geometry, options.volume), False
    started = time.monotonic()
    try:
        with progress_bar("sampling") if speaks else nullcontext() as advance:
            sample_set = sample_volume(
                model, volume, geometry, request, advance, modality=modality, picture=picture, sharing=sharing
            )
    except ValueError as error:
        raise CommandError(f"{', '.join(map(shown, options.volume))}: {error}") from error
    if not speaks:
        return 0
    sample_set, fused = with_fusion(sample_set) if options.fuse else (sample_set, None)
    write_outputs(sample_set, volume, options.out, options.overwrite, fused)
    forget_parts(options.out)
    volumes = _in_words(sample_set.volume_summary())
    print(f"{len(sample_set)} samples in {time.monotonic() - started:.1f} s on {model.device}: {volumes}")
    if sample_set.classes > 1:
        for number, label in enumerate(sample_set.labels, start=1):
            print(f"  {label.name}: {_in_words(sample_set.volume_summary(number))}")
    for line in calibrated_lines(sample_set.provenance):
        print(f"  {line}")
    print(f"{options.out / OVERVIEW} shows the slices where they disagree most; {SUMMARY} lists settings and volumes.")
    print(model.card.intended_use, file=sys.stderr)
    return 0

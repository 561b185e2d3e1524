"""``sample``: plausible segmentations of volumes and images."""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from AmbiguousSegLib.cli.common import CommandError, check_out, progress_bar
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.diffusion.samplers import SAMPLERS, SamplerSettings
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.outputs.result_folder import OVERVIEW, SUMMARY, earlier_files, write_outputs
from AmbiguousSegLib.quality import Quality, sampler_of
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.io import read_channels

HELP = "sample plausible segmentations of a volume or image"


def parser() -> argparse.ArgumentParser:
    """Arguments of the subcommand."""
    p = argparse.ArgumentParser(prog="AmbiguousSegLib sample", description=HELP, allow_abbrev=False)
    p.add_argument(
        "volume",
        nargs="+",
        type=Path,
        metavar="VOLUME",
        help="file or DICOM folder; several: the channels of one subject, in the order the model names them",
    )
    p.add_argument("--model", default=None, help="model folder, or name of a bundled model (default: the bundled one)")
    p.add_argument("--samples", type=int, default=8, metavar="N", help="number of segmentations (default: 8)")
    p.add_argument("--out", type=Path, required=True, help="folder for the results")
    add_sampling_arguments(p)
    p.add_argument(
        "--quality",
        choices=[quality.value for quality in Quality],
        help="in place of --sampler and --steps: fast 10 steps, samples too alike; balanced 25 steps; paper every "
        "training step, as the papers do (default: the model's own sampler)",
    )
    p.add_argument("--slices", type=int, nargs=2, metavar=("FIRST", "LAST"), help="only these slices, both included")
    p.add_argument(
        "--region",
        type=float,
        nargs=6,
        metavar=("X0", "X1", "Y0", "Y1", "Z0", "Z1"),
        help="only this box, in LPS millimetres",
    )
    p.add_argument("--overwrite", action="store_true", help="replace an earlier result in --out")
    return p


def add_sampling_arguments(p: argparse.ArgumentParser) -> None:
    """Arguments that every sampling command shares."""
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same masks (default: 0)")
    p.add_argument("--sampler", choices=list(SAMPLERS), help="default: the model's own")
    p.add_argument("--steps", type=int, help="network evaluations per mask (default: the model's own)")
    p.add_argument("--eta", type=float, help="DDIM only: 0 deterministic … 1 as noisy as DDPM")
    p.add_argument(
        "--coherence-mm",
        type=float,
        default=math.inf,
        help="distance along the slice axis over which choices change; 0: each slice on its own (default: inf)",
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    p.add_argument("--batch-size", type=int, help="slices computed together (default: what fits the device)")


def sampler_settings(
    model: Model, name: str | None, steps: int | None, eta: float | None, quality: str | None = None
) -> SamplerSettings:
    """The model's sampler with what was given put in its place, or the one that ``quality`` stands for.

    Raises:
        CommandError: settings for a method that has no sampler, or a quality beside other settings.
    """
    options = {"--sampler": name, "--steps": steps, "--eta": eta, "--quality": quality}
    given = [option for option, value in options.items() if value is not None]
    if given and not model.method.samples_by_steps:
        raise CommandError(f"{model.card.name} draws a mask in one pass; leave out {', '.join(given)}.")
    if quality is not None:
        if len(given) > 1:
            others = " and ".join(given[:-1])
            raise CommandError(f"--quality {quality} chooses sampler and steps; leave out {others}, or --quality.")
        return SamplerSettings(*sampler_of(Quality(quality), model.training_steps))
    asked = {"name": name, "steps": steps, "eta": eta}
    return replace(model.sampling, **{key: value for key, value in asked.items() if value is not None})


def _request(options: argparse.Namespace, model: Model) -> SampleRequest:
    r = options.region
    return SampleRequest(
        samples=options.samples,
        seed=options.seed,
        sampler=sampler_settings(model, options.sampler, options.steps, options.eta, options.quality),
        slice_range=tuple(options.slices) if options.slices else None,
        region=((r[0], r[2], r[4]), (r[1], r[3], r[5])) if r else None,
        coherence_mm=options.coherence_mm,
        batch_size=options.batch_size,
    )


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    check_out(options.out, earlier_files(options.out), options.overwrite)
    try:
        model = load_model(find_model(options.model), choose_device(options.device))
        request = _request(options, model)
        volume, geometry = read_channels(options.volume)
    except OSError as error:
        raise CommandError(str(error)) from error
    try:
        np.empty((options.samples, *geometry.shape), bool)  # fails at once, where sampling would first fill the memory
    except (MemoryError, ValueError) as error:
        raise CommandError(
            f"Memory cannot hold {options.samples} masks of {math.prod(geometry.size)} voxels; sample fewer."
        ) from error
    started = time.monotonic()
    with progress_bar("sampling") as advance:
        sample_set = sample_volume(model, volume, geometry, request, advance)
    write_outputs(sample_set, volume, options.out, model.card.label, options.overwrite)
    figures = sample_set.volume_summary()
    low, high = figures["interval_95"]
    print(
        f"{len(sample_set)} samples in {time.monotonic() - started:.1f} s on {model.device}: "
        f"{figures['mean']:.3g} mL (95 % of the samples: {low:.3g} to {high:.3g} mL)"
    )
    print(f"{options.out / OVERVIEW} shows the slices where they disagree most; {SUMMARY} lists settings and volumes.")
    print(model.card.intended_use, file=sys.stderr)
    return 0

"""``import``: a model from a checkpoint of one of the published codes."""

from __future__ import annotations

import argparse
from pathlib import Path

from AmbiguousSegLib.cli.common import CommandError, program
from AmbiguousSegLib.description import DESCRIPTION_FILE
from AmbiguousSegLib.diffusion.process import PREDICTIONS
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.model import save_model
from AmbiguousSegLib.published import KINDS, ImportOptions, import_published
from AmbiguousSegLib.volume.geometry import PLANES
from AmbiguousSegLib.volume.preprocessing import RULES, Intensity

HELP = "import a published checkpoint"
_KINDS = "; ".join(f"{name}: {kind.source}" for name, kind in KINDS.items())


def main(arguments: list[str]) -> int:
    """Run the subcommand; its exit code."""
    options = _parser().parse_args(arguments)
    if (options.out / DESCRIPTION_FILE).exists():
        raise CommandError(f"{options.out} holds a model; import into another folder.")
    model, notes = import_published(
        options.checkpoint,
        ImportOptions(
            kind=options.kind,
            image_channels=options.image_channels,
            channels=tuple(options.channels) if options.channels else None,
            image_size=options.image_size,
            num_heads=options.num_heads,
            mask_levels=tuple(options.mask_levels) if options.mask_levels else None,
            schedule=ScheduleConfig(options.schedule, options.steps),
            prediction=options.prediction,
            plane=options.plane,
            spacing_mm=options.spacing_mm,
            intensity=_intensity(options.intensity),
            name=options.name,
            label=options.label,
        ),
    )
    save_model(model, options.out)
    for note in notes:
        print(note)
    print(f"{options.out}: model {model.card.name!r}; by default sampled with DDPM in {model.sampling.steps} steps.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program("import"), description=HELP, allow_abbrev=False)
    parser.add_argument(
        "checkpoint", type=Path, help="file of the weights (.pt); where there are several, the averaged one (ema…)"
    )
    parser.add_argument("--kind", choices=list(KINDS), required=True, help=_KINDS)
    parser.add_argument("--out", type=Path, required=True, help="new folder for the model")
    parser.add_argument("--name", help="name of the model (default: that of the file)")
    parser.add_argument("--label", default=Label.name, help="what the masks show")
    told = parser.add_argument_group("what the file does not say; by default as published for the kind")
    told.add_argument("--image-size", type=int, help="side of the training images in pixels")
    told.add_argument("--num-heads", type=int, help="attention heads")
    told.add_argument("--mask-levels", type=float, nargs=2, metavar=("BACKGROUND", "LESION"), help="0 1, or -1 1")
    told.add_argument("--schedule", choices=("linear", "cosine"), default="linear", help="noise schedule")
    told.add_argument("--steps", type=int, default=1000, help="training steps, given to the network as 0 … STEPS - 1")
    told.add_argument("--prediction", choices=PREDICTIONS, default="epsilon", help="what the network predicts")
    images = parser.add_argument_group("images")
    images.add_argument(
        "--image-channels",
        type=int,
        help="1: the network saw copies of one grey image, which are folded into one; or as many as it saw. By default "
        "1 for a cimd network of 4 image channels",
    )
    images.add_argument("--channels", nargs="+", metavar="NAME", help="names of the image channels, in order")
    images.add_argument("--plane", choices=PLANES, help="of the slices")
    images.add_argument("--spacing-mm", type=float, help="pixel spacing of the training images")
    images.add_argument(
        "--intensity",
        nargs="+",
        metavar=("RULE", "LIMIT"),
        help=f"what becomes 0 … 1: {', '.join(RULES)}; then the limits, as in 'window -1000 200' or 'full_scale 255'",
    )
    return parser


def _intensity(words: list[str] | None) -> Intensity | None:
    if words is None:
        return None
    rule, *limits = words
    try:
        numbers = [float(limit) for limit in limits]
    except ValueError as error:
        raise CommandError(f"--intensity takes a rule and numbers, got {' '.join(words)!r}.") from error
    if len(numbers) > 2:
        raise CommandError(f"--intensity takes at most two limits, got {' '.join(words)!r}.")
    low, high = [None, None, *numbers][-2:]
    return Intensity(rule, low, high)

"""How a command line asks for samples to be refined, and fused; read without torch."""

from __future__ import annotations

import argparse

from AmbiguousSegLib.cli.common import CommandError, name_and_value
from AmbiguousSegLib.ensemble.refinement import REFINEMENTS, DenseCRFConfig, refinement_of


def add_refinement_arguments(p: argparse.ArgumentParser) -> None:
    """``--refine`` and ``--refine-option``, which ``refinement_asked`` reads."""
    p.add_argument(
        "--refine",
        choices=REFINEMENTS,
        help="move the borders of each sample to those of the image, slice by slice, on the model's pixels: by a "
        "fully connected conditional random field (default: nothing is refined)",
    )
    p.add_argument(
        "--refine-option",
        type=name_and_value,
        action="append",
        metavar="NAME=VALUE",
        help="option of it, such as w1=3 or theta_beta=0.05; may be given several times",
    )


def add_fusion_argument(p: argparse.ArgumentParser) -> None:
    """``--fuse``."""
    p.add_argument(
        "--fuse",
        action="store_true",
        help="write fused.seg.nrrd, too: the majority of 3 majorities of 4 samples each, drawn by the seed (DiffSeg)",
    )


def check_fusion(options: argparse.Namespace) -> None:
    """CommandError where ``--fuse`` has too few samples to draw from."""
    from AmbiguousSegLib.ensemble.fusion import Fusion

    if options.fuse:
        try:
            Fusion().check(options.samples)
        except ValueError as error:
            raise CommandError(f"--fuse: {error}") from error


def refinement_asked(options: argparse.Namespace) -> DenseCRFConfig | None:
    """What ``--refine`` and its options ask for; None: nothing.

    Raises:
        CommandError: an option that there is not, or out of its range, or without ``--refine``.
    """
    given = dict(options.refine_option or ())
    if options.refine is None and given:
        raise CommandError("--refine-option belongs to --refine; give --refine dense-crf, too.")
    try:
        return refinement_of(options.refine, given)
    except ValueError as error:
        raise CommandError(f"--refine-option: {error}") from error

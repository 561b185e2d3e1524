"""How the noise along the slice axis shapes a 3-D sample, against what raters of a phantom volume draw.

    python Testing/Benchmarks/coherence.py --out FOLDER [--model DIR] [--volumes 3] [--samples 16] [--evaluations 4]

writes FOLDER/coherence.md. A rater makes one choice for a whole nodule, so a sample should too: neighbouring slices
should agree as much as a rater's do, and volumes in mL should spread as raters' do. Each row is given as its noise made
it, and with neighbouring slices paired anew (``inference.linking``).
"""

from __future__ import annotations

import argparse
import math
import sys
from datetime import date
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from AmbiguousSegLib.data.lung_phantom import phantom_volume
from AmbiguousSegLib.diffusion.settings import GAUSSIAN, SamplerSettings
from AmbiguousSegLib.inference.linking import link
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.metrics.distribution import ged
from AmbiguousSegLib.metrics.volumes import crps
from AmbiguousSegLib.model import load_model
from AmbiguousSegLib.resources import DEMO_MODEL, find_model
from AmbiguousSegLib.volume.geometry import Geometry

COHERENCE_MM = (0.0, 10.0, 30.0, math.inf)
RATERS = 64


def neighbours_dice(masks: np.ndarray) -> float:
    """Mean Dice of neighbouring slices, over all pairs of which one marks something: masks bool ``(N, Z, Y, X)``."""
    below, above = masks[:, :-1], masks[:, 1:]
    sizes = below.sum((2, 3)) + above.sum((2, 3))
    dice = 2 * (below & above).sum((2, 3)) / np.maximum(sizes, 1)
    return float(dice[sizes > 0].mean())


def row(name: str, sets: list[np.ndarray], raters: list[np.ndarray], voxel_ml: float) -> str:
    """Line of the table: means over the volumes."""
    geds = [ged(masks, truth, "u") for masks, truth in zip(sets, raters, strict=True)]
    volumes = [masks.sum((1, 2, 3)) * voxel_ml for masks in sets]
    figures = [
        np.mean([v.mean() for v in volumes]),
        np.mean([v.std(ddof=1) for v in volumes]),
        np.mean([crps(v, t.sum((1, 2, 3)) * voxel_ml) for v, t in zip(volumes, raters, strict=True)]),
        np.mean([neighbours_dice(masks) for masks in sets]),
        np.mean([g.within_samples for g in geds]),
        np.mean([g.value for g in geds]),
    ]
    return f"| {name} | " + " | ".join(f"{f:.3f}" for f in figures) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--volumes", type=int, default=3)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--evaluations", type=int, default=4)
    options = parser.parse_args()
    model = load_model(find_model(options.model))
    phantoms = [phantom_volume(seed) for seed in range(100, 100 + options.volumes)]
    grid = Geometry(
        phantoms[0].image.shape[::-1], phantoms[0].spacing_mm[::-1], (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    )
    raters = [p.draw_masks(np.random.default_rng([k, 1]), RATERS).view(bool) for k, p in enumerate(phantoms)]
    others = [p.draw_masks(np.random.default_rng([k, 2]), options.samples).view(bool) for k, p in enumerate(phantoms)]
    settings = SamplerSettings("dpm++2m", options.evaluations)
    lines = [row("raters themselves", others, raters, grid.voxel_volume_ml)]
    for coherence in COHERENCE_MM:
        request = SampleRequest(options.samples, sampler=settings, coherence_mm=coherence)
        sets = [sample_volume(model, p.image[None], grid, request).of_class(1) for p in phantoms]
        lines.append(row(f"coherence {coherence:g} mm", sets, raters, grid.voxel_volume_ml))
        for masks in sets:
            link(masks.view(np.uint8))
        lines.append(row(f"coherence {coherence:g} mm, linked", sets, raters, grid.voxel_volume_ml))
        print(*lines[-2:], sep="\n", flush=True)
    table = "\n".join(
        [
            "# Noise along the slice axis",
            "",
            f"Made by `python Testing/Benchmarks/coherence.py`, {date.today()}: {options.volumes} phantom volumes of",
            f"24 slices (2 mm) with three nodules, {options.samples} samples each by {model.card.name}",
            f"({model.weights_sha256[:12]}, {settings.in_words(GAUSSIAN)}), {RATERS} raters. Dice of neighbouring",
            "slices says how coherent a sample is, CRPS how well the samples' volumes tell the raters'; GED is that of",
            "whole 3-D masks (estimator u). Linked: neighbouring slices paired anew, the same masks.",
            "",
            "| | volume, mL | its sd, mL | CRPS, mL | Dice of neighbouring slices | E d(S,S') | GED |",
            "|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "coherence.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()

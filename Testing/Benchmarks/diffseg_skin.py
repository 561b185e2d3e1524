"""DiffSeg after a short training on generated pictures of skin, whose lesions are known.

    python Testing/Benchmarks/diffseg_skin.py --out FILE.md --picture FILE.png [--size 32] [--steps 300]

The preset ``systems/diffseg`` with three channels and three levels of the network, trained twice: with healthy pictures
as the preset makes them, and with the lesion painted black. Pictures for training and for testing are drawn apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student
from skimage.filters import threshold_otsu

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (2, 1)]

from skin_images import skin_images, train

from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.case_sampling import sample_cases
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.methods.diffseg import DiffSeg
from AmbiguousSegLib.metrics.distribution import sample_spread
from AmbiguousSegLib.metrics.overlap import dice, precision, recall

LEVELS = tuple(range(60, 151, 10))
SETTINGS = {  # row of the table: removal, what sampling is told
    "surround, margin 1; smoothing 1 (the preset)": ("surround", {}),
    "the same; least_threshold .1": ("surround", {"least_threshold": 0.1}),
    "surround, margin 1; smoothing 0": ("surround", {"smoothing": 0.0}),
    "constant, margin 0; smoothing 1": ("constant", {}),
    "constant, margin 0; smoothing 0 (the paper, read plainly)": ("constant", {"smoothing": 0.0}),
}
TRAINED = {"surround": {"removal": "surround"}, "constant": {"removal": "constant", "margin": 0}}
TRAINING_PICTURES, BATCH, RATE = 300, 8, 2e-3


def trained(size: int, steps: int, changed: dict) -> tuple[DiffSeg, list[float], float]:
    """The method, its losses and the CPU seconds it took."""
    config = dict(parse(["--config", "systems/diffseg", "--out", "unused"])[1].method_config)
    unet = config["unet"] | {"image_size": size, "channel_mult": [1, 2, 4], "attention_sizes": []}
    torch.manual_seed(0)
    method = build_method("diffseg", config | {"image_channels": 3, "levels": LEVELS, "unet": unet} | changed)
    start = time.process_time()
    losses = train(method, *skin_images(0, TRAINING_PICTURES, size), steps, BATCH, RATE)
    return method, losses, time.process_time() - start


def drawn(method: DiffSeg, pictures: np.ndarray, **settings: object) -> np.ndarray:
    """Masks at all levels: bool ``(pictures, 10, H, W)``."""
    config = method.config
    method.config = replace(config, **settings)
    cases = [(str(number), picture) for number, picture in enumerate(pictures)]
    masks = sample_cases(method, cases, len(LEVELS), 0, SamplerSettings(), len(LEVELS)).astype(bool)
    method.config = config
    return masks


def _darker(pictures: np.ndarray) -> np.ndarray:
    """What is darker than Otsu's threshold: bool ``(pictures, H, W)``."""
    darkness = 1 - pictures.mean(1)
    return np.stack([picture > threshold_otsu(picture) for picture in darkness])


def interval(values: np.ndarray) -> str:
    """Mean and 95 % interval over pictures (Student's t)."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.3f} ± {half:.3f}"


def row(name: str, masks: np.ndarray, lesions: np.ndarray, healthy: np.ndarray) -> str:
    """Of the table."""
    consensus = masks.mean(1) > 0.5
    figures = [interval(figure(consensus, lesions, 2)) for figure in (dice, precision, recall)]
    single = interval(dice(masks, lesions[:, None], 2).mean(1))
    spread = interval(np.array([sample_spread(one) for one in masks]))
    share = f"{(healthy.mean(1) > 0.5).mean():.2f}"
    return f"| {name} | {' | '.join([*figures, single, spread, share])} |"


def draw_picture(method: DiffSeg, pictures: np.ndarray, lesions: np.ndarray, file: Path) -> None:
    """A row for each: picture and truth, difference, three samples, consistency, ambiguity."""
    from matplotlib.figure import Figure

    masks = drawn(method, pictures)
    with torch.inference_mode():
        noise = RowNoise(0, [(number, LEVELS.index(100)) for number in range(len(pictures))])
        differences = method.difference(torch.from_numpy(pictures), noise)[:, 0].numpy()
    titles = ["picture, truth", "difference, t = 100", *(f"sample, t = {t}" for t in (60, 100, 150))]
    titles += ["consistency (mean)", "ambiguity (variance)"]
    figure = Figure((1.5 * len(titles), 1.62 * len(pictures)), layout="constrained")
    axes = figure.subplots(len(pictures), len(titles), squeeze=False)
    for line, picture, truth, difference, samples in zip(axes, pictures, lesions, differences, masks):
        line[0].imshow(picture.transpose(1, 2, 0))
        if truth.any():
            line[0].contour(truth, [0.5], colors="white", linewidths=1)
        line[1].imshow(difference, "magma", vmin=0)
        for axis, level in zip(line[2:5], (60, 100, 150)):
            axis.imshow(samples[LEVELS.index(level)], "gray", vmin=0, vmax=1)
        line[5].imshow(samples.mean(0), "gray", vmin=0, vmax=1)
        line[6].imshow(samples.var(0), "magma", vmin=0, vmax=0.25)
        for axis in line:
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=8)
    figure.savefig(file, dpi=90)


def main(argv: list[str] | None = None) -> int:
    """Train, sample, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pictures", type=int, default=40, help="tested")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    pictures, lesions = skin_images(1, options.pictures, options.size)
    skin, _ = skin_images(1, options.pictures, options.size, lesion=False)
    dark, dark_skin = (_darker(images)[:, None] for images in (pictures, skin))
    lines, told = [row("no model: Otsu's threshold of darkness", dark, lesions, dark_skin)], []
    for removal, changed in TRAINED.items():
        method, losses, seconds = trained(options.size, options.steps, changed)
        first, last = np.mean(losses[:10]), np.mean(losses[-50:])
        told.append(f"- {removal}: {seconds:.0f} CPU seconds of training, loss {first:.3f} to {last:.3f}")
        for name, (kind, settings) in SETTINGS.items():
            if kind == removal:
                masks, healthy = drawn(method, pictures, **settings), drawn(method, skin, **settings)
                lines.append(row(name, masks, lesions, healthy))
        if removal == "surround":
            draw_picture(
                method, np.concatenate([pictures[:4], skin[:1]]), [*lesions[:4], lesions[0] & False], options.picture
            )
    everything = interval(dice(np.ones_like(lesions), lesions, 2))
    titles = ["Dice", "precision", "recall", "Dice of a sample", "spread", "marked of healthy skin"]
    table = ["| healthy pictures, sampling | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|", *lines]
    options.out.write_text("\n".join([*table, "", *told, f"- Dice of marking everything: {everything}", ""]), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

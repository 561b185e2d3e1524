"""A model of two classes on held-out two-class phantoms, against their exact distribution over label maps.

    python Testing/Benchmarks/two_class.py MODEL_FOLDER --out FILE.md [--cases 64] [--samples 16] [--device auto]

The model is one that ``train --config phantom-two-classes`` made; the phantoms are those of the test part, which no
training sees. The row "true distribution" is what a perfect model would score: as many masks drawn as the raters' are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.evaluation_cases import held_out_cases, held_out_phantoms
from AmbiguousSegLib.data.lung_phantom import TWO_CLASSES, Phantom
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.metrics.mask_sets import MaskSets
from AmbiguousSegLib.metrics.overlap import pairwise_label_iou
from AmbiguousSegLib.model import Model, load_model

RATERS = 64
LABELS = (1, 2, None)  # each class, and all together
TRUTH_STREAM = 3  # of random numbers under the number of a case
Draw = Callable[[int, int], np.ndarray]  # number of a case, how many masks -> uint8 (N, H, W)


def distances(samples: np.ndarray, raters: np.ndarray, label: int | None) -> tuple[float, float, float]:
    """Unbiased estimates of GED² between the distributions that both sets are drawn from, E d(S,S') and E d(Y,Y').

    Different masks alone make a pair, of raters too, so that GED² of a perfect model has the expectation 0.
    """
    sets = MaskSets(samples, raters, len(TWO_CLASSES), label)
    n, m = len(samples), len(raters)
    cross = 1 - sets.cross.iou.mean()
    among_samples = float((1 - sets.among_samples.iou).sum() / (n * (n - 1)))
    among_raters = float((1 - sets.among_raters.iou).sum() / (m * (m - 1)))
    return float(2 * cross - among_samples - among_raters), among_samples, among_raters


def map_error(samples: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Sum over pixels of the squared error of a probability map, without what N draws add to it, and of p(1 − p).

    Args:
        samples: bool ``(N, H, W)``, where each sample has the class. exact: p, float ``(H, W)``.
    """
    share, n = samples.mean(axis=0), len(samples)
    return float(((share - exact) ** 2 - share * (1 - share) / (n - 1)).sum()), float((exact * (1 - exact)).sum())


def mode_shares(phantom: Phantom, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the samples in each of the phantom's distinct modes (that of largest IoU), and their probabilities."""
    modes, probabilities = phantom.distinct_modes()
    iou = pairwise_label_iou(samples, modes, len(TWO_CLASSES))
    belongs = iou.argmax(axis=1)[iou.max(axis=1) > 0]
    return np.bincount(belongs, minlength=len(modes)) / len(samples), probabilities


def figures(
    draw: Draw, phantoms: Sequence[Phantom], raters: Sequence[np.ndarray], samples: int
) -> dict[int | None, dict[str, float]]:
    """Figures of a source of masks for each of ``LABELS``: see ``report``. ``raters``: masks of each phantom."""
    drawn = [draw(number, samples) for number in range(len(phantoms))]
    shares = [mode_shares(phantom, masks) for phantom, masks in zip(phantoms, drawn, strict=True)]
    several = [pair for pair in shares if len(pair[1]) > 1]  # one mode alone is met by whoever draws near it
    found: dict[int | None, dict[str, float]] = {}
    for label in LABELS:
        pairs = np.array([distances(s, y, label) for s, y in zip(drawn, raters, strict=True)])
        ged, among_samples, among_raters = pairs.mean(axis=0)
        row = {
            "ged": ged,
            "ged_error": pairs[:, 0].std(ddof=1) / np.sqrt(len(pairs)),
            "spread": among_samples / among_raters,
        }
        if label is None:
            row["modes"] = float(np.corrcoef(*map(np.concatenate, zip(*several, strict=True)))[0, 1])
        else:
            maps = [p.probability_maps()[label - 1] for p in phantoms]
            row["area"] = np.mean([(s == label).sum((1, 2)).mean() for s in drawn]) / np.mean([m.sum() for m in maps])
            error, variance = np.sum([map_error(s == label, m) for s, m in zip(drawn, maps, strict=True)], axis=0)
            row["map"] = error / variance
        found[label] = {key: float(value) for key, value in row.items()}
    return found


def sources(model: Model, cases: int, seed: int = 0, batch_size: int = 64) -> tuple[dict[str, Draw], list, list]:
    """Sources of masks by name, the phantoms, and raters' masks of each."""
    config = from_dict(DataConfig, model.card.training["configuration"]["dataset"], "dataset")
    phantoms = held_out_phantoms(config, "test", cases, model.labels)
    held_out = held_out_cases(config, "test", cases, RATERS, model.labels)

    def sampled(number: int, samples: int) -> np.ndarray:
        case = held_out[number]
        return sample_case(model.method, case.identity, case.image, samples, seed, model.sampling, batch_size)

    def true(number: int, samples: int) -> np.ndarray:
        return phantoms[number].draw_masks(np.random.default_rng([seed, TRUTH_STREAM, number]), samples)

    return {model.card.name: sampled, "true distribution": true}, phantoms, [case.masks for case in held_out]


def report(found: dict[str, dict[int | None, dict[str, float]]], notes: Sequence[str]) -> str:
    """The table as Markdown."""

    def cell(row: dict[str, float], key: str, pattern: str = "{:.3f}") -> str:
        return pattern.format(row[key]) if key in row else "–"

    lines = [
        "# Two classes: samples against the exact distribution of the phantom",
        "",
        *(f"- {note}" for note in notes),
        "- GED²: unbiased for both sets: a perfect model has the expectation 0; ± standard error over the cases",
        "- spread: E d(S,S') / E d(Y,Y'), over pairs of different masks; 1 is best",
        "- area: mean area of the class over its exact expectation; 1 is best",
        "- map error: squared error of the share of samples that give a pixel the class, less what so many "
        "draws add by chance, over p(1 − p) of the exact map p, both summed over pixels and cases; 0 is best",
        "- modes: Pearson's correlation of the share of samples nearest to each mode with its probability",
        "",
        "| masks | label | GED² | ± | spread | area | map error | modes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, rows in found.items():
        for label, row in rows.items():
            named = "all" if label is None else TWO_CLASSES[label - 1]
            cells = [cell(row, key) for key in ("ged", "ged_error", "spread", "area", "map", "modes")]
            lines.append(f"| {name} | {named} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    model = load_model(options.model, choose_device(options.device))
    by_name, phantoms, raters = sources(model, options.cases)
    found = {name: figures(draw, phantoms, raters, options.samples) for name, draw in by_name.items()}
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(
        git, cwd=Path(__file__).parent, capture_output=True, text=True, check=False, encoding="utf-8"
    ).stdout.strip()
    machine = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    notes = [
        f"made by `python Testing/Benchmarks/two_class.py MODEL_FOLDER --out FILE.md` at commit {commit or 'unknown'}, "
        f"{date.today()}, {machine}",
        f"{model.card.name} ({model.weights_sha256[:12]}, {model.card.training.get('images_seen', 0):,} images seen), "
        f"{model.sampling.in_words(model.method.sampler_family)}, seed 0",
        f"{options.cases} phantoms of the test part, {options.samples} samples and {RATERS} raters each",
    ]
    text = report(found, notes)
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""What few evaluations of one network cost: each sampler, step grid and parametrisation on the phantom's known truth.

    python Testing/Benchmarks/few_steps.py --out FOLDER [--part train-x0 --seeds 1] [--device cuda]

32 × 32 pixels of 2 mm: a network for each parametrisation and training seed, that of the preset "phantom", trained
here. 64 × 64 pixels: the bundled model phantom-cimd-64, with several sampling seeds. Each takes 1 to 50 evaluations.

Without ``--part`` everything is done, one after the other. Parts that run in processes of their own at the same time:
train-epsilon, train-x0 and train-v for each of the ``--seeds``; then "evaluate" for each of the ``--models`` (and
``--seeds``); then "table". What is done already is not done again, and a training that was ended goes on. The tables
are FOLDER/few_steps.md and FOLDER/few_steps.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from Benchmarks.ambiguity_terms import interval
from Benchmarks.two_class import TRUTH_STREAM

from AmbiguousSegLib.cli import main as command
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.evaluation_cases import EvaluationCase, held_out_cases, held_out_phantoms
from AmbiguousSegLib.data.lung_phantom import Phantom
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.diffusion.settings import GAUSSIAN, SamplerSettings
from AmbiguousSegLib.evaluation.mode_frequencies import frequency_agreement, mode_frequencies
from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.inference.case_sampling import sample_cases
from AmbiguousSegLib.metrics.distribution import ged
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.resources import DEMO_MODEL, find_model

SAMPLERS, GRIDS = ("ddpm", "ddim", "dpm++2m", "dpm++2m-sde"), ("trailing", "both_ends")
STEPS = (1, 2, 3, 4, 8, 10, 25, 50)
PREDICTIONS = ("epsilon", "x0", "v")
PARTS = (*(f"train-{prediction}" for prediction in PREDICTIONS), "evaluate", "table")
SMALL = [32, 32]
TRUTH = "true distribution"
FIGURES = {"ged_u": "GED u", "spread": "spread ratio", "modes": "mode correlation"}


@dataclass(frozen=True)
class Source:
    """A network and the seed that makes one of several measurements with it: of its training, or of its sampling."""

    model: str  # a parametrisation, or the name of the bundled model
    seed: int

    @property
    def name(self) -> str:
        return f"{self.model}-seed{self.seed}"

    def folder(self, out: Path) -> Path:
        """Where the model lies."""
        return find_model(DEMO_MODEL) if self.model == DEMO_MODEL else out / self.name / "model"

    @property
    def sampling_seed(self) -> int:
        return self.seed if self.model == DEMO_MODEL else 0


def train(source: Source, options: argparse.Namespace) -> None:
    """The preset's network in small, its weights those of the end: no sampler chooses among them."""
    changes = {
        "method_config.prediction": source.model,
        "method_config.unet.image_size": SMALL[0],
        "dataset.size": SMALL,
        "dataset.spacing_mm": 2.0,
        "optimisation.images": options.images,
        "optimisation.batch_size": 32,
        "optimisation.precision": "float32",
        "validation.every_images": options.images,
        "validation.cases": 4,  # to be told about: there is nothing to choose
        "checkpoint_every_images": max(1, options.images // 10),
        "card.name": source.name,
        "card.half_weights": "false",
        "seed": source.seed,
    }
    words = [word for key, value in changes.items() for word in (f"--{key}", str(value))]
    place = ["--out", str(options.out / source.name), "--device", options.device, "--resume"]
    if code := command(["train", "--config", "phantom", *words, *place]):
        raise SystemExit(code)


@dataclass(frozen=True)
class Truth:
    """Held-out phantoms with masks of their raters."""

    phantoms: list[Phantom]
    cases: list[EvaluationCase]

    @classmethod
    def of(cls, model: Model, cases: int, raters: int) -> Truth:
        config = from_dict(DataConfig, model.card.training["configuration"]["dataset"], "dataset")
        return cls(held_out_phantoms(config, "test", cases), held_out_cases(config, "test", cases, raters))

    def masks(self, samples: int, seed: int) -> np.ndarray:
        """As many masks as a sampler gives, from the true distribution: uint8 ``(cases, samples, H, W)``."""
        streams = (np.random.default_rng([seed, TRUTH_STREAM, number]) for number in range(len(self.phantoms)))
        return np.stack([p.draw_masks(rng, samples) for p, rng in zip(self.phantoms, streams, strict=True)])

    def figures(self, masks: np.ndarray) -> dict[str, float]:
        """``FIGURES`` of masks ``(cases, samples, H, W)``: means over the cases, and ratio and correlation over all."""
        found = [ged(s.view(bool), case.masks.view(bool), "u") for s, case in zip(masks, self.cases, strict=True)]
        raters = len(self.cases[0].masks)
        among_raters = np.mean([one.within_raters for one in found]) * raters / (raters - 1)
        shares, probabilities = [], []
        for own, phantom in zip(masks, self.phantoms, strict=True):
            modes, chances = phantom.distinct_modes()
            shares.append(mode_frequencies(own, modes))
            probabilities.append(chances)
        return {
            "ged_u": float(np.mean([one.value for one in found])),
            "spread": float(np.mean([one.within_samples for one in found]) / among_raters),
            "modes": frequency_agreement(shares, probabilities).correlation,
        }


def sampled(
    model: Model, cases: Sequence[EvaluationCase], samples: int, seed: int, settings: SamplerSettings, batch_size: int
) -> np.ndarray:
    """The masks of every case: ``(cases, samples, H, W)``."""
    shown = [(case.identity, case.image) for case in cases]
    return sample_cases(model.method, shown, samples, seed, settings, batch_size)


def wanted(options: argparse.Namespace) -> Iterator[SamplerSettings]:
    for sampler in options.samplers:
        for grid in GRIDS:
            for steps in options.evaluations:
                yield SamplerSettings(sampler, steps, grid)


def evaluate(source: Source, options: argparse.Namespace) -> None:
    """Measure what is not yet in the source's file, which is written after each row."""
    file, protocol = (
        options.out / f"{source.name}.json",
        {k: getattr(options, k) for k in ("cases", "samples", "raters")},
    )
    model = load_model(source.folder(options.out), choose_device(options.device))
    said = {"protocol": protocol, "weights_sha256": model.weights_sha256, "rows": {}, **asdict(source)}
    if file.is_file():
        earlier = json.loads(file.read_text(encoding="utf-8"))
        if {**earlier, "rows": {}} != said:
            raise SystemExit(f"{file} was measured by another protocol or of other weights; take another folder.")
        said = earlier
    truth = Truth.of(model, options.cases, options.raters)

    def note(name: str, masks: np.ndarray) -> None:
        said["rows"][name] = truth.figures(masks)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        print(source.name, name, *(f"{key} {value:.3f}" for key, value in said["rows"][name].items()), flush=True)

    if TRUTH not in said["rows"]:
        note(TRUTH, truth.masks(options.samples, source.seed))
    for settings in wanted(options):
        if settings.in_words(GAUSSIAN) not in said["rows"]:
            seed, batch = source.sampling_seed, options.batch_size
            note(settings.in_words(GAUSSIAN), sampled(model, truth.cases, options.samples, seed, settings, batch))


def collected(files: Sequence[Path]) -> dict[str, dict[str, dict[str, tuple[float, float]]]]:
    """By model, row and figure: mean and half-width over the seeds, of the rows that every seed has."""
    runs: dict[str, list[dict]] = {}
    for file in files:
        run = json.loads(file.read_text(encoding="utf-8"))
        runs.setdefault(run["model"], []).append(run["rows"])
    return {
        model: {
            row: {key: interval([run[row][key] for run in of_model]) for key in FIGURES}
            for row in of_model[0]
            if all(row in run for run in of_model)
        }
        for model, of_model in runs.items()
    }


def tables(found: dict[str, dict[str, dict[str, tuple[float, float]]]], seeds: dict[str, int]) -> Iterator[str]:
    """For each model a table of each figure: samplers and grids in rows, numbers of evaluations in columns."""

    def cell(rows: dict[str, dict[str, tuple[float, float]]], name: str, key: str) -> str:
        mean, half = rows[name][key] if name in rows else (np.nan, np.nan)
        return "–" if np.isnan(mean) else f"{mean:.3f}" + (f" ± {half:.3f}" if np.isfinite(half) else "")

    for model, rows in found.items():
        size, kind = ("64 × 64", "sampling") if model == DEMO_MODEL else ("32 × 32, predicts", "training")
        yield f"\n## {size} {model}, {seeds[model]} {kind} seed{'s' if seeds[model] > 1 else ''}"
        for key, title in FIGURES.items():
            yield f"\n| {title} | {' | '.join(map(str, STEPS))} |"
            yield f"| --- |{' ---: |' * len(STEPS)}"
            for sampler in SAMPLERS:
                for grid in GRIDS:
                    cells = [cell(rows, SamplerSettings(sampler, n, grid).in_words(GAUSSIAN), key) for n in STEPS]
                    yield f"| {sampler}, {grid} | {' | '.join(cells)} |"
            yield f"| {TRUTH} | {cell(rows, TRUTH, key)} |{' |' * (len(STEPS) - 1)}"


def report(options: argparse.Namespace) -> None:
    """Write the tables of all that has been measured."""
    files = [options.out / f"{source.name}.json" for source in sources(options)]
    files = [file for file in files if file.is_file()]
    if not files:
        raise SystemExit(f"{options.out} holds no figures yet; run --part evaluate.")
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    if len({json.dumps(run["protocol"]) for run in runs}) > 1:
        raise SystemExit(f"{options.out} holds figures of several protocols; take another folder.")
    found, protocol = collected(files), runs[0]["protocol"]
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(
        git, cwd=Path(__file__).parent, capture_output=True, text=True, check=False, encoding="utf-8"
    ).stdout.strip()
    device = choose_device(options.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    lines = [
        "# Few evaluations of the network",
        "",
        f"- made by `python Testing/Benchmarks/few_steps.py` at commit {commit or 'unknown'}, {date.today()}, "
        f"{machine}, torch {torch.__version__}",
        "- 32 × 32: the network of `Resources/Presets/phantom.yaml` at 32 × 32 pixels of 2 mm, "
        f"{options.images:,} images in batches of 32, weights of the end; sampling seed 0",
        f"- 64 × 64: the bundled model {DEMO_MODEL}",
        f"- {protocol['cases']} phantoms of the test part, {protocol['samples']} samples and {protocol['raters']} "
        "raters each; cases and raters are the same for each seed",
        "- columns: evaluations of the network; mean over the seeds ± half the width of its 95 % interval (t)",
        "- GED u: unbiased in the samples, against these raters; spread ratio: E d(S,S') u over E d(Y,Y') u, ratio of "
        "the means over the cases; mode correlation: Pearson's, of a mode's share of the samples with its probability, "
        "over all pairs (case, mode) of the cases with two or more modes",
        f"- {TRUTH}: as many masks drawn from it, what a perfect model scores",
        *tables(found, {model: sum(run["model"] == model for run in runs) for model in found}),
    ]
    (options.out / "few_steps.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    content = {"protocol": protocol, "commit": commit, "machine": machine, "mean_and_half_width": found, "runs": runs}
    (options.out / "few_steps.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print("\n".join(lines))


def sources(options: argparse.Namespace) -> list[Source]:
    """Those that were asked for."""
    return [
        Source(model, seed)
        for model in options.models
        for seed in (options.sampling_seeds if model == DEMO_MODEL else options.seeds)
    ]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="folder for models, figures and tables")
    p.add_argument("--part", choices=PARTS, help="do this alone")
    p.add_argument("--models", nargs="+", choices=(*PREDICTIONS, DEMO_MODEL), default=(*PREDICTIONS, DEMO_MODEL))
    p.add_argument("--images", type=int, default=200_000, help="that each training sees (default: 200000)")
    p.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2), help="of the trainings (default: 0 1 2)")
    p.add_argument("--sampling-seeds", type=int, nargs="+", default=range(5), help="for 64 × 64 (default: 0 1 2 3 4)")
    p.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    p.add_argument("--evaluations", type=int, nargs="+", choices=STEPS, default=STEPS, metavar="K")
    p.add_argument("--cases", type=int, default=64)
    p.add_argument("--samples", type=int, default=64)
    p.add_argument("--raters", type=int, default=64)
    p.add_argument("--batch-size", type=int, default=1024, help="masks computed together (default: 1024)")
    p.add_argument("--device", default="auto")
    options = p.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for source in sources(options):
        if source.model != DEMO_MODEL and options.part in (None, f"train-{source.model}"):
            train(source, options)
    if options.part in (None, "evaluate"):
        for source in sources(options):
            evaluate(source, options)
    if options.part in (None, "table"):
        report(options)


if __name__ == "__main__":
    main()

"""What the bundled phantom model gives at few evaluations, held against as many draws from the known truth.

    python Testing/Benchmarks/qualities.py --out FOLDER [--samplers dpm++2m ddim] [--evaluations 2 3 4 10]

Each sampling seed draws its own masks of the same phantoms, and as many true ones. Every sampler on the trailing grid;
intervals are those of the bootstrap over phantoms and sampling seeds (``evaluation.bootstrap``). What is measured
already is not measured again. FOLDER/qualities.md has the tables, FOLDER/qualities.json what a ``model.json`` says of
its qualities.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from Benchmarks.few_steps import Truth, sampled

from AmbiguousSegLib.benchmarking.cell import commit
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.evaluation.benchmark_result import CaseFigures, CellResult, Cost
from AmbiguousSegLib.evaluation.benchmark_table import MODES, SPREAD_RATIO, Figures, subsets_of
from AmbiguousSegLib.evaluation.bootstrap import Estimate
from AmbiguousSegLib.evaluation.mode_frequencies import mode_frequencies
from AmbiguousSegLib.inference.case_sampling import true_masks
from AmbiguousSegLib.metrics.distribution import ged
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.resources import DEMO_MODEL, find_model

TRUTH = "true distribution"
SHOWN = {"ged_u": "GED u", SPREAD_RATIO: "spread ratio", MODES: "mode correlation"}


def judged(truth: Truth, masks: np.ndarray) -> tuple[CaseFigures, ...]:
    """The three figures' parts of each case: masks uint8 ``(cases, samples, H, W)``."""
    found = []
    for own, case, phantom in zip(masks, truth.cases, truth.phantoms, strict=True):
        one, (modes, chances) = ged(own.view(bool), case.masks.view(bool), "u"), phantom.distinct_modes()
        figures = {"ged_u": one.value, "distance_samples_u": one.within_samples, "distance_raters": one.within_raters}
        several = len(chances) >= 2
        found.append(
            CaseFigures(
                case.identity,
                case.identity,
                len(case.masks),
                False,
                {str(len(own)): figures},
                tuple(mode_frequencies(own, modes).tolist()) if several else None,
                tuple(chances.tolist()) if several else None,
            )
        )
    return tuple(found)


def measured(model: Model, truth: Truth, settings: Sequence[SamplerSettings], options: argparse.Namespace) -> Iterator:
    """The cells of each row, made where FOLDER does not hold them."""
    rows: list[SamplerSettings | None] = [None, *settings]
    for seed in options.seeds:
        for row in rows:
            name = TRUTH if row is None else row.in_words(model.method.sampler_family)
            file = options.out / f"{name.replace(', ', '_').replace(' ', '-')}-seed{seed}.json"
            if not file.is_file():
                if row is None:
                    drawn = zip(truth.phantoms, truth.cases, strict=True)
                    masks = np.stack([true_masks(p, case.identity, options.samples, seed) for p, case in drawn])
                else:
                    masks = sampled(model, truth.cases, options.samples, seed, row, options.batch_size)
                cell = CellResult(name, seed, model.method.name, name, Cost(), judged(truth, masks), commit=commit())
                cell.write(file)
                print(name, seed, flush=True)
            yield name, CellResult.read(file)


def told(one: Estimate, signed: bool = False) -> str:
    return "{:{s}.3f} ({:{s}.3f} to {:{s}.3f})".format(one.value, one.low, one.high, s="+" if signed else "")


def table(rows: dict[str, Figures], samples: int, signed: bool) -> Iterator[str]:
    yield f"| masks | {' | '.join(SHOWN.values())} |"
    yield f"| --- |{' --- |' * len(SHOWN)}"
    for name, figures in rows.items():
        yield f"| {name} | {' | '.join(told(figures[key, samples], signed) for key in SHOWN)} |"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--model", default=DEMO_MODEL)
    p.add_argument("--samplers", nargs="+", default=("dpm++2m",))
    p.add_argument("--evaluations", type=int, nargs="+", default=(2, 3, 4, 10))
    p.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2, 3, 4), help="of the sampling")
    p.add_argument("--cases", type=int, default=24)
    p.add_argument("--samples", type=int, default=16)
    p.add_argument("--raters", type=int, default=16)
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--device", default="auto")
    options = p.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = load_model(find_model(options.model), choose_device(options.device))
    truth = Truth.of(model, options.cases, options.raters)
    settings = [SamplerSettings(name, steps) for name in options.samplers for steps in options.evaluations]
    cells: dict[str, list[CellResult]] = {}
    for name, cell in measured(model, truth, settings, options):
        cells.setdefault(name, []).append(cell)
    (subset,) = subsets_of(cells, [options.samples], TRUTH, marked_by_all=False)
    said = (
        f"{options.cases} held-out phantoms, {options.samples} samples against {options.raters} raters each, "
        f"{len(options.seeds)} sampling seeds of one training"
    )
    lines = [
        f"- {model.card.name} ({model.weights_sha256[:12]}), commit {commit()}, {date.today()}, {model.device}, torch "
        f"{torch.__version__}; {said}",
        "- in brackets the 95 % interval of the bootstrap over phantoms and sampling seeds, in the second table of "
        f"differences from {TRUTH}, phantom by phantom",
        "",
        *table(subset.figures, options.samples, signed=False),
        "",
        *table(subset.differences, options.samples, signed=True),
    ]
    (options.out / "qualities.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    content = {
        name: {key: asdict(figures[key, options.samples]) for key in SHOWN} | {"protocol": said}
        for name, figures in subset.figures.items()
    }
    (options.out / "qualities.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

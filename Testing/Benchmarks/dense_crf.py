"""What refining the samples (DenseCRF) does to them: bundled models on nodules and on phantoms, and how long it takes.

    python Testing/Benchmarks/dense_crf.py --out FOLDER --part validation --seeds 1 --settings w1=0 w2=0 w1=3,w2=1
    python Testing/Benchmarks/dense_crf.py --out FOLDER --part test --seeds 2

``lung-nodule`` on nodules of ``lidc_nodules`` (of the split's part, pointed at in the middle of their outlines) and
``phantom-cimd-64`` on held-out phantoms of the part; 16 samples each, the same ones unrefined, refined with the
defaults, and with each of ``--settings`` laid over them. Intervals: bootstrap over patients (or phantoms) and sampling
seeds; differences are paired. Writes FOLDER/dense_crf_PART.md. Settings are chosen on the validation part.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from Benchmarks.lung_nodule import nodules

from AmbiguousSegLib.benchmarking.cell import commit
from AmbiguousSegLib.cli.common import name_and_value
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.evaluation_cases import EvaluationCase, held_out_cases
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.ensemble.dense_crf import DenseCRF, refined_label_maps
from AmbiguousSegLib.ensemble.refinement import DENSE_CRF, DenseCRFConfig, refinement_of
from AmbiguousSegLib.evaluation.bootstrap import Bootstrap, Estimate, Sums, mean_of, ratio_of
from AmbiguousSegLib.inference.case_sampling import sample_cases
from AmbiguousSegLib.metrics.distribution import ged
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.resources import DEMO_MODEL, find_model

SAMPLES, TOGETHER, PHANTOMS, RATERS = 16, 64, 24, 16
SHOWN = {"ged": "GED u", "spread": "spread ratio", "area": "area, of the unrefined", "changed": "pixels that change"}
Rows = dict[str, np.ndarray]  # of every part of a figure, float ``(seeds, cases)``


def drawn(model: Model, cases: Sequence[EvaluationCase], seed: int) -> np.ndarray:
    """Masks of all cases, as the model is sampled by itself."""
    images = [(case.identity, case.image) for case in cases]
    return sample_cases(model.method, images, SAMPLES, seed, model.sampling, TOGETHER)


def parts_of(masks: np.ndarray, plain: np.ndarray, cases: Sequence[EvaluationCase]) -> dict[str, list[float]]:
    """What each case adds to the figures: masks, and the same ones unrefined, uint8 ``(cases, N, H, W)``."""
    found: dict[str, list[float]] = {key: [] for key in ("ged", "samples", "raters", "own", "before", "differ")}
    for own, before, case in zip(masks, plain, cases):
        one, raters = ged(own.view(bool), case.masks.view(bool), "u"), len(case.masks)
        found["ged"].append(one.value)
        found["samples"].append(one.within_samples)
        found["raters"].append(one.within_raters * raters / (raters - 1))
        found["own"].append(float(own.sum()))
        found["before"].append(float(before.sum()))
        found["differ"].append(float((own != before).sum()))
    return found


def sums(rows: Rows, key: str) -> Sums:
    """A figure of ``SHOWN`` from its parts."""
    if key == "ged":
        return mean_of(rows["ged"])
    of, per = {"spread": ("samples", "raters"), "area": ("own", "before"), "changed": ("differ", "before")}[key]
    return ratio_of(rows[of], rows[per])


def told(found: Estimate, sign: str = "") -> str:
    """A figure and its interval."""
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


def table(rows: dict[str, Rows], subjects: Sequence[str]) -> list[str]:
    """Figures of each setting, and below them what it changes."""
    bootstrap, (plain, *refined) = Bootstrap(list(subjects)), rows
    lines = [f"| samples | {' | '.join(SHOWN.values())} |", "|---|" + "---|" * len(SHOWN)]
    lines += [
        f"| {name} | {' | '.join(told(bootstrap.estimate(sums(own, key))) for key in SHOWN)} |"
        for name, own in rows.items()
    ]
    lines += ["", "| less unrefined, paired | GED u | spread ratio | spread, of the unrefined |", "|---|---|---|---|"]
    for name in refined:
        one, other = rows[name], rows[plain]
        less = [bootstrap.difference(sums(one, key), sums(other, key), (0, 0)) for key in ("ged", "spread")]
        share = bootstrap.estimate(ratio_of(one["samples"], other["samples"]))
        lines.append(f"| {name} | {told(less[0], '+')} | {told(less[1], '+')} | {told(share)} |")
    return lines


def measured(
    model: Model, cases: Sequence[EvaluationCase], configs: dict[str, DenseCRFConfig], seeds: int
) -> list[str]:
    """Both tables of a model."""
    found: dict[str, list[dict[str, list[float]]]] = {"unrefined": [], **{name: [] for name in configs}}
    channels = len(model.preprocessing.channels)
    for seed in range(seeds):
        plain = drawn(model, cases, seed)
        found["unrefined"].append(parts_of(plain, plain, cases))
        for name, config in configs.items():
            masks = [refined_label_maps(c.image[:channels], m, 1, config) for c, m in zip(cases, plain)]
            found[name].append(parts_of(np.stack(masks), plain, cases))
            print(model.card.name, seed, name, flush=True)
    rows = {name: {key: np.array([part[key] for part in parts]) for key in parts[0]} for name, parts in found.items()}
    return table(rows, [case.subject or case.identity for case in cases])


def seconds() -> list[str]:
    """How long 16 masks of one slice take, with the defaults: the fastest of five."""
    lines = ["| image | seconds for 16 masks |", "|---|---|"]
    for size in (64, 256):
        y, x = np.mgrid[:size, :size] / size - 0.5
        rng = np.random.default_rng(0)
        image = np.clip(0.2 + 0.5 * (np.hypot(y, x) < 0.25) + 0.05 * rng.standard_normal(y.shape), 0, 1)
        masks = np.stack([np.hypot(y, x) < 0.2 + 0.01 * k for k in range(SAMPLES)]).astype(np.uint8)
        took = []
        for _ in range(5):
            start = time.perf_counter()
            DenseCRF(torch.from_numpy(image[None]), DenseCRFConfig()).probabilities(masks, 1)
            took.append(time.perf_counter() - start)
        lines.append(f"| 1 × {size} × {size} | {min(took):.2g} |")
    return lines


def main() -> None:
    """Measure, and write what was found."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--part", choices=["test", "validation"], default="validation")
    p.add_argument("--seeds", type=int, default=2, help="of the sampling")
    p.add_argument("--settings", nargs="*", default=[], metavar="NAME=VALUE,…", help="laid over the defaults")
    p.add_argument("--models", nargs="+", default=["lung-nodule", DEMO_MODEL])
    options = p.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    configs = {"refined": DenseCRFConfig()}
    for text in options.settings:
        config = refinement_of(DENSE_CRF, dict(name_and_value(one) for one in text.split(",")))
        configs[f"refined, {text.replace(',', ', ')}"] = config or DenseCRFConfig()
    lines = [f"Commit {commit()}, torch {torch.__version__}, {torch.get_num_threads()} thread(s).", ""]
    for name in options.models:
        model = load_model(find_model(name), choose_device("cpu"))
        if name == DEMO_MODEL:
            config = from_dict(DataConfig, model.card.training["configuration"]["dataset"], "dataset")
            cases = held_out_cases(config, options.part, PHANTOMS, RATERS)
        else:
            cases = nodules(model, options.part)
        subjects = len({case.subject or case.identity for case in cases})
        lines += [f"{name}, {options.part}: {len(cases)} cases of {subjects} subjects, {options.seeds} seed(s).", ""]
        lines += [*measured(model, cases, configs, options.seeds), ""]
    lines += seconds()
    (options.out / f"dense_crf_{options.part}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

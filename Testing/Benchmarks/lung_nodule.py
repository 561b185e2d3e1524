"""The bundled model for lung nodules on nodules of other patients, and on a chest CT that is none of them.

    python Testing/Benchmarks/lung_nodule.py MODEL --out FOLDER [--seeds 3] [--steps 4 10] [--cases N]

``test.npz`` of ``lidc_nodules`` (278 nodules of 87 patients; the model saw none of them): 16 samples a nodule, figures
of ``evaluate``, means over nodules, and the interval that holds 95 % of 10,000 draws of the patients with replacement.
``chest_ct``: a region of 43 mm around the nodule, 16 samples, its consensus against the outline of the data's author,
for each seed. Writes ``lung_nodule.md`` and, of the CT, ``overview.png`` as ``sample`` draws it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shared_data import shared_path

from AmbiguousSegLib.cli import main as command
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.evaluation_cases import loaded_cases
from AmbiguousSegLib.data.readers import read_all
from AmbiguousSegLib.data.slices import SliceStore, index
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.evaluation.bootstrap import Bootstrap, mean_of
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.metrics.figures import FIGURES, compare
from AmbiguousSegLib.metrics.overlap import dice
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.io import read_mask, read_volume

SAMPLES, REACH_MM = 16, 21.5
ENTRY = {"image": "images_hu", "raters": "masks", "subject": "patient", "spacing": "spacing", "modality": "CT"}


def nodules(model: Model, seeds: int, steps: int, cases: int | None) -> tuple[dict[str, list[np.ndarray]], list[str]]:
    """Figures of each test nodule, an array for each seed, and the nodules' patients."""
    with tempfile.TemporaryDirectory() as folder:
        entry = {"npz": str(shared_path("data/lidc_nodules/test.npz")), **ENTRY}
        (Path(folder) / "cases.json").write_text(json.dumps(entry), encoding="utf-8")
        found = read_all(Path(folder), DataConfig(kind="list"), model.labels)
    slices, _, limits = index(found, model.preprocessing, 1)
    held_out = loaded_cases(slices, SliceStore(model.preprocessing, 1, limits, 2**28), cases)
    figures: dict[str, list[np.ndarray]] = {}
    settings = replace(model.sampling, steps=steps)
    for seed in range(seeds):
        rows = []
        for case in held_out:
            masks = sample_case(model.method, case.identity, case.image, SAMPLES, seed, settings, SAMPLES)
            rows.append(compare(masks, case.masks))
        for key in rows[0]:
            figures.setdefault(key, []).append(np.array([row[key] for row in rows]))
    return figures, [case.subject for case in held_out]


def chest(model: Model, seeds: int, samples: int = SAMPLES) -> list[dict[str, float]]:
    """Dice of the consensus and of single samples with the label of the chest CT, and volumes in mL."""
    image, label = (shared_path(f"data/chest_ct/lung1_{name}.nrrd") for name in ("image", "label"))
    volume, geometry = read_volume(image)
    truth = read_mask(label, geometry)
    low, high = region(truth, geometry)
    found = []
    for seed in range(seeds):
        request = SampleRequest(samples=samples, seed=seed, region=(low, high))
        drawn = sample_volume(model, volume, geometry, request)
        each = [dice(mask, truth) for mask in drawn.masks.view(bool)]
        volumes = drawn.masks.reshape(samples, -1).sum(1) * geometry.voxel_volume_ml
        found.append(
            {
                **{"consensus": dice(drawn.mean() > 0.5, truth), "best": max(each), "mean": float(np.mean(each))},
                **{"least_ml": volumes.min(), "most_ml": volumes.max(), "median_ml": float(np.median(volumes))},
            }
        )
    return found


def region(truth: np.ndarray, geometry) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Box of ``REACH_MM`` around the middle of a mask."""
    middle = geometry.to_mm(np.argwhere(truth).mean(0)[::-1])
    return tuple((middle - REACH_MM).tolist()), tuple((middle + REACH_MM).tolist())


def table(model: Model, seeds: int, steps: int, cases: int | None) -> list[str]:
    """Every figure that is known for one slice, in lines of Markdown."""
    figures, subjects = nodules(model, seeds, steps, cases)
    bootstrap = Bootstrap(subjects)
    lines = [
        "",
        f"{steps} evaluations, {len(subjects)} nodules of {len(set(subjects))} patients, {SAMPLES} samples each.",
        "",
    ]
    lines += ["| figure | mean over nodules | 95 % interval over patients | seeds |", "|---|---:|---|---|"]
    for key, values in figures.items():
        if np.isnan(values).all():
            continue
        each = [np.nanmean(v) for v in values]
        # One model: the seeds are draws of its masks, whose mean is bootstrapped over patients alone.
        found = bootstrap.estimate(mean_of(np.nanmean(values, axis=0)[None]))
        title = FIGURES[key].title if key in FIGURES else key
        lines.append(
            f"| {title} | {np.mean(each):.3f} | {found.low:.3f} to {found.high:.3f} | {', '.join(f'{v:.3f}' for v in each)} |"
        )
    return lines


def main() -> None:
    """Measure, and write what was found."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="folder of a model, or the name of a bundled one")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, nargs="+", help="evaluations of the network (default: the model's)")
    p.add_argument("--cases", type=int, help="only the first nodules")
    options = p.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    folder = find_model(options.model)
    model = load_model(folder, choose_device("cpu"))
    lines = ["| seed | Dice of the consensus | best sample | mean of samples | volume, mL: median (least to most) |"]
    lines.append("|---|---:|---:|---:|---|")
    for seed, row in enumerate(chest(model, options.seeds)):
        lines.append(
            f"| {seed} | {row['consensus']:.3f} | {row['best']:.3f} | {row['mean']:.3f} | "
            f"{row['median_ml']:.2f} ({row['least_ml']:.2f} to {row['most_ml']:.2f}) |"
        )
    for steps in options.steps or [model.sampling.steps]:
        lines += table(model, options.seeds, steps, options.cases)
    (options.out / "lung_nodule.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    truth = read_mask(shared_path("data/chest_ct/lung1_label.nrrd"))
    image = shared_path("data/chest_ct/lung1_image.nrrd")
    low, high = region(truth, read_volume(image)[1])
    box = [f"{value:.1f}" for pair in zip(low, high) for value in pair]
    arguments = ["sample", str(image), "--model", str(folder), "--samples", "8", "--region", *box]
    command([*arguments, "--out", str(options.out / "chest_ct"), "--overwrite"])


if __name__ == "__main__":
    main()

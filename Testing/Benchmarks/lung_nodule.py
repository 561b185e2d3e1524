"""The bundled model for lung nodules on nodules of other patients, and on a chest CT that is none of them.

    python Testing/Benchmarks/lung_nodule.py MODEL --out FOLDER [--against MODEL ...] [--part test] [--seeds 3]

``lidc_nodules``: 278 nodules of 87 patients that no model saw (or the validation part): 16 samples a nodule, pointed at
in the middle of its outlines; every figure that is known for one slice, and with ``--against`` the differences from
other models, paired by patient. ``chest_ct``: the nodule pointed at in its middle, the consensus against the outline of
the data's author; and places inside the lungs, 20 mm or more away from it, where nothing should be marked. Writes
``lung_nodule.md`` and, of the CT, ``overview.png`` as ``sample`` draws it. Intervals hold 95 % of 10,000 draws of the
patients, of the CT's places, with replacement.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_closing, binary_erosion, distance_transform_edt, label
from skimage.segmentation import clear_border

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shared_data import shared_path

from AmbiguousSegLib.cli import main as command
from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.evaluation_cases import EvaluationCase, loaded_cases
from AmbiguousSegLib.data.readers import read_all
from AmbiguousSegLib.data.slices import SliceStore, index
from AmbiguousSegLib.data.split import split_cases
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.evaluation.bootstrap import Bootstrap, Estimate, Sums, mean_of, ratio_of
from AmbiguousSegLib.inference.case_sampling import sample_cases
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.metrics.figures import FIGURES, compare
from AmbiguousSegLib.metrics.overlap import dice
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_mask, read_volume

SAMPLES, TOGETHER = 16, 256  # masks of a nodule; masks that are drawn together
BEYOND_MM, AWAY_MM, PLACES = 10.0, 20.0, 200
LUNG_HU, VESSELS_MM = -400.0, 6.0  # air is below; what the closing of the lungs' air takes in
ENTRY = {"image": "images_hu", "raters": "masks", "subject": "patient", "spacing": "spacing", "modality": "CT"}
SPLIT = "benchmarks/lidc-nodules-split"
Rows = list[dict[str, np.ndarray]]  # of each sampling seed: every figure, a number for each nodule


def nodules(model: Model, part: str) -> list[EvaluationCase]:
    """Nodules of a part of the split, as the network sees them."""
    with tempfile.TemporaryDirectory() as folder:
        entries = [{"npz": str(shared_path(f"data/lidc_nodules/{name}.npz")), **ENTRY} for name in ("train", "test")]
        (Path(folder) / "cases.json").write_text(json.dumps(entries), encoding="utf-8")
        config = DataConfig(kind="list", split_file=SPLIT)
        cases = getattr(split_cases(config, read_all(Path(folder), config, model.labels)), part)
        slices, _, limits = index(cases, model.preprocessing, 1)
        return loaded_cases(slices, SliceStore(model.preprocessing, 1, limits, 2**28))


def figures_of(model: Model, cases: Sequence[EvaluationCase], seeds: int) -> Rows:
    """Every figure of every nodule, for each sampling seed."""
    spacing = (float(model.preprocessing.spacing_mm or 1),) * 2
    found: Rows = []
    for seed in range(seeds):
        images = [(case.identity, case.image) for case in cases]
        drawn = sample_cases(model.method, images, SAMPLES, seed, model.sampling, TOGETHER)
        rows = [compare(masks, case.masks, spacing) for masks, case in zip(drawn, cases)]
        found.append({key: np.array([row[key] for row in rows]) for key in rows[0]})
    return found


def sums(rows: Rows, key: str, chosen: np.ndarray) -> Sums:
    """A figure of the chosen nodules. One model: the seeds are draws of its masks, whose mean is bootstrapped."""
    if key == "spread ratio":
        raters = [row["distance_raters"] for row in rows]  # over all pairs; of four raters 12 of 16 differ
        ratio = [np.mean([row["distance_samples_u"] for row in rows], axis=0), 4 / 3 * np.mean(raters, axis=0)]
        return ratio_of(*(side[None, chosen] for side in ratio))
    return mean_of(np.nanmean([row[key] for row in rows], axis=0)[None, chosen])


def table(rows: Rows, chosen: np.ndarray, subjects: np.ndarray) -> list[str]:
    """Every figure, in lines of Markdown."""
    bootstrap = Bootstrap(subjects[chosen].tolist())
    lines = ["| figure | mean over nodules | 95 % interval over patients | seeds |", "|---|---:|---|---|"]
    for key in [*rows[0], "spread ratio"]:
        if key in rows[0] and np.isnan([row[key][chosen] for row in rows]).all():
            continue
        found = bootstrap.estimate(sums(rows, key, chosen))
        each = [bootstrap.estimate(sums([row], key, chosen)).value for row in rows]
        told = ", ".join(f"{value:.3f}" for value in each)
        title = FIGURES[key].title if key in FIGURES else key
        lines.append(f"| {title} | {found.value:.3f} | {found.low:.3f} to {found.high:.3f} | {told} |")
    return lines


def differences(own: Rows, others: dict[str, Rows], chosen: np.ndarray, subjects: np.ndarray) -> list[str]:
    """The model's figures less those of others, the same patients drawn for both."""
    keys = ("ged_u", "hm_iou", "dice_max", "roughness_samples")
    lines = [f"| less | {' | '.join(FIGURES[key].title for key in keys)} |", "|---|" + "---|" * len(keys)]
    for name, rows in others.items():
        found = []
        for key in keys:  # roughness: of nodules where both have one
            known = chosen & ~np.isnan([np.nanmean([row[key] for row in side], axis=0) for side in (own, rows)]).any(0)
            bootstrap = Bootstrap(subjects[known].tolist())
            found.append(bootstrap.difference(sums(own, key, known), sums(rows, key, known)))
        lines.append(f"| {name} | {' | '.join(map(signed, found))} |")
    return lines


def signed(found: Estimate) -> str:
    """A difference and its interval."""
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def chest(model: Model, seeds: int, spot: tuple[float, ...], truth: np.ndarray, volume: np.ndarray, geometry: Geometry):
    """Lines of Markdown on the nodule of the chest CT, pointed at in its middle."""
    away_mm = distance_transform_edt(~truth, sampling=geometry.spacing_mm[::-1])
    lines = [
        "| seed | Dice of the consensus | best sample | mean of samples | volume, mL: median (least to most) | slices "
        f"| samples that mark anything beyond {BEYOND_MM:g} mm |",
        "|---|---:|---:|---:|---|---|---:|",
    ]
    for seed in range(seeds):
        drawn = sample_volume(model, volume, geometry, SampleRequest(SAMPLES, seed=seed, pointing=Pointing(spot)))
        masks = drawn.masks.view(bool)
        each = [dice(mask, truth) for mask in masks]
        ml = masks.reshape(SAMPLES, -1).sum(1) * geometry.voxel_volume_ml
        beyond = masks[:, away_mm > BEYOND_MM].any(1).sum()
        slices = " to ".join(map(str, drawn.provenance["window"]["slices"]))
        lines.append(
            f"| {seed} | {dice(drawn.mean() > 0.5, truth):.3f} | {max(each):.3f} | {np.mean(each):.3f} | "
            f"{np.median(ml):.2f} ({ml.min():.2f} to {ml.max():.2f}) | {slices} | {beyond} of {SAMPLES} |"
        )
    return lines


def lungs(volume: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Inside of the lungs with their vessels, bool ``(Z, Y, X)``: air that is not around the body, closed, and a pixel
    less at the border."""
    found = np.zeros(volume.shape, bool)
    for z, plane in enumerate(volume):
        numbered, count = label(clear_border(plane < LUNG_HU))
        sizes = np.bincount(numbered.ravel(), minlength=count + 1)
        large = np.flatnonzero(sizes * spacing_mm[1] * spacing_mm[2] > 1000)  # mm²: not the trachea
        air = np.isin(numbered, large[large > 0])
        reach = round(VESSELS_MM / spacing_mm[1])
        disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
        found[z] = binary_erosion(binary_closing(np.pad(air, reach), disc)[reach:-reach, reach:-reach])
    return found


def elsewhere(model: Model, truth: np.ndarray, volume: np.ndarray, geometry: Geometry) -> list[str]:
    """Lines of Markdown on places inside the lungs where the author of the data outlined nothing."""
    spacing = geometry.spacing_mm[::-1]
    healthy = lungs(volume[0], spacing) & (distance_transform_edt(~truth, sampling=spacing) >= AWAY_MM)
    places = np.argwhere(healthy)
    rng = np.random.default_rng(0)
    chosen = places[rng.choice(len(places), PLACES, replace=False)]
    marked, consensus = np.zeros((PLACES, 1)), 0
    for number, place in enumerate(chosen):
        spot = tuple(geometry.to_mm(place[::-1]).tolist())
        drawn = sample_volume(model, volume, geometry, SampleRequest(SAMPLES, seed=number, pointing=Pointing(spot)))
        marked[number] = drawn.masks.reshape(SAMPLES, -1).any(1).mean()
        consensus += bool((drawn.mean() > 0.5).any())
    found = Bootstrap([str(k) for k in range(PLACES)]).estimate(mean_of(marked.T))
    share = f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"
    return [
        f"{PLACES} places drawn evenly inside the lungs (seed 0), {AWAY_MM:g} mm or more from the outline: {share} "
        f"of the samples mark anything, at {np.count_nonzero(marked)} places; the consensus does at {consensus}."
    ]


def main() -> None:
    """Measure, and write what was found."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="folder of a model, or the name of a bundled one")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--against", nargs="*", default=[], metavar="MODEL", help="others to be compared with")
    p.add_argument("--part", choices=["test", "validation"], default="test")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--temperature", type=float, help="instead of the model's own, to choose it on the validation part")
    options = p.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    folder = find_model(options.model)
    model = load_model(folder, choose_device("cpu"))
    if options.temperature is not None:
        model.method.config = replace(model.method.config, temperature=options.temperature)
    cases = nodules(model, options.part)
    subjects, full = np.array([c.subject for c in cases]), np.array([bool(c.masks.any((1, 2)).all()) for c in cases])
    own, others = figures_of(model, cases, options.seeds), {}
    for other in options.against:
        against = load_model(find_model(other), choose_device("cpu"))
        others[against.card.name] = figures_of(against, nodules(against, options.part), options.seeds)
    lines = []
    for title, chosen in (("all", np.ones(len(cases), bool)), ("that all readers outlined", full)):
        patients = len(set(subjects[chosen]))
        lines += [f"Nodules, {title}: {chosen.sum()} of {patients} patients, {SAMPLES} samples each.", ""]
        lines += [*table(own, chosen, subjects), ""]
        if others:
            lines += [*differences(own, others, chosen, subjects), ""]
    if options.part == "test":
        image, outline = (shared_path(f"data/chest_ct/lung1_{name}.nrrd") for name in ("image", "label"))
        volume, geometry = read_volume(image)
        truth = read_mask(outline, geometry)
        spot = tuple(geometry.to_mm(np.argwhere(truth).mean(0)[::-1]).tolist())
        lines += [*chest(model, options.seeds, spot, truth, volume, geometry), ""]
        lines += elsewhere(model, truth, volume, geometry)
        place = [f"{value:.1f}" for value in spot]
        arguments = ["sample", str(image), "--model", str(folder), "--samples", "16", "--point", *place]
        command([*arguments, "--out", str(options.out / "chest_ct"), "--overwrite"])
    (options.out / "lung_nodule.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

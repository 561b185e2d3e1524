"""What a calibrated model promises, measured on test cases that calibrated nothing.

    python Testing/Benchmarks/calibration.py MODEL --data nodules --out FOLDER [--samples 16] [--seed 0] [--cases N]
    python Testing/Benchmarks/calibration.py MODEL --data phantom --out FOLDER [--volumes 8]
    python Testing/Benchmarks/calibration.py MODEL --calibrate --data nodules --out FOLDER

``nodules`` is ``lidc_nodules`` of the shared data, as the benchmark of that name splits it; any other ``--data`` is a
folder as ``evaluate`` takes it. With ``--calibrate`` the model's description is calibrated first, on the validation
part, by the subcommand of that name. For each of the model's calibrations: errors of the mean map and of "no outline"
before and after, coverage of the areas that readers outline by level and class of sizes, with intervals that hold 95 %
of 10,000 draws of the patients with replacement, and widths. Of a phantom the readers are draws of its true
distribution, of its volumes, too. Writes ``calibration.md`` and a picture for each calibration.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from shared_data import shared_path

from AmbiguousSegLib.calibration.areas import VOLUME
from AmbiguousSegLib.calibration.figures import intervals_of
from AmbiguousSegLib.calibration.fit import Drawn
from AmbiguousSegLib.calibration.parts import Calibration
from AmbiguousSegLib.cli import main as command
from AmbiguousSegLib.cli.evaluation_set import EvaluationSet, choose_cases
from AmbiguousSegLib.data.config import PHANTOM
from AmbiguousSegLib.data.lung_phantom import phantom_volume
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.evaluation.calibration_judged import judge
from AmbiguousSegLib.evaluation.calibration_table import calibration_table, coverage_table, curves_table
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.plotting.reliability import write_calibration_figure
from AmbiguousSegLib.resources import find_model, find_split
from AmbiguousSegLib.volume.geometry import Geometry

NODULES, SPLIT = "nodules", "benchmarks/lidc-nodules-split"
NAME = "lung nodules of LIDC-IDRI, four radiologists"
SIZES_MM = (6.0, 10.0)  # diameter of the disc of the readers' mean area
RATERS, VOLUME_RATERS, VOLUME_SEED = 64, 256, 500  # of a phantom; seeds that no other script takes
ENTRY = {"image": "images_hu", "raters": "masks", "subject": "patient", "spacing": "spacing", "modality": "CT"}


@contextmanager
def data_folder(data: str) -> Iterator[str]:
    """The folder to read: of the nodules a temporary one with the list of both files."""
    if data != NODULES:
        yield data
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [str(shared_path(f"data/lidc_nodules/{part}.npz")) for part in ("train", "test")]
        entries = [{"npz": file, **ENTRY} for file in files]
        (Path(folder) / "cases.json").write_text(json.dumps(entries), encoding="utf-8")
        yield folder


def draw(model: Model, cases: EvaluationSet, calibration: Calibration, samples: int, seed: int) -> list[Drawn]:
    """Samples and readers' masks of each case."""
    settings, drawn = calibration.sampling or model.sampling, []
    for case in cases.cases:
        masks = sample_case(model.method, case.identity, case.image, samples, seed, settings, samples)
        drawn.append(Drawn(case.subject or case.identity, masks, case.masks))
    return drawn


def volumes(model: Model, calibration: Calibration, samples: int, count: int, seed: int) -> list[str]:
    """Lines of Markdown: of phantom volumes the share of true raters' volumes within the interval, a mean of shares."""
    entry = calibration.for_samples(samples)
    covered: dict[float, list[float]] = {}
    widths: dict[float, list[float]] = {}
    for number in range(count):
        phantom = phantom_volume(VOLUME_SEED + number)
        size, spacing = phantom.image.shape[::-1], phantom.spacing_mm[::-1]
        grid = Geometry(size, spacing, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
        request = SampleRequest(samples, seed=seed, sampler=calibration.sampling)
        drawn = sample_volume(model, phantom.image[None], grid, request).volumes_ml()
        raters = phantom.draw_masks(np.random.default_rng([VOLUME_SEED, number]), VOLUME_RATERS)
        true = np.count_nonzero(raters.reshape(VOLUME_RATERS, -1), axis=1) * grid.voxel_volume_ml
        true = true[true > 0]
        for level, low, high in intervals_of(entry, drawn[: entry.samples], VOLUME) or ():
            covered.setdefault(level, []).append(float(np.mean((low <= true) & (true <= high))))
            widths.setdefault(level, []).append((high - low) / float(np.median(true)))
    lines = ["", "| volumes: level | phantoms | true volumes covered, mean (least) | median width / median volume |"]
    lines += ["|---|---:|---|---:|"]
    for level, shares in covered.items():
        told = f"{np.mean(shares):.3f} ({min(shares):.3f})"
        lines.append(f"| {level:g} | {len(shares)} | {told} | {np.median(widths[level]):.2f} |")
    return lines


def main() -> None:
    """Measure, and write what was found."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="folder of a model, or the name of a bundled one")
    p.add_argument("--data", default=NODULES, help=f"{NODULES}, {PHANTOM}, or a folder (default: {NODULES})")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument(
        "--split", help="file of the split (default: of the nodules that of the benchmark, else the model's)"
    )
    p.add_argument("--samples", type=int, nargs="+", default=[8, 16])
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--cases", type=int, help="only the first cases")
    p.add_argument("--volumes", type=int, default=0, help="of the phantom, how many volumes to judge")
    p.add_argument("--calibrate", action="store_true", help="calibrate the model first, on the validation part")
    p.add_argument("--device", default="cpu")
    options = p.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    folder = find_model(options.model)
    split = options.split or (str(find_split(SPLIT)) if options.data == NODULES else None)
    lines = []
    with data_folder(options.data) as data:
        if options.calibrate:
            more = ["--split", split] if split else []
            more += (
                ["--raters", str(RATERS)]
                if data == PHANTOM
                else ["--data-name", NAME if options.data == NODULES else Path(options.data).name]
            )
            if options.cases:
                more += ["--cases", str(options.cases)]
            if command(["calibrate", "--model", str(folder), "--data", data, "--device", options.device, *more]):
                sys.exit("calibrate failed")
        model = load_model(folder, choose_device(options.device))
        if not model.calibrations:
            sys.exit(f"{folder} is not calibrated; give --calibrate, or calibrate it with the subcommand.")
        raters = RATERS if data == PHANTOM else None
        chosen = argparse.Namespace(data=data, part="test", split=split and Path(split), subject_pattern=None)
        vars(chosen).update(cases=options.cases, raters=raters, spacing_mm=None)
        cases = choose_cases(chosen, [(model.card.name, model)])
        for number, calibration in enumerate(model.calibrations, start=1):
            sampler = (
                "one pass"
                if calibration.sampling is None
                else calibration.sampling.in_words(model.method.sampler_family)
            )
            drawn = draw(model, cases, calibration, max(options.samples), options.seed)
            patients = len({case.subject for case in drawn})
            of = f"{len(drawn)} cases of {patients} patients, seed {options.seed}"
            lines += [f"## {model.card.name}, {sampler}: {options.data}, test part, {of}", ""]
            lines += [calibration_table(calibration).markdown(), ""]
            for samples in options.samples:
                entry = calibration.for_samples(samples)
                if entry is None:
                    lines += [f"{samples} samples: the model is not calibrated for so few.", ""]
                    continue
                judged = judge(entry, drawn, SIZES_MM if cases.spacing_mm else (), cases.spacing_mm)
                lines += [f"### {entry.samples} samples", "", curves_table(judged).markdown()]
                lines += [coverage_table(judged).markdown()]
                write_calibration_figure(options.out / f"calibration_{number}_{entry.samples}.png", judged)
                if data == PHANTOM and options.volumes:
                    lines += volumes(model, calibration, samples, options.volumes, options.seed)
    text = "\n".join(lines) + "\n"
    (options.out / "calibration.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""What training takes of time and memory for its data.

    python Testing/Benchmarks/training_data.py wait FOLDER     # share of the wall time that the loop waits for items
    python Testing/Benchmarks/training_data.py memory          # peak of training on 100 volumes of 512 × 512 × 300

``wait`` trains the network of the bundled model for some batches on prepared data (of ``ambiguousseg prepare``), as
``train`` does, with the augmentation that a plan chooses. ``memory`` makes a volume and masks in a temporary folder, a
hundred headers over each, and trains without a cache, so that every item reads a file anew. Prints one Markdown row.
"""

from __future__ import annotations

import argparse
import csv
import logging
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.training.dataset import TrainingData, batches, open_data
from AmbiguousSegLib.training.trainer import Trainer

VOLUMES, SHAPE = 100, (300, 512, 512)
UNET = {
    **{"image_size": 64, "model_channels": 16, "channel_mult": [1, 2, 4, 4], "num_res_blocks": 1},
    **{"attention_sizes": [8], "num_heads": 4, "use_scale_shift_norm": True, "norm_groups": 8},
}


def configuration(dataset: dict, images: int) -> TrainingConfig:
    """The network of the bundled model on CT."""
    return from_dict(
        TrainingConfig,
        {
            "method": "cimd",
            "method_config": {"unet": UNET, "prediction": "x0", "variance": "posterior", "beta_ambiguity": 0.0},
            "dataset": {
                **{"size": [64, 64], "channels": ["CT"], "spacing_mm": 0.7, "plane": "axial"},
                **{"intensity": {"rule": "window", "low": -1000.0, "high": 400.0}, **dataset},
            },
            "augmentation": {"flip": True, "rotate_degrees": 180.0, "scale": 0.15, "translate": 0.15},
            "optimisation": {"images": images, "batch_size": 16, "learning_rate": 1e-3},
            "validation": {"cases": 1, "samples": 2},
        },
    )


def wait(folder: Path, images: int) -> str:
    """Row of the share of the time between two batches that passes before the batch is there."""
    data = open_data(configuration({}, images), folder)
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(data, Path(out), torch.device("cpu"))
        waited, worked, mark = [], [], time.perf_counter()
        for batch, positions in batches(data.source, data.config, 0):
            ready = time.perf_counter()
            trainer._step(batch, positions)
            end = time.perf_counter()
            waited.append(ready - mark), worked.append(end - ready)
            mark = end
    total = sum(waited) + sum(worked)
    per_item = 1000 * sum(waited) / (16 * len(waited))
    return f"| {len(data.source.slices)} | {images} | {per_item:.2f} ms | {100 * sum(waited) / total:.1f} % |"


def memory(images: int) -> str:
    """Row of the peak of resident memory of a run on a hundred volumes, none of which is kept."""
    with tempfile.TemporaryDirectory() as place:
        data = open_data(configuration({"cache_mb": 0, "empty_share": 0.2}, images), write_volumes(Path(place)))
        checked = peak()
        rows = sum(len(positions) for _, positions in batches(data.source, data.config, 0))
        drawn = peak()
        trained = train(data, Path(place) / "run")
    return f"| {VOLUMES} × {SHAPE[2]} × {SHAPE[1]} × {SHAPE[0]} | {rows} | {checked} | {drawn} | {trained} |"


def train(data: TrainingData, folder: Path) -> int:
    """Peak after a whole run, with its validation and its checkpoint."""
    Trainer(data, folder, torch.device("cpu")).run()
    return peak()


def peak() -> int:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def write_volumes(folder: Path) -> Path:
    """A list of a hundred cases: headers over one volume and two raters' masks of some ellipsoids."""
    rng = np.random.default_rng(0)
    (rng.integers(-1000, 400, SHAPE, np.int16)).tofile(folder / "image.raw")
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for rater, grown in (("a", 0), ("b", 3)):
        mask = np.zeros(SHAPE, np.uint8)
        for centre in ((60, 200, 300), (150, 260, 180), (240, 300, 350)):
            mask |= sum(((axis - c) / (9 + grown)) ** 2 for axis, c in zip((z, y, x), centre)) < 1
        mask.tofile(folder / f"{rater}.raw")
    size = f"{SHAPE[2]} {SHAPE[1]} {SHAPE[0]}"
    with open(folder / "cases.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "rater_a", "rater_b", "subject"])
        for number in range(VOLUMES):
            names = []
            for what, kind in (("image", "MET_SHORT"), ("a", "MET_UCHAR"), ("b", "MET_UCHAR")):
                names.append(f"{what}_{number:03d}.mhd")
                header = f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementSpacing = 0.7 0.7 1.25\n"
                header += f"ElementType = {kind}\nElementByteOrderMSB = False\nElementDataFile = {what}.raw\n"
                (folder / names[-1]).write_text(header, encoding="utf-8")
            table.writerow([*names, f"patient{number}"])
    return folder / "cases.csv"


def main() -> None:
    """Run one of the two."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["wait", "memory"])
    p.add_argument("folder", nargs="?", type=Path, help="prepared data, for wait")
    p.add_argument("--images", type=int, help="to train on (default: 3200 for wait, 32 for memory)")
    options = p.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.what == "wait":
        print("| slices | images | data per item | share of the wall time |\n|---|---|---|---|")
        print(wait(options.folder, options.images or 3200))
    else:
        print("| volumes | items | peak MB after the check | after drawing | after training |\n|---|---|---|---|---|")
        print(memory(options.images or 32))


if __name__ == "__main__":
    main()

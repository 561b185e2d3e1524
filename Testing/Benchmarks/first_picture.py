"""The first picture of the README: a nodule of a real chest CT, and a phantom whose true distribution is known.

python Testing/Benchmarks/first_picture.py Resources/Screenshots/first.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shared_data import shared_path

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.evaluation_cases import held_out_cases, held_out_phantoms
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.io import read_mask, read_volume

SAMPLES, REACH_MM, PHANTOM = 16, 17.0, 5
SAMPLE, RATER = "#ff8c3c", "#5adc78"


def opened(name: str) -> Model:
    """A bundled model, on the CPU."""
    return load_model(find_model(name), choose_device("cpu"))


def chest() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A slice of the CT around the nodule in [0, 1], its samples, and the outline of the data's author."""
    image, label = (shared_path(f"data/chest_ct/lung1_{name}.nrrd") for name in ("image", "label"))
    volume, geometry = read_volume(image)
    truth = read_mask(label, geometry)
    middle = np.argwhere(truth).mean(0)
    spot = tuple(geometry.to_mm(middle[::-1]).tolist())
    drawn = sample_volume(opened("lung-nodule"), volume, geometry, SampleRequest(SAMPLES, pointing=Pointing(spot)))
    z, reach = round(middle[0]), round(REACH_MM / geometry.spacing_mm[0])
    rows, columns = (slice(round(middle[k]) - reach, round(middle[k]) + reach + 1) for k in (1, 2))
    shown = np.clip((volume[0, z, rows, columns] + 1000) / 1400, 0, 1)
    return shown, drawn.masks[:, z, rows, columns] != 0, truth[z, rows, columns]


def phantom() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A phantom, its samples, and the exact probability that a rater marks a pixel."""
    model, data = opened("phantom-cimd-64"), DataConfig(kind="phantom", size=(64, 64), channels=("CT",), spacing_mm=1.0)
    case = held_out_cases(data, "test", PHANTOM + 1, 1)[PHANTOM]
    truth = held_out_phantoms(data, "test", PHANTOM + 1)[PHANTOM].probability_maps()[0]
    samples = sample_case(model.method, case.identity, case.image, SAMPLES, 0, model.sampling, SAMPLES)
    return case.image[0], samples != 0, truth


def main(path: Path) -> None:
    """Draw both and write the picture."""
    figure, axes = plt.subplots(2, 4, figsize=(10.4, 5.5), layout="constrained", facecolor="white")
    for row, name, (image, samples, truth) in zip(axes, ("chest CT", "phantom"), (chest(), phantom())):
        last = "author's outline, consensus" if truth.dtype == bool else "true probability"
        titles = (name, f"{SAMPLES} segmentations", "share that marks a pixel", last)
        for axis, title in zip(row, titles):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize=10)
            axis.set_axis_off()
        for sample in samples:
            if sample.any():
                row[1].contour(sample, [0.5], colors=SAMPLE, linewidths=0.7)
        _map(row[2], samples.mean(0))
        if truth.dtype == bool:
            row[3].contour(truth, [0.5], colors=RATER, linewidths=1.2)
            row[3].contour(samples.mean(0), [0.5], colors=SAMPLE, linewidths=1.2)
        else:
            _map(row[3], truth)
    figure.savefig(path, dpi=110)


def _map(axis: plt.Axes, values: np.ndarray) -> None:
    axis.imshow(np.ma.masked_less(values, 0.02), cmap="inferno", vmin=0, vmax=1, alpha=0.85, interpolation="nearest")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

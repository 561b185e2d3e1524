"""Time and memory of putting 16 masks of 512 x 512 x 300 into a scene (target: 2 s).

    python Testing/Benchmarks/scene_nodes.py

Prints one line per part: the segmentation nodes alone (the target), the three maps of the SampleSet, and the whole run
with mean, variance and consensus. "Image extent" is the same call with uncropped labelmaps, as a ratio in one run.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "AmbiguousSeg")]

from AmbiguousSegBridge import run_writer  # noqa: E402
from AmbiguousSegBridge.host import make_host  # noqa: E402
from AmbiguousSegBridge.scene import add_sample_set  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402
from AmbiguousSegLib.volume.io import LESION_TERMINOLOGY  # noqa: E402

SIZE = (512, 512, 300)
SAMPLES = 16


def balls() -> SampleSet:
    """Sixteen balls of radii 40 to 70 voxels about the same centre."""
    masks = np.zeros((SAMPLES, *SIZE[::-1]), bool)
    z, y, x = np.ogrid[-75:75, -75:75, -75:75]
    for mask, radius in zip(masks, np.linspace(40, 70, SAMPLES)):
        mask[75:225, 200:350, 150:300] = z * z + y * y + x * x < radius * radius
    return SampleSet(masks, Geometry(SIZE, (0.7, 0.7, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)))


def write_masks(samples: SampleSet) -> float:
    """Seconds to make the segmentation nodes alone."""
    start = time.perf_counter()
    writer = run_writer.RunWriter(make_host(), samples, "run", 0, None, LESION_TERMINOLOGY)
    for index, mask in enumerate(samples.masks):
        writer.add_mask(f"sample {index + 1:02d}", mask, run_writer.sample_colour(index))
    return time.perf_counter() - start


def main() -> None:
    samples = balls()
    cropped = write_masks(samples)
    print(f"{SAMPLES} segmentation nodes, cropped: {cropped:.2f} s")
    start = time.perf_counter()
    samples.mean(), samples.variance(), samples.consensus()
    print(f"mean, variance and consensus computed: {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    add_sample_set(make_host(), samples, "run")
    print(f"whole run: {time.perf_counter() - start:.2f} s")
    print(f"peak memory so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    run_writer.bounding_box = lambda mask: tuple(slice(0, n) for n in mask.shape)
    whole = write_masks(samples)
    print(f"{SAMPLES} segmentation nodes, image extent: {whole:.2f} s ({whole / cropped:.1f} times as long)")


if __name__ == "__main__":
    main()

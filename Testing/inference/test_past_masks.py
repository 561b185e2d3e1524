"""The bundled model draws what it drew before step grids, label maps and slices prepared once."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from shared_data import REPOSITORY

from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.geometry import Geometry

PAST = REPOSITORY / "Testing" / "Past" / "masks.npz"  # its README says how it was made
pytestmark = pytest.mark.slow
SEED, SAMPLES = 1, 4
SAMPLERS = {
    "own": SamplerSettings("dpm++2m", 10, "both_ends"),
    "ddpm": SamplerSettings("ddpm", 5, "both_ends"),
    "ddim": SamplerSettings("ddim", 5, "both_ends", {"eta": 1.0}),
}
# Values are stored in steps of 1/2048, so that they are off by 2.4e-4. How the processor rounds a chain shows beyond
# that with "own" alone: DPM-Solver++ multiplies it at a few of its 49152 values, 4 of them under other vector units (up
# to 1.3e-3) and 11 in float64 (up to 4.5e-3).
STORED, ROUNDING = 5e-4, {"own": 1e-2, "ddpm": 5e-4, "ddim": 5e-4}


@pytest.fixture(scope="module")
def past() -> dict[str, np.ndarray]:
    with np.load(PAST) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(find_model("phantom-cimd-64"))


@pytest.fixture(scope="module")
def drawn(past, model):
    """Values of all samples and slices by the name of a sampler, each drawn once."""

    @cache
    def values(name: str) -> np.ndarray:
        prepared = model.preprocessing.prepare(*volume_of(past))
        slices, inf = prepared.slice_indices, float("inf")
        found = draw_masks(model.method, prepared.image, slices, range(SAMPLES), SEED, SAMPLERS[name], 12, inf)
        return torch.cat([values for _, values in found]).numpy().reshape(past["shape"])

    return values


def volume_of(past) -> tuple[np.ndarray, Geometry]:
    grid = [tuple(past[key].tolist()) for key in ("spacing_mm", "origin_mm", "direction")]
    return past["image"][None].astype(np.float32), Geometry(tuple(int(n) for n in past["shape"][:0:-1]), *grid)


@pytest.mark.parametrize(("name", "batch_size"), [("own", None), ("own", 5), ("ddpm", None), ("ddim", None)])
def test_values_and_masks_are_those_of_the_past(past, model, drawn, name, batch_size):
    """Masks but for pixels within rounding of the threshold; model and volume have the same pixels."""
    then = np.unpackbits(past[f"{name}_masks"])[: past["shape"].prod()].reshape(past["shape"])
    values = past[f"{name}_values"].astype(np.float32)

    difference = np.abs(drawn(name) - values)
    assert difference.max() < ROUNDING[name] and (difference > STORED).mean() < 5e-4

    request = SampleRequest(SAMPLES, seed=SEED, sampler=SAMPLERS[name], batch_size=batch_size)
    masks = sample_volume(model, *volume_of(past), request).masks
    decided = np.abs(values - 0.5) > ROUNDING[name]
    assert decided.mean() > 0.999 and then.any()
    assert np.array_equal(masks[decided], then[decided])

"""A method is one class, registered where it stands: nothing else is edited for it to be built and sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from tiny_models import tiny_model
from torch import nn

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import SAMPLERS
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.case_sampling import case_number, sample_case
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import METHODS, Method, build_method
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((16, 16, 3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
SLOPE = 0.25
LABELS = tuple(Label(name) for name in ("core", "halo"))


@dataclass(frozen=True)
class OneClassConfig:
    slope: float = SLOPE


@dataclass(frozen=True)
class SeveralClassesConfig:
    classes: int = 1


class BrighterThanChance(Method):
    """Marks a pixel as class k if its brightness, less k − 1 slopes, exceeds a uniform number."""

    Config = OneClassConfig
    image_channels, size_multiple = 1, 1

    def __init__(self, config):
        super().__init__(config)
        self.slope = nn.Parameter(torch.tensor(SLOPE))

    def training_loss(self, batch, noise):
        return {"loss": (self.slope - batch.mask.mean()) ** 2}

    def sample(self, prepared, noise, settings, on_step=None):
        (image,) = prepared
        label = torch.arange(self.classes).reshape(1, -1, 1, 1)
        chance = (image - self.slope * label).clamp(min=0)
        share = torch.diff(chance, dim=1, append=torch.zeros_like(image)).neg()  # of each class, brightest last
        drawn = noise.categorical(0, torch.cat([1 - share.sum(1, keepdim=True), share], dim=1))
        return torch.stack([(drawn == k + 1).float() for k in range(self.classes)], dim=1)


@pytest.fixture
def registered():
    """Registers classes for one test."""
    names = []

    def register(cls, name="toy"):
        METHODS.register(name)(cls)
        names.append(name)
        return cls

    yield register
    for name in names:
        METHODS.unregister(name)


def expected_masks(image: np.ndarray, rows: list[tuple[int, int]], classes: int, period: float = 0.0) -> np.ndarray:
    """Label maps of ``rows``: background below 1 − brightness, then the classes, brightest last."""
    noise = RowNoise(5, rows, slice_period=period)
    uniform = noise.uniform(0, image.shape[-2:]).numpy()
    chances = np.stack([np.clip(image - SLOPE * k, 0, None) for k in range(classes)])
    return np.stack([(u >= 1 - chances).sum(0) for u in uniform]).astype(np.uint8)


@pytest.mark.parametrize("classes", [1, 2])
def test_a_method_of_ones_own_is_one_class(registered, classes):
    several = type("Several", (BrighterThanChance,), {"Config": SeveralClassesConfig})
    registered(several)
    assert "toy" in METHODS and METHODS["toy"].name == "toy"
    method = build_method("toy", {"classes": classes}).requires_grad_(False).eval()
    assert method.classes == classes and not method.samples_by_steps
    image = np.random.default_rng(0).random((1, 16, 16), dtype=np.float32)
    rows = [(case_number("case 7"), sample) for sample in range(6)]
    got = sample_case(method, "case 7", image, 6, 5, SamplerSettings(), batch_size=4)
    assert got.dtype == np.uint8 and (got == expected_masks(image[0], rows, classes)).mean() > 0.999
    assert set(np.unique(got)) == set(range(classes + 1))

    model = replace(tiny_model(), method=method, labels=LABELS[:classes])
    volume = np.random.default_rng(1).random((1, *GRID.shape), dtype=np.float32)
    done = sample_volume(model, volume, GRID, SampleRequest(4, seed=5, coherence_mm=4.0, batch_size=5))
    assert done.labels == LABELS[:classes] and done.provenance["sampler"] is None
    assert done.provenance["model"]["method"] == "toy"
    for z in range(3):
        expected = expected_masks(volume[0, z], [(z, k) for k in range(4)], classes, period=2.0)
        assert (done.masks[:, z] == expected).mean() > 0.999


def test_a_method_for_one_class_says_so_on_building(registered):
    registered(BrighterThanChance)
    assert build_method("toy", {"slope": 0.5, "classes": 1}).classes == 1
    with pytest.raises(ValueError, match="The method toy segments one class, got 2; choose another method"):
        build_method("toy", {"classes": 2})
    with pytest.raises(ValueError, match=r"Unknown key method_config\.slop"):
        build_method("toy", {"slop": 0.5})


def test_a_sampler_of_ones_own_samples_cases_and_volumes():
    """The estimate from pure noise, made ``gain`` times itself; two more lines than its mathematics."""

    @SAMPLERS.register("once")
    def once(denoise, schedule, noise, shape, *, gain: float = 1.0):
        x = noise.normal(0, shape)
        return gain * denoise(x, torch.full((len(x),), len(schedule) - 1)).x0

    try:
        model, volume = tiny_model(), np.random.default_rng(1).random((1, *GRID.shape), dtype=np.float32)
        settings = SamplerSettings("once", 1, options={"gain": 1.0})
        same = SamplerSettings("ddim", 1)  # in one step, which is the estimate from pure noise as well
        request = SampleRequest(2, seed=5, sampler=settings)
        done = sample_volume(model, volume, GRID, request)
        assert np.array_equal(done.masks, sample_volume(model, volume, GRID, replace(request, sampler=same)).masks)
        assert done.provenance["sampler"] == {"name": "once", "steps": 1, "grid": "trailing", "options": {"gain": 1.0}}
        cases = [sample_case(model.method, "a", volume[:, 0], 3, 5, s, batch_size=2) for s in (settings, same)]
        assert cases[0].any() and np.array_equal(*cases)
        negative = SamplerSettings("once", 1, options={"gain": -1.0})
        assert not np.array_equal(sample_case(model.method, "a", volume[:, 0], 3, 5, negative, 2), cases[0])
    finally:
        SAMPLERS.unregister("once")

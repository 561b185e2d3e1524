"""The estimate against sampling itself, on a clock that only the network, or only the slices, move on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_models import randomised, tiny_model

from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference import estimate as estimate_module
from AmbiguousSegLib.inference import volume_sampling as volume_module
from AmbiguousSegLib.inference.estimate import estimate, without_voxels
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.methods.probabilistic_unet import ProbabilisticUNet, ProbabilisticUNetConfig
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.networks.conv_unet import ConvUNetConfig
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoderConfig
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.prepared import PreparedVolume
from AmbiguousSegLib.volume.preprocessing import Intensity

GRID = Geometry((16, 16, 6), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def one_pass_model() -> Model:
    config = ProbabilisticUNetConfig(
        unet=ConvUNetConfig(filters=(4, 8), convolutions=1),
        encoder=GaussianEncoderConfig(filters=(4, 8), convolutions=1, latent_dim=2, log_sigma_limit=5.0),
        combination_layers=1,
    )
    return replace(tiny_model(), method=randomised(ProbabilisticUNet(config)))


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self, monkeypatch):
        self.now, self.evaluations, self.factor = 0.0, 0, 1.0
        monkeypatch.setattr(estimate_module, "perf_counter", lambda: self.now)

    def moved_by_the_network(self, model, first=7.0):
        """0.25 s and 0.01 s per row of what it calls its U-Net; the first evaluation takes longer."""

        def hook(_module, inputs, _output):
            self.now += 0.25 + 0.01 * len(inputs[0]) + first * (self.evaluations == 0)
            self.evaluations += 1

        model.method.unet.register_forward_hook(hook)

    def moved_by_slices(self, monkeypatch):
        """0.5 s to read one, 0.125 s for each mask that is brought back, of one class."""
        image, restore = PreparedVolume.image, PreparedVolume.restore

        def slow_image(prepared, i):
            self.now += 0.5
            return image(prepared, i)

        def slow_restore(prepared, value):
            self.now += 0.125 * value.shape[:-2].numel()
            return restore(prepared, value)

        monkeypatch.setattr(PreparedVolume, "image", slow_image)
        monkeypatch.setattr(PreparedVolume, "restore", slow_restore)


def sampling_seconds(clock, model, request) -> float:
    clock.now, clock.evaluations = 0.0, 1  # warm
    volume = np.random.default_rng(0).random((1, *GRID.shape), dtype=np.float32)
    sample_volume(model, volume, GRID, request)
    return clock.now


@pytest.mark.parametrize(
    "request_",
    [
        SampleRequest(4, batch_size=8),
        SampleRequest(1),
        SampleRequest(2, sampler=SamplerSettings("ddpm", 1), batch_size=3),
        SampleRequest(3, sampler=SamplerSettings("dpm++2m", 2), batch_size=6),
        SampleRequest(2, sampler=SamplerSettings("dpm++2m", 20), slice_range=(1, 3), batch_size=6),
        SampleRequest(2, region=((0.0, 0.0, 2.1), (9.0, 9.0, 4.9))),
    ],
)
def test_time_is_what_sampling_takes(monkeypatch, request_):
    """Batches are full, so that no share of one is to be guessed."""
    model, clock = tiny_model(), Clock(monkeypatch)
    clock.moved_by_the_network(model)
    found = estimate(model, GRID, request_)
    assert clock.evaluations <= 5
    clock.evaluations = 0
    seconds = sampling_seconds(clock, model, request_)
    assert found.seconds == pytest.approx(seconds) and found.seconds_per_sample == pytest.approx(
        seconds / request_.samples
    )
    assert found.evaluations == clock.evaluations - 1 and found.device == "cpu"


@pytest.mark.parametrize("part", ["unet", "combine"])
def test_a_method_without_steps_is_timed_by_its_passes(monkeypatch, part):
    """What is computed once for each slice, and what is for each mask."""
    model, clock = one_pass_model(), Clock(monkeypatch)

    def hook(_module, inputs, _output):
        clock.now += 0.01 * len(inputs[0])

    getattr(model.method, part).register_forward_hook(hook)
    request = SampleRequest(4, batch_size=8)
    found = estimate(model, GRID, request)
    assert found.evaluations == 3 and found.seconds == pytest.approx(0.01 * (6 if part == "unet" else 24))
    assert found.seconds == pytest.approx(sampling_seconds(clock, model, request))


def test_slices_take_time_too(monkeypatch):
    model, clock = tiny_model(), Clock(monkeypatch)
    clock.moved_by_slices(monkeypatch)
    request = SampleRequest(3, slice_range=(1, 4))
    found = estimate(model, GRID, request)
    assert found.seconds == pytest.approx(4 * 0.5 + 12 * 0.125)  # each slice is read once
    assert found.seconds == pytest.approx(sampling_seconds(clock, model, request))


def test_a_slow_network_is_timed_once(monkeypatch):
    model, clock = tiny_model(steps=10), Clock(monkeypatch)
    clock.moved_by_the_network(model)
    monkeypatch.setattr(estimate_module, "_ENOUGH_SECONDS", 0.2)
    estimate(model, GRID, SampleRequest(1))
    assert clock.evaluations == 2


def test_memory_by_hand(monkeypatch):
    """Volume 4 bytes, each sample 1 byte per voxel; weights; the slices' images; image, noise and value of a batch."""
    model = tiny_model(channels=2)
    weights = 4 * sum(p.numel() for p in model.method.parameters())
    found = estimate(model, GRID, SampleRequest(5, batch_size=7))
    voxels, kept, batch = 16 * 16 * 6 * (2 * 4 + 5), 6 * 16 * 16 * 2 * 4, 7 * 16 * 16 * 4 * 4
    assert found.memory_bytes == weights + voxels + kept + batch and found.slices == 6
    monkeypatch.setattr(estimate_module, "KEPT_BYTES", 0)  # of which no more is kept than a batch holds
    found = estimate(model, GRID, SampleRequest(5, batch_size=2))
    assert found.memory_bytes == weights + voxels + 2 * 16 * 16 * 2 * 4 + 2 * 16 * 16 * 4 * 4


def test_a_grid_without_voxels_is_prepared_like_a_volume():
    """Whatever the rule for intensities, which zeros would not pass."""
    model = tiny_model(spacing_mm=0.8, plane="coronal")
    model = replace(model, preprocessing=replace(model.preprocessing, intensity=Intensity("minmax")))
    request = SampleRequest(1, slice_range=(2, 9), region=((1.0, 3.0, 2.0), (11.0, 15.0, 8.0)))
    volume = np.random.default_rng(0).random((1, *GRID.shape), dtype=np.float32)
    real = model.preprocessing.prepare(volume, GRID, request.slice_range, request.region)
    blank = without_voxels(model, GRID, request)
    for name in ("slice_indices", "crop_shape", "canvas", "slice_spacing_mm"):
        assert getattr(blank, name) == getattr(real, name)
    with pytest.raises(ValueError, match="Slice range 2 to 16"):
        without_voxels(model, GRID, replace(request, slice_range=(2, 16)))


def test_it_can_be_cancelled():
    class Cancelled(Exception):
        pass

    calls = []

    def cancel():
        calls.append(None)
        if len(calls) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        estimate(tiny_model(steps=10), GRID, SampleRequest(1), cancel)
    assert len(calls) == 2


def test_batches_are_those_that_fit_the_device(monkeypatch):
    sizes = []
    model = tiny_model()
    model.method.unet.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    monkeypatch.setattr(volume_module, "_CPU_BATCH_PIXELS", 5 * 16 * 16)
    found = estimate(model, GRID, SampleRequest(2))
    assert set(sizes) == {5} and found.evaluations == 3 * 3  # 12 rows by 5, 3 steps each


def test_a_smaller_last_batch_counts_by_its_share(monkeypatch):
    model, clock = tiny_model(), Clock(monkeypatch)
    clock.moved_by_the_network(model)
    found = estimate(model, GRID, SampleRequest(2, batch_size=8))
    assert found.seconds == pytest.approx(3 * (0.25 + 0.08) * 12 / 8)

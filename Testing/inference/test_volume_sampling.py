"""A model over a volume: what a sample may and may not depend on, and where it lands."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from shared_data import REPOSITORY, shared_path
from tiny_models import tiny_model

from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference import batches
from AmbiguousSegLib.inference import volume_sampling as volume
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.inputs import Inputs, channel_values
from AmbiguousSegLib.volume.io import read_volume

GRID = Geometry((16, 16, 6), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def noise_volume(shape=(6, 16, 16), channels=1, seed=0):
    return np.random.default_rng(seed).random((channels, *shape), dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def reference(model):
    masks = sample_volume(model, noise_volume(), GRID, SampleRequest(4, coherence_mm=0, batch_size=24)).masks
    assert 0.05 < masks.mean() < 0.95
    assert len(np.unique(masks.reshape(24, -1), axis=0)) == 24  # every slice of every sample is its own mask
    return masks


def close(a, b, allowed=2):
    """Equal but for pixels within rounding of the threshold.

    Values of two batches differ by 2e-6 at most, and range over 2: of the 6144 of a comparison 0.01 are expected to
    fall on the other side. On no vector unit one did.
    """
    return np.count_nonzero(a != b) <= allowed


@pytest.mark.parametrize("batch_size", [1, 5, 7])
def test_a_mask_does_not_depend_on_the_batch(model, reference, batch_size):
    request = SampleRequest(4, coherence_mm=0, batch_size=batch_size)
    assert close(sample_volume(model, noise_volume(), GRID, request).masks, reference)


def test_a_mask_does_not_depend_on_the_number_of_samples(model, reference):
    assert close(sample_volume(model, noise_volume(), GRID, SampleRequest(2, coherence_mm=0)).masks, reference[:2])
    more = SampleRequest(2, first_sample=2, coherence_mm=0)
    assert close(sample_volume(model, noise_volume(), GRID, more).masks, reference[2:])


@pytest.mark.parametrize("coherence_mm", [0.0, 6.0, float("inf")])
def test_a_mask_does_not_depend_on_the_slice_range(model, coherence_mm):
    request = SampleRequest(2, coherence_mm=coherence_mm)
    whole = sample_volume(model, noise_volume(), GRID, request).masks
    part = sample_volume(model, noise_volume(), GRID, replace(request, slice_range=(2, 4))).masks
    assert close(part[:, 2:5], whole[:, 2:5])
    assert not part[:, :2].any() and not part[:, 5:].any()


def test_another_seed_gives_other_masks(model, reference):
    other = sample_volume(model, noise_volume(), GRID, SampleRequest(4, seed=1, coherence_mm=0)).masks
    assert np.mean(other != reference) > 0.05


def test_coherent_noise_makes_equal_slices_equal(model):
    """Where all slices show the same image, one choice for the sample makes all its slices the same mask."""
    volume = np.repeat(noise_volume((1, 16, 16)), 6, axis=1)
    coherent = sample_volume(model, volume, GRID, SampleRequest(2)).masks
    assert all(close(coherent[:, z], coherent[:, 0]) for z in range(6))
    assert not close(coherent[0], coherent[1], 20)
    independent = sample_volume(model, volume, GRID, SampleRequest(2, coherence_mm=0)).masks
    assert np.mean(independent[:, 1] != independent[:, 0]) > 0.05


@pytest.mark.parametrize("turn", [((2, 0, 1), (True, False, False)), ((0, 2, 1), (False, True, True))])
def test_a_turned_input_gives_the_masks_turned(model, turn):
    """The same voxels stored in another order, at the same place in the patient."""
    permutation, flips = turn
    upright = GRID.image(noise_volume()[0])
    turned = sitk.Flip(sitk.PermuteAxes(upright, permutation), flips)
    masks = sample_volume(model, noise_volume(), GRID, SampleRequest(2)).masks
    array, geometry = sitk.GetArrayFromImage(turned)[None], Geometry.of(turned)
    got = sample_volume(model, array, geometry, SampleRequest(2)).masks
    for k in range(2):
        back = sitk.DICOMOrient(geometry.image(got[k]), "LPS")
        assert np.array_equal(sitk.GetArrayFromImage(back).astype(bool), masks[k])


def test_an_oblique_volume_gives_the_same_voxels(model):
    angle = np.deg2rad(20)
    c, s = np.cos(angle), np.sin(angle)
    oblique = replace(GRID, direction=(c, -s, 0, s, c, 0, 0, 0, 1.0), origin_mm=(5.0, -7.0, 11.0))
    request = SampleRequest(1)
    straight = sample_volume(model, noise_volume(), GRID, request)
    turned = sample_volume(model, noise_volume(), oblique, request)
    assert np.array_equal(straight.masks, turned.masks)
    assert turned.geometry == oblique


def test_what_differs_from_training_is_told_first_and_kept_and_changes_no_mask(model, reference, caplog):
    known = Inputs.of([channel_values(noise_volume()[0])], GRID, "axial", "CT")
    knowing = replace(model, inputs=known)
    request = SampleRequest(4, coherence_mm=0, batch_size=24)
    fits = sample_volume(knowing, noise_volume(), GRID, request, modality="CT")
    assert fits.provenance["input_warnings"] == [] and not caplog.messages
    assert sample_volume(model, noise_volume(), GRID, SampleRequest(1)).provenance["input_warnings"] == []
    told_before = []
    coarse = replace(GRID, spacing_mm=(1.0, 1.0, 5.0))
    sampled = sample_volume(
        knowing, noise_volume(), coarse, request, lambda _: told_before.append(len(caplog.messages)), modality="MR"
    )
    assert sampled.provenance["input_warnings"] == [
        "This is MR: the model was trained on CT; outlines may be unreliable.",
        "Slices are 5 mm apart: the model was trained on slices 2 mm apart; outlines may be unreliable.",
    ]
    assert caplog.messages == sampled.provenance["input_warnings"] and set(told_before) == {2}
    assert np.array_equal(sampled.masks, reference)


def test_a_region_bounds_what_is_marked():
    model = tiny_model(spacing_mm=1.0)
    region = ((2.6, 3.6, 1.0), (11.4, 12.4, 7.0))  # voxels 3…11, 4…12 and slices of 2 mm: 1…3
    masks = sample_volume(model, noise_volume(), GRID, SampleRequest(3, region=region)).masks
    inside = np.zeros(GRID.shape, bool)
    inside[1:4, 4:13, 3:12] = True
    assert masks[:, inside].any() and not masks[:, ~inside].any()


def test_several_channels_all_matter():
    model = tiny_model(channels=2)
    volume = noise_volume(channels=2)
    whole = sample_volume(model, volume, GRID, SampleRequest(1)).masks
    changed = volume.copy()
    changed[1] = 1 - changed[1]
    assert np.any(sample_volume(model, changed, GRID, SampleRequest(1)).masks != whole)
    with pytest.raises(ValueError, match=r"expects 2 channel"):
        sample_volume(model, volume[:1], GRID, SampleRequest(1))


def test_progress_runs_to_one_and_cancels(model):
    shares = []
    sample_volume(model, noise_volume(), GRID, SampleRequest(2, batch_size=5), shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == 3 * 3  # 12 rows by 5, 3 steps each

    class Cancelled(Exception):
        pass

    def cancel(share):
        if share > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        sample_volume(model, noise_volume(), GRID, SampleRequest(2, batch_size=5), cancel)


@pytest.mark.parametrize(
    ("slices", "free", "rows"), [(20, 10**9, 64), (300, 10**9, 300), (300, 10**4, 80), (20, 50, 1)]
)
def test_a_batch_on_a_gpu_is_one_sample_or_what_the_memory_holds(monkeypatch, slices, free, rows):
    card = {"max_memory_allocated": 300, "memory_allocated": 200, "reset_peak_memory_stats": None}
    for name, value in {**card, "mem_get_info": (free, 10**10)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, value=value: value)
    monkeypatch.setattr(volume, "draw_masks", lambda *_, **__: iter(()))
    on_gpu = SimpleNamespace(device=SimpleNamespace(type="cuda"), method=None, sampling=SamplerSettings())
    prepared = SimpleNamespace(canvas=(64, 64), slice_indices=range(slices), image=None)
    assert volume.fitting_batch_size(on_gpu, prepared) == rows


def test_samples_are_handed_over_as_they_are_finished(model, monkeypatch):
    seen = []
    shares = []

    def keep(number, mask):
        seen.append((number, mask.copy(), shares[-1]))

    request = SampleRequest(3, first_sample=2, batch_size=6)
    done = sample_volume(model, noise_volume(), GRID, request, shares.append, keep)
    assert [(number, share) for number, _, share in seen] == [(2, 1 / 3), (3, 2 / 3), (4, 1.0)]
    assert all(np.array_equal(mask, done.masks[i]) for i, (_, mask, _) in enumerate(seen))
    assert all(mask.dtype == np.uint8 for _, mask, _ in seen)
    # of a volume of which only two slices can be kept, all are finished with the last slice
    monkeypatch.setattr(batches, "KEPT_BYTES", 2 * 16 * 16 * 4)
    seen.clear()
    again = sample_volume(model, noise_volume(), GRID, replace(request, batch_size=2), shares.append, keep)
    assert [(number, share) for number, _, share in seen] == [(2, 7 / 9), (3, 8 / 9), (4, 1.0)]
    assert close(again.masks, done.masks) and all(np.array_equal(m, again.masks[k - 2]) for k, m, _ in seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "number of samples must be at least 1, got 0"),
        ({"seed": -1}, "seed in"),
        ({"coherence_mm": float("nan")}, "coherence_mm"),
        ({"batch_size": 0}, "batch_size"),
        ({"sampler": SamplerSettings("leap")}, "Unknown sampler 'leap'"),
        ({"sampler": SamplerSettings("ddpm", options={"eta": 1.0})}, "no option 'eta'"),
    ],
)
def test_impossible_requests_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SampleRequest(**settings)


def test_a_real_dicom_series_gets_masks_on_its_own_grid(model):
    volume, geometry = read_volume([shared_path("data/ct_head_dicom")])
    request = SampleRequest(1, slice_range=(40, 43))
    bright = replace(model.preprocessing.intensity, low=float(volume.min()), high=float(volume.max()))
    on_ct = replace(model, preprocessing=replace(model.preprocessing, intensity=bright))
    sample_set = sample_volume(on_ct, volume, geometry, request)
    assert sample_set.geometry.size == (64, 64, 93)
    assert np.allclose(sample_set.geometry.spacing_mm, (3.2, 3.2, 1.5), atol=1e-3)
    marked = sample_set.masks[0].any(axis=(1, 2))
    assert marked[40:44].all() and not marked[:40].any() and not marked[44:].any()


PEAK = """
import resource, sys
import numpy as np
sys.path.insert(0, "Testing")
from tiny_models import tiny_model
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.volume.geometry import Geometry
slices = int(sys.argv[1])
volume = np.random.default_rng(0).random((1, slices, 128, 128), dtype=np.float32)
grid = Geometry((128, 128, slices), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
sample_volume(tiny_model(steps=1), volume, grid, SampleRequest(2, batch_size=8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read in kilobytes, as Linux reports it")
def test_memory_grows_only_with_input_and_outputs():
    """From 16 to 512 slices: the input grows by 31 MiB and the masks by 16; a network layer held for all slices
    (8 channels of 16 × 16 in float32) would add 8 MiB each."""

    def peak(slices):
        run = [sys.executable, "-c", PEAK, str(slices)]
        return (
            int(
                subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, check=True, encoding="utf-8").stdout
            )
            / 1024
        )

    assert peak(512) - peak(16) < 31 + 16 + 24

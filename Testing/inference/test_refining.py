"""Refined samples are the samples, refined on the model's pixels: by whichever way they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from process_threads import results_of
from tiny_models import Untrained, UntrainedConfig

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.dense_crf import DenseCRF, refined_label_maps
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.inference import estimate as estimating
from AmbiguousSegLib.inference import refining
from AmbiguousSegLib.inference.case_sampling import sample_cases
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.label_maps import label_map_of
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

REFINE = DenseCRFConfig(w1=6.0, w2=3.0, confidence=0.7)
LABELS = (Label("core"), Label("halo"))


@dataclass(frozen=True)
class BlotsConfig(UntrainedConfig):
    classes: int = 1


class Blots(Untrained):
    """Noise on what is bright, a class each; whatever the batch, the same bits."""

    Config = BlotsConfig

    def sample(self, prepared, noise, settings, on_step=None):
        noisy = noise.normal(0, (self.classes, *prepared[0].shape[-2:]))
        share = 0.5 if self.classes == 1 else 0.4
        return share + 0.4 * (prepared[0][:, :1] - 0.5) + 0.2 * noisy


def model_of(classes=1, spacing_mm=None, point_sigma_mm=None):
    labels = LABELS[:classes]
    preprocessing = Preprocessing(
        ("CT",), "axial", spacing_mm, (16, 16), 4, Intensity("window", 0.0, 1.0), point_sigma_mm
    )
    method = Blots(BlotsConfig(2 if point_sigma_mm else 1, classes)).eval()
    return Model(method, preprocessing, labels=labels, weights_sha256="0" * 64)


def grid(x, y, z, spacing=1.0):
    return Geometry((x, y, z), (spacing, spacing, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def volume_on(geometry):
    z, y, x = np.mgrid[tuple(slice(n) for n in geometry.shape)]
    ball = np.hypot((y - 7) / 5, (x - 8) / 6) + 0.05 * z < 1
    noise = np.random.default_rng(0).standard_normal(geometry.shape)
    return np.clip(0.2 + 0.6 * ball + 0.08 * noise, 0, 1).astype(np.float32)[None]


GRID = grid(16, 16, 5)
VOLUME = volume_on(GRID)


def sample(model, geometry=GRID, volume=VOLUME, samples=4, sharing=None, **settings):
    return sample_volume(model, volume, geometry, SampleRequest(samples, seed=3, **settings), sharing=sharing)


def by_slice(masks, volume, classes=1):
    """Each slice of the masks, refined in it."""
    slices = [refined_label_maps(volume[:, z], masks[:, z], classes, REFINE) for z in range(masks.shape[1])]
    return np.stack(slices, axis=1)


@pytest.mark.parametrize("classes", [1, 2])
def test_on_the_models_own_pixels_each_slice_is_the_class_of_largest_q(classes):
    model = model_of(classes)
    plain, found = sample(model), sample(model, refine=REFINE)
    expected = by_slice(plain.masks, VOLUME, classes)
    assert np.array_equal(found.masks, expected)
    assert 0.01 < (found.masks != plain.masks).mean() < 0.6 and len(np.unique(found.masks)) == classes + 1
    assert found.provenance["refinement"] == {"name": "dense-crf", **vars(REFINE)}
    assert "refinement" not in plain.provenance


def test_on_another_grid_probabilities_go_back_before_a_class_is_chosen():
    """Pixels of 2 mm, model of 1 mm; the image is padded, which speaks for nothing."""
    geometry = grid(9, 7, 2, 2.0)
    volume, model = volume_on(grid(18, 14, 2))[:, :, ::2, ::2], model_of(spacing_mm=1.0)
    found = sample(model, geometry, volume, refine=REFINE)
    prepared = model.preprocessing.prepare(volume, geometry)
    inner = (slice(1, 15), slice(1, 19))  # 14 × 18 in the middle of 16 × 20
    assert prepared.canvas == (16, 20) and prepared.inner == inner
    for z in range(2):
        image = prepared.image(z)
        for k in range(4):
            noise = RowNoise(3, [(z, k)], slice_period=float("inf"))
            value = model.method.sample((image[None],), noise, None)[0]
            mask = label_map_of(value.detach().numpy())[None]
            q = DenseCRF(image[(slice(None), *inner)], REFINE).probabilities(mask[(slice(None), *inner)], 1)
            canvas = torch.zeros(1, 16, 20)
            canvas[(slice(None), *inner)] = q[0, 1:]
            assert np.array_equal(found.masks[k, z], label_map_of(prepared.restore(canvas).numpy()))
    assert found.masks.any()


def test_a_sample_depends_neither_on_the_batch_nor_on_the_others(monkeypatch):
    model = model_of()
    whole = sample(model, refine=REFINE, batch_size=64).masks
    monkeypatch.setattr(refining, "KEPT_BYTES", 0)  # and not on what is kept of the slices
    for batch_size in (1, 3):
        assert np.array_equal(sample(model, refine=REFINE, batch_size=batch_size).masks, whole)
    assert np.array_equal(sample(model, samples=1, first_sample=2, refine=REFINE).masks[0], whole[2])
    assert np.array_equal(sample(model, refine=REFINE, slice_range=(2, 3)).masks[:, 2:4], whole[:, 2:4])


def test_processes_that_share_the_slices_refine_them_as_one_does(tmp_path):
    model, alone = model_of(), sample(model_of(), refine=REFINE)
    for found in results_of(2, tmp_path, lambda sharing: sample(model, refine=REFINE, sharing=sharing)):
        assert np.array_equal(found.masks, alone.masks)
    plain = results_of(2, tmp_path, lambda sharing: sample(model, sharing=sharing))[0]  # beside the refined parts
    assert np.array_equal(plain.masks, sample(model).masks)


def test_around_a_point_samples_are_refined_and_the_point_is_no_part_of_the_picture():
    geometry = grid(30, 28, 5)
    volume = np.zeros((1, *geometry.shape), np.float32)
    volume[0, :, 6:22, 6:22] = VOLUME[0]
    model = model_of(spacing_mm=1.0, point_sigma_mm=3.0)
    request = {"pointing": Pointing((14.0, 14.0, 4.0)), "refine": REFINE}
    found = sample(model, geometry, volume, **request)
    low, high = found.provenance["slice_range"]
    rows = columns = slice(6, 22)
    plain = sample(model, geometry, volume, region=((5.5, 5.5, -1.0), (21.5, 21.5, 9.0)))
    expected = by_slice(plain.masks[:, :, rows, columns], volume[:, :, rows, columns])
    drawn = found.masks[:, low : high + 1, rows, columns]
    assert np.array_equal(drawn[:, 2 - low], expected[:, 2]) and drawn.any()
    kept = drawn.any((2, 3))  # as far as a sample goes on, its masks are those
    assert np.array_equal(drawn[kept], expected[:, low : high + 1][kept])


def test_held_out_cases_are_refined_without_what_was_padded():
    rng = np.random.default_rng(1)
    cases = [(f"case {n}", VOLUME[:, n, :15].copy()) for n in range(3)]
    method = model_of().method
    method.size_multiple = 4
    settings = SamplerSettings()
    plain = sample_cases(method, cases, 3, 7, settings, 4)
    found = sample_cases(method, cases, 3, 7, settings, 4, refine=(REFINE, 1))
    for (_, image), before, after in zip(cases, plain, found):
        assert np.array_equal(after, refined_label_maps(image, before, 1, REFINE))
    with_point = [(name, np.concatenate([image, rng.random(image.shape, np.float32)])) for name, image in cases]
    assert np.array_equal(sample_cases(method, with_point, 3, 7, settings, 4, refine=(REFINE, 1)), found)


def test_refining_is_part_of_the_estimate(monkeypatch):
    """4 samples of 5 slices, 100 s each."""
    model = model_of()
    prepared = estimating.without_voxels(model, GRID, SampleRequest(4))
    assert estimating._time_refining(model, prepared, SampleRequest(4)) == 0
    assert estimating._time_refining(model, prepared, SampleRequest(4, refine=REFINE)) > 0
    ticks = iter(range(0, 10_000, 100))
    monkeypatch.setattr(estimating, "_time_evaluation", lambda *_: (1, 0.0))
    monkeypatch.setattr(estimating, "_time_slice", lambda *_: (0.0, 0.0, 0))
    monkeypatch.setattr(estimating, "perf_counter", lambda: next(ticks))
    assert estimating.estimate(model, GRID, SampleRequest(4, refine=REFINE)).seconds == 4 * 5 * 100
    assert estimating.estimate(model, GRID, SampleRequest(4)).seconds == 0

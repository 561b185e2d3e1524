"""Maps that a method itself predicts: of the network's answer, and where they land on the volume's grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_models import randomised, tiny_model
from torch.nn import functional as F

from AmbiguousSegLib.description import Card
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.methods.segnet import SegNetMethod, SegNetMethodConfig
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.networks.segnet import SegNetConfig
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

GRID = Geometry((16, 16, 4), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
NAME = "logit_deviation"


def segnet_model(spacing_mm: float | None = 1.0, size: int = 16, uncertainty: str = "aleatoric") -> Model:
    network = SegNetConfig(filters=(4, 6), convolutions=(1, 1), norm_groups=2)
    method = randomised(SegNetMethod(SegNetMethodConfig(1, network, uncertainty, dropout_stages=1)))
    preprocessing = Preprocessing(("x",), "axial", spacing_mm, (size, size), 4, Intensity("window", 0.0, 1.0))
    return Model(method, preprocessing, card=Card(name="tiny"), weights_sha256="0" * 64)


def noise_volume(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, *GRID.shape), dtype=np.float32)


def deviation_of(model: Model, planes: np.ndarray) -> np.ndarray:
    """Of slices as the network sees them: float32 ``(S, H, W)``."""
    with torch.no_grad():
        log_variance = model.method.network(torch.from_numpy(planes)[:, None])[:, 1]
    return (log_variance / 2).exp().numpy()


def test_a_map_is_the_networks_answer_slice_by_slice():
    model, volume = segnet_model(), noise_volume()
    found = sample_volume(model, volume, GRID, SampleRequest(2))
    assert set(found.maps) == {NAME} and found.maps[NAME].dtype == np.float32
    np.testing.assert_allclose(found.maps[NAME], deviation_of(model, volume[0]), rtol=1e-5)
    assert found.maps[NAME].std() > 0.1


def test_it_is_brought_to_the_volumes_grid_as_values_are():
    """Every slice stretched to 8 × 8 pixels and back: linear, antialiased on the way there."""
    model, volume = segnet_model(None, 8), noise_volume()
    small = F.interpolate(torch.from_numpy(volume), (8, 8), mode="bilinear", antialias=True)[0]
    answer = torch.from_numpy(deviation_of(model, small.clamp(0, 1).numpy()))
    expected = F.interpolate(answer[None], (16, 16), mode="bilinear")[0].numpy()
    found = sample_volume(model, volume, GRID, SampleRequest(1)).maps[NAME]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_only_what_was_sampled_has_values():
    model, volume = segnet_model(), noise_volume()
    part = sample_volume(model, volume, GRID, SampleRequest(1, slice_range=(1, 2))).maps[NAME]
    np.testing.assert_allclose(part[1:3], deviation_of(model, volume[0, 1:3]), rtol=1e-5)
    assert not part[0].any() and not part[3].any()
    region = ((3.6, 2.6, 1.0), (12.4, 11.4, 5.0))
    inside = np.zeros(GRID.shape, bool)
    inside[1:3, 3:12, 4:13] = True
    boxed = sample_volume(model, volume, GRID, SampleRequest(1, region=region)).maps[NAME]
    assert np.array_equal(boxed > 0, inside)


def test_around_a_point_it_has_values_where_it_was_looked():
    small, volume = segnet_model(1.0, 8), noise_volume()
    found = sample_volume(small, volume, GRID, SampleRequest(1, pointing=Pointing((8.0, 8.0, 2.0))))
    first, last = found.provenance["window"]["slices"]
    there = found.maps[NAME] > 0
    assert there.any((1, 2)).tolist() == [first <= z <= last for z in range(4)]
    assert (there.sum((1, 2))[first : last + 1] == 64).all()


def test_a_turned_volume_gives_the_map_turned():
    model, upright = segnet_model(), GRID.image(noise_volume()[0])
    turned = sitk.Flip(sitk.PermuteAxes(upright, (2, 0, 1)), (True, False, False))
    array, geometry = sitk.GetArrayFromImage(turned)[None], Geometry.of(turned)
    got = sample_volume(model, array, geometry, SampleRequest(1)).maps[NAME]
    back = sitk.GetArrayFromImage(sitk.DICOMOrient(geometry.image(got), "LPS"))
    np.testing.assert_allclose(back, deviation_of(model, noise_volume()[0]), rtol=1e-5)


@pytest.mark.parametrize("model", [segnet_model(uncertainty="dropout"), segnet_model(uncertainty="none"), tiny_model()])
def test_others_have_none_and_compute_nothing_for_it(model, monkeypatch):
    def none(*_):
        raise AssertionError("computed for nothing")

    monkeypatch.setattr("AmbiguousSegLib.inference.own_maps.prepare_slices", none)
    assert sample_volume(model, noise_volume(), GRID, SampleRequest(1)).maps == {}


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({}, "got nothing"),
        ({NAME: torch.zeros(1, 4, 4)}, r"got shape \(1, 4, 4\)"),
        ({NAME: torch.full((1, 16, 16), torch.nan)}, r"finite numbers of shape \(1, 16, 16\)"),
    ],
)
def test_what_is_no_map_is_refused(given, got, monkeypatch):
    monkeypatch.setattr(SegNetMethod, "own_maps", lambda self, prepared: given)
    with pytest.raises(ValueError, match=f"own_maps of the method segnet must give {NAME}.*{got}.*on slice 0"):
        sample_volume(segnet_model(), noise_volume(), GRID, SampleRequest(1))


def test_maps_of_another_grid_are_no_part_of_a_sample_set():
    found = sample_volume(segnet_model(), noise_volume(), GRID, SampleRequest(1))
    for wrong in (found.maps[NAME][1:], found.maps[NAME].astype(float)):
        with pytest.raises(ValueError, match=r"maps must be float32 \(4, 16, 16\) \(Z, Y, X\), got .* for logit_dev"):
            replace(found, maps={NAME: wrong})

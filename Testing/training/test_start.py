"""What a run takes from the model that it goes on from, and what it must not change."""

from dataclasses import replace

import pytest

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.training.start import check_start, config_from
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

NETWORK = {"image_channels": 2, "unet": {"filters": [4, 4], "convolutions": 1}, "rank": 2}


@pytest.fixture
def model():
    """A network of CT and a point, as ``lung-nodule`` is."""
    window = Intensity("window", -1000.0, 400.0)
    slices = Preprocessing(("CT",), "axial", 0.7, (16, 16), 2, window, point_sigma_mm=3.0)
    return Model(build_method("ssn", NETWORK), slices)


def config(model: Model, **changes) -> TrainingConfig:
    """The one that follows from the model, changed."""
    own = config_from(model)
    own["dataset"] = {**own["dataset"], "kind": "folder", **changes.pop("dataset", {})}
    own["method_config"] = {**own["method_config"], **changes}
    return from_dict(TrainingConfig, own, "")


def test_a_model_that_is_told_of_a_point_trains_on_with_one(model):
    found = config(model)
    assert found.dataset.point.sigma_mm == 3.0
    assert found.dataset.preprocessing(2) == model.preprocessing
    check_start(found, model)


def test_how_it_is_trained_and_sampled_may_change(model):
    changed = config(model, loss="energy", loss_samples=8, strict_empty=True, temperature=0.5, single_weight=0.0)
    check_start(changed, model)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rank": 3}, "method_config.rank = 2, this run has 3"),
        ({"diagonal": False}, "method_config.diagonal = True, this run has False"),
        ({"dataset": {"point": {"sigma_mm": 5.0}}}, r"dataset.point.sigma_mm = 3.0, this run has 5.0"),
        ({"dataset": {"point": None}}, r"dataset.point.sigma_mm = 3.0, this run has None"),
        ({"dataset": {"spacing_mm": 1.0}}, "dataset.spacing_mm = 0.7, this run has 1.0"),
    ],
)
def test_network_and_slices_may_not(model, changes, named):
    with pytest.raises(ValueError, match=named):
        check_start(config(model, **changes), model)


def test_a_model_that_is_told_of_none_trains_on_without_one(model):
    plain = replace(
        model,
        method=build_method("ssn", {**NETWORK, "image_channels": 1}),
        preprocessing=replace(model.preprocessing, point_sigma_mm=None),
    )
    assert config(plain).dataset.point is None
    check_start(config(plain), plain)

"""Short runs on real images with real raters: the loss falls, and the model that is kept loads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shared_data import shared_path
from tiny_training import log_of, make_trainer, tiny_config

from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.model import load_model
from AmbiguousSegLib.training.dataset import batches, open_data

pytestmark = pytest.mark.slow
UPDATES, ROWS, SIDE = 30, 8, 32
SETTINGS = {
    "dataset.size": [SIDE, SIDE],
    "method_config.unet.image_size": SIDE,
    "optimisation.images": UPDATES * ROWS,
    "optimisation.batch_size": ROWS,
    "optimisation.learning_rate": 3e-3,
}
DATA = {
    "data/lidc_crops": {"dataset.channels": ["CT"]},
    "data/bu_bil": {"augmentation": {"flip": True, "rotate_degrees": 15.0}},
}


@pytest.fixture(params=list(DATA))
def data(request):
    return shared_path(request.param), DATA[request.param]


@pytest.mark.parametrize("method", ["cimd", "probabilistic_unet"])
def test_a_short_run(data, method, tmp_path):
    folder, settings = data
    changes = SETTINGS | settings
    if method == "probabilistic_unet":
        del changes["method_config.unet.image_size"]
    trainer = make_trainer(tiny_config(changes, method), folder, tmp_path)
    # The same rows, with the same noise, at every update: what falls is the loss and not luck.
    batch = next(batches(trainer.source, trainer.config, 0))
    step = trainer._step
    trainer._step = lambda *_: step(*batch)
    assert trainer.run()

    losses = np.array([entry["loss"] for entry in log_of(tmp_path, "loss")])
    assert len(losses) == UPDATES and np.isfinite(losses).all()
    assert losses[-5:].mean() < 0.85 * losses[:5].mean()
    figures = log_of(tmp_path, "validation")[-1]["validation"]
    assert 0 <= figures["ged_v"] <= 2 and figures["distance_raters"] > 0

    model = load_model(tmp_path / "model")
    assert model.card.training["images_seen"] == UPDATES * ROWS
    averaged = trainer.ema.module.state_dict()
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in model.method.state_dict().items())
    case = trainer.held_out[0]
    arguments = (case.identity, case.image, 2, 0, SamplerSettings("ddim", 2), 2)
    np.testing.assert_array_equal(sample_case(model.method, *arguments), sample_case(trainer.ema.module, *arguments))


def test_every_real_case_becomes_an_item(data):
    folder, settings = data
    config = tiny_config(SETTINGS | settings | {"dataset.validation_fraction": 0.05, "dataset.test_fraction": 0.0})
    source = open_data(config, folder).source
    assert len(source.slices) > 15
    for one in source.slices:
        image, masks = source.store.load(one.case, one.number)
        assert image.shape == (1, SIDE, SIDE) and 0 <= image.min() < image.max() <= 1
        assert masks.shape == (len(one.case.rater_names), SIDE, SIDE) and masks.dtype == np.uint8
        assert len(masks) >= 4

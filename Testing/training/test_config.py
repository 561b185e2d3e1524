"""A training configuration refuses what makes no sense, by the name of its key."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tiny_training import BUSY, tiny_config

from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.training.config import TrainingConfig

NAN = float("nan")


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("dataset", "kind", "dicom", "one of auto, "),
        ("dataset", "size", (0, 16), "two integers from 1 to 16384"),
        ("dataset", "size", (16, 20_000), "two integers from 1 to 16384"),
        ("dataset", "channels", (), "at least one name"),
        ("dataset", "spacing_mm", 0.0, "positive, or null"),
        ("dataset", "spacing_mm", NAN, "positive, or null"),
        ("dataset", "target", "union", "one of random_rater, mean"),
        ("dataset", "subject_pattern", "case(", "a regular expression"),
        ("dataset", "phantom_seed", -1, "0 or more"),
        ("dataset", "workers", 65, "0 to 64"),
        ("optimisation", "images", 0, "at least 1"),
        ("optimisation", "batch_size", 0, "at least 1"),
        ("optimisation", "microbatch", 0, "at least 1, or null"),
        ("optimisation", "learning_rate", 0.0, "positive"),
        ("optimisation", "learning_rate", NAN, "positive"),
        ("optimisation", "schedule", "linear", "one of constant, cosine"),
        ("optimisation", "warmup_images", -1, "0 or more"),
        ("optimisation", "weight_decay", -0.1, "0 or more"),
        ("optimisation", "gradient_clip", 0.0, "positive, or null"),
        ("optimisation", "ema_decay", 1.0, r"in \[0, 1\)"),
        ("optimisation", "ema_decay", -0.1, r"in \[0, 1\)"),
        ("optimisation", "precision", "float16", "one of auto, float32, bfloat16"),
        ("validation", "every_images", 0, "at least 1"),
        ("validation", "cases", 0, "at least 1, or null"),
        ("validation", "samples", 1, "at least 2"),
        ("validation", "raters", 0, "at least 1"),
        ("validation", "estimator", "w", "'v' or 'u'"),
        ("augmentation", "rotate_degrees", -1.0, "0 or more"),
        ("augmentation", "scale", -0.1, "0 or more"),
        ("augmentation", "translate", -0.1, "0 or more"),
        ("augmentation", "gain", -0.1, "0 or more"),
        ("augmentation", "offset", -0.1, "0 or more"),
        ("augmentation", "offset", NAN, "0 or more"),
        ("augmentation", "dark_corners", 1.5, r"in \[0, 1\]"),
        ("augmentation", "dark_corners", NAN, r"in \[0, 1\]"),
    ],
)
def test_out_of_range_names_the_key(section, key, value, expected):
    owner = getattr(TrainingConfig(), section)
    with pytest.raises(ValueError, match=rf"{type(owner).__name__}\.{key} must be .*{expected}.*, got") as error:
        dataclasses.replace(owner, **{key: value})
    assert repr(value) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("key", "value"), [("checkpoint_every_images", 0), ("seed", -1), ("seed", 2**63)])
def test_out_of_range_at_the_top_names_the_key(key, value):
    with pytest.raises(ValueError, match=rf"TrainingConfig\.{key} must be .*, got {value}"):
        TrainingConfig(**{key: value})


def test_the_limits_themselves_are_allowed():
    tiny_config({"seed": 2**63 - 1, "optimisation.ema_decay": 0, "validation.samples": 2, "optimisation.images": 1})
    tiny_config({"optimisation.gradient_clip": None, "optimisation.microbatch": None, "validation.cases": None})


def test_the_default_changes_nothing_about_the_images():
    assert set(vars(TrainingConfig().augmentation).values()) == {0}


@pytest.mark.parametrize("changes", [{}, BUSY, {"dataset.intensity": {"rule": "minmax"}, "dataset.spacing_mm": 2}])
def test_a_configuration_survives_json(changes):
    config = tiny_config(changes)
    assert from_dict(TrainingConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().dataset.kind = "phantom"

"""What a training run leaves behind: the model, with a card that says how it came about."""

from __future__ import annotations

import math

from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.description import Card
from AmbiguousSegLib.methods import Method
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.training.config import TrainingConfig
from AmbiguousSegLib.volume.inputs import Inputs


def trained_model(
    method: Method, config: TrainingConfig, images: int, figures: dict[str, float], cases: int, inputs: Inputs
) -> Model:
    """A model of these weights.

    Args:
        images: seen in training.
        figures: of the validation; nan: undefined.
        cases: that it was validated on; 0: none.
        inputs: what the images were like that it was trained on.

    Raises:
        ValueError: settings of the data that do not fit the method.
    """
    card, validation = config.card, config.validation
    protocol = "none: no case was left to validate on; the averaged weights of the end"
    if cases:
        protocol = f"validation: {cases} cases, {validation.samples} samples each, averaged weights"
        protocol += f"; {config.sampling.in_words(method.sampler_family)}" if method.samples_by_steps else ""
    training = {
        "data": card.training_data,
        "licence": card.licence,
        "images_seen": images,
        "configuration": to_dict(config),
    }
    return Model(
        method,
        config.dataset.preprocessing(method.size_multiple),
        config.sampling,
        Card(card.name, card.description, training=training, metrics={"protocol": protocol, **plain(figures)}),
        config.labels,
        inputs=inputs,
    )


def plain(figures: dict[str, float]) -> dict[str, float | None]:
    """Figures as JSON knows them: undefined is null."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}

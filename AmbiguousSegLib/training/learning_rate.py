"""How the learning rate changes over a run."""

from __future__ import annotations

import math

from AmbiguousSegLib.training.config import OptimisationConfig


def learning_rate(settings: OptimisationConfig, images: int) -> float:
    """Learning rate after ``images``: linear warm-up, then constant or half a cosine down to 0."""
    warm = min(1.0, (images + settings.batch_size) / settings.warmup_images) if settings.warmup_images else 1.0
    if settings.schedule == "constant":
        return settings.learning_rate * warm
    return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, images / settings.images)))

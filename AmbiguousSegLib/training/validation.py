"""How well held-out cases are reproduced."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from AmbiguousSegLib.data.evaluation_cases import EvaluationCase
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.case_sampling import sample_case
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.methods import Method
from AmbiguousSegLib.metrics.figures import compare
from AmbiguousSegLib.plotting.pictures import ensemble_row, sheet

_PICTURE_CASES, _PICTURE_RATERS, _PICTURE_SAMPLES = 6, 4, 8


@dataclass(frozen=True)
class ScoredCase:
    """A case, masks sampled for it, uint8 label maps ``(N, H, W)``, and their figures by key (nan: undefined)."""

    case: EvaluationCase
    masks: np.ndarray
    figures: dict[str, float]


def score(
    method: Method, cases: Sequence[EvaluationCase], samples: int, seed: int, settings: SamplerSettings, batch_size: int
) -> list[ScoredCase]:
    """Sample each case and hold the masks against its raters', all classes together; arguments as ``sample_case``."""
    scored = []
    for case in cases:
        masks = sample_case(method, case.identity, case.image, samples, seed, settings, batch_size)
        scored.append(ScoredCase(case, masks, compare(masks, case.masks, classes=method.classes)))
    return scored


def try_out(method: Method, case: EvaluationCase, settings: SamplerSettings) -> None:
    """The first step of sampling a case, to learn whether it can be taken; ValueError as ``sample_case``."""
    with contextlib.suppress(_EnoughSeenError):
        sample_case(method, case.identity, case.image, 1, 0, settings, 1, _enough)


class _EnoughSeenError(Exception):
    """Ends a sampling whose result nobody wants."""


def _enough(rows: int, step: int, total: int) -> None:
    raise _EnoughSeenError


def contact_sheet(scored: Sequence[ScoredCase], labels: Sequence[Label]) -> np.ndarray:
    """Image, raters, samples and mean of the first cases: RGB uint8 ``(H, W, 3)``."""
    return sheet(
        [
            ensemble_row(s.case.image, s.case.masks, s.masks, _PICTURE_RATERS, _PICTURE_SAMPLES, labels)
            for s in scored[:_PICTURE_CASES]
        ]
    )

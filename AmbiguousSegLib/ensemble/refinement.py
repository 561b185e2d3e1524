"""What samples may be refined by once they are drawn: plain settings, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from AmbiguousSegLib.configuration import check_field, from_dict, to_dict

DENSE_CRF = "dense-crf"
REFINEMENTS = (DENSE_CRF,)
EXACT, FILTERED = "exact", "filtered"
MOST_EXACT_PIXELS = 4096  # their pairs take 134 MB
MOST_WEIGHT, MOST_ITERATIONS = 1000.0, 1000  # 50 and 20 are strong
LEAST_WIDTH, MOST_WIDTH = 0.001, 10_000.0  # their squares, and what is divided by them, stay finite


@dataclass(frozen=True)
class DenseCRFConfig:
    """The fully connected CRF of ``ensemble.dense_crf``, of images in [0, 1] and label maps.

    Widths are those of Gaussians. A weight is about what a pixel gains in log-probability for a class if all that it
    looks at has this class, and nothing of it another: kernels are normalised, so that the size of the image does not
    change that. A pixel's own share is left out, and so it gains less where it is much of what it looks at: of w2 = 1
    with θ_γ = 2 0.96, with 1 0.84, with 0.5 0.38; less at the image's border, and of w1 nothing if nothing near is
    like it. DiffSeg (section 3.3) gives no number of these; the defaults were chosen on nodules and phantoms
    (``Testing/Benchmarks/dense_crf.md``).

    Attributes:
        w1: weight of the appearance kernel, 0 or more: near pixels of like intensity have one class.
        theta_alpha: its width in space, in pixels of the model's image.
        theta_beta: its width in intensity, in units of the prepared image, whose channels lie in [0, 1].
        w2: weight of the smoothness kernel, 0 or more: near pixels have one class.
        theta_gamma: its width, in pixels of the model's image.
        iterations: updates of all pixels at once.
        confidence: probability that a sample's mask stands for, in (1/2, 1): of its own class in each pixel; the
            others share the rest.
        method: "filtered", or "exact" over all pairs of pixels, for images of at most ``MOST_EXACT_PIXELS``.
    """

    w1: float = 1.25
    theta_alpha: float = 3.0
    theta_beta: float = 0.1
    w2: float = 1.25
    theta_gamma: float = 1.0
    iterations: int = 5
    confidence: float = 0.7
    method: str = FILTERED

    def __post_init__(self) -> None:
        for key in ("w1", "w2"):
            check_field(self, 0 <= getattr(self, key) <= MOST_WEIGHT, key, f"0 or more, at most {MOST_WEIGHT:g}")
        for key in ("theta_alpha", "theta_beta", "theta_gamma"):
            within = LEAST_WIDTH <= getattr(self, key) <= MOST_WIDTH
            check_field(self, within, key, f"positive, from {LEAST_WIDTH:g} to {MOST_WIDTH:g}")
        check_field(
            self, 1 <= self.iterations <= MOST_ITERATIONS, "iterations", f"1 or more, at most {MOST_ITERATIONS}"
        )
        check_field(self, 0.5 < self.confidence < 1, "confidence", "between 0.5 and 1, both left out")
        check_field(self, self.method in (EXACT, FILTERED), "method", f"{EXACT} or {FILTERED}")

    def in_json(self) -> dict[str, Any]:
        """For the provenance of samples: its name and every setting."""
        return {"name": DENSE_CRF, **to_dict(self)}


def refinement_in_words(told: Mapping[str, Any]) -> str:
    """For the notes of a table; ``told``: as ``DenseCRFConfig.in_json``."""
    return "refined, each sample by itself: " + ", ".join(f"{key} {value}" for key, value in told.items())


def refinement_of(name: str | None, options: Mapping[str, Any]) -> DenseCRFConfig | None:
    """What a command line asks for by its name and options; None: nothing.

    Args:
        options: fields of ``DenseCRFConfig``; whole numbers may be floats.

    Raises:
        ValueError: a name that there is not, options without a name, or as ``DenseCRFConfig``.
    """
    if name is None:
        if options:
            raise ValueError(f"The option {next(iter(options))} belongs to a refinement; name one: {DENSE_CRF}.")
        return None
    if name not in REFINEMENTS:
        raise ValueError(f"There is no refinement {name!r}; known: {', '.join(REFINEMENTS)}.")
    whole = {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in options.items()}
    return from_dict(DenseCRFConfig, whole, "refinement")

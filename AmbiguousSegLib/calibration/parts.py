"""What a calibrated model says of its samples, as ``model.json`` holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from AmbiguousSegLib.calibration.logistic import Logistic
from AmbiguousSegLib.configuration import check_field
from AmbiguousSegLib.diffusion.settings import SamplerSettings

LEVELS = (0.8, 0.95)


@dataclass(frozen=True)
class AreaFactor:
    """An interval of the area that a reader outlines: by how much the samples' spread is widened, see ``log_area``.

    Attributes:
        level: share of the outlines of new patients that it covers, on average over calibration sets, in (0, 1). One
            set of 862 outlines gives about ± .04 of it; less than it where the model was chosen on the same cases.
        factor: of the scale of the samples' log areas, 0 or more; None: there were too few outlines for this level.
        plain: by what the samples' own interval of this level would have to be widened about its median to cover as
            much; None: no factor does. Kept for comparison, see ``plain_interval``.
    """

    level: float
    factor: float | None
    plain: float | None = None

    def __post_init__(self) -> None:
        check_field(self, 0 < self.level < 1, "level", "in (0, 1)")
        for key in ("factor", "plain"):
            value = getattr(self, key)
            check_field(self, value is None or value >= 0, key, "0 or more, or null")


@dataclass(frozen=True)
class OfSamples:
    """What holds for one number of samples.

    Attributes:
        samples: N, at least 1.
        mean_map: from how many samples mark a pixel to the share of readers who do.
        no_outline: from how many samples are empty to the share of readers who outline nothing.
        areas: intervals, by rising level.
    """

    samples: int
    mean_map: Logistic
    no_outline: Logistic
    areas: tuple[AreaFactor, ...]

    def __post_init__(self) -> None:
        check_field(self, self.samples >= 1, "samples", "1 or more")


@dataclass(frozen=True)
class Calibration:
    """Of one model with one sampler, fitted on cases that it was not trained on.

    Attributes:
        sampling: the sampler it holds for; None: the method draws in one pass. Then it goes with the model's
            ``method_config`` as it is stored, an SSN's temperature among it: whoever changes that calibrates again.
        data: what it was fitted on, for people.
        cases, patients: how many.
        readers, outlines: statements of readers over all cases, and how many of them outlined something.
        of_samples: for each number of samples it was fitted for, rising.
    """

    sampling: SamplerSettings | None
    data: str
    cases: int
    patients: int
    readers: int
    outlines: int
    of_samples: tuple[OfSamples, ...]

    def __post_init__(self) -> None:
        numbers = [entry.samples for entry in self.of_samples]
        check_field(self, numbers == sorted(set(numbers)) and bool(numbers), "of_samples", "of rising numbers")

    def for_samples(self, samples: int) -> OfSamples | None:
        """What holds for the first of so many samples: that of the greatest number not above it; None: of none."""
        fitting = [entry for entry in self.of_samples if entry.samples <= samples]
        return fitting[-1] if fitting else None


def calibration_of(calibrations: Sequence[Calibration], sampling: SamplerSettings | None) -> Calibration | None:
    """The one that was fitted with this sampler; None if there is none.

    That the samples are of the window it was fitted in, the model's field of view, is for the caller to see to.
    """
    return next((one for one in calibrations if one.sampling == sampling), None)


def with_calibration(calibrations: Sequence[Calibration], new: Calibration) -> tuple[Calibration, ...]:
    """All of them and a new one, in place of an earlier one of its sampler."""
    return (*(one for one in calibrations if one.sampling != new.sampling), new)

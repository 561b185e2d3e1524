"""What a model is trained on: the settings of its data."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from AmbiguousSegLib.configuration import check_field
from AmbiguousSegLib.data.pointing import PointConfig
from AmbiguousSegLib.data.readers import AUTO, READERS
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

PHANTOM = "phantom"
EIGHT_BIT = Intensity("full_scale", high=255.0)
MOST_PIXELS = 16_384  # along a side of what the network sees
MOST_WORKERS = 64  # each is a process that holds the libraries and a cache of its own
MOST_RATERS = 64  # of one item: each is a mask more in memory
TARGETS = ("random_rater", "mean")


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes:
        kind: name of a reader, see ``data.readers``; "auto": the one that recognises the data; or "phantom" (generated,
            endless).
        size, channels, spacing_mm, plane, intensity: how slices are made, in training and by the model alike: the
            fields of ``Preprocessing``, see there. Pictures do not know their pixels: with ``spacing_mm``, a picture at
            ``size`` is taken to have that spacing. Of larger slices, patches of ``size`` are trained on.
        target: "random_rater": each item is one rater's mask, drawn anew each time; "mean": the mean of all masks
            (DDPM-det-Seg of the CIMD paper).
        raters: masks of each item that a method sees together, "random_rater" each; of different raters, as far as a
            case has so many, and otherwise as evenly shared among them as can be.
        subject_pattern: regular expression with one group that finds the subject in a case's identity.
        split_file: JSON file of the split, or the name of a bundled one; otherwise subjects are split by fraction.
        validation_fraction, test_fraction, split_seed: the split by fraction.
        empty_share: share of items from slices that nobody marked; None: each slice as often as any other.
        leave_out: how many slices are left out at the start and at the end of each volume, counted as
            ``Preprocessing.prepare`` counts; a volume's intensities are those of the whole all the same.
        shift: how far from the middle of a patch the marked place lies that it was cut around: uniform in ± this share
            of the side, each axis on its own. For slices larger than ``size``.
        point: how places are drawn that somebody might point at, for a model that is told where; it reads one channel
            more than ``channels`` (method_config.image_channels). None: it is not told. Not for the phantom.
        phantom_seed: first number of the phantom's cases; held-out cases use the next seeds.
        workers: processes that prepare items; they change nothing but the speed.
        cache_mb: MB of prepared slices that each process keeps.
    """

    kind: str = AUTO
    size: tuple[int, int] = (128, 128)
    channels: tuple[str, ...] = ("image",)
    spacing_mm: float | None = None
    plane: str = "stored"
    intensity: Intensity | tuple[Intensity, ...] = EIGHT_BIT
    target: str = "random_rater"
    raters: int = 1
    subject_pattern: str | None = None
    split_file: str | None = None
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    split_seed: int = 0
    empty_share: float | None = None
    leave_out: tuple[int, int] = (0, 0)
    shift: float = 0.25
    point: PointConfig | None = None
    phantom_seed: int = 0
    workers: int = 0
    cache_mb: int = 512

    def __post_init__(self) -> None:
        kinds = (AUTO, *READERS, PHANTOM)
        check_field(self, self.kind in kinds, "kind", f"one of {', '.join(kinds)}")
        check_field(self, self.target in TARGETS, "target", f"one of {', '.join(TARGETS)}")
        check_field(self, 1 <= self.raters <= MOST_RATERS, "raters", f"1 to {MOST_RATERS}")
        check_field(self, self.raters == 1 or self.target != "mean", "raters", "1 where target is mean")
        check_field(
            self, 1 <= min(self.size) <= max(self.size) <= MOST_PIXELS, "size", f"two integers from 1 to {MOST_PIXELS}"
        )
        check_field(self, len(self.channels) >= 1, "channels", "a list of at least one name")
        positive = self.spacing_mm is None or 0 < self.spacing_mm < math.inf
        check_field(self, positive, "spacing_mm", "positive, or null")
        check_field(self, _is_pattern(self.subject_pattern), "subject_pattern", "a regular expression, or null")
        check_field(self, self.phantom_seed >= 0, "phantom_seed", "0 or more")
        check_field(self, self.empty_share is None or 0 <= self.empty_share < 1, "empty_share", "in [0, 1), or null")
        check_field(self, min(self.leave_out) >= 0, "leave_out", "two numbers of slices, each 0 or more")
        check_field(self, 0 <= self.shift <= 0.5, "shift", "in [0, 0.5]")
        check_field(self, 0 <= self.workers <= MOST_WORKERS, "workers", f"0 to {MOST_WORKERS}")
        check_field(self, self.cache_mb >= 0, "cache_mb", "0 or more")
        check_field(self, self.point is None or self.kind != PHANTOM, "point", "null where kind is phantom")
        self.preprocessing()  # refuses what does not go together

    def preprocessing(self, size_multiple: int = 1) -> Preprocessing:
        """How slices are made, for a network that needs sides that are multiples of ``size_multiple``.

        Raises:
            ValueError: as ``Preprocessing``; the keys are named as they are here.
        """
        try:
            sigma_mm = None if self.point is None else self.point.sigma_mm
            slices = (self.channels, self.plane, self.spacing_mm, self.size, size_multiple, self.intensity)
            return Preprocessing(*slices, point_sigma_mm=sigma_mm)
        except ValueError as error:
            raise ValueError(str(error).replace("Preprocessing.", "dataset.")) from error

    @property
    def field_mm(self) -> tuple[float, float] | None:
        """Height and width in mm of what is seen at ``size``, as pictures are told; None without ``spacing_mm``."""
        return None if self.spacing_mm is None else (self.spacing_mm * self.size[0], self.spacing_mm * self.size[1])

    @property
    def phantom_spacing_mm(self) -> float:
        """Pixel size of phantom cases: the one asked for, or what makes the field 64 mm high."""
        return 64 / self.size[0] if self.spacing_mm is None else self.spacing_mm


def _is_pattern(text: str | None) -> bool:
    try:
        re.compile(text or "")
    except re.error:
        return False
    return True

"""What a model is trained on: the settings of its data."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from AmbiguousSegLib.configuration import check_field
from AmbiguousSegLib.data.readers import READERS
from AmbiguousSegLib.volume.preprocessing import Intensity

PHANTOM = "phantom"
EIGHT_BIT = Intensity("full_scale", high=255.0)
TARGETS = ("random_rater", "mean")


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes:
        kind: name of a reader of folders, see ``data.readers``, or "phantom" (generated, endless).
        size: height and width that cases are brought to.
        channels: name of each image channel, as users will see them.
        spacing_mm: pixel spacing of the training images at ``size``, or None if they have none in common; then a
            region of a volume is resized to ``size`` as a whole when sampling.
        plane: orientation of the slices: "axial", "coronal", "sagittal" or "stored".
        intensity: how values of a volume become the [0, 1] of the training images when sampling: for images that were
            cut from CT by a window, that window in HU; for images used as they are, their full scale.
        target: "random_rater": each item is one rater's mask, drawn anew each time; "mean": the mean of all masks
            (DDPM-det-Seg of the CIMD paper).
        subject_pattern: regular expression with one group that finds the subject in a case's identity.
        split_file: JSON file of the split; otherwise subjects are split by fraction.
        validation_fraction, test_fraction, split_seed: the split by fraction.
        phantom_seed: first number of the phantom's cases; held-out cases use the next seeds.
        workers: processes that prepare items; they change nothing but the speed.
    """

    kind: str = "folder"
    size: tuple[int, int] = (128, 128)
    channels: tuple[str, ...] = ("image",)
    spacing_mm: float | None = None
    plane: str = "stored"
    intensity: Intensity = EIGHT_BIT
    target: str = "random_rater"
    subject_pattern: str | None = None
    split_file: str | None = None
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    split_seed: int = 0
    phantom_seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        kinds = (*READERS, PHANTOM)
        check_field(self, self.kind in kinds, "kind", f"one of {', '.join(kinds)}")
        check_field(self, self.target in TARGETS, "target", f"one of {', '.join(TARGETS)}")
        check_field(self, min(self.size) >= 1, "size", "two positive integers")
        check_field(self, len(self.channels) >= 1, "channels", "a list of at least one name")
        positive = self.spacing_mm is None or 0 < self.spacing_mm < math.inf
        check_field(self, positive, "spacing_mm", "positive, or null")
        check_field(self, _is_pattern(self.subject_pattern), "subject_pattern", "a regular expression, or null")
        check_field(self, self.phantom_seed >= 0, "phantom_seed", "0 or more")
        check_field(self, self.workers >= 0, "workers", "0 or more")

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

"""The published systems whose checkpoints can be imported, and what their files do not tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.volume.preprocessing import Intensity


@dataclass(frozen=True)
class Kind:
    """What a published system fixes and its checkpoints do not tell.

    Attributes:
        source: the work it belongs to.
        image_size: side of the training images in pixels.
        slice_size: side of the slices it was given; larger or smaller ones are resized or padded to it.
        num_heads: attention heads.
        mask_levels: values of background and lesion.
        grey_copies: whether an input of four image channels is taken for one grey image copied.
        channels: names of the image channels, where they are known.
        plane, spacing_mm, intensity: see ``Preprocessing``.
    """

    source: str
    image_size: int
    slice_size: int
    num_heads: int
    mask_levels: tuple[float, float]
    grey_copies: bool
    channels: tuple[str, ...]
    plane: str
    spacing_mm: float | None
    intensity: Intensity


KINDS = {
    # 8-bit images of axial CT crops, whose pixel spacing is not published.
    "cimd": Kind(
        "Rahman et al., Ambiguous Medical Image Segmentation using Diffusion Models, CVPR 2023",
        image_size=128, slice_size=128, num_heads=1, mask_levels=(0.0, 1.0), grey_copies=True,
        channels=("image",), plane="axial", spacing_mm=None, intensity=Intensity("full_scale", high=255.0),
    ),
    # BraTS 2020: axial slices of 1 mm, 240 × 240 cut to 224, outer percentiles cut off; channels as its loader stacks.
    "implicit-ensemble": Kind(
        "Wolleb et al., Diffusion Models for Implicit Image Segmentation Ensembles, arXiv:2112.03145",
        image_size=256, slice_size=224, num_heads=1, mask_levels=(0.0, 1.0), grey_copies=False,
        channels=("T1", "T1ce", "T2", "FLAIR"), plane="axial", spacing_mm=1.0,
        intensity=Intensity("percentile", low=1.0, high=99.0),
    ),
    # Its defaults for whoever trained it on image and mask together; it scales what it generates to [−1, 1].
    "improved-diffusion": Kind(
        "Nichol & Dhariwal, Improved Denoising Diffusion Probabilistic Models, ICML 2021",
        image_size=64, slice_size=64, num_heads=4, mask_levels=(-1.0, 1.0), grey_copies=False,
        channels=("image",), plane="stored", spacing_mm=None, intensity=Intensity("full_scale", high=255.0),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class ImportOptions:
    """How to read a checkpoint; None: as published for its kind.

    Attributes:
        kind: key of ``KINDS``.
        image_channels: channels that images will have: 1 folds copies of a grey image into one channel.
        channels: their names, in order.
        schedule, prediction: what the diffusion was trained with.
        name: of the model; None: that of the file.
        label: name of what the masks show.
        image_size, num_heads, mask_levels, plane, spacing_mm, intensity: see ``Kind``.
    """

    kind: str = "cimd"
    image_channels: int | None = None
    channels: tuple[str, ...] | None = None
    image_size: int | None = None
    num_heads: int | None = None
    mask_levels: tuple[float, float] | None = None
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    prediction: str = "epsilon"
    plane: str | None = None
    spacing_mm: float | None = None
    intensity: Intensity | None = None
    name: str | None = None
    label: str = Label.name

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"ImportOptions.kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")

    def of_kind(self, name: str) -> Any:
        """The option ``name``, or what its kind has for it."""
        value = getattr(self, name)
        return getattr(KINDS[self.kind], name) if value is None else value

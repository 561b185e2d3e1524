"""What every published system looks like from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep
from AmbiguousSegLib.diffusion.settings import GAUSSIAN, SamplerSettings

Prepared = tuple[Tensor, ...]
"""What all samples and steps of a slice share: tensors with a row per slice, so that rows can be taken and stacked."""


@dataclass(frozen=True)
class Batch:
    """Training batch.

    Attributes:
        image: float32 ``(B, C, H, W)`` in [0, 1].
        mask: float32 ``(B, K, H, W)`` in [0, 1], a channel for each class: one rater's mask, or the mean over raters.
            The channels sum to at most 1; background has the rest.
        raters: float32 ``(B, M, K, H, W)``, masks of M raters that count alike, ``mask`` being the first; None where
            an item holds no more than ``mask`` (``DataConfig.raters``).
    """

    image: Tensor
    mask: Tensor
    raters: Tensor | None = None

    def part(self, rows: slice, device: torch.device) -> Batch:
        """Some rows, on a device."""
        raters = None if self.raters is None else self.raters[rows].to(device)
        return Batch(self.image[rows].to(device), self.mask[rows].to(device), raters)


class Method(nn.Module, ABC):
    """A system that learns a distribution over masks given an image.

    Every random number comes from the ``noise`` handed in, so that a result follows from the seed alone. Adding a
    published system is one module in this room, whose class is registered by name (``METHODS.register``), with a
    frozen ``Config``, and one preset.

    Attributes:
        name: under which the class is registered.
        Config: frozen dataclass; the only constructor argument. A field ``image_channels`` (C) says how many the images
            have. A field ``classes`` (K) is what makes a method one for several classes: without it, ``build_method``
            refuses more than one.
        samples_by_steps: whether sampling runs a sampler of ``diffusion.samplers``, so that its settings matter. The
            ``Config`` of such a method has a field ``schedule`` (``ScheduleConfig``), unless it is a flow.
        not_of_the_network: fields of ``Config`` that say how it is trained or sampled; a training that goes on from a
            model may change them.
        sampler_family: which samplers it takes, one of ``diffusion.settings.FAMILIES``.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    samples_by_steps: ClassVar[bool] = False
    not_of_the_network: ClassVar[frozenset[str]] = frozenset()
    sampler_family: ClassVar[str] = GAUSSIAN

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def classes(self) -> int:
        """Number of classes K, background not counted."""
        return getattr(self.config, "classes", 1)

    @property
    def image_channels(self) -> int:
        """Channels C of the images."""
        return self.config.image_channels

    @property
    def deterministic(self) -> bool:
        """Whether ``sample`` draws nothing, so that all masks of a slice are one: it is told wherever it samples."""
        return False

    @property
    def own_map_names(self) -> tuple[str, ...]:
        """Names of ``own_maps``, as files are named without their ending; none by default."""
        return ()

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """Height and width of images must be multiples of this."""

    @abstractmethod
    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Scalar tensors, means over the batch; ``"loss"`` is the one to minimise, the others are its parts."""

    def forward(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """``training_loss``, under the name that distributed training calls."""
        return self.training_loss(batch, noise)

    def prepare(self, image: Tensor) -> Prepared:
        """What all samples and steps of an image share, computed once: by default the image itself.

        Args:
            image: float32 ``(S, C, H, W)`` in [0, 1], one row per slice.

        Returns:
            tensors ``(S, …)``, row by row a function of the image alone.
        """
        return (image,)

    @abstractmethod
    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """One mask per row: float ``(B, K, H, W)`` on a scale where 0 is "not this class" and 1 is "this class".

        ``label_maps.label_map_of`` says which class that is: the largest, with background among them.

        Args:
            prepared: of ``prepare``, with one row per batch row (rows of one slice are repeated).
            noise: with one row per batch row.
            settings: sampler; ignored where ``samples_by_steps`` is false.
            on_step: called as ``on_step(step, total)``; may raise to cancel.
        """

    def own_maps(self, prepared: Prepared) -> dict[str, Tensor]:
        """What the method says of each pixel beside its masks, such as an uncertainty that it predicts; no randomness.

        Args:
            prepared: of ``prepare``, with a row per slice.

        Returns:
            float ``(S, H, W)`` under each of ``own_map_names``.
        """
        return {}

"""What every published system looks like from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep, SamplerSettings


@dataclass(frozen=True)
class Batch:
    """Training batch.

    Attributes:
        image: float32 ``(B, C, H, W)`` in [0, 1].
        mask: float32 ``(B, 1, H, W)`` in [0, 1]: one rater's mask, or the mean over raters.
    """

    image: Tensor
    mask: Tensor


class Method(nn.Module, ABC):
    """A system that learns a distribution over masks given an image.

    Every random number comes from the ``noise`` handed in, so that a result follows from the seed alone. Adding a
    published system is one module with a frozen ``Config`` and one preset.

    Attributes:
        name: key in model files and presets.
        Config: frozen dataclass; the only constructor argument.
    """

    name: ClassVar[str]
    Config: ClassVar[type]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    @abstractmethod
    def image_channels(self) -> int:
        """Channels C of the images."""

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """Height and width of images must be multiples of this."""

    @property
    def samples_by_steps(self) -> bool:
        """Whether sampling runs a diffusion sampler, so that its settings matter."""
        return False

    @abstractmethod
    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Scalar tensors, means over the batch; ``"loss"`` is the one to minimise, the others are its parts."""

    def forward(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """``training_loss``, under the name that distributed training calls."""
        return self.training_loss(batch, noise)

    @abstractmethod
    def sample(
        self, image: Tensor, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """One mask per row: float ``(B, 1, H, W)`` on a scale where 0 is background, 1 is lesion, 0.5 the border.

        Args:
            image: float32 ``(B, C, H, W)`` in [0, 1].
            noise: with one row per batch row.
            settings: sampler; ignored where ``samples_by_steps`` is false.
            on_step: called as ``on_step(step, total)``; may raise to cancel.
        """

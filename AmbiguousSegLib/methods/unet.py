"""The deterministic U-Net and its variants, the comparators of the papers: one mask for an image, from one pass.

Sources: U-Net (Ronneberger et al., MICCAI 2015), the baseline of SegDiff's report (its Table 1), and with DU-Net,
RU-Net and AttnU-Net those of DiffSeg (its Table 1, which cites none of them: read here as dense, recurrent and
attention U-Net). ``networks.block_unet`` says what each block is.

The loss is the mean cross-entropy of the pixels with a rater's mask; several raters are learnt as the share of them
that mark a pixel, and the mask is the class of the largest share.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.networks.block_unet import BlockUNet, BlockUNetConfig
from AmbiguousSegLib.networks.initialisation import kaiming_normal
from AmbiguousSegLib.networks.limits import check_limits
from AmbiguousSegLib.networks.logits import softmax, softmax_cross_entropy


@dataclass(frozen=True)
class DeterministicUNetConfig:
    """Settings of a deterministic U-Net.

    Attributes:
        image_channels: channels of the image.
        unet: the network, with its blocks; its input channels follow from ``image_channels``.
        classes: number of classes K, each with a logit of its own; set by the labels.
    """

    image_channels: int = 1
    unet: BlockUNetConfig = field(default_factory=BlockUNetConfig)
    classes: int = 1

    def __post_init__(self) -> None:
        if min(self.image_channels, self.classes) < 1:
            raise ValueError(
                "DeterministicUNetConfig needs image_channels ≥ 1 and classes ≥ 1, got "
                f"{self.image_channels} and {self.classes}."
            )
        check_limits(self, max(self.image_channels, self.classes), 1)


@METHODS.register("unet")
class DeterministicUNet(Method):
    """Image to K logits a pixel, beside a background of logit 0."""

    Config = DeterministicUNetConfig

    def __init__(self, config: DeterministicUNetConfig) -> None:
        super().__init__(config)
        self.unet = BlockUNet(replace(config.unet, in_channels=config.image_channels))
        self.head = nn.Conv2d(config.unet.filters[0], config.classes, 1)
        kaiming_normal(self.head)

    @property
    def size_multiple(self) -> int:
        """What the U-Net's levels ask for."""
        return self.config.unet.size_multiple

    @property
    def deterministic(self) -> bool:
        """It draws nothing."""
        return True

    def logits(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, K, H, W)``, at least float32."""
        found = self.head(self.unet(image))
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Cross-entropy, its mean over the pixels; draws nothing."""
        return {"loss": softmax_cross_entropy(self.logits(batch.image), batch.mask).mean()}

    def prepare(self, image: Tensor) -> Prepared:
        """The probabilities of the classes: the whole of the network, once for all samples of a slice."""
        return (softmax(self.logits(image)),)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """The probabilities, in every row of a slice the same; draws nothing."""
        (probabilities,) = prepared
        if on_step is not None:
            on_step(1, 1)
        return probabilities

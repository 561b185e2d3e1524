"""Small untrained models whose masks are nevertheless busy: every weight is random, none is zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from AmbiguousSegLib.description import Card
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.methods import Method
from AmbiguousSegLib.methods.cimd import CIMD, CIMDConfig
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.networks.unet import UNetConfig
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing


@dataclass(frozen=True)
class UntrainedConfig:
    """Channels of the images, and nothing else."""

    image_channels: int = 1


class Untrained(Method):
    """A method whose masks a test knows beforehand: it learns nothing, and is shown the image as it is."""

    name = "untrained"
    Config = UntrainedConfig
    size_multiple = 1

    def __init__(self, config=None):
        super().__init__(self.Config() if config is None else config)
        self.weight = nn.Parameter(torch.zeros(()))  # it is on some device

    def training_loss(self, batch, noise):
        raise NotImplementedError  # whoever trains it has made a mistake

    def prepare(self, image):
        return (image,)


def randomised(method: Method, seed: int = 0) -> Method:
    """The method in evaluation mode with weights that follow from the seed."""
    generator = np.random.default_rng(seed)  # unlike torch's, the same numbers under every vector unit
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            r = torch.from_numpy(generator.standard_normal(parameter.shape, dtype=np.float32))
            if parameter.dim() > 1:
                parameter.copy_(r / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * r + name.endswith("weight"))  # scales of norms about 1, biases about 0
    return method.requires_grad_(False).eval()


def ignore_mask(posterior: nn.Module, prior: nn.Module, first: str) -> None:
    """Give a posterior the prior's weights, and 0 for all but the one image channel that it reads by ``first``."""
    for name, p in prior.named_parameters():
        target = posterior.get_parameter(name)
        if name == first:
            target.data.zero_()
            target.data[:, :1] = p.data
        else:
            target.data.copy_(p.data)


@torch.no_grad()
def check_batches(
    method: Method,
    image: torch.Tensor,
    part: nn.Module,
    settings: SamplerSettings = SamplerSettings(),
    atol: float = 1e-5,
) -> None:
    """Masks in batches that go across slices are those of each alone, and ``part`` runs once for them."""
    calls: list[int] = []
    part.register_forward_hook(lambda *_: calls.append(1))
    drawn = draw_masks(method, lambda i: image[i], [0, 2], range(8), 3, settings, batch_size=5)
    rows, values = zip(*drawn, strict=True)
    assert len(calls) == 1
    for row, value in zip([r for batch in rows for r in batch], torch.cat(values), strict=True):
        alone = method.sample(method.prepare(image[row[0], None]), RowNoise(3, [row]), settings)
        torch.testing.assert_close(value[None], alone, rtol=0, atol=atol)


def tiny_cimd(channels: int = 1, size: int = 16) -> CIMD:
    """CIMD with 8 to 16 channels on two levels."""
    unet = UNetConfig(
        image_size=size,
        model_channels=8,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_sizes=(),
        norm_groups=4,
        use_scale_shift_norm=True,
    )
    config = CIMDConfig(image_channels=channels, unet=unet, prediction="x0", variance="posterior", beta_ambiguity=0.0)
    return randomised(CIMD(config))


def tiny_model(
    channels: int = 1, size: int = 16, spacing_mm: float | None = None, plane: str = "axial", steps: int = 3
) -> Model:
    """Model around ``tiny_cimd`` that takes values from 0 to 1."""
    names = tuple(f"channel {i}" for i in range(channels))
    preprocessing = Preprocessing(names, plane, spacing_mm, (size, size), 2, Intensity("window", 0.0, 1.0))
    settings, card = SamplerSettings("ddim", steps), Card(name="tiny")
    return Model(tiny_cimd(channels, size), preprocessing, settings, card, weights_sha256="0" * 64)

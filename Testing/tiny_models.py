"""Small untrained models whose masks are nevertheless busy: every weight is random, none is zero."""

from __future__ import annotations

import numpy as np
import torch

from AmbiguousSegLib.description import Card
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import Method
from AmbiguousSegLib.methods.cimd import CIMD, CIMDConfig
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.networks.unet import UNetConfig
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing


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

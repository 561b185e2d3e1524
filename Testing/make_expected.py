"""Numbers that the tests compare with, computed from weights and inputs that follow from seeds.

    python Testing/make_expected.py

They were stored after the same code had agreed with the published implementation (the tests named ``golden``), and let
parity be checked where its numbers are absent. Run this again only when a change of results is meant. Stored are 8×8
crops and sums, not whole tensors.

All is computed in float64: what is left between two processors is then less than the float32 that is stored.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parent))

from AmbiguousSegLib.diffusion.noise import RowNoise  # noqa: E402
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig  # noqa: E402
from AmbiguousSegLib.diffusion.settings import SamplerSettings  # noqa: E402
from AmbiguousSegLib.diffusion.step_grids import both_ends  # noqa: E402
from AmbiguousSegLib.methods.cimd import CIMD, CIMDConfig  # noqa: E402
from AmbiguousSegLib.networks.conv_unet import ConvUNet, ConvUNetConfig  # noqa: E402
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoder, GaussianEncoderConfig  # noqa: E402
from AmbiguousSegLib.networks.unet import UNet, UNetConfig  # noqa: E402

# The two networks of the golden numbers, and the seeds of their weights.
SMALL = UNetConfig(image_size=64, model_channels=32, channel_mult=(1, 2, 3, 4), num_res_blocks=1, attention_sizes=(16,))
TINY = UNetConfig(
    image_size=32, model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_sizes=(16,), num_heads=2
)
SMALL_SEED, TINY_SEED = 0, 11
ENCODER = GaussianEncoderConfig(filters=(8, 16, 32, 48))


def drawn(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """``torch.randn(shape, generator=generator)``, the same on every processor and leaving the generator as that does.

    From 16 numbers on torch computes Box and Muller's transform of 8 + 8 uniform numbers at a time with the vector unit
    at hand, whose logarithm and cosine differ in the seventh digit. Here it is written out in float64.
    """
    count = math.prod(shape)
    if count < 16:  # torch takes them one by one
        return torch.randn(shape, generator=generator)

    def transformed(uniform: Tensor) -> Tensor:
        first, second = uniform.double().reshape(-1, 2, 8).unbind(1)
        radius, angle = torch.sqrt(-2 * torch.log(1 - first)), 2 * math.pi * second
        return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1).flatten()

    rest = count % 16
    out = transformed(torch.rand(count, generator=generator)[: count - rest])
    if rest:  # the last 16 are drawn anew
        out = torch.cat([out[: count - 16], transformed(torch.rand(16, generator=generator))])
    return out.float().reshape(tuple(shape))


def seeded(module: nn.Module, seed: int) -> nn.Module:
    """``module`` with weights that follow from ``seed``: the rule by which the golden weights were made."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in module.state_dict().items():
        draw = drawn(tensor.shape, generator)
        if tensor.dim() >= 2:
            state[name] = draw / np.sqrt(tensor[0].numel())
        else:
            state[name] = 1 + 0.1 * draw if name.endswith("weight") else 0.1 * draw
    module.load_state_dict(state)
    return module.eval()


def normal(seed: int, *shape: int) -> Tensor:
    return drawn(shape, torch.Generator().manual_seed(seed))


def image_and_mask(size: int) -> tuple[Tensor, Tensor]:
    """Four smooth images in [0, 1] and four discs in {0, 1}, the last one empty: ``(4, 1, size, size)`` each."""
    axis = torch.arange(size) / size
    phase = torch.arange(4.0)[:, None, None, None]
    image = 0.5 + 0.25 * torch.sin(6 * axis[:, None] + phase) + 0.25 * torch.cos(9 * axis + phase)
    radius = torch.tensor([0.15, 0.25, 0.35, 0.0])[:, None, None, None]
    distance = torch.hypot(axis[:, None] - 0.4, axis - 0.5)[None, None]
    return image, (distance < radius).float()


def summary(prefix: str, tensor: Tensor) -> dict[str, np.ndarray]:
    """A crop of 8×8 pixels and the mean square of every channel of ``(B, C, H, W)``."""
    tensor = tensor.detach()
    return {
        f"{prefix}_crop": tensor[:, :, 8:16, 8:16].float().numpy(),
        f"{prefix}_power": (tensor.double() ** 2).mean((2, 3)).numpy(),
    }


def tiny_cimd(**changes: object) -> CIMD:
    """CIMD with the tiny network and small encoders of the published code's settings."""
    settings = {"unet": TINY, "mask_levels": (0.0, 1.0), "acn_input": "noise", "encoder": ENCODER} | changes
    method = CIMD(CIMDConfig(**settings))
    seeded(method.unet, TINY_SEED)
    if method.amn is not None:
        seeded(method.amn, 12)
        seeded(method.acn, 13)
    return method.eval()


@torch.no_grad()
def unet() -> dict[str, np.ndarray]:
    timesteps = torch.tensor([17, 803])
    out = {}
    for name, config, seed in (("tiny", TINY, TINY_SEED), ("small", SMALL, SMALL_SEED)):
        x = normal(1, 2, 2, config.image_size, config.image_size).double()
        out |= summary(name, seeded(UNet(config), seed).double()(x, timesteps))
    return out


@torch.no_grad()
def gaussian_encoder() -> dict[str, np.ndarray]:
    x = torch.cat(image_and_mask(64), dim=1).double()
    q = seeded(GaussianEncoder(ENCODER), 12).double()(x)
    return {"mean": q.mean.float().numpy(), "stddev": q.stddev.float().numpy()}


@torch.no_grad()
def conv_unet() -> dict[str, np.ndarray]:
    network = seeded(ConvUNet(ConvUNetConfig(filters=(8, 16, 24), convolutions=2)), 14)
    return summary("features", network.double()(image_and_mask(32)[0].double()))


def schedule() -> dict[str, np.ndarray]:
    linear, cosine = ScheduleConfig("linear", 1000).build(), ScheduleConfig("cosine", 1000).build()
    respaced = linear.respaced(both_ends(1000, 50))
    out = {"timesteps_50": respaced.timesteps}
    for name in ("betas", "alphas_cumprod", "posterior_variance", "posterior_mean_coef1", "posterior_mean_coef2"):
        out[f"respaced50_{name}"] = getattr(respaced, name)
        out[f"linear_{name}_every_50th"] = getattr(linear, name)[::50]
    out["cosine_betas_every_50th"] = cosine.betas[::50]
    return out


def cimd() -> dict[str, np.ndarray]:
    """Losses in float64 at the ends and in the middle of the schedule, with gradients, and a chain of 10 steps."""
    method = tiny_cimd().double()
    image, mask = (tensor.double() for tensor in image_and_mask(32))
    terms = method.losses(image, mask, torch.tensor([0, 1, 500, 999]), normal(2, 4, 1, 32, 32).double())
    out = {name: value.detach().numpy() for name, value in terms.items()}
    terms["loss"].mean().backward()
    for name in ("unet.out.2.bias", "unet.input_blocks.0.0.weight", "amn.conv_layer.bias", "acn.conv_layer.bias"):
        out[f"grad_{name}"] = method.get_parameter(name).grad.numpy()
    with torch.no_grad():
        noise = RowNoise(3, [(0, 0), (0, 1), (1, 0), (1, 1)], dtype=torch.float64)
        chain = method.sample((image,), noise, SamplerSettings("ddpm", 10, "both_ends"))
    return out | summary("chain", chain)


FILES = {
    "networks/expected/unet.npz": unet,
    "networks/expected/gaussian_encoder.npz": gaussian_encoder,
    "networks/expected/conv_unet.npz": conv_unet,
    "diffusion/expected/schedule.npz": schedule,
    "methods/expected/cimd.npz": cimd,
}


def check(file: str, tolerance: float, **others: float) -> None:
    """Compare what the code gives now with what is stored.

    What is stored was computed in float32 with torch's own draws, so the tolerances are the rounding of that. They are
    relative to the largest number of an array; ``others`` are those of single arrays.
    """
    got = FILES[file]()
    with np.load(FOLDER / file) as stored:
        assert set(got) == set(stored)
        for name in got:
            atol = others.get(name, tolerance) * np.abs(stored[name]).max()
            np.testing.assert_allclose(got[name], stored[name], rtol=1e-12, atol=atol, err_msg=name)


def main() -> None:
    for file, make in FILES.items():
        path = FOLDER / file
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, **make())
        print(f"{file}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

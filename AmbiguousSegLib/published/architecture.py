"""The architecture behind a published checkpoint, from the names and shapes of its tensors alone.

Names are those of improved-diffusion (Nichol & Dhariwal, ICML 2021), which CIMD (CVPR 2023) and the implicit
segmentation ensembles (Wolleb et al. 2021) inherit, and of CIMD's two encoders. What leaves no trace in a shape
(attention heads, image size, noise schedule) has to be told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoderConfig
from AmbiguousSegLib.networks.unet import UNetConfig

Shapes = Mapping[str, tuple[int, ...]]


def infer_unet(shapes: Shapes, image_size: int, num_heads: int) -> UNetConfig:
    """Configuration of the U-Net whose parameters have these ``shapes``, without the prefix ``module.``.

    Args:
        image_size: side in pixels that it was trained at; turns the levels that have attention into feature sizes.
        num_heads: attention heads.

    Raises:
        ValueError: a class embedding, residual blocks that resample, resampling without convolution, levels that
            differ in their residual blocks or attention, no mask channel, a missing key, an unfit image size.
    """
    _refuse_unknown_parts(shapes)
    model_channels = _shape(shapes, "time_embed.0.weight", 2)[1]
    in_channels = _shape(shapes, "input_blocks.0.0.weight", 4)[1]
    out_channels = _shape(shapes, "out.2.weight", 4)[0]
    if in_channels < 2 or out_channels not in (1, 2):
        raise ValueError(
            f"The network reads {in_channels} and predicts {out_channels} channels; expected at least 2 read (image, "
            "then mask) and 1 or 2 predicted (mask, then its variance)."
        )
    levels = _levels(shapes)
    mults, attention = [], []
    for level, blocks in enumerate(levels):
        widths = {width for width, _ in blocks}
        attended = {has for _, has in blocks}
        if len(blocks) != len(levels[0]) or len(widths) != 1 or len(attended) != 1:
            raise ValueError(
                f"Level {level} has residual blocks of (channels, attention) {blocks}, level 0 has {levels[0]}; "
                "expected as many in each level, and alike within it."
            )
        width = widths.pop()
        if width % model_channels:
            raise ValueError(f"Level {level} has {width} channels, expected a multiple of {model_channels}.")
        mults.append(width // model_channels)
        if attended.pop():
            attention.append(image_size >> level)
    embedded = _shape(shapes, "input_blocks.1.0.emb_layers.1.weight", 2)[0]
    return UNetConfig(
        image_size=image_size,
        in_channels=in_channels,
        out_channels=out_channels,
        model_channels=model_channels,
        channel_mult=tuple(mults),
        num_res_blocks=len(levels[0]),
        attention_sizes=tuple(attention),
        num_heads=num_heads,
        use_scale_shift_norm=embedded == 2 * levels[0][0][0],
    )


def infer_encoder(shapes: Shapes) -> GaussianEncoderConfig:
    """Configuration of a Gaussian encoder, AMN or ACN, with the diagonal covariance of the published ones.

    Raises:
        ValueError: a missing key, or blocks that differ in their convolutions.
    """
    convolutions = sorted(int(m[1]) for name in shapes if (m := re.fullmatch(r"encoder\.layers\.(\d+)\.weight", name)))
    blocks: list[list[int]] = []
    for position, index in enumerate(convolutions):
        # Within a block a ReLU stands between convolutions, between blocks a pooling too.
        if not position or index - convolutions[position - 1] > 2:
            blocks.append([])
        blocks[-1].append(_shape(shapes, f"encoder.layers.{index}.weight", 4)[0])
    outputs = _shape(shapes, "conv_layer.weight", 4)[0]
    if not blocks or any(len(set(b)) > 1 or len(b) != len(blocks[0]) for b in blocks) or outputs % 2:
        raise ValueError(
            f"An encoder of convolutions {blocks} and {outputs} outputs; expected blocks of equal length, each of one "
            "width, and two outputs for each latent dimension."
        )
    return GaussianEncoderConfig(
        in_channels=_shape(shapes, "encoder.layers.0.weight", 4)[1],
        filters=tuple(block[0] for block in blocks),
        convolutions=len(blocks[0]),
        latent_dim=outputs // 2,
    )


def _levels(shapes: Shapes) -> list[list[tuple[int, bool]]]:
    """For each level the residual blocks on the way down: their channels, and whether attention follows."""
    last = max(int(m[1]) for name in shapes if (m := re.match(r"input_blocks\.(\d+)\.", name)))
    levels: list[list[tuple[int, bool]]] = [[]]
    for i in range(1, last + 1):
        if f"input_blocks.{i}.0.op.weight" in shapes:
            levels.append([])
        elif any(name.startswith(f"input_blocks.{i}.") for name in shapes):
            width = _shape(shapes, f"input_blocks.{i}.0.out_layers.3.weight", 4)[0]
            levels[-1].append((width, f"input_blocks.{i}.1.qkv.weight" in shapes))
        else:
            raise ValueError(f"No keys input_blocks.{i}.*: downsampling without a convolution cannot be represented.")
    return levels


def _refuse_unknown_parts(shapes: Shapes) -> None:
    for name in shapes:
        if name.startswith("label_emb."):
            raise ValueError(f"The network has a class embedding ({name}), which cannot be represented.")
        if re.match(r"output_blocks\.\d+\.[12]\.in_layers\.", name):
            raise ValueError(f"Residual blocks resample ({name}; resblock_updown), which cannot be represented.")


def _shape(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in shapes:
        raise ValueError(f"Key {name} is missing; is this a checkpoint of the kind that was named?")
    if len(shapes[name]) != dimensions:
        raise ValueError(f"{name} has shape {tuple(shapes[name])}, expected {dimensions} dimensions.")
    return shapes[name]

"""U-Net with timestep conditioning, as in improved-diffusion (Nichol & Dhariwal, ICML 2021), which CIMD uses.

Parameter names are those of the published checkpoints, so that they load strictly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from AmbiguousSegLib.networks.layers import Downsample, GroupNorm, SiLU, Upsample, zeroed
from AmbiguousSegLib.networks.limits import check_limits


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the network.

    Attributes:
        image_size: side of the training images in pixels; fixes where attention sits. Other sizes run too.
        in_channels: image channels plus mask channels.
        out_channels: predicted channels (2 with a learned variance, else 1, per mask channel).
        model_channels: channels at full resolution.
        channel_mult: channels of each level as a multiple of ``model_channels``; each level halves the size.
        num_res_blocks: residual blocks per level on the way down (one more on the way up).
        attention_sizes: feature sizes (side at ``image_size``) after whose residual blocks attention stands. The
            middle block always has one.
        num_heads: attention heads; ``num_head_channels`` fixes the channels of a head instead.
        attention_order: "legacy" splits heads before q, k, v (improved-diffusion); "new" splits q, k, v first.
        use_scale_shift_norm: timestep enters as scale and shift of a normalisation instead of as a sum.
        dropout: in every residual block.
        norm_groups: groups of every GroupNorm; 32 in the published networks.
        activation_checkpointing: recompute residual blocks in the backward pass: less memory, same numbers.
        condition_dim: length of a vector that is added, through a linear layer, to the timestep's embedding; 0: none.
    """

    image_size: int = 128
    in_channels: int = 2
    out_channels: int = 2
    model_channels: int = 128
    channel_mult: tuple[int, ...] = (1, 1, 2, 3, 4)
    num_res_blocks: int = 2
    attention_sizes: tuple[int, ...] = (16,)
    num_heads: int = 1
    num_head_channels: int | None = None
    attention_order: str = "legacy"
    use_scale_shift_norm: bool = False
    dropout: float = 0.0
    norm_groups: int = 32
    activation_checkpointing: bool = False
    condition_dim: int = 0

    def __post_init__(self) -> None:
        positive = ("image_size", "in_channels", "out_channels", "model_channels", "num_res_blocks", "num_heads")
        for name in (*positive, "norm_groups", "num_head_channels"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"UNetConfig.{name} must be at least 1, got {getattr(self, name)}.")
        if self.condition_dim < 0:
            raise ValueError(f"UNetConfig.condition_dim must be 0 or more, got {self.condition_dim}.")
        if not self.channel_mult or min(self.channel_mult) < 1:
            raise ValueError(f"UNetConfig.channel_mult must hold positive integers, got {self.channel_mult}.")
        widest = max(
            self.in_channels, self.out_channels, self.condition_dim, self.model_channels * max(self.channel_mult)
        )
        check_limits(self, widest, max(self.num_res_blocks, len(self.channel_mult)))
        if self.image_size % self.size_multiple:
            raise ValueError(
                f"UNetConfig.image_size {self.image_size} must be a multiple of {self.size_multiple} for "
                f"{len(self.channel_mult)} levels."
            )
        sizes = [self.image_size >> level for level in range(len(self.channel_mult))]
        unknown = sorted(set(self.attention_sizes) - set(sizes))
        if unknown:
            raise ValueError(f"UNetConfig.attention_sizes {unknown} are not feature sizes of this network: {sizes}.")
        if self.attention_order not in ("legacy", "new"):
            raise ValueError(f"UNetConfig.attention_order must be 'legacy' or 'new', got {self.attention_order!r}.")
        if self.model_channels % self.norm_groups:
            raise ValueError(
                f"UNetConfig.model_channels {self.model_channels} must be a multiple of norm_groups {self.norm_groups}."
            )

    @property
    def size_multiple(self) -> int:
        """Height and width of an input must be multiples of this."""
        return 2 ** (len(self.channel_mult) - 1)


def timestep_embedding(timesteps: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal embedding ``(B, dim)`` of timesteps ``(B,)``, cosines first (Vaswani et al. 2017)."""
    angles = timesteps.float()[:, None] * _frequencies(dim // 2, max_period, timesteps.device)[None]
    embedding = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
    return F.pad(embedding, (0, dim % 2))


@lru_cache(maxsize=16)
def _frequencies(half: int, max_period: float, device: torch.device) -> Tensor:
    """Computed on the CPU, so that every device has the same bits, and copied once: a copy would wait for the GPU."""
    with torch.inference_mode(False):  # training may use what sampling has made
        return torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32) / half).to(device)


class ResBlock(nn.Module):
    """Residual block conditioned on the timestep embedding; its last convolution starts at zero."""

    def __init__(self, channels: int, out_channels: int, embedding: int, config: UNetConfig) -> None:
        super().__init__()
        self.scale_shift = config.use_scale_shift_norm
        self.checkpointing = config.activation_checkpointing
        self.in_layers = nn.Sequential(
            GroupNorm(config.norm_groups, channels), SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding, 2 * out_channels if self.scale_shift else out_channels)
        )
        self.out_layers = nn.Sequential(
            GroupNorm(config.norm_groups, out_channels),
            SiLU(),
            nn.Dropout(config.dropout),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """As the class says."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(self._forward, x, embedding, use_reentrant=False)
        return self._forward(x, embedding)

    def _forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers(x)
        condition = self.emb_layers(embedding).to(h.dtype)[:, :, None, None]
        if self.scale_shift:
            scale, shift = condition.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[1:](h)
        else:
            h = self.out_layers(h + condition)
        return self.skip_connection(x) + h


def multi_head_attention(qkv: Tensor, heads: int, order: str) -> Tensor:
    """Self-attention over positions: ``(B, 3·C, L)`` to ``(B, C, L)``.

    ``order`` says how the channel axis is laid out: "legacy" (heads, 3, C/heads), "new" (3, heads, C/heads).
    The usual scaling by 1/√(C/heads) equals the published scaling of q and k by its fourth root each.
    """
    batch, width, length = qkv.shape
    if order == "legacy":
        q, k, v = qkv.reshape(batch, heads, 3, width // (3 * heads), length).unbind(2)
    else:
        q, k, v = qkv.reshape(batch, 3, heads, width // (3 * heads), length).unbind(1)
    q, k, v = (part.transpose(-1, -2).contiguous() for part in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(-1, -2).reshape(batch, width // 3, length)


class AttentionBlock(nn.Module):
    """Self-attention over all positions of a feature map, with a residual connection."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        head_channels = config.num_head_channels
        self.heads = channels // head_channels if head_channels else config.num_heads
        if not self.heads or channels % self.heads or (head_channels and channels % head_channels):
            raise ValueError(
                f"{channels} channels cannot be split into {config.num_heads} attention heads (num_heads, "
                f"num_head_channels {config.num_head_channels}); choose numbers that divide them."
            )
        self.order = config.attention_order
        self.norm = GroupNorm(config.norm_groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        flat = x.flatten(2)
        h = multi_head_attention(self.qkv(self.norm(flat)), self.heads, self.order)
        return (flat + self.proj_out(h)).reshape(x.shape)


class Stage(nn.Sequential):
    """Layers in a row; those that are conditioned get the embedding too."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """As the class says."""
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNet(nn.Module):
    """The denoising network: ``(B, in_channels, H, W)`` and timesteps ``(B,)`` to ``(B, out_channels, H, W)``."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        embedding = 4 * config.model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )

        def stage(channels: int, out_channels: int, size: int) -> list[nn.Module]:
            layers: list[nn.Module] = [ResBlock(channels, out_channels, embedding, config)]
            if size in config.attention_sizes:
                layers.append(AttentionBlock(out_channels, config))
            return layers

        levels = len(config.channel_mult)
        channels, size = config.model_channels, config.image_size
        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(config.in_channels, channels, 3, padding=1))])
        skips = [channels]
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(Stage(*stage(channels, mult * config.model_channels, size)))
                channels = mult * config.model_channels
                skips.append(channels)
            if level + 1 < levels:
                self.input_blocks.append(Stage(Downsample(channels)))
                skips.append(channels)
                size //= 2

        self.middle_block = Stage(
            ResBlock(channels, channels, embedding, config),
            AttentionBlock(channels, config),
            ResBlock(channels, channels, embedding, config),
        )

        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for block in range(config.num_res_blocks + 1):
                layers = stage(channels + skips.pop(), mult * config.model_channels, size)
                channels = mult * config.model_channels
                if level and block == config.num_res_blocks:
                    layers.append(Upsample(channels))
                    size *= 2
                self.output_blocks.append(Stage(*layers))

        self.out = nn.Sequential(
            GroupNorm(config.norm_groups, channels),
            SiLU(),
            zeroed(nn.Conv2d(channels, config.out_channels, 3, padding=1)),
        )
        if config.condition_dim:
            self.condition_embed = nn.Linear(config.condition_dim, embedding)

    def forward(
        self, x: Tensor, timesteps: Tensor, condition: Tensor | None = None, features: Tensor | None = None
    ) -> Tensor:
        """As the class says; ``condition`` is ``(B, condition_dim)``, or None where that is 0.

        ``features`` ``(B, model_channels, H, W)`` are added to what the first convolution makes of ``x``.
        """
        if x.shape[1] != self.config.in_channels:
            raise ValueError(f"The network takes {self.config.in_channels} channels, got {x.shape[1]}.")
        multiple = self.config.size_multiple
        if x.shape[-2] % multiple or x.shape[-1] % multiple:
            raise ValueError(f"Height and width must be multiples of {multiple}, got {tuple(x.shape[-2:])}.")
        dtype = next(self.time_embed.parameters()).dtype
        embedding = self.time_embed(timestep_embedding(timesteps, self.config.model_channels).to(dtype))
        if (0 if condition is None else condition.shape[1]) != self.config.condition_dim:
            got = "none" if condition is None else f"one of {condition.shape[1]}"
            raise ValueError(f"The network takes a condition of {self.config.condition_dim} numbers, got {got}.")
        if condition is not None:
            embedding = embedding + self.condition_embed(condition.to(dtype))
        skips: list[Tensor] = []
        h = x.to(dtype)
        for block in self.input_blocks:
            h = block(h, embedding)
            if features is not None and not skips:
                h = h + features.to(h.dtype)
            skips.append(h)
        h = self.middle_block(h, embedding)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        return self.out(h).to(x.dtype)

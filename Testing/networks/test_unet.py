"""The timestep-conditioned U-Net against the published network and against a second implementation of its parts."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from make_expected import SMALL, SMALL_SEED, TINY, TINY_SEED, check, normal, seeded
from shared_data import shared_path
from torch.nn import functional as F

from AmbiguousSegLib.networks.unet import (
    AttentionBlock,
    GroupNorm,
    ResBlock,
    UNet,
    UNetConfig,
    multi_head_attention,
    timestep_embedding,
)


def golden(name: str) -> dict:
    return torch.load(shared_path(f"golden/{name}.pt"), weights_only=True)


def close(got: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(got.detach(), expected, rtol=0, atol=atol)


# Parity with the published network


def test_seeded_weights_are_the_golden_ones():
    """But for the rounding of torch's own draws (measured: 2.3e-7, and 3.3e-7 between its vector units)."""
    small, tiny = seeded(UNet(SMALL), SMALL_SEED).state_dict(), seeded(UNet(TINY), TINY_SEED).state_dict()
    for got, expected in ((small, golden("unet_small_state")), (tiny, golden("tiny_all_in_one")["state"])):
        assert list(got) == list(expected)
        for name in got:
            close(got[name], expected[name], 5e-7)


# In float64 the difference is the rounding of the golden numbers alone, whatever the processor: 2.6e-6 of 3.2 at the
# output and up to 6.0e-6 inside. In float32 this code's own rounding comes on top: 2.3e-6 to 4.5e-6 at the output, by
# vector unit and number of threads (Benchmarks/processors.md), and up to 1.6e-5 inside.
OUTPUT = [(torch.float64, 5e-6), (torch.float32, 1e-5)]


@torch.no_grad()
def test_golden_forward_and_activations():
    data = golden("unet_small_io")
    network = UNet(SMALL).eval().double()
    network.load_state_dict(golden("unet_small_state"))
    places = {
        "act_in0": network.input_blocks[0],
        "act_in1": network.input_blocks[1],
        "act_in3": network.input_blocks[3],
        "act_mid": network.middle_block,
        "act_out0": network.output_blocks[0],
        "act_out1": network.output_blocks[1],
        "act_out7": network.output_blocks[7],
    }
    seen = {}
    for name, module in places.items():
        module.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out))
    network(data["x"].double(), data["t"])
    for name in places:
        close(seen[name], data[name].double())
    sinusoidal = timestep_embedding(data["t"], 32)
    close(sinusoidal, data["temb_sin"])
    close(network.time_embed(sinusoidal.double()), data["temb"].double(), 6e-7)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "atol"), OUTPUT)
def test_golden_forward(dtype, atol):
    data, network = golden("unet_small_io"), UNet(SMALL).eval()
    network.load_state_dict(golden("unet_small_state"))
    close(network.to(dtype)(data["x"].to(dtype), data["t"]).double(), data["out"].double(), atol)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "atol"), OUTPUT)
def test_golden_forward_with_two_heads(dtype, atol):
    data, network = golden("tiny_all_in_one"), UNet(TINY).eval()
    network.load_state_dict(data["state"])
    close(network.to(dtype)(data["x"].to(dtype), data["t"]).double(), data["out"].double(), atol)


@pytest.mark.parametrize("case", ["legacy_h1", "legacy_h4", "new_h4"])
def test_golden_attention(case):
    data = golden("attention")
    order, heads = case.split("_h")
    got = multi_head_attention(data["qkv"].double(), int(heads), order)
    close(got, data[case].double(), 2e-6)  # of numbers up to 1.1; measured: 7.2e-7


def test_full_size_has_the_published_parameters():
    expected = json.loads(shared_path("golden/cimd_fullsize_unet_keys.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        state = UNet(UNetConfig(in_channels=5)).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == expected
    assert list(state) == list(expected)


def test_full_size_count():
    # The two published networks: CIMD at 128, implicit ensembles at 256.
    ensembles = UNetConfig(image_size=256, in_channels=5, channel_mult=(1, 1, 2, 2, 4, 4), attention_sizes=(16,))
    with torch.device("meta"):
        counts = [sum(p.numel() for p in UNet(c).parameters()) for c in (UNetConfig(in_channels=5), ensembles)]
    assert counts == [85_603_842, 113_674_370]


def test_stored_outputs():
    check("networks/expected/unet.npz", 3e-6)  # measured: 1.1e-6


# Parts against a second implementation


def explicit_attention(qkv: torch.Tensor, heads: int, order: str) -> torch.Tensor:
    """Head by head and row by row, with a written-out softmax; q and k scaled by the fourth root each."""
    batch, width, length = qkv.shape
    size = width // (3 * heads)
    out = torch.zeros(batch, heads * size, length, dtype=qkv.dtype)
    for row in range(batch):
        for head in range(heads):
            if order == "legacy":
                starts = [(3 * head + part) * size for part in range(3)]
            else:
                starts = [(part * heads + head) * size for part in range(3)]
            q, k, v = (qkv[row, start : start + size] for start in starts)
            scores = torch.einsum("cs,ct->st", q / size**0.25, k / size**0.25)
            weights = torch.exp(scores) / torch.exp(scores).sum(1, keepdim=True)
            out[row, head * size : (head + 1) * size] = torch.einsum("st,ct->cs", weights, v)
    return out


@pytest.mark.parametrize("order", ["legacy", "new"])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_attention_is_softmax_attention(heads, order):
    qkv = normal(0, 2, 3 * 12, 15).double()
    close(multi_head_attention(qkv, heads, order), explicit_attention(qkv, heads, order), 1e-12)


def test_attention_block_with_head_channels():
    config = UNetConfig(num_head_channels=4, norm_groups=2, attention_order="new", num_heads=1)
    block = seeded(AttentionBlock(12, config), 1).double()
    x = normal(2, 2, 12, 3, 5).double()
    flat = F.group_norm(x.flatten(2), 2, block.norm.weight, block.norm.bias, 1e-5)
    h = explicit_attention(block.qkv(flat), 3, "new")
    expected = x + (block.proj_out.weight[:, :, 0] @ h + block.proj_out.bias[:, None]).reshape(x.shape)
    close(block(x), expected.detach(), 1e-12)


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize(("channels", "out_channels"), [(8, 8), (8, 12)])
def test_residual_block(channels, out_channels, scale_shift):
    block = ResBlock(channels, out_channels, 16, UNetConfig(norm_groups=4, use_scale_shift_norm=scale_shift))
    p = {name: tensor.double() for name, tensor in seeded(block, 3).state_dict().items()}
    x, embedding = normal(4, 2, channels, 6, 5).double(), normal(5, 2, 16).double()

    def group_norm(h, name):
        groups = h.reshape(len(h), 4, -1)
        centred = groups - groups.mean(2, keepdim=True)
        unit = (centred / (centred.pow(2).mean(2, keepdim=True) + 1e-5).sqrt()).reshape(h.shape)
        return unit * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]

    def silu(h):
        return h / (1 + torch.exp(-h))

    h = F.conv2d(silu(group_norm(x, "in_layers.0")), p["in_layers.2.weight"], p["in_layers.2.bias"], padding=1)
    condition = silu(embedding) @ p["emb_layers.1.weight"].T + p["emb_layers.1.bias"]
    if scale_shift:
        scale, shift = condition[:, :out_channels, None, None], condition[:, out_channels:, None, None]
        h = group_norm(h, "out_layers.0") * (1 + scale) + shift
    else:
        h = group_norm(h + condition[:, :, None, None], "out_layers.0")
    h = F.conv2d(silu(h), p["out_layers.3.weight"], p["out_layers.3.bias"], padding=1)
    skip = x
    if channels != out_channels:
        skip = torch.einsum("oc,bchw->bohw", p["skip_connection.weight"][:, :, 0, 0], x)
        skip = skip + p["skip_connection.bias"][:, None, None]
    close(block.double()(x, embedding), skip + h, 1e-12)


def test_timestep_embedding_by_hand():
    got = timestep_embedding(torch.tensor([0, 3]), 5)
    # half = 2: frequencies 1 and 10000^(-1/2) = 0.01; an odd dimension ends in zero
    expected = [[1, 1, 0, 0, 0], [math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03), 0]]
    close(got, torch.tensor(expected), 1e-6)


def test_group_norm_of_half_precision_is_computed_in_float32():
    norm = seeded(GroupNorm(2, 4), 6)
    x = (100 + normal(7, 1, 4, 8, 8)).bfloat16()
    assert torch.equal(norm(x), norm(x.float()).bfloat16())


# The whole network


SCALE_SHIFT = replace(TINY, image_size=16, attention_sizes=(8,), use_scale_shift_norm=True)


def test_fresh_network_gives_zero_and_its_blocks_add_nothing():
    network, x = UNet(SCALE_SHIFT).eval(), normal(8, 1, 2, 16, 16)
    assert torch.count_nonzero(network(x, torch.tensor([5]))) == 0
    h = normal(9, 1, 32, 8, 8)
    block = network.input_blocks[1][0]
    assert torch.equal(block(h, normal(10, 1, 128)), h)


@torch.no_grad()
def test_rows_do_not_see_each_other():
    network = seeded(UNet(SCALE_SHIFT), 1).double()
    x, t = normal(11, 3, 2, 24, 16).double(), torch.tensor([0, 400, 999])
    together = network(x, t)
    for row in range(3):
        close(network(x[row : row + 1], t[row : row + 1]), together[row : row + 1], 1e-12)
    assert (network(x[:1], t[1:2]) - together[:1]).abs().max() > 0.01  # the timestep matters


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activation_checkpointing_changes_no_number(dropout):
    x, t = normal(12, 2, 2, 16, 16), torch.tensor([2, 700])
    results = []
    for checkpointing in (False, True):
        network = UNet(replace(SCALE_SHIFT, dropout=dropout, activation_checkpointing=checkpointing))
        seeded(network, 1).train()
        torch.manual_seed(0)  # the same units are dropped
        out = network(x, t)
        out.square().mean().backward()
        results.append((out.detach(), [p.grad for p in network.parameters()]))
    (plain, plain_gradients), (recomputed, gradients) = results
    assert torch.equal(plain, recomputed)
    for a, b in zip(plain_gradients, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_channels": 0}, "model_channels must be at least 1, got 0"),
        ({"channel_mult": ()}, "channel_mult"),
        ({"image_size": 40}, "image_size 40 must be a multiple of 16"),
        ({"attention_sizes": (12,)}, r"attention_sizes \[12\].*\[128, 64, 32, 16, 8\]"),
        ({"attention_order": "old"}, "attention_order.*'old'"),
        ({"model_channels": 48}, "model_channels 48 must be a multiple of norm_groups 32"),
        ({"norm_groups": 0}, "norm_groups must be at least 1, got 0"),
        ({"num_head_channels": 0}, "num_head_channels must be at least 1, got 0"),
    ],
)
def test_config_errors_name_the_setting(changes, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(**changes)


def test_input_errors():
    network = UNet(TINY)
    with pytest.raises(ValueError, match="takes 2 channels, got 3"):
        network(torch.zeros(1, 3, 32, 32), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"multiples of 2, got \(32, 31\)"):
        network(torch.zeros(1, 2, 32, 31), torch.tensor([0]))
    with pytest.raises(ValueError, match="64 channels cannot be split"):
        UNet(replace(TINY, num_heads=5))


# A condition beside the timestep


@torch.no_grad()
def test_a_condition_is_added_to_the_timesteps_embedding():
    """Through one linear layer: where it maps a condition to 0, the network is the one without."""
    plain, conditioned = seeded(UNet(TINY), 3), UNet(replace(TINY, condition_dim=5))
    missing = conditioned.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys == ["condition_embed.weight", "condition_embed.bias"]
    assert UNet(TINY).state_dict().keys() == plain.state_dict().keys()
    x, t, condition = normal(1, 2, 2, TINY.image_size, TINY.image_size), torch.tensor([17, 803]), normal(4, 2, 5)
    conditioned.condition_embed.weight.zero_()
    conditioned.condition_embed.bias.zero_()
    assert torch.equal(conditioned(x, t, condition), plain(x, t))
    # a constant of the layer is a constant of the embedding's own last layer
    shift = normal(5, 4 * TINY.model_channels)
    conditioned.condition_embed.bias.copy_(shift)
    plain.time_embed[2].bias.add_(shift)
    close(conditioned(x, t, condition), plain(x, t))
    with pytest.raises(ValueError, match="takes a condition of 5 numbers, got none"):
        conditioned(x, t)
    with pytest.raises(ValueError, match="takes a condition of 0 numbers, got one of 5"):
        plain(x, t, condition)
    with pytest.raises(ValueError, match="condition_dim must be 0 or more, got -1"):
        UNetConfig(condition_dim=-1)

"""SegNet: pooling that remembers places, by hand and against torch's own, and the network written out."""

from __future__ import annotations

import pytest
import torch
from make_expected import normal, seeded
from torch import Tensor
from torch.nn import functional as F

from AmbiguousSegLib.networks.segnet import SegNet, SegNetConfig, max_pool, max_unpool

SMALL = SegNetConfig(filters=(4, 6, 8), convolutions=(2, 1, 3), norm_groups=2)


def test_pooling_and_unpooling_by_hand():
    x = torch.tensor([[1.0, 2.0, 0.0, 0.0], [3.0, 0.0, 0.0, 5.0], [7.0, 7.0, -1.0, -2.0], [7.0, 0.0, -4.0, -3.0]])
    value, place = max_pool(x[None, None])
    assert value[0, 0].tolist() == [[3.0, 5.0], [7.0, -1.0]]
    assert place[0, 0].tolist() == [[2, 3], [0, 0]]  # of three sevens the first
    back = max_unpool(torch.tensor([[10.0, 20.0], [30.0, 40.0]])[None, None], place)[0, 0]
    assert back.tolist() == [
        [0.0, 0.0, 0.0, 0.0],
        [10.0, 0.0, 0.0, 20.0],
        [30.0, 0.0, 40.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
    ]


def test_pooling_and_unpooling_are_torchs_also_among_equal_pixels():
    x = normal(1, 3, 5, 8, 12).clamp(min=0).requires_grad_()  # half of them 0
    value, place = max_pool(x)
    theirs, index = F.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(value, theirs) and place.dtype == torch.uint8
    other = normal(2, 3, 5, 4, 6)
    assert torch.equal(max_unpool(other, place), F.max_unpool2d(other, index, 2))
    weight = normal(3, 3, 5, 4, 6)
    ours = torch.autograd.grad((weight * value).sum(), x)[0]
    assert torch.equal(ours, torch.autograd.grad((weight * theirs).sum(), x)[0])


def by_hand(network: SegNet, x: Tensor, drop=None) -> Tensor:
    """SMALL with torch's own pooling, stage by stage; ``drop`` is called for the two deepest."""
    p = network.state_dict()

    def convolved(x: Tensor, name: str, layer: int) -> Tensor:
        y = F.conv2d(x, p[f"{name}.{layer}.weight"], p[f"{name}.{layer}.bias"], padding=1)
        return F.group_norm(y, 2, p[f"{name}.{layer + 1}.weight"], p[f"{name}.{layer + 1}.bias"]).clamp(min=0)

    drop, indices = drop or (lambda x: x), []
    for stage, count in enumerate((2, 1, 3)):
        for layer in range(count):
            x = convolved(x, f"down.{stage}", 3 * layer)
        x, index = F.max_pool2d(x, 2, return_indices=True)
        indices.append(index)
        x = drop(x) if stage >= 1 else x
    for stage, count in ((2, 3), (1, 1)):
        x = F.max_unpool2d(x, indices[stage], 2)
        for layer in range(count):
            x = convolved(x, f"up.{stage}", 3 * layer)
        x = drop(x)
    x = convolved(F.max_unpool2d(x, indices[0], 2), "up.0", 0)
    return F.conv2d(x, p["up.0.3.weight"], p["up.0.3.bias"], padding=1)


@pytest.mark.parametrize("dropped", [0, 2])
def test_forward_is_the_second_implementation(dropped):
    network = seeded(SegNet(SMALL, 2, 3, dropped), 1).double()
    x = normal(2, 2, 2, 16, 24).double()
    torch.testing.assert_close(network(x), by_hand(network, x), rtol=0, atol=1e-12)
    assert network(x).shape == (2, 3, 16, 24) and network(x).abs().mean() > 0.01
    assert SMALL.size_multiple == 8


def test_dropout_comes_where_bayesian_segnet_has_it():
    """After the pooling of the deepest encoder stages, and after the decoder stages that mirror them."""
    network = seeded(SegNet(SMALL, 2, 3, dropped=2), 1).double()
    x = normal(2, 2, 2, 16, 24).double()

    def dropper(seen: list):
        def drop(x: Tensor) -> Tensor:
            seen.append(x.shape)
            return x * (normal(len(seen), *x.shape) > 0)

        return drop

    ours, theirs = [], []
    torch.testing.assert_close(network(x, dropper(ours)), by_hand(network, x, dropper(theirs)), rtol=0, atol=1e-12)
    assert ours == theirs == [(2, 6, 4, 6), (2, 8, 2, 3), (2, 6, 4, 6), (2, 4, 8, 12)]
    assert (network(x, dropper([])) - network(x)).abs().max() > 1e-2
    head = network.head(x)
    assert [tuple(t.shape[1:]) for t in head] == [(6, 4, 6), (4, 8, 12), (6, 4, 6)]  # what all draws share
    assert torch.equal(network.tail(head), network(x))


def test_as_published_it_has_the_convolutions_of_vgg16():
    """13 in the encoder, 13 in the decoder; 29.4 million weights for 12 outputs.

    Of a stage with c_in, c and n convolutions the encoder has 9·c_in·c + (n − 1)·9·c² weights and n·3·c numbers beside
    them (bias, scale and shift); the decoder is the mirror, but for the last layer, which has its bias alone.
    """
    with torch.device("meta"):
        network = SegNet(SegNetConfig(), 3, 12)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 26
    stages = list(zip((3, 64, 128, 256, 512), (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)))
    encoder = sum(9 * a * c + (n - 1) * 9 * c * c + 3 * n * c for a, c, n in stages)
    decoder = sum((n - 1) * (9 * c * c + 3 * c) + 9 * c * a + 3 * a for a, c, n in stages[1:])
    decoder += 9 * 64 * 64 + 3 * 64 + 9 * 64 * 12 + 12
    assert sum(p.numel() for p in network.parameters()) == encoder + decoder
    assert 29.4e6 < encoder + decoder < 29.5e6


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"filters": (4, 8)}, "as many filters as numbers of convolutions"),
        ({"filters": (), "convolutions": ()}, "positive integers"),
        ({"filters": (4, 0, 8)}, r"positive integers, got \(4, 0, 8\)"),
        ({"norm_groups": 3}, r"divide all filters, got 3 and \(4, 6, 8\)"),
        ({"filters": (65_538,) * 3}, "at most 65,536 channels"),
    ],
)
def test_config_errors(changes, named):
    with pytest.raises(ValueError, match=named):
        SegNetConfig(**{"filters": SMALL.filters, "convolutions": SMALL.convolutions, "norm_groups": 2, **changes})

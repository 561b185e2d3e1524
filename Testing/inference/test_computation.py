"""What a GPU may compute otherwise: what of it a CPU can show, and that a CPU refuses it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from shared_data import REPOSITORY
from tiny_models import randomised, tiny_cimd, tiny_model

from AmbiguousSegLib.diffusion import process
from AmbiguousSegLib.diffusion.noise import DeviceNoise, RowNoise
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.inference import computation
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.inference.computation import Computation, replayed
from AmbiguousSegLib.inference.noise_ahead import NoiseAhead
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.volume.geometry import Geometry

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GRID = Geometry((16, 16, 2), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
ROWS = [(slice_, sample) for sample in range(3) for slice_ in (4, 5)]


def test_what_cannot_work_is_refused(monkeypatch):
    cimd = tiny_cimd()
    one_pass = SimpleNamespace(name="ssn", samples_by_steps=False)
    for asked, method, device, told in (
        (Computation("bfloat16"), cimd, CPU, "bfloat16 is for CUDA GPUs, on cpu it would be slower"),
        (Computation(cuda_graph=True), cimd, CPU, "A CUDA graph needs a CUDA GPU, the model is on cpu"),
        (Computation(cuda_graph=True), one_pass, CUDA, "ssn evaluates its network once"),
    ):
        with pytest.raises(ValueError, match=told):
            asked.check(method, device)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: False)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "An old one")
    with pytest.raises(ValueError, match="An old one does not compute in bfloat16; take float32"):
        Computation("bfloat16").check(cimd, CUDA)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    Computation("bfloat16", cuda_graph=True, random_source="device").check(cimd, CUDA)
    Computation(random_source="device").check(cimd, CPU)
    for wrong in ({"precision": "half"}, {"random_source": "dice"}):
        with pytest.raises(ValueError, match=r"must be \w+ or \w+, got '(half|dice)'"):
            Computation(**wrong)
    with pytest.raises(ValueError, match="bfloat16 is for CUDA GPUs"):  # before anything is drawn
        next(draw_masks(cimd, lambda i: 1 / 0, [0], [0], 0, SamplerSettings(), 1, computation=Computation("bfloat16")))


def test_the_provenance_says_how_it_was_computed():
    volume = np.random.default_rng(0).random((1, *GRID.shape), dtype=np.float32)
    model = tiny_model()
    usual = sample_volume(model, volume, GRID, SampleRequest(2))
    assert usual.provenance["computation"] == {
        "precision": "float32",
        "cuda_graph": False,
        "random_source": "addressed",
    }
    other = sample_volume(model, volume, GRID, SampleRequest(2, computation=Computation(random_source="device")))
    assert other.provenance["computation"]["random_source"] == "generator of cpu"
    assert np.mean(usual.masks != other.masks) > 0.05


@pytest.mark.parametrize("period", [0.0, 3.0, float("inf")])
def test_device_noise_depends_on_row_and_draw_alone(period):
    noise = DeviceNoise(7, ROWS, slice_period=period)
    whole = noise.normal(2, (20, 20))
    assert torch.equal(DeviceNoise(7, ROWS[3:4], slice_period=period).normal(2, (20, 20))[0], whole[3])
    assert torch.equal(noise.normal(2, (20, 20)), whole) and not torch.equal(noise.normal(3, (20, 20)), whole)
    assert not torch.equal(whole, RowNoise(7, ROWS, slice_period=period).normal(2, (20, 20)))
    independent = DeviceNoise(1, [(4, sample) for sample in range(8)], slice_period=period)
    assert stats.kstest(independent.normal(0, (50, 50)).flatten().numpy(), "norm").pvalue > 0.001
    uniform = independent.uniform(1, (50, 50))
    assert stats.kstest(uniform.flatten().numpy(), "uniform").pvalue > 0.001 and float(uniform.max()) < 1


def test_device_noise_turns_from_one_field_to_the_next():
    """cos and sin of the same angle as those of ``RowNoise``, of fields at the multiples of the period."""
    fields = DeviceNoise(7, [(0, 1), (1, 1)]).normal(0, (30, 30))
    third = DeviceNoise(7, [(1, 1)], slice_period=3.0).normal(0, (30, 30))[0]
    torch.testing.assert_close(third, np.cos(np.pi / 6) * fields[0] + np.sin(np.pi / 6) * fields[1], rtol=0, atol=1e-6)


def test_noise_made_ahead_is_the_same_and_is_there_in_time(monkeypatch):
    asks = [("normal", 0, (1, 4, 4)), ("normal", 1, (1, 4, 4)), ("uniform", 2, ())]
    made = []
    original = NoiseAhead._made
    monkeypatch.setattr(
        NoiseAhead, "_made", lambda self, rows, ask: made.append((rows, ask)) or original(self, rows, ask)
    )
    ahead = NoiseAhead(3, CPU, slice_period=2.0)
    batches = [ROWS[i : i + 2] for i in range(0, 6, 2)]
    for rows, following in zip(batches, [*batches[1:], []]):
        noise = ahead.of(rows, following)
        for kind, draw, shape in asks:
            expected = getattr(RowNoise(3, rows, slice_period=2.0), kind)(draw, shape)
            assert torch.equal(getattr(noise, kind)(draw, shape), expected)
    # A batch that was announced and comes smaller, as where the memory ends, and a draw that nobody expected.
    noise = ahead.of(ROWS[1:2], [])
    assert torch.equal(noise.normal(0, (1, 4, 4)), RowNoise(3, ROWS[1:2], slice_period=2.0).normal(0, (1, 4, 4)))
    assert torch.equal(noise.normal(9, (2,)), RowNoise(3, ROWS[1:2], slice_period=2.0).normal(9, (2,)))
    ahead.close()
    whole = [(tuple(rows), ask) for rows in batches for ask in asks]
    assert sorted(m for m in made if m in whole) == sorted(whole)  # each once, though some waited


def test_masks_are_the_same_whether_noise_is_made_ahead(monkeypatch):
    """As on a GPU, whose numbers a CPU computes here."""
    method = randomised(tiny_cimd())
    image = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = SamplerSettings("ddpm", 3)

    def values():
        drawn = draw_masks(method, lambda i: image[i], [0, 1], range(3), 5, settings, batch_size=4)
        return torch.cat([part for _, part in drawn])

    expected, used = values(), []

    def ahead(seed, device, period):
        used.append(NoiseAhead(seed, device, period))
        return used[0]

    monkeypatch.setattr(computation, "_NoiseAtOnce", lambda kind, *arguments: ahead(*arguments))
    assert torch.equal(values(), expected) and used


def test_a_recorded_network_stands_in_and_goes_again():
    """What is recorded is what the network gives, once for each shape; its result is the caller's own."""
    network = randomised(tiny_cimd()).unet
    recorded = []

    def record(forward, arguments):
        recorded.append([None if a is None else tuple(a.shape) for a in arguments])
        return forward

    x, t = torch.randn(3, network.config.in_channels, 16, 16), torch.tensor([1, 5, 9])
    expected = network(x, t)
    with replayed(network, record):
        assert torch.equal(network(x, t), expected) and torch.equal(network(x, t), expected)
        network(x[:2], t[:2])
    assert recorded == [[tuple(x.shape), (3,)], [(2, *x.shape[1:]), (2,)]]
    assert torch.equal(network(x, t), expected) and len(recorded) == 2


def test_tables_are_copied_to_a_device_once_with_the_bits_of_the_cpu():
    values = np.linspace(0, 1, 1000) ** 2
    index = torch.tensor([0, 3, 999])
    table = process._copied(values.tobytes(), values.dtype.str, CPU)
    assert torch.equal(table[index].reshape(-1, 1), process.at(values, index, torch.zeros(3, 1)))
    assert process._copied(values.copy().tobytes(), values.dtype.str, CPU) is table and not table.is_inference()


def test_the_arguments_are_read_without_torch():
    code = "import sys, AmbiguousSegLib.cli.computation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_autocast_is_that_of_training(monkeypatch):
    """On a CPU, which computes in bfloat16 though it gains nothing: near float32, and not the same."""
    method = randomised(tiny_cimd())
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    arguments = (method, lambda i: image[i], [0], range(2), 5, SamplerSettings("dpm++2m", 2), 2)
    ((_, full),) = draw_masks(*arguments)
    monkeypatch.setattr(Computation, "check", lambda *_: None)
    ((_, half),) = draw_masks(*arguments, computation=Computation("bfloat16"))
    assert half.dtype == torch.float32 and 1e-5 < (half - full).abs().mean() < 0.05

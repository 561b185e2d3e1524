"""CIMD in the published code's settings against that code's numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from make_expected import ENCODER, SMALL, TINY, check
from shared_data import shared_path

from AmbiguousSegLib.diffusion import process
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.diffusion.step_grids import both_ends
from AmbiguousSegLib.methods.cimd import CIMD, CIMDConfig

PUBLISHED = CIMDConfig(unet=SMALL, mask_levels=(0.0, 1.0), acn_input="noise", encoder=ENCODER)


def golden(name: str) -> dict:
    return torch.load(shared_path(f"golden/{name}.pt"), weights_only=True)


def published(config: CIMDConfig = PUBLISHED) -> CIMD:
    """With the golden weights; prior and posterior of that code are ACN and AMN."""
    method = CIMD(config).eval()
    method.unet.load_state_dict(golden("unet_small_state"))
    encoders = golden("encoders_small_state")
    for encoder, prefix in ((method.acn, "prior."), (method.amn, "posterior.")):
        encoder.load_state_dict({k.removeprefix(prefix): v for k, v in encoders.items() if k.startswith(prefix)})
    return method


def close(got: torch.Tensor, expected: torch.Tensor, atol: float) -> None:
    torch.testing.assert_close(got.detach(), expected, rtol=0, atol=atol, check_dtype=False)


class StoredNoise:
    """Draw 0 is x_T; draw k was added at the k-th step."""

    def __init__(self, data: dict) -> None:
        self.data = data

    def normal(self, draw: int, shape: tuple[int, ...]) -> torch.Tensor:
        out = self.data["noise"][draw - 1] if draw else self.data["x_T"]
        assert out.shape[1:] == shape
        return out


def in_precision(data: dict, dtype: torch.dtype) -> dict:
    floating = {name for name, value in data.items() if torch.is_tensor(value) and value.is_floating_point()}
    return {name: value.to(dtype) if name in floating else value for name, value in data.items()}


# A chain multiplies a relative change of 1e-7 of x_T by 7.9 (50 steps) and 6.5 (10 steps). In float64 the difference is
# the golden numbers' own rounding, 3.6e-6 and 7.6e-6 on every processor; in float32 it is 2.9e-6 to 6.5e-6 and 7e-6 to
# 2.8e-5, by vector unit and number of threads (Benchmarks/processors.md).
@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "steps", "dtype", "atol"),
    [
        pytest.param("psample50", 50, torch.float64, 1e-5, marks=pytest.mark.slow),
        pytest.param("psample50", 50, torch.float32, 2e-5, marks=pytest.mark.slow),
        ("tiny_all_in_one", 10, torch.float64, 2e-5),
        ("tiny_all_in_one", 10, torch.float32, 7e-5),
    ],
)
def test_golden_chain(name, steps, dtype, atol):
    data = in_precision(golden(name), dtype)
    if name == "psample50":
        method = published()
    else:
        method = CIMD(replace(PUBLISHED, unet=TINY, beta_ambiguity=0.0)).eval()
        method.unet.load_state_dict(data["state"])
    visited, estimates, denoise = [], [], method.denoise

    def spy(image, x_t, index):
        out = denoise(image, x_t, index)
        visited.append(x_t)
        estimates.append(out.x0)
        return out

    method.to(dtype).denoise = spy
    final = method.sample((data["image"],), StoredNoise(data), SamplerSettings("ddpm", steps, "both_ends"))
    assert len(visited) == steps
    close(torch.stack([*visited[1:], final]), data["samples"], atol)
    if "final" in data:
        close(final, data["final"], atol)
    if dtype == torch.float64:
        for k, t in enumerate(reversed(data["timestep_map"].tolist())):
            magnified = method.schedule.alphas_cumprod[t] ** -0.5  # ε to x_0: 157 at t = 999, where 2.7e-4 is measured
            close(estimates[k], data["pred_xstart"][k], max(1e-4, 6e-4 * magnified / 157))


@torch.no_grad()
@pytest.mark.parametrize(
    ("case", "steps"), [("T1000_t0_1", 1000), ("T1000_t499_999", 1000), ("R50_t0_1", 50), ("R50_t25_49", 50)]
)
def test_golden_mean_and_variance_of_the_reverse_step(case, steps):
    """In float64. What is left is the rounding of the golden numbers, measured as 2.4e-4 at t = 999."""
    data, method = in_precision(golden("p_mean_variance"), torch.float64), published().double()
    kept = both_ends(1000, steps)
    schedule = method.schedule.respaced(kept)
    index = torch.tensor([int(i) for i in case.split("_t")[1].split("_")])
    image, x_t = data["x"][:, :1], data["x"][:, 1:]
    out = method.denoise(image, x_t, torch.from_numpy(kept)[index])
    log_variance = process.learned_range_log_variance(schedule, out.log_variance, index)
    for row, estimate in enumerate(out.x0):
        # The network's output is good to 2.6e-6, and ε to x_0 multiplies that by √(1/ā − 1); x_0 itself is float32.
        magnified = (1 / schedule.alphas_cumprod[index[row]] - 1) ** 0.5
        close(estimate, data[f"{case}_pred_xstart"][row], 1.5e-7 + 3e-6 * magnified)
    close(process.posterior_mean(schedule, out.x0, x_t, index), data[f"{case}_mean"], 1.5e-6)  # measured: 6.2e-7
    close(log_variance, data[f"{case}_log_variance"], 1e-5)  # of up to 11; measured: 4.4e-6
    close(log_variance.exp(), data[f"{case}_variance"], 2e-7)  # measured: 7.2e-8


@torch.no_grad()
def test_golden_losses():
    data, method = golden("training_losses"), published().double()
    terms = method.losses(data["x_start"][:, :1], data["x_start"][:, 1:], data["t"], data["noise"])
    for ours, theirs in (
        ("simple", "mse"),
        ("vlb", "vb_rescaled"),
        ("ambiguity", "kl_over_1000"),
        ("loss", "loss"),
    ):
        close(terms[ours], data[theirs], 1e-6)


@pytest.mark.slow
def test_golden_gradients():
    """Of the mean loss, through the divergence too, in float64. The golden ones were made in float32.

    Relative to the largest, they differ by up to 2.4e-6, and the bias of the output, a sum over all 16384 pixels, by
    9.6e-6. In float32 that sum moves by 1.1e-5 from one number of threads to another.
    """
    data, method = golden("training_losses"), published().double()
    x = data["x_start"]
    method.losses(x[:, :1], x[:, 1:], data["t"], data["noise"])["loss"].mean().backward()
    gradients = {name: tensor for name, tensor in data.items() if name.startswith("grad_")}
    assert len(gradients) == 5
    for name, expected in gradients.items():
        got = method.unet.get_parameter(name.removeprefix("grad_")).grad
        close(got, expected.double(), (2e-5 if name == "grad_out.2.bias" else 5e-6) * expected.abs().max().item())


@pytest.mark.parametrize("prefix", ["", "pm1_"])
def test_golden_losses_of_a_stored_output(prefix):
    """With the network's output given, what is left are the equations: λ·T = 1 leaves the bound as it is."""
    data = golden("training_losses")
    method = published(replace(PUBLISHED, mask_levels=(-1.0, 1.0)) if prefix else PUBLISHED).double()
    mask = data["x_start"][:, 1:] * (2 if prefix else 1) - (1 if prefix else 0)
    output = data[f"{prefix}model_output_full"].double()
    seen = []

    def network(image, x_t, index):
        seen.append(x_t)
        return output[:, :1], output[:, 1:]

    method._network = network
    terms = method.losses(data["x_start"][:, :1], mask, data["t"], data["noise"])
    close(seen[0], data[f"{prefix}x_t"], 1e-12)
    close(terms["simple"], data[f"{prefix}mse"], 1e-6)
    close(terms["vlb"], data[f"{prefix}vb"], 1e-6)


@torch.no_grad()
def test_golden_losses_with_levels_of_plus_minus_one():
    data = golden("training_losses")
    method = published(replace(PUBLISHED, mask_levels=(-1.0, 1.0))).double()
    terms = method.losses(data["x_start"][:, :1], data["x_start"][:, 1:] * 2 - 1, data["t"], data["noise"])
    close(terms["simple"], data["pm1_mse"], 1e-6)
    close(terms["vlb"], data["pm1_vb"], 1e-6)


@torch.no_grad()
def test_single_precision_loses_nothing_in_the_bound():
    """The discretised likelihood at t = 0 is computed in float64 whatever the network's precision."""
    data, method = golden("training_losses"), published()
    x = data["x_start"].float()
    terms = method.losses(x[:, :1], x[:, 1:], data["t"], data["noise"].float())
    assert terms["loss"].dtype == torch.float32
    close(terms["vlb"], data["vb_rescaled"], 6e-7)  # measured: up to 2.1e-7, by vector unit
    close(terms["loss"], data["loss"], 1e-6)  # measured: up to 3.7e-7


def test_stored_losses_gradients_and_chain():
    check("methods/expected/cimd.npz", 5e-6, chain_crop=2e-5)  # measured: 1.9e-6, of a gradient, and 7.5e-6


def test_encoders_at_random_start_stay_what_they_are():
    """The published code optimises the U-Net alone; ``train_encoders=False`` is that."""
    method = published(replace(PUBLISHED, train_encoders=False))
    trained = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert trained == {f"unet.{name}" for name in golden("unet_small_state")}

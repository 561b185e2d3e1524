"""What AMN and ACN do, for each reading of CIMD and for CIMD-L, after the same short training on the 32 × 32 phantom.

    python Testing/Benchmarks/ambiguity_terms.py --out FILE.md [--images 16000] [--seeds 0 1 2] [--device auto]

The systems are the presets of ``Resources/Presets/systems``, with a network of three levels for 32 × 32 pixels; each
seed draws weights, order, noise and phantoms' raters anew. What is measured stands above the table.
"""

from __future__ import annotations

import argparse
import copy
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.data.evaluation_cases import EvaluationCase, held_out_cases
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.diffusion import process
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.methods import Batch, Method
from AmbiguousSegLib.methods.cimd import CIMD
from AmbiguousSegLib.training.dataset import open_data
from AmbiguousSegLib.training.trainer import Trainer
from AmbiguousSegLib.training.validation import score

SYSTEMS = {
    "ddpm-prob-seg": "no AMN, no ACN (DDPM-Prob-Seg)",
    "cimd-literal": "literal: ACN sees the noise",
    "cimd-frozen": "published code: frozen",
    "cimd": "prose: ACN sees the mask",
    "cimd-likelihood": "AMN with a likelihood",
    "cimd-l": "latent fed to the denoiser (CIMD-L)",
}
COLUMNS = {  # key: title, digits after the point
    "kl": "KL(Q ‖ P), nats",
    "gradient": "gradient of the term ÷ of the simple loss",
    "bits": "bits of the mask in z",
    "ged": "GED² u",
    "spread": "E d(S,S') u ÷ E d(Y,Y') u",
}
READING = """\
- KL: of AMN's Gaussian from ACN's, over held-out cases, raters' masks and timesteps drawn uniformly
- gradient: norm of the gradient of the weighted term (β included) with respect to the denoiser's weights, over that of
  the simple loss, on the same batches; in CIMD-L the term does not touch the denoiser, which reads z instead
- bits: I(mask; z | image) = E log₂ q(z | image, mask) − log₂ of its mean over {raters} masks of the same image, drawn
  from the phantom's true distribution; at most log₂ {raters} = {most:.1f}
- GED² u, spread: of {samples} samples for each of {cases} cases against {raters} raters, by the presets' sampler
- mean and 95 % interval (Student's t) over {seeds} training seeds"""
_POSITIONS = 8  # timesteps per mask in KL; draws of z per mask in bits
_BATCH = 64


def configuration(system: str, images: int, seed: int) -> list[str]:
    """Arguments of ``train`` for one system and seed."""
    return [
        *("--config", f"systems/{system}"),
        *("--method_config.unet.image_size=32", "--method_config.unet.channel_mult=[1, 2, 4]"),
        *("--labels=[{name: nodule}]", "--dataset.kind=phantom", "--dataset.size=[32, 32]", "--dataset.channels=[CT]"),
        *("--dataset.spacing_mm=2.0", "--dataset.plane=axial", "--card.name=" + system, f"--seed={seed}"),
        "--dataset.intensity={rule: window, low: -1000.0, high: 200.0}",
        *(f"--optimisation.images={images}", "--optimisation.batch_size=16", "--optimisation.schedule=cosine"),
        *(f"--optimisation.warmup_images={min(1600, images // 10)}", "--optimisation.ema_decay=0.999"),
        *(f"--validation.every_images={images}", "--validation.cases=1", f"--checkpoint_every_images={images}"),
    ]


def trained(system: str, images: int, seed: int, folder: Path, device: torch.device) -> Trainer:
    """The trainer at the end of its run."""
    config = parse([*configuration(system, images, seed), "--out", str(folder)])[1]
    trainer = Trainer(open_data(config, None), folder, device)
    trainer.run()
    return trainer


def inputs(method: Method, case: EvaluationCase, seed: int, device: torch.device) -> tuple[Tensor, ...]:
    """Image, x_0 on the mask levels, t and x_t for each mask of a case."""
    masks = torch.from_numpy((case.masks > 0).astype(np.float32))[:, None].to(device)
    image = torch.from_numpy(case.image)[None].to(device).expand(len(masks), -1, -1, -1)
    noise = RowNoise(seed, [(row, 0) for row in range(len(masks))], device=device)
    x0, index = method.on_levels(masks), method.random_index(noise, device)
    return image, x0, index, process.q_sample(method.schedule, x0, index, noise.normal(1, x0.shape[1:]))


def prior_of(method: Method, image: Tensor, x_t: Tensor, index: Tensor) -> Distribution:
    """P(z | …) of ACN at a step: of CIMD given what it predicts from x_t (Eq. 13), of CIMD-L as it says itself."""
    if not isinstance(method, CIMD):
        return method.prior(image, x_t, index)
    prediction, _ = method._network(image, x_t, index)
    estimate = process.x0_from(method.config.prediction, method.schedule, prediction, x_t, index)
    return method.acn(method._seen_by_acn(image, x_t, index, estimate))


def mask_bits(q: Distribution, draws: int, generator: torch.Generator) -> float:
    """I(mask; z) in bits between the rows of ``q``, one Gaussian for each of M equally likely masks, and z.

    By ``draws`` of z from each: E log₂ q_i(z) − log₂ Σ_j q_j(z)/M, j = i among them.
    """
    base = q.mean
    factor = torch.linalg.cholesky(q.covariance_matrix) if hasattr(q, "covariance_matrix") else None
    noise = torch.randn(draws, *base.shape, generator=generator).to(base)
    scaled = noise * q.stddev if factor is None else torch.einsum("mij,dmj->dmi", factor, noise)
    z = (base + scaled)[:, :, None, :]  # (draws, M, 1, N) against the M Gaussians
    log_q = q.log_prob(z)
    own = log_q.diagonal(dim1=1, dim2=2)
    return float((own - log_q.logsumexp(-1) + math.log(len(base))).mean() / math.log(2))


def gradient_ratio(method: Method, cases: Sequence[EvaluationCase], device: torch.device) -> float:
    """Norm of the gradient of the ambiguity term over that of the simple loss, of the denoiser's weights."""
    method = copy.deepcopy(method).train()
    method.requires_grad_(True)
    masks = np.concatenate([case.masks[: _BATCH // len(cases) + 1] for case in cases])[:, None]
    counts = [len(case.masks[: _BATCH // len(cases) + 1]) for case in cases]
    images = np.concatenate([np.repeat(case.image[None], n, 0) for case, n in zip(cases, counts, strict=True)])
    batch = Batch(torch.from_numpy(images).to(device), torch.from_numpy((masks > 0).astype(np.float32)).to(device))
    weights = list(method.unet.parameters())
    norms = []
    for name in ("ambiguity" if "ambiguity" in _terms(method, batch, device) else "divergence", "simple"):
        term = _terms(method, batch, device)[name]
        found = torch.autograd.grad(term, weights, allow_unused=True)
        norms.append(sum(float((g**2).sum()) for g in found if g is not None) ** 0.5)
    return norms[0] / norms[1]


def _terms(method: Method, batch: Batch, device: torch.device) -> dict[str, Tensor]:
    return method.training_loss(batch, RowNoise(5, [(row, 0) for row in range(len(batch.mask))], device=device))


def figures(trainer: Trainer, cases: Sequence[EvaluationCase], samples: int, device: torch.device) -> dict[str, float]:
    """The columns of one trained system; nan where there is no latent."""
    method = trainer.averaged
    scored = [one.figures for one in score(method, cases, samples, 0, trainer.config.sampling, _BATCH)]
    among, raters = (np.mean([f[key] for f in scored]) for key in ("distance_samples_u", "distance_raters"))
    raters *= len(cases[0].masks) / (len(cases[0].masks) - 1)  # over pairs of different raters, as of samples
    found = {"ged": float(np.mean([f["ged_u"] for f in scored])), "spread": float(among / raters)}
    if getattr(method, "amn", None) is None:
        return {**dict.fromkeys(COLUMNS, math.nan), **found}
    generator, nats, bits = torch.Generator().manual_seed(0), [], []
    with torch.no_grad():
        for number, case in enumerate(cases):
            for position in range(_POSITIONS):
                image, x0, index, x_t = inputs(method, case, number * _POSITIONS + position, device)
                q = method.amn(torch.cat([image, x0], dim=1))
                nats.append(float(kl_divergence(q, prior_of(method, image, x_t, index)).mean()))
            bits.append(mask_bits(q, _POSITIONS, generator))
    ratio = gradient_ratio(method, cases, device)
    return {"kl": float(np.mean(nats)), "gradient": ratio, "bits": float(np.mean(bits)), **found}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (Student's t; nan for a single value)."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), math.nan
    return float(np.mean(values)), float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: a row per system, mean ± half interval over its seeds."""

    def cell(values: Sequence[float]) -> str:
        mean, half = interval(values)
        if math.isnan(mean):
            return "–"
        return f"{mean:.3g}" if math.isnan(half) else f"{mean:.3g} ± {half:.2g}"

    lines = [f"| system | {' | '.join(COLUMNS.values())} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    for system, runs in found.items():
        lines.append(f"| {SYSTEMS[system]} | {' | '.join(cell([run[key] for run in runs]) for key in COLUMNS)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=16000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--cases", type=int, default=48)
    parser.add_argument("--raters", type=int, default=32)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    found: dict[str, list[dict[str, float]]] = {system: [] for system in options.systems}
    for seed in options.seeds:
        for system in options.systems:
            with tempfile.TemporaryDirectory() as folder:
                trainer = trained(system, options.images, seed, Path(folder) / "run", device)
            cases = held_out_cases(trainer.config.dataset, "test", options.cases, options.raters)
            found[system].append(figures(trainer, cases, options.samples, device))
            print(system, seed, found[system][-1], flush=True)
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True, check=False).stdout.strip()
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    reading = READING.format(
        raters=options.raters,
        most=math.log2(options.raters),
        samples=options.samples,
        cases=options.cases,
        seeds=len(options.seeds),
    )
    text = "\n".join(
        [
            "# What AMN and ACN do",
            "",
            f"- made by `python {' '.join(['Testing/Benchmarks/ambiguity_terms.py', *sys.argv[1:]])}` at commit "
            f"{commit or 'unknown'}, {date.today()}, {machine}; {options.images:,} images of the 32 × 32 phantom each",
            reading,
            "",
            table(found),
            "",
        ]
    )
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""How fast a model samples, against the published procedure, in one run.

    python Testing/Benchmarks/speed.py [--model NAME] [--steps 4] [--device cuda] [--official PATH] [--out FILE]

On a CPU seconds are those of the processor (``time.process_time``), so that other work on the machine matters little,
and what is compared is measured in turns: read the ratios, not the seconds. On a GPU they are those of the clock. The
published procedure is DDPM at all steps of the training, one mask at a time, with the same network and this
implementation: 20 of its steps are measured and multiplied. ``--official`` takes a checkout of CIMD's code and measures
its network, with the same weights, in its stead.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.diffusion.settings import GAUSSIAN, SamplerSettings
from AmbiguousSegLib.files import size_text
from AmbiguousSegLib.inference.batches import draw_masks
from AmbiguousSegLib.inference.computation import Computation
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import Model, load_model
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.writing import write_volume

PUBLISHED_STEPS, ROUNDS = 20, 3
BATCHES = (1, 4, 16, 32)
Row = tuple[str, str]
Key = TypeVar("Key")


def seconds_of(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """What measures a piece of work: processor time on a CPU, time by the clock on a GPU."""

    def measured(work: Callable[[], object]) -> float:
        if device.type == "cpu":
            start = time.process_time()
            work()
            return time.process_time() - start
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return measured


def in_turns(device: torch.device, works: dict[Key, Callable[[], object]], rounds: int = ROUNDS) -> dict[Key, float]:
    """Median of the seconds of each, all of them once in every round, after a first round that does not count."""
    measured, seconds = seconds_of(device), {name: list[float]() for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            spent = measured(work)
            if number:
                seconds[name].append(spent)
    return {name: statistics.median(each) for name, each in seconds.items()}


def drawing(
    model: Model, samples: int, settings: SamplerSettings, batch: int, computation: Computation | None = None
) -> Callable[[], object]:
    """Draws masks of one slice."""
    image = slice_of(model)

    def draw() -> None:
        for _ in draw_masks(
            model.method, lambda _: image, [0], range(samples), 0, settings, batch, computation=computation
        ):
            pass

    return draw


def slice_of(model: Model) -> torch.Tensor:
    height, width = model.preprocessing.size or (64, 64)
    return torch.rand(model.method.image_channels, height, width, generator=torch.Generator().manual_seed(0))


def volume_of(model: Model, slices: int) -> tuple[np.ndarray, Geometry]:
    """Noise of the model's own size and spacing: what is in a volume makes no difference to the time."""
    spacing = float(model.preprocessing.spacing_mm or 1)
    height, width = model.preprocessing.size or (64, 64)
    grid = Geometry((width, height, slices), (spacing, spacing, 2.0), (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    low, high = -1000.0, 400.0
    values = np.random.default_rng(0).uniform(low, high, (len(model.preprocessing.channels), *grid.shape))
    return values.astype(np.float32), grid


def of_batches(model: Model, settings: SamplerSettings) -> Iterator[Row]:
    """One evaluation of the network, per mask, at several batches."""
    works = {batch: drawing(model, batch, replace(settings, steps=1), batch) for batch in BATCHES}
    spent = in_turns(model.device, works)
    told = ", ".join(f"{batch}: {1000 * seconds / batch:.1f}" for batch, seconds in spent.items())
    yield "ms per mask and evaluation, by the masks of a batch", told


def against_published(model: Model, settings: SamplerSettings, official: Path | None) -> Iterator[Row]:
    """A mask by few evaluations in batches of 16, against one at a time by all steps of the training."""
    steps, works = model.training_steps, {"ours": drawing(model, 16, settings, 16)}
    published = SamplerSettings("ddpm", PUBLISHED_STEPS)
    if steps is not None and model.method.sampler_family == GAUSSIAN:
        works["published"] = drawing(model, 1, published, 1)
    if official is not None:
        works["official"] = official_network(model, official)
    seconds = in_turns(model.device, works)
    ours = seconds.pop("ours") / 16
    yield f"one mask of 16, {settings.in_words(model.method.sampler_family)}", f"{1000 * ours:.1f} ms"
    names = {
        "published": f"DDPM at {steps} steps, one mask at a time",
        "official": "the official network at as many",
    }
    for name, spent in seconds.items():
        mask = spent * (steps or 0) / PUBLISHED_STEPS
        yield (
            f"{names[name]} ({PUBLISHED_STEPS} steps measured, times {(steps or 0) / PUBLISHED_STEPS:g})",
            f"{mask:.2f} s",
        )
        yield "**ratio per mask**", f"**{mask / ours:.0f} ×**"
        per_step, own = spent / PUBLISHED_STEPS, ours / settings.steps
        yield "**ratio per evaluation** (batch 16 against batch 1)", f"**{per_step / own:.2f} ×**"


def official_network(model: Model, checkout: Path) -> Callable[[], object]:
    """Evaluations of the network of CIMD's own code, with the model's weights; its outputs are checked to be ours."""
    sys.path.insert(0, str(checkout))
    from guided_diffusion import nn, unet

    own, config = model.method.get_submodule("unet"), model.method.get_submodule("unet").config
    unet.normalization = lambda channels: nn.GroupNorm32(config.norm_groups, channels)  # always 32 groups there
    network = unet.UNetModel(
        image_size=config.image_size,
        in_channels=config.in_channels,
        model_channels=config.model_channels,
        out_channels=config.out_channels,
        num_res_blocks=config.num_res_blocks,
        attention_resolutions=[config.image_size // size for size in config.attention_sizes],
        channel_mult=config.channel_mult,
        num_heads=config.num_heads,
        num_head_channels=config.num_head_channels or -1,
        use_scale_shift_norm=config.use_scale_shift_norm,
        use_new_attention_order=config.attention_order == "new",
    )
    network.load_state_dict(own.state_dict())
    network.to(model.device).eval()
    x = torch.rand(1, config.in_channels, config.image_size, config.image_size, device=model.device)
    t = torch.tensor([500], device=model.device)

    def evaluate() -> torch.Tensor:
        with torch.no_grad():
            for _ in range(PUBLISHED_STEPS):
                out = network(x, t)
        return out

    with torch.no_grad():
        torch.testing.assert_close(evaluate(), own(x, t), rtol=1e-3, atol=1e-3)
    return evaluate


def of_options(model: Model, settings: SamplerSettings) -> Iterator[Row]:
    """On a GPU: what its options gain, batch 64."""
    ways = {
        "float32": Computation(),
        "bfloat16": Computation("bfloat16"),
        "CUDA graph": Computation(cuda_graph=True),
        "device generator": Computation(random_source="device"),
        "all three": Computation("bfloat16", cuda_graph=True, random_source="device"),
    }
    works = {name: drawing(model, 256, settings, 64, way) for name, way in ways.items()}
    for name, spent in in_turns(model.device, works).items():
        yield f"256 masks at batch 64, {name}", f"{1000 * spent:.0f} ms"


def of_one_slice(model: Model, settings: SamplerSettings) -> Iterator[Row]:
    volume, grid = volume_of(model, 1)
    request = SampleRequest(16, sampler=settings)
    spent = in_turns(model.device, {"": lambda: sample_volume(model, volume, grid, request)})[""]
    yield "16 masks of one slice, `sample_volume`, one thread", f"{spent:.2f} s"


def of_growth(model: Model, settings: SamplerSettings) -> Iterator[Row]:
    """Seconds per mask of larger tasks over those of the smallest."""
    works = {}
    for n, slices in ((8, 4), (32, 4), (8, 16)):
        volume, grid = volume_of(model, slices)
        request = SampleRequest(n, sampler=replace(settings, steps=1))
        works[n, slices] = lambda v=volume, g=grid, r=request: sample_volume(model, v, g, r)
    per_mask = {(n, z): seconds / (n * z) for (n, z), seconds in in_turns(model.device, works).items()}
    for case, title in (((32, 4), "four times the samples (8 to 32)"), ((8, 16), "four times the slices (4 to 16)")):
        yield f"time per mask at {title}, relative", f"{per_mask[case] / per_mask[8, 4]:.2f}"


def of_a_volume(name: str, steps: int, device: str) -> Iterator[Row]:
    """64 slices × 8 samples by ``sample`` on two threads, in a process of its own for its peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        code = "import sys; sys.path.insert(0, sys.argv[1]); import speed; speed.one_volume(*sys.argv[2:])"
        run = [sys.executable, "-c", code, str(Path(__file__).parent), name, str(steps), device, folder]
        # Threads that spin while they wait would count, and on a busy machine take what others need.
        environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
        ended = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", env=environment)
    if ended.returncode:
        raise SystemExit(f"The volume was not sampled: {ended.stderr[-2000:]}")
    found = json.loads(ended.stdout.splitlines()[-1])
    spent = f"{found['cpu']:.1f} s of the processors in all, {found['clock']:.1f} s by the clock"
    yield "64 slices × 8 samples, `sample` without the process's start, two threads", spent
    yield "peak of resident memory, torch included", size_text(found["peak_bytes"])


def one_volume(name: str, steps: str, device: str, folder: str) -> None:
    """The child of ``of_a_volume``."""
    import resource

    from AmbiguousSegLib import cli
    from AmbiguousSegLib.cli import sample  # noqa: F401  (its imports belong to the start)

    model = load_model(find_model(name))
    volume, grid = volume_of(model, 64)
    paths = [str(Path(folder) / f"channel_{k}.nrrd") for k in range(len(volume))]
    for path, channel in zip(paths, volume, strict=True):
        write_volume(Path(path), channel, grid)
    arguments = ["--model", name, "--samples", "8", "--out", str(Path(folder) / "out"), "--device", device]
    if model.method.samples_by_steps:
        arguments += ["--steps", steps]
    start = time.process_time(), time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        code = cli.main(["sample", *paths, *arguments])
    if code:
        raise SystemExit(code)
    spent = {"cpu": time.process_time() - start[0], "clock": time.perf_counter() - start[1]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({**spent, "peak_bytes": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="phantom-cimd-64", help="name or folder")
    parser.add_argument("--steps", type=int, default=4, help="evaluations, of the model's own sampler (default: 4)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--official", type=Path, help="checkout of CIMD's code")
    parser.add_argument("--out", type=Path, help="append the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # noise is no scan, as each sampling would say
    device = choose_device(options.device)
    model = load_model(find_model(options.model), device)
    by_steps = model.method.samples_by_steps
    settings = replace(model.sampling, steps=options.steps) if by_steps else replace(model.sampling, steps=1)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU, one thread"
    lines = [
        f"## {model.card.name} ({model.method.name}), {machine}",
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, {date.today()}. "
        + ("Seconds of the processor." if device.type == "cpu" else "Seconds by the clock."),
        "",
        "| | |",
        "|---|---:|",
    ]
    print("\n".join(lines), flush=True)

    def rows() -> Iterator[Row]:
        yield from of_batches(model, settings)
        if by_steps:
            yield from against_published(model, settings, options.official)
        if device.type == "cuda":
            yield from of_options(model, settings)
        yield from of_one_slice(model, settings)
        yield from of_a_volume(options.model, settings.steps, options.device)
        yield from of_growth(model, settings)

    for row in rows():
        lines.append(f"| {row[0]} | {row[1]} |")
        print(lines[-1], flush=True)
    if options.out is not None:
        with open(options.out, "a", encoding="utf-8") as file:
            file.write("\n".join(["", *lines, ""]))


if __name__ == "__main__":
    main()

"""What it saves that SegDiff's image encoder G is computed once per image: seconds per mask with and without that.

    python Testing/Benchmarks/segdiff_cache.py --out FILE.md [--repeats 5] [--device cpu]

Without: G is computed again at every step for every mask, as the published code does. Both ways take turns, after one
turn that does not count, with the same untrained weights and the same noise, and their masks are checked to be the same
but for rounding. The large network of the protocol takes 10 of its 100 steps, and on smaller pictures than its own: its
convolutions take as much longer on larger ones as those of G do.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from AmbiguousSegLib.cli.train import parse
from AmbiguousSegLib.devices import choose_device
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import Denoised
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.methods.base import Prepared
from AmbiguousSegLib.methods.segdiff import SegDiff


@dataclass(frozen=True)
class Setting:
    """A preset, pixels along a side, how many masks of one image are drawn together, and how many steps each takes."""

    config: tuple[str, ...]
    side: int
    masks: int
    steps: int


SETTINGS = (
    Setting(("phantom", "systems/segdiff"), side=64, masks=8, steps=4),
    Setting(("phantom", "systems/segdiff"), side=64, masks=1, steps=4),
    Setting(("phantom", "systems/segdiff"), side=64, masks=1, steps=25),
    Setting(("isic2016-segdiff-256",), side=64, masks=1, steps=10),
)


class Recomputing(SegDiff):
    """G at every step, for every mask."""

    def prepare(self, image: Tensor) -> Prepared:
        return (image,)

    def denoise(self, features: Tensor, x_t: Tensor, index: Tensor) -> Denoised:
        return super().denoise(self.encoder(features), x_t, index)


@torch.inference_mode()
def seconds(method: SegDiff, image: Tensor, setting: Setting, sampler: str) -> tuple[float, Tensor]:
    """Of one draw of all masks of one image, and the masks."""
    noise = RowNoise(0, [(0, sample) for sample in range(setting.masks)], device=image.device)
    start = clock(image.device)
    prepared = tuple(part.expand(setting.masks, -1, -1, -1) for part in method.prepare(image))
    masks = method.sample(prepared, noise, SamplerSettings(sampler, setting.steps))
    return clock(image.device) - start, masks


def clock(device: torch.device) -> float:
    """Seconds of the processor, which others do not slow down as they do the wall's; on a GPU the wall's."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def measured(setting: Setting, repeats: int, device: torch.device) -> str:
    """A row of the table."""
    config = parse([*(word for name in setting.config for word in ("--config", name)), "--out", "unused"])[1]
    torch.manual_seed(0)
    once = build_method(config.method, config.method_config)
    torch.nn.init.normal_(once.unet.out[2].weight, std=0.01)  # zero at the start, where G would change nothing
    each = Recomputing(once.config)
    each.load_state_dict(once.state_dict())
    for method in (once, each):
        method.eval().to(device, memory_format=torch.channels_last)
    image = torch.rand(1, once.image_channels, setting.side, setting.side).to(device)
    took: tuple[list[float], list[float]] = ([], [])
    for turn in range(1 + repeats):
        masks = []
        for times, method in zip(took, (once, each)):
            second, drawn = seconds(method, image, setting, config.sampling.name)
            masks.append(drawn)
            times.extend([second / setting.masks] if turn else [])
        torch.testing.assert_close(*masks, rtol=1e-3, atol=1e-3)
    ratios = [b / a for a, b in zip(*took)]
    cells = [f"{config.sampling.name}, {setting.steps}", str(setting.masks), *(spread(times) for times in took)]
    row = " | ".join([setting.config[-1], str(setting.side), *cells, f"**{spread(ratios)}**"])
    print(row, flush=True)
    return f"| {row} |"


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--machine", default=f"{platform.machine()} {platform.system()}", help="in words")
    options = parser.parse_args(arguments)
    device = choose_device(options.device)
    rows = [measured(setting, options.repeats, device) for setting in SETTINGS]
    version = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    header = "| preset | pixels | sampler, steps | masks | s per mask, G once | s per mask, G at each step | ratio |"
    options.out.write_text(
        "\n".join(
            [
                "# SegDiff's image encoder, once per image and at every step",
                "",
                f"    python Testing/Benchmarks/segdiff_cache.py --out {options.out.as_posix()} --repeats "
                f"{options.repeats} --device {options.device}",
                "",
                f"{options.machine}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, {date.today()}, "
                f"commit {version.stdout.strip()}.",
                f"Median of {options.repeats} turns, least and most in brackets; a ratio is of one turn. Seconds of",
                "the processor, on a GPU by the clock. Masks of one image are drawn together; untrained weights.",
                "",
                header,
                "|---|---:|---|---:|---:|---:|---:|",
                *rows,
                "",
            ]
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
